"""The paper's tables 1, 2 and 3: every row trained, scored and put beside the paper's figures.

A training run is shared by the rows that differ in post-processing only: systems 8 and 9, both
sides of table 3, and table 2's first and ``tau = 15, gamma = 2`` rows are runs of table 1 too. Runs
live in ``W/runs/NAME-seedS``; each is a workdir like any other and resumes like any other, so the
same command goes on after a kill and trains nothing twice.
"""

import importlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from jfsed_jax import datasets
from jfsed_jax.errors import InputError
from jfsed_jax.inference.detector import Detector, Posteriors, load_detector
from jfsed_jax.inference.evaluation import describe_scores, evaluate, write_adaptive_weights
from jfsed_jax.report import figures as run_figures
from jfsed_jax.report import page
from jfsed_jax.report import run_page as report
from jfsed_jax.sed import scoring, tables
from jfsed_jax.training.loop import check_workdir, train

# The paper's figures -----------------------------------------------------------------------------

# Its development and evaluation sets, as a data folder calls them.
SPLITS = ("validation", "eval")
# The scores that the paper prints; its AT-F1 moves with the median windows (table 3), so its tags
# are those of the events that survive. The clip head's AT-F1 goes into the TSV beside it.
SCORES = {"event_f1": "Event-F1", "segment_f1": "Segment-F1", "at_f1_events": "AT-F1"}
CLIP_HEAD = "at_f1"

Pair = tuple[float | None, float | None]  # development, evaluation; percent


class System(NamedTuple):
    """A row of table 1: its number, its config, its name and scores in the paper."""

    number: int
    config: str
    title: str
    event_f1: Pair
    segment_f1: Pair
    at_f1: Pair


# fmt: off
SYSTEMS = (
    System(0, "mean_teacher", "MT (official baseline)", (None, 25.8), (None, 53.7), (None, 45.8)),
    System(1, "guided_learning", "GL (top 1)", (43.3, 40.5), (67.1, 66.5), (74.1, 70.2)),
    System(2, "pts_without_bgru", "PTS(w/o BGRUs)", (42.0, 39.4), (63.3, 61.0), (71.2, 69.1)),
    System(3, "pts", "PTS", (43.1, 40.9), (69.0, 68.1), (75.0, 73.4)),
    System(4, "pts_dfd_mse", "PTS+DFD-MSE", (44.1, 41.3), (69.9, 69.6), (71.3, 68.7)),
    System(5, "pts_dfd_d", "PTS+DFD-D", (44.4, 41.7), (73.2, 71.1), (73.4, 72.9)),
    System(6, "pts_tfd", "PTS+TFD", (48.0, 45.4), (71.7, 70.2), (78.6, 77.1)),
    System(7, "pts_tfd_dfd_d", "PTS+TFD+DFD-D(w+u)", (42.9, 40.1), (72.9, 72.0), (75.2, 73.3)),
    System(8, "pts_tfd_afl", "PTS+TFD+AFL", (48.9, 47.1), (75.6, 74.0), (80.0, 78.1)),
    System(9, "pts_tfd_afl_esp", "PTS+TFD+AFL+ESP", (51.6, 49.8), (76.4, 75.9), (83.4, 81.2)),
)

# Table 2: (tau, gamma, Event-F1, Segment-F1, AT-F1). Without tau there is no second stage.
FOCAL: tuple[tuple[int | None, int | None, Pair, Pair, Pair], ...] = (
    (None, None, (48.0, 45.4), (71.7, 70.2), (78.6, 77.1)),
    (10, 2, (49.1, 47.0), (75.4, 75.1), (78.0, 76.6)),
    (15, 2, (48.9, 47.1), (75.6, 74.0), (80.0, 78.1)),
    (30, 2, (48.0, 47.1), (70.8, 70.1), (76.9, 76.4)),
    (15, 1, (45.5, 44.8), (74.3, 73.3), (75.3, 74.4)),
    (15, 3, (48.0, 46.6), (75.6, 74.0), (77.0, 75.2)),
)
TAU = 15  # of system 8, in epochs of 200

# Table 3, evaluation set: AED (Event-F1) and AT with avg windows, AED and AT with esp windows.
OVERALL = "Overall"
WINDOWS = {
    "Alarm_bell_ringing": (47.6, 77.4, 48.3, 83.3),
    "Blender": (39.5, 63.7, 40.3, 72.3),
    "Cat": (57.1, 86.1, 66.2, 89.6),
    "Dishes": (34.5, 74.6, 38.5, 78.2),
    "Dog": (52.2, 87.7, 52.8, 88.3),
    "Electric_shaver_toothbrush": (43.5, 78.0, 51.4, 80.8),
    "Frying": (51.5, 73.8, 54.5, 80.2),
    "Running_water": (32.9, 68.1, 31.2, 63.2),
    "Speech": (56.9, 93.4, 58.9, 93.3),
    "Vacuum_cleaner": (54.7, 77.7, 55.2, 82.3),
    OVERALL: (47.1, 78.0, 49.8, 81.2),
}
# fmt: on

# The systems whose training other rows use too; they give the shared run its name.
_SHARED = ("pts_tfd", "pts_tfd_afl")


# Experiments and their runs ----------------------------------------------------------------------


class Experiment(NamedTuple):
    """A row to measure.

    Attributes:
      lead: the cells that name the row.
      run: name of its training run, without the seed.
      config: of that run, at seed 0.
      rule: of the median windows that it is scored with.
      paper: scores by key of `SCORES`.
    """

    lead: tuple[str, ...]
    run: str
    config: Any
    rule: str
    paper: Mapping[str, Pair]


class Scored(NamedTuple):
    """What one run scored.

    Attributes:
      clips: it was trained on, by kind.
      classes: the labels.
      scores: by rule and split, as in scores.json.
    """

    clips: Mapping[str, int]
    classes: Sequence[str]
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]]


class Outcome(NamedTuple):
    """Whether all was done (else: interrupted), runs that failed with why, the files."""

    done: bool
    failures: dict[str, str]
    markdown: Path
    page: Path


def load_config(name: str, size: str, epochs: int | None = None):
    """The config ``configs/NAME.py`` at a size, with another number of epochs if given."""
    config = importlib.import_module(f"jfsed_jax.configs.{name}").get_config(size)
    if epochs is not None:
        config.epochs = epochs
    return config


def training_identity(config) -> str:
    """The config as JSON without what training does not depend on: two equal ones are one run.

    The window rule decides which checkpoint scores best on the held-out clips, nothing else; a
    shared run is selected with the rule of the system that gives it its name.
    """
    content = json.loads(config.to_json())
    del content["system"], content["postprocess"]["rule"]
    return json.dumps(content, sort_keys=True)


def experiments(
    table: int, size: str, *, epochs: int | None = None, systems: Iterable[int] = ()
) -> list[Experiment]:
    """The rows of a table; of table 3 its two sides, `avg` and `esp`.

    Args:
      table: 1, 2 or 3.
      size: of the configs.
      epochs: of every run, if not those of each config.
      systems: numbers of the rows of table 1; all if empty.

    Raises:
      InputError: there is no such system, or systems are named for another table than 1.
    """
    systems = list(systems)
    unknown = set(systems) - {system.number for system in SYSTEMS}
    if unknown:
        raise InputError(f"--systems: no system {min(unknown)}; there are 0 to {len(SYSTEMS) - 1}")
    if systems and table != 1:
        raise InputError(f"--systems chooses rows of table 1; leave it out with --table={table}")

    def make(lead: tuple[str, ...], run: str, config, scores: Sequence[Pair]) -> Experiment:
        rule = config.postprocess.rule
        for name in _SHARED:
            shared = load_config(name, size, epochs)
            if training_identity(config) == training_identity(shared):
                run, config = name, shared
        return Experiment(lead, run, config, rule, dict(zip(SCORES, scores, strict=True)))

    if table == 2:
        return [make(*row) for row in _focal_rows(size, epochs)]
    numbers = systems or ([8, 9] if table == 3 else range(len(SYSTEMS)))
    return [
        make(
            (str(system.number), system.title),
            system.config,
            load_config(system.config, size, epochs),
            system[3:],
        )
        for system in (SYSTEMS[number] for number in sorted(set(numbers)))
    ]


def _focal_rows(
    size: str, epochs: int | None
) -> Iterator[tuple[tuple[str, str], str, Any, Sequence[Pair]]]:
    """Lead, run, config and the paper's scores of each row of table 2."""
    for tau, gamma, *scores in FOCAL:
        if tau is None or gamma is None:
            config = load_config("pts_tfd", size, epochs)
            yield ("never", "–"), "pts_tfd", config, scores
            continue
        config = load_config("pts_tfd_afl", size, epochs)
        # In proportion to system 8's, which is 15 of the paper's 200 epochs, so that its own row
        # is its run at every size and length.
        config.loss.tau = float(config.loss.tau * (tau / TAU))
        config.loss.gamma = float(gamma)
        name = f"pts_tfd_afl-tau{tau}-gamma{gamma}"
        config.system = name
        yield (str(tau), str(gamma)), name, config, scores


class Run(NamedTuple):
    """A training run: its folder under ``W/runs``, its config, the rules it is scored with."""

    name: str
    config: Any
    rules: tuple[str, ...]


def run_name(experiment: Experiment, seed: int) -> str:
    """The folder of an experiment's training run."""
    return f"{experiment.run}-seed{seed}"


def plan(rows: Sequence[Experiment], seeds: int) -> list[Run]:
    """Every training run that the rows need, once; seed by seed, in the order of the rows."""
    runs: dict[str, Run] = {}
    for seed in range(seeds):
        for row in rows:
            config = row.config.copy_and_resolve_references()
            config.seed = seed
            name = run_name(row, seed)
            rules = runs[name].rules if name in runs else ()
            runs[name] = Run(name, config, tuple(dict.fromkeys([*rules, row.rule])))
    return list(runs.values())


# Training and scoring ----------------------------------------------------------------------------


def reproduce(
    table: int,
    data_dir: Path,
    workdir: Path,
    *,
    size: str = "paper",
    seeds: int = 1,
    systems: Iterable[int] = (),
    epochs: int | None = None,
    features_dir: Path | None = None,
) -> Outcome:
    """Trains what is not trained yet, scores what is not scored yet, writes the table.

    The table is written after every run, so that it can be read before all are done. A run that
    fails with an `InputError` is reported in its rows and does not stop the others.

    Args:
      table: of the paper, 1 to 3.
      data_dir: a folder in the DCASE 2019 layout.
      workdir: for ``runs/`` and ``tableN.md``, ``.tsv`` and ``.html``.
      size, epochs, systems: see `experiments`.
      seeds: runs of each system, with seeds 0 to `seeds` - 1.
      features_dir: see `datasets.prepare`; one folder per front end is made in it.

    Raises:
      InputError: the arguments are wrong, or a run of another config lies where one is to be.
    """
    rows = experiments(table, size, epochs=epochs, systems=systems)
    runs = plan(rows, seeds)
    for run in runs:  # before hours of training, not after
        check_workdir(workdir / "runs" / run.name, run.config)
    results: dict[str, Scored] = {}
    failures: dict[str, str] = {}

    def outcome(done: bool) -> Outcome:
        contents = make_table(table, rows, results, failures, seeds, size, data_dir.resolve().name)
        return Outcome(done, failures, *write_table(contents, workdir, rows, results))

    for number, run in enumerate(runs, 1):
        logging.info("run %d of %d: %s", number, len(runs), run.name)
        folder = workdir / "runs" / run.name
        features = features_dir / _front_end_name(run.config) if features_dir else None
        try:
            if not train(run.config, data_dir, folder, features_dir=features):
                return outcome(False)
            results[run.name] = score_run(folder, data_dir, run.rules, features)
        except InputError as error:
            logging.error("%s: %s", run.name, error)
            failures[run.name] = str(error)
        jax.clear_caches()  # the next run compiles its own programs
        outcome(False)
    return outcome(True)


def _front_end_name(config) -> str:
    """Features belong to one front end; hop and window tell those of the systems apart."""
    return f"hop{config.front_end.hop_length}-window{config.front_end.win_length}"


def score_folder(trained_rule: str, rule: str) -> str:
    """Where `rule`'s scores lie in a run: ``eval``, which the report shows, if it trained so."""
    return "eval" if rule == trained_rule else f"eval-{rule}"


def score_run(
    folder: Path, data_dir: Path, rules: Sequence[str], features_dir: Path | None
) -> Scored:
    """Scores a trained run with every rule on every split that is there.

    The rules share the posteriors. A split whose scores.json says that it is of this checkpoint,
    data and windows is left as it is.
    """
    detector = load_detector(folder)
    prepared = datasets.prepare(
        data_dir, detector.front_end, features_dir=features_dir, classes=detector.classes
    )
    splits = [split for split in SPLITS if len(prepared.splits.get(split, ()))]
    if not splits:
        raise InputError(f"{data_dir} has neither validation nor evaluation clips to score")
    scores: dict[str, dict[str, Any]] = {rule: {} for rule in rules}
    folders = {rule: score_folder(detector.config.postprocess.rule, rule) for rule in rules}
    any_new = False
    for split in splits:
        done = {
            rule: _current_scores(folder / folders[rule] / split, detector, prepared, split, rule)
            for rule in rules
        }
        for rule in rules:
            if (found := done[rule]) is None:
                known = next((folders[r] for r in rules if done[r] is not None), None)
                found = done[rule] = evaluate(
                    detector,
                    prepared,
                    folder,
                    split=split,
                    rule=rule,
                    folder=folders[rule],
                    output=None if known is None else _saved_posteriors(folder / known / split),
                )
                any_new = True
            scores[rule][split] = found
    if any_new or not (folder / "report.html").exists():
        write_adaptive_weights(detector, prepared, folder)
        report.write_report(folder)
    return Scored(detector.meta["clips"], detector.classes, scores)


def _current_scores(
    directory: Path, detector: Detector, prepared: datasets.Prepared, split: str, rule: str
) -> dict[str, Any] | None:
    """The scores in a folder if they are those that `evaluate` would write there again."""
    try:
        scores = json.loads((directory / "scores.json").read_text())
        current = scores["info"] == describe_scores(detector, prepared, split, rule)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return scores if current else None


def _saved_posteriors(directory: Path) -> Posteriors:
    with np.load(directory / "posteriors.npz") as saved:
        return Posteriors(saved["clip"], saved["frames"])


# The table ---------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """A score of a row: by split the value of each seed, and the paper's figures in percent."""

    column: str
    measured: Mapping[str, Sequence[float]]
    paper: Pair


class Row(NamedTuple):
    """A line of a table; `status` is how many seeds count, and what went wrong with others.

    `more` are cells for the TSV alone.
    """

    lead: tuple[str, ...]
    cells: tuple[Cell, ...]
    status: str
    more: tuple[Cell, ...] = ()


class Table(NamedTuple):
    """A table with its title, the names of its columns, and the notes that belong under it."""

    number: int
    title: str
    lead: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


_TITLES = {
    1: "Table 1: the systems, macro F1 in percent",
    2: "Table 2: the adaptive focal loss, macro F1 in percent",
    3: "Table 3: windows from mean durations (avg) and event-specific ones (esp), F1 in percent",
}
_LEADS = {1: ("ID", "System"), 2: ("τ", "γ"), 3: ("Event class",)}


def make_table(
    number: int,
    rows: Sequence[Experiment],
    results: Mapping[str, Scored],
    failures: Mapping[str, str],
    seeds: int,
    size: str,
    data: str,
) -> Table:
    """Lays measured scores and the paper's side by side.

    Args:
      number: of the table.
      rows: its experiments.
      results, failures: by name of the run, where it has ended.
      seeds: how many were asked for.
      size: of the configs.
      data: name of the data folder.
    """

    def measured(row: Experiment, score: str, label: str | None) -> dict[str, list[float]]:
        values: dict[str, list[float]] = {}
        for scored in _scored(row, results, seeds):
            for split, scores in scored.scores.get(row.rule, {}).items():
                entry = scores.get(score, {})
                value = entry.get("macro") if label is None else entry["classwise"].get(label)
                if value is not None:
                    values.setdefault(split, []).append(value)
        return values

    def cell(row: Experiment, score: str, column: str, paper: Pair, label=None) -> Cell:
        return Cell(column, measured(row, score, label), paper)

    lines = []
    if number == 3:
        labels = next((list(s.classes) for s in results.values()), list(WINDOWS)[:-1])
        for label in [*labels, OVERALL]:
            overall = label == OVERALL
            paper = iter(WINDOWS.get(label, (None,) * 4))
            cells = tuple(
                cell(
                    row,
                    score,
                    f"{row.rule} {name}",
                    (None, next(paper)),
                    None if overall else label,
                )
                for row in rows
                for score, name in (("event_f1", "AED"), ("at_f1_events", "AT"))
            )
            status = _status(rows[0], results, failures, seeds) if overall else ""
            lines.append(Row((page.label_text(label),), cells, status))
    else:
        for row in rows:
            cells = tuple(cell(row, score, SCORES[score], row.paper[score]) for score in SCORES)
            more = (cell(row, CLIP_HEAD, "AT-F1 (clip head)", (None, None)),)
            lines.append(Row(row.lead, cells, _status(row, results, failures, seeds), more))
    notes = _notes(number, rows, results, seeds, size, data)
    return Table(number, _TITLES[number], _LEADS[number], tuple(lines), tuple(notes))


def _scored(row: Experiment, results: Mapping[str, Scored], seeds: int) -> list[Scored]:
    names = (run_name(row, seed) for seed in range(seeds))
    return [results[name] for name in names if name in results]


def _status(
    row: Experiment, results: Mapping[str, Scored], failures: Mapping[str, str], seeds: int
) -> str:
    count = len(_scored(row, results, seeds))
    parts = [str(count) if count == seeds else f"{count} of {seeds}"]
    for seed in range(seeds):
        if error := failures.get(run_name(row, seed)):
            parts.append(f"seed {seed} failed: {error}")
    return "; ".join(parts)


def _notes(
    number: int,
    rows: Sequence[Experiment],
    results: Mapping[str, Scored],
    seeds: int,
    size: str,
    data: str,
) -> list[str]:
    notes = [
        f"The paper's figures are for DCASE 2019 Task 4, those measured are for {data}: compare "
        "measured rows with each other. They are a reproduction of the paper's only if that folder "
        "holds the DCASE 2019 audio, the size is paper and the epochs are the configs' own."
    ]
    if number == 3:
        notes.append(
            "Cells are validation / eval, the paper's are of its evaluation set. AED is Event-F1; "
            "AT is the F1 of the tags of the events that survive. Both sides are of the same runs."
        )
    else:
        notes.append(
            "Cells are validation / eval, in the paper development / evaluation set. AT-F1 is of "
            "the tags of the events that survive, since the paper's moves with the median windows; "
            "that of the clip head is in the TSV."
        )
    notes.append(
        "Mean ± sample standard deviation over the seeds."
        if seeds > 1
        else "One seed: differences of the size of run-to-run variation cannot be told apart."
    )
    lengths: dict[str, list[str]] = {}
    for row in rows:
        epochs = row.config.epochs
        lengths.setdefault(f"{epochs} epoch{'s' * (epochs != 1)}", []).append(row.lead[0])
    if len(lengths) > 1:
        text = "; ".join(f"{', '.join(ids)}: {length}" for length, ids in lengths.items())
    else:
        text = next(iter(lengths))
    notes.append(f"Size {size}, {text}.")
    if number == 2:
        taus = {r.lead[0]: f"{r.config.loss.tau:.4g}" for r in rows if r.config.loss.tau >= 0}
        listed = ", ".join(f"{tau} is epoch {epoch}" for tau, epoch in taus.items())
        notes.append(f"τ in the paper's epochs; as trained, in proportion to system 8's: {listed}.")
    for row in rows:
        if (selected := row.config.postprocess.rule) != row.rule:
            notes.append(
                f"{row.lead[0]} is the training run of {row.run}, whose checkpoint was selected "
                f"with {selected} windows; it is scored with {row.rule} windows."
            )
    first = next(iter(results.values()), None)
    if first is not None:
        trained = ", ".join(f"{count} {kind}" for kind, count in first.clips.items())
        infos = next(iter(first.scores.values()), {})
        present = [
            f"{split} {infos[split]['info']['num_clips']} present of "
            f"{infos[split]['info']['clips_listed']} listed"
            if split in infos
            else f"no {split} clips"
            for split in SPLITS
        ]
        notes.append(f"Clips: trained on {trained}; {', '.join(present)}.")
    return notes


# Writing -----------------------------------------------------------------------------------------


def write_table(
    table: Table, workdir: Path, rows: Sequence[Experiment], results: Mapping[str, Scored]
) -> tuple[Path, Path]:
    """Writes ``tableN.md``, ``.tsv`` and ``.html``; returns the first and the last."""
    stem = workdir / f"table{table.number}"
    markdown, html = stem.with_suffix(".md"), stem.with_suffix(".html")
    body = [_links(workdir, rows, results)]
    if table.number == 1:
        body.append(_confusions(workdir, rows, results))
    for path, text in ((markdown, to_markdown(table)), (html, to_html(table, *body))):
        partial = path.with_name(path.name + ".partial")
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from error
    tables.write_table(stem.with_suffix(".tsv"), TSV_COLUMNS, to_tsv(table))
    return markdown, html


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _measured_text(cell: Cell) -> str:
    """``49.2 ± 0.6 / 47.1 ± 0.4``: validation / eval."""
    shown = []
    for split in SPLITS:
        mean, std = scoring.mean_std(cell.measured.get(split, ()))
        shown.append(_number(mean) + ("" if std is None else f" ± {std:.1f}"))
    return " / ".join(shown)


def _columns(table: Table) -> list[str]:
    scores = [cell.column for cell in table.rows[0].cells] if table.rows else []
    return [*table.lead, *(c for name in scores for c in (name, "paper")), "Seeds"]


def _cells(table: Table, row: Row) -> list[str]:
    def paper(pair: Pair) -> str:
        return _number(pair[1]) if table.number == 3 else " / ".join(map(_number, pair))

    scores = [text for cell in row.cells for text in (_measured_text(cell), paper(cell.paper))]
    return [*row.lead, *scores, row.status]


def to_markdown(table: Table) -> str:
    """The table as GitHub Markdown; nothing in a cell can end it or become markup."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(map(_escape_markdown, cells)) + " |"

    columns = _columns(table)
    marks = "".join("---|" if i < len(table.lead) else "---:|" for i in range(len(columns)))
    lines = [line(columns), f"|{marks}", *(line(_cells(table, row)) for row in table.rows)]
    notes = [f"- {_escape_markdown(note)}" for note in table.notes]
    return "\n".join([f"# {table.title}", "", *lines, "", *notes, ""])


def _escape_markdown(text: str) -> str:
    text = " ".join(text.split())
    for mark in "\\|<>*_`[]":
        text = text.replace(mark, f"\\{mark}")
    return text


# Of the TSV; `values` are those of the seeds.
TSV_COLUMNS = (
    "table", "row", "score", "split", "mean", "std", "seeds", "values", "paper", "status",
)  # fmt: skip


def to_tsv(table: Table) -> list[tuple[str, ...]]:
    """One line per row, score and split that was measured or printed (`TSV_COLUMNS`)."""
    lines = []
    for row in table.rows:
        for cell in (*row.cells, *row.more):
            for split, paper in zip(SPLITS, cell.paper, strict=True):
                values = cell.measured.get(split, ())
                if not values and paper is None:
                    continue
                mean, std = scoring.mean_std(values)
                numbers = ["" if v is None else f"{v:.4f}" for v in (mean, std)]
                lines.append(
                    (
                        *(str(table.number), " ".join(row.lead), cell.column, split, *numbers),
                        *(str(len(values)), ",".join(f"{v:.4f}" for v in values)),
                        *("" if paper is None else f"{paper:.1f}", row.status),
                    )
                )
    return lines


def to_html(table: Table, *body: object) -> str:
    """The table as a self-contained page; `body` follows the notes."""
    heading, _, what = table.title.partition(": ")
    listing = page.table(_columns(table), [_cells(table, row) for row in table.rows], caption=what)
    return page.page(
        f"{heading} · sound event detection",
        page.element(
            "header",
            page.element("p", "The paper's experiments", class_="kicker"),
            page.element("h1", heading),
            page.element("p", table.notes[0], class_="lede"),
        ),
        listing,
        *(page.element("p", note, class_="note") for note in table.notes[1:]),
        *body,
        description=table.title,
    )


def _links(
    workdir: Path, rows: Sequence[Experiment], results: Mapping[str, Scored]
) -> page.Html | None:
    """Links to the report of every run: curves, durations (figure 7), weights (figure 3)."""
    runs = {row.run for row in rows}
    names = [name for name in results if name.rpartition("-seed")[0] in runs]
    names = [name for name in names if (workdir / "runs" / name / "report.html").exists()]
    if not names:
        return None
    links = [
        page.element("li", page.element("a", name, href=f"runs/{name}/report.html"))
        for name in names
    ]
    return page.section(
        "runs",
        "The runs",
        page.element("ul", *links),
        lede="Each report has the curves, the durations with their knees (figure 7) and, with the "
        "adaptive focal loss, the class-wise sums of p and of the weight (figure 3).",
    )


def _confusions(
    workdir: Path, rows: Sequence[Experiment], results: Mapping[str, Scored]
) -> page.Html | None:
    """Figures 5 and 6: tagging confusions of systems 2 and 9, side by side."""
    figures = []
    for row in rows:
        name = run_name(row, 0)
        if row.lead[0] not in ("2", "9") or name not in results:
            continue
        split = [s for s in SPLITS if s in results[name].scores[row.rule]][-1]
        folder = score_folder(row.config.postprocess.rule, row.rule)
        directory = workdir / "runs" / name / folder / split
        reference = tables.read_events(directory / "reference.tsv")
        estimates = tables.read_events(directory / "events.tsv")
        classes = results[name].classes
        truth, tagged = (
            scoring.clip_tags(events, reference.filenames, classes)
            for events in (reference.events, estimates.events)
        )
        caption = f"System {row.lead[0]}, {row.lead[1]}: {split}, seed 0"
        figures.append(run_figures.confusion_figure(classes, truth, tagged, caption=caption))
    if not figures:
        return None
    return page.section(
        "tagging",
        "What is taken for what",
        page.element("div", *figures, class_="pair"),
        lede="The paper's figures 5 and 6. Rows are true classes, in percent of their clips; tags "
        "are those of the events that survive. A clip with several classes counts once per true "
        "class, shared over the classes predicted for it; “none”: no class was predicted.",
    )
