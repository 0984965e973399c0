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


def render_table_page(
    *,
    heading: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
    links: Sequence[tuple[str, str]] = (),
    confusions: Sequence[Confusion] = (),
) -> str:
    """The page as text.

    Args:
      heading: of the page, such as ``Table 1``.
      caption: what the table shows.
      columns: their names; the first names the row.
      rows: cells, as they are to be read.
      notes: the first stands under the heading, the others under the table.
      links: text and relative path of each run's own page.
      confusions: heat maps, side by side.
    """
    return render_template(
        "table.html",
        title=f"{heading} · sound event detection",
        description=f"{heading}: {caption}",
        heading=heading,
        listing=Listing(caption, columns, rows),
        notes=notes,
        links=[(text, quote(path)) for text, path in links],
        maps=[
            confusion_map(c.classes, c.reference, c.tagged, caption=c.caption) for c in confusions
        ],
    )
