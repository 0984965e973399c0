"""Several runs beside one another: what differs, and how sure it is that one is better.

Axis letters: ``B`` clips, ``C`` event classes.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jfsed_jax.report.formatting import dotted, label_text, number, significant
from jfsed_jax.runs.saved_counts import clip_head_tags, read_counts
from jfsed_jax.runs.meta import is_number
from jfsed_jax.runs.saved_run import SPLIT_NAMES
from jfsed_jax.runs.scored_runs import ComparedSystem, ScoredRun, read_systems
from jfsed_jax.sed import uncertainty
from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.scoring import Counts
from jfsed_jax.sed.uncertainty import Estimate


@dataclass(frozen=True)
class Comparison:
    """Systems on the same clips; the first is what the others are compared to.

    Attributes:
      split: of the clips.
      systems: labels are their own.
      classes: C labels.
      filenames: the B clips.
      scores: keys of `TITLES`, those that all runs have.
      counts: of each system and each of its runs <int64>[B, C, 3] by score.
      estimates: of each system, by "NAME/macro", "NAME/micro" and "NAME/classwise/LABEL".
      num_resamples: behind the intervals.
    """

    split: str
    systems: list[ComparedSystem]
    classes: list[str]
    filenames: list[str]
    scores: list[str]
    counts: list[list[Counts]]
    estimates: list[dict[str, Estimate]]
    num_resamples: int

    @property
    def title(self) -> str:
        """Of the split."""
        return SPLIT_NAMES.get(self.split, self.split)

    @property
    def labels(self) -> list[str]:
        """Of the systems."""
        return [system.label for system in self.systems]

    @property
    def drawn(self) -> str:
        """What a resample draws."""
        seeds = any(len(system.runs) > 1 for system in self.systems)
        return f"{number(len(self.filenames), 0)} clips" + (" and the seeds" if seeds else "")


@dataclass(frozen=True)
class Differing:
    """A value that is not the same in all systems: its name, and in each its text or None."""

    name: str
    values: tuple[str | None, ...]


def compare_runs(
    names: Sequence[str],
    *,
    split: str = "validation",
    num_resamples: int = uncertainty.RESAMPLES,
    seed: int = uncertainty.SEED,
) -> Comparison:
    """Reads what is compared, counts clip by clip, and resamples the clips and the seeds.

    Args:
      names, split: see `scored_runs.read_systems`, which says what is refused.
      num_resamples: for the intervals.
      seed: of their draws.

    Raises:
      InputError: runs that cannot be compared, or a damaged file.
    """
    systems = read_systems(names, split)
    reference = systems[0].first.split.reference
    assert reference is not None
    classes, filenames = list(systems[0].first.saved.classes), list(reference.filenames)
    counts = [
        [
            read_counts(
                run.folder, classes, filenames, clip_head_tags(run.split, run.saved.classes)
            )
            for run in system.runs
        ]
        for system in systems
    ]
    scores = [name for name in TITLES if all(name in own for runs in counts for own in runs)]
    counts = [[{name: own[name] for name in scores} for own in runs] for runs in counts]
    estimates = uncertainty.compare_systems(
        {str(i): of_seeds for i, of_seeds in enumerate(counts)},
        classes=classes,
        num_resamples=num_resamples,
        seed=seed,
    )
    found = list(estimates.values())
    return Comparison(split, systems, classes, filenames, scores, counts, found, num_resamples)


def verdict(estimate: Estimate) -> str:
    """``better`` or ``worse`` than the first system where the interval leaves out 0, else ""."""
    found = estimate.against_first
    if found is None or found.interval is None:
        return ""
    low, high = found.interval
    return "better" if low > 0 else "worse" if high < 0 else ""


def config_differences(systems: Sequence[ComparedSystem]) -> list[Differing]:
    """Values of the configs by dotted key, as JSON; of a page that one lacks its size."""
    pages = [system.first.config or {} for system in systems]
    whole = {
        key: [_size(page[key]) if key in page else None for page in pages]
        for key in dict.fromkeys(key for page in pages for key in page)
        if any(isinstance(page.get(key), dict) for page in pages)
        and any(key not in page for page in pages)
    }
    flat = [dict(dotted({k: v for k, v in page.items() if k not in whole})) for page in pages]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = [Differing(key, tuple(values.get(key) for values in flat)) for key in keys]
    rows += [Differing(key, tuple(values)) for key, values in whole.items()]
    rows.append(Differing("seed", tuple(system.seeds for system in systems)))
    return [row for row in rows if len(set(row.values)) > 1]


def _size(page: Any) -> str:
    count = len(dotted({"": page}))
    return f"{count} value{'s' if count > 1 else ''}"


def other_differences(systems: Sequence[ComparedSystem]) -> list[Differing]:
    """What else is not the same: data, start, checkpoint, how the posteriors became events."""
    rows = [
        Differing(name, tuple(_of_runs(system.runs, fact) for system in systems))
        for name, fact in _FACTS.items()
    ]
    return [row for row in rows if len(set(row.values)) > 1]


def _of_runs(runs: Sequence[ScoredRun], fact: Callable[[ScoredRun], Any]) -> str | None:
    """What is true of a system: the texts of its runs, each once."""
    texts = [_text(fact(run)) for run in runs]
    return "; ".join(dict.fromkeys(text for text in texts if text is not None)) or None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    if is_number(value):
        return significant(value) if isinstance(value, float) else number(value, 0)
    return json.dumps(value, ensure_ascii=False)


def _clips(run: ScoredRun) -> str | None:
    clips = run.saved.meta.get("clips")
    if not isinstance(clips, dict):
        return None
    return ", ".join(f"{_text(n)} {label_text(kind)}" for kind, n in clips.items())


def _digests(run: ScoredRun) -> str | None:
    digests = run.saved.meta.get("digests")
    if not isinstance(digests, dict):
        return None
    return ", ".join(f"{label_text(kind)} {value!s:.8}" for kind, value in digests.items())


def _begun(run: ScoredRun) -> str | None:
    begun = run.saved.meta.get("init_from")
    return f"{begun.get('workdir')}, step {begun.get('step')}" if begun else None


def _of_info(key: str) -> Callable[[ScoredRun], Any]:
    return lambda run: run.info.get(key)


# What may differ beside the config, by the name of its row.
_FACTS: dict[str, Callable[[ScoredRun], Any]] = {
    "Data": lambda run: run.saved.meta.get("data"),
    "Clips of training": _clips,
    "Digests of the data": _digests,
    "Handed in from code": lambda run: run.saved.meta.get("handed") or None,
    "Began from": _begun,
    "Steps trained": lambda run: run.saved.train[-1]["step"] if run.saved.train else None,
    "Frames per second": lambda run: run.saved.meta.get("frame_rate"),
    "Format of the workdir": lambda run: run.saved.meta.get("format", 1),
    "Checkpoint: step": _of_info("checkpoint_step"),
    "Checkpoint: selected by": _of_info("selected"),
    "Frame posteriors": _of_info("model"),
    "Clip posteriors": _of_info("tags"),
    "Decoder": _of_info("decoder"),
    "Median windows": lambda run: run.rule,
    "Frames of the windows": _of_info("windows"),
    "Median filters": _of_info("medians"),
    "Gated by clip posteriors": _of_info("gate"),
    "Tuned thresholds": _of_info("thresholds"),
    "Decoder file": _of_info("decoder_file"),
}
