"""Runs to be compared: found by name, read with the scores of one split, those of one config put
together as the seeds of a system; scores of other clips, labels or classes are refused.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jfsed_jax.errors import InputError
from jfsed_jax.runs.saved_run import SavedRun, SavedSplit, read_run
from jfsed_jax.runs.workdir import OWN_SCORES, SplitFolder, Workdir, of_run, upgraded
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
        """Of the median windows; ``decoder file``, ``change points`` or, not known, ``unknown``."""
        scored = self.folder.path.parent.name
        own = ((self.saved.config or {}).get("postprocess") or {}).get("rule")
        if scored != OWN_SCORES:
            own = scored.removeprefix(f"{OWN_SCORES}-")
        return str(self.info.get("postprocess") or own or "unknown")

    @property
    def decoding(self) -> str:
        """How posteriors became events, in two words."""
        without = self.info.get("decoder_file") or self.info.get("decoder") == "change_points"
        return self.rule if without else f"{self.rule} windows"

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
      names: workdirs, of one seed or several, or folders of scores in them (``W/eval-esp``); scores
        that are named again count once, so that one of a pattern can be put before it.
        Runs whose configs, data and scoring differ in the seed alone are one system, unless there
        would be no other; those of a workdir with several seeds always are.
      split: ``validation`` or ``eval``.

    Raises:
      InputError: a name is no run or is not scored; a file is damaged; there are
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
    repeated = ""
    for name in names:
        runs = []
        for folder, scored in found[name]:
            run = _read(name, folder, scored, split)
            place = run.folder.path.resolve()
            if place in taken:
                repeated = f"{name} and {taken[place]} are the same scores, {run.folder.path}"
            else:
                taken[place] = name
                runs.append(run)
        if runs:
            groups.append(runs)
    if len(groups) < 2:
        raise InputError(f"{repeated}; name others")
    _check_comparable([run for runs in groups for run in runs])
    joined = _joined(groups)
    return _labelled(joined if len(joined) > 1 else groups)


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
    scored = (
        *("model", "tags", "postprocess", "decoder", "gate", "medians", "selected"),
        "decoder_file",  # what each was tuned for is not known: only equal ones are alike
    )
    page = {
        "config": run.config,
        "data": [meta.get(key) for key in ("data", "clips", "digests", "handed")],
        "begun": meta.get("init_from"),
        "scored": [run.info.get(key) for key in scored],
        "tuned": run.info.get("thresholds") is not None,
    }
    return json.dumps(page, sort_keys=True)


# Names --------------------------------------------------------------------------------------------


def _labelled(groups: Sequence[Sequence[ScoredRun]]) -> list[ComparedSystem]:
    """With the names of the folders, and as much more as tells one from another."""
    labels = [_stem(runs) for runs in groups]
    rules = [runs[0].rule for runs in groups]
    parents = [runs[0].saved.workdir.resolve().parent.name for runs in groups]
    labels = _told_apart(
        labels, [f"{own} · {rule}" for own, rule in zip(labels, rules, strict=True)]
    )
    labels = _told_apart(
        labels, [f"{parent}/{own}" for own, parent in zip(labels, parents, strict=True)]
    )
    labels = _told_apart(labels, [f"{own} ({i})" for i, own in enumerate(labels, start=1)])
    return [ComparedSystem(*of) for of in zip(labels, map(tuple, groups), strict=True)]


def _told_apart(labels: Sequence[str], longer: Sequence[str]) -> list[str]:
    """The longer ones in place of equal ones, where that tells them apart."""
    options: dict[str, set[str]] = {}
    for own, other in zip(labels, longer, strict=True):
        options.setdefault(own, set()).add(other)
    pairs = zip(labels, longer, strict=True)
    return [other if len(options[own]) > 1 else own for own, other in pairs]


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
