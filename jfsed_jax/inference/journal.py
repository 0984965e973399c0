"""What is done of many recordings, noted as each is finished, so that a crash costs nothing of it.

The journal is a file of JSON lines beside the table that is to be written: a line that says what
labels, then one for each recording that is done. A line that was cut by a crash does not count.
"""

import fcntl
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from jfsed_jax.errors import InputError
from jfsed_jax.sed.confidence import Confidence
from jfsed_jax.sed.events import Event

_FINISHED = b'{"all was tried": true}\n'


@dataclass(frozen=True)
class Labelled:
    """A recording's events and how sure the model was of each; `seconds` is its length."""

    path: str
    seconds: float
    events: list[Event]
    confidences: list[Confidence]


def may_have_journal(table: str | Path) -> bool:
    """Whether it is a file, and no pipe or device."""
    try:
        return stat.S_ISREG(os.stat(table).st_mode)
    except OSError:
        return True


def _state(path: str) -> list[int]:
    """Bytes and time of change of a recording; nothing if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _first_difference(then: dict[str, Any], now: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """What it is called, and both values; within objects it is looked for too."""
    for name, after in now.items():
        before = then.get(name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            within, before, after = _first_difference(before, after) or ("", before, after)
            name = f"{name} {within}"
        return name, before, after
    return None


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
        if (found := _first_difference(then, now)) is not None:
            name, before, after = found
            raise InputError(
                f"{self.path} was begun with {name} {before!s:.200}, now it is {after!s:.200}; "
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
