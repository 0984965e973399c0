"""The page of a run: scores, curves, confusions, durations and clips, from saved files only.

Figures 3, 5, 6 and 7 of the paper are drawn from what a run wrote into its workdir; no model is
loaded. A part whose files are not there yet is replaced by the command that writes them; a file
that cannot be read is an `InputError` that names it.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import jfsed_jax
from jfsed_jax.errors import InputError
from jfsed_jax.report import figures as run_figures
from jfsed_jax.report import page
from jfsed_jax.report.page import Bar, Html, Mark, Series, element, label_text
from jfsed_jax.runs.workdir import SCORES, Run, Split, is_number, read_run

RULES = {
    "esp": "event-specific windows (ESP)",
    "avg": "windows from mean durations (avg)",
    "fixed": "one fixed window",
}


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
    path = run.workdir / "report.html"
    partial = path.with_name("report.html.partial")
    try:
        partial.write_text(render(run), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    return path


def render(run: Run) -> str:
    """The page as text."""
    parts = [
        ("clips", "Clips", run_figures.clips_section(run)),
        ("classes", "Classes", _classes_section(run)),
        ("tagging", "Tagging", run_figures.tagging_section(run)),
        ("training", "Training", _training_section(run)),
        ("durations", "Durations", run_figures.durations_section(run)),
        ("weights", "Focal weights", run_figures.weights_section(run)),
        ("run", "The run", _run_section(run)),
    ]
    links = [(identifier, text) for identifier, text, body in parts if body is not None]
    return page.page(
        f"{run.system} · sound event detection",
        _header(run, links),
        *(body for _, _, body in parts),
        element(
            "footer",
            f"Written by jfsed-jax {jfsed_jax.__version__} from the saved files of the run; ",
            element("code", "jfsed-jax report"),
            " writes it again.",
        ),
        description=f"Scores and figures of a run of {run.system}",
    )


# Header ------------------------------------------------------------------------------------------


def _header(run: Run, links: Sequence[tuple[str, str]]) -> Html:
    best = _best(run)
    lede: list[object] = ["Trained" if run.train else "Not trained yet"]
    if run.meta.get("data"):
        lede += [" on ", element("b", run.meta["data"])]
    if run.train:
        steps = f"{page.number(run.train[-1]['step'], 0)} steps"
        epochs = _epochs_done(run)
        lede.append(f" for {epochs} ({steps})" if epochs else f" for {steps}")
    lede.append(".")
    if best is not None:
        lede.append(f" The weights {_epoch_text(run, best)} did best on the held-out clips.")
    scored = [split for split in run.splits if split.scores is not None]
    body: list[object] = []
    for split in scored:
        scores = split.scores or {}
        conditions = element("small", _score_conditions(scores))
        body += [element("h2", split.title, conditions, class_="split"), _headline(scores)]
    if scored:
        body.append(
            element(
                "p",
                "F1 in percent. The large figures are means over the classes (macro); micro "
                "counts all classes together.",
                class_="note",
            )
        )
    else:
        body.append(page.missing("Nothing is scored yet:", run.command("evaluate")))
    return element(
        "header",
        element("p", "Sound event detection and audio tagging", class_="kicker"),
        element("h1", run.system),
        element("p", *lede, class_="lede"),
        *body,
        page.navigation(links),
    )


def _best(run: Run) -> dict[str, Any] | None:
    rows = [row for row in run.validation if is_number(row.get("selection"))]
    return max(rows, key=lambda row: row["selection"]) if rows else None


def _steps_per_epoch(run: Run) -> float | None:
    for steps in (run.meta.get("steps_per_epoch"), (run.config or {}).get("steps_per_epoch")):
        if is_number(steps) and steps > 0:
            return float(steps)
    return None


def _epoch_text(run: Run, row: Mapping[str, Any]) -> str:
    per_epoch = _steps_per_epoch(run)
    step = page.number(row["step"], 0)
    if per_epoch is None:
        return f"of step {step}"
    return f"after {page.significant(round(row['step'] / per_epoch, 1))} epochs (step\u00a0{step})"


def _epochs_done(run: Run) -> str | None:
    per_epoch = _steps_per_epoch(run)
    if per_epoch is None or not run.train:
        return None
    done = page.significant(round(run.train[-1]["step"] / per_epoch, 1))
    planned = (run.config or {}).get("epochs")
    if is_number(planned) and page.significant(planned) != done:
        return f"{done} of {page.significant(planned)} epochs"
    return f"{done} epochs"


def _score_conditions(scores: Mapping[str, Any]) -> str:
    info = scores.get("info") or {}
    parts = []
    if is_number(info.get("num_clips")):
        parts.append(f"{page.number(info['num_clips'], 0)} clips")
    if info.get("model", "student") != "student":
        parts.append(f"posteriors of the {info['model']}")
    if info.get("postprocess"):
        parts.append(RULES.get(str(info["postprocess"]), str(info["postprocess"])))
    if info.get("thresholds"):
        parts.append("thresholds tuned on the clips that training held out")
    if is_number(info.get("checkpoint_step")):
        parts.append(f"weights of step {page.number(info['checkpoint_step'], 0)}")
    return ", ".join(parts)


def _headline(scores: Mapping[str, Any]) -> Html:
    tiles = []
    for key, name, meaning in SCORES:
        score = scores.get(key)
        if not score:
            continue
        tiles.append(
            element(
                "div",
                element("span", name),
                element("b", page.number(score.get("macro"))),
                element("small", _margin(scores, key), f"micro {page.number(score.get('micro'))}"),
                element("small", meaning),
            )
        )
    return element("div", *tiles, class_="scores")


def _margin(scores: Mapping[str, Any], key: str) -> str:
    """The 95 % interval of a macro score, where `evaluate` resampled the clips."""
    interval = (scores.get("intervals") or {}).get(f"{key}/macro")
    if not isinstance(interval, list) or len(interval) != 2:
        return ""
    return f"{page.number(interval[0])} to {page.number(interval[1])} · "


def _score_table(run: Run, split: Split, *, only: bool) -> Html:
    scores = split.scores or {}
    present = [(key, name) for key, name, _ in SCORES if scores.get(key)]
    named = [label for key, _ in present for label in scores[key].get("classwise", {})]
    classes = list(dict.fromkeys([*run.classes, *named]))
    events: dict[str, int] = {}
    if split.reference is not None:
        for event in split.reference.events:
            events[event.event_label] = events.get(event.event_label, 0) + 1
    rows = [
        [
            label_text(label),
            *([events.get(label, 0)] if events else []),
            *(Bar(scores[key].get("classwise", {}).get(label)) for key, _ in present),
        ]
        for label in classes
    ]
    footer = [
        [
            title,
            *([total] if events else []),
            *(page.number(scores[key].get(kind)) for key, _ in present),
        ]
        for title, kind, total in (
            ("Macro", "macro", page.number(sum(events.values()), 0)),
            ("Micro", "micro", None),
        )
    ]
    caption = "F1 in percent" if only else f"{split.title}: F1 in percent"
    columns = ["Class", *(["Events"] if events else []), *(name for _, name in present)]
    notes = [str(note) for key, _ in present for note in scores[key].get("notes") or []]
    kinds = [
        (kind, key, name)
        for key, name in present
        for kind in ("precision", "recall")
        if isinstance(scores[key].get(kind), dict)
    ]
    rates = [
        [
            label_text(label),
            *(page.number(scores[k][kind].get("classwise", {}).get(label)) for kind, k, _ in kinds),
        ]
        for label in classes
    ]
    averages = [
        [title, *(page.number(scores[k][kind].get(average)) for kind, k, _ in kinds)]
        for title, average in (("Macro", "macro"), ("Micro", "micro"))
    ]
    titles = ["Class", *(f"{name.removesuffix('-F1')}, {kind}" for kind, _, name in kinds)]
    return page.join(
        [
            page.table(
                columns,
                rows,
                caption=caption,
                footer=footer,
                class_="by-class with-counts" if events else "by-class",
            ),
            *(element("p", note, class_="note") for note in notes),
            page.details(
                "Precision and recall",
                page.table(titles, rates, caption="In percent", footer=averages),
            )
            if kinds
            else None,
        ]
    )


def _classes_section(run: Run) -> Html | None:
    scored = [split for split in run.splits if split.scores is not None]
    if not scored:
        return None
    tables_ = [_score_table(run, split, only=len(scored) == 1) for split in scored]
    return page.section("classes", "Class by class", *tables_)


# Training ----------------------------------------------------------------------------------------

_NOT_LOSSES = frozenset(
    {"kind", "step", "epoch", "loss", "alpha", "beta", "learning_rate", "clips_per_second"}
    | {"gradient_norm", "data_wait", "consistency"}
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


def _training_section(run: Run) -> Html:
    if not run.train and not run.validation:
        body: list[object] = [
            page.missing(
                "Nothing is logged yet:",
                f"jfsed-jax train --config CONFIG --data DIR --workdir {run.workdir}",
            )
        ]
        return page.section("training", "Training", *body)
    per_epoch = _steps_per_epoch(run)
    x_label = "epoch" if per_epoch else "step"

    def curve(rows: Sequence[Mapping[str, Any]], key: str, label: str) -> Series | None:
        points = [
            (row["step"] / (per_epoch or 1.0), row[key]) for row in rows if is_number(row.get(key))
        ]
        if not points:
            return None
        x, y = np.asarray(points, np.float64).T
        return page.thin(Series(label, x, y))

    last = max(row["step"] for row in [*run.train, *run.validation]) / (per_epoch or 1.0)
    frame = (0.0, last)
    figures: list[object] = []

    def add(title: str, curves: Iterable[Series | None], **options: Any) -> None:
        shown = [c for c in curves if c is not None]
        if shown:
            figures.append(page.line_chart(title, shown, x_label=x_label, x_range=frame, **options))

    best, tau = _best(run), ((run.config or {}).get("loss") or {}).get("tau")
    selected, stage = [], []
    if best is not None:
        selected = [Mark("best", "selected", best["step"] / (per_epoch or 1.0))]
    if per_epoch and is_number(tau) and 0 < tau < last:
        stage = [Mark("stage", "focal from here", float(tau))]
    add(
        "Held-out clips: F1 in percent",
        [
            curve(run.validation, "event_f1", "Event-F1"),
            curve(run.validation, "segment_f1", "Segment-F1"),
            curve(run.validation, "at_f1", "AT-F1"),
        ],
        y_range=(0.0, 100.0),
        keyed=selected,
    )
    add("Loss: the weighted sum", [curve(run.train, "loss", "loss")], keyed=stage)
    for group, terms in _loss_terms(run.train):
        keyed = stage if group in ("teacher", "student") else ()
        title = _TITLES.get(group, label_text(group))
        title = f"{title}: {terms[0][1]}" if len(terms) == 1 and "/" in terms[0][0] else title
        add(title, [curve(run.train, key, label) for key, label in terms], keyed=keyed)
    add(
        "Weights: guidance, distillation β",
        [
            curve(run.train, "consistency", "of the student"),
            curve(run.train, "alpha", "of the teacher, α"),
            curve(run.train, "beta", "β"),
        ],
    )
    add("Learning rate", [curve(run.train, "learning_rate", "learning rate")])
    return page.section(
        "training",
        "Training",
        page.folded_grid(figures, shown=run_figures.SHOWN, noun="curves"),
        lede="Scores on the clips that were held out of training, then every loss term before its "
        "weight, then the schedules.",
    )


def _loss_terms(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Charts of loss terms: (group, [(key, curve name)]); terms ``group/name`` share a chart."""
    charts: dict[str, list[tuple[str, str]]] = {}
    keys = dict.fromkeys(k for row in rows for k in row)
    known = list(_TITLES)
    order = {key: known.index(group) for key in keys if (group := key.split("/")[0]) in known}
    for key in sorted(keys, key=lambda key: order.get(key, len(known))):
        if key in _NOT_LOSSES or not any(is_number(row.get(key)) for row in rows):
            continue
        group, _, term = key.partition("/")
        charts.setdefault(group, []).append((key, _CURVES.get(term, label_text(term or group))))
    return list(charts.items())


# The run -----------------------------------------------------------------------------------------


def _run_section(run: Run) -> Html:
    meta, front_end = run.meta, run.meta.get("front_end") or {}
    clips, speeds = (
        None,
        [row["clips_per_second"] for row in run.train if is_number(row.get("clips_per_second"))],
    )
    if isinstance(meta.get("clips"), dict):
        counts = {kind: n for kind, n in meta["clips"].items() if is_number(n)}
        clips = ", ".join(f"{page.number(n, 0)} {label_text(kind)}" for kind, n in counts.items())
    front = None
    if {"sample_rate", "hop_length", "n_mels"} <= set(front_end):
        rate, hop = front_end["sample_rate"], front_end["hop_length"]
        front = (
            f"{front_end['n_mels']} log-mel bands, {page.significant(rate / hop)} frames/s, "
            f"{page.significant(rate / 1000)} kHz"
        )
    best = _best(run)
    selection = None
    if best is not None:
        selection = f"weights {_epoch_text(run, best)}, the best of {len(run.validation)}"
        by = [name for key, name, _ in SCORES if key != "segment_f1" and key in best]
        selection += f" by {' + '.join(by)}" if by else ""
    steps = f"{page.number(run.train[-1]['step'], 0)} steps" if run.train else None
    rows = [
        ("Data", meta.get("data")),
        ("Clips", clips),
        ("Classes", len(run.classes) or None),
        ("Input", front),
        ("Trained", ", ".join(filter(None, [_epochs_done(run), steps])) or None),
        ("Selected", selection),
        ("Speed", f"{page.significant(float(np.median(speeds)))} clips/s" if speeds else None),
    ]
    config = None
    if run.config is not None:
        values = [[element("code", key), value] for key, value in _flatten(run.config)]
        listing = page.table(["Value", ""], values, caption="config.json", class_="text")
        config = page.details(f"Its {len(values)} configuration values", listing)
    return page.section("run", "The run", page.facts(rows), config)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted keys and their values as JSON."""
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            rows.extend(_flatten(value, f"{prefix}{key}."))
        else:
            rows.append((f"{prefix}{key}", json.dumps(value, ensure_ascii=False)))
    return rows
