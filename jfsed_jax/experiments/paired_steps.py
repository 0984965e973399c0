"""What each step of the paper adds: differences between rows of a table on the same clips.

A row's own mean and deviation say little about a difference: the clips are the same for all rows,
and runs of one seed hold out the same clips and start from the same weights. So the difference is
taken pair by pair.
"""

from collections.abc import Mapping
from typing import NamedTuple

from jfsed_jax.experiments.planned_runs import CONTROL, SPLITS, PlannedRow
from jfsed_jax.experiments.result_table import Measurements
from jfsed_jax.sed import uncertainty
from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.scoring import Counts

# Rows of table 1 that differ in one thing: teacher and unlabelled clips, TFD, AFL, ESP; and in all.
STEPS = ((CONTROL, "3"), ("3", "6"), ("6", "8"), ("8", "9"), (CONTROL, "9"))
# The row of table 2 that is system 8, as tau and gamma: what the others are held against.
FOCAL_BASE = ("15", "2")
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
    """The differences of a table; without cells where no seed has both rows.

    Of table 1 the `STEPS` of which both rows are in it, of table 2 from `FOCAL_BASE` to each other
    row, of table 3 none: its step is table 1's from 8 to 9.
    """
    rows = {_name(measured, row): row for row in measured.rows}
    steps: tuple[tuple[str, str], ...] = STEPS if measured.table == 1 else ()
    if measured.table == 2:
        base = _focal_name(*FOCAL_BASE)
        steps = tuple((base, name) for name in rows if name != base)
    return [
        PairedStep(before, after, _cells(measured, rows[before], rows[after]))
        for before, after in steps
        if before in rows and after in rows
    ]


def _name(measured: Measurements, row: PlannedRow) -> str:
    return _focal_name(*row.lead) if measured.table == 2 else row.lead[0]


def _focal_name(tau: str, gamma: str) -> str:
    """``τ 15, γ 2``, or ``never``."""
    return f"τ {tau}, γ {gamma}" if tau.isdecimal() else tau


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
    first, other = (measured.counts(row, split) for row in (before, after))
    return [
        (counts, other[seed][1])
        for seed, (clips, counts) in first.items()
        if seed in other and other[seed][0] == clips
    ]
