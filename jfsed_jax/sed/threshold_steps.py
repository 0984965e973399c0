"""How scores follow from counts as the threshold falls, for any choice of the clips.

sed_scores_eval says at which posteriors the counts of a clip change, and by how much; their running
sums, each clip as often as it was drawn, are the operating points of a resample (Ebbers et al.,
arXiv 2201.13148). Resampling so costs a sum, where computing anew would take the clips apart again.

Axis letters: `B` clips, `C` event classes, `N` resamples, `P` changes, `S` kinds of counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Rates of false positives, of equal distance, at which the ROC curve of a resample is known. The
# area under a curve from 0 to 1 is then known to half of one part in so many.
GRID = 2000
HOUR = 3600.0


class Scenario(NamedTuple):
    """The parameters of a PSDS.

    Attributes:
      dtc: share of a detection that must lie in events of its class.
      gtc: share of an event that detections must cover.
      cttc: share of a false detection in events of another class that makes it a cross trigger.
      alpha_ct: weight of cross triggers among false positives; 0: none are counted.
      alpha_st: weight of the deviation over classes, taken off their mean.
      max_efpr: effective false positives per hour up to which the area counts.
    """

    dtc: float = 0.7
    gtc: float = 0.7
    cttc: float = 0.3
    alpha_ct: float = 0.0
    alpha_st: float = 1.0
    max_efpr: float = 100.0


class ThresholdSteps(NamedTuple):
    """How the counts of one class change as the threshold falls.

    Attributes:
      scores: <float64>[P] descending posteriors.
      clips: <int64>[P] rows of the clips.
      changes: <float64>[S, P]: items that are found, false ones, then cross triggers by class.
      last: <int64>[G], of each run of equal posteriors its last place.
    """

    scores: np.ndarray
    clips: np.ndarray
    changes: np.ndarray
    last: np.ndarray


class ClipSums(NamedTuple):
    """What PSDS divides by: <float64>[B] seconds, <float64>[B, C] events and their seconds."""

    seconds: np.ndarray
    events: np.ndarray
    event_seconds: np.ndarray


def steps_of(deltas: Mapping[str, Any], clips: Sequence[str], label: str) -> ThresholdSteps:
    """The steps of one class, from the `deltas` of sed_scores_eval by clip and class."""
    of_clips = [deltas[clip][label] for clip in clips]
    kinds = ["tps", "fps", *(kind for kind in of_clips[0][1] if kind.startswith("cts\\"))]
    lengths = [len(scores) for scores, _ in of_clips]
    scores = np.concatenate([np.asarray(scores, np.float64) for scores, _ in of_clips])
    changes = np.array(
        [np.concatenate([np.asarray(of[kind], np.float64) for _, of in of_clips]) for kind in kinds]
    )
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    last = np.flatnonzero(np.append(scores[1:] < scores[:-1], True)[: len(scores)])
    return ThresholdSteps(
        scores, np.repeat(np.arange(len(clips)), lengths)[order], changes[:, order], last
    )


def counts_above(
    steps: Sequence[ThresholdSteps], thresholds: Sequence[float], references: np.ndarray
) -> np.ndarray:
    """What is found in each clip above a threshold per class: <int64>[B, C, 3].

    Args:
      steps, thresholds: of C classes.
      references: <int64>[B, C] events.
    """
    counts = np.zeros((*references.shape, 3))
    counts[..., 0] = references
    for c, (of_class, threshold) in enumerate(zip(steps, thresholds, strict=True)):
        above = of_class.scores > threshold
        found, false = of_class.changes[:2, above]
        np.add.at(counts[:, c, 1], of_class.clips[above], found + false)
        np.add.at(counts[:, c, 2], of_class.clips[above], found)
    return counts.astype(np.int64)


def average_precisions(steps: Sequence[ThresholdSteps], draws: Iterable[np.ndarray]) -> np.ndarray:
    """Average precision of every resample and class: <float64>[N, C], NaN without an item.

    Args:
      steps: of C classes, down to a threshold that finds everything.
      draws: <float64>[n, B], see `uncertainty.draw_clips`.
    """
    stretches = [_stretches(of_class) for of_class in steps]
    rows = [
        [_average_precision(s, weights) for s in stretches] for block in draws for weights in block
    ]
    return np.array(rows).reshape(-1, len(steps))


def psds_samples(
    steps: Sequence[Sequence[ThresholdSteps]],
    draws: Iterable[np.ndarray],
    clips: ClipSums,
    scenario: Scenario,
) -> tuple[np.ndarray, np.ndarray]:
    """PSDS of every resample and of its classes: <float64>[N] and <float64>[N, C].

    A class that a resample has no event of is NaN and not in the value.

    Args:
      steps: of C classes, each with those of every post-processing to choose from.
      draws: <float64>[n, B], see `uncertainty.draw_clips`.
    """
    stretches = [[_stretches(s) for s in of_class] for of_class in steps]
    values, classwise = [], []
    for block in draws:
        for weights in block:
            rates = _found_rates(stretches, weights, clips, scenario)
            areas = np.full(len(steps), np.nan)
            if not len(rates):
                values.append(np.nan)
                classwise.append(areas)
                continue
            curve = rates.mean(axis=0) - scenario.alpha_st * rates.std(axis=0)
            values.append(np.maximum(curve, 0).mean())
            areas[weights @ clips.events > 0] = rates.mean(axis=1)
            classwise.append(areas)
    return np.array(values), np.array(classwise).reshape(-1, len(steps))


class _Stretches(NamedTuple):
    """ThresholdSteps, and the stretches of thresholds in which the same items are found.

    Attributes:
      moves: <int64>[F], the changes of what is found.
      starts: <int64>[K], where in `last` a stretch begins.
      until: <int64>[K], how many of the moves have been made by then.
    """

    steps: ThresholdSteps
    moves: np.ndarray
    starts: np.ndarray
    until: np.ndarray

    def found(self, weights: np.ndarray) -> np.ndarray:
        """Found items in each stretch: <float64>[K]."""
        made = weights[self.steps.clips[self.moves]] * self.steps.changes[0, self.moves]
        return np.append(0.0, np.cumsum(made))[self.until]

    def running(self, weights: np.ndarray, changes: np.ndarray | None = None) -> np.ndarray:
        """At each of `last` the sum of drawn changes <float64>[P], or of drawn steps."""
        drawn = np.take(weights, self.steps.clips, mode="clip")  # its quick mode; all are inside
        if changes is not None:
            drawn *= changes
        sums = np.cumsum(drawn, out=drawn)
        return sums if len(self.steps.last) == len(sums) else sums[self.steps.last]


def _stretches(steps: ThresholdSteps) -> _Stretches:
    moves = np.flatnonzero(steps.changes[0])
    starts = np.unique(np.append(0, np.searchsorted(steps.last, moves)))[: len(steps.last)]
    until = np.searchsorted(moves, steps.last[starts], side="right")
    return _Stretches(steps, moves, starts, until)


def _average_precision(stretches: _Stretches, weights: np.ndarray) -> float:
    found = stretches.found(weights)
    if not len(found) or not found[-1]:
        return np.nan
    listed = stretches.running(weights)[stretches.starts]
    gains = np.diff(found, prepend=0.0)
    return float(np.sum(gains * found / np.maximum(listed, 1)) / found[-1])


def _found_rates(
    stretches: Sequence[Sequence[_Stretches]],
    weights: np.ndarray,
    clips: ClipSums,
    scenario: Scenario,
) -> np.ndarray:
    """ROC curves of the classes with events: the best share that is found at each rate of GRID."""
    hours = weights @ clips.seconds / HOUR
    events, seconds = weights @ clips.events, weights @ clips.event_seconds
    present = np.flatnonzero(events).tolist()
    rates = np.zeros((len(present), GRID))
    for row, c in zip(rates, present, strict=True):
        # Of the other classes in their order; those without events trigger nothing.
        others = np.delete(seconds, c)
        dues = np.divide(1.0, others, out=np.zeros_like(others), where=others > 0)
        dues *= scenario.alpha_ct * HOUR / max(1, int(np.count_nonzero(dues)))
        for of_class in stretches[c]:
            if not len(of_class.starts):
                continue
            changes = of_class.steps.changes
            costs = changes[1] / hours
            if len(changes) > 2:
                costs += dues @ changes[2:]
            # As long as the same is found, the point with the least false ones counts.
            least = np.minimum.reduceat(of_class.running(weights, costs), of_class.starts)
            # A point is on the grid from the first stretch on whose middle it lies before.
            place = np.maximum(np.ceil(least * (GRID / scenario.max_efpr) - 0.5), 0)
            counts = place < GRID
            np.maximum.at(row, place[counts].astype(np.int64), of_class.found(weights)[counts])
        np.maximum.accumulate(row, out=row)
        row /= events[c]
    return rates
