"""What tables to be scored can have wrong though every row is well formed: refused, or noted.

Milliseconds in the place of seconds make no row flawed, and no event match.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event, join_overlaps
from jfsed_jax.sed.score_files import EDGE, ScoreFiles, clip_names
from jfsed_jax.sed.tables import EventTable

# Milliseconds make times a thousandfold. Events a hundred clip lengths out are no padding of short
# clips; those of two tables that are a hundredfold apart, in the median, are no choice of clips.
PAST_THE_END = 100
ANOTHER_UNIT = 100
LONG_EVENTS = 300.0  # seconds that events do not last in the median

Tables = Sequence[tuple[str, EventTable]]  # of one kind, each with its path


def check_classes(classes: Sequence[str]) -> None:
    """Raises InputError for a class that is named twice."""
    repeated = [label for label in classes if classes.count(label) > 1]
    if repeated:
        raise InputError(
            f"the class {repeated[0]!r} is named {classes.count(repeated[0])} times; expected once"
        )


def check_durations(
    path: str, durations: Mapping[str, float], filenames: Sequence[str], what: str
) -> None:
    """Raises InputError if a clip has no duration in the table at `path`, which `what` needs."""
    missing = [name for name in filenames if name not in durations]
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise InputError(f"{path}: no row for the clip {missing[0]!r}{others}; {what} needs one")


def check_times(tables: Tables, durations: Mapping[str, float]) -> None:
    """Raises InputError for an event that ends too late for its times to be seconds.

    Args:
      durations: seconds by clip, as far as they are known.
    """
    for path, table in tables:
        for event, row in zip(table.events, table.rows, strict=True):
            length = durations.get(event.filename, np.inf)
            if event.offset > PAST_THE_END * length:
                raise InputError(
                    f"{path}, row {row}: the event is from {event.onset:g} to {event.offset:g} s, "
                    f"its clip of {length:g} s; expected seconds: are these milliseconds?"
                )


def late_notes(tables: Tables, durations: Mapping[str, float]) -> list[str]:
    """A note on events that begin where their clip has ended, or nothing."""
    late = [
        (path, row, event)
        for path, table in tables
        for event, row in zip(table.events, table.rows, strict=True)
        if event.onset >= durations.get(event.filename, np.inf)
    ]
    return _note_on_first(late, "the event begins where its clip has ended")


def check_score_files(
    files: ScoreFiles, filenames: Collection[str], labels: Collection[str]
) -> None:
    """Raises InputError unless each clip has a file, each file a clip, and each label a column."""
    names = clip_names(filenames)
    for some, others, what in (
        (names, files.clips, "has no score file"),
        (files.clips, names, "has a score file but no duration"),
    ):
        if odd := set(some) - set(others):
            raise InputError(f"{files.folder}: the clip {min(odd)!r} {what}")
    if lacking := set(labels) - set(files.classes):
        raise InputError(
            f"{files.folder}: the files have no column for the class {min(lacking)!r}; found "
            f"{', '.join(files.classes)}"
        )


def check_segments(files: ScoreFiles, durations: Mapping[str, float]) -> None:
    """As `check_times`, of score files."""
    for clip, edges, length in _lengths(files, durations):
        if edges[-1] > PAST_THE_END * length:
            raise InputError(
                f"{files.folder / clip}.tsv: the segments end at {edges[-1]:g} s, the clip at "
                f"{length:g} s; expected seconds: are these milliseconds?"
            )


def segment_notes(files: ScoreFiles, durations: Mapping[str, float]) -> list[str]:
    """A note on score files that end more than a segment before or behind their clip, or nothing.

    What lies between has no scores, or nothing that could be found.
    """
    away = [
        (clip, edges[-1], length)
        for clip, edges, length in _lengths(files, durations)
        if abs(edges[-1] - length) > np.diff(edges).max() + EDGE
    ]
    if not away:
        return []
    clip, end, length = away[0]
    others = f"; {len(away) - 1} more differ so" if len(away) > 1 else ""
    path = f"{files.folder / clip}.tsv"
    return [f"{path}: the segments end at {end:g} s, the clip at {length:g} s{others}"]


def _lengths(
    files: ScoreFiles, durations: Mapping[str, float]
) -> Iterator[tuple[str, np.ndarray, float]]:
    """Clip, edges and seconds of the score files whose clip has a duration."""
    seconds = dict(zip(clip_names(durations), durations.values(), strict=True))
    for clip, edges in zip(files.clips, files.times, strict=True):
        if clip in seconds:
            yield clip, edges, seconds[clip]


def overlap_notes(tables: Tables) -> list[str]:
    """A note on events that PSDS and intersection F1 join, or nothing."""
    joined = [
        (path, table.rows[i], table.events[i])
        for path, table in tables
        for i in join_overlaps(table.events)[1]
    ]
    return _note_on_first(
        joined,
        "the event overlaps or touches another of its class",
        "; PSDS and intersection F1 count what they join to",
    )


def unit_notes(tables: Mapping[str, Sequence[Event]]) -> list[str]:
    """Notes on events, by the path of their table, that look like milliseconds.

    They last too long, or they end far later or earlier than those of the first table.
    """
    notes = []
    ends: dict[str, float] = {}
    for path, events in tables.items():
        if not events:
            continue
        length = float(np.median([event.offset - event.onset for event in events]))
        ends[path] = float(np.median([event.offset for event in events]))
        first = next(iter(ends))
        if length > LONG_EVENTS:
            notes.append(f"{path}: events last {length:g} s in the median; are these milliseconds?")
        elif not 1 / ANOTHER_UNIT < ends[path] / ends[first] < ANOTHER_UNIT:
            notes.append(
                f"events end at {ends[path]:g} s in {path} and at {ends[first]:g} s in {first}, in "
                "the median; is one of them in milliseconds?"
            )
    return notes


def _note_on_first(found: Sequence[tuple[str, int, Event]], what: str, so: str = "") -> list[str]:
    if not found:
        return []
    path, row, event = found[0]
    others = f", as {len(found) - 1} more do" if len(found) > 1 else ""
    return [f"{path}, row {row} ({event.filename}, {event.event_label}): {what}{others}{so}"]
