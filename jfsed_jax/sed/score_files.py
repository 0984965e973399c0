"""Posteriors as the score files of sed_scores_eval: others' tools read ours, and ours theirs.

A folder with one TSV per clip, named after the clip without its extension; columns `onset offset`
in seconds, then one column per class. Each row is a segment; a segment ends where the next begins.

Axis letters: `B` clips, `T` frames (segments), `C` event classes.
"""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jfsed_jax.atomic import write_whole
from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import Decode

EDGE = 1e-3  # seconds; times with three decimals lie up to half of that beside the true ones
ROUNDING = 1e-6  # how far past 0 and 1 a posterior may lie, as float32 means do
_ROWS = 4096  # of a file that are text in memory at once: a day of sound has five million


@dataclass(frozen=True)
class ScoreFiles:
    """The score files of a folder.

    Attributes:
      classes: C labels, the same in every file.
      clips: the names of the B files without ".tsv", sorted.
      times: per clip <float64>[T + 1], the edges of its segments in seconds.
      scores: per clip <float64>[T, C].
      folder: where they lie, for messages.
    """

    classes: tuple[str, ...]
    clips: list[str]
    times: list[np.ndarray]
    scores: list[np.ndarray]
    folder: Path = Path()


def clip_name(filename: str) -> str:
    """What the score file of an audio file is called: its name without the extension.

    An extension begins with a letter: the digits after the last dot of a clip that is listed as
    ``Y1_12.000_22.000`` end a number.
    """
    stem, _, extension = filename.rpartition(".")
    named = stem and extension[:1].isalpha() and extension.isalnum()
    return stem if named else filename


def clip_names(filenames: Collection[str]) -> list[str]:
    """`clip_name` of each; InputError if two files would share a score file."""
    owners: dict[str, str] = {}
    for filename in filenames:
        name = clip_name(filename)
        if owners.setdefault(name, filename) != filename:
            raise InputError(
                f"the clips {owners[name]!r} and {filename!r} would both have the score file "
                f"{name}.tsv; names must differ in more than the extension"
            )
    return [clip_name(filename) for filename in filenames]


def read_score_files(directory: str | Path) -> ScoreFiles:
    """Reads every `.tsv` of a folder; InputError names the file and row of whatever is wrong."""
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(f"{directory} is not a folder; expected one with a score file per clip")
    paths = sorted(directory.glob("*.tsv"))
    if not paths:
        raise InputError(f"{directory} holds no .tsv file; expected a score file per clip")
    classes: tuple[str, ...] = ()
    times, scores = [], []
    for path in paths:
        found, edges, values = _read_score_file(path)
        classes = classes or found
        if found != classes:
            raise InputError(
                f"{path}: the classes are {' '.join(found)}; expected those of {paths[0].name}: "
                f"{' '.join(classes)}"
            )
        times.append(edges)
        scores.append(values)
    clips = [path.name.removesuffix(".tsv") for path in paths]
    return ScoreFiles(classes, clips, times, scores, directory)


def write_score_files(
    directory: str | Path,
    frames: np.ndarray | Sequence[np.ndarray],
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    frame_rate: float,
    durations: Mapping[str, float] | None = None,
) -> None:
    """Writes frame posteriors, one file per clip.

    Args:
      frames: <float>[B, T, C], or B of [T, C]; written with float32's precision.
      filenames: B names of audio files.
      frame_rate: frames per second.
      durations: seconds by file name; frames that begin after the end of a clip are left out.

    Raises:
      InputError: two clips would share a file, or one cannot be written.
    """
    directory = Path(directory)
    for clip, name, values in zip(clip_names(filenames), filenames, frames, strict=True):
        end = (durations or {}).get(name, np.inf)
        write_whole(directory / f"{clip}.tsv", _blocks(values, classes, frame_rate, end))


def _blocks(
    values: np.ndarray, classes: Sequence[str], frame_rate: float, end: float
) -> Iterator[bytes]:
    """A score file of frames <float>[T, C], some rows at a time."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(("onset", "offset", *classes))
    for first in range(0, max(len(values), 1), _ROWS):
        # A float32 prints as the shortest decimals that read back as the same float32.
        scores = np.asarray(values[first : first + _ROWS], np.float32)
        edges = np.minimum((first + np.arange(len(scores) + 1)) / frame_rate, end)
        times = zip(edges.tolist(), edges[1:].tolist(), strict=False)
        for (onset, offset), row in zip(times, scores, strict=True):
            if onset < end:
                writer.writerow((onset, offset, *row))
        yield text.getvalue().encode("utf-8", "backslashreplace")
        text.seek(0)
        text.truncate()


def frame_rate_of(files: ScoreFiles) -> float:
    """Frames per second of score files with segments of one length; the last may be cut short."""
    longest = max(files.times, key=len)
    count = max(1, len(longest) - 2)  # whole segments, which the last one may not be
    rate = count / (longest[count] - longest[0])
    for clip, edges in zip(files.clips, files.times, strict=True):
        grid = edges[0] + np.arange(len(edges) - 1) / rate
        away = np.abs(edges[:-1] - grid) > min(EDGE, 0.25 / rate)
        too_long = edges[-1] - edges[-2] > 1 / rate + EDGE
        if edges[0] > EDGE or away.any() or too_long:
            row = int(np.argmax(away)) if away.any() else len(away) - 1 if too_long else 0
            raise InputError(
                f"{files.folder / clip}.tsv, row {row + 2}: expected segments of {1 / rate:.4f} s "
                f"from 0 on; found {edges[row]:g} to {edges[row + 1]:g}"
            )
    return float(rate)


def decode_files(
    files: ScoreFiles,
    decode: Decode,
    *,
    filenames: Sequence[str],
    clip: np.ndarray | None = None,
) -> list[Event]:
    """Post-processing of score files: events with the files' own times, in seconds.

    Args:
      files: segments of one length, see `frame_rate_of`.
      decode: counts in segments, as `median_decoder(..., frame_rate=1.0)` does.
      filenames: B names for the events.
      clip: <float>[B, C] clip posteriors or tags, or None: no gating.
    """
    events: dict[str, list[Event]] = {name: [] for name in filenames}
    times = dict(zip(filenames, files.times, strict=True))
    lengths = np.array([len(scores) for scores in files.scores])
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length).tolist()
        found = decode(
            None if clip is None else np.asarray(clip)[rows],
            np.stack([files.scores[b] for b in rows]),
            [filenames[b] for b in rows],
        )
        for event in found:
            onset, offset = np.interp(
                [event.onset, event.offset], np.arange(length + 1), times[event.filename]
            ).tolist()
            events[event.filename].append(event._replace(onset=onset, offset=offset))
    return [event for name in filenames for event in events[name]]


def steps_of_events(
    events: Iterable[Event], classes: Sequence[str], *, duration: float
) -> tuple[np.ndarray, np.ndarray]:
    """Events of one clip as scores of 0 and 1: edges <float64>[T + 1] and <float64>[T, C]."""
    events = list(events)
    edges = np.unique([0.0, duration, *(t for e in events for t in (e.onset, e.offset))])
    steps = np.zeros((len(edges) - 1, len(classes)))
    for event in events:
        start, stop = np.searchsorted(edges, [event.onset, event.offset])
        steps[start:stop, classes.index(event.event_label)] = 1.0
    return edges, steps


def _read_score_file(path: Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Classes, edges <float64>[T + 1] in seconds and scores <float64>[T, C] of one file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns, *rows = [row for row in csv.reader(file, delimiter="\t") if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a score file: {error}") from error
    repeated = [column for column in columns if columns.count(column) > 1]
    if repeated:
        raise InputError(
            f"{path}: the column {repeated[0]} is there {columns.count(repeated[0])} times; "
            "expected onset, offset and one per class"
        )
    if columns[:2] != ["onset", "offset"] or len(columns) < 3 or not rows:
        raise InputError(
            f"{path}: expected rows and the columns onset, offset and one per class; "
            f"found {len(rows)} rows of {' '.join(columns)[:80]!r}"
        )
    values = np.array([_finite(row, len(columns)) for row in rows])
    bad = np.isnan(values).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}, row {row + 2}: expected {len(columns)} numbers; found {' '.join(rows[row])!r}"
        )
    edges = np.append(values[:, 0], values[-1, 1])
    broken = (np.abs(values[1:, 0] - values[:-1, 1]) > 1e-6) | (np.diff(edges)[:-1] <= 0)
    if broken.any() or edges[-1] <= edges[-2]:
        row = int(np.argmax(broken)) + 1 if broken.any() else len(values) - 1
        raise InputError(
            f"{path}, row {row + 2}: expected a segment that begins where the last one ends; "
            f"found {values[row, 0]:g} to {values[row, 1]:g}"
        )
    scores = values[:, 2:]
    outside = (scores < -ROUNDING) | (scores > 1 + ROUNDING)
    if outside.any():
        row, c = np.argwhere(outside)[0].tolist()
        raise InputError(
            f"{path}, row {row + 2}: expected posteriors from 0 to 1; found {scores[row, c]:g} for "
            f"{columns[2 + c]}; if these are logits, apply the sigmoid first"
        )
    return tuple(columns[2:]), edges, scores


def _finite(cells: Sequence[str], count: int) -> list[float]:
    """The numbers of a row, or as many NaN if one of them is not finite or their count differs."""
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        numbers = []
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else [np.nan] * count
