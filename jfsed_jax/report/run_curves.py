"""How a run went: scores of the clips that select, loss terms, measures, schedules by epoch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jfsed_jax.report.charts import Chart, Mark, Series, line_chart, thin
from jfsed_jax.report.formatting import label_text, number, significant
from jfsed_jax.runs.log_rows import SPEED
from jfsed_jax.runs.saved_run import SavedRun, is_number

_NOT_LOSSES = frozenset(
    {"kind", "step", "epoch", "loss", "alpha", "beta", "learning_rate"}
    | {"gradient_norm", "consistency"}
    | SPEED
)
_TITLES = {
    "teacher": "Labels: the teacher",
    "student": "Labels: the student",
    "consistency": "Consistency of teacher and student",
    "distillation": "Distillation of features",
}
_CURVES = {
    "teacher_to_student": "teacher → student",
    "student_to_teacher": "student → teacher",
    "tfd": "TFD",
    "dfd_d": "DFD-D",
    "dfd_d_weak_unlabelled": "DFD-D (w+u)",
    "dfd_mse": "DFD-MSE",
}
_MEASURES = "measures/"  # how the log names what is measured and not minimised
# What is measured of a distillation term: title and axis of the chart, its curves.
_OF_MAPS = (
    ("norms of the mapped features", "norm", {f"{m}_norm": m for m in ("teacher", "student")}),
    (
        "relative distance (0: equal, 1: at right angles)",
        "relative distance",
        {"relative_distance": "relative distance"},
    ),
    (
        "rank of the mapped features (1: one direction)",
        "rank",
        {f"{m}_rank": m for m in ("teacher", "student")},
    ),
)


def selects_on_validation(run: SavedRun) -> bool:
    """Whether the development set chose the weights; otherwise clips held out of training did."""
    return (run.config or {}).get("evaluation", {}).get("select_on") == "validation"


def best_row(run: SavedRun) -> dict[str, Any] | None:
    """The line of the log whose weights did best on the clips that select.

    Of equals the later one, as `checkpoints.choose_step` has it.
    """
    rows = [row for row in run.validation if is_number(row.get("selection"))]
    return max(rows, key=lambda row: (row["selection"], row["step"])) if rows else None


def steps_per_epoch(run: SavedRun) -> float | None:
    """Of its training, if the run says so."""
    for steps in (run.meta.get("steps_per_epoch"), (run.config or {}).get("steps_per_epoch")):
        if is_number(steps) and steps > 0:
            return float(steps)
    return None


def epoch_text(run: SavedRun, row: Mapping[str, Any]) -> str:
    """When a line of the log was written: ``after 12 epochs (step 600)``."""
    per_epoch = steps_per_epoch(run)
    step = number(row["step"], 0)
    if per_epoch is None:
        return f"of step {step}"
    return f"after {significant(round(row['step'] / per_epoch, 1))} epochs (step\u00a0{step})"


def epochs_done(run: SavedRun) -> str | None:
    """How far training came: ``40 epochs``, or ``12 of 40 epochs``."""
    per_epoch = steps_per_epoch(run)
    if per_epoch is None or not run.train:
        return None
    done = significant(round(run.train[-1]["step"] / per_epoch, 1))
    planned = (run.config or {}).get("epochs")
    if is_number(planned) and significant(planned) != done:
        return f"{done} of {significant(planned)} epochs"
    return f"{done} epochs"


def training_curves(run: SavedRun) -> list[Chart] | None:
    """The charts, None if nothing is logged yet."""
    if not run.train and not run.validation:
        return None
    per_epoch = steps_per_epoch(run)
    x_label = "epoch" if per_epoch else "step"

    def curve(rows: Sequence[Mapping[str, Any]], key: str, label: str) -> Series | None:
        points = [
            (row["step"] / (per_epoch or 1.0), row[key]) for row in rows if is_number(row.get(key))
        ]
        if not points:
            return None
        x, y = np.asarray(points, np.float64).T
        return thin(Series(label, x, y))

    last = max(row["step"] for row in [*run.train, *run.validation]) / (per_epoch or 1.0)
    charts: list[Chart] = []

    def add(title: str, y_label: str, curves: Iterable[Series | None], **options: Any) -> None:
        shown = [c for c in curves if c is not None]
        if shown:
            charts.append(
                line_chart(
                    title, shown, x_label=x_label, y_label=y_label, x_range=(0.0, last), **options
                )
            )

    best, tau = best_row(run), ((run.config or {}).get("loss") or {}).get("tau")
    selected, stage = [], []
    if best is not None:
        selected = [Mark("best", "selected", best["step"] / (per_epoch or 1.0))]
    if per_epoch and is_number(tau) and 0 < tau < last:
        stage = [Mark("stage", "focal from here", float(tau))]
    add(
        "Held-out clips: F1 in percent",
        "F1, %",
        [
            curve(run.validation, "event_f1", "Event-F1"),
            curve(run.validation, "segment_f1", "Segment-F1"),
            curve(run.validation, "at_f1", "AT-F1"),
        ],
        y_range=(0.0, 100.0),
        keyed=selected,
    )
    add("Loss: the weighted sum", "loss", [curve(run.train, "loss", "loss")], keyed=stage)
    for group, terms in loss_terms(run.train):
        keyed = stage if group in ("teacher", "student") else ()
        title = group_title(group)
        title = f"{title}: {terms[0][1]}" if len(terms) == 1 and "/" in terms[0][0] else title
        add(title, "loss", [curve(run.train, key, label) for key, label in terms], keyed=keyed)
    for title, y_label, measured in _measures(run.train):
        add(title, y_label, [curve(run.train, key, label) for key, label in measured])
    add(
        "Weights: guidance, distillation β",
        "weight",
        [
            curve(run.train, "consistency", "of the student"),
            curve(run.train, "alpha", "of the teacher, α"),
            curve(run.train, "beta", "β"),
        ],
    )
    rate = [curve(run.train, "learning_rate", "learning rate")]
    add("Learning rate", "learning rate", rate)
    return charts


def group_title(group: str) -> str:
    """The title of a chart of loss terms."""
    return _TITLES.get(group, label_text(group))


def loss_terms(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Charts of loss terms: (group, [(key, curve name)]); terms ``group/name`` share a chart."""
    charts: dict[str, list[tuple[str, str]]] = {}
    keys = dict.fromkeys(k for row in rows for k in row)
    known = list(_TITLES)
    order = {key: known.index(group) for key in keys if (group := key.split("/")[0]) in known}
    for key in sorted(keys, key=lambda key: order.get(key, len(known))):
        if key in _NOT_LOSSES or key.startswith(_MEASURES):
            continue
        if not any(is_number(row.get(key)) for row in rows):
            continue
        group, _, term = key.partition("/")
        charts.setdefault(group, []).append((key, _CURVES.get(term, label_text(term or group))))
    return list(charts.items())


def _measures(
    rows: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Charts of what is measured beside the loss: (title, y label, [(key, curve name)])."""
    keys = sorted({k for row in rows for k in row if k.startswith(_MEASURES)})
    groups: dict[str, list[str]] = {}
    for key in keys:
        group, _, name = key.removeprefix(_MEASURES).rpartition("/")
        groups.setdefault(group, []).append(name)
    charts = []
    for group, names in groups.items():
        scheme, _, term = group.partition("/")
        path = f"{_MEASURES}{group}/" if group else _MEASURES
        if scheme == "distillation":
            term = _CURVES.get(term, label_text(term))
            for what, y_label, curves in _OF_MAPS:
                curves = {name: label for name, label in curves.items() if name in names}
                names = [name for name in names if name not in curves]
                measured = [(path + name, label) for name, label in curves.items()]
                charts.append((f"Distillation, {term}: {what}", y_label, measured))
        title = f"Measured: {label_text(group)}" if group else "Measured"
        charts.append((title, "value", [(path + name, label_text(name)) for name in names]))
    return charts
