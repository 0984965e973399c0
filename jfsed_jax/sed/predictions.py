"""What a detector found, written for people and for other programs.

One table of all recordings: TSV with the four columns of DCASE first (what `tables.read_events`
reads), CSV, JSON Lines, parquet. One file a recording: a label track of Audacity, a selection table
of Raven; `label_files` reads both. Events are sorted by time and times have three decimals
everywhere, so that all of them hold the same events; none is written as without length.

Formats: https://manual.audacityteam.org/man/importing_and_exporting_labels.html; Raven Pro User's
Manual, "Selection tables".
"""

import io
import json
import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePath

from jfsed_jax.atomic import write_whole
from jfsed_jax.errors import InputError, one_line
from jfsed_jax.sed.confidence import Confidence
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.recording_names import recording_of, recording_stem
from jfsed_jax.sed.tables import EVENT_COLUMNS, lines_of

CONFIDENCE_COLUMNS = ("confidence_mean", "confidence_max")
FORMS = ("tsv", "csv", "jsonl", "parquet")
_FORM_OF_SUFFIX = {"": "tsv", ".txt": "tsv", ".ndjson": "jsonl"} | {f".{f}": f for f in FORMS}
# What the file of a recording is called behind the recording's stem; and behind a name that ends
# like a label file's, so that `recording_of` takes this end off and no other.
LABEL_SUFFIXES = {
    "audacity": (".txt", ".labels.txt"),
    "raven": (".selections.txt", ".Table.1.selections.txt"),
}
_RAVEN_COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Begin File",
    "File Offset (s)",
    "Annotation",
)


_Found = list[tuple[Event, Confidence | None]]  # of one recording, by time


def table_form(path: str | Path) -> str:
    """The one of `FORMS` that a file's suffix stands for; none and .txt are TSV.

    Raises:
      InputError: another suffix.
    """
    form = _FORM_OF_SUFFIX.get(Path(path).suffix.lower())
    if form is None:
        raise InputError(f"{path}: expected a name that ends in .tsv, .csv, .jsonl or .parquet")
    return form


def write_predictions(
    path: str | Path,
    events: Sequence[Event],
    confidences: Sequence[Confidence] | None = None,
    *,
    filenames: Iterable[str] = (),
    form: str | None = None,
) -> None:
    """Writes one table of events, whole or not at all.

    Args:
      path: its folder is made if need be.
      events: of any recordings, in any order.
      confidences: one an event, written as two more columns; None: no such columns.
      filenames: all recordings, in the order of the table; those without events get a row with
        empty cells. What only `events` names comes behind.
      form: one of `FORMS`; None: as the suffix of `path` says (`table_form`).

    Raises:
      InputError: the suffix is unknown, or the file cannot be written.
    """
    form = table_form(path) if form is None else form
    write_whole(Path(path), format_predictions(events, confidences, filenames=filenames, form=form))


def format_predictions(
    events: Sequence[Event],
    confidences: Sequence[Confidence] | None = None,
    *,
    filenames: Iterable[str] = (),
    form: str = "tsv",
    header: bool = True,
) -> bytes:
    """The content of the file that `write_predictions` writes.

    Args:
      events, confidences, filenames, form: see `write_predictions`.
      header: False: without the line of column names, to be written behind what is there. For a
        parquet file that cannot be.
    """
    columns = EVENT_COLUMNS if confidences is None else EVENT_COLUMNS + CONFIDENCE_COLUMNS
    rows = [
        cells
        for name, found in _by_recording(events, confidences, filenames).items()
        for cells in [_cells(*one) for one in found] or [[name] + [""] * (len(columns) - 1)]
    ]
    if form == "parquet":
        return _parquet(columns, rows)
    if form == "jsonl":
        return "".join(f"{_json(columns, row)}\n" for row in rows).encode()
    delimiter = {"tsv": "\t", "csv": ","}[form]
    return lines_of([columns, *rows] if header else rows, delimiter).encode()


def label_paths(folder: str | Path, filenames: Collection[str], form: str) -> dict[str, Path]:
    """Where `write_label_files` writes the labels of each recording, see `own_paths`.

    Where that file would be read as another recording's, as ``a.labels.txt`` is of ``a``, its name
    keeps the suffix of the audio: ``a.labels.wav.txt``.

    Args:
      form: "audacity" or "raven".
    """
    short, long = LABEL_SUFFIXES[form]
    paths = own_paths(folder, filenames, short)
    for name, path in paths.items():
        whole = PurePath(name).name
        files = (path.name, whole + short, whole + long)
        stem = recording_stem(whole)
        file = next(file for file in files if recording_stem(recording_of(file)) == stem)
        paths[name] = path.with_name(file)
    return paths


def own_paths(folder: str | Path, filenames: Collection[str], suffix: str) -> dict[str, Path]:
    """A file of its own for each recording: the recording's name with another suffix.

    A recording in a folder below has it in such a folder; of a name that leads elsewhere (absolute,
    or with ``..``) the last part counts.

    Raises:
      InputError: two recordings would share a file.
    """
    owners: dict[Path, str] = {}
    for name in dict.fromkeys(filenames):
        inside = PurePath(name)
        if inside.is_absolute() or ".." in inside.parts:
            inside = PurePath(inside.name)
        path = Path(folder) / (recording_stem(str(inside)) + suffix)
        if path in owners:
            raise InputError(
                f"{owners[path]} and {name} would both have the file {path}; rename one, or label "
                "them by two commands into different folders"
            )
        owners[path] = name
    return {name: path for path, name in owners.items()}


def write_label_files(
    folder: str | Path,
    events: Sequence[Event],
    confidences: Sequence[Confidence] | None = None,
    *,
    form: str,
    filenames: Iterable[str] = (),
    band: tuple[float, float] = (0.0, 8000.0),
) -> dict[str, Path]:
    """Writes a label file a recording, also of those that only `filenames` names; gives the paths.

    Args:
      form: "audacity" or "raven"; see `write_audacity` and `write_raven`.

    Raises:
      InputError: two recordings would share a file (`label_paths`), or one cannot be written.
    """
    recordings = _by_recording(events, confidences, filenames)
    paths = label_paths(folder, recordings, form)
    for name, found in recordings.items():
        if form == "audacity":
            write_audacity(paths[name], [event for event, _ in found])
        else:
            sure = [confidence for _, confidence in found if confidence is not None]
            own = None if confidences is None else sure
            write_raven(paths[name], [event for event, _ in found], own, band=band)
    return paths


def write_audacity(path: str | Path, events: Sequence[Event]) -> None:
    """Writes one recording's events as a label track of Audacity: onset, offset, label.

    Raises:
      InputError: a label has a tab or a line end in it, or the file cannot be written.
    """
    rows = [(*_times(e), _plain(e.event_label, path)) for e in sorted(events, key=_by_time)]
    _write_lines(path, rows)


def write_raven(
    path: str | Path,
    events: Sequence[Event],
    confidences: Sequence[Confidence] | None = None,
    *,
    band: tuple[float, float] = (0.0, 8000.0),
) -> None:
    """Writes one recording's events as a selection table of Raven, labels as ``Annotation``.

    Args:
      confidences: one an event, written as two columns of annotations; None: no such columns.
      band: lower and upper edge of each selection in Hz, which Raven needs and a detector does not
        know: best those of the model's front end.

    Raises:
      InputError: a label has a tab or a line end in it, or the file cannot be written.
    """
    columns = _RAVEN_COLUMNS if confidences is None else (*_RAVEN_COLUMNS, *CONFIDENCE_COLUMNS)
    rows: list[Sequence[str]] = [columns]
    edges = [f"{edge:.1f}" for edge in band]
    sure = [None] * len(events) if confidences is None else confidences
    pairs = zip(events, sure, strict=True)
    for event, confidence in sorted(pairs, key=lambda pair: _by_time(pair[0])):
        onset, offset = _times(event)
        place = [str(len(rows)), "Spectrogram 1", "1", onset, offset, *edges]
        place += [_begin_file(event.filename), onset]
        rows.append([*place, _plain(event.event_label, path), *_decimals(confidence)])
    _write_lines(path, rows)


def _by_time(event: Event) -> tuple[float, float, str]:
    return event.onset, event.offset, event.event_label


def _by_recording(
    events: Sequence[Event], confidences: Sequence[Confidence] | None, filenames: Iterable[str]
) -> dict[str, _Found]:
    """The recordings as `filenames` has them, the events of each by time."""
    sure = [None] * len(events) if confidences is None else confidences
    recordings: dict[str, _Found] = {name: [] for name in filenames}
    for event, confidence in zip(events, sure, strict=True):
        recordings.setdefault(event.filename, []).append((event, confidence))
    for found in recordings.values():
        found.sort(key=lambda pair: _by_time(pair[0]))
    return recordings


def _times(event: Event) -> tuple[str, str]:
    """Onset and offset in seconds; at least a millisecond apart, which without length is none."""
    start = round(event.onset * 1000)
    stop = max(round(event.offset * 1000), start + 1)
    return f"{start / 1000:.3f}", f"{stop / 1000:.3f}"


def _decimals(confidence: Confidence | None) -> list[str]:
    return [f"{value:.3f}" for value in confidence or ()]


def _cells(event: Event, confidence: Confidence | None) -> list[str]:
    return [event.filename, *_times(event), event.event_label, *_decimals(confidence)]


def _value(column: str, cell: str) -> float | str | None:
    if column in ("filename", "event_label"):
        return cell.encode("utf-8", "backslashreplace").decode() or None
    return float(cell) if cell and math.isfinite(float(cell)) else None


def _json(columns: Sequence[str], row: Sequence[str]) -> str:
    """One object; its numbers have three decimals as well."""
    pairs = []
    for column, cell in zip(columns, row, strict=True):
        value = _value(column, cell)
        text = cell if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
        pairs.append(f'"{column}": {text}')
    return "{" + ", ".join(pairs) + "}"


def _parquet(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    # Comes with tensorflow_datasets; slow to import.
    import pyarrow
    import pyarrow.parquet

    text = pyarrow.string()
    kinds = [text if c in ("filename", "event_label") else pyarrow.float64() for c in columns]
    values = [[_value(c, row[i]) for row in rows] for i, c in enumerate(columns)]
    arrays = [pyarrow.array(v, kind) for v, kind in zip(values, kinds, strict=True)]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, list(columns)), buffer)
    return buffer.getvalue()


def _begin_file(filename: str) -> str:
    """Its base name; nothing where that would not be read as it is: then the table's name tells."""
    name = PurePath(filename).name
    return name if one_line(name) == name == name.strip() and "\\" not in name else ""


def _plain(text: str, path: str | Path) -> str:
    """As it is: these programs know no quotes."""
    if any(character in text for character in "\t\r\n"):
        raise InputError(
            f"{path}: {text!r} has a tab or a line end, which separate cells and rows there; "
            "give it another name"
        )
    return text


def _write_lines(path: str | Path, rows: Iterable[Sequence[str]]) -> None:
    text = "".join("\t".join(row) + "\n" for row in rows)
    write_whole(Path(path), text.encode("utf-8", "backslashreplace"))
