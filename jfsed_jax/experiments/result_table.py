"""A table as data: what was measured beside what the paper prints, and the notes under it.

Scores are macro F1 in percent, and of table 3 those of each class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jfsed_jax.experiments import paper
from jfsed_jax.experiments.paper import Printed
from jfsed_jax.experiments.planned_runs import CONTROL, SPLITS, PlannedRow, run_name
from jfsed_jax.report.formatting import label_text
from jfsed_jax.sed import uncertainty
from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.scoring import Counts
from jfsed_jax.sed.uncertainty import Interval

_CLIP_HEAD = "at_f1"  # beside the paper's scores in the TSV
_NOT_PRINTED: Printed = (None, None)


class RunScores(NamedTuple):
    """What one run scored.

    Attributes:
      clips: it was trained on, by kind.
      classes: the labels.
      scores: by rule and split, as in scores.json.
      counts: likewise, each clip's, see `scoring.score_clips`; of the clips that
        ``scores[rule][split]["info"]["reference"]`` tells.
    """

    clips: Mapping[str, int]
    classes: Sequence[str]
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]]
    counts: Mapping[str, Mapping[str, Counts]] = {}


@dataclass(frozen=True)
class Measurements:
    """What a table is made of; grows while its runs end.

    Attributes:
      table: its number.
      size: of the configs.
      data: name of the data folder.
      seeds: how many were asked for.
      rows: to measure.
      scores: by name of the run, of those that were scored.
      failures: by name of the run, why it failed.
    """

    table: int
    size: str
    data: str
    seeds: int
    rows: Sequence[PlannedRow]
    scores: dict[str, RunScores] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def of_row(self, row: PlannedRow) -> list[RunScores]:
        """The scores of the row's runs, seed by seed, as far as there are any."""
        names = (run_name(row, seed) for seed in range(self.seeds))
        return [self.scores[name] for name in names if name in self.scores]

    def counts(self, row: PlannedRow, split: str) -> dict[int, tuple[str | None, Counts]]:
        """By seed what tells the clips of the row's run, and their counts."""
        found = {}
        for seed in range(self.seeds):
            run = self.scores.get(run_name(row, seed))
            counts = run.counts.get(row.rule, {}).get(split) if run is not None else None
            if run is not None and counts is not None:
                clips = run.scores[row.rule][split]["info"].get("reference")
                found[seed] = clips, counts
        return found


class ResultCell(NamedTuple):
    """A score of a row, in percent.

    Attributes:
      column: its name.
      measured: by split the value of each seed.
      paper: the paper's figures.
      intervals: by split the 95 % interval of the mean of `measured`, where there is one.
    """

    column: str
    measured: Mapping[str, Sequence[float]]
    paper: Printed
    intervals: Mapping[str, Interval] = {}


class ResultRow(NamedTuple):
    """A line of a table; `status` is how many seeds count, and what went wrong with others.

    `more` are cells for the TSV alone.
    """

    lead: tuple[str, ...]
    cells: tuple[ResultCell, ...]
    status: str
    more: tuple[ResultCell, ...] = ()


class ResultTable(NamedTuple):
    """A table: what it shows, the names of its leading columns, its rows, the notes under it."""

    number: int
    caption: str
    lead: tuple[str, ...]
    rows: tuple[ResultRow, ...]
    notes: tuple[str, ...]

    @property
    def heading(self) -> str:
        return f"Table {self.number}"


_CAPTIONS = {
    1: "the systems, macro F1 in percent",
    2: "the adaptive focal loss, macro F1 in percent",
    3: "windows from mean durations (avg) and event-specific ones (esp), F1 in percent",
}
_LEADS = {1: ("ID", "System"), 2: ("τ", "γ"), 3: ("Event class",)}


def make_table(measured: Measurements) -> ResultTable:
    """Lays measured scores and the paper's side by side."""
    make = _class_rows if measured.table == 3 else _system_rows
    number = measured.table
    return ResultTable(
        number, _CAPTIONS[number], _LEADS[number], make(measured), tuple(_notes(measured))
    )


def _values(
    measured: Measurements, row: PlannedRow, score: str, label: str | None = None
) -> dict[str, list[float]]:
    """A score of each seed by split: of a class, or macro."""
    values: dict[str, list[float]] = {}
    for run in measured.of_row(row):
        for split, scores in run.scores.get(row.rule, {}).items():
            entry = scores.get(score, {})
            value = entry.get("macro") if label is None else entry["classwise"].get(label)
            if value is not None:
                values.setdefault(split, []).append(value)
    return values


def _intervals(
    measured: Measurements, row: PlannedRow, classes: Sequence[str] = ()
) -> dict[str, dict[str, Interval]]:
    """By key of `uncertainty.intervals` and split: over the clips and seeds of a row.

    Not of a split whose seeds were scored on other clips.
    """
    found: dict[str, dict[str, Interval]] = {}
    for split in SPLITS:
        runs = list(measured.counts(row, split).values())
        if len({clips for clips, _ in runs}) == 1:
            of_split = uncertainty.intervals([counts for _, counts in runs], classes=classes)
            for key, interval in of_split.items():
                if interval is not None:
                    found.setdefault(key, {})[split] = interval
    return found


def _system_rows(measured: Measurements) -> tuple[ResultRow, ...]:
    """Of tables 1 and 2."""
    lines = []
    for row in measured.rows:
        intervals = _intervals(measured, row)
        cells = [
            ResultCell(
                TITLES[score].text,
                _values(measured, row, score),
                printed,
                intervals.get(f"{score}/macro", {}),
            )
            for score, printed in (*row.paper._asdict().items(), (_CLIP_HEAD, _NOT_PRINTED))
        ]
        status = _status(measured, row)
        lines.append(ResultRow(row.lead, tuple(cells[:-1]), status, more=(cells[-1],)))
    return tuple(lines)


def _class_rows(measured: Measurements) -> tuple[ResultRow, ...]:
    """Of table 3: a line for each class, with the scores of both sides."""
    labels = next((list(run.classes) for run in measured.scores.values()), list(paper.WINDOWS)[:-1])
    intervals = {row.rule: _intervals(measured, row, labels) for row in measured.rows}
    lines = []
    for label in [*labels, paper.OVERALL]:
        overall = label == paper.OVERALL
        average = "macro" if overall else f"classwise/{label}"
        printed = paper.WINDOWS[label]._asdict() if label in paper.WINDOWS else {}
        cells = tuple(
            ResultCell(
                f"{row.rule} {name}",
                _values(measured, row, score, None if overall else label),
                (None, printed.get(f"{name.lower()}_{row.rule}")),
                intervals[row.rule].get(f"{score}/{average}", {}),
            )
            for row in measured.rows
            for score, name in (("event_f1", "AED"), ("at_f1_events", "AT"))
        )
        status = _status(measured, measured.rows[0]) if overall else ""
        lines.append(ResultRow((label_text(label),), cells, status))
    return tuple(lines)


def _status(measured: Measurements, row: PlannedRow) -> str:
    count, seeds = len(measured.of_row(row)), measured.seeds
    parts = [str(count) if count == seeds else f"{count} of {seeds}"]
    for seed in range(seeds):
        if error := measured.failures.get(run_name(row, seed)):
            parts.append(f"seed {seed} failed: {error}")
    return "; ".join(parts)


def _notes(measured: Measurements) -> list[str]:
    notes = [
        f"The paper's figures are for DCASE 2019 Task 4, those measured are for {measured.data}: "
        "compare measured rows with each other. They are a reproduction of the paper's only if "
        "that folder holds the DCASE 2019 audio, the size is paper and the epochs are the configs' "
        "own."
    ]
    if measured.table == 3:
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
        if measured.seeds > 1
        else "One seed: differences of the size of run-to-run variation cannot be told apart."
    )
    of_seeds = ", and what the seeds add" if measured.seeds > 1 else ""
    notes.append(
        f"On the page and in the TSV: 95 % intervals of {uncertainty.RESAMPLES} resamples of the "
        f"clips{of_seeds}."
    )
    notes.append(f"Size {measured.size}, {_lengths(measured.rows)}.")
    control = next((row for row in measured.rows if row.lead[0] == CONTROL), None)
    if control is not None:
        batch = control.config.batch
        notes.append(
            f"The control is not in the paper: the student alone on the {batch.weak} weak and "
            f"{batch.strong} strong clips of each batch, in as many steps as systems 2 to 9."
        )
    if measured.table == 2:
        configs = {row.lead[0]: row.config for row in measured.rows if row.config.loss.tau >= 0}
        listed = (f"{tau} is epoch {config.loss.tau:.4g}" for tau, config in configs.items())
        notes.append(
            "τ in the paper's epochs; as trained, in proportion to system 8's: "
            f"{', '.join(listed)}."
        )
    for row in measured.rows:
        if (selected := row.config.postprocess.rule) != row.rule:
            notes.append(
                f"{row.lead[0]} is the training run of {row.run}, whose checkpoint was selected "
                f"with {selected} windows; it is scored with {row.rule} windows."
            )
    first = next(iter(measured.scores.values()), None)
    return notes if first is None else [*notes, _clips(first)]


def _lengths(rows: Sequence[PlannedRow]) -> str:
    """``200 epochs``, or where rows differ ``0, 1: 100 epochs; 2, 3: 200 epochs``."""
    lengths: dict[str, list[str]] = {}
    for row in rows:
        epochs = row.config.epochs
        lengths.setdefault(f"{epochs} epoch{'s' * (epochs != 1)}", []).append(row.lead[0])
    if len(lengths) == 1:
        return next(iter(lengths))
    return "; ".join(f"{', '.join(ids)}: {length}" for length, ids in lengths.items())


def _clips(run: RunScores) -> str:
    """The note on how many clips there were."""
    trained = ", ".join(f"{count} {kind}" for kind, count in run.clips.items())
    scores = next(iter(run.scores.values()), {})
    present = [
        f"{split} {scores[split]['info']['num_clips']} present of "
        f"{scores[split]['info']['clips_listed']} listed"
        if split in scores
        else f"no {split} clips"
        for split in SPLITS
    ]
    return f"Clips: to train on {trained}; {', '.join(present)}."
