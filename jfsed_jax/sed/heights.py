"""What a decoder makes of posteriors before its threshold: heights, and all events they hold.

Both decoders can be written so: a frame is active where its height exceeds the threshold, and runs
of active frames are events. The paper's heights are posteriors that went through the median filter
(twice: the median of decisions is the decision on the median); those of `change_points` are the
confidences of its boxes. So an event is there from one threshold to another, and what every
threshold gives is known from one pass.

Axis letters: `B` clips, `N` frames of all clips, `K` events.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.sed.postprocessing import odd_windows


class Track(NamedTuple):
    """One class in all clips, clip after clip.

    Attributes:
      values: <float64>[N], posteriors or heights.
      starts: <int64>[B + 1], where each clip begins among them; the last is N.
    """

    values: np.ndarray
    starts: np.ndarray


class Boxes(NamedTuple):
    """Events of one class, each there for thresholds from `low` to below `high`.

    Attributes:
      clip: <int64>[K].
      start, stop: <int64>[K] in frames of the clip, the latter exclusive.
      low, high: <float64>[K].
    """

    clip: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    low: np.ndarray
    high: np.ndarray


def track_of(clips: Sequence[np.ndarray]) -> Track:
    """One class's posteriors in each clip, <float>[T] each; what rounding left outside 0 to 1 is
    brought there."""
    starts = np.cumsum([0, *map(len, clips)])
    values = np.concatenate([np.zeros(0), *clips])
    return Track(np.clip(values.astype(np.float64), 0.0, 1.0), starts)


def median_heights(posteriors: Track, window: int, medians: int = 2) -> Track:
    """The heights of `postprocessing.postprocess`.

    Args:
      window: in frames; an even one becomes odd.
      medians: how many filters.
    """
    from scipy import ndimage

    size = int(odd_windows(np.array(window)))
    half, lengths = size // 2, np.diff(posteriors.starts)
    heights = posteriors.values.copy()
    for length in np.unique(lengths[lengths > 0]).tolist() if half else []:
        first = posteriors.starts[:-1][lengths == length]
        frames = first[:, None] + np.arange(length)
        frames = frames[heights[frames].any(axis=1)]  # silence stays silence
        rows = heights[frames]
        for _ in range(medians):
            # In one dimension scipy's filter is fast; clips end in their mirror images.
            padded = np.pad(rows, ((0, 0), (half, half)), mode="symmetric")
            flat = ndimage.median_filter(padded.ravel(), size)
            rows = flat.reshape(padded.shape)[:, half:-half]
        heights[frames] = rows
    return Track(heights, posteriors.starts)


class Spans(NamedTuple):
    """Where events begin: one does in `clip` for each threshold from `low` to below `high`."""

    clip: np.ndarray
    low: np.ndarray
    high: np.ndarray


def onsets(heights: Track) -> Spans:
    """As many begin as there are events."""
    walled, walls = _walled(heights)
    rise = np.flatnonzero(walled[1:] > walled[:-1]) + 1
    rise = rise[walled[rise] > 0]
    clip = np.searchsorted(walls, rise, side="right") - 1
    return Spans(clip, np.maximum(walled[rise - 1], 0.0), walled[rise])


def boxes(heights: Track) -> Boxes:
    """All events that thresholds from 0 to 1 give, each once."""
    walled, walls = _walled(heights)
    place = np.flatnonzero(np.diff(walled, prepend=2.0))  # equal neighbours are one
    values = walled[place]
    above = np.flatnonzero(values > 0)
    left = _last_lower(values, above, equal=True)
    # Of several places that are equally low in one event, the first one stands for it.
    first = values[left] < values[above]
    above, left = above[first], left[first]
    end = len(values) - 1
    right = end - _last_lower(values[::-1], end - above, equal=False)
    start = place[left + 1]
    clip = np.searchsorted(walls, start, side="right") - 1
    shift = walls[clip] + 1
    low = np.maximum(np.maximum(values[left], values[right]), 0.0)
    return Boxes(clip, start - shift, place[right] - shift, low, values[above])


def _walled(track: Track) -> tuple[np.ndarray, np.ndarray]:
    """The values with -1 before each clip and behind the last, and where these stand."""
    walls = track.starts + np.arange(len(track.starts))
    inside = np.ones(len(track.values) + len(walls), bool)
    inside[walls] = False
    walled = np.full(len(inside), -1.0)
    walled[inside] = track.values
    return walled, walls


def _last_lower(values: np.ndarray, places: np.ndarray, *, equal: bool) -> np.ndarray:
    """For each place the last one before it with a lower value, which must be there.

    Up a tree of minima of pairs until there is one on the left, then down to it: about 2 log N
    steps for all places at once.

    Args:
      equal: an equal value will do.
    """
    lower = np.less_equal if equal else np.less
    levels: list[np.ndarray] = []
    while not levels or len(values) > 1:
        levels.append(np.append(values, np.inf) if len(values) % 2 else values)
        values = np.minimum(levels[-1][::2], levels[-1][1::2])
    wanted = levels[0][places]
    at, height = places.copy(), np.zeros(len(places), np.int64)
    todo = np.arange(len(places))
    for h, level in enumerate(levels):
        here = at[todo]
        found = (here % 2 == 1) & lower(level[here - 1], wanted[todo])
        at[todo[found]] -= 1
        height[todo[found]] = h
        todo = todo[~found]
        at[todo] //= 2
    for h in range(len(levels) - 2, -1, -1):
        down = np.flatnonzero(height > h)
        right = 2 * at[down] + 1
        at[down] = right - ~lower(levels[h][right], wanted[down])
    return at
