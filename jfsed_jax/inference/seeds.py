"""Scores of several seeds: their means and deviations."""

from collections.abc import Mapping, Sequence
from typing import Any

from jfsed_jax.runs.saved_counts import read_counts
from jfsed_jax.runs.workdir import Workdir, write_json
from jfsed_jax.sed import uncertainty
from jfsed_jax.sed.score_titles import TITLES


def summarise_seeds(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds of each score, by its name.

    Args:
      scores: of each seed, as `evaluation.evaluate` returns them.

    Returns:
      By score ``macro`` and ``classwise``, the latter by class, each with ``mean``, ``std`` and the
      seeds' ``values`` in percent. A seed without a value (None) leaves mean and std at None.
    """

    def over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
        known = [value for value in values if value is not None]
        mean, std = uncertainty.mean_std(known if len(known) == len(values) else [])
        return {"mean": mean, "std": std, "values": list(values)}

    first = scores[0]
    return {
        name: {
            "macro": over_seeds([own[name]["macro"] for own in scores]),
            "classwise": {
                label: over_seeds([own[name]["classwise"][label] for own in scores])
                for label in first[name]["classwise"]
            },
        }
        for name in TITLES
        if name in first
    }


def write_seeds(
    workdir: Workdir,
    scores: Sequence[Mapping[str, Any]],
    num_resamples: int = uncertainty.RESAMPLES,
) -> dict[str, Any]:
    """Writes ``workdir/seeds/SPLIT.json`` and returns its content.

    Args:
      workdir: of the run; `evaluation.evaluate` has written all its seeds.
      scores: of each seed, as it returned them.
      num_resamples: of the clips, for 95 % intervals of the means; none if 0.

    Returns:
      `summarise_seeds`, ``info``, ``intervals`` and ``resamples`` as in a seed's own scores.json.
    """
    info = dict(scores[0]["info"], seeds=len(scores))
    # Class-wise thresholds, if tuned, are each seed's own: its scores.json has them.
    del info["thresholds"]
    folders = [workdir.seed(k, len(scores)).split(info["split"]) for k in range(len(scores))]
    summary = {"info": info} | summarise_seeds(scores)
    summary |= uncertainty.interval_page(
        [read_counts(folder, info["classes"]) for folder in folders],
        classes=info["classes"],
        num_resamples=num_resamples,
    )
    write_json(workdir.scores_of_seeds(info["split"]), summary)
    return summary
