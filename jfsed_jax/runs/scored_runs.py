"""Runs to be compared: found by name, read with the scores of one split, those of one config put
together as the seeds of a system; scores of other clips, labels or classes are refused.

Axis letters: ``B`` clips, ``C`` event classes.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.runs.saved_run import SavedRun, SavedSplit, read_arrays, read_run
from jfsed_jax.runs.workdir import OWN_SCORES, SplitFolder, Workdir, of_run, upgraded
from jfsed_jax.sed import scoring, tables
from jfsed_jax.sed.events import Event


@dataclass(frozen=True)
class ScoredRun:
    """A run, or one seed of it, and its scores of one split with one window rule.

    Attributes:
      name: as it was given.
      saved: the run.
      split: all files of the scores are there.
      seed: of its training.
    """

    name: str
    saved: SavedRun
    split: SavedSplit
    seed: int | None

    @property
    def folder(self) -> SplitFolder:
        """Where the scores lie."""
        return self.split.folder

    @property
    def info(self) -> dict[str, Any]:
        """What was scored, and how."""
        return (self.split.scores or {}).get("info") or {}

    @property
    def rule(self) -> str:
        """Of the median windows."""
        return str(self.info.get("postprocess") or self.folder.path.parent.name)

    @property
    def config(self) -> dict[str, Any] | None:
        """As it would be written today, without what belongs to a machine or tells seeds apart."""
        if self.saved.config is None:
            return None
        page = of_run(upgraded(self.saved.config))
        return {key: value for key, value in page.items() if key not in ("seed", "num_seeds")}


@dataclass(frozen=True)
class ComparedSystem:
    """Runs that differ in the seed alone, ordered by it; `label` is like no other system's."""

    label: str
    runs: tuple[ScoredRun, ...]

    @property
    def first(self) -> ScoredRun:
        """The run that stands for what they have in common."""
        return self.runs[0]

    @property
    def seeds(self) -> str:
        """Their numbers."""
        return ", ".join("?" if run.seed is None else str(run.seed) for run in self.runs)


def read_systems(names: Sequence[str], split: str) -> list[ComparedSystem]:
    """What is to be compared, in the order of the names.

    Args:
      names: workdirs, of one seed or several, or folders of scores in them (``W/eval-esp``).
        Runs whose configs, data and scoring differ in the seed alone are one system, unless there
        would be no other; those of a workdir with several seeds always are.
      split: ``validation`` or ``eval``.

    Raises:
      InputError: a name is no run, is there twice or is not scored; a file is damaged; there are
        fewer than two; two were scored on other clips, labels or classes.
    """
    found = {name: _folders(name) for name in names}
    if len(names) < 2:
        raise InputError(
            f"there is nothing to compare with {', '.join(names) or 'anything'}: name two runs or "
            "more, or two folders of scores of one, as W/eval W/eval-esp"
        )
    groups: list[list[ScoredRun]] = []
    taken: dict[Path, str] = {}
    for name in names:
        runs = [_read(name, folder, scored, split) for folder, scored in found[name]]
        for run in runs:
            place = run.folder.path.resolve()
            if place in taken:
                raise InputError(
                    f"{name} and {taken[place]} are the same scores, {run.folder.path}; name others"
                )
            taken[place] = name
        groups.append(runs)
    _check_comparable([run for runs in groups for run in runs])
    joined = _joined(groups)
    return _labelled(joined if len(joined) > 1 else groups)


def read_counts(
    folder: SplitFolder,
    classes: Sequence[str],
    filenames: Sequence[str] | None = None,
    tags: Mapping[str, Sequence[str]] | None = None,
) -> scoring.Counts:
    """What each clip of a scored split counts: <int64>[B, C, 3] by score.

    Events are saved to the digit that they had, so that these are the counts behind scores.json.
    Where `evaluate` saved them, they are read; older versions did not.

    Args:
      folder: of the split.
      classes: C labels.
      filenames: the order of the clips; that of the reference if None.
      tags: of the clip head, see `clip_head_tags`.
    """
    reference = tables.read_events(folder.reference)
    names = reference.filenames if filenames is None else filenames
    saved = read_arrays(folder.counts, ("filenames", "classes"))
    if saved is not None:
        return _in_order(saved, folder.counts, names, classes)
    estimates = tables.read_events(folder.events)
    for path, table in ((folder.reference, reference), (folder.events, estimates)):
        scoring.check_events(table.events, names, classes, str(path), table.rows)
    _, counts = scoring.score_clips(
        reference.events, estimates.events, filenames=names, classes=classes, tags=tags
    )
    return counts


def _in_order(
    arrays: dict[str, np.ndarray], path: Path, filenames: Sequence[str], classes: Sequence[str]
) -> scoring.Counts:
    """Saved counts, in the order of these clips and classes."""
    row, column = (
        {str(name): i for i, name in enumerate(arrays.pop(key))} for key in ("filenames", "classes")
    )
    try:
        order = np.ix_([row[name] for name in filenames], [column[label] for label in classes])
        return {key: count[order] for key, count in arrays.items()}
    except LookupError as error:
        raise InputError(
            f"{path} is of other clips or classes ({error}); delete it or evaluate again"
        ) from error


def clip_head_tags(run: ScoredRun) -> dict[str, list[str]] | None:
    """The labels of each clip above 0.5; None without posteriors, or if recordings were cut."""
    posteriors, reference = run.split.posteriors, run.split.reference
    if posteriors is None or reference is None:
        return None
    names = [str(name) for name in posteriors["filenames"]]
    if set(names) != set(reference.filenames):
        return None
    return {
        name: [label for label, on in zip(run.saved.classes, row > 0.5, strict=True) if on]
        for name, row in zip(names, posteriors["clip"], strict=True)
    }


# Finding and reading ------------------------------------------------------------------------------


def _folders(name: str) -> list[tuple[Path, str | None]]:
    """The workdirs of a name's seeds, and the folder of scores in them if the name says so."""
    folder, scored = Path(name), None
    if not folder.is_dir():
        raise InputError(
            f"{name}: no such folder; expected the workdir of a run, or a folder of its scores, as "
            "W/eval-esp"
        )
    own = folder.resolve().name
    if (own == OWN_SCORES or own.startswith(f"{OWN_SCORES}-")) and not _is_run(folder):
        folder, scored = folder.parent, own
    if not _is_run(folder) and (runs := _runs_within(folder)):
        raise InputError(
            f"{name} holds runs and is none itself: name them, as {runs[0]}"
            + (f" {runs[1]}" if len(runs) > 1 else "")
        )
    seeds = [path for path in (folder / "seeds").glob("*") if path.name.isdecimal()]
    return [(path, scored) for path in seeds or [folder]]


def _is_run(folder: Path) -> bool:
    files = Workdir(folder)
    return files.config.exists() or files.meta.exists() or files.metrics.exists()


def _runs_within(folder: Path) -> list[Path]:
    """Runs in the workdir of `reproduce`, or in any folder of workdirs."""
    return [
        path
        for place in (folder / "runs", folder)
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.is_dir() and _is_run(path)
    ]


def _read(name: str, folder: Path, scored: str | None, split: str) -> ScoredRun:
    files = Workdir(folder)
    there = {place: files.split(split, place) for place in files.scored()}
    there = {place: own for place, own in there.items() if own.scores.exists()}
    chosen = scored or (OWN_SCORES if OWN_SCORES in there else None)
    if chosen is None and len(there) > 1:
        raise InputError(
            f"{name} is scored on {split} with several rules, and none of them is its own: name "
            f"one, as {folder / next(iter(there))}"
        )
    chosen = chosen or next(iter(there), OWN_SCORES)
    wanted = files.split(split, chosen)
    run = read_run(folder, only=[wanted])
    command = f"{run.command('evaluate')} --split {split}"
    if chosen not in there:
        others = sorted(path.parent.name for path in (folder / chosen).glob("*/scores.json"))
        hint = f", or compare with --split={others[0]}, on which it is" if others else ""
        raise InputError(f"{folder} is not scored on {split}: {command}{hint}")
    for path in (wanted.reference, wanted.events):
        if not path.exists():
            raise InputError(f"{path} is missing, of which the scores are made: {command}")
    seed = run.meta.get("seed", (run.config or {}).get("seed"))
    return ScoredRun(name, run, run.splits[0], seed if isinstance(seed, int) else None)


# What can be compared -----------------------------------------------------------------------------


def _check_comparable(runs: Iterable[ScoredRun]) -> None:
    """InputError if two were not scored on the same clips, labels and classes, in any order."""
    first, *others = runs
    expected = _by_clip(first)
    for run in others:
        where = f"{run.folder.path} and {first.folder.path}"
        why = "scores of other %s cannot be compared; evaluate both on the same data (--data)"
        odd = set(first.saved.classes) ^ set(run.saved.classes)
        if odd:
            label = min(odd)
            place = first if label in first.saved.classes else run
            raise InputError(
                f"{where} have other classes: {label!r} is one in {place.name} alone; "
                + why % "classes"
            )
        found = _by_clip(run)
        if odd := found.keys() ^ expected.keys():
            clip = min(odd)
            place = first if clip in expected else run
            raise InputError(
                f"{where} are of other clips ({len(found)} and {len(expected)}): {clip!r} is "
                f"scored in {place.name} alone; " + why % "clips"
            )
        for clip, events in expected.items():
            if found[clip] != events:
                raise InputError(
                    f"{where} have other labels: {clip!r} has {len(found[clip])} and {len(events)} "
                    "events, which are not the same; " + why % "labels"
                )


def _by_clip(run: ScoredRun) -> dict[str, list[Event]]:
    reference = run.split.reference
    assert reference is not None
    found: dict[str, list[Event]] = {name: [] for name in reference.filenames}
    for event in sorted(reference.events):
        found.setdefault(event.filename, []).append(event)
    return found


def _joined(groups: Sequence[Sequence[ScoredRun]]) -> list[list[ScoredRun]]:
    """Runs of one seed that are alike in all but that, put together; the others as they are."""
    joined: dict[object, list[ScoredRun]] = {}
    for i, runs in enumerate(groups):
        alike = _all_but_the_seed(runs[0]) if len(runs) == 1 else None
        if alike is None or any(run.seed == runs[0].seed for run in joined.get(alike, ())):
            joined[i] = list(runs)
        else:
            joined.setdefault(alike, []).extend(runs)
    return [sorted(runs, key=lambda run: run.seed or 0) for runs in joined.values()]


def _all_but_the_seed(run: ScoredRun) -> str | None:
    """What seeds of one system have in common; None if that is not known."""
    if run.config is None or run.seed is None:
        return None
    meta = run.saved.meta
    scored = ("model", "tags", "postprocess", "decoder", "gate", "medians", "selected")
    page = {
        "config": run.config,
        "data": [meta.get(key) for key in ("data", "clips", "digests", "handed")],
        "begun": meta.get("init_from"),
        "scored": [run.info.get(key) for key in scored],
        "tuned": run.info.get("thresholds") is not None,
    }
    return json.dumps(page, sort_keys=True)


# Names --------------------------------------------------------------------------------------------


def _labelled(groups: Iterable[Sequence[ScoredRun]]) -> list[ComparedSystem]:
    """With the names of the folders, and as much more as tells one from another."""
    systems = [ComparedSystem(_stem(runs), tuple(runs)) for runs in groups]
    labels = [system.label for system in systems]
    more: tuple[Callable[[str, int], str], ...] = (
        lambda label, i: f"{label} · {systems[i].first.rule}",
        lambda label, i: f"{systems[i].first.saved.workdir.resolve().parent.name}/{label}",
        lambda label, i: f"{label} ({i + 1})",
    )
    for longer in more:
        for label in {own for own in labels if labels.count(own) > 1}:
            places = [i for i, own in enumerate(labels) if own == label]
            texts = [longer(label, i) for i in places]
            if len(set(texts)) > 1:
                for i, text in zip(places, texts, strict=True):
                    labels[i] = text
    return [
        ComparedSystem(label, system.runs) for label, system in zip(labels, systems, strict=True)
    ]


def _stem(runs: Sequence[ScoredRun]) -> str:
    """The name of the folder; of several what their names begin with, less the word seed."""
    names = [_name(run) for run in runs]
    common = os.path.commonprefix(names)
    if len(set(names)) > 1:
        common = re.sub(r"[-_. ]*(seed)?[-_. ]*$", "", common)
    return common or names[0]


def _name(run: ScoredRun) -> str:
    """Of the folder; of a seed that was trained with others that of all, with the seed if named."""
    folder, named = run.saved.workdir.resolve(), Path(run.name).resolve()
    if run.saved.meta.get("seed") is None:
        return folder.name
    own = folder.parents[1].name
    return f"{own} seed {folder.name}" if folder in (named, named.parent) else own
