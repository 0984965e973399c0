"""A trace of some steps of a run, for Perfetto and XProf; it never costs the run."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import logging
from jax import profiler

_WARM_UP = 10  # steps that a count leaves out: the first one compiles


class Traced(NamedTuple):
    """Which steps to trace, as the log numbers them: `first` to `last`, both of them.

    With `first` None so many as `last` says, after the first ten that this process takes.
    """

    first: int | None
    last: int

    def steps(self, start: int, total: int) -> tuple[int, int] | None:
        """First and last step of those that a process takes from step `start` on; None if none."""
        first, last = self.first, self.last
        if first is None:
            first = start + 1 + max(min(_WARM_UP, total - start - last), 0)
            last = first + self.last - 1
        first, last = max(first, start + 1), min(last, total)
        return (first, last) if first <= last else None


class Profile:
    """Traces steps while a loop takes them. What fails is a warning, and the run goes on.

    Several steps of one dispatch are traced together. An evaluation or a checkpoint between the
    steps is in the trace too.

    Attributes:
      wanted: the first and the last step, or None for a profile that does nothing.
      folder: where the trace goes.
    """

    def __init__(self, wanted: tuple[int, int] | None, folder: Path):
        self.wanted, self.folder = wanted, folder
        self._begun: int | None = None  # the first step that is traced

    def before(self, step: int, count: int, state: Any) -> None:
        """To be called before the dispatch of the `count` steps after `step`."""
        if self.wanted is None or self._begun is not None or self.wanted[0] > step + count:
            return
        jax.block_until_ready(state)  # of the steps before, none is in the trace
        options = profiler.ProfileOptions()
        options.python_tracer_level = 0  # calls of Python would slow the steps and fill the file
        options.raise_error_on_start_failure = True
        try:
            profiler.start_trace(self.folder, profiler_options=options)
        except Exception as error:  # whatever the profiler raises
            self._failed("begun", error)
            return
        self._begun = step + 1

    def around(self, step: int) -> AbstractContextManager[Any]:
        """Marks a dispatch in the trace as the step after `step`."""
        if self._begun is None:
            return nullcontext()
        return profiler.StepTraceAnnotation("train", step_num=step + 1)

    def after(self, step: int, state: Any) -> None:
        """To be called after the dispatch with which `step` was reached."""
        if self.wanted is not None and self._begun is not None and step >= self.wanted[1]:
            jax.block_until_ready(state)
            self._write(step)

    def close(self, step: int) -> None:
        """Ends a trace that is under way, as after Ctrl-C; `step` is the one that was reached."""
        if self._begun is not None:
            self._write(step)

    def _write(self, step: int) -> None:
        begun, self._begun, self.wanted = self._begun, None, None
        try:
            profiler.stop_trace()
        except Exception as error:  # as where the disk is full
            self._failed("written", error)
            return
        files = sorted(self.folder.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
        logging.info(
            "steps %d to %d are traced: open %s at https://ui.perfetto.dev, or the folder with "
            "xprof --logdir %s",
            begun,
            step,
            files[-1] if files else self.folder,
            self.folder,
        )

    def _failed(self, what: str, error: Exception) -> None:
        self.wanted = None
        said = str(error).strip().splitlines() or [type(error).__name__]
        logging.warning(
            "the trace in %s could not be %s (%s); training goes on without it",
            self.folder,
            what,
            said[0],
        )


def make_profile(
    traced: Traced | None, folder: Path, start: int, total: int, *, writes: bool = True
) -> Profile:
    """The `Profile` of a run that goes from step `start` to `total`.

    Args:
      traced: which steps, None for none.
      folder: of the trace.
      start, total: the step that the process starts from, and the last one.
      writes: of several processes one does.
    """
    if traced is None or not writes:
        return Profile(None, folder)
    wanted = traced.steps(start, total)
    if wanted is None:
        logging.warning(
            "no step is traced: this process takes steps %d to %d, and asked for were %d to %d",
            start + 1,
            total,
            *traced,
        )
    return Profile(wanted, folder)
