"""Median windows from the durations of strong labels (section 2.4, equation 7, figure 7).

A window rule is a function from the durations of one class to a window. `RULES` holds the paper's
by the names that configs use; one's own stands beside them: `RULES | {"mine": function}`. NumPy
only: it serves any system's posteriors.

Axis letters: `C` event classes, `N` events of one class.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event

KneeKind = Literal["chord", "mode"]


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """What rules are told beside the durations; values and reasons: `configs.base`, `postprocess`.

    Attributes:
      eta: scaling factor of equation 7.
      knee: where the inflection point is: "chord", the largest vertical distance of the CDF above
        its chord, or "mode", the steepest point of the CDF (the densest duration).
      clear_knee: height above the chord, 0 to 1, that a clear knee exceeds.
      fixed_frames: the window of the fixed rule, and of a class without events under every rule.
    """

    eta: float
    knee: KneeKind
    clear_knee: float
    fixed_frames: int

    def __post_init__(self) -> None:
        if self.knee not in get_args(KneeKind):
            expected = ", ".join(get_args(KneeKind))
            raise InputError(f"knee is {self.knee!r}; expected one of {expected}")


def rule_options(page: Mapping[str, Any], **changes: Any) -> RuleOptions:
    """The options of a config's ``postprocess`` page, some of them changed."""
    return RuleOptions(
        **{**{field.name: page[field.name] for field in fields(RuleOptions)}, **changes}
    )


class Rule(Protocol):
    """How long the median window of a class is."""

    def __call__(self, lengths: np.ndarray, *, frame_rate: float, options: RuleOptions) -> int:
        """The window in frames, 1 or more.

        Args:
          lengths: <float64>[N] durations in seconds, short to long, N >= 1.
          frame_rate: frames per second of the posteriors to be filtered.
        """


class Knee(NamedTuple):
    """Where the distribution of durations bends.

    Attributes:
      num_events: N_c of equation 7: how many of the shortest count; N without a clear knee.
      height: largest height of the normalised CDF above its chord, 0 to 1.
      clear: whether that is enough.
    """

    num_events: int
    height: float
    clear: bool


class ClassWindow(NamedTuple):
    """How long the events of one class last, and the windows of the paper's rules that follow.

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


def durations_by_class(events: Iterable[Event], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Per class the durations <float64>[N] of its events in seconds, short to long."""
    durations: dict[str, list[float]] = {label: [] for label in classes}
    for event in events:
        if event.event_label in durations:
            durations[event.event_label].append(event.offset - event.onset)
    return {label: np.sort(np.asarray(d, np.float64)) for label, d in durations.items()}


def fixed(lengths: np.ndarray, *, frame_rate: float, options: RuleOptions) -> int:
    """One window for all classes."""
    return options.fixed_frames


def avg(lengths: np.ndarray, *, frame_rate: float, options: RuleOptions) -> int:
    """Guided Learning's: from the mean of all durations."""
    return window_size(lengths, frame_rate=frame_rate, eta=options.eta)


def esp(lengths: np.ndarray, *, frame_rate: float, options: RuleOptions) -> int:
    """The paper's (equation 7): from the mean of the durations up to the knee."""
    counted = lengths[: find_knee(lengths, options).num_events]
    return window_size(counted, frame_rate=frame_rate, eta=options.eta)


RULES: dict[str, Rule] = {"esp": esp, "avg": avg, "fixed": fixed}


def window_sizes(
    durations: Mapping[str, np.ndarray],
    rule: str,
    *,
    frame_rate: float,
    options: RuleOptions,
    rules: Mapping[str, Rule] = RULES,
) -> np.ndarray:
    """The windows <int64>[C] in frames that one rule gives; `fixed_frames` without events.

    Args:
      durations: per class <float64>[N] seconds; see `durations_by_class`.
      rule: a name in `rules`.
      frame_rate: frames per second of the posteriors to be filtered.
    """
    if rule not in rules:
        raise InputError(f"rule is {rule!r}; expected one of {', '.join(rules)}")
    sizes = [
        rules[rule](
            np.sort(np.asarray(lengths, np.float64)), frame_rate=frame_rate, options=options
        )
        if len(lengths)
        else options.fixed_frames
        for lengths in durations.values()
    ]
    return np.array(sizes, np.int64)


def class_windows(
    durations: Mapping[str, np.ndarray], *, frame_rate: float, options: RuleOptions
) -> list[ClassWindow]:
    """Durations, knee and the paper's windows of every class; see `window_sizes`."""
    sizes = {
        rule: window_sizes(durations, rule, frame_rate=frame_rate, options=options).tolist()
        for rule in ("fixed", "avg", "esp")
    }
    reports = []
    for c, (label, unsorted) in enumerate(durations.items()):
        lengths = np.sort(np.asarray(unsorted, np.float64))
        knee = find_knee(lengths, options) if len(lengths) else Knee(0, 0.0, False)
        reports.append(
            ClassWindow(
                label=label,
                num_events=len(lengths),
                mean=float(lengths.mean()) if len(lengths) else 0.0,
                knee_index=knee.num_events,
                knee=float(lengths[knee.num_events - 1]) if len(lengths) else 0.0,
                height=knee.height,
                clear_knee=knee.clear,
                **{rule: sizes[rule][c] for rule in sizes},
            )
        )
    return reports


def window_size(lengths: np.ndarray, *, frame_rate: float, eta: float) -> int:
    """Equation 7: eta times the mean of the durations <float64>[N_c] in seconds, in frames."""
    return max(1, int(int(lengths.mean() * frame_rate) * eta))


def find_knee(lengths: np.ndarray, options: RuleOptions) -> Knee:
    """The knee of the durations <float64>[N] in seconds, short to long, N >= 1."""
    index, height = chord_knee(lengths)
    if not height > options.clear_knee:
        return Knee(len(lengths), height, False)
    return Knee(mode_knee(lengths) if options.knee == "mode" else index, height, True)


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
    from scipy import stats  # for this rule alone a third of what a start of training imports

    grid = np.linspace(lengths[0], lengths[-1], 256)
    mode = grid[np.argmax(stats.gaussian_kde(lengths)(grid))]
    return max(1, int(np.searchsorted(lengths, mode, side="right")))


def resampled_knees(
    lengths: np.ndarray,
    *,
    frame_rate: float,
    options: RuleOptions,
    num_resamples: int,
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
        if options.knee == "mode" and drawn[0] < drawn[-1]:
            index = mode_knee(drawn)
        window = window_size(drawn[:index], frame_rate=frame_rate, eta=options.eta)
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
