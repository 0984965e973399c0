"""How sure a score is: over the choice of clips (the bootstrap) and over the seeds of training.

A resample draws as many clips as there are, with replacement, and as many seeds as a system has;
each seed is scored on the clips that were drawn, and the drawn seeds are averaged. Equal `seed` and
equal numbers of clips and seeds make equal draws, whatever is scored: differences between systems
are taken draw by draw.

Axis letters: `B` clips, `C` event classes, `N` resamples, `K` seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jfsed_jax.sed.scoring import Counts, f1_of_counts

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
_WEIGHTS_AT_ONCE = 2**21  # 16 MiB

Interval = tuple[float, float]


class Sampled(NamedTuple):
    """A score with what its interval is made of; NaN where undefined.

    Attributes:
      value: of all clips.
      samples: <float64>[N] of the resamples.
      left_out: <float64>[B] of all clips but one, for each of them; empty if not known.
    """

    value: float
    samples: np.ndarray
    left_out: np.ndarray = np.empty(0)

    def less(self, other: "Sampled") -> "Sampled":
        """This score less another of the same draws."""
        known = len(self.left_out) == len(other.left_out)
        return Sampled(
            self.value - other.value,
            self.samples - other.samples,
            self.left_out - other.left_out if known else np.empty(0),
        )


class Difference(NamedTuple):
    """How much better than the first system, in the unit of the score; None where undefined.

    Attributes:
      difference: of the scores of all clips.
      interval: of it.
      share_better: of the resamples that are ahead.
    """

    difference: float | None
    interval: Interval | None
    share_better: float | None


class Estimate(NamedTuple):
    """A system's score, how sure it is, and how much better than the first system's.

    Attributes:
      value: of all clips, in the mean over the seeds; None where undefined.
      interval: of it.
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
        same clips in the same order. Systems with equally many seeds share their draws too: the
        k-th of each are taken for a pair.
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
                confidence_interval(sampled.samples, sampled.left_out),
                None if scores is first or key not in first else difference(first[key], sampled),
            )
            for key, sampled in scores.items()
        }
        for name, scores in systems.items()
    }


def difference(first: Sampled, other: Sampled) -> Difference:
    """How much better `other` is, of samples of the same draws."""
    found = other.less(first)
    samples = found.samples[~np.isnan(found.samples)]
    return Difference(
        _defined(found.value),
        confidence_interval(samples, found.left_out),
        float(np.mean(samples > 0)) if len(samples) else None,
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
    num_seeds = len(of_seeds)
    drawn = np.random.default_rng([seed, num_seeds]).integers(
        num_seeds, size=(num_seeds, num_resamples)
    )
    found = {}
    for key, seeds in parts.items():
        values, samples, left_out = (np.stack(of) for of in zip(*seeds, strict=True))
        of_drawn = np.take_along_axis(samples, drawn, axis=0)
        found[key] = Sampled(float(values.mean()), of_drawn.mean(axis=0), left_out.mean(axis=0))
    return found


def confidence_interval(
    samples: np.ndarray, left_out: np.ndarray | None = None, level: float = LEVEL
) -> Interval | None:
    """The percentile interval of the samples that are not NaN; None without any.

    A bootstrap is too narrow where a score hangs on few clips, as a macro mean does on those of
    rare classes. So, where `left_out` is known, the percentiles are not those of the normal
    distribution's 1.96 standard deviations, but of Student's t with the degrees of freedom that the
    variance of the B values has (2 B / (kurtosis - 1), as Satterthwaite takes them: about B if all
    clips weigh alike), and further out by as much as the jackknife's standard error is larger than
    the bootstrap's. examples/coverage.py measures what that gives.

    Args:
      samples, left_out: see `Sampled`.
      level: of confidence.
    """
    from scipy import special  # late: most that imports this asks for no interval

    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return None
    tail = (1 - level) / 2
    values = np.empty(0) if left_out is None else left_out[~np.isnan(left_out)]
    variance, spread = (float(np.var(of)) if len(of) else 0.0 for of in (values, samples))
    if variance > 0 and spread > 0:
        excess = float(np.mean((values - values.mean()) ** 4)) / variance**2 - 1
        freedom = 2 * len(values) / excess if excess > 0 else np.inf
        jackknife = (len(values) - 1) * variance
        wider = max(1.0, np.sqrt(jackknife / spread))
        tail = special.ndtr(wider * special.stdtrit(freedom, tail))
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


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
    return {key: confidence_interval(s.samples, s.left_out) for key, s in found.items()}


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
    present = {name: of_all[0, :, 0] > 0 for name, of_all in total.items()}
    left_out = {name: total[name] - count for name, count in counts.items()}
    values, without = (_scores(totals, present, classes) for totals in (total, left_out))
    drawn = [_scores(t, present, classes) for t in _drawn(counts, num_resamples, seed)]
    return {
        key: Sampled(
            float(value[0]),
            np.concatenate([part[key] for part in drawn]) if drawn else np.empty(0),
            without[key],
        )
        for key, value in values.items()
    }


def _drawn(counts: Counts, num_resamples: int, seed: int) -> Iterator[Counts]:
    """Totals <float64>[n, C, 3] by score of n resamples at a time, N together."""
    num_clips = len(next(iter(counts.values())))
    flat = {n: c.reshape(num_clips, -1).astype(np.float64) for n, c in counts.items()}
    for weights in draw_clips(num_clips, num_resamples=num_resamples, seed=seed):
        yield {n: (weights @ f).reshape(-1, *counts[n].shape[1:]) for n, f in flat.items()}


def _scores(
    totals: Counts, present: Mapping[str, np.ndarray], classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Scores <float64>[n] in percent, by key, of totals <float64>[n, C, 3].

    A class that the clips have, and a resample of them by chance has not, is undefined in it.
    """
    found = {}
    for name, total in totals.items():
        f1 = 100 * f1_of_counts(name, total)
        f1[present[name] & (total[..., 0] == 0)] = np.nan
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
