"""Event-F1 of each class by threshold, as a curve.

Axis letters: `B` clips, `T` frames, `C` event classes, `K` thresholds.
"""

from collections.abc import Sequence

import numpy as np

from jfsed_jax.sed.events import Event
from jfsed_jax.sed.heights import Spans, median_heights, track_of
from jfsed_jax.sed.threshold_counts import event_counts
from jfsed_jax.sed.tuning import truths_of


def event_f1_curves(
    frames: np.ndarray,
    windows: Sequence[int],
    reference: Sequence[Event],
    thresholds: np.ndarray,
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    frame_rate: float,
    medians: int = 2,
) -> np.ndarray:
    """Event-F1 <float64>[K, C] in percent, NaN of a class without references.

    Args:
      frames: <float>[B, T, C] posteriors, gated.
      windows: of the median filter in frames, one a class.
      reference: events of these clips.
      thresholds: <float64>[K]; frames above one are active.
      filenames, classes, frame_rate: B names, C labels, frames per second.
      medians: how many filters.
    """
    edges = np.arange(frames.shape[1] + 1) / frame_rate
    known = truths_of(reference, np.tile(edges, len(frames)), filenames, classes)
    curves = np.full((len(thresholds), len(classes)), np.nan)
    for c, label in enumerate(classes):
        if total := len(known[label].onset):
            heights = median_heights(track_of(list(frames[..., c])), windows[c], medians)
            counts = event_counts(heights, known[label])
            matched, estimated = (_at(s, thresholds) for s in (counts.matched, counts.estimated))
            curves[:, c] = 200 * matched / (total + estimated)
    return curves


def _at(spans: Spans, thresholds: np.ndarray) -> np.ndarray:
    """How many are there, <int64>[K]: from `low` to below `high`."""
    ends = (spans.low, spans.high)
    begun, ended = (np.searchsorted(np.sort(end), thresholds, "right") for end in ends)
    return begun - ended
