"""A comparison for a terminal: what differs, scores with their intervals, paired differences."""

from collections.abc import Iterable, Sequence

from jfsed_jax.errors import one_line
from jfsed_jax.report.comparison import Comparison, config_differences, other_differences
from jfsed_jax.runs.scored_runs import ComparedSystem
from jfsed_jax.sed import score_text
from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.uncertainty import Estimate

_WIDEST = 40  # characters of a cell


def format_comparison(compared: Comparison) -> str:
    """The comparison as text, without the page's classes, curves and clips."""
    systems, labels = compared.systems, [one_line(label) for label in compared.labels]
    differing = [*config_differences(systems), *other_differences(systems)]
    blocks = [
        f"{len(compared.filenames)} clips of {compared.split}, {len(compared.classes)} classes, "
        f"{compared.num_resamples} resamples of {compared.drawn}",
        "\n".join(f"{name}\n  {_run(own)}" for name, own in zip(labels, systems, strict=True)),
        _table(
            ["what differs", *labels],
            [[row.name, *(v or "-" for v in row.values)] for row in differing],
        )
        if differing
        else "nothing differs between configs, data and scoring",
        _table(
            ["macro F1, percent", *labels],
            [
                [TITLES[score].text, *(_score(own[f"{score}/macro"]) for own in compared.estimates)]
                for score in compared.scores
            ],
        ),
    ]
    for name, estimates in [*zip(labels, compared.estimates, strict=True)][1:]:
        differences = {key: estimate.against_first for key, estimate in estimates.items()}
        table = score_text.format_differences(differences)
        blocks.append(f"{name} minus {labels[0]}, points\n{table}")
    return "\n\n".join(blocks)


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


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
