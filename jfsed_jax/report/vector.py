"""Matplotlib's SVG as a list of shapes that a template writes and the style sheet paints.

Matplotlib places everything; colours, widths and dashes are those of the page, light or dark. So
only the geometry of the artists that were given a class is taken from its SVG: no style, no
identifier that a second chart in the page would have too, no reference.
"""

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
# Labels are text, never formulas or TeX; every point of a curve is kept.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "path.simplify": False,
    "path.sketch": None,
    "font.size": 11.0,
}


class Shape(NamedTuple):
    """A path or a text, in pixels from the top left.

    Attributes:
      class_: in the style sheet.
      path: the ``d`` of a path; empty for a text.
      at: where the text is anchored, or where the path's origin lies.
      text: of a text.
      tip: what a pointer over it is told.
    """

    class_: str
    path: str = ""
    at: tuple[str, str] | None = None
    text: str = ""
    tip: str = ""


class _Role(NamedTuple):
    line: str
    marker: str
    tip: str


class Drawing:
    """A matplotlib figure of so many pixels; what is drawn in it with a `role` is shown."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        self._roles: dict[str, _Role] = {}

    def role(self, line: str, marker: str = "", tip: str = "") -> str:
        """The ``gid`` of an artist that is shown: classes of its line (or text) and markers."""
        gid = f"shape-{len(self._roles)}"
        self._roles[gid] = _Role(line, marker, tip)
        return gid

    def shapes(self) -> tuple[Shape, ...]:
        """What is shown, from back to front. To be called within `rc_context`."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        root = ElementTree.fromstring(buffer.getvalue())
        forms = {path.get("id"): path.get("d", "") for path in root.iter(f"{_SVG}path")}
        found: list[Shape] = []
        for group in root.iter(f"{_SVG}g"):
            role = self._roles.get(group.get("id", ""))
            if role is None:
                continue
            for path in group.findall(f"{_SVG}path"):
                found.append(Shape(role.line, shorten(path.get("d", "")), tip=role.tip))
            for use in group.iter(f"{_SVG}use"):
                form = shorten(forms[use.get(_HREF, "").removeprefix("#")], 2)
                found.append(Shape(role.marker, form, _at(use), tip=role.tip))
            for text in group.iter(f"{_SVG}text"):
                found.append(Shape(role.line, at=_at(text), text=text.text or "", tip=role.tip))
        return tuple(found)


@contextmanager
def rc_context() -> Iterator[None]:
    """Matplotlib's settings for a `Drawing` in place of a person's own; they come back."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def printable(text: str) -> str:
    """The text on one line, without characters that no XML may hold."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def _number(value: str, digits: int) -> str:
    text = f"{float(value):.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _at(node: ElementTree.Element) -> tuple[str, str]:
    return _number(node.get("x", "0"), 1), _number(node.get("y", "0"), 1)


def shorten(path: str, digits: int = 1) -> str:
    """The same path with few digits, its level and upright parts as ``H`` and ``V``."""
    tokens = path.split()
    found: list[str] = []
    last = ("", "")
    i = 0
    while i < len(tokens):
        command = tokens[i]
        size = {"M": 2, "L": 2, "Q": 4, "C": 6}.get(command.upper(), 0)
        values = [_number(token, digits) for token in tokens[i + 1 : i + 1 + size]]
        i += 1 + size
        if command == "L" and values[1] == last[1]:
            found.append(f"H{values[0]}")
        elif command == "L" and values[0] == last[0]:
            found.append(f"V{values[1]}")
        else:
            found.append(command + " ".join(values))
        if values:
            last = (values[-2], values[-1])
    return "".join(found)
