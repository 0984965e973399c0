"""Events with an extent and a confidence of their own, from where posteriors change.

After J. Ebbers, F. Germain, G. Wichern and J. Le Roux, "Sound Event Bounding Boxes", Interspeech
2024 (arXiv 2406.04212), from the paper's description. A threshold on posteriors decides at once
whether there is an event and how long it is. Here a step filter finds where the posteriors of a
class rise and fall most: its maxima are candidate onsets, its minima candidate offsets. What lies
between is a candidate event or a gap; events are joined over gaps that are hardly lower. Then the
mean posterior of an event is its confidence, and only that is compared with the threshold.

What the description leaves open, and what is done:

- At the ends of a clip its first and last posterior go on, so that an end is no change. A clip that
  begins with a fall begins within an event, one that ends after a rise ends within one; without
  any change it is one candidate.
- Of a flat extremum the middle counts, rounded down.
- A gap is hardly lower if either criterion says so, beside the higher of its two events (see
  `ChangePoints`): beside the lower one, the ripple of silence, of which each crest is a candidate,
  would join all of a clip.
- All gaps that are hardly lower are closed at once, then confidences are taken anew, until none is
  left: so the order does not matter, and each round costs one pass.

Posteriors are rounded to `2**-30` and summed as integers: sums are exact however long a recording
is, and what is constant has no extrema.

Axis letters: `B` clips, `T` frames, `N` frames of all clips, `C` classes, `K` segments.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from jfsed_jax.sed.events import Event, frames_to_events
from jfsed_jax.sed.heights import Track, track_of
from jfsed_jax.sed.postprocessing import Decode

_UNIT = 2**30  # integers in a posterior of 1


class ChangePoints(NamedTuple):
    """The settings of a class.

    Attributes:
      filter: seconds of the step filter, half of them on either side.
      merge_absolute: two events are joined if their gap's confidence is at most so far below the
        higher one of theirs.
      merge_relative: or if the higher one is at most so many times the gap's.
    """

    filter: float = 0.48
    merge_absolute: float = 0.2
    merge_relative: float = 1.5


class Segments(NamedTuple):
    """Candidate events and the gaps between them, in turn, clip after clip.

    Attributes:
      start: <int64>[K] among all frames; a segment ends where the next one begins.
      active: <bool>[K], whether it is a candidate event.
      clip: <int64>[K].
      total: <int64>[K] sums of posteriors.
      frames: <int64>[K] how many they are.
    """

    start: np.ndarray
    active: np.ndarray
    clip: np.ndarray
    total: np.ndarray
    frames: np.ndarray


def change_point_decoder(
    windows: np.ndarray | None,
    *,
    classes: Sequence[str],
    frame_rate: float,
    threshold: float | np.ndarray = 0.5,
    settings: Sequence[ChangePoints] | None = None,
    time_rate: float | None = None,
) -> Decode:
    """The decoder, as `postprocessing.median_decoder` makes the paper's.

    Args:
      windows: not used: there are no median filters.
      classes, frame_rate: C labels, frames of the posteriors per second.
      threshold: of the confidences, one or <float>[C].
      settings: of each class; those of `ChangePoints`, which are not tuned, if None.
      time_rate: frames in one unit of the events' times: 1 tells frames, None seconds.
    """
    thresholds = np.broadcast_to(np.asarray(threshold, np.float64), len(classes))
    settings = settings or [ChangePoints()] * len(classes)

    def decode(
        clip: np.ndarray | None, frames: np.ndarray, filenames: Sequence[str]
    ) -> list[Event]:
        active = np.zeros(frames.shape, bool)
        for c, own in enumerate(settings):
            posteriors = frames[:, :, c]
            if clip is not None:
                posteriors = posteriors * (np.asarray(clip)[:, c, None] > 0.5)
            found = segments(track_of(list(posteriors)), half_filter(own.filter, frame_rate))
            heights = merged(found, own.merge_absolute, own.merge_relative)
            active[:, :, c] = heights.reshape(active.shape[:2]) > thresholds[c]
        return [
            event
            for name, own in zip(filenames, active, strict=True)
            for event in frames_to_events(
                own, classes, frame_rate=time_rate or frame_rate, filename=name
            )
        ]

    return decode


def change_point_candidates(
    filters: Sequence[float],
    absolutes: Sequence[float],
    relatives: Sequence[float],
    *,
    frame_rate: float,
) -> Callable[[Track], Iterator[tuple[dict[str, float], Track]]]:
    """Every combination of settings, for `tuning.tune_classes`."""

    def tried(track: Track) -> Iterator[tuple[dict[str, float], Track]]:
        for length in filters:
            found = segments(track, half_filter(length, frame_rate))
            for absolute, relative in product(absolutes, relatives):
                heights = merged(found, absolute, relative)
                yield (
                    ChangePoints(length, absolute, relative)._asdict(),
                    Track(heights, track.starts),
                )

    return tried


def half_filter(seconds: float, frame_rate: float) -> int:
    """Half of a step filter in frames, 1 or more."""
    return max(int(seconds * frame_rate / 2 + 0.5), 1)


def segments(posteriors: Track, half: int) -> Segments:
    """Candidate events and gaps.

    Args:
      posteriors: of one class in all clips.
      half: frames of either half of the step filter.
    """
    counted = np.rint(posteriors.values * _UNIT).astype(np.int64)
    lengths = np.diff(posteriors.starts)
    filled = np.flatnonzero(lengths)
    lengths, first = lengths[filled], posteriors.starts[:-1][filled]
    # The boundaries before each frame and behind the last one, clip after clip.
    clip = np.repeat(np.arange(len(filled)), lengths + 1)
    begin = np.cumsum(lengths + 1) - (lengths + 1)
    at = np.arange(len(clip)) - begin[clip]
    change = _step_filter(counted, at, first[clip], lengths[clip], half)
    # Runs of equal values; one at an end of its clip is no extremum.
    run = np.flatnonzero(
        np.append(True, (np.diff(change) != 0) | (np.diff(clip) != 0))[: len(clip)]
    )
    last = np.append(run[1:], len(clip)) - 1
    value, of = change[run], clip[run]
    inner = (of[1:-1] == of[:-2]) & (of[1:-1] == of[2:])
    up, down = value[1:-1] > value[:-2], value[1:-1] > value[2:]
    extremum = np.flatnonzero(inner & (up == down)) + 1
    rise = up[extremum - 1]
    middle = (run[extremum] + last[extremum]) // 2
    # A clip begins with the segment that its first extremum ends.
    opened = np.ones(len(filled), bool)
    firsts = np.unique(of[extremum], return_index=True)
    opened[firsts[0]] = ~rise[firsts[1]]
    start = np.concatenate([first, first[of[extremum]] + at[middle]])
    order = np.argsort(start, kind="stable")
    start = start[order]
    return Segments(
        start,
        np.concatenate([opened, rise])[order],
        np.concatenate([np.arange(len(filled)), of[extremum]])[order],
        np.add.reduceat(counted, start) if len(start) else start,
        np.diff(np.append(start, len(counted))),
    )


def _step_filter(
    values: np.ndarray, at: np.ndarray, first: np.ndarray, length: np.ndarray, half: int
) -> np.ndarray:
    """The sum of the half filter behind a boundary less that before it, exactly.

    Args:
      values: <int64>[N].
      at: boundaries in frames of their clip; `first` and `length` are those of that clip.
    """
    sums = np.append(0, np.cumsum(values))
    here = sums[first + at]
    after, before = np.minimum(at + half, length), np.maximum(at - half, 0)
    behind = sums[first + after] - here + (at + half - after) * values[first + length - 1]
    return behind - (here - sums[first + before] + (before - at + half) * values[first])


def merged(found: Segments, absolute: float, relative: float) -> np.ndarray:
    """The confidence of the event that each frame is in, 0 in gaps: heights <float64>[N].

    A round closes all gaps that can be closed and is one pass. Few are needed, but on a staircase
    of events, each hardly lower than what was joined so far, there are as many as events.
    """
    start, active, clip, total, frames = found
    while len(start):
        mean = total / frames
        higher = np.maximum(mean[:-2], mean[2:])
        gap = mean[1:-1]
        close = ~active[1:-1] & (clip[:-2] == clip[1:-1]) & (clip[1:-1] == clip[2:])
        close &= (higher - gap <= absolute * _UNIT) | (higher <= relative * gap)
        closed = np.flatnonzero(close) + 1
        if not len(closed):
            break
        joined = np.zeros(len(start), bool)
        joined[closed] = joined[closed + 1] = True
        kept = np.flatnonzero(~joined)
        total, frames = np.add.reduceat(total, kept), np.add.reduceat(frames, kept)
        start, active, clip = start[kept], active[kept], clip[kept]
    return np.repeat(np.where(active, total / frames / _UNIT, 0.0), frames)
