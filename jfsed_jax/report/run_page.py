"""The page of a run: scores, curves, confusions, durations and clips, from saved files only.

Figures 3, 5, 6 and 7 of the paper are drawn from what a run wrote into its workdir; no model is
loaded. A part whose files are not there yet is replaced by the command that writes them; a file
that cannot be read is an `InputError` that names it.
"""

from pathlib import Path

import numpy as np

from jfsed_jax.report import operating_points, run_clips, run_errors, run_figures, run_tags
from jfsed_jax.report.clip_pictures import clip_keys, clip_player
from jfsed_jax.report.formatting import dotted, label_text, number, significant
from jfsed_jax.report.listings import Code, Listing
from jfsed_jax.report.rendering import render_template, save_page
from jfsed_jax.report.run_curves import (
    best_row,
    epoch_text,
    epochs_done,
    selects_on_validation,
    training_curves,
)
from jfsed_jax.report.run_scores import class_scores, headlines
from jfsed_jax.runs.saved_run import SavedRun, is_number, read_run
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.sed.score_titles import TITLES


def write_report(workdir: str | Path) -> Path:
    """Writes ``report.html`` into a workdir from the files already there.

    Args:
      workdir: of a run, finished or not.

    Returns:
      The path of the page.

    Raises:
      InputError: there is no run, or one of its files is damaged.
    """
    run = read_run(Path(workdir))
    return save_page(Workdir(run.workdir).report, render_run(run))


def render_run(run: SavedRun) -> str:
    """The page as text."""
    best = best_row(run)
    weights = run_figures.weight_sums(run)
    contrast = run_clips.example_contrast(run)
    kept = run_clips.kept_clips(run, contrast)
    errors = run_errors.class_errors(run, kept)
    classes = class_scores(run, {split.folder: split.places for split in errors})
    parts = [
        ("clips", "Clips", True),
        ("classes", "Classes", bool(classes)),
        ("errors", "Errors", bool(errors)),
        ("tagging", "Tagging", True),
        ("training", "Training", True),
        ("durations", "Durations", True),
        ("weights", "Focal weights", weights is not None),
        ("run", "The run", True),
    ]
    return render_template(
        "run.html",
        title=f"{run.system} · sound event detection",
        description=f"Scores and figures of a run of {run.system}",
        system=run.system,
        trained=bool(run.train),
        data=run.meta.get("data"),
        duration=_duration(run),
        best="" if best is None else epoch_text(run, best),
        selects_on_validation=selects_on_validation(run),
        scored=headlines(run),
        links=[(identifier, text) for identifier, text, present in parts if present],
        clips=run_clips.typical_clips(run, kept),
        player=clip_player(clip.picture for clips in kept for clip in clips),
        clip_keys=clip_keys(posterior=run_clips.any_posteriors(run), contrast=contrast),
        classes=classes,
        errors=errors,
        kind_keys=run_errors.kind_keys(),
        misses_curves=operating_points.misses_curves(run),
        tagging=run_tags.tag_confusions(run),
        curves=training_curves(run),
        durations=run_figures.class_durations(run),
        weights=weights,
        facts=_facts(run),
        config=_config(run),
        shown=run_figures.SHOWN,
        evaluate_command=run.command("evaluate"),
        train_command=f"jfsed-jax train --config CONFIG --data DIR --workdir {run.workdir}",
    )


def _steps(run: SavedRun) -> str:
    return f"{number(run.train[-1]['step'], 0)} steps"


def _duration(run: SavedRun) -> str:
    """How long training was, "" if it was not."""
    if not run.train:
        return ""
    epochs = epochs_done(run)
    return f"{epochs} ({_steps(run)})" if epochs else _steps(run)


def _facts(run: SavedRun) -> list[tuple[str, object]]:
    """What the page ends with; a fact that is not known is None."""
    meta, front_end = run.meta, run.meta.get("front_end") or {}
    speeds = [
        row["clips_per_second"] for row in run.train if is_number(row.get("clips_per_second"))
    ]
    clips = None
    if isinstance(meta.get("clips"), dict):
        counts = {kind: n for kind, n in meta["clips"].items() if is_number(n)}
        clips = ", ".join(f"{number(n, 0)} {label_text(kind)}" for kind, n in counts.items())
    front = None
    if {"sample_rate", "hop_length", "n_mels"} <= set(front_end):
        rate, hop = front_end["sample_rate"], front_end["hop_length"]
        front = (
            f"{front_end['n_mels']} log-mel bands, {significant(rate / hop)} frames/s, "
            f"{significant(rate / 1000)} kHz"
        )
    best, selection = best_row(run), None
    if best is not None:
        selection = f"weights {epoch_text(run, best)}, the best of {len(run.validation)}"
        by = [TITLES[key].short for key in TITLES if key != "segment_f1" and key in best]
        selection += f" by {' + '.join(by)}" if by else ""
    trained = [epochs_done(run), _steps(run) if run.train else None]
    begun = meta.get("init_from") or {}
    return [
        ("Began from", f"{begun.get('workdir')}, step {begun.get('step')}" if begun else None),
        ("Data", meta.get("data")),
        ("Clips", clips),
        ("Classes", len(run.classes) or None),
        ("Input", front),
        ("Trained", ", ".join(filter(None, trained)) or None),
        ("Selected", selection),
        ("Speed", f"{significant(float(np.median(speeds)))} clips/s" if speeds else None),
    ]


def _config(run: SavedRun) -> Listing | None:
    if run.config is None:
        return None
    rows = [(Code(key), value) for key, value in dotted(run.config)]
    return Listing("config.json", ["Value", ""], rows, class_="text")
