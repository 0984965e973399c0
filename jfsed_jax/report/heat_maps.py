"""Heat maps: tables whose cells are shares, and figures 5 and 6 of the paper among them.

Axis letters: ``N`` clips, ``C`` event classes, ``R`` rows and ``K`` columns of a map.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.report.formatting import label_text
from jfsed_jax.report.listings import Listing

DENSE = 16  # columns, beyond which cells have no room for a number
_HOT = 0.68  # share from which on the number in a cell is bold


class HeatCell(NamedTuple):
    """A share: its text, its depth of colour ("" for none), what a pointer is told."""

    text: str
    depth: str
    hot: bool
    tip: str


class HeatRow(NamedTuple):
    """A row: its name, its cells, the clips behind it."""

    name: str
    cells: list[HeatCell]
    clips: int


class HeatMap(NamedTuple):
    """A heat map; `dense` ones are drawn small, and `listing` has their numbers."""

    caption: str
    columns: Sequence[str]
    rows: list[HeatRow]
    dense: bool
    note: str
    listing: Listing | None


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    shares: np.ndarray,
    *,
    caption: str,
    counts: Sequence[int],
    note: str = "",
) -> HeatMap:
    """A heat map.

    Args:
      rows, columns: R and K names.
      shares: <float>[R, K] from 0 to 1; NaN rows are empty.
      caption: what it shows.
      counts: R numbers of clips behind the rows.
      note: a line under the table.
    """
    dense = len(columns) > DENSE

    def cell(name: str, column: str, share: float) -> HeatCell:
        share = float(share) if np.isfinite(share) else 0.0
        percent = f"{100 * share:.0f}"
        return HeatCell(
            text="" if dense or percent == "0" else percent,
            # Less than linear, so that rare confusions can be seen.
            depth=f"{share**0.75:.3f}" if share >= 0.0005 else "",
            hot=share > _HOT,
            tip=f"{name} → {column}: {100 * share:.1f} %" if share > 0 else "",
        )

    lines = [
        HeatRow(name, [cell(name, c, s) for c, s in zip(columns, row, strict=True)], int(count))
        for name, row, count in zip(rows, shares, counts, strict=True)
    ]
    listing = _listed(rows, columns, shares, caption) if dense else None
    return HeatMap(caption, columns, lines, dense, note, listing)


def _listed(
    rows: Sequence[str], columns: Sequence[str], shares: np.ndarray, caption: str
) -> Listing:
    """What has no room in the cells: the shares of each row from 0.5 %, the largest first."""
    named = []
    for name, row in zip(rows, np.nan_to_num(shares), strict=True):
        order = [k for k in np.argsort(-row, kind="stable") if row[k] >= 0.005]
        found = ", ".join(f"{columns[k]} {100 * row[k]:.0f}" for k in order)
        named.append([name, found or "–"])
    return Listing(caption, ["Row", "Percent, largest first"], named, class_="text")


def confusion_matrix(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Audio-tagging confusions (figures 5 and 6), in clips.

    A clip counts once in the row of each of its true classes, shared equally over the classes
    predicted for it; without any it counts in the last column.

    Args:
      reference, predicted: <bool or int>[N, C] tags.

    Returns:
      <float64>[C, C + 1]; row sums are the clips of each class.
    """
    truth = np.asarray(reference).astype(bool).astype(np.float64)
    tagged = np.asarray(predicted).astype(bool).astype(np.float64)
    count = tagged.sum(axis=1, keepdims=True)
    shares = np.concatenate([tagged / np.maximum(count, 1.0), count == 0], axis=1)
    return truth.T @ shares


def confusion_map(
    classes: Sequence[str], reference: np.ndarray, tagged: np.ndarray, *, caption: str
) -> HeatMap:
    """The heat map of `confusion_matrix` in shares of each true class; tags <bool>[N, C]."""
    counts = reference.sum(axis=0).astype(int)
    names = [label_text(label) for label in classes]
    silent = int((~reference.any(axis=1)).sum())
    return heat_map(
        names,
        [*names, "none"],
        confusion_matrix(reference, tagged) / np.maximum(counts, 1)[:, None],
        caption=caption,
        counts=counts.tolist(),
        note=f"Not shown: {silent} clips without a true class." if silent else "",
    )
