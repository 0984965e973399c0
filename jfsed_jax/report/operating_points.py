"""Where a class's decisions are taken: precision and recall of its tags, Event-F1 by threshold.

Axis letters: ``B`` clips, ``C`` event classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.report.charts import Chart, Mark, Series, line_chart
from jfsed_jax.report.formatting import number
from jfsed_jax.runs.saved_run import SavedRun, SavedSplit
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.sed.tag_curves import tag_curve

TAGGED = 0.5  # clip posteriors above it are tags
_POINTS = 120  # of a curve that is drawn
_FEW = 20  # events, of which one is more than 5 points of an F1


def tag_decisions(split: SavedSplit) -> tuple[np.ndarray, np.ndarray] | None:
    """Of the clip head: reference and tagged, <bool>[B, C]; None where they are not known."""
    if split.posteriors is None or "clip_reference" not in split.posteriors:
        return None
    return split.posteriors["clip_reference"].astype(bool), split.posteriors["clip"] > TAGGED


def tag_chart(split: SavedSplit, c: int) -> Chart | None:
    """Precision by recall of the tags of class `c`, with the point where they are taken."""
    tags = tag_decisions(split)
    if tags is None or split.posteriors is None:
        return None
    curve = tag_curve(split.posteriors["clip"][:, c], tags[0][:, c])
    if curve is None:
        return None
    marks, note = [], f"no posterior exceeds {TAGGED}"
    if taken := int(np.sum(curve.thresholds > TAGGED)):
        precision, recall = float(curve.precision[taken - 1]), float(curve.recall[taken - 1])
        note = f"above {TAGGED}: precision {100 * precision:.0f} %, recall {100 * recall:.0f} %"
        marks = [Mark("knee", note, recall, precision)]
    keep = np.unique(np.linspace(0, len(curve.recall) - 1, _POINTS).astype(int))
    return line_chart(
        "Tags of the clip head: precision by recall",
        [Series("precision", curve.recall[keep], curve.precision[keep])],
        x_label="recall",
        y_label="precision",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        marks=marks,
        note=[note],
    )


def thresholds_used(run: SavedRun, split: SavedSplit) -> dict[str, float]:
    """Of the frame posteriors, by label; none of a decoder that compares something else with it.

    Raises:
      InputError: scores.json or config.json is damaged.
    """
    info = (split.scores or {}).get("info") or {}
    if not _has_medians(info):
        return {}
    try:
        if file := info.get("decoder_file"):
            classes = file.get("classes") or {}
            return {label: float(own["threshold"]) for label, own in classes.items()}
        if tuned := info.get("thresholds"):
            return dict(zip(run.classes, map(float, tuned), strict=True))
        page = (run.config or {}).get("postprocess") or {}
        return dict.fromkeys(run.classes, float(page.get("threshold", 0.5)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the thresholds in {split.folder.scores} or {Workdir(run.workdir).config} are damaged"
        ) from error


def _has_medians(info: Mapping[str, Any]) -> bool:
    """Whether events are of the median filter; older versions did not write it and had no other."""
    return info.get("decoder", "median") == "median"


def has_curves(run: SavedRun, split: SavedSplit) -> bool:
    """Whether Event-F1 by threshold is known for the weights and windows of the split's scores."""
    info = (split.scores or {}).get("info") or {}
    found = run.thresholds or {}
    return bool(found) and (found.get("step"), found.get("postprocess")) == (
        info.get("checkpoint_step"),
        info.get("postprocess"),
    )


def misses_curves(run: SavedRun) -> bool:
    """Whether no scores have Event-F1 by threshold, and some could: of other decoders not."""
    infos = [(split.scores or {}).get("info") or {} for split in run.own_splits]
    return not any(has_curves(run, split) for split in run.own_splits) and not all(
        info.get("decoder_file") or not _has_medians(info) for info in infos
    )


def threshold_chart(run: SavedRun, split: SavedSplit, c: int) -> Chart | None:
    """Event-F1 of class `c` by threshold, on the clips that training held out.

    Raises:
      InputError: thresholds.json is damaged.
    """
    used = thresholds_used(run, split).get(run.classes[c])
    if run.thresholds is None or used is None or not has_curves(run, split):
        return None
    try:
        own = run.thresholds["classes"].get(run.classes[c])
        if own is None:  # no event in the clips
            return None
        thresholds = np.asarray(run.thresholds["thresholds"], np.float64)
        f1 = np.asarray(own["event_f1"], np.float64)
        highest, at = int(np.argmax(f1)), float(np.interp(used, thresholds, f1))
        events, clips = int(own["events"]), int(run.thresholds["clips"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"{Workdir(run.workdir).thresholds} is damaged: expected clips, thresholds and, by "
            "class, events and event_f1 (one a threshold)"
        ) from error
    return line_chart(
        "Event-F1 by threshold",
        [Series("Event-F1", thresholds, f1)],
        x_label="threshold of the frame posteriors",
        y_label="Event-F1, %",
        x_range=(0.0, 1.0),
        y_range=(0.0, 100.0),
        marks=[Mark("used", f"used: {used:.2f}", used)],
        note=[
            f"{number(at)} at {used:.2f}, which is used; {number(f1[highest])} at "
            f"{thresholds[highest]:.2f}",
            f"{clips} clips that training held out, {events} events"
            + (f": one hit is about {100 / events:.0f} points" if 0 < events < _FEW else ""),
        ],
    )
