"""How sure a score is: over the choice of clips (the bootstrap) and over the seeds of training.

Axis letters: `B` clips, `C` event classes, `N` resamples, `K` seeds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jfsed_jax.sed.scoring import Counts, scores_of_counts


def resampled_scores(counts: Counts, *, num_resamples: int, seed: int = 0) -> Counts:
    """Bootstrap: the scores of sets of clips drawn with replacement.

    Two systems on the same clips and with the same seed are scored on the same draws, so that the
    differences of their samples are the bootstrap of the paired difference.

    Args:
      counts: <int64>[B, C, 3] by name, from `score_clips`.

    Returns:
      <float64>[N] percent for each of "NAME/macro" and "NAME/micro".
    """
    num_clips = len(next(iter(counts.values())))
    rng = np.random.default_rng(seed)
    samples: dict[str, list[np.ndarray]] = {}
    for start in range(0, num_resamples, 256):
        draws = min(256, num_resamples - start)
        weights = rng.multinomial(num_clips, np.full(num_clips, 1 / num_clips), size=draws)
        for name, count in counts.items():
            flat = weights.astype(np.float64) @ count.reshape(num_clips, -1)
            for average, values in scores_of_counts(
                name, flat.reshape(draws, *count.shape[1:])
            ).items():
                samples.setdefault(f"{name}/{average}", []).append(values)
    return {name: np.concatenate(values) for name, values in samples.items()}


def confidence_interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """The percentile interval of the samples <float64>[N] that are not NaN; None without any."""
    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return None
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def intervals(
    counts: Counts, *, num_resamples: int, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """95 % intervals of "NAME/macro" and "NAME/micro"; empty without resamples."""
    if not num_resamples:
        return {}
    samples = resampled_scores(counts, num_resamples=num_resamples, seed=seed)
    return {name: confidence_interval(values) for name, values in samples.items()}


def paired_differences(
    counts: Counts, other: Counts, *, num_resamples: int, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """How much better the other system is on the same clips, and how sure that is.

    Returns:
      For each of "NAME/macro" and "NAME/micro": `difference` in points of percent, its 95 %
      `interval`, and `share_better`, the share of resamples in which the other system is ahead;
      None where a score is undefined.
    """
    samples = resampled_scores(counts, num_resamples=num_resamples, seed=seed)
    others = resampled_scores(other, num_resamples=num_resamples, seed=seed)
    result = {}
    for key in samples:
        name, average = key.split("/")
        before, after = (scores_of_counts(name, c[name].sum(0))[average] for c in (counts, other))
        differences = others[key] - samples[key]
        defined = differences[~np.isnan(differences)]
        result[key] = {
            "difference": None if np.isnan(after - before) else float(after - before),
            "interval": confidence_interval(defined),
            "share_better": float(np.mean(defined > 0)) if len(defined) else None,
        }
    return result


def paired_seed_differences(
    counts: Sequence[Counts], others: Sequence[Counts], *, num_resamples: int, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """How much better the other system is, in the mean over K seeds, and how sure that is.

    A resample draws clips with replacement, the same for both systems and all seeds, and K seeds
    with replacement, of which a drawn one brings both systems. Each seed's scores are computed from
    the counts of the clips that were drawn; their differences are averaged over the drawn seeds.
    With one seed the interval is over clips alone.

    Args:
      counts, others: of each seed, <int64>[B, C, 3] by name, from `score_clips` on the same clips;
        the k-th of both are of the same seed.

    Returns:
      For each of "NAME/macro" and "NAME/micro": `difference` in points of percent and its 95 %
      `interval`; None where a score is undefined.
    """
    num_seeds = len(counts)
    drawn = np.random.default_rng([seed, num_seeds]).integers(
        num_seeds, size=(num_seeds, num_resamples)
    )
    samples: dict[str, list[np.ndarray]] = {}
    totals: dict[str, list[float]] = {}
    for before, after in zip(counts, others, strict=True):
        old, new = (
            resampled_scores(c, num_resamples=num_resamples, seed=seed) for c in (before, after)
        )
        for key in old:
            name, average = key.split("/")
            samples.setdefault(key, []).append(new[key] - old[key])
            first, second = (
                scores_of_counts(name, c[name].sum(0))[average] for c in (before, after)
            )
            totals.setdefault(key, []).append(float(second - first))
    result = {}
    for key, differences in samples.items():
        of_drawn = np.take_along_axis(np.stack(differences), drawn, axis=0)
        mean = float(np.mean(totals[key]))
        result[key] = {
            "difference": None if np.isnan(mean) else mean,
            "interval": confidence_interval(of_drawn.mean(axis=0)),
        }
    return result


def mean_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (n - 1); None where there are too few values."""
    if not values:
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
