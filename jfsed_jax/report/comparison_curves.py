"""The logs of several systems in the same charts: scores of held-out clips, loss terms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jfsed_jax.report.charts import Chart, Series, line_chart, thin
from jfsed_jax.report.comparison import and_more
from jfsed_jax.report.run_curves import group_title, loss_terms, steps_per_epoch
from jfsed_jax.runs.meta import is_number
from jfsed_jax.runs.saved_run import SavedRun
from jfsed_jax.runs.scored_runs import ComparedSystem

Row = Mapping[str, Any]

_SCORES = {
    "selection": ("What selects the checkpoint", "score"),
    "event_f1": ("Held-out clips: Event-F1", "F1, %"),
    "segment_f1": ("Held-out clips: Segment-F1", "F1, %"),
    "at_f1": ("Held-out clips: AT-F1", "F1, %"),
}


def shared_charts(systems: Sequence[ComparedSystem]) -> list[Chart]:
    """Each value of the logs that some system has, with a curve for each.

    The curve of several seeds is their mean, at the steps that all of them have. By epoch where an
    epoch is as many steps in all runs that say so, else by step.
    """
    validation = [[run.saved.validation for run in system.runs] for system in systems]
    train = [[run.saved.train for run in system.runs] for system in systems]
    length = _shared_epoch([run.saved for system in systems for run in system.runs])
    charts: list[Chart] = []

    def add(title: str, y_label: str, logs: Sequence[Sequence[Sequence[Row]]], key: str) -> None:
        found = [mean_of_seeds(of_seeds, key) for of_seeds in logs]
        if not any(found):
            return
        curves = []
        for system, points in zip(systems, found, strict=True):
            # One without the value has its place all the same: a colour is one system's.
            x, y = np.asarray(points, np.float64).reshape(-1, 2).T
            curves.append(thin(Series(system.label, x / (length or 1.0), y)))
        logged = [system.label for system, points in zip(systems, found, strict=True) if points]
        note = [] if len(logged) == len(systems) else [f"logged by {and_more(logged)}"]
        x_label = "epoch" if length else "step"
        charts.append(line_chart(title, curves, x_label=x_label, y_label=y_label, note=note))

    for key, (title, y_label) in _SCORES.items():
        add(title, y_label, validation, key)
    add("Loss: the weighted sum", "loss", train, "loss")
    rows = [row for of_seeds in train for log in of_seeds for row in log]
    for group, terms in loss_terms(rows):
        for key, name in terms:
            title = group_title(group)
            add(f"{title}: {name}" if "/" in key else title, "loss", train, key)
    return charts


def mean_of_seeds(logs: Sequence[Sequence[Row]], key: str) -> list[tuple[float, float]]:
    """(step, mean over the seeds) of a value, at the steps at which all seeds have it."""
    values: dict[float, list[float]] = {}
    for log in logs:
        for row in log:
            if is_number(row.get(key)):
                values.setdefault(row["step"], []).append(row[key])
    return [
        (step, float(np.mean(found)))
        for step, found in sorted(values.items())
        if len(found) == len(logs)
    ]


def _shared_epoch(runs: Sequence[SavedRun]) -> float | None:
    """Steps of an epoch, the same in all runs; None if it is not."""
    lengths = {steps_per_epoch(run) for run in runs}
    return lengths.pop() if len(lengths) == 1 else None
