"""Event-specific post-processing (section 2.4, equation 7, figures 4 and 7): posteriors to events.

Windows come from the durations of strong labels; posteriors are gated by the clip tags, median
filtered, binarised, median filtered again, and every run of active frames is an event. NumPy only:
it serves any system's posteriors.

Axis letters: `B` clips, `T` frames, `C` event classes, `N` events of one class.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy import stats

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event, frames_to_events

Rule = Literal["esp", "avg", "fixed"]
Knee = Literal["chord", "mode"]

# The scaling factor of equation 7. The paper prints 1/3; Guided Learning, whose `avg` rule it
# extends, computes with 0.333 and truncates twice, and its published windows (42 for Blender at
# 50 frames/s) are only met with that number. Both rules use it, so that they differ in N_c alone.
ETA = 0.333

# A distribution has a clear knee if its CDF rises higher than this above its chord [ours]. On real
# strong labels, knees above it hold under resampling and those below wander (docs/windows.md); a
# uniform sample of 17 events or more reaches it in fewer than 5 % of cases.
CLEAR_KNEE = 0.3


class ClassWindow(NamedTuple):
    """How long the events of one class last, and the median windows that follow.

    Attributes:
      label: the class.
      num_events: N.
      mean: mean duration in seconds (0 without events).
      knee_index: N_c of equation 7: how many of the shortest events count.
      knee: duration in seconds of the N_c-th shortest event.
      height: largest height of the normalised CDF above its chord, 0 to 1.
      clear_knee: whether that is enough; if not, knee_index is N and esp equals avg.
      fixed, avg, esp: window of each rule in frames, at least 1.
    """

    label: str
    num_events: int
    mean: float
    knee_index: int
    knee: float
    height: float
    clear_knee: bool
    fixed: int
    avg: int
    esp: int


class Detections(NamedTuple):
    """decisions: <bool>[B, T, C]; tags: <bool>[B, C], classes with at least one surviving event."""

    decisions: np.ndarray
    tags: np.ndarray


def durations_by_class(events: Iterable[Event], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Per class the durations <float64>[N] of its events in seconds, short to long."""
    durations: dict[str, list[float]] = {label: [] for label in classes}
    for event in events:
        if event.event_label in durations:
            durations[event.event_label].append(event.offset - event.onset)
    return {label: np.sort(np.asarray(d, np.float64)) for label, d in durations.items()}


def class_windows(
    durations: Mapping[str, np.ndarray],
    *,
    frame_rate: float,
    knee: Knee = "chord",
    clear_knee: float = CLEAR_KNEE,
    eta: float = ETA,
    fixed: int = 5,
) -> list[ClassWindow]:
    """The windows of every class by all three rules (equation 7).

    Args:
      durations: per class <float64>[N] seconds; see `durations_by_class`.
      frame_rate: frames per second of the posteriors to be filtered.
      knee: where the inflection point is: "chord", the largest vertical distance of the CDF above
        its chord, or "mode", the steepest point of the CDF (the densest duration).
      clear_knee: height above the chord, 0 to 1, that a clear knee exceeds.
      eta: scaling factor.
      fixed: frames; the window of the fixed rule, and of a class without events under every rule.
    """
    if knee not in get_args(Knee):
        raise InputError(f"knee is {knee!r}; expected one of {', '.join(get_args(Knee))}")
    reports = []
    for label, unsorted in durations.items():
        lengths = np.sort(np.asarray(unsorted, np.float64))
        count = len(lengths)
        if not count:
            reports.append(ClassWindow(label, 0, 0.0, 0, 0.0, 0.0, False, fixed, fixed, fixed))
            continue
        index, height = chord_knee(lengths)
        clear = height > clear_knee
        if not clear:
            index = count
        elif knee == "mode":
            index = mode_knee(lengths)
        reports.append(
            ClassWindow(
                label=label,
                num_events=count,
                mean=float(lengths.mean()),
                knee_index=index,
                knee=float(lengths[index - 1]),
                height=height,
                clear_knee=clear,
                fixed=fixed,
                avg=window_size(lengths, frame_rate, eta),
                esp=window_size(lengths[:index], frame_rate, eta),
            )
        )
    return reports


def window_sizes(windows: Iterable[ClassWindow], rule: Rule) -> np.ndarray:
    """The windows <int64>[C] in frames that one rule gives."""
    if rule not in get_args(Rule):
        raise InputError(f"rule is {rule!r}; expected one of {', '.join(get_args(Rule))}")
    return np.array([getattr(window, rule) for window in windows], np.int64)


def window_size(lengths: np.ndarray, frame_rate: float, eta: float = ETA) -> int:
    """Equation 7: eta times the mean of the durations <float64>[N_c] in seconds, in frames."""
    return max(1, int(int(lengths.mean() * frame_rate) * eta))


def chord_knee(lengths: np.ndarray) -> tuple[int, float]:
    """N_c and height where the CDF is furthest above the chord from its first to its last point.

    Args:
      lengths: <float64>[N] durations, short to long, N >= 1.

    Returns:
      N_c (N where all durations are equal) and the height there, both axes scaled to [0, 1].
    """
    span = lengths[-1] - lengths[0]
    if span <= 0:
        return len(lengths), 0.0
    heights = np.linspace(0, 1, len(lengths)) - (lengths - lengths[0]) / span
    index = int(np.argmax(heights))
    return index + 1, float(heights[index])


def mode_knee(lengths: np.ndarray) -> int:
    """N_c at the steepest point of the CDF, the mode of a Gaussian kernel density estimate.

    Args:
      lengths: <float64>[N] durations, short to long, not all equal.
    """
    grid = np.linspace(lengths[0], lengths[-1], 256)
    mode = grid[np.argmax(stats.gaussian_kde(lengths)(grid))]
    return max(1, int(np.searchsorted(lengths, mode, side="right")))


def resampled_knees(
    lengths: np.ndarray,
    *,
    frame_rate: float,
    knee: Knee = "chord",
    eta: float = ETA,
    num_resamples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """How far the knee moves when the events are drawn anew with replacement, clear or not.

    Returns:
      <float64>[num_resamples, 4]: knee in seconds, N_c / N, window in frames, height above chord.
    """
    rng = np.random.default_rng(seed)
    found = np.empty((num_resamples, 4))
    for i in range(num_resamples):
        drawn = np.sort(rng.choice(lengths, len(lengths)))
        index, height = chord_knee(drawn)
        if knee == "mode" and drawn[0] < drawn[-1]:
            index = mode_knee(drawn)
        window = window_size(drawn[:index], frame_rate, eta)
        found[i] = drawn[index - 1], index / len(drawn), window, height
    return found


def format_windows(windows: Sequence[ClassWindow]) -> str:
    """The windows as a text table; seconds with two decimals, windows in frames."""
    width = max(len(window.label) for window in windows)
    lines = [f"{'class':{width}}  events   mean   knee    N_c  height  clear  fixed  avg  esp"]
    for w in windows:
        clear = "yes" if w.clear_knee else "no"
        lines.append(
            f"{w.label:{width}}  {w.num_events:6d} {w.mean:6.2f} {w.knee:6.2f} {w.knee_index:6d}  "
            f"{w.height:6.3f}  {clear:>5}  {w.fixed:5d} {w.avg:4d} {w.esp:4d}"
        )
    return "\n".join(lines)


def format_stability(resampled: Mapping[str, np.ndarray]) -> str:
    """The 90 % intervals of `resampled_knees` per class as a text table."""
    width = max(map(len, resampled))
    lines = [f"{'class':{width}}  knee in s     N_c / N       window     height"]
    for label, found in resampled.items():
        low, high = np.quantile(found, [0.05, 0.95], axis=0)
        lines.append(
            f"{label:{width}}  {low[0]:4.2f}-{high[0]:<5.2f}    {low[1]:.2f}-{high[1]:.2f}  "
            f"{low[2]:6.0f}-{high[2]:<3.0f}    {low[3]:.2f}-{high[3]:.2f}"
        )
    return "\n".join(lines)


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
        active = binary_median(active, windows[c])
        decisions[:, :, c] = binary_median(active, windows[c])
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
) -> list[Event]:
    """`postprocess`, then the runs of active frames as events in seconds, clip by clip.

    Args:
      clip, frames, windows, threshold: see `postprocess`.
      filenames: B names.
      classes: C labels.
      frame_rate: frames per second of `frames`.
    """
    decisions = postprocess(clip, frames, windows, threshold=threshold).decisions
    return [
        event
        for name, active in zip(filenames, decisions, strict=True)
        for event in frames_to_events(active, classes, frame_rate=frame_rate, filename=name)
    ]
