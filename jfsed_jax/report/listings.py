"""Tables of a page, as plain data: the first cell names the row, the others are short."""

from collections.abc import Sequence
from typing import NamedTuple

from jfsed_jax.report.formatting import number


class Bar(NamedTuple):
    """A cell that shows a number and how far it fills its column, and a small text beside it."""

    value: float | None
    largest: float = 100.0
    digits: int = 1
    small: str = ""

    @property
    def text(self) -> str:
        """The number."""
        return number(self.value, self.digits)

    @property
    def fill(self) -> str:
        """From 0 to 1."""
        filled = max(0.0, (self.value or 0.0) / (self.largest or 1.0))
        return f"{min(filled, 1.0):.3f}"


class Noted(NamedTuple):
    """A cell with a small text beside its value."""

    value: object
    small: str


class Code(NamedTuple):
    """A name of a row that is code."""

    text: str


class Link(NamedTuple):
    """A name of a row that leads to a place on the page, ``#`` and its identifier."""

    text: str
    href: str


class Listing(NamedTuple):
    """A table; a cell is a `Bar`, a `Noted`, None for nothing, or text;
    the first cell of a row, which names it, is text, `Code` or a `Link`.

    Attributes:
      caption: what it shows.
      columns: their names.
      rows, footer: cells.
      class_: in the style sheet.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    footer: Sequence[Sequence[object]] = ()
    class_: str = ""
