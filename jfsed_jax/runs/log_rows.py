"""``metrics.jsonl`` row by row, with what is damaged."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from jfsed_jax.errors import InputError
from jfsed_jax.runs.meta import is_number

# Values of a row that are of the machine: no two runs have the same.
SPEED = frozenset(
    {"clips_per_second", "data_wait", "flops_per_second", "share_of_ceiling", "joules_per_clip"}
)


class LogRow(NamedTuple):
    """A row of the log.

    Attributes:
      number: from 1.
      text: as it is there; what is not UTF-8 is replaced.
      entry: an object with ``kind`` and ``step``; None if the row is something else.
    """

    number: int
    text: str
    entry: dict[str, Any] | None


def read_log(path: Path) -> Iterator[LogRow]:
    """The rows of a log, read one by one; none if there is no file.

    The last one of a run that is still writing it, or was killed, may be cut: then it is left out.

    Raises:
      InputError: the file cannot be read.
    """
    try:
        return _rows(path.open("rb"), path)
    except FileNotFoundError:
        return iter(())
    except OSError as error:
        raise _cannot_read(path, error) from error


def _rows(file: BinaryIO, path: Path) -> Iterator[LogRow]:
    try:
        with file:
            for number, line in enumerate(file, 1):
                text = line.removesuffix(b"\n")
                entry = _entry(text)
                if text.strip() and (entry is not None or text != line):
                    yield LogRow(number, text.decode(errors="replace"), entry)
    except OSError as error:
        raise _cannot_read(path, error) from error


def _cannot_read(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read: {error.strerror}")


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not is_number(entry.get("step")):
        return None
    return entry if isinstance(entry.get("kind"), str) else None
