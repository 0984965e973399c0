"""Figure 4: posteriors to events, by the paper's median filters or by a decoder of one's own.

Posteriors are gated by the clip tags, median filtered, binarised, median filtered again, and every
run of active frames is an event. The windows come from `window_rules`. NumPy only: it serves any
system's posteriors.

Axis letters: `B` clips, `T` frames, `C` event classes.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event, frames_to_events


class Decode(Protocol):
    """How posteriors become events; `median_decoder` makes the paper's."""

    def __call__(
        self, clip: np.ndarray | None, frames: np.ndarray, filenames: Sequence[str]
    ) -> list[Event]:
        """The events of B clips, in seconds, clip by clip.

        Args:
          clip: <float>[B, C] clip posteriors, or None: there are none, so no gating.
          frames: <float>[B, T, C] frame posteriors.
          filenames: B names.
        """


class MedianFilters(NamedTuple):
    """What the paper's decoder is told: <float>[C] thresholds, <float>[C] windows in seconds, and
    how many medians."""

    thresholds: Sequence[float] | np.ndarray
    windows: Sequence[float] | np.ndarray
    medians: int = 2


class Detections(NamedTuple):
    """decisions: <bool>[B, T, C]; tags: <bool>[B, C], classes with at least one surviving event."""

    decisions: np.ndarray
    tags: np.ndarray


def median_decoder(
    windows: np.ndarray,
    *,
    classes: Sequence[str],
    frame_rate: float,
    threshold: float | np.ndarray = 0.5,
    medians: int = 2,
) -> Decode:
    """The paper's decoder: `detect_events` with all but the posteriors bound; see there."""

    def decode(
        clip: np.ndarray | None, frames: np.ndarray, filenames: Sequence[str]
    ) -> list[Event]:
        return detect_events(
            clip,
            frames,
            windows,
            filenames=filenames,
            classes=classes,
            frame_rate=frame_rate,
            threshold=threshold,
            medians=medians,
        )

    return decode


def odd_windows(windows: np.ndarray) -> np.ndarray:
    """An even window becomes the next odd one: <int64>, same shape.

    An even window has no middle frame: whichever it is centred on, events move by half a frame in
    one direction and ties need a rule, so mirrored time would not give mirrored events. Rounding
    up rather than down keeps a window of 2 a filter.
    """
    windows = np.asarray(windows, np.int64)
    if np.any(windows < 1):
        raise InputError(f"windows are {windows.tolist()}; expected 1 frame or more")
    return windows | 1


def binary_median(active: np.ndarray, window: int) -> np.ndarray:
    """Median of binary sequences along their last axis.

    Equal to `scipy.ndimage.median_filter(..., mode="reflect")` (the clip continues as its mirror
    image), as a running sum: the median of 0s and 1s is 1 where more than half are.

    Args:
      active: <bool>[..., T].
      window: odd, in frames.

    Returns:
      <bool>[..., T].
    """
    half = window // 2
    if not half or not active.size:
        return active
    padding = [(0, 0)] * (active.ndim - 1) + [(half + 1, half)]
    total = np.cumsum(np.pad(active, padding, mode="symmetric"), axis=-1, dtype=np.int32)
    return total[..., window:] - total[..., :-window] > half


def postprocess(
    clip: np.ndarray | None,
    frames: np.ndarray,
    windows: np.ndarray,
    *,
    threshold: float | np.ndarray = 0.5,
    clip_threshold: float = 0.5,
    medians: int = 2,
) -> Detections:
    """Figure 4: gate, median, binarise, median; B clips at once.

    A probability is positive if it exceeds its threshold. Since binarising keeps order, the median
    of the posteriors exceeds the threshold exactly where the median of the binarised posteriors is
    1 (windows are odd); so both medians run on binary sequences.

    Args:
      clip: <float>[B, C] clip posteriors, or None: no gating.
      frames: <float>[B, T, C] frame posteriors.
      windows: <int>[C] median windows in frames; even ones become odd (`odd_windows`).
      threshold: of the frame posteriors, one or <float>[C], in [0, 1].
      clip_threshold: of the clip posteriors.
      medians: how many filters, 2 in figure 4: on the posteriors and on the decisions.
    """
    frames = np.asarray(frames)
    num_clips, num_frames, num_classes = frames.shape
    windows = np.broadcast_to(odd_windows(windows), num_classes)
    thresholds = np.broadcast_to(np.asarray(threshold, np.float64), num_classes)
    if not np.all((thresholds >= 0) & (thresholds <= 1)):
        raise InputError(f"threshold is {threshold}; expected values from 0 to 1")
    decisions = np.empty((num_clips, num_frames, num_classes), bool)
    for c in range(num_classes):
        # A NumPy float64 compares in float64: a threshold means the same for float16 posteriors.
        active = frames[:, :, c] > thresholds[c]
        if clip is not None:
            active &= np.asarray(clip)[:, c, None] > clip_threshold
        for _ in range(medians):
            active = binary_median(active, windows[c])
        decisions[:, :, c] = active
    return Detections(decisions, np.any(decisions, axis=1))


def detect_events(
    clip: np.ndarray | None,
    frames: np.ndarray,
    windows: np.ndarray,
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    frame_rate: float,
    threshold: float | np.ndarray = 0.5,
    medians: int = 2,
) -> list[Event]:
    """`postprocess`, then the runs of active frames as events in seconds, clip by clip.

    Args:
      clip, frames, windows, threshold, medians: see `postprocess`.
      filenames: B names.
      classes: C labels.
      frame_rate: frames per second of `frames`.
    """
    decisions = postprocess(clip, frames, windows, threshold=threshold, medians=medians).decisions
    return [
        event
        for name, active in zip(filenames, decisions, strict=True)
        for event in frames_to_events(active, classes, frame_rate=frame_rate, filename=name)
    ]
