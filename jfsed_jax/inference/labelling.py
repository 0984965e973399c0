"""Many recordings labelled by one call: bad ones are named, and what is done is kept.

Axis letters: ``T'`` frames of the student, ``C`` classes.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from jfsed_jax.audio.decoding import check_file
from jfsed_jax.audio.finding import Found, find_recordings
from jfsed_jax.errors import InputError, one_line
from jfsed_jax.inference.detector import OVERLAP, Detector
from jfsed_jax.inference.journal import Journal, Labelled, may_have_journal
from jfsed_jax.inference.label_outputs import (
    LabelOutputs,
    plan_files,
    write_files,
    write_labelled,
)
from jfsed_jax.inference.recordings import COST_ONE, Heard, failure_of, hear
from jfsed_jax.progress import progress_bar
from jfsed_jax.sed.confidence import confidences
from jfsed_jax.sed.decoder_files import TunedDecoder, window_frames
from jfsed_jax.sed.postprocessing import Decode, MedianFilters

_LONGEST = 7 * 24 * 3600.0  # seconds that a header is believed, for the time that is left


@dataclass(frozen=True)
class LabelledRecordings:
    """What became of recordings.

    Attributes:
      labelled: those that are labelled, in order; with a resume those of before too.
      failures: why the others are not, by path; also of names that stand for nothing.
      low_rates: those sampled at less than twice the highest frequency of the front end.
    """

    labelled: list[Labelled]
    failures: dict[str, str]
    low_rates: list[str]


def label_recordings(
    detector: Detector,
    recordings: Iterable[str | Path] | Found,
    outputs: LabelOutputs | None = None,
    *,
    rule: str | None = None,
    threshold: float | np.ndarray | None = None,
    tuned: TunedDecoder | None = None,
    classes: Sequence[str] | None = None,
    overlap: float = OVERLAP,
    resume: bool = False,
    progress: bool = False,
    on_labelled: Callable[[Labelled], None] | None = None,
    on_seconds: Callable[[float], None] | None = None,
) -> LabelledRecordings:
    """Labels recordings of any number and length, and writes what is asked for.

    A recording that cannot be used, or whose files cannot be written, costs no other. Each is noted
    beside the table as it is finished; the table is written at the end, or when a KeyboardInterrupt
    ends it, which then says how far it came.

    Args:
      detector: a trained system.
      recordings: files, folders and patterns; or what `find_recordings` made of them.
      outputs: what to write; nothing if None.
      rule: of the median windows; the config's if None.
      threshold: of the frame posteriors, one or <float>[C]; the config's if None.
      tuned: a decoder from a file of ``tune``, in place of the config's, rule and threshold.
      classes: whose events are wanted; all if None.
      overlap: of clips, see `hear`.
      resume: go on with a table that was not finished.
      progress: show a bar.
      on_labelled: gets each recording as it is labelled.
      on_seconds: gets the length of each block that was read.

    Raises:
      InputError: before any is heard: what cannot be written or resumed, a class that is none.
    """
    outputs = outputs or LabelOutputs()
    if resume and not outputs.table:
        raise InputError("to resume is to go on with a table: name it too")
    wanted = _chosen(classes, detector.classes)
    decode = detector.decoder(rule, threshold, tuned)  # what fails here fails once
    found = recordings if isinstance(recordings, Found) else find_recordings(map(str, recordings))
    if found.others:
        logging.info("%d files of these folders are called like no recording", found.others)
    files, pages = plan_files(outputs, found.paths, resume=resume), outputs.pages
    filters = _medians(detector, rule, threshold, tuned)
    failures, low_rates = dict(found.problems), []

    def fail(path: str, failure: str) -> None:
        if pages:
            pages.forget(path)
        failures[path] = failure.removeprefix(f"{path}: ")
        logging.error("%s", one_line(failure))

    def add_mel(path: str, mel: np.ndarray) -> None:
        assert pages is not None
        pages.add_mel(path, mel, detector.front_end.frame_rate)

    with ExitStack() as stack:
        journal = None
        if outputs.table and may_have_journal(outputs.table):
            made_by = _made_by(detector, outputs, rule, threshold, wanted)
            made_by |= {"overlap": overlap, "decoder file": tuned and tuned.decisive()}
            journal = stack.enter_context(Journal(outputs.table, made_by, resume=resume))
        done = dict(journal.done) if journal else {}
        if done:
            logging.info("%d of %d recordings are done", len(done), len(found.paths))
        todo = [path for path in found.paths if path not in done]
        advance = stack.enter_context(_Progress(todo, progress, on_seconds))

        def write_table() -> None:
            if outputs.table:
                # What was labelled before and is not named now stays.
                names = dict.fromkeys([*found.paths, *done])
                write_labelled(outputs.table, [done[path] for path in names if path in done])

        try:
            for heard, labelled in label_each(
                detector, todo, decode, wanted, overlap=overlap,
                on_mel=add_mel if pages else None, on_seconds=advance,
            ):  # fmt: skip
                if labelled is None:
                    fail(heard.path, heard.failure or "nothing was heard")
                    continue
                try:
                    write_files(files, detector, heard, labelled)
                    if pages:
                        pages.write(detector, heard, labelled, filters)
                except COST_ONE as error:
                    fail(heard.path, failure_of(heard.path, error))
                    continue
                if (heard.sample_rate or 0) < 2 * detector.front_end.fmax:
                    low_rates.append(heard.path)
                done[heard.path] = labelled
                if journal:
                    journal.add(labelled)
                if on_labelled:
                    on_labelled(labelled)
                advance.say(f"{len(done)}/{len(found.paths)} recordings")
        except KeyboardInterrupt as error:
            write_table()
            again = "; the same again with --resume goes on" if journal else ""
            count = f"{len(done)} of {len(found.paths)}"
            error.args = (f"stopped, {count} recordings are labelled{again}",)
            raise
        advance.end()
        write_table()
        if journal:
            journal.finish(whole=not failures)
    if low_rates:
        logging.warning(
            "%d recordings, the first %s, are sampled at less than the %g Hz that the model was "
            "trained on: what lies above half their rate is silence to it",
            *(len(low_rates), one_line(low_rates[0]), 2 * detector.front_end.fmax),
        )
    return LabelledRecordings(
        [done[path] for path in found.paths if path in done], failures, low_rates
    )


class _Progress:
    """A bar of the seconds that were heard, and at its end how fast that was.

    A call passes the length of a block on, to the bar and to `told`.
    """

    def __init__(
        self, paths: Sequence[str], shown: bool, told: Callable[[float], None] | None
    ) -> None:
        total = round(sum(map(_promised, paths))) if shown else None
        self._bar = progress_bar(
            total=total, desc="labelled", unit=" s of sound", disable=not shown
        )
        self._begun, self._seconds, self._told = time.monotonic(), 0.0, told

    def __call__(self, seconds: float) -> None:
        self._seconds += seconds
        self._bar.update(round(self._seconds) - self._bar.n)
        if self._told:
            self._told(seconds)

    def say(self, text: str) -> None:
        """Behind the bar's numbers."""
        self._bar.set_postfix_str(text, refresh=False)

    def end(self) -> None:
        """All was heard."""
        self._bar.close()
        passed = max(time.monotonic() - self._begun, 1e-3)
        logging.info(
            "%.2f hours of sound in %.0f s, %.0f times real time",
            *(self._seconds / 3600, passed, self._seconds / passed),
        )

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _promised(path: str) -> float:
    """Seconds as a header has them, for the time that is left."""
    import soundfile

    try:
        check_file(path)
        seconds = soundfile.info(os.fsencode(path)).duration
    except (InputError, OSError, RuntimeError, TypeError):
        return 0.0
    return seconds if seconds < _LONGEST else 0.0


def _chosen(wanted: Sequence[str] | None, classes: tuple[str, ...]) -> tuple[str, ...]:
    if wanted is None:
        return classes
    if not any(wanted):
        raise InputError(
            f"no classes are named: expected some of {', '.join(classes)}, or all by leaving "
            "--classes out"
        )
    if unknown := [name for name in wanted if name not in classes]:
        raise InputError(f"no class {', '.join(unknown)}; expected some of {', '.join(classes)}")
    return tuple(name for name in classes if name in wanted)


def _medians(detector: Detector, rule, threshold, tuned) -> MedianFilters | None:
    """What the paper's decoder is told; None of another one."""
    page, classes, rate = detector.config.postprocess, detector.classes, detector.frame_rate
    if (tuned.decoder if tuned is not None else page.decoder) != "median":
        return None
    if tuned is not None:
        frames, medians = window_frames(tuned.of("window", classes), rate), tuned.medians
        thresholds = tuned.of("threshold", classes)
    else:
        frames, medians = detector.windows(rule), page.medians
        value = np.float64(page.threshold if threshold is None else threshold)
        thresholds = np.broadcast_to(value, len(classes))
    return MedianFilters(thresholds, frames / rate, medians)


def _made_by(
    detector: Detector, outputs: LabelOutputs, rule, threshold, classes: Sequence[str]
) -> dict[str, Any]:
    """All that decides what is found and where it is written."""
    page = detector.config.postprocess
    pages = outputs.pages.place if outputs.pages else None
    places = [outputs.audacity, outputs.raven, outputs.scores, pages]
    return {
        "folder": os.getcwd(),
        "workdir": str(detector.workdir.path.resolve()),
        "step": detector.step,
        "seed": detector.seed,
        "model": detector.model,
        "tags": detector.tags,
        "postprocess": rule or page.rule,
        "threshold": np.asarray(page.threshold if threshold is None else threshold).tolist(),
        "classes": list(classes),
        "other outputs": [None if place is None else str(place) for place in places],
    }


def label_each(
    detector: Detector,
    paths: Iterable[str | Path],
    decode: Decode,
    classes: Sequence[str],
    **options: Any,
) -> Iterator[tuple[Heard, Labelled | None]]:
    """What is heard in each recording and what it is labelled with; None where `failure` says why.

    Args:
      decode: it gets None for the clip posteriors, since the frames are gated already.
      classes: whose events are wanted.
      options: of `recordings.hear`.
    """
    for heard in hear(detector, paths, **options):
        labelled = None
        if heard.frames is not None:
            try:
                labelled = _label(
                    detector, heard.path, heard.seconds, heard.frames, decode, classes
                )
            except COST_ONE as error:  # of a decoder of one's own, or for want of memory
                heard = replace(heard, frames=None, failure=failure_of(heard.path, error))
        yield heard, labelled


def _label(detector, path: str, seconds: float, frames: np.ndarray, decode, classes) -> Labelled:
    found = [e for e in decode(None, frames[None], [path]) if e.event_label in classes]
    sure = confidences(found, frames, detector.classes, detector.frame_rate)
    # The last frame, which counts whole, may end after the sound.
    events = [e._replace(offset=min(e.offset, max(seconds, e.onset))) for e in found]
    return Labelled(path, seconds, events, sure)


def parse_thresholds(text: str, classes: Sequence[str], default: float) -> float | np.ndarray:
    """Thresholds of the frame posteriors as a command line has them.

    Args:
      text: ``0.4``; ``Dog=0.3,Cat=0.6``, the others as by default; or a ``scores.json`` of
        ``evaluate --tune_thresholds``.
      classes: C labels.
      default: the config's.

    Returns:
      One or <float64>[C].
    """
    if text.endswith(".json"):
        return _tuned(Path(text), classes)
    try:
        if "=" not in text:
            return _checked(text, float(text))
        values = dict.fromkeys(classes, default)
        for part in text.split(","):
            name, _, value = part.rpartition("=")
            if name.strip() not in values:
                raise InputError(
                    f"--threshold: no class {name.strip()!r}; expected {', '.join(classes)}"
                )
            values[name.strip()] = _checked(part, float(value))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"--threshold={text}: expected a number, CLASS=NUMBER,... or a scores.json of "
            "evaluate --tune_thresholds"
        ) from error
    return np.array(list(values.values()))


def _checked(text: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"--threshold: {text}; expected values from 0 to 1")
    return value


def _tuned(path: Path, classes: Sequence[str]) -> np.ndarray:
    try:
        info = json.loads(path.read_text())["info"]
        values = np.array([_checked(str(path), float(value)) for value in info["thresholds"]])
        named = list(info["classes"])
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it has no tuned thresholds"
        raise InputError(
            f"--threshold={path}: {reason}; expected a scores.json of evaluate --tune_thresholds"
        ) from error
    if values.shape != (len(classes),) or named != list(classes):
        raise InputError(
            f"--threshold={path}: thresholds of {values.size} classes, {', '.join(named)}; this "
            f"system has {', '.join(classes)}"
        )
    return values
