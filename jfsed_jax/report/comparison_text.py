"""A comparison for a terminal: what differs, scores with their intervals, paired differences."""

import os
import textwrap
from collections.abc import Iterable, Sequence

from jfsed_jax.errors import one_line
from jfsed_jax.report.comparison import (
    Comparison,
    Differing,
    config_differences,
    gaps,
    other_differences,
)
from jfsed_jax.runs.scored_runs import ComparedSystem
from jfsed_jax.sed import score_text
from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.uncertainty import Estimate

_WIDEST = 40  # characters of a cell
_LINE = 100


def format_comparison(compared: Comparison) -> str:
    """The comparison as text, without the page's classes, curves and clips."""
    systems, labels = compared.systems, _cut(compared.labels)
    names = labels
    if compared.many:
        names = [f"{i}  {label}" for i, label in enumerate(labels, start=1)]
    differing = [*config_differences(systems), *other_differences(systems)]
    nothing = "nothing differs between configs, data and scoring"
    if any(own.first.config is None for own in systems):
        nothing = "nothing that is known differs between configs, data and scoring"
    order = compared.ranked if compared.many else range(len(labels))
    blocks = [
        f"{len(compared.filenames)} clips of {compared.split}, {len(compared.classes)} classes, "
        f"{compared.num_resamples} resamples of the clips",
        "\n".join(f"{name}\n  {_run(own)}" for name, own in zip(names, systems, strict=True)),
        (_differing(differing, labels, compared.many) if differing else nothing),
        _table(
            ["macro F1, percent", *(TITLES[score].text for score in compared.scores)],
            [
                [labels[i], *(_score(compared.estimates[i][f"{s}/macro"]) for s in compared.scores)]
                for i in order
            ],
        ),
    ]
    if lines := gaps(compared):
        blocks.append("\n".join(f"note: {one_line(line)}" for line in lines))
    for name, estimates in [*zip(labels, compared.estimates, strict=True)][1:]:
        differences = {key: estimate.against_first for key, estimate in estimates.items()}
        table = score_text.format_differences(differences)
        blocks.append(f"{name} minus {labels[0]}, points\n{table}")
    return "\n\n".join(blocks)


def _differing(rows: Sequence[Differing], labels: Sequence[str], many: bool) -> str:
    """A column for each system; of many the values and, by their numbers, whose they are."""
    cells = [(row.name, _cut([v or "-" for v in row.values])) for row in rows]
    if not many:
        return _table(["what differs", *labels], [[name, *values] for name, values in cells])
    lines = ["what differs, and between which of the systems by their numbers"]
    width = max(len(one_line(name)) for name, _ in cells) + 2
    for name, values in cells:
        parts = []
        for value in dict.fromkeys(values):
            numbers = [str(i) for i, own in enumerate(values, start=1) if own == value]
            parts.append(f"{value} ({', '.join(numbers)})")
        text = one_line(name).ljust(width) + "  ".join(parts)
        lines += textwrap.wrap(
            text,
            _LINE,
            subsequent_indent=" " * width,
            break_on_hyphens=False,
            break_long_words=False,
        )
    return "\n".join(lines)


def _run(own: ComparedSystem) -> str:
    seeds = f"seed{'s' if len(own.runs) > 1 else ''} {own.seeds}"
    return one_line(f"{own.first.saved.system}, {own.first.decoding}, {seeds}")


def _score(estimate: Estimate) -> str:
    if estimate.value is None or estimate.interval is None:
        return "-" if estimate.value is None else f"{estimate.value:.2f}"
    low, high = estimate.interval
    return f"{estimate.value:.2f} [{low:.2f}, {high:.2f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [[_short(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _cut(texts: Sequence[str]) -> list[str]:
    """Texts of a row, each short; those that would look alike from where they part."""
    whole: dict[str, list[str]] = {}
    for text in map(one_line, texts):
        whole.setdefault(_short(text), []).append(text)
    start = {cut: max(0, len(os.path.commonprefix(own)) - 8) for cut, own in whole.items()}
    return [
        _short(text if len(set(whole[cut])) == 1 else f"…{text[start[cut] :]}")
        for text in map(one_line, texts)
        for cut in [_short(text)]
    ]


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
