"""Strong labels as other programs write them: Audacity's label tracks, Raven's selection tables.

What a file is, its content tells:

- Audacity: lines of onset, offset and label, with tabs between, no header. A line that begins with
  a backslash has the frequencies of the label above; they are passed over. A point label has no
  length and is a flaw.
- Raven: a table with a column ``Begin Time (s)``. A selection has a row in each view and counts
  once. ``Begin File`` (or ``Begin Path``) names the recording, and ``File Offset (s)`` says where
  in it, as ``Begin Time (s)`` runs on over the files of a sequence. The label is in the first of
  `RAVEN_LABELS` that is a column; frequencies and channels are passed over.
- The columns `filename onset offset event_label`: see `tables`.

A file that names no recording is that of the recording whose name it has (`recording_of`), and has
no events if it is empty. Readers are strict or lenient as those of `tables`, in which a flaw of a
whole file, at row 0, costs that file alone.

Formats: https://manual.audacityteam.org/man/importing_and_exporting_labels.html; Raven Pro User's
Manual, chapter "Measurements and annotations".
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from jfsed_jax.errors import InputError
from jfsed_jax.sed import tables
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.recording_names import LABEL_FILES, recording_of, recording_stem
from jfsed_jax.sed.tables import EventTable, Problem

RAVEN_LABELS = (
    *("annotation", "annotations", "event_label", "label", "class", "species", "common name"),
    *("call type", "call", "type", "sound type", "species code", "code", "tags"),
)
SEVERAL_COLUMNS = "several columns may hold labels"  # how the reason of such a problem begins
_BEGIN, _END, _OFFSET = "begin time (s)", "end time (s)", "file offset (s)"
_ANY_SLASH = re.compile(r"[\\/]")  # a table may come from another system
_Line = tuple[int, str]


def files_in(folder: str | Path) -> list[Path]:
    """What of a folder is read, sorted: names in `LABEL_FILES`, in folders below too, none hidden.

    Raises:
      InputError: a folder cannot be read.
    """
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error

    visited = set()
    for inside, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        real = os.path.realpath(inside)
        if real in visited:  # a link that leads back
            folders.clear()
            continue
        visited.add(real)
        visible = [name for name in names if not name.startswith(".")]
        found += [
            Path(inside, name) for name in visible if Path(name).suffix.lower() in LABEL_FILES
        ]
    return sorted(found)


def read_labels(
    path: str | Path, *, classes: Sequence[str] | None = None, strict: bool = True
) -> EventTable:
    """`read_label_files`, `joined`."""
    return joined(read_label_files(path, classes=classes, strict=strict))


def joined(files: Iterable[tuple[str, EventTable]]) -> EventTable:
    """What `read_label_files` gives as one table; its rows are lines of each event's own file."""
    parts = [table for _, table in files]
    return EventTable(
        [event for part in parts for event in part.events],
        [row for part in parts for row in part.rows],
        [name for part in parts for name in part.filenames],
        [problem for part in parts for problem in part.problems],
    )


def read_label_files(
    path: str | Path, *, classes: Sequence[str] | None = None, strict: bool = True
) -> list[tuple[str, EventTable]]:
    """Reads a label file, or all of a folder: each file's path and what is in it.

    Args:
      path: the file or folder. In a folder below it, recordings have that folder's name before
        theirs.
      classes: labels; an event with another one is a flaw. None: any label.
      strict: whether a flaw is an InputError, or a `Problem` that costs its row or file.

    Raises:
      InputError: with `strict`, a flaw, or a recording that has labels in two files. Always: no
        such file or folder, a folder without label files, a single file that cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        # What is no file, as a pipe, can be read once; an empty table is of no recording.
        pipe = path.exists() and not path.is_file()
        if pipe or (path.suffix.lower() != ".txt" and not tables.read_lines(path)[0]):
            return [(str(path), tables.read_events(path, classes=classes, strict=strict))]
        return [(str(path), _read(path, "", classes, strict))]
    files = files_in(path)
    if not files:
        raise InputError(
            f"{path} holds no label file; expected a file of each recording that ends in "
            f"{', '.join(LABEL_FILES)}"
        )
    parts = []
    for file in files:
        below = file.parent.relative_to(path).as_posix()
        try:
            if not file.is_file():
                raise InputError(f"{file} is no file, or a link to what is not there")
            table = _read(file, "" if below == "." else f"{below}/", classes, strict)
        except InputError as error:
            if strict:
                raise
            table = EventTable([], [], [], [Problem(str(file), 0, file.name, str(error))])
        parts.append((str(file), table))
    return _refuse_twice(parts, strict)


def stem_of(name: str) -> str:
    """A recording's base name, without folders and the suffix of an audio file."""
    return recording_stem(_base(name))


def by_stem(path: str | Path, names: Iterable[str]) -> dict[str, str]:
    """`stem_of` each recording.

    Args:
      path: where the names are from, for the message.

    Raises:
      InputError: two recordings have the same.
    """
    owners: dict[str, str] = {}
    for name in names:
        stem = stem_of(name)
        if owners.setdefault(stem, name) != name:
            raise InputError(
                f"{path}: {owners[stem]!r} and {name!r} have the same base name {stem!r}; "
                "recordings are told apart by it, so rename one or match whole names"
            )
    return {name: stem for stem, name in owners.items()}


def renamed(table: EventTable, names: dict[str, str]) -> EventTable:
    """A table with other names of its recordings."""
    return replace(
        table,
        events=[event._replace(filename=names[event.filename]) for event in table.events],
        filenames=[names[name] for name in table.filenames],
    )


def _base(name: str) -> str:
    return _ANY_SLASH.split(name)[-1]


def _refuse_twice(
    parts: Sequence[tuple[str, EventTable]], strict: bool
) -> list[tuple[str, EventTable]]:
    """Leaves out recordings that several files have labels of: which of them are meant?"""
    owners: dict[str, list[str]] = {}
    for file, table in parts:
        for stem in dict.fromkeys(map(recording_stem, table.filenames)):
            owners.setdefault(stem, []).append(file)
    kept = []
    for file, table in parts:
        twice = {name for name in table.filenames if len(owners[recording_stem(name)]) > 1}
        problems = list(table.problems)
        for name in sorted(twice):
            others = " and ".join(
                os.path.relpath(other, Path(file).parent)
                for other in owners[recording_stem(name)]
                if other != file
            )
            reason = f"{others} has labels of this recording too; expected them in one file"
            problems.append(Problem(file, 0, name, reason))
        if strict:
            tables.raise_first(problems)
        pairs = zip(table.events, table.rows, strict=True)
        rest = [(event, row) for event, row in pairs if event.filename not in twice]
        names = [name for name in table.filenames if name not in twice]
        kept.append((file, EventTable([e for e, _ in rest], [r for _, r in rest], names, problems)))
    return kept


def _read(path: Path, below: str, classes: Sequence[str] | None, strict: bool) -> EventTable:
    """One file, of whichever kind; `below` stands before the names of recordings."""
    lines, problems = tables.read_lines(path)
    own = below + recording_of(path)
    if not lines:
        return EventTable([], [], [own], problems)
    number, first = lines[0]
    header = [cell.lower() for cell in _cells(first)]
    words = re.split(r"[\t, ]+", first.lower())
    if _BEGIN in header:
        table = _read_raven(path, header, lines[1:], own, classes)
    elif "filename" not in words and any(_is_label(line) for _, line in lines[:2]):
        table = _read_audacity(path, lines, own, classes)
    elif set(tables.EVENT_COLUMNS) & set(words) or len(words) == len(tables.EVENT_COLUMNS):
        return tables.read_events(path, classes=classes, strict=strict)
    else:
        raise InputError(
            f"{path}, row {number}: no label file; expected onset, offset and label with tabs "
            f"between (Audacity), a column Begin Time (s) (Raven) or the columns "
            f"{' '.join(tables.EVENT_COLUMNS)}; found {first[:80]!r}"
        )
    problems = sorted(problems + table.problems, key=lambda problem: problem.row)
    if strict:
        tables.raise_first(problems)
    return replace(table, problems=problems)


def _read_audacity(
    path: Path, lines: Sequence[_Line], own: str, classes: Sequence[str] | None
) -> EventTable:
    events, rows = [], []
    problems = _Problems(path)
    for number, line in lines:
        cells = _audacity_cells(line)
        if cells[0] == "\\":
            continue
        if "\t" not in line and len(cells) > 1:
            problems.note(number, line, "spaces where tabs are expected; read all the same")
        onset, offset, label = [*cells, "", ""][:3]
        onset, offset = (problems.decimal(number, cell) for cell in (onset, offset))
        found = line.strip()[:80]
        times = tables.seconds_of(onset), tables.seconds_of(offset)
        if times[0] is None or any(cells[3:]):
            problems.skip(number, found, "expected onset, offset and label with tabs between")
            continue
        if times[0] == times[1] or (times[1] is None and len(cells) < 3):
            reason = "a point label, which has no length; make it a region, or remove it"
            problems.skip(number, found, reason)
            continue
        event = tables.event_of(own, onset, offset, label, classes)
        if isinstance(event, Event):
            events.append(event)
            rows.append(number)
        else:
            problems.skip(number, *event)
    return EventTable(events, rows, [own], problems.found)


def _read_raven(
    path: Path,
    header: Sequence[str],
    lines: Sequence[_Line],
    own: str,
    classes: Sequence[str] | None,
) -> EventTable:
    labels = [name for name in RAVEN_LABELS if name in header]
    if _END not in header or not labels:
        raise InputError(
            f"{path}: expected the columns End Time (s) and, of labels, Annotation; found "
            f"{', '.join(header)[:200]}"
        )
    problems = _Problems(path)
    if len(labels) > 1:
        reason = f"{SEVERAL_COLUMNS}; those of {labels[0]!r} are taken"
        problems.note(1, ", ".join(labels), reason)
    table = []
    for number, line in lines:
        cells = _cells(line)
        if len(cells) > len(header) and any(cells[len(header) :]):
            reason = f"{len(cells)} fields where the header has {len(header)}"
            problems.skip(number, line[:80], reason)
            continue
        cells += [""] * (len(header) - len(cells))
        table.append((number, dict(zip(header, cells, strict=False))))
    below = own[: own.rfind("/") + 1]
    names = {_file(row) for _, row in table}
    if len(names) > 1 and _OFFSET not in header:
        raise InputError(
            f"{path}: the selections are of {len(names)} files ({', '.join(sorted(names)[:2])}, "
            "...), and where in them the column File Offset (s) would say, which is missing; add "
            "that measurement in Raven"
        )
    events, rows = [], []
    filenames: dict[str, None] = {} if any(names) else {own: None}
    seen = set()
    for number, row in table:
        name = below + _file(row) if _file(row) else own
        begin, end = (problems.decimal(number, row[column]) for column in (_BEGIN, _END))
        # The same selection in another view, or in another channel.
        same = (row.get("selection"), name, begin, end, row[labels[0]])
        if row.get("selection") and same in seen:
            continue
        seen.add(same)
        if offset := problems.decimal(number, row.get(_OFFSET, "")):
            begin, end = offset, _shifted(begin, end, offset)
        elif len(names) > 1:
            problems.skip(number, begin, "no File Offset (s), which says where in its file it is")
            continue
        event = tables.event_of(name, begin, end, row[labels[0]], classes)
        if not isinstance(event, Event):
            problems.skip(number, *event)
            continue
        if row.get("end file") and _base(row["end file"]) != _file(row):
            reason = "the selection goes on in this file, where nothing is labelled for it"
            problems.note(number, row["end file"], reason)
        filenames[name] = None
        events.append(event)
        rows.append(number)
    return EventTable(events, rows, list(filenames), problems.found)


class _Problems:
    """The flaws of one file, as they are met."""

    def __init__(self, path: Path):
        self.found: list[Problem] = []
        self._path = str(path)
        self._comma = False

    def skip(self, row: int, found: str, reason: str) -> None:
        self.found.append(Problem(self._path, row, found, reason))

    def note(self, row: int, found: str, reason: str) -> None:
        self.found.append(Problem(self._path, row, found, reason, skipped=False))

    def decimal(self, row: int, cell: str) -> str:
        """The cell with a decimal point where a number has a comma; noted once a file."""
        if not _has_decimal_comma(cell):
            return cell
        if not self._comma:
            self.note(row, cell, "a decimal comma; read all the same")
        self._comma = True
        return cell.replace(",", ".")


def _has_decimal_comma(cell: str) -> bool:
    return bool(re.fullmatch(r"-?\d+,\d+", cell))


def _cells(line: str) -> list[str]:
    """Of a table; these programs know no quotes, spreadsheets that save commas do."""
    if "\t" not in line and "," in line:
        return tables.split_cells(line, ",")
    return [cell.strip() for cell in line.split("\t")]


def _audacity_cells(line: str) -> list[str]:
    if "\t" in line:
        return [cell.strip() for cell in line.split("\t")]
    return line.split(None, 2) or [""]


def _is_label(line: str) -> bool:
    """Whether a line could be of Audacity; with times behind a number it is a table's row."""
    cells = _audacity_cells(line)
    numbers = [tables.seconds_of(cell.replace(",", ".")) is not None for cell in cells[:3]]
    return numbers[0] and not (len(cells) > 3 and all(numbers))


def _file(row: dict[str, str]) -> str:
    return _base(row.get("begin file") or row.get("begin path", ""))


def _shifted(begin: str, end: str, offset: str) -> str:
    """The end in its file, to the nanosecond, as text; nothing if one of them is no number."""
    first, last, start = (tables.seconds_of(cell) for cell in (begin, end, offset))
    if first is None or last is None or start is None:
        return ""
    return repr(round(start + (last - first), 9))
