"""A table as files: ``tableN.md``, ``tableN.tsv`` and the page ``tableN.html``.

Of tables 1 and 2 differences between rows stand under it, and in ``tableN-paired.tsv``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from jfsed_jax import atomic
from jfsed_jax.errors import InputError
from jfsed_jax.experiments.paired_steps import (
    SCORES,
    PairedDifference,
    PairedStep,
    measured_steps,
)
from jfsed_jax.experiments.paper import Printed
from jfsed_jax.experiments.planned_runs import (
    SPLITS,
    PlannedRow,
    run_folder,
    run_name,
    score_folder,
)
from jfsed_jax.experiments.result_table import Measurements, ResultCell, ResultRow, ResultTable
from jfsed_jax.report.listings import Noted
from jfsed_jax.report.table_page import Confusion, PairedPart, render_table_page
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.sed import scoring, tables, uncertainty
from jfsed_jax.sed.score_titles import TITLES

# Of the TSV; `values` are those of the seeds.
TSV_COLUMNS = (
    "table", "row", "score", "split", "mean", "std", "low", "high", "seeds", "values", "paper",
    "status",
)  # fmt: skip
PAIRED_COLUMNS = ("before", "after", "score", "split", "difference", "low", "high", "seeds")
PAIRED_HEADINGS = {1: "What each step adds", 2: "Against system 8's τ and γ"}
PAIRED_CAPTION = "paired differences of macro F1 in points of percent, with 95 % intervals"
_CONFUSED = ("2", "9")  # the systems of the paper's figures 5 and 6


def write_files(table: ResultTable, measured: Measurements, workdir: Path) -> tuple[Path, Path]:
    """Writes the files of a table into `workdir`; returns Markdown and page.

    Raises:
      InputError: one of them cannot be written.
    """
    stem = workdir / f"table{table.number}"
    markdown, html = stem.with_suffix(".md"), stem.with_suffix(".html")
    paired_file = workdir / f"table{table.number}-paired.tsv"
    steps = measured_steps(measured)
    paired = [_paired_cells(step) for step in steps]
    notes = _paired_notes(measured.seeds)
    paired_heading = PAIRED_HEADINGS.get(table.number, "")
    page = render_table_page(
        heading=table.heading,
        caption=table.caption,
        columns=_columns(table),
        rows=[_cells(table, row) for row in table.rows],
        notes=table.notes,
        links=_links(measured, workdir),
        confusions=_confusions(measured, workdir) if table.number == 1 else (),
        paired=PairedPart(paired_heading, PAIRED_CAPTION, _PAIRED_HEADER, paired, notes)
        if steps
        else None,
    )
    text = to_markdown(table)
    if steps:
        text += f"\n## {paired_heading}: {PAIRED_CAPTION}\n\n"
        text += _markdown_lines(_PAIRED_HEADER, 1, paired, notes)
        tables.write_table(paired_file, PAIRED_COLUMNS, paired_to_tsv(steps))
    else:  # one of other rows would stand beside the new table
        _delete(paired_file)
    for path, content in ((markdown, text), (html, page)):
        atomic.write_whole(path, content)
    tables.write_table(stem.with_suffix(".tsv"), TSV_COLUMNS, to_tsv(table))
    return markdown, html


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be deleted: {error.strerror}") from error


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _measured_text(cell: ResultCell) -> str:
    """``49.2 ± 0.6 / 47.1 ± 0.4``: validation / eval."""
    shown = []
    for split in SPLITS:
        mean, std = uncertainty.mean_std(cell.measured.get(split, ()))
        shown.append(_number(mean) + ("" if std is None else f" ± {std:.1f}"))
    return " / ".join(shown)


def _with_interval(cell: ResultCell) -> Noted:
    """`_measured_text`, and beside it the intervals: ``45.1–62.1 / –``."""
    shown = (cell.intervals.get(split) for split in SPLITS)
    texts = ["–" if found is None else "–".join(map(_number, found)) for found in shown]
    return Noted(_measured_text(cell), " / ".join(texts) if cell.intervals else "")


def _columns(table: ResultTable) -> list[str]:
    scores = [cell.column for cell in table.rows[0].cells] if table.rows else []
    return [*table.lead, *(c for name in scores for c in (name, "paper")), "Seeds"]


def _cells(table: ResultTable, row: ResultRow) -> list[str | Noted]:
    def paper(printed: Printed) -> str:
        return _number(printed[1]) if table.number == 3 else " / ".join(map(_number, printed))

    scores = [c for cell in row.cells for c in (_with_interval(cell), paper(cell.paper))]
    return [*row.lead, *scores, row.status]


def to_markdown(table: ResultTable) -> str:
    """The table as GitHub Markdown; nothing in a cell can end it or become markup."""
    rows = [
        [str(cell.value) if isinstance(cell, Noted) else cell for cell in _cells(table, row)]
        for row in table.rows
    ]
    lines = _markdown_lines(_columns(table), len(table.lead), rows, table.notes)
    return f"# {table.heading}: {table.caption}\n\n{lines}"


def _markdown_lines(
    columns: Sequence[str], leading: int, rows: Iterable[Sequence[str]], notes: Iterable[str]
) -> str:
    """A table, of whose columns the `leading` first are text, and the notes under it."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(map(_escape_markdown, cells)) + " |"

    marks = "".join("---|" if i < leading else "---:|" for i in range(len(columns)))
    listed = [f"- {_escape_markdown(note)}" for note in notes]
    return "\n".join([line(columns), f"|{marks}", *map(line, rows), "", *listed, ""])


def _escape_markdown(text: str) -> str:
    text = " ".join(text.split())
    for mark in "\\|<>*_`[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def to_tsv(table: ResultTable) -> list[tuple[str, ...]]:
    """One line per row, score and split that was measured or printed (`TSV_COLUMNS`)."""
    lines = []
    for row in table.rows:
        for cell in (*row.cells, *row.more):
            for split, paper in zip(SPLITS, cell.paper, strict=True):
                values = cell.measured.get(split, ())
                if not values and paper is None:
                    continue
                mean, std = uncertainty.mean_std(values)
                low_high = cell.intervals.get(split, (None, None))
                numbers = ["" if v is None else f"{v:.4f}" for v in (mean, std, *low_high)]
                lines.append(
                    (
                        *(str(table.number), " ".join(row.lead), cell.column, split, *numbers),
                        *(str(len(values)), ",".join(f"{v:.4f}" for v in values)),
                        *("" if paper is None else f"{paper:.1f}", row.status),
                    )
                )
    return lines


_PAIRED_HEADER = ("Step", *(TITLES[score].text for score in SCORES), "Seeds")


def _paired_cells(step: PairedStep) -> list[str]:
    """``+3.1 [+0.4, +5.9] / +2.0 [-1.1, +5.0]``: validation / eval."""

    def text(found: PairedDifference | None) -> str:
        if found is None or found.difference is None:
            return "–"
        if found.interval is None:
            return f"{found.difference:+.1f}"
        return f"{found.difference:+.1f} [{', '.join(map(_end, found.interval))}]"

    cells = [step.cells.get(TITLES[score].text, {}) for score in SCORES]
    seeds = max((d.seeds for by_split in cells for d in by_split.values()), default=0)
    scores = [" / ".join(text(by_split.get(split)) for split in SPLITS) for by_split in cells]
    return [step.title, *scores, str(seeds)]


def _end(value: float) -> str:
    """Of an interval: two decimals where one does not tell on which side of 0 it lies."""
    return f"{value:+.{2 if abs(value) < 0.05 else 1}f}"


def _paired_notes(seeds: int) -> list[str]:
    known = (
        "clips, and holds what the seeds add (in a row of one seed nothing)"
        if seeds > 1
        else "clips alone, since there is one seed"
    )
    return [
        "Cells are validation / eval: the second row's mean over the seeds less the first's, of "
        f"the seeds that both have. The interval is of {uncertainty.RESAMPLES} resamples of the "
        f"{known}; each draws the same for both rows."
    ]


def paired_to_tsv(steps: Iterable[PairedStep]) -> list[tuple[str, ...]]:
    """One line per step, score and split that was measured (`PAIRED_COLUMNS`)."""
    lines = []
    for step in steps:
        for column, by_split in step.cells.items():
            for split, found in by_split.items():
                values = (found.difference, *(found.interval or (None, None)))
                numbers = ["" if v is None else f"{v:.4f}" for v in values]
                lines.append((step.before, step.after, column, split, *numbers, str(found.seeds)))
    return lines


def _links(measured: Measurements, workdir: Path) -> list[tuple[str, str]]:
    """Name and address of the report of every run that is scored."""
    runs = {row.run for row in measured.rows}
    names = [name for name in measured.scores if name.rpartition("-seed")[0] in runs]
    pages = [(name, _run(workdir, name).report) for name in names]
    return [(name, page.relative_to(workdir).as_posix()) for name, page in pages if page.exists()]


def _run(workdir: Path, name: str) -> Workdir:
    return Workdir(run_folder(workdir, name))


def _confusions(measured: Measurements, workdir: Path) -> list[Confusion]:
    """The paper's figures 5 and 6: tags of systems 2 and 9, of the last split that is scored."""
    return [
        _confusion(measured, row, workdir)
        for row in measured.rows
        if row.lead[0] in _CONFUSED and run_name(row, 0) in measured.scores
    ]


def _confusion(measured: Measurements, row: PlannedRow, workdir: Path) -> Confusion:
    name = run_name(row, 0)
    run = measured.scores[name]
    split = [split for split in SPLITS if split in run.scores[row.rule]][-1]
    scored = score_folder(row.config.postprocess.rule, row.rule)
    folder = _run(workdir, name).split(split, scored)
    reference = tables.read_events(folder.reference)
    estimates = tables.read_events(folder.events)
    return Confusion(
        run.classes,
        scoring.clip_tags(reference.events, reference.filenames, run.classes),
        scoring.clip_tags(estimates.events, reference.filenames, run.classes),
        f"System {row.lead[0]}, {row.lead[1]}: {split}, seed 0",
    )
