"""The page of a run: scores, curves, confusions, durations and clips, from saved files only.

Figures 3, 5, 6 and 7 of the paper are drawn from what a run wrote into its workdir; no model is
loaded. A part whose files are not there yet is replaced by the command that writes them; a file
that cannot be read is an `InputError` that names it.

Axis letters: ``N`` clips, ``T`` frames, ``F`` mel bands, ``C`` event classes.
"""

import json
import math
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

import jfsed_jax
from jfsed_jax import page, scoring, tables
from jfsed_jax.errors import InputError
from jfsed_jax.events import Event
from jfsed_jax.page import Bar, Html, Lane, Mark, Series, element, label_text
from jfsed_jax.postprocess import ClassWindow

# The scores of a split: key in scores.json, name, what it measures.
SCORES = (
    ("event_f1", "Event-F1", "onset within 0.2 s, offset within 0.2 s or 20 %"),
    ("segment_f1", "Segment-F1", "active or not in each second"),
    ("at_f1", "AT-F1", "tags from the clip head"),
    ("at_f1_events", "AT-F1 from events", "tags from the events that survive"),
)
SPLIT_NAMES = {"validation": "Validation", "eval": "Evaluation"}
RULES = {
    "esp": "event-specific windows (ESP)",
    "avg": "windows from mean durations (avg)",
    "fixed": "one fixed window",
}
# Of more than this many figures in a row, the rest is folded away.
SHOWN = 12
SHOWN_CLIPS = 4


@dataclass(frozen=True)
class Split:
    """What `evaluate` wrote for one split; None stands for a file that is not there.

    Attributes:
      name: of the folder.
      scores: the content of scores.json.
      reference, estimates: events in seconds, and the clips that the reference names.
      posteriors: filenames [N], clip [N, C], frames [N, T, C], clip_reference [N, C].
      examples: filenames [K], mel [K, T, F].
    """

    name: str
    scores: dict[str, Any] | None
    reference: tables.EventTable | None
    estimates: tables.EventTable | None
    posteriors: dict[str, np.ndarray] | None
    examples: dict[str, np.ndarray] | None

    @property
    def title(self) -> str:
        """The name for a heading."""
        return SPLIT_NAMES.get(self.name, self.name)


@dataclass(frozen=True)
class Run:
    """A workdir as read; None stands for a file that is not there."""

    workdir: Path
    meta: dict[str, Any]
    config: dict[str, Any] | None
    train: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    weights: dict[str, Any] | None
    splits: list[Split]

    @property
    def classes(self) -> list[str]:
        """The class labels, in the order of the model's outputs."""
        return self.meta.get("classes", [])

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
        ("clips", "Clips", _clips_section(run)),
        ("classes", "Classes", _classes_section(run)),
        ("tagging", "Tagging", _tagging_section(run)),
        ("training", "Training", _training_section(run)),
        ("durations", "Durations", _durations_section(run)),
        ("weights", "Focal weights", _weights_section(run)),
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


# Reading -----------------------------------------------------------------------------------------


def read_run(workdir: Path) -> Run:
    """Reads what a workdir holds; see `Run`."""
    if not workdir.is_dir():
        raise InputError(
            f"{workdir}: no such folder; expected the workdir of a run, as 'jfsed-jax train' "
            "makes it"
        )
    meta = _read_json(workdir / "meta.json")
    config = _read_json(workdir / "config.json")
    rows = _read_metrics(workdir / "metrics.jsonl")
    splits = [_read_split(folder) for folder in _split_folders(workdir / "eval")]
    if meta is None and config is None and not rows and not splits:
        raise InputError(
            f"{workdir} holds no run: none of meta.json, config.json, metrics.jsonl and eval/ is "
            "there; 'jfsed-jax train' writes them"
        )
    meta = meta or {}
    meta.setdefault("classes", _fallback_classes(splits))
    _check_meta(workdir / "meta.json", meta)
    run = Run(
        workdir=workdir,
        meta=meta,
        config=config,
        train=[row for row in rows if row["kind"] == "train"],
        validation=[row for row in rows if row["kind"] == "validation"],
        weights=_read_json(workdir / "adaptive_weights.json"),
        splits=splits,
    )
    for split in splits:
        _check_shapes(workdir / "eval" / split.name, split, len(run.classes))
    return run


def _split_folders(folder: Path) -> list[Path]:
    """Folders of evaluated splits: validation, eval, then others by name."""
    known = list(SPLIT_NAMES)
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    order = {name: i for i, name in enumerate(known)}
    return sorted(found, key=lambda path: (order.get(path.name, len(known)), path.name))


def _read_split(folder: Path) -> Split:
    def events(name: str) -> tables.EventTable | None:
        return tables.read_events(folder / name) if (folder / name).exists() else None

    scores = _read_json(folder / "scores.json")
    if scores is not None:
        _check_scores(folder / "scores.json", scores)
    return Split(
        name=folder.name,
        scores=scores,
        reference=events("reference.tsv"),
        estimates=events("events.tsv"),
        posteriors=_read_arrays(folder / "posteriors.npz", ("filenames", "clip")),
        examples=_read_arrays(folder / "examples.npz", ("filenames", "mel")),
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: expected a JSON object; {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: expected a JSON object, found a bare value or list")
    return content


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl by step; of two rows of one step and kind the later one counts.

    A run that was killed repeats the steps since its last checkpoint, and one that is still
    running may have written half of its last line, which is left out.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    rows: dict[tuple[str, float], dict[str, Any]] = {}
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            key = (str(row["kind"]), float(row["step"]))
            row["step"] = key[1]
        except (ValueError, TypeError, KeyError) as error:
            if i == len(lines) - 1:
                break
            raise InputError(
                f"{path}, row {i + 1}: expected a JSON object with 'kind' and 'step', "
                f"found {line[:60]!r}"
            ) from error
        rows[key] = row
    return [rows[key] for key in sorted(rows, key=lambda key: key[1])]


def _read_arrays(path: Path, required: Sequence[str]) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged: expected arrays in NumPy's .npz format") from error
    absent = [name for name in required if name not in arrays]
    if absent:
        raise InputError(f"{path}: expected the arrays {', '.join(required)}; {absent} missing")
    return arrays


def _check_meta(path: Path, meta: Mapping[str, Any]) -> None:
    classes, front_end = meta["classes"], meta.get("front_end", {})
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in classes):
        raise InputError(
            f"{path}: expected 'classes' to be a list of labels, found {classes!s:.60}"
        )
    if not isinstance(front_end, dict):
        raise InputError(f"{path}: expected 'front_end' to be an object, found {front_end!s:.60}")
    numbers = {"frame_rate": meta.get("frame_rate"), **front_end}
    for name in ("frame_rate", "clip_seconds", "sample_rate", "hop_length"):
        value = numbers.get(name)
        if value is not None and not (_is_number(value) and value > 0):
            raise InputError(f"{path}: expected '{name}' to be a positive number, found {value!r}")


def _check_scores(path: Path, scores: Mapping[str, Any]) -> None:
    if not isinstance(scores.get("info", {}), dict):
        raise InputError(f"{path}: expected 'info' to be an object, found {scores['info']!s:.60}")
    for key, _, _ in SCORES:
        score = scores.get(key)
        if score is None:
            continue
        if not isinstance(score, dict) or not isinstance(score.get("classwise", {}), dict):
            raise InputError(
                f"{path}: expected '{key}' with 'macro', 'micro', 'classwise', found {score!r:.60}"
            )
        values = [score.get("macro"), score.get("micro"), *score.get("classwise", {}).values()]
        wrong = [v for v in values if v is not None and not _is_number(v)]
        if wrong:
            raise InputError(f"{path}: expected numbers in '{key}', found {wrong[0]!s:.60}")


def _check_shapes(folder: Path, split: Split, num_classes: int) -> None:
    def expect(file: str, name: str, array: np.ndarray, shape: tuple[int | None, ...]) -> None:
        fits = len(shape) == array.ndim and all(
            wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise InputError(
                f"{folder / file}: expected '{name}' of shape [{wanted}], found {array.shape}"
            )

    if split.posteriors is not None:
        arrays, n = split.posteriors, len(split.posteriors["filenames"])
        expect("posteriors.npz", "clip", arrays["clip"], (n, num_classes))
        if "clip_reference" in arrays:
            expect("posteriors.npz", "clip_reference", arrays["clip_reference"], (n, num_classes))
        if "frames" in arrays:
            expect("posteriors.npz", "frames", arrays["frames"], (n, None, num_classes))
    if split.examples is not None:
        mel = split.examples["mel"]
        expect("examples.npz", "mel", mel, (len(split.examples["filenames"]), None, None))


def _fallback_classes(splits: Iterable[Split]) -> list[str]:
    """Without meta.json: the classes that the posteriors or, failing that, the scores name."""
    for split in splits:
        if split.posteriors is not None and "classes" in split.posteriors:
            return [str(label) for label in split.posteriors["classes"]]
        if split.scores is not None:
            return list((split.scores.get("event_f1") or {}).get("classwise", {}))
    return []


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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
    rows = [row for row in run.validation if _is_number(row.get("selection"))]
    return max(rows, key=lambda row: row["selection"]) if rows else None


def _steps_per_epoch(run: Run) -> float | None:
    for steps in (run.meta.get("steps_per_epoch"), (run.config or {}).get("steps_per_epoch")):
        if _is_number(steps) and steps > 0:
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
    if _is_number(planned) and page.significant(planned) != done:
        return f"{done} of {page.significant(planned)} epochs"
    return f"{done} epochs"


def _score_conditions(scores: Mapping[str, Any]) -> str:
    info = scores.get("info") or {}
    parts = []
    if _is_number(info.get("num_clips")):
        parts.append(f"{page.number(info['num_clips'], 0)} clips")
    if info.get("model", "student") != "student":
        parts.append(f"posteriors of the {info['model']}")
    if info.get("postprocess"):
        parts.append(RULES.get(str(info["postprocess"]), str(info["postprocess"])))
    if info.get("thresholds"):
        parts.append("thresholds tuned on the clips that training held out")
    if _is_number(info.get("checkpoint_step")):
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
            (row["step"] / (per_epoch or 1.0), row[key]) for row in rows if _is_number(row.get(key))
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
    if per_epoch and _is_number(tau) and 0 < tau < last:
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
        page.folded_grid(figures, shown=SHOWN, noun="curves"),
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
        if key in _NOT_LOSSES or not any(_is_number(row.get(key)) for row in rows):
            continue
        group, _, term = key.partition("/")
        charts.setdefault(group, []).append((key, _CURVES.get(term, label_text(term or group))))
    return list(charts.items())


# Figures 5 and 6 ---------------------------------------------------------------------------------


def confusion_matrix(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Audio-tagging confusions (figures 5 and 6), in clips.

    A clip counts once in the row of each of its true classes, shared equally over the classes
    predicted for it; without any it counts in the last column.

    Args:
      reference, predicted: <bool or int>[N, C] tags.

    Returns:
      <float64>[C, C + 1]; row sums are the clips of each class.
    """
    truth = np.asarray(reference).astype(bool).astype(np.float64)
    tagged = np.asarray(predicted).astype(bool).astype(np.float64)
    count = tagged.sum(axis=1, keepdims=True)
    shares = np.concatenate([tagged / np.maximum(count, 1.0), count == 0], axis=1)
    return truth.T @ shares


def _tagging_section(run: Run) -> Html:
    body: list[object] = []
    for split in run.splits:
        figures = _confusions(run, split)
        if figures and len(run.splits) > 1:
            body.append(element("h3", split.title))
        if figures:
            class_ = "pair" if len(run.classes) <= SHOWN else None
            body.append(element("div", *figures, class_=class_))
    if not body:
        body.append(page.missing("There are no tags yet:", run.command("evaluate")))
    return page.section(
        "tagging",
        "Audio tagging: what is taken for what",
        *body,
        lede="Rows are true classes, in percent of their clips. A clip with several classes "
        "counts once per true class, shared over the classes predicted for it, so that a clip of "
        "two classes tagged with both adds to two columns. “None”: no class was predicted.",
    )


def confusion_figure(
    classes: Sequence[str], truth: np.ndarray, tagged: np.ndarray, *, caption: str
) -> Html:
    """The heat map of `confusion_matrix` in shares of each true class; tags <bool>[N, C]."""
    counts = truth.sum(axis=0).astype(int)
    names = [label_text(label) for label in classes]
    silent = int((~truth.any(axis=1)).sum())
    return page.matrix(
        names,
        [*names, "none"],
        confusion_matrix(truth, tagged) / np.maximum(counts, 1)[:, None],
        caption=caption,
        counts=counts.tolist(),
        note=f"Not shown: {silent} clips without a true class." if silent else None,
    )


def _confusions(run: Run, split: Split) -> list[Html]:
    classes = run.classes
    figures = []

    def add(caption: str, truth: np.ndarray, tagged: np.ndarray) -> None:
        figures.append(confusion_figure(classes, truth, tagged, caption=caption))

    posteriors = split.posteriors
    if posteriors is not None and "clip_reference" in posteriors:
        truth = posteriors["clip_reference"].astype(bool)
        add("Tags from the clip head, above 0.5", truth, posteriors["clip"] > 0.5)
    if split.reference is not None and split.estimates is not None and classes:
        names = [] if posteriors is None else [str(name) for name in posteriors["filenames"]]
        names = list(dict.fromkeys([*names, *split.reference.filenames]))
        folder = run.workdir / "eval" / split.name
        tags = []
        for file, events in (("reference.tsv", split.reference), ("events.tsv", split.estimates)):
            scoring.check_events(events.events, names, classes, str(folder / file), events.rows)
            tags.append(scoring.clip_tags(events.events, names, classes))
        add("Tags from the events that survive", *tags)
    if len(figures) > 1 and len(classes) > SHOWN:
        return [figures[0], page.details("The same from the events that survive", figures[1])]
    return figures


# Figure 7 ----------------------------------------------------------------------------------------


def _class_windows(run: Run) -> list[tuple[ClassWindow, np.ndarray]]:
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
            f"{run.workdir / 'meta.json'} is damaged: expected 'durations' by class and "
            f"'window_details' with {', '.join(ClassWindow._fields)}; "
            f"{type(error).__name__}: {error}"
        ) from error


def _durations_section(run: Run) -> Html:
    title = "Durations and median windows"
    reports = _class_windows(run)
    if not reports:
        train = f"jfsed-jax train --config CONFIG --data DIR --workdir {run.workdir}"
        return page.section("durations", title, page.missing("There are no windows yet:", train))
    rate = float(run.meta.get("frame_rate") or 60.0)
    # Where some are folded away, those with the most events are shown.
    drawn = sorted(reports, key=lambda r: -r[0].num_events) if len(reports) > SHOWN else reports
    figures = [_duration_chart(w, durations, rate) for w, durations in drawn if durations.size]
    legend = page.swatches(
        [
            ("c0", "share of events up to this length"),
            ("mean", "mean of all"),
            ("knee", "knee"),
            ("esp", "mean up to the knee"),
            ("window", "ESP window"),
        ]
    )
    rows = [
        [
            label_text(w.label),
            page.number(w.num_events, 0),
            page.number(w.mean, 2) if w.num_events else "–",
            f"{w.knee:.2f} ({w.knee_index})" if w.clear_knee else "–",
            *(
                page.join([frames, element("small", f"{frames / rate:.2f} s")])
                for frames in (w.avg, w.esp)
            ),
        ]
        for w, _ in reports
    ]
    columns = ["Class", "Events", "Mean, s", "Knee, s (N)", "avg", "ESP"]
    fixed = sorted({w.fixed for w, _ in reports})
    caption = "Windows of the median filters in frames"
    caption += f"; the fixed rule has {fixed[0]}" if fixed else ""
    return page.section(
        "durations",
        title,
        legend,
        page.folded_grid(figures, shown=SHOWN, noun="classes"),
        page.table(columns, rows, caption=caption),
        lede="How long the strongly labelled events are that the model was trained on. The ESP "
        "rule averages the events up to the knee of the distribution, the avg rule all of them; "
        "a third of that is the window. Without a clear knee the two agree.",
    )


def _duration_chart(window: ClassWindow, durations: np.ndarray, rate: float) -> Html:
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
    return page.line_chart(
        label_text(window.label),
        [curve],
        x_label="seconds",
        x_range=(0.0, float(durations[-1]) * 1.02),
        y_range=(0.0, 1.0),
        marks=marks,
        span=(0.0, window.esp / rate),
        note=page.join(
            [
                f"mean {window.mean:.2f} s, {knee}",
                element("br"),
                f"avg {window.avg} frames ({window.avg / rate:.2f} s), "
                f"ESP {window.esp} ({window.esp / rate:.2f} s)",
            ]
        ),
        step=True,
    )


# Figure 3 ----------------------------------------------------------------------------------------


def _weights_section(run: Run) -> Html | None:
    """Class-wise sums of p and of the adaptive weight, where a run saved them."""
    if run.weights is None:
        return None
    path = run.workdir / "adaptive_weights.json"
    try:
        labels = [str(label) for label in run.weights["classes"]]
        probability = [float(v) for v in run.weights["probability"]]
        weight = [float(v) for v in run.weights["weight"]]
        rows = [
            [label_text(label), Bar(p, max(probability), 2), Bar(w, max(weight), 2)]
            for p, w, label in sorted(zip(probability, weight, labels, strict=True))
        ]
        epoch = page.significant(float(run.weights["epoch"]))
        gamma = page.significant(float(run.weights["gamma"]))
        lin = run.weights["focal_form"] == "lin"
        counts = {str(kind): int(n) for kind, n in run.weights["clips"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: expected epoch, gamma, focal_form, clips by kind, classes, "
            "probability and weight (one a class)"
        ) from error
    kinds = " and ".join(f"{n} {kind}" for kind, n in counts.items())
    form = ["(1 − p)", element("sup", gamma)] if lin else ["1 − p", element("sup", gamma)]
    return page.section(
        "weights",
        "Adaptive focal weights",
        page.table(
            ["Class", "Sum of p", "Sum of the weight"],
            rows,
            caption=f"Epoch {epoch}, hardest class first",
        ),
        lede=page.join(
            [
                f"Sums over the {kinds} clips that training held out, from the clip posteriors: p "
                "is the posterior where the class is present and one minus it where it is not, "
                "the weight is ",
                *form,
                ". The lower the probability given to the truth, the more the adaptive focal loss "
                "asks of a class.",
            ]
        ),
    )


# Clips -------------------------------------------------------------------------------------------


def _clips_section(run: Run) -> Html:
    body: list[object] = []
    any_posterior = False
    for split in run.splits:
        if split.examples is None:
            continue
        figures = [_clip(run, split, i) for i in range(len(split.examples["filenames"]))]
        if len(run.splits) > 1:
            body.append(element("h3", split.title))
        body.extend(figures[:SHOWN_CLIPS])
        rest = figures[SHOWN_CLIPS:]
        if rest:
            body.append(page.details(f"{len(rest)} more clips", *rest))
        any_posterior |= split.posteriors is not None and "frames" in split.posteriors
    if body:
        body.insert(0, page.clip_legend(posterior=any_posterior))
    else:
        body.append(page.missing("There are no example clips yet:", run.command("evaluate")))
    return page.section(
        "clips",
        "What is there, and what was heard",
        *body,
        lede="Under the log-mel of each clip: its reference and predicted events, for every class "
        "that has either, over the model’s posteriors.",
    )


def _clip(run: Run, split: Split, index: int) -> Html:
    assert split.examples is not None
    name = str(split.examples["filenames"][index])
    mel = split.examples["mel"][index]
    tables_ = (split.reference, split.estimates)
    reference, estimates = (
        [event for event in (found.events if found else []) if event.filename == name]
        for found in tables_
    )
    frames = None
    posteriors = split.posteriors
    if posteriors is not None and "frames" in posteriors:
        found = np.flatnonzero(posteriors["filenames"] == name)
        frames = posteriors["frames"][found[0]] if found.size else None
    front_end = run.meta.get("front_end") or {}
    seconds = front_end.get("clip_seconds")
    if not _is_number(seconds):
        seconds = len(mel) / float(run.meta.get("frame_rate") or 60.0)
    heard = [e.event_label for e in [*reference, *estimates]]
    order = [label for label in run.classes if label in heard]
    order += [label for label in dict.fromkeys(heard) if label not in order]

    def spans(events: Sequence[Event], label: str) -> list[tuple[float, float]]:
        return [(e.onset, e.offset) for e in events if e.event_label == label]

    lanes = [
        Lane(
            label,
            spans(reference, label),
            spans(estimates, label),
            frames[:, run.classes.index(label)]
            if frames is not None and label in run.classes
            else None,
        )
        for label in order
    ]
    note = None if lanes else "no events, and none predicted"
    return page.clip_figure(name, mel, lanes, seconds=float(seconds), note=note)


# The run -----------------------------------------------------------------------------------------


def _run_section(run: Run) -> Html:
    meta, front_end = run.meta, run.meta.get("front_end") or {}
    clips, speeds = (
        None,
        [row["clips_per_second"] for row in run.train if _is_number(row.get("clips_per_second"))],
    )
    if isinstance(meta.get("clips"), dict):
        counts = {kind: n for kind, n in meta["clips"].items() if _is_number(n)}
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
