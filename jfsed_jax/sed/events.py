"""Sound events as data, and the only place that converts between seconds and frames.

An event is a class that is active from an onset to an offset, both in seconds from the start of
its clip. Frame ``t`` at ``frame_rate`` frames per second covers ``[t, t + 1) / frame_rate``.

Axis letters: ``T`` frames, ``C`` event classes.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

DCASE2019_CLASSES = (
    "Alarm_bell_ringing",
    "Blender",
    "Cat",
    "Dishes",
    "Dog",
    "Electric_shaver_toothbrush",
    "Frying",
    "Running_water",
    "Speech",
    "Vacuum_cleaner",
)


class Event(NamedTuple):
    """One sound event; onset and offset in seconds from the start of the clip."""

    filename: str
    onset: float
    offset: float
    event_label: str


def cut_events(events: Iterable[Event], start: float, end: float) -> list[Event]:
    """What happens from `start` to `end` seconds; its times are counted from `start`."""
    return [
        event._replace(onset=max(event.onset - start, 0.0), offset=min(event.offset, end) - start)
        for event in events
        if event.onset < end and event.offset > start
    ]


def seconds_to_frames(seconds, frame_rate: float):
    """The frame boundary nearest to a time (halves round up): <int64>, same shape as `seconds`."""
    return np.floor(np.asarray(seconds, np.float64) * frame_rate + 0.5).astype(np.int64)


def frames_to_seconds(frames, frame_rate: float):
    """The time of a frame boundary in seconds: <float64>, same shape as `frames`."""
    return np.asarray(frames, np.float64) / frame_rate


def encode_events(
    onsets, offsets, labels, *, num_frames: int, num_classes: int, frame_rate: float
) -> np.ndarray:
    """Frame labels of one clip.

    Args:
      onsets, offsets: <float64>[N] seconds; what lies outside the clip is cut.
      labels: <int>[N] class indices.
      num_frames, num_classes, frame_rate: the grid: T, C and frames per second.

    Returns:
      <uint8>[T, C], 1 where the class is active. An event inside the clip has at least one frame.
    """
    frames = np.zeros((num_frames, num_classes), np.uint8)
    starts = seconds_to_frames(onsets, frame_rate)
    stops = np.maximum(seconds_to_frames(offsets, frame_rate), starts + 1)
    for start, stop, label in zip(starts, stops, labels, strict=True):
        frames[max(start, 0) : max(stop, 0), label] = 1
    return frames


def events_to_frames(
    events: Iterable[Event], classes: Sequence[str], *, num_frames: int, frame_rate: float
) -> np.ndarray:
    """Frame labels <uint8>[T, C] of one clip's events; see `encode_events`."""
    events = list(events)
    index = {label: i for i, label in enumerate(classes)}
    return encode_events(
        [e.onset for e in events],
        [e.offset for e in events],
        [index[e.event_label] for e in events],
        num_frames=num_frames,
        num_classes=len(classes),
        frame_rate=frame_rate,
    )


def frames_to_events(
    decisions: np.ndarray, classes: Sequence[str], *, frame_rate: float, filename: str
) -> list[Event]:
    """Events of one clip: every run of active frames is one (figure 4, last step).

    Args:
      decisions: <bool or int>[T, C].
      classes: C labels.
      frame_rate: frames per second.
      filename: the clip's name, carried into the events.

    Returns:
      Events by class, then by onset.
    """
    active = np.zeros((len(classes), decisions.shape[0] + 2), np.int8)
    active[:, 1:-1] = np.asarray(decisions).T.astype(bool)
    change = np.diff(active, axis=1)
    # Row-major order pairs each class's n-th rise with its n-th fall.
    labels, starts = np.nonzero(change == 1)
    _, stops = np.nonzero(change == -1)
    onsets = frames_to_seconds(starts, frame_rate)
    offsets = frames_to_seconds(stops, frame_rate)
    return [
        Event(filename, float(onset), float(offset), classes[label])
        for onset, offset, label in zip(onsets, offsets, labels.tolist(), strict=True)
    ]


def merge_overlaps(events: Iterable[Event]) -> list[Event]:
    """Joins events of one class and file that overlap or touch; sorted by file, onset, class."""
    merged, _ = join_overlaps(list(events))
    return merged


def join_overlaps(events: Sequence[Event]) -> tuple[list[Event], list[int]]:
    """`merge_overlaps`, and the positions of the events that were joined to an earlier one."""
    merged: list[Event] = []
    joined: list[int] = []
    open_event: dict[tuple[str, str], int] = {}
    for i in sorted(range(len(events)), key=events.__getitem__):
        event = events[i]
        key = (event.filename, event.event_label)
        last = open_event.get(key)
        if last is not None and event.onset <= merged[last].offset:
            merged[last] = merged[last]._replace(offset=max(merged[last].offset, event.offset))
            joined.append(i)
        else:
            open_event[key] = len(merged)
            merged.append(event)
    return merged, sorted(joined)
