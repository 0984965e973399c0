"""The page of a comparison: differences, paired scores, classes, curves, clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jfsed_jax.report.clip_pictures import clip_keys, clip_player
from jfsed_jax.report.comparison import (
    Comparison,
    Differing,
    config_differences,
    other_differences,
    verdict,
)
from jfsed_jax.report.comparison_clips import differing_clips
from jfsed_jax.report.comparison_curves import shared_charts
from jfsed_jax.report.formatting import label_text, number
from jfsed_jax.report.listings import Code, Listing
from jfsed_jax.report.rendering import render_template, save_page
from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.uncertainty import Estimate

SHOWN = 12  # charts, and rows of differing values; the rest is folded away
SHOWN_CLIPS, MOST_CLIPS = 6, 24


class Shift(NamedTuple):
    """A difference to the first system as text, and drawn around 0 in percent of the cell."""

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
        findings=findings(compared),
        first=compared.labels[0],
        runs=_runs(compared),
        config=_differing(compared, config[:SHOWN], "Values of the configs", code=True),
        config_rest=_differing(compared, config[SHOWN:], "Values of the configs", code=True),
        unknown=[s.label for s in compared.systems if s.first.config is None],
        others=_differing(compared, others, "Beside the configs", code=False),
        scores=_overall(compared),
        drawn=compared.drawn,
        resamples=number(compared.num_resamples, 0),
        by_chance=_by_chance(compared),
        lanes=len(compared.systems) + 1,
        several_seeds=any(len(system.runs) > 1 for system in compared.systems),
        one_seed=any(len(system.runs) == 1 for system in compared.systems),
        classes=[(TITLES[score].text, _classes(compared, score)) for score in compared.scores],
        curves=shared_charts(compared.systems),
        clips=clips.pictures,
        shown=SHOWN,
        shown_clips=SHOWN_CLIPS,
        clip_keys=clip_keys(posterior=False, contrast=clips.contrast),
        player=clip_player(clips.pictures),
    )


def findings(compared: Comparison) -> list[str]:
    """For each other system a sentence: in which macro scores it differs from the first."""
    found = zip(compared.labels, compared.estimates, strict=True)
    return [_finding(compared, label, estimates) for label, estimates in [*found][1:]]


def _finding(compared: Comparison, label: str, estimates: Mapping[str, Estimate]) -> str:
    first = compared.labels[0]
    told: dict[str, list[str]] = {"better": [], "worse": [], "": []}
    for score in compared.scores:
        estimate = estimates[f"{score}/macro"]
        shift = estimate.against_first
        if shift is not None:
            text = f"{TITLES[score].short} ({signed(shift.difference)}, {_span(shift.interval)})"
            told[verdict(estimate)].append(text)
    parts = [
        f"{word} than {first} in {_and(told[word])}" for word in ("better", "worse") if told[word]
    ]
    if told[""]:
        parts.append(f"not told from {'noise' if parts else first} in {_and(told[''])}")
    return f"{label} is {'; '.join(parts)}."


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
            system.first.saved.system,
            system.seeds,
            system.first.decoding,
            ", ".join(dict.fromkeys(run.name for run in system.runs)),
        ]
        for system in compared.systems
    ]
    columns = ["Run", "System", "Seeds", "Events by", "Named"]
    return Listing("The first is what the others are compared to", columns, rows, class_="text")


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


def _overall(compared: Comparison) -> ComparedTable:
    keys = [
        (TITLES[score].text, average, f"{score}/{average}")
        for score in compared.scores
        for average in ("macro", "micro")
    ]
    return _table(compared, keys, "F1 in percent")


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
    if found is None or found.difference is None or found.interval is None:
        return None

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
