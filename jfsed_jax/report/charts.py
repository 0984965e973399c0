"""Curves in one frame, drawn by matplotlib.

Series are told apart three times: by colour, by dashes, and by markers where points are few.

Axis letters: ``N`` points of a curve.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from jfsed_jax.report.formatting import significant, tick_labels, ticks
from jfsed_jax.report.vector import Drawing, Shape, printable, rc_context

WIDTH, HEIGHT = 360.0, 216.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 10.0, 26.0, 34.0
COLOURS = 6  # in the style sheet, `c0` on; as many patterns of dashes, `d0` on
MARKERS = "os^DvP"
FEW = 25  # points, up to which each has a marker
_LARGEST = 1e300  # beyond, differences are not finite


class Series(NamedTuple):
    """A curve: its name, <float>[N] positions and <float>[N] values."""

    label: str
    x: np.ndarray
    y: np.ndarray


class Mark(NamedTuple):
    """A vertical line at `x`, or with `y` a dot; `kind` is its class in the style sheet."""

    kind: str
    label: str
    x: float
    y: float | None = None


class Key(NamedTuple):
    """An entry of a legend: a text beside `shapes`, or beside a swatch of class `kind`."""

    text: str
    kind: str = ""
    shapes: tuple[Shape, ...] = ()


class Chart(NamedTuple):
    """A drawn chart.

    Attributes:
      title: of the figure.
      described: what is drawn, in words.
      shapes: of the picture, `WIDTH` by `HEIGHT`.
      keys: of its legend.
      note: lines under it.
    """

    title: str
    described: str
    shapes: tuple[Shape, ...]
    keys: tuple[Key, ...]
    note: tuple[str, ...]


def thin(series: Series, most: int = 240) -> Series:
    """The curve with at most `most` points: means of equal runs, so that long logs stay small."""
    if len(series.x) <= most:
        return series
    runs = np.array_split(np.arange(len(series.x)), most)
    x = np.array([series.x[run].mean() for run in runs])
    y = np.array([series.y[run].mean() for run in runs])
    return Series(series.label, x, y)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
    keyed: Sequence[Mark] = (),
    span: tuple[float, float] | None = None,
    note: Sequence[str] = (),
    step: bool = False,
) -> Chart:
    """Curves in one frame, with a legend where there are several.

    Args:
      title: of the figure.
      series: the curves; values that are not finite break nothing, they are left out.
      x_label, y_label: what the axes count, with the unit.
      x_range, y_range: the frame; what the curves need where it is None (y then starts at 0).
      marks: lines and dots over the curves.
      keyed: marks that the legend names.
      span: a shaded stretch of the x axis.
      note: lines under the chart.
      step: hold each value until the next, as a cumulative distribution does.
    """
    finite = [_finite(s) for s in series]
    (x_low, x_high), (y_low, y_high) = frame = _frame(finite, x_range, y_range)
    with rc_context():
        drawing = Drawing(WIDTH, HEIGHT)
        axes = _axes(drawing, frame, x_label, y_label)
        if span is not None:
            left, right = np.clip(span, x_low, x_high)
            axes.axvspan(left, right, gid=drawing.role("span"), clip_on=False, zorder=0.5)
        for i, curve in enumerate(finite):
            axes.plot(
                np.clip(curve.x, x_low, x_high),
                np.clip(curve.y, y_low, y_high),
                gid=drawing.role(*_classes(i)),
                marker=_marker(i) if _dotted(curve, step) else None,
                markersize=5.5,
                drawstyle="steps-post" if step else "default",
                clip_on=False,
                zorder=2.0,
            )
        for mark in [*marks, *keyed]:
            gid = drawing.role(f"mark {mark.kind}", f"mark {mark.kind}", mark.label)
            x = float(np.clip(mark.x, x_low, x_high))
            if mark.y is None:
                axes.axvline(x, gid=gid, clip_on=False, zorder=3.0)
            else:
                y = float(np.clip(mark.y, y_low, y_high))
                axes.plot([x], [y], "o", gid=gid, markersize=8, clip_on=False, zorder=3.0)
        shapes = drawing.shapes()
    keys = [
        Key(s.label, shapes=key_shapes(*_classes(i), _marker(i) if _dotted(s, step) else None))
        for i, s in enumerate(finite)
    ]
    last = "; ".join(f"{s.label} ends at {significant(s.y[-1])}" for s in finite if len(s.y))
    marked = "; ".join(
        f"{m.label}, at {significant(float(m.x))}" for m in [*marks, *keyed] if np.isfinite(m.x)
    )
    return Chart(
        title=title,
        described=". ".join(filter(None, (title, last, marked))) + ".",
        shapes=shapes,
        keys=(*(keys if len(keys) > 1 else ()), *map(mark_key, keyed)),
        note=tuple(note),
    )


def curve_key(text: str, index: int = 0) -> Key:
    """The legend entry of the curve at that place, drawn without markers."""
    return Key(text, shapes=key_shapes(*_classes(index), None))


def mark_key(mark: Mark) -> Key:
    """The legend entry of a mark: its line, laid down, or its dot."""
    kind = f"mark {mark.kind}"
    return Key(mark.label, shapes=key_shapes(kind if mark.y is None else "", kind, None if
               mark.y is None else "o", 8.0))  # fmt: skip


KEY_WIDTH, KEY_HEIGHT = 30.0, 12.0


@cache
def key_shapes(
    line: str, dot: str, marker: str | None, markersize: float = 5.5
) -> tuple[Shape, ...]:
    """The picture of a legend entry, drawn as the chart draws it."""
    with rc_context():
        drawing = Drawing(KEY_WIDTH, KEY_HEIGHT)
        axes = drawing.figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, KEY_WIDTH), ylim=(0, KEY_HEIGHT))
        axes.axis("off")
        middle = KEY_HEIGHT / 2
        if line:
            ends = [1, KEY_WIDTH - 1]
            axes.plot(ends, [middle, middle], gid=drawing.role(line), clip_on=False)
        if marker:
            axes.plot(
                [KEY_WIDTH / 2], [middle], marker, gid=drawing.role("", dot), clip_on=False,
                markersize=markersize,
            )  # fmt: skip
        return drawing.shapes()


def _classes(index: int) -> tuple[str, str]:
    """Of the line and of the markers; the seventh series has the first colour, other dashes."""
    colour, dashes = index % COLOURS, (index + index // COLOURS) % COLOURS
    return f"curve c{colour} d{dashes}", f"dot c{colour}"


def _marker(index: int) -> str:
    return MARKERS[(index + index // COLOURS) % COLOURS]


def _dotted(series: Series, step: bool) -> bool:
    """Whether points are marked; the corners of a distribution are none."""
    return len(series.x) <= FEW and not step


def _finite(series: Series) -> Series:
    x, y = (np.asarray(values, np.float64) for values in series[1:])
    keep = np.isfinite(x) & np.isfinite(y)
    return Series(series.label, *(np.clip(v[keep], -_LARGEST, _LARGEST) for v in (x, y)))


def _frame(
    series: Sequence[Series],
    x_range: tuple[float, float] | None,
    y_range: tuple[float, float] | None,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of both axes; neither is empty."""
    xs = np.concatenate([[], *(s.x for s in series)])
    ys = np.concatenate([[], *(s.y for s in series)])
    if not xs.size:
        xs, ys = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    x_low, x_high = x_range or (float(xs.min()), float(xs.max()))
    y_low, y_high = y_range or (min(0.0, float(ys.min())), float(ys.max()))
    x_high = x_high if x_high > x_low else x_low + 1.0
    if y_range is None:
        y_high = y_low + (1.06 * (y_high - y_low) or 1.0)
    elif y_high <= y_low:
        y_high = y_low + 1.0
    return (x_low, x_high), (y_low, y_high)


def _axes(
    drawing: Drawing,
    frame: tuple[tuple[float, float], tuple[float, float]],
    x_label: str,
    y_label: str,
):
    """Matplotlib's axes with our ticks; the y axis has its name above it, to be read level."""
    axes = drawing.figure.add_axes(
        (
            LEFT / WIDTH,
            BOTTOM / HEIGHT,
            (WIDTH - LEFT - RIGHT) / WIDTH,
            (HEIGHT - TOP - BOTTOM) / HEIGHT,
        )
    )
    axes.set(xlim=frame[0], ylim=frame[1])
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.spines["bottom"].set(gid=drawing.role("axis-line"), zorder=1.0)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", pad=7)
    axes.tick_params(axis="y", pad=6)
    x_ticks, y_ticks = ticks(*frame[0], 5), ticks(*frame[1], 4)
    (x_names, x_factor), (y_names, y_factor) = tick_labels(x_ticks), tick_labels(y_ticks)
    axes.set_xticks(x_ticks, labels=x_names)
    axes.set_yticks(y_ticks, labels=y_names)
    # An axis may add or hold back ticks until it is drawn; these are all there are.
    for name, label in (
        *(("x-tick", label) for label in axes.get_xticklabels()),
        *(("y-tick", label) for label in axes.get_yticklabels()),
    ):
        label.set_gid(drawing.role(name))
    for tick in y_ticks:
        axes.axhline(tick, gid=drawing.role("grid-line"), clip_on=False, zorder=1.0)
    for text, x, y, side, class_ in (
        (f"{x_label} {x_factor}", WIDTH - RIGHT, 4.0, "right", "axis-name"),
        (f"{y_label} {y_factor}", 0.0, HEIGHT - 11.0, "left", "axis-name level"),
    ):
        drawing.figure.text(
            x / WIDTH, y / HEIGHT, printable(text), ha=side, va="baseline",
            gid=drawing.role(class_),
        )  # fmt: skip
    return axes
