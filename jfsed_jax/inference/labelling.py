"""Many recordings labelled: what was found in each is noted as it is found, and kept.

The journal is a file of JSON lines beside the table that is to be written: a line that says what
labels, then one for each recording that is done. A line that was cut by a crash does not count.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.inference.detector import Detector
from jfsed_jax.inference.recordings import Heard, hear
from jfsed_jax.sed.confidence import Confidence, confidences
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import Decode

_FINISHED = b'{"all was tried": true}\n'


@dataclass(frozen=True)
class Labelled:
    """A recording's events and how sure the model was of each; `seconds` is its length."""

    path: str
    seconds: float
    events: list[Event]
    confidences: list[Confidence]


def label_recordings(
    detector: Detector,
    paths: Iterable[str | Path],
    decode: Decode,
    classes: Sequence[str],
    **listeners: Any,
) -> Iterator[tuple[Heard, Labelled | None]]:
    """What is heard in each recording and what it is labelled with; None where `failure` says why.

    Args:
      decode: it gets None for the clip posteriors, since the frames are gated already.
      classes: whose events are wanted.
      listeners: ``on_mel`` and ``on_seconds`` of `recordings.hear`.
    """
    for heard in hear(detector, paths, **listeners):
        labelled = None
        if heard.frames is not None:
            try:
                labelled = _label(
                    detector, heard.path, heard.seconds, heard.frames, decode, classes
                )
            except InputError as error:  # of a decoder of one's own
                heard = replace(heard, frames=None, failure=f"{heard.path}: {error}")
        yield heard, labelled


def _label(detector, path: str, seconds: float, frames: np.ndarray, decode, classes) -> Labelled:
    found = (e for e in decode(None, frames[None], [path]) if e.event_label in classes)
    # The last frame may end after the sound.
    events = [e._replace(offset=min(e.offset, max(seconds, e.onset))) for e in found]
    sure = confidences(events, frames, detector.classes, detector.frame_rate)
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


def _state(path: str) -> list[int]:
    """Bytes and time of change of a recording; nothing if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


class Journal:
    """What is done of a table that takes long; a context that closes the file.

    Attributes:
      path: of the file, ``TABLE.journal``.
      done: the recordings by path, as they were labelled.
    """

    def __init__(self, table: str | Path, made_by: dict[str, Any], *, resume: bool) -> None:
        """Opens it.

        Args:
          table: the file that is to be written.
          made_by: all that decides what is found; JSON.
          resume: go on with a journal that is there.

        Raises:
          InputError: one is there and `resume` is false, or it was begun by something else.
        """
        self.path = Path(f"{table}.journal")
        self.done: dict[str, Labelled] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise InputError(f"another process labels into {table} now") from error
        try:
            self._file.seek(0)
            content = self._file.read()
            if not resume:
                if content.count(b"\n") > 1 and not content.endswith(_FINISHED):
                    raise InputError(
                        f"{self.path} holds what was labelled before {table} was whole: go on "
                        "with --resume, or delete it"
                    )
                content = b""
            kept = self._read(content, made_by)
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(len(kept))  # without a line that was cut
        if not kept:
            self._append({"made by": made_by})

    def _read(self, content: bytes, made_by: dict[str, Any]) -> bytes:
        kept, then = b"", {}
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                break
            if line == _FINISHED:
                continue
            try:
                row = json.loads(line)
                if number == 1:
                    then = dict(row["made by"])
                else:
                    events = [Event(row["path"], *event[:3]) for event in row["events"]]
                    sure = [Confidence(*event[3:]) for event in row["events"]]
                    done = Labelled(row["path"], row["seconds"], events, sure)
                    if row["file"] == _state(done.path):  # else it is another recording now
                        self.done[done.path] = done
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{self.path}, row {number}: damaged; delete the file to label all anew"
                ) from error
            if number == 1:
                self._compare(then, json.loads(json.dumps(made_by)))
            kept += line
        return kept

    def _compare(self, then: dict[str, Any], now: dict[str, Any]) -> None:
        for name in now:
            if then.get(name) != now[name]:
                raise InputError(
                    f"{self.path} was begun with {name} {then.get(name)}, now it is {now[name]}; "
                    "go on as it was begun, or delete it"
                )

    def add(self, labelled: Labelled) -> None:
        """Notes a recording; it is on disk when this returns."""
        events = [
            [*event[1:], *sure]
            for event, sure in zip(labelled.events, labelled.confidences, strict=True)
        ]
        row = {"path": labelled.path, "seconds": labelled.seconds, "events": events}
        self._append(row | {"file": _state(labelled.path)})
        self.done[labelled.path] = labelled

    def _append(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self, *, whole: bool) -> None:
        """All was tried: it goes if all was done, else it may be gone on with, or begun anew."""
        if whole:
            self.path.unlink(missing_ok=True)
        else:
            self._file.write(_FINISHED)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
