"""What a run writes down as it goes: ``metrics.jsonl`` and TensorBoard, of each seed."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from jfsed_jax.atomic import write_whole
from jfsed_jax.errors import InputError
from jfsed_jax.runs.log_rows import LogRow, read_log
from jfsed_jax.runs.workdir import NotWritten, Workdir
from jfsed_jax.training.speed import Speed

Values = Mapping[str, float | None]
SELECTION = "selection"


class MetricsLog:
    """``metrics.jsonl`` and TensorBoard; on a resume what lies after the step is dropped.

    A row that is damaged is left out, with a warning, and the file as it was is kept.

    Raises:
      NotWritten: by every method, as where the disk is full.
    """

    def __init__(self, workdir: Workdir, step: int):
        from tensorboard.summary import Writer

        self._path, self._folder = workdir.metrics, workdir.tensorboard
        rows = read_log(self._path)
        # The file that a link leads to: one that is written in place cannot be read meanwhile.
        path = self._path.resolve() if self._path.is_symlink() else self._path
        with _written(self._path):
            write_whole(path, self._kept(rows, step))
            self._file = self._path.open("a")
        with _written(self._folder):
            self._board = Writer(str(self._folder))

    def _kept(self, rows: Iterator[LogRow], step: int) -> Iterator[bytes]:
        """The rows up to a step, one in memory at a time; at their end, what was damaged is told.

        By then all are written, and the file that they are read from is still there.
        """
        damaged, first = [], ""
        for row in rows:
            if row.entry is None:
                first = first or row.text
                damaged.append(row.number)
            elif row.entry["step"] <= step:
                yield f"{row.text}\n".encode()
        if not damaged:
            return
        copy = self._path.with_name(f"{self._path.stem}-damaged-{int(time.time())}.jsonl")
        with _written(copy), self._path.open("rb") as file:
            write_whole(copy, file)
        logging.warning(
            "%s, row %s: expected a JSON object with 'kind' and 'step', found %.60r; left out, "
            "the file as it was is now %s",
            self._path,
            ", ".join(map(str, damaged)),
            first,
            copy.name,
        )

    def write(self, kind: str, step: int, values: Mapping[str, float | int | None]) -> None:
        """Appends one line and one TensorBoard point per value."""
        with _written(self._path):
            self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
            self._file.flush()
        with _written(self._folder):
            for name, value in values.items():
                if value is not None:
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        with _written(self._folder), ExitStack() as both:
            both.callback(self._file.close)
            self._board.close()


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:  # of `write_whole`
        raise NotWritten(str(error)) from error
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {error.strerror or error}") from error


class RunLog:
    """The `MetricsLog` of a run; of several seeds one each beside it, and their means in it."""

    def __init__(self, workdir: Workdir, step: int, num_seeds: int = 1):
        self._run = MetricsLog(workdir, step)
        folders = [workdir.seed(k, num_seeds) for k in range(num_seeds)]
        self._seeds = [MetricsLog(folder, step) for folder in folders if folder != workdir]

    def write(
        self,
        kind: str,
        step: int,
        values: Sequence[Values],
        common: Mapping[str, float | int | None],
    ) -> None:
        """`values` of each seed and what is `common` to all, see `MetricsLog.write`.

        Seeds share their checkpoints, and so the step that is best: the mean is their selection.
        """
        means = mean_values(values)
        if SELECTION in means:
            common = {SELECTION: means[SELECTION], **common}
        self._run.write(kind, step, {**means, **common})
        if self._seeds:
            for log, own in zip(self._seeds, values, strict=True):
                log.write(kind, step, {**own, **common})

    def close(self) -> None:
        with ExitStack() as logs:
            for log in (self._run, *self._seeds):
                logs.callback(log.close)


class RunLogs:
    """The `RunLog` of each of several runs that take their steps together."""

    def __init__(self, workdirs: Sequence[Workdir], step: int, num_seeds: int = 1):
        self._runs = [RunLog(workdir, step, num_seeds) for workdir in workdirs]

    def write(
        self,
        kind: str,
        step: int,
        values: Sequence[Values | None],
        common: Mapping[str, float | int | None],
    ) -> None:
        """`values` of each seed of each run, see `RunLog.write`; None of runs that are lost."""
        seeds = len(values) // len(self._runs)
        for m, log in enumerate(self._runs):
            own = [found for found in values[m * seeds : (m + 1) * seeds] if found is not None]
            if own:
                log.write(kind, step, own, common)

    def close(self) -> None:
        with ExitStack() as logs:
            for log in self._runs:
                logs.callback(log.close)


class RunsLost(InputError):
    """Runs that could not go on: one alone, or some of those that took their steps together.

    Attributes:
      why: of each, by its place among the runs.
    """

    def __init__(self, why: Mapping[int, str], runs: Sequence[str]):
        super().__init__("; ".join(_of_run(runs[m], reason) for m, reason in why.items()))
        self.why = dict(why)


def _of_run(name: str, reason: str) -> str:
    return f"{name}: {reason}" if name else reason


class NoLog:
    """In place of a `RunLog` in a process that does not write."""

    def write(self, *_: object) -> None:
        """Nothing."""


Log = RunLog | RunLogs | NoLog


@contextmanager
def open_log(
    workdir: Workdir,
    step: int,
    num_seeds: int,
    *,
    others: Sequence[Workdir] = (),
    writes: bool = True,
) -> Iterator[Log]:
    """A `RunLog` that is closed at the end, or with `others` `RunLogs`; one process `writes`.

    Raises:
      NotWritten: it could not be written to its end.
    """
    if not writes:
        yield NoLog()
        return
    everyone = [workdir, *others]
    log = RunLogs(everyone, step, num_seeds) if others else RunLog(workdir, step, num_seeds)
    try:
        yield log
    except BaseException:
        with suppress(NotWritten):  # the first error is the one to tell
            log.close()
        raise
    log.close()


def mean_values(values: Sequence[Values]) -> dict[str, float | None]:
    """The mean over the seeds of every value by name; None if a seed has none."""
    means: dict[str, float | None] = {}
    for name in values[0]:
        known = [value for own in values if (value := own[name]) is not None]
        means[name] = sum(known) / len(known) if len(known) == len(values) else None
    return means


class StepMetrics:
    """Metrics of steps on their way from the device into the log.

    Steps are dispatched ahead of the device; only `flush` waits for it.

    Attributes:
      waited: seconds spent on waiting for clips since the last flush; the loop adds to it.
      lost: why a run cannot go on, by its place among several; what comes after is not logged.
    """

    def __init__(
        self,
        log: Log,
        speed: Speed,
        *,
        num_seeds: int,
        batch_size: int,
        steps_per_epoch: int,
        runs: Sequence[str] = ("",),
    ):
        self._log = log
        self._speed = speed
        self._runs = runs
        self._seeds = num_seeds
        self._models = num_seeds * len(runs)
        self._clips_per_step = batch_size * self._models
        self.lost: dict[int, str] = {}
        self._steps_per_epoch = steps_per_epoch
        self._pending: list[tuple[range, dict[str, jax.Array]]] = []
        self.waited = 0.0
        self.restart_clock()

    def restart_clock(self) -> None:
        """What went before, such as an evaluation, does not count into the speed."""
        self._speed.restart()
        self._since = time.monotonic()

    def add(self, numbers: range, metrics: dict[str, jax.Array]) -> int:
        """Keeps the metrics of the steps with these numbers; how many dispatches are kept."""
        self._pending.append((numbers, metrics))
        return len(self._pending)

    def flush(self, why: Callable[[int, int], str]) -> str | None:
        """Reads from the device, checks and logs; a few words on the last step, if there is one.

        Raises:
          RunsLost: a value is not finite; of several runs in the last that is left, before that
            the others go on. ``why(step, number of the model)`` says the rest of the line.
        """
        if not self._pending:
            return None
        fetched = jax.device_get([metrics for _, metrics in self._pending])
        rows = []  # number of a step, metrics of each seed
        for (numbers, _), metrics in zip(self._pending, fetched, strict=True):
            shape = len(numbers), self._models
            table = {name: np.reshape(metrics[name], shape) for name in sorted(metrics)}
            for i, number in enumerate(numbers):
                columns = range(self._models)
                values = [{name: float(v[i, k]) for name, v in table.items()} for k in columns]
                rows.append((number, values))
        seconds = time.monotonic() - self._since
        clips = self._clips_per_step * len(rows)
        speed = {
            "clips_per_second": clips / seconds,
            "data_wait": self.waited / seconds,
            **self._speed.of(clips, seconds),
        }
        for number, values in rows:
            self._check(number, values, why)
            epoch = (number - 1) // self._steps_per_epoch
            self._log.write("train", number, self.kept(values), speed | {"epoch": epoch})
        self._pending.clear()
        self.waited = 0.0
        self.restart_clock()
        loss = mean_values([own for own in self.kept(values) if own is not None])["loss"]
        told = f"loss {loss:.3f}, {speed['clips_per_second']:.0f} clips/s"
        if "share_of_ceiling" in speed:
            told += f", {speed['share_of_ceiling']:.0%} of the ceiling"
        return told

    def kept(self, values: Sequence[Any]) -> list[Any]:
        """The values of each model, None in place of those of runs that are lost."""
        return [None if k // self._seeds in self.lost else own for k, own in enumerate(values)]

    def alive(self) -> list[int]:
        """The places of the runs that are not lost."""
        return [run for run in range(len(self._runs)) if run not in self.lost]

    def lose(self, run: int, reason: str) -> None:
        """Goes on without a run, one of several.

        Raises:
          RunsLost: none is left.
        """
        self.lost[run] = reason
        if not self.alive():
            raise RunsLost(self.lost, self._runs)
        logging.error("%s; the other runs go on", _of_run(self._runs[run], reason))

    def _check(self, number: int, values: Sequence[Values], why: Callable[[int, int], str]) -> None:
        for k, own in enumerate(values):
            run, seed = divmod(k, self._seeds)
            if run in self.lost:
                continue
            bad = [name for name, value in own.items() if not math.isfinite(value or 0.0)]
            if bad:
                of_seed = f", seed {seed}" if self._seeds > 1 else ""
                rest = [f"{name} {value:.4g}" for name, value in own.items() if name not in bad]
                others = f"; finite are {', '.join(rest)}" if rest else ""
                told = f"step {number}{of_seed}: {', '.join(bad)} not finite"
                self.lose(run, f"{told}; {why(number, k)}{others}")
