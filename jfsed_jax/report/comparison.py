"""Several runs beside one another: what differs, and how sure it is that one is better.

Axis letters: ``B`` clips, ``C`` event classes.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jfsed_jax.report.formatting import dotted, label_text, number, significant
from jfsed_jax.runs.meta import is_number
from jfsed_jax.runs.saved_counts import clip_head_tags, read_counts
from jfsed_jax.runs.saved_run import SPLIT_NAMES
from jfsed_jax.runs.scored_runs import ComparedSystem, ScoredRun, read_systems
from jfsed_jax.sed import uncertainty
from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.scoring import Counts
from jfsed_jax.sed.uncertainty import Estimate

FEW = 3  # systems that are told of one by one, and side by side
UNKNOWN = "?"  # a value of a config that is not there


@dataclass(frozen=True)
class Comparison:
    """Systems on the same clips; the first is what the others are compared to.

    Attributes:
      split: of the clips.
      systems: labels are their own.
      classes: C labels.
      filenames: the B clips.
      scores: keys of `TITLES`, those that all runs have.
      lacking: keys of `TITLES` that some runs have, and the names of those that have not.
      counts: of each system and each of its runs <int64>[B, C, 3] by score.
      estimates: of each system, by "NAME/macro", "NAME/micro" and "NAME/classwise/LABEL".
      num_resamples: behind the intervals.
    """

    split: str
    systems: list[ComparedSystem]
    classes: list[str]
    filenames: list[str]
    scores: list[str]
    lacking: dict[str, list[str]]
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
    def many(self) -> bool:
        """Whether there are more systems than columns or sentences can tell of."""
        return len(self.systems) > FEW

    @property
    def ranked(self) -> list[int]:
        """Places of the systems, the highest macro mean of the first score first."""
        values = [own[f"{self.scores[0]}/macro"].value for own in self.estimates]
        known = [-1.0 if value is None else value for value in values]
        return sorted(range(len(known)), key=lambda i: -known[i])


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
    without: dict[str, list[str]] = {name: [] for name in TITLES}
    for system, of_system in zip(systems, counts, strict=True):
        for run, own in zip(system.runs, of_system, strict=True):
            for name in TITLES.keys() - own.keys():
                without[name].append(str(run.saved.workdir))
    scores = [name for name, runs in without.items() if not runs]
    num_runs = sum(len(system.runs) for system in systems)
    lacking = {name: runs for name, runs in without.items() if 0 < len(runs) < num_runs}
    counts = [[{name: own[name] for name in scores} for own in runs] for runs in counts]
    estimates = uncertainty.compare_systems(
        {str(i): of_seeds for i, of_seeds in enumerate(counts)},
        classes=classes,
        num_resamples=num_resamples,
        seed=seed,
    )
    return Comparison(
        split, systems, classes, filenames, scores, lacking, counts,
        list(estimates.values()), num_resamples,
    )  # fmt: skip


def verdict(estimate: Estimate) -> str:
    """``better`` or ``worse`` than the first system where the interval leaves out 0, else ""."""
    found = estimate.against_first
    if found is None or found.interval is None:
        return ""
    low, high = found.interval
    return "better" if low > 0 else "worse" if high < 0 else ""


def gaps(compared: Comparison) -> list[str]:
    """What is not compared, in sentences: scores that a run lacks, configs that are not there."""
    found = [
        f"{TITLES[score].text} is left out: not known of {and_more(runs)}."
        for score, runs in compared.lacking.items()
    ]
    unknown = [own.label for own in compared.systems if own.first.config is None]
    if unknown:
        found.append(
            f"Values of the config are not known without config.json: {and_more(unknown)}."
        )
    return found


def and_more(names: Sequence[str]) -> str:
    """A few of the names, and how many more there are."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def config_differences(systems: Sequence[ComparedSystem]) -> list[Differing]:
    """Values of the configs by dotted key, as JSON; of a page that one lacks its size.

    Those that part the systems most come first. Of a system without config.json they are
    `UNKNOWN`, which is no difference.
    """
    pages = [own.first.config for own in systems if own.first.config is not None]
    whole = {
        key
        for page in pages
        for key, value in page.items()
        if isinstance(value, dict) and any(key not in other for other in pages)
    }
    flat: list[dict[str, str] | None] = []
    for system in systems:
        page = system.first.config
        if page is None:
            flat.append(None)
            continue
        sizes = {key: _size(page[key]) for key in page if key in whole}
        values = dotted({key: value for key, value in page.items() if key not in whole})
        flat.append(dict(values) | sizes | {"seed": system.seeds})
    found = {}
    for key in dict.fromkeys(key for values in flat for key in values or ()):
        own = {values.get(key) for values in flat if values is not None}
        if len(own) > 1:
            found[key] = len(own)
    return [
        Differing(key, tuple(UNKNOWN if own is None else own.get(key) for own in flat))
        for key in sorted(found, key=lambda key: -found[key])
    ]


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
    """What is true of a system: one text of all its runs, or that of each seed."""
    texts = [_text(fact(run)) for run in runs]
    if len(set(texts)) == 1:
        return texts[0]
    seeds = ", ".join("?" if run.seed is None else str(run.seed) for run in runs)
    return f"{'; '.join(text or '–' for text in texts)} (seeds {seeds})"


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
