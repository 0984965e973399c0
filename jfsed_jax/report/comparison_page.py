"""The page of a comparison: differences, paired scores, classes, curves, clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jfsed_jax.report.clip_pictures import clip_player
from jfsed_jax.report.comparison import (
    Comparison,
    Differing,
    config_differences,
    gaps,
    other_differences,
    verdict,
)
from jfsed_jax.report.comparison_clips import differing_clips
from jfsed_jax.report.comparison_curves import shared_charts
from jfsed_jax.report.formatting import label_text, number
from jfsed_jax.report.listings import Code, Listing
from jfsed_jax.report.rendering import render_template, save_page
from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.scoring import Counts
from jfsed_jax.sed.uncertainty import Estimate

SHOWN = 12  # charts, and rows of differing values; the rest is folded away
SHOWN_CLIPS, MOST_CLIPS = 6, 24


class Shift(NamedTuple):
    """A difference to the first system as text, and drawn around 0 in percent of the cell;
    not drawn without an interval."""

    text: str
    interval: str
    verdict: str
    left: str
    width: str
    dot: str


class ComparedCell(NamedTuple):
    """A score of a system, its interval, and its difference to the first system's."""

    value: str
    interval: str
    shift: Shift | None


class ComparedTable(NamedTuple):
    """Scores of all systems: `rows` are a name, a small text beside it, and a cell of each."""

    caption: str
    columns: list[str]
    rows: list[tuple[str, str, list[ComparedCell]]]


def write_comparison(path: Path, compared: Comparison) -> Path:
    """Writes the page.

    Raises:
      InputError: it cannot be written.
    """
    return save_page(path, render_comparison(compared))


def render_comparison(compared: Comparison) -> str:
    """The page as text."""
    clips = differing_clips(compared, MOST_CLIPS)
    curves = shared_charts(compared.systems)
    config, others = config_differences(compared.systems), other_differences(compared.systems)
    heading = " and ".join(compared.labels)
    if len(compared.labels) > 2:
        heading = f"{compared.labels[0]} and {len(compared.labels) - 1} others"
    return render_template(
        "comparison.html",
        title=f"{heading} · sound event detection",
        description=f"Scores of {heading}, their differences and how sure they are",
        heading=heading,
        conditions=f"{compared.title}: {number(len(compared.filenames), 0)} clips, "
        f"{len(compared.classes)} classes",
        findings=[] if compared.many else findings(compared),
        ranking=_ranking(compared) if compared.many else None,
        gaps=gaps(compared),
        first=compared.labels[0],
        runs=_runs(compared),
        config=_differing(compared, config[:SHOWN], "Values of the configs", code=True),
        config_rest=_differing(compared, config[SHOWN:], "Values of the configs", code=True),
        others=_differing(compared, others, "Beside the configs", code=False),
        scores=_overall(compared),
        resamples=number(compared.num_resamples, 0) if compared.num_resamples else "",
        by_chance=_by_chance(compared),
        several_seeds=any(len(system.runs) > 1 for system in compared.systems),
        one_seed=any(len(system.runs) == 1 for system in compared.systems),
        classes=[(TITLES[score].text, _classes(compared, score)) for score in compared.scores],
        curve_keys=curves[0].keys if curves else (),
        curves=[chart._replace(keys=()) for chart in curves],
        clips=clips.pictures,
        shown=SHOWN,
        shown_clips=SHOWN_CLIPS,
        clip_keys=clips.keys,
        player=clip_player(clips.pictures),
    )


def findings(compared: Comparison) -> list[str]:
    """For each other system a sentence: in which macro scores it differs from the first."""
    first, *others = compared.counts
    return [
        f"{label} scores the same as {compared.labels[0]} on every clip."
        if _same(first, counts)
        else _finding(compared, label, estimates)
        for label, estimates, counts in zip(
            compared.labels[1:], compared.estimates[1:], others, strict=True
        )
    ]


def _same(first: Sequence[Counts], other: Sequence[Counts]) -> bool:
    return len(first) == len(other) and all(
        np.array_equal(a[score], b[score]) for a, b in zip(first, other, strict=True) for score in a
    )


def _finding(compared: Comparison, label: str, estimates: Mapping[str, Estimate]) -> str:
    first = compared.labels[0]
    told: dict[str, list[str]] = {"better": [], "worse": [], "": [], "few": []}
    found = {score: estimates[f"{score}/macro"] for score in compared.scores}
    for score, estimate in found.items():
        shift = estimate.against_first
        if shift is None or shift.difference is None:
            continue
        title = TITLES[score].short
        if shift.interval is None:
            told["few"].append(f"{title} ({signed(shift.difference)})")
        else:
            text = f"{title} ({signed(shift.difference)}, {_span(shift.interval)})"
            told[verdict(estimate)].append(text)
    parts = [
        f"{word} than {first} in {_and(told[word])}" for word in ("better", "worse") if told[word]
    ]
    if told[""]:
        parts.append(f"not told from {'noise' if parts else first} in {_and(told[''])}")
    if told["few"]:
        parts.append(f"without an interval in {_and(told['few'])}")
    return f"{label} is {'; '.join(parts) or 'of undefined scores'}."


def _and(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def signed(value: float | None, digits: int = 1) -> str:
    """A difference with its sign, none where it rounds to 0."""
    if value is None:
        return "–"
    rounded = round(value, digits) + 0.0
    return f"{'+' if rounded > 0 else ''}{number(rounded, digits)}"


def _span(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{signed(interval[0])} to {signed(interval[1])}"


def _runs(compared: Comparison) -> Listing:
    rows = [
        [
            system.label,
            system.seeds,
            system.first.decoding,
            ", ".join(dict.fromkeys(run.name for run in system.runs)),
        ]
        for system in compared.systems
    ]
    columns = ["Run", "Seeds", "Events by", "Named"]
    caption = "The others are compared to the first; name another one before it to change that"
    return Listing(caption, columns, rows, class_="text runs")


def _differing(
    compared: Comparison, rows: Sequence[Differing], caption: str, *, code: bool
) -> Listing | None:
    if not rows:
        return None
    cells = [
        [Code(row.name) if code else row.name, *("–" if v is None else v for v in row.values)]
        for row in rows
    ]
    return Listing(caption, ["Value", *compared.labels], cells, class_="text")


def _ranking(compared: Comparison) -> ComparedTable:
    """The first score of all systems, the highest first."""
    score = compared.scores[0]
    table = _table(compared, [("", "", f"{score}/macro")], f"{TITLES[score].text} macro, percent")
    return _by_system(compared, table)


def _by_system(compared: Comparison, table: ComparedTable) -> ComparedTable:
    """A row for each system, the highest first, and a column for each score."""
    rows = [(compared.labels[i], "", [row[2][i] for row in table.rows]) for i in compared.ranked]
    return ComparedTable(table.caption, [name for name, *_ in table.rows], rows)


def _overall(compared: Comparison) -> ComparedTable:
    keys = [
        (f"{TITLES[score].text} {average}", "", f"{score}/{average}")
        for score in compared.scores
        for average in ("macro", "micro")
    ]
    table = _table(compared, keys, "F1 in percent")
    return _by_system(compared, table) if compared.many else table


def _classes(compared: Comparison, score: str) -> ComparedTable:
    reference = compared.counts[0][0][score][..., 0].sum(0)
    keys = [
        (label_text(label), number(count, 0), f"{score}/classwise/{label}")
        for label, count in zip(compared.classes, reference.tolist(), strict=True)
    ]
    keys += [(average.title(), "", f"{score}/{average}") for average in ("macro", "micro")]
    return _table(compared, keys, f"{TITLES[score].text} in percent")


def _table(
    compared: Comparison, keys: Sequence[tuple[str, str, str]], caption: str
) -> ComparedTable:
    found = compared.estimates
    bounds = [
        abs(bound)
        for estimates in found[1:]
        for _, _, key in keys
        if (shift := estimates[key].against_first) is not None and shift.interval is not None
        for bound in (*shift.interval, shift.difference or 0.0)
    ]
    largest = max(bounds, default=0.0) or 1.0
    rows = [
        (name, small, [_cell(estimates[key], largest) for estimates in found])
        for name, small, key in keys
    ]
    return ComparedTable(caption, compared.labels, rows)


def _cell(estimate: Estimate, largest: float) -> ComparedCell:
    interval = "" if estimate.interval is None else " to ".join(map(number, estimate.interval))
    return ComparedCell(number(estimate.value), interval, _shift(estimate, largest))


def _shift(estimate: Estimate, largest: float) -> Shift | None:
    found = estimate.against_first
    if found is None or found.difference is None:
        return None
    if found.interval is None:
        return Shift(signed(found.difference), "no interval", "", "", "", "")

    def place(value: float) -> float:
        return 50 + 50 * value / largest

    low, high = map(place, found.interval)
    return Shift(
        signed(found.difference),
        _span(found.interval),
        verdict(estimate),
        f"{low:.1f}%",
        f"{high - low:.1f}%",
        f"{place(found.difference):.1f}%",
    )


def _by_chance(compared: Comparison) -> str:
    """How many intervals of one table of classes would leave out 0 if nothing differed."""
    number_of_cells = len(compared.classes) * (len(compared.systems) - 1)
    return f"{number(0.05 * number_of_cells)} of {number(number_of_cells, 0)}"
