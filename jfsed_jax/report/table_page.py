"""The page of a table of experiments: its numbers, its notes, links to its runs, confusions.

Axis letters: ``N`` clips, ``C`` event classes.
"""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from jfsed_jax.report.heat_maps import confusion_map
from jfsed_jax.report.listings import Listing
from jfsed_jax.report.rendering import render_template


class Confusion(NamedTuple):
    """Tags of one system, drawn as a heat map.

    Attributes:
      classes: C labels.
      reference, tagged: <bool>[N, C] tags of each clip.
      caption: what they are of.
    """

    classes: Sequence[str]
    reference: np.ndarray
    tagged: np.ndarray
    caption: str


class PairedPart(NamedTuple):
    """A second table under the first: differences between its rows.

    Attributes:
      heading, caption: of the section, of its table.
      columns, rows: see `render_table_page`.
      notes: under it.
    """

    heading: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def render_table_page(
    *,
    heading: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    notes: Sequence[str],
    links: Sequence[tuple[str, str]] = (),
    confusions: Sequence[Confusion] = (),
    paired: PairedPart | None = None,
) -> str:
    """The page as text.

    Args:
      heading: of the page, such as ``Table 1``.
      caption: what the table shows.
      columns: their names; the first names the row.
      rows: cells of a `Listing`.
      notes: the first stands under the heading, the others under the table.
      links: text and relative path of each run's own page.
      confusions: heat maps, side by side.
      paired: differences between the rows.
    """
    return render_template(
        "table.html",
        title=f"{heading} · sound event detection",
        description=f"{heading}: {caption}",
        heading=heading,
        listing=Listing(caption, columns, rows),
        notes=notes,
        paired=paired and Listing(paired.caption, paired.columns, paired.rows),
        paired_heading=paired and paired.heading,
        paired_notes=paired.notes if paired else (),
        links=[(text, quote(path)) for text, path in links],
        maps=[
            confusion_map(c.classes, c.reference, c.tagged, caption=c.caption) for c in confusions
        ],
    )
