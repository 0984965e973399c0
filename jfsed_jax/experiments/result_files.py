"""A table as files: ``tableN.md``, ``tableN.tsv`` and the page ``tableN.html``."""

from collections.abc import Iterable
from pathlib import Path

from jfsed_jax import atomic
from jfsed_jax.experiments.paper import Printed
from jfsed_jax.experiments.planned_runs import (
    SPLITS,
    PlannedRow,
    run_folder,
    run_name,
    score_folder,
)
from jfsed_jax.experiments.result_table import Measurements, ResultCell, ResultRow, ResultTable
from jfsed_jax.report.table_page import Confusion, render_table_page
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.sed import scoring, tables, uncertainty

# Of the TSV; `values` are those of the seeds.
TSV_COLUMNS = (
    "table", "row", "score", "split", "mean", "std", "seeds", "values", "paper", "status",
)  # fmt: skip
_CONFUSED = ("2", "9")  # the systems of the paper's figures 5 and 6


def write_files(table: ResultTable, measured: Measurements, workdir: Path) -> tuple[Path, Path]:
    """Writes the three files of a table into `workdir`; returns Markdown and page.

    Raises:
      InputError: one of them cannot be written.
    """
    stem = workdir / f"table{table.number}"
    markdown, html = stem.with_suffix(".md"), stem.with_suffix(".html")
    page = render_table_page(
        heading=table.heading,
        caption=table.caption,
        columns=_columns(table),
        rows=[_cells(table, row) for row in table.rows],
        notes=table.notes,
        links=_links(measured, workdir),
        confusions=_confusions(measured, workdir) if table.number == 1 else (),
    )
    for path, text in ((markdown, to_markdown(table)), (html, page)):
        atomic.write_whole(path, text)
    tables.write_table(stem.with_suffix(".tsv"), TSV_COLUMNS, to_tsv(table))
    return markdown, html


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _measured_text(cell: ResultCell) -> str:
    """``49.2 ± 0.6 / 47.1 ± 0.4``: validation / eval."""
    shown = []
    for split in SPLITS:
        mean, std = uncertainty.mean_std(cell.measured.get(split, ()))
        shown.append(_number(mean) + ("" if std is None else f" ± {std:.1f}"))
    return " / ".join(shown)


def _columns(table: ResultTable) -> list[str]:
    scores = [cell.column for cell in table.rows[0].cells] if table.rows else []
    return [*table.lead, *(c for name in scores for c in (name, "paper")), "Seeds"]


def _cells(table: ResultTable, row: ResultRow) -> list[str]:
    def paper(printed: Printed) -> str:
        return _number(printed[1]) if table.number == 3 else " / ".join(map(_number, printed))

    scores = [text for cell in row.cells for text in (_measured_text(cell), paper(cell.paper))]
    return [*row.lead, *scores, row.status]


def to_markdown(table: ResultTable) -> str:
    """The table as GitHub Markdown; nothing in a cell can end it or become markup."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(map(_escape_markdown, cells)) + " |"

    columns = _columns(table)
    marks = "".join("---|" if i < len(table.lead) else "---:|" for i in range(len(columns)))
    lines = [line(columns), f"|{marks}", *(line(_cells(table, row)) for row in table.rows)]
    notes = [f"- {_escape_markdown(note)}" for note in table.notes]
    return "\n".join([f"# {table.heading}: {table.caption}", "", *lines, "", *notes, ""])


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
                numbers = ["" if v is None else f"{v:.4f}" for v in (mean, std)]
                lines.append(
                    (
                        *(str(table.number), " ".join(row.lead), cell.column, split, *numbers),
                        *(str(len(values)), ",".join(f"{v:.4f}" for v in values)),
                        *("" if paper is None else f"{paper:.1f}", row.status),
                    )
                )
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
