"""The page of a table of experiments: its numbers, its notes, links to its runs, confusions.

Axis letters: ``N`` clips, ``C`` event classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.report import page
from jfsed_jax.report.figures import confusion_figure


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
      links: text and address of each run's own page.
      confusions: heat maps, side by side.
    """
    body = []
    if links:
        items = [
            page.element("li", page.element("a", text, href=address)) for text, address in links
        ]
        body.append(
            page.section(
                "runs",
                "The runs",
                page.element("ul", *items),
                lede="Each report has the curves, the durations with their knees (figure 7) and, "
                "with the adaptive focal loss, the class-wise sums of p and of the weight "
                "(figure 3).",
            )
        )
    if confusions:
        figures = [confusion_figure(c.classes, c.reference, c.tagged, caption=c.caption)
                   for c in confusions]  # fmt: skip
        body.append(
            page.section(
                "tagging",
                "What is taken for what",
                page.element("div", *figures, class_="pair"),
                lede="The paper's figures 5 and 6. Rows are true classes, in percent of their "
                "clips; tags are those of the events that survive. A clip with several classes "
                "counts once per true class, shared over the classes predicted for it; “none”: "
                "no class was predicted.",
            )
        )
    return page.page(
        f"{heading} · sound event detection",
        page.element(
            "header",
            page.element("p", "The paper's experiments", class_="kicker"),
            page.element("h1", heading),
            page.element("p", notes[0], class_="lede") if notes else None,
        ),
        page.table(columns, rows, caption=caption),
        *(page.element("p", note, class_="note") for note in notes[1:]),
        *body,
        description=f"{heading}: {caption}",
    )
