"""How sure a score is: over the choice of clips (the bootstrap) and over the seeds of training.

A resample draws as many clips as there are, with replacement; each seed is scored on the clips that
were drawn, and seeds are averaged. Equal `seed` and equal numbers of clips make equal draws,
whatever is scored: differences between systems are taken draw by draw. How other seeds would do no
resample knows, least of two or three; their part of an interval is Student's.

Axis letters: `B` clips, `C` event classes, `N` resamples, `K` seeds.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jfsed_jax.sed.scoring import Counts, f1_of_counts

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
# Fewer with an event, or in which two systems differ, make no interval: of two that are alike, five
# such clips all speak for the same one once in 16 times.
FEWEST_CLIPS = 6
_WEIGHTS_AT_ONCE = 2**21  # 16 MiB

Interval = tuple[float, float]


class Sampled(NamedTuple):
    """A score with what its interval is made of; NaN where undefined.

    Attributes:
      value: of all clips, in the mean over the seeds.
      samples: <float64>[N] of the resamples, likewise.
      left_out: <float64>[B] of all clips but one, for each of them; empty if not known.
      seeds: <float64>[K] of all clips, of each seed; in a difference of systems with other numbers
        of seeds, those of both.
      limits: what it can be.
      counts: of each seed, what it is made of, <int64>[B, C, 3]; empty if it is not of counts.
    """

    value: float
    samples: np.ndarray
    left_out: np.ndarray = np.empty(0)
    seeds: tuple[np.ndarray, ...] = ()
    limits: Interval = (-np.inf, np.inf)
    counts: tuple[np.ndarray, ...] = ()

    def less(self, other: "Sampled") -> "Sampled":
        """This score less another of the same draws; as many seeds are pairs."""
        known = len(self.left_out) == len(other.left_out)
        paired = [len(of) for of in self.seeds] == [len(of) for of in other.seeds]
        return Sampled(
            self.value - other.value,
            self.samples - other.samples,
            self.left_out - other.left_out if known else np.empty(0),
            tuple(a - b for a, b in zip(self.seeds, other.seeds, strict=True))
            if paired
            else self.seeds + other.seeds,
        )

    def rests_on_enough(self) -> bool:
        """Whether `FEWEST_CLIPS` have a reference item, or if that is not known, are there."""
        if self.counts:
            return int(np.sum(self.counts[0][..., 0].any(axis=-1))) >= FEWEST_CLIPS
        return not 0 < len(self.left_out) < FEWEST_CLIPS

    def differs_enough(self, other: "Sampled") -> bool:
        """Whether as many clips count otherwise in the other score."""
        paired = len(self.counts) == len(other.counts)
        pairs = (zip if paired else itertools.product)(self.counts, other.counts)
        differing = [(a != b).any(axis=(-2, -1)) for a, b in pairs]
        return not differing or int(np.sum(np.any(differing, axis=0))) >= FEWEST_CLIPS

    def error_of_seeds(self, tail: float) -> float:
        """How far off the mean over the seeds may be: Student's quantile of its standard error."""
        from scipy import special  # late: most that imports this asks for no interval

        squared = 0.0
        for of in self.seeds:
            if len(of) > 1:
                error = np.std(of, ddof=1) / np.sqrt(len(of))
                squared += (special.stdtrit(len(of) - 1, tail) * error) ** 2
        return float(np.sqrt(squared))


class Difference(NamedTuple):
    """How much better than the first system, in the unit of the score; None where undefined.

    Attributes:
      difference: of the scores of all clips.
      interval: of it; None also if it rests on fewer than `FEWEST_CLIPS`.
      share_better: of the resamples that are ahead; None of several seeds.
    """

    difference: float | None
    interval: Interval | None
    share_better: float | None


class Estimate(NamedTuple):
    """A system's score, how sure it is, and how much better than the first system's.

    Attributes:
      value: of all clips, in the mean over the seeds; None where undefined.
      interval: of it; None also if it rests on fewer than `FEWEST_CLIPS`.
      against_first: None of the first system, and of a score that the first one does not have.
    """

    value: float | None
    interval: Interval | None
    against_first: Difference | None


def compare_systems(
    systems: Mapping[str, Sequence[Counts]],
    *,
    classes: Sequence[str] = (),
    num_resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, dict[str, Estimate]]:
    """Scores of systems on the same clips, their 95 % intervals, and differences to the first.

    Args:
      systems: by name, of each seed the counts <int64>[B, C, 3] by score, from `score_clips` on the
        same clips in the same order. Of systems with equally many seeds the k-th of each are
        taken for a pair.
      classes: C labels, for scores of each class.

    Returns:
      By system, and by "NAME/macro", "NAME/micro" and, with `classes`, "NAME/classwise/LABEL"; in
      percent.
    """
    sampled = {
        name: sample_scores(of_seeds, classes=classes, num_resamples=num_resamples, seed=seed)
        for name, of_seeds in systems.items()
    }
    return compare_samples(sampled)


def compare_samples(
    systems: Mapping[str, Mapping[str, Sampled]],
) -> dict[str, dict[str, Estimate]]:
    """`compare_systems` of scores that were resampled elsewhere, on the same draws of clips."""
    first: Mapping[str, Sampled] = next(iter(systems.values()), {})
    return {
        name: {
            key: Estimate(
                _defined(sampled.value),
                confidence_interval(sampled),
                None if scores is first or key not in first else difference(first[key], sampled),
            )
            for key, sampled in scores.items()
        }
        for name, scores in systems.items()
    }


def difference(first: Sampled, other: Sampled) -> Difference:
    """How much better `other` is, of samples of the same draws."""
    found = other.less(first)
    # Of seeds that differ, resamples of the clips alone would seem to say more than the interval.
    several = any(len(of) > 1 for of in found.seeds)
    samples = found.samples[~np.isnan(found.samples)]
    enough = first.rests_on_enough() and other.rests_on_enough() and first.differs_enough(other)
    return Difference(
        _defined(found.value),
        confidence_interval(found) if enough else None,
        float(np.mean(samples > 0)) if len(samples) and not several else None,
    )


def sample_scores(
    of_seeds: Sequence[Counts],
    *,
    classes: Sequence[str] = (),
    num_resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Sampled]:
    """The scores of one system that all its seeds have, with those of its resamples.

    See `compare_systems`.
    """
    names = [name for name in of_seeds[0] if all(name in counts for counts in of_seeds)]
    parts: dict[str, list[Sampled]] = {}
    for counts in of_seeds:
        own = {name: counts[name] for name in names}
        for key, sampled in _sample_seed(own, classes, num_resamples, seed).items():
            parts.setdefault(key, []).append(sampled)
    found = {}
    for key, seeds in parts.items():
        values, samples, left_out = (
            np.stack(of) for of in zip(*(own[:3] for own in seeds), strict=True)
        )
        found[key] = seeds[0]._replace(
            value=float(values.mean()),
            samples=samples.mean(axis=0),
            left_out=left_out.mean(axis=0),
            seeds=(values,),
            counts=tuple(own.counts[0] for own in seeds),
        )
    return found


def confidence_interval(score: Sampled, level: float = LEVEL) -> Interval | None:
    """The interval of a score; None where it is undefined or rests on too few clips.

    It is the percentile interval of the resamples. A bootstrap is too narrow where a score hangs on
    few clips, as a macro mean does on those of rare classes. So, where `left_out` is known, the
    percentiles are not those of the normal distribution's 1.96 standard deviations, but of
    Student's t with the degrees of freedom that the variance of the B values has (2 B / (kurtosis
    - 1), as Satterthwaite takes them: about B if all clips weigh alike), and further out by as much
    as the jackknife's standard error is larger than the bootstrap's. examples/coverage.py measures
    what that gives. A score that rests on fewer than `FEWEST_CLIPS` has none: no resample knows
    what other clips would say.

    What the seeds add is put beside it: of two independent sources each side's distances from the
    value are added as squares (MOVER; Zou and Donner, Statistics in Medicine 27, 2008).
    """
    from scipy import special

    values, samples = (of[~np.isnan(of)] for of in (score.left_out, score.samples))
    if not len(samples) or np.isnan(score.value) or not score.rests_on_enough():
        return None
    tail = (1 - level) / 2
    of_seeds = score.error_of_seeds(tail)
    variance, spread = (float(np.var(of)) if len(of) else 0.0 for of in (values, samples))
    if variance > 0 and spread > 0:
        excess = float(np.mean((values - values.mean()) ** 4)) / variance**2 - 1
        freedom = 2 * len(values) / excess if excess > 0 else np.inf
        jackknife = (len(values) - 1) * variance
        wider = max(1.0, np.sqrt(jackknife / spread))
        tail = special.ndtr(wider * special.stdtrit(freedom, tail))
    low, high = np.quantile(samples, [tail, 1 - tail])
    below, above = (
        np.hypot(max(of, 0.0), of_seeds) for of in (score.value - low, high - score.value)
    )
    ends = np.clip([score.value - below, score.value + above], *score.limits)
    return float(ends[0]), float(ends[1])


def intervals(
    of_seeds: Sequence[Counts],
    *,
    classes: Sequence[str] = (),
    num_resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Interval | None]:
    """The intervals of `compare_systems` for one system; empty without resamples."""
    if not num_resamples:
        return {}
    found = sample_scores(of_seeds, classes=classes, num_resamples=num_resamples, seed=seed)
    return {key: confidence_interval(score) for key, score in found.items()}


def interval_page(
    of_seeds: Sequence[Counts], *, classes: Sequence[str], num_resamples: int
) -> dict[str, Any]:
    """What scores.json has of `intervals`, and beside them how the resamples were drawn."""
    found = intervals(of_seeds, classes=classes, num_resamples=num_resamples)
    return {
        "intervals": {key: interval and list(interval) for key, interval in found.items()},
        "resamples": {"number": num_resamples, "seed": SEED, "level": LEVEL},
    }


def mean_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (n - 1); None where there are too few values."""
    if not values:
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def draw_clips(
    num_clips: int, *, num_resamples: int = RESAMPLES, seed: int = SEED
) -> Iterator[np.ndarray]:
    """How often a resample has each clip: <float64>[n, B] of n resamples at a time, N together."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _WEIGHTS_AT_ONCE // max(1, num_clips))
    for start in range(0, num_resamples, at_once):
        size = min(at_once, num_resamples - start)
        drawn = rng.integers(num_clips, size=(size, num_clips))
        drawn += np.arange(size)[:, None] * num_clips
        weights = np.bincount(drawn.ravel(), minlength=size * num_clips).astype(np.float64)
        yield weights.reshape(size, num_clips)


def _sample_seed(
    counts: Counts, classes: Sequence[str], num_resamples: int, seed: int
) -> dict[str, Sampled]:
    """`sample_scores` of one seed."""
    total = {name: count.sum(0)[None] for name, count in counts.items()}
    left_out = {name: total[name] - count for name, count in counts.items()}
    values, without = (_scores(totals, total, classes) for totals in (total, left_out))
    drawn = [_scores(t, total, classes) for t in _drawn(counts, num_resamples, seed)]
    made_of = {
        key: count
        for name, count in counts.items()
        for key, count in (
            (f"{name}/macro", count),
            (f"{name}/micro", count),
            *((f"{name}/classwise/{label}", count[:, [c]]) for c, label in enumerate(classes)),
        )
    }
    return {
        key: Sampled(
            float(value[0]),
            np.concatenate([part[key] for part in drawn]) if drawn else np.empty(0),
            without[key],
            limits=(0.0, 100.0),
            counts=(made_of[key],),
        )
        for key, value in values.items()
    }


def _drawn(counts: Counts, num_resamples: int, seed: int) -> Iterator[Counts]:
    """Totals <float64>[n, C, 3] by score of n resamples at a time, N together."""
    num_clips = len(next(iter(counts.values())))
    flat = {n: c.reshape(num_clips, -1).astype(np.float64) for n, c in counts.items()}
    for weights in draw_clips(num_clips, num_resamples=num_resamples, seed=seed):
        yield {n: (weights @ f).reshape(-1, *counts[n].shape[1:]) for n, f in flat.items()}


def _scores(totals: Counts, of_all: Counts, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Scores <float64>[n] in percent, by key, of totals <float64>[n, C, 3].

    A class that all clips together have, and some of them by chance have not, is undefined there.
    """
    found = {}
    for name, total in totals.items():
        f1 = 100 * f1_of_counts(name, total)
        f1[(of_all[name][0, :, 0] > 0) & (total[..., 0] == 0)] = np.nan
        found[f"{name}/macro"] = _nanmean(f1)
        found[f"{name}/micro"] = 100 * f1_of_counts(name, total.sum(axis=-2))
        for c, label in enumerate(classes):
            found[f"{name}/classwise/{label}"] = f1[:, c]
    return found


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Over the last axis; NaN, without a warning, where all are."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
