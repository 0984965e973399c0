"""Figures 3 and 7 of the paper, from the files of a run.

Axis letters: ``N`` durations.
"""

from typing import NamedTuple

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.report.charts import Chart, Key, Mark, Series, curve_key, line_chart, mark_key
from jfsed_jax.report.formatting import label_text, number, significant
from jfsed_jax.report.listings import Bar, Listing, Noted
from jfsed_jax.runs.saved_run import SavedRun
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.sed.window_rules import ClassWindow

# Of more than this many charts in a row, the rest is folded away.
SHOWN = 12

# Figure 7 ----------------------------------------------------------------------------------------


class Durations(NamedTuple):
    """The distributions of figure 7, what their lines are, and the windows they lead to."""

    keys: list[Key]
    charts: list[Chart]
    listing: Listing


def _class_windows(run: SavedRun) -> list[tuple[ClassWindow, np.ndarray]]:
    """What meta.json says of each class's windows, and its durations <float64>[N], sorted."""
    try:
        durations = run.meta.get("durations", {})
        windows = [
            ClassWindow(**{field: entry[field] for field in ClassWindow._fields})
            for entry in run.meta.get("window_details", [])
        ]
        return [(w, np.sort(np.asarray(durations[w.label], np.float64))) for w in windows]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{Workdir(run.workdir).meta} is damaged: expected 'durations' by class and "
            f"'window_details' with {', '.join(ClassWindow._fields)}; "
            f"{type(error).__name__}: {error}"
        ) from error


def class_durations(run: SavedRun) -> Durations | None:
    """Figure 7: each class's durations, their knee and the windows of equation 7."""
    reports = _class_windows(run)
    if not reports:
        return None
    rate = float(run.meta.get("frame_rate") or 60.0)
    # Where some are folded away, those with the most events are shown.
    drawn = sorted(reports, key=lambda r: -r[0].num_events) if len(reports) > SHOWN else reports
    fixed = sorted({w.fixed for w, _ in reports})
    caption = "Windows of the median filters in frames"
    caption += f"; the fixed rule has {fixed[0]}" if fixed else ""
    return Durations(
        keys=[
            curve_key("share of events up to this length"),
            mark_key(Mark("mean", "mean of all", 0.0)),
            mark_key(Mark("knee", "knee", 0.0, 0.0)),
            mark_key(Mark("esp", "mean up to the knee", 0.0)),
            Key("ESP window", "window"),
        ],
        charts=[_duration_chart(w, durations, rate) for w, durations in drawn if durations.size],
        listing=Listing(
            caption=caption,
            columns=["Class", "Events", "Mean, s", "Knee, s (N)", "avg", "ESP"],
            rows=[
                [
                    label_text(w.label),
                    number(w.num_events, 0),
                    number(w.mean, 2) if w.num_events else "–",
                    f"{w.knee:.2f} ({w.knee_index})" if w.clear_knee else "–",
                    *(Noted(frames, f"{frames / rate:.2f} s") for frames in (w.avg, w.esp)),
                ]
                for w, _ in reports
            ],
        ),
    )


def _duration_chart(window: ClassWindow, durations: np.ndarray, rate: float) -> Chart:
    n = len(durations)
    kept = durations[: max(1, window.knee_index)]
    shares = np.arange(1, n + 1) / n
    # Equal durations are one step; long lists are drawn at even shares.
    keep = np.flatnonzero(np.append(np.diff(durations) > 0, True))
    if len(keep) > 240:
        keep = keep[np.unique(np.linspace(0, len(keep) - 1, 240).astype(int))]
    curve = Series(
        "cumulative share",
        np.concatenate([[0.0, durations[0]], durations[keep]]),
        np.concatenate([[0.0, 0.0], shares[keep]]),
    )
    marks = [Mark("mean", f"mean of all: {window.mean:.2f} s", window.mean)]
    knee = "no clear knee"
    if window.clear_knee:
        marks.append(Mark("esp", f"mean up to the knee: {kept.mean():.2f} s", float(kept.mean())))
        marks.append(Mark("knee", f"knee: {window.knee:.2f} s", window.knee, len(kept) / n))
        knee = f"knee {window.knee:.2f} s ({len(kept)} of {n})"
    return line_chart(
        label_text(window.label),
        [curve],
        x_label="duration, seconds",
        y_label="share of events",
        x_range=(0.0, float(durations[-1]) * 1.02),
        y_range=(0.0, 1.0),
        marks=marks,
        span=(0.0, window.esp / rate),
        note=(
            f"mean {window.mean:.2f} s, {knee}",
            f"avg {window.avg} frames ({window.avg / rate:.2f} s), "
            f"ESP {window.esp} ({window.esp / rate:.2f} s)",
        ),
        step=True,
    )


# Figure 3 ----------------------------------------------------------------------------------------


class WeightSums(NamedTuple):
    """Sums by class, and of which clips; the weight is (1 - p)^gamma if `lin`, else 1 - p^gamma."""

    kinds: str
    gamma: str
    lin: bool
    listing: Listing


def weight_sums(run: SavedRun) -> WeightSums | None:
    """Figure 3: class-wise sums of p and of the adaptive weight, where a run saved them."""
    if run.weights is None:
        return None
    path = Workdir(run.workdir).weights
    try:
        labels = [str(label) for label in run.weights["classes"]]
        probability = [float(v) for v in run.weights["probability"]]
        weight = [float(v) for v in run.weights["weight"]]
        rows = [
            [label_text(label), Bar(p, max(probability), 2), Bar(w, max(weight), 2)]
            for p, w, label in sorted(zip(probability, weight, labels, strict=True))
        ]
        epoch = significant(float(run.weights["epoch"]))
        gamma = significant(float(run.weights["gamma"]))
        lin = run.weights["focal_form"] == "lin"
        counts = {str(kind): int(n) for kind, n in run.weights["clips"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: expected epoch, gamma, focal_form, clips by kind, classes, "
            "probability and weight (one a class)"
        ) from error
    listing = Listing(
        caption=f"Epoch {epoch}, hardest class first",
        columns=["Class", "Sum of p", "Sum of the weight"],
        rows=rows,
    )
    kinds = " and ".join(f"{n} {kind}" for kind, n in counts.items())
    return WeightSums(kinds, gamma, lin, listing)
