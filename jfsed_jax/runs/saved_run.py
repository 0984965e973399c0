"""What a run wrote into its workdir, read and checked for its page; no model is loaded.

A file that is not there yet is None; one that cannot be read is an `InputError` that names it.

Axis letters: ``N`` clips, ``T`` frames, ``F`` mel bands, ``C`` event classes.
"""

import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from jfsed_jax.errors import InputError
from jfsed_jax.runs.log_rows import read_log
from jfsed_jax.runs.meta import check_meta, is_number
from jfsed_jax.runs.workdir import (
    OWN_SCORES,
    SplitFolder,
    Workdir,
    check_format,
    read_json,
)
from jfsed_jax.sed import tables
from jfsed_jax.sed.score_titles import TITLES

SPLIT_NAMES = {"validation": "Validation", "eval": "Evaluation"}


@dataclass(frozen=True)
class SavedSplit:
    """What `evaluate` wrote for one split; None stands for a file that is not there.

    Attributes:
      folder: where it lies, in ``eval`` or, scored with another window rule, in ``eval-RULE``.
      title: for a heading, with the rule where a run has scores of several, or of another alone.
      scores: the content of scores.json.
      reference, estimates: events in seconds, and the clips that the reference names.
      posteriors: filenames [N], clip [N, C], frames [N, T, C], clip_reference [N, C].
      examples: filenames [K], mel [K, T, F]; of some versions worst, recordings, starts and
        sound_ends [K], and sound.
    """

    folder: SplitFolder
    title: str
    scores: dict[str, Any] | None
    reference: tables.EventTable | None
    estimates: tables.EventTable | None
    posteriors: dict[str, np.ndarray] | None
    examples: dict[str, np.ndarray] | None

    @property
    def name(self) -> str:
        """Of the clips: ``validation`` or ``eval``, whatever the rule."""
        return self.folder.path.name


@dataclass(frozen=True)
class SavedRun:
    """A workdir as read; None stands for a file that is not there.

    Attributes:
      splits: in the order of a page: split by split, of each the run's own rule first.
    """

    workdir: Path
    meta: dict[str, Any]
    config: dict[str, Any] | None
    train: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    weights: dict[str, Any] | None
    thresholds: dict[str, Any] | None
    splits: list[SavedSplit]

    @property
    def classes(self) -> list[str]:
        """The class labels, in the order of the model's outputs."""
        return self.meta.get("classes", [])

    @property
    def own_splits(self) -> list[SavedSplit]:
        """Of each split that of the run's own rule or, if there is none, the first."""
        return list({split.name: split for split in reversed(self.splits)}.values())[::-1]

    @property
    def system(self) -> str:
        """The name of the system."""
        return str(self.meta.get("system") or self.workdir.resolve().name)

    def command(self, name: str) -> str:
        """A command line over this workdir, or for this seed of its run."""
        if self.meta.get("seed") is None:
            return f"jfsed-jax {name} --workdir {self.workdir}"
        run = self.workdir.resolve().parents[1]
        return f"jfsed-jax {name} --workdir {run} --seed {self.meta['seed']}"


def read_run(workdir: Path, *, only: Sequence[SplitFolder] | None = None) -> SavedRun:
    """Reads what a workdir holds, of its scored splits `only` some; see `SavedRun`."""
    if not workdir.is_dir():
        raise InputError(
            f"{workdir}: no such folder; expected the workdir of a run, as 'jfsed-jax train' "
            "makes it"
        )
    files = Workdir(workdir)
    meta = read_json(files.meta)
    config = read_json(files.config)
    rows = _read_metrics(files.metrics)
    splits = [
        _read_split(folder, title)
        for folder, title in _scored_folders(files, config)
        if only is None or folder in only
    ]
    if meta is None and config is None and not rows and not splits:
        hint = files.hint()
        raise InputError(
            f"{workdir} holds no run: none of meta.json, config.json, metrics.jsonl and eval/ is "
            f"there; 'jfsed-jax train' writes them{hint and '.' + hint}"
        )
    meta = meta or {}
    meta.setdefault("classes", _fallback_classes(splits))
    check_format(meta, files.meta)
    check_meta(files.meta, meta)
    run = SavedRun(
        workdir=workdir,
        meta=meta,
        config=config,
        train=[row for row in rows if row["kind"] == "train"],
        validation=[row for row in rows if row["kind"] == "validation"],
        weights=read_json(files.weights),
        thresholds=read_json(files.thresholds),
        splits=splits,
    )
    for split in splits:
        _check_shapes(split, len(run.classes))
    return run


def _scored_folders(
    files: Workdir, config: Mapping[str, Any] | None
) -> list[tuple[SplitFolder, str]]:
    """Evaluated splits and their titles: validation, eval, then others by name."""
    known = list(SPLIT_NAMES)
    found = [
        (known.index(path.name) if path.name in known else len(known), path.name, i, scored)
        for i, scored in enumerate(files.scored())
        for path in (files.path / scored).iterdir()
        if path.is_dir()
    ]
    own = ((config or {}).get("postprocess") or {}).get("rule") or "own rule"
    several = {scored for *_, scored in found} != {OWN_SCORES}
    folders = []
    for _, name, _, scored in sorted(found):
        title = SPLIT_NAMES.get(name, name)
        if several:
            title += f" · {own if scored == OWN_SCORES else scored.removeprefix(f'{OWN_SCORES}-')}"
        folders.append((files.split(name, scored), title))
    return folders


def _read_split(folder: SplitFolder, title: str) -> SavedSplit:
    def events(path: Path) -> tables.EventTable | None:
        return tables.read_events(path) if path.exists() else None

    scores = read_json(folder.scores)
    if scores is not None:
        _check_scores(folder.scores, scores)
    return SavedSplit(
        folder=folder,
        title=title,
        scores=scores,
        reference=events(folder.reference),
        estimates=events(folder.events),
        posteriors=read_arrays(folder.posteriors, ("filenames", "clip")),
        examples=read_arrays(folder.examples, ("filenames", "mel")),
    )


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl by step; of two rows of one step and kind the later one counts.

    A run that was killed repeats the steps since its last checkpoint. A damaged row is left out.
    """
    rows: dict[tuple[str, float], dict[str, Any]] = {}
    for row in read_log(path):
        if row.entry is None:
            logging.warning(
                "%s, row %d: expected a JSON object with 'kind' and 'step', found %.60r; left out",
                path,
                row.number,
                row.text,
            )
            continue
        entry = {**row.entry, "step": float(row.entry["step"])}
        rows[entry["kind"], entry["step"]] = entry
    return [rows[key] for key in sorted(rows, key=lambda key: key[1])]


def read_arrays(path: Path, required: Sequence[str]) -> dict[str, np.ndarray] | None:
    """The arrays of an .npz file, None if there is none.

    Raises:
      InputError: it is damaged, or one that is required is missing.
    """
    if not path.exists():
        return None
    try:
        # NumPy leaves a file open that it opened itself and found damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged: expected arrays in NumPy's .npz format") from error
    absent = [name for name in required if name not in arrays]
    if absent:
        raise InputError(f"{path}: expected the arrays {', '.join(required)}; {absent} missing")
    return arrays


def _check_scores(path: Path, scores: Mapping[str, Any]) -> None:
    if not isinstance(scores.get("info", {}), dict):
        raise InputError(f"{path}: expected 'info' to be an object, found {scores['info']!s:.60}")
    for key in TITLES:
        score = scores.get(key)
        if score is None:
            continue
        if not isinstance(score, dict) or not isinstance(score.get("classwise", {}), dict):
            raise InputError(
                f"{path}: expected '{key}' with 'macro', 'micro', 'classwise', found {score!r:.60}"
            )
        values = [score.get("macro"), score.get("micro"), *score.get("classwise", {}).values()]
        wrong = [v for v in values if v is not None and not is_number(v)]
        if wrong:
            raise InputError(f"{path}: expected numbers in '{key}', found {wrong[0]!s:.60}")


def _check_shapes(split: SavedSplit, num_classes: int) -> None:
    folder = split.folder

    def expect(path: Path, name: str, array: np.ndarray, shape: tuple[int | None, ...]) -> None:
        fits = len(shape) == array.ndim and all(
            wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise InputError(f"{path}: expected '{name}' of shape [{wanted}], found {array.shape}")

    if split.posteriors is not None:
        arrays, n = split.posteriors, len(split.posteriors["filenames"])
        expect(folder.posteriors, "clip", arrays["clip"], (n, num_classes))
        for name, shape in (
            ("clip_reference", (n, num_classes)),
            ("frames", (n, None, num_classes)),
        ):
            if name in arrays:
                expect(folder.posteriors, name, arrays[name], shape)
    if split.examples is not None:
        arrays, n = split.examples, len(split.examples["filenames"])
        expect(folder.examples, "mel", arrays["mel"], (n, None, None))
        for name in ("worst", "recordings", "starts", "sound_ends"):
            if name in arrays:
                expect(folder.examples, name, arrays[name], (n,))


def _fallback_classes(splits: Iterable[SavedSplit]) -> list[str]:
    """Without meta.json: the classes that the posteriors or, failing that, the scores name."""
    for split in splits:
        if split.posteriors is not None and "classes" in split.posteriors:
            return [str(label) for label in split.posteriors["classes"]]
        if split.scores is not None:
            return list((split.scores.get("event_f1") or {}).get("classwise", {}))
    return []
