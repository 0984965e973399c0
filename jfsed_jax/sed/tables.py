"""Metadata tables: events, tags, file lists and durations as TSV or CSV, read and written.

The DCASE layout is one header line and tab-separated columns in any order: `filename onset offset
event_label` for events, `filename event_labels` for tags (comma-separated), `filename` for a plain
list, `filename duration` for durations. Times are seconds. A row with a file name and nothing else
is a clip without events. Columns that are not asked for, such as an index that pandas wrote, are
ignored.

Published and hand-edited tables have flaws, so every reader comes in two strengths. With
`strict=True` (scoring) the first row that cannot be used is an `InputError`; with `strict=False`
(preparing a data set) such rows are left out and every flaw is returned as a `Problem`. Flaws
that have only one reading (spaces for tabs, Latin-1 bytes, no header line) never cost a row.
"""

import codecs
import contextlib
import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jfsed_jax.atomic import write_whole
from jfsed_jax.errors import InputError, one_line
from jfsed_jax.sed.events import Event

EVENT_COLUMNS = ("filename", "onset", "offset", "event_label")
TAG_COLUMNS = ("filename", "event_labels")
_NUMBERS = ("onset", "offset", "duration")
_LATEST = 1e9  # seconds, 31 years; the time of day as seconds since 1970 lies beyond
_NOTHING = ("", "nan")  # an empty cell, and how pandas prints one


class Problem(NamedTuple):
    """A flaw in a table: where it is, what was found, what is wrong, whether it cost the row."""

    file: str
    row: int  # line of the file, from 1
    found: str
    reason: str
    skipped: bool = True

    def __str__(self) -> str:
        return one_line(f"{self.file}, row {self.row}: {self.reason}; found {self.found!r}")


class Row(NamedTuple):
    """One line of a table: its number in the file (from 1) and the text of the named columns."""

    number: int
    fields: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table as text; missing cells are empty strings."""

    rows: list[Row]
    problems: list[Problem]


@dataclass(frozen=True)
class EventTable:
    """Strong labels or predictions.

    Attributes:
      events: in the order of the file; times in seconds.
      rows: the line of each event in the file, from 1.
      filenames: every clip that a usable row names, with or without events, in order, once each.
      problems: flaws in the order of the file.
    """

    events: list[Event]
    rows: list[int]
    filenames: list[str]
    problems: list[Problem]


@dataclass(frozen=True)
class TagTable:
    """Weak labels: per clip its labels (each once) and the line that named it first."""

    tags: dict[str, tuple[str, ...]]
    rows: dict[str, int]
    problems: list[Problem]


def read_table(path: str | Path, columns: Sequence[str]) -> Table:
    """Reads the named columns of a TSV or CSV file as text.

    Args:
      path: the file; tabs, commas or spaces separate its columns, any line ends, UTF-8 or Latin-1.
      columns: the required ones, any case; the order that a file without a header line has.

    Raises:
      InputError: the file cannot be read, is empty, is not text, or lacks a column.
    """
    path = Path(path)
    lines, problems = read_lines(path)
    if not lines:
        raise InputError(f"{path} is empty; expected a header line: {' '.join(columns)}")
    number, first = lines[0]
    delimiter = _delimiter(first, len(columns))
    if delimiter == " ":
        reason = "spaces where tabs are expected; read all the same"
        problems.append(Problem(str(path), number, first, reason, skipped=False))
    header = [name.lower() for name in split_cells(first, delimiter)]
    if _is_header(header, columns):
        lines = lines[1:]
    else:
        header = list(columns)
        reason = f"no header line; columns read as {' '.join(columns)}"
        if not _could_be_data(split_cells(first, delimiter), columns):
            raise InputError(
                f"{path}, row {number}: expected columns {' '.join(columns)}; found {first[:80]!r}"
            )
        problems.append(Problem(str(path), number, first, reason, skipped=False))
    missing = [name for name in columns if header.count(name) != 1]
    if missing:
        raise InputError(
            f"{path}, row {number}: expected one column each of {' '.join(columns)}; "
            f"missing or repeated: {' '.join(missing)}"
        )
    rows = []
    for number, line in lines:
        fields = split_cells(line, delimiter)
        if len(fields) == 1 < len(header) == len(line.split()):
            fields = line.split()
            reason = "spaces where tabs are expected; read all the same"
            problems.append(Problem(str(path), number, line, reason, skipped=False))
        if len(fields) > len(header) and header[-1] == "event_labels":
            # Labels of one clip separated like the columns.
            fields[len(header) - 1 :] = [",".join(fields[len(header) - 1 :])]
        if len(fields) > len(header):
            reason = f"{len(fields)} fields where the header has {len(header)}"
            problems.append(Problem(str(path), number, line, reason))
            continue
        fields += [""] * (len(header) - len(fields))
        cells = dict(zip(header, fields, strict=True))
        if not cells["filename"]:
            problems.append(Problem(str(path), number, line, "no file name"))
            continue
        rows.append(Row(number, {name: cells[name] for name in columns}))
    return Table(rows, sorted(problems, key=lambda problem: problem.row))


def read_events(
    path: str | Path, *, classes: Sequence[str] | None = None, strict: bool = True
) -> EventTable:
    """Reads strong labels or predictions (columns `filename onset offset event_label`).

    A row is usable if 0 <= onset < offset <= 1e9 and its label is among `classes` (any label if
    None). Ends past the end of a clip are left for the caller, who knows the clip.
    """
    table = read_table(path, EVENT_COLUMNS)
    events, rows, problems = [], [], list(table.problems)
    filenames: dict[str, None] = {}
    for number, fields in table.rows:
        filename, onset, offset, label = (fields[name] for name in EVENT_COLUMNS)
        if all(cell.lower() in _NOTHING for cell in (onset, offset, label)):
            filenames[filename] = None
            continue
        event = event_of(filename, onset, offset, label, classes)
        if isinstance(event, Event):
            filenames[filename] = None
            events.append(event)
            rows.append(number)
        else:
            problems.append(Problem(str(path), number, *event))
    problems.sort(key=lambda problem: problem.row)
    if strict:
        raise_first(problems)
    return EventTable(events, rows, list(filenames), problems)


def event_of(
    filename: str, onset: str, offset: str, label: str, classes: Sequence[str] | None
) -> Event | tuple[str, str]:
    """The event of a row's cells, or what was found and why it is none; see `read_events`."""
    start, stop = seconds_of(onset), seconds_of(offset)
    if start is None or stop is None:
        return f"{onset} {offset}", "expected onset and offset in seconds"
    if start < 0:
        return onset, "the onset is negative"
    if start >= stop:
        return f"{onset} {offset}", "the onset must lie before the offset"
    if stop > _LATEST:
        return offset, f"expected seconds from the start of the clip, to {_LATEST:g}"
    if not label:
        return label, "no event label"
    if classes is not None and label not in classes:
        return label, f"the label is not one of {', '.join(classes)}"
    return Event(filename, start, stop, label)


def read_tags(
    path: str | Path, *, classes: Sequence[str] | None = None, strict: bool = True
) -> TagTable:
    """Reads weak labels (columns `filename event_labels`); labels not in `classes` cost the row.

    A clip in several rows has the labels of all of them; an empty cell is a clip without labels.
    """
    table = read_table(path, TAG_COLUMNS)
    tags: dict[str, tuple[str, ...]] = {}
    rows: dict[str, int] = {}
    problems = list(table.problems)
    for number, fields in table.rows:
        filename, text = fields["filename"], fields["event_labels"]
        found = [label.strip() for label in text.split(",")]
        labels = [label for label in found if label.lower() not in _NOTHING]
        unknown = [label for label in labels if classes is not None and label not in classes]
        if unknown:
            reason = f"the label is not one of {', '.join(classes or ())}"
            problems.append(Problem(str(path), number, ",".join(unknown), reason))
            continue
        if len(set(labels)) < len(labels):
            problems.append(
                Problem(str(path), number, text, "a label is repeated; counted once", skipped=False)
            )
        if filename in tags:
            reason = f"the clip is in row {rows[filename]} too; labels joined"
            problems.append(Problem(str(path), number, filename, reason, skipped=False))
        tags[filename] = tuple(dict.fromkeys([*tags.get(filename, ()), *labels]))
        rows.setdefault(filename, number)
    problems.sort(key=lambda problem: problem.row)
    if strict:
        raise_first(problems)
    return TagTable(tags, rows, problems)


def read_durations(path: str | Path) -> dict[str, float]:
    """Reads clip lengths in seconds (columns `filename duration`).

    Any flawed row is an error, and so is a second length of a clip.
    """
    table = read_table(path, ("filename", "duration"))
    raise_first(table.problems)
    durations: dict[str, float] = {}
    for number, fields in table.rows:
        seconds = seconds_of(fields["duration"])
        if seconds is None or seconds <= 0:
            raise InputError(
                f"{path}, row {number}: expected a duration in seconds above 0; "
                f"found {fields['duration']!r}"
            )
        known = durations.setdefault(fields["filename"], seconds)
        if known != seconds:
            raise InputError(
                f"{path}, row {number}: expected one duration of {fields['filename']}; found "
                f"{fields['duration']} after {known:g}"
            )
    return durations


def write_events(
    path: str | Path, events: Iterable[Event], *, filenames: Iterable[str] = ()
) -> None:
    """Writes events in the DCASE layout: `filename onset offset event_label`, tab-separated.

    Times have three decimals, or as many as it takes to read back the same float64. Clips of
    `filenames` without events get a row with empty cells, so that the list of clips survives.
    """
    events = list(events)
    seen = {event.filename for event in events}
    rows = [
        (event.filename, _decimal(event.onset), _decimal(event.offset), event.event_label)
        for event in events
    ]
    rows += [(name, "", "", "") for name in dict.fromkeys(filenames) if name not in seen]
    write_table(path, EVENT_COLUMNS, rows)


def write_tags(path: str | Path, tags: Mapping[str, Iterable[str]]) -> None:
    """Writes weak labels: `filename event_labels`, tab-separated, labels joined by commas.

    Raises:
      InputError: a label has a comma, or the file cannot be written.
    """
    tags = {name: list(labels) for name, labels in tags.items()}
    for name, label in ((name, label) for name, labels in tags.items() for label in labels):
        if "," in label:
            raise InputError(
                f"{path}: the label {label!r} of {name} has a comma, which separates labels there; "
                "give the class a name without one"
            )
    write_table(path, TAG_COLUMNS, ((name, ",".join(labels)) for name, labels in tags.items()))


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a header line and rows, see `lines_of`, UTF-8; makes the folder if need be."""
    write_whole(Path(path), lines_of([columns, *rows]).encode())


def lines_of(rows: Iterable[Sequence[object]], delimiter: str = "\t") -> str:
    """Rows of a TSV or CSV table, each of them one line whatever is in it.

    File names need not be lines nor even text: a line end is written as ``\\n``, NUL and bytes that
    are no UTF-8 likewise. All else stays, and is read back; csv quotes what separates.
    """

    def cell(value: object) -> object:
        if not isinstance(value, str):
            return value
        return re.sub("[\0\r\n\ud800-\udfff]", lambda found: one_line(found[0]), value)

    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()


def read_lines(path: Path) -> tuple[list[tuple[int, str]], list[Problem]]:
    """The lines that are not blank, with their numbers from 1; lines that are not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    lines, problems = [], []

    def note(found: str, reason: str) -> None:
        problems.append(Problem(str(path), 1, found, reason, skipped=False))

    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        with contextlib.suppress(UnicodeDecodeError):
            data = data.decode("utf-16").encode()
            note("UTF-16", "UTF-16 where UTF-8 is expected; read all the same")
    if b"\0" in data:
        raise InputError(f"{path} is not a text file; expected tab-separated UTF-8")
    if data.startswith(codecs.BOM_UTF8):
        note("byte-order mark", "a byte-order mark before the header; passed over")
    if b"\r" in data:
        note("CR", "line ends of Windows or old Macintosh; read all the same")
    for number, raw in enumerate(re.split(rb"\r\n|\r|\n", data.removeprefix(codecs.BOM_UTF8)), 1):
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            line = raw.decode("latin-1")
            reason = "not UTF-8; read as Latin-1"
            problems.append(Problem(str(path), number, line, reason, skipped=False))
        if line.strip():
            lines.append((number, line))
    return lines, problems


def _delimiter(line: str, num_columns: int) -> str:
    """What separates the columns; a list of one column has nothing that does."""
    for delimiter in "\t,":
        if delimiter in line:
            return delimiter
    return " " if num_columns > 1 and len(line.split()) > 1 else "\t"


def split_cells(line: str, delimiter: str) -> list[str]:
    """The cells of one line; quotes as csv writes them, never across lines."""
    if delimiter == " ":
        return line.split()
    try:
        cells = next(csv.reader([line], delimiter=delimiter))
    except csv.Error:  # a cell of more than 128 KiB
        cells = line.split(delimiter)
    return [cell.strip() for cell in cells]


def _is_header(cells: Sequence[str], columns: Sequence[str]) -> bool:
    return any(name in cells for name in columns)


def _could_be_data(cells: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether a first line without column names is a row in the conventional order."""
    if len(cells) != len(columns):
        return False
    return all(
        seconds_of(cell) is not None or cell.lower() in _NOTHING
        for cell, name in zip(cells, columns, strict=True)
        if name in _NUMBERS
    )


def seconds_of(text: str) -> float | None:
    """A finite number, or None; `float` alone also takes '1_0' and 'inf'."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _decimal(seconds: float) -> str:
    return np.format_float_positional(seconds, min_digits=3)


def raise_first(problems: Iterable[Problem]) -> None:
    for problem in problems:
        if problem.skipped:
            raise InputError(str(problem))
