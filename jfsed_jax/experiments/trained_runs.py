"""A trained run, scored with every rule that a row wants; what is scored already stays."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jfsed_jax.datasets.clips import Prepared
from jfsed_jax.datasets.preparation import prepare
from jfsed_jax.errors import InputError
from jfsed_jax.experiments.planned_runs import SPLITS, score_folder
from jfsed_jax.experiments.result_table import RunScores
from jfsed_jax.inference import detector as detectors
from jfsed_jax.inference.detector import Detector
from jfsed_jax.inference.evaluation import describe_scores, evaluate
from jfsed_jax.inference.focal_weights import write_adaptive_weights
from jfsed_jax.inference.held_out_curves import write_threshold_curves
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.report import run_page
from jfsed_jax.runs.saved_counts import read_counts
from jfsed_jax.runs.workdir import SplitFolder


def score_run(
    folder: Path, data_dir: Path, rules: Sequence[str], features_dir: Path | None
) -> RunScores:
    """Scores a trained run with every rule on every split that is there.

    The rules share the posteriors. A split whose scores.json says that it is of this checkpoint,
    data and windows is left as it is.
    """
    detector = detectors.load(folder)
    files = detector.workdir
    prepared = prepare(
        data_dir, detector.front_end, features_dir=features_dir, classes=detector.classes
    )
    splits = [split for split in SPLITS if len(prepared.splits.get(split, ()))]
    if not splits:
        raise InputError(f"{data_dir} has neither validation nor evaluation clips to score")
    scores: dict[str, dict[str, Any]] = {rule: {} for rule in rules}
    folders = {rule: score_folder(detector.config.postprocess.rule, rule) for rule in rules}
    any_new = False
    for split in splits:
        where = {rule: files.split(split, folders[rule]) for rule in rules}
        done = {
            rule: _current_scores(where[rule], detector, prepared, split, rule) for rule in rules
        }
        for rule in rules:
            found = done[rule]
            if found is None or "intervals" not in found:  # older versions wrote none
                known = next((where[r] for r in (rule, *rules) if done[r] is not None), None)
                found = done[rule] = evaluate(
                    detector,
                    prepared,
                    files,
                    split=split,
                    rule=rule,
                    scored=folders[rule],
                    data_dir=data_dir,
                    output=None if known is None else _saved_posteriors(known),
                )
                any_new = True
            scores[rule][split] = found
    if any_new or not files.report.exists():
        write_adaptive_weights(detector, prepared, files)
        write_threshold_curves(detector, prepared, files)
        run_page.write_report(folder)
    counts = {
        rule: {
            split: read_counts(files.split(split, folders[rule]), detector.classes)
            for split in splits
        }
        for rule in rules
    }
    return RunScores(detector.meta["clips"], detector.classes, scores, counts)


def _current_scores(
    folder: SplitFolder, detector: Detector, prepared: Prepared, split: str, rule: str
) -> dict[str, Any] | None:
    """The scores in a folder if they are those that `evaluate` would write there again."""
    try:
        scores = json.loads(folder.scores.read_text(encoding="utf-8"))
        # Older versions did not write the classes, which the checkpoint has.
        found = {"classes": list(detector.classes)} | scores["info"]
        current = found == describe_scores(detector, prepared, split, rule)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return scores if current else None


def _saved_posteriors(folder: SplitFolder) -> Posteriors:
    with np.load(folder.posteriors) as saved:
        return Posteriors(saved["clip"], saved["frames"])
