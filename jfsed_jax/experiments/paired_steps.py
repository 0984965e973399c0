"""What each step of the paper adds: differences between rows of table 1 on the same clips.

A row's own mean and deviation say little about a difference: the clips are the same for all rows,
and runs of one seed hold out the same clips and start from the same weights. So the difference is
taken pair by pair.
"""

from collections.abc import Mapping
from typing import NamedTuple

from jfsed_jax.experiments.planned_runs import CONTROL, SPLITS, PlannedRow, run_name
from jfsed_jax.experiments.result_table import Measurements
from jfsed_jax.sed import uncertainty
from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.scoring import Counts

# Rows of table 1 that differ in one thing: teacher and unlabelled clips, TFD, AFL, ESP; and in all.
STEPS = ((CONTROL, "3"), ("3", "6"), ("6", "8"), ("8", "9"), (CONTROL, "9"))
SCORES = ("event_f1", "segment_f1", "at_f1_events")  # those of the table


class PairedDifference(NamedTuple):
    """A macro F1 of one row less that of another, in points of percent.

    Attributes:
      difference: the mean over the seeds; None where a score is undefined.
      interval: 95 %, see `uncertainty.compare_systems`.
      seeds: how many pairs of runs it is of.
    """

    difference: float | None
    interval: tuple[float, float] | None
    seeds: int


class PairedStep(NamedTuple):
    """From one row to another: by the score's title and split the difference."""

    before: str
    after: str
    cells: Mapping[str, Mapping[str, PairedDifference]]

    @property
    def title(self) -> str:
        """``3 → 6``."""
        return f"{self.before} → {self.after}"


def measured_steps(measured: Measurements) -> list[PairedStep]:
    """The `STEPS` of which both rows are in table 1; without cells where no seed has both."""
    if measured.table != 1:
        return []
    rows = {row.lead[0]: row for row in measured.rows}
    return [
        PairedStep(before, after, _cells(measured, rows[before], rows[after]))
        for before, after in STEPS
        if before in rows and after in rows
    ]


def _cells(
    measured: Measurements, before: PlannedRow, after: PlannedRow
) -> dict[str, dict[str, PairedDifference]]:
    cells: dict[str, dict[str, PairedDifference]] = {}
    for split in SPLITS:
        pairs = _pairs(measured, before, after, split)
        if not pairs:
            continue
        first, other = (uncertainty.sample_scores(side) for side in zip(*pairs, strict=True))
        for score in SCORES:
            key = f"{score}/macro"
            step = uncertainty.difference(first[key], other[key])
            cells.setdefault(TITLES[score].text, {})[split] = PairedDifference(
                step.difference, step.interval, len(pairs)
            )
    return cells


def _pairs(
    measured: Measurements, before: PlannedRow, after: PlannedRow, split: str
) -> list[tuple[Counts, Counts]]:
    """Both rows' counts, of the seeds that both have scored on the same clips."""
    pairs = []
    for seed in range(measured.seeds):
        sides = []
        for row in (before, after):
            run = measured.scores.get(run_name(row, seed))
            counts = run.counts.get(row.rule, {}).get(split) if run is not None else None
            if run is None or counts is None:
                break
            clips = run.scores[row.rule][split]["info"].get("reference")
            sides.append((clips, {score: counts[score] for score in SCORES}))
        if len(sides) == 2 and sides[0][0] == sides[1][0]:
            pairs.append((sides[0][1], sides[1][1]))
    return pairs
