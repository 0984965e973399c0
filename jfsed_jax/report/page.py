"""Self-contained HTML pages: elements, tables, charts and clip pictures as plain strings.

Text becomes HTML only in `element`, which escapes it, so a label or file name cannot become
markup. Charts are inline SVG that take their colours from the page's style sheet (light and
dark); spectrograms are PNGs inside the page. Nothing is loaded from elsewhere and no script runs.

Axis letters: ``T`` frames, ``F`` mel bands, ``R`` rows and ``K`` columns of a matrix.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib.image
import numpy as np

from jfsed_jax.report.formatting import label_text, number, significant, tick_labels, ticks


class Html(str):
    """Text that is HTML already; any other text is escaped when it enters an element."""

    __slots__ = ()


_VOID = frozenset({"img", "meta", "path", "line", "circle", "rect", "br", "wbr"})


def join(children: Iterable[object]) -> Html:
    """Children in order: `Html` as it is, None left out, everything else escaped."""
    return Html(
        "".join(
            child if isinstance(child, Html) else html.escape(str(child))
            for child in children
            if child is not None
        )
    )


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """One element; ``class_`` and ``font_size`` become ``class`` and ``font-size``, None goes."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Html(f"<{name}{shown}/>")
    return Html(f"<{name}{shown}>{join(children)}</{name}>")


def page(title: str, *body: object, description: str = "") -> str:
    """A whole document with the style sheet inline."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="description", content=description) if description else None,
        element("title", title),
        Html(f"<style>{_STYLE}</style>"),
    )
    document = element("html", head, element("body", element("main", *body)), lang="en")
    return f"<!doctype html>\n{document}\n"


def section(identifier: str, heading: str, *body: object, lede: object = None) -> Html:
    """A titled part of the page; `identifier` is what the navigation links to."""
    intro = element("p", lede, class_="lede") if lede is not None else None
    return element("section", element("h2", heading), intro, *body, id=identifier)


def navigation(links: Sequence[tuple[str, str]]) -> Html:
    """Links to sections of the same page: (identifier, text)."""
    items = [element("a", text, href=f"#{identifier}") for identifier, text in links]
    return element("nav", *items, aria_label="Sections")


def missing(what: str, command: str) -> Html:
    """The line that stands where a part would be, with the command that makes it."""
    return element("p", f"{what} ", element("code", command), class_="missing")


def facts(rows: Iterable[tuple[object, object]]) -> Html:
    """A definition list of short facts; rows without a value are left out."""
    items = [
        element("div", element("dt", name), element("dd", value))
        for name, value in rows
        if value not in (None, "")
    ]
    return element("dl", *items, class_="facts")


def details(summary: str, *body: object) -> Html:
    """A part that is folded away until it is asked for."""
    return element("details", element("summary", summary), *body)


def grid(figures: Iterable[object]) -> Html:
    """Figures side by side where the screen is wide, below one another where it is not."""
    return element("div", *figures, class_="grid")


def folded_grid(figures: Sequence[object], *, shown: int, noun: str) -> Html:
    """A grid of the first `shown` figures, the others folded away under their number."""
    rest = figures[shown:]
    return join(
        [
            grid(figures[:shown]),
            details(f"{len(rest)} more {noun}", grid(rest)) if rest else None,
        ]
    )


# Tables ------------------------------------------------------------------------------------------


class Bar(NamedTuple):
    """A table cell that shows a number and how far it fills its column."""

    value: float | None
    largest: float = 100.0
    digits: int = 1


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    caption: str,
    footer: Iterable[Sequence[object]] = (),
    class_: str = "",
) -> Html:
    """A table whose first column names the row and whose others are numbers or short text."""

    def cells(row: Sequence[object]) -> Html:
        first, *others = row
        shown = [element("th", first, scope="row")]
        for cell in others:
            if isinstance(cell, Bar):
                filled = max(0.0, (cell.value or 0.0) / (cell.largest or 1.0))
                style = f"--fill:{min(filled, 1.0):.3f}"
                shown.append(
                    element("td", number(cell.value, cell.digits), class_="bar", style=style)
                )
            else:
                shown.append(element("td", cell))
        return element("tr", *shown)

    head = element("tr", *(element("th", column, scope="col") for column in columns))
    last = [cells(row) for row in footer]
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", head),
            element("tbody", *(cells(row) for row in rows)),
            element("tfoot", *last) if last else None,
            class_=class_ or None,
        ),
        class_="scroll",
    )


def matrix(
    rows: Sequence[str],
    columns: Sequence[str],
    shares: np.ndarray,
    *,
    caption: str,
    counts: Sequence[int],
    note: str | None = None,
) -> Html:
    """A heat map as a table.

    Args:
      rows, columns: R and K names.
      shares: <float>[R, K] from 0 to 1; NaN rows are empty.
      caption: what it shows.
      counts: R numbers of clips behind the rows.
      note: a line under the table.
    """
    dense = len(columns) > 16
    corner = element("td", class_="corner")
    head = element(
        "tr",
        corner,
        *(element("th", element("span", name), scope="col") for name in columns),
        element("th", element("span", "clips"), scope="col"),
    )
    body = []
    for name, row, count in zip(rows, shares, counts, strict=True):
        cells = [element("th", name, scope="row")]
        for column, share in zip(columns, row, strict=True):
            share = 0.0 if not np.isfinite(share) else float(share)
            percent = f"{100 * share:.0f}"
            cells.append(
                element(
                    "td",
                    None if dense or percent == "0" else percent,
                    class_="hot" if share > 0.68 else None,
                    # Less than linear, so that rare confusions can be seen.
                    style=f"--v:{share**0.75:.3f}" if share >= 0.0005 else None,
                    title=f"{name} → {column}: {100 * share:.1f} %" if share > 0 else None,
                )
            )
        cells.append(element("td", count, class_="count"))
        body.append(element("tr", *cells))
    return element(
        "figure",
        element("figcaption", caption),
        element(
            "div",
            element(
                "table",
                element("thead", head),
                element("tbody", *body),
                class_="matrix dense" if dense else "matrix",
            ),
            class_="scroll",
        ),
        element("p", note, class_="note") if note else None,
        class_="wide",
    )


# Charts ------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 360.0, 200.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 10.0, 10.0, 34.0


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


def thin(series: Series, most: int = 240) -> Series:
    """The curve with at most `most` points: means of equal runs, so that long logs stay small."""
    if len(series.x) <= most:
        return series
    runs = np.array_split(np.arange(len(series.x)), most)
    x = np.array([series.x[run].mean() for run in runs])
    y = np.array([series.y[run].mean() for run in runs])
    return Series(series.label, x, y)


def swatches(entries: Iterable[tuple[str, str]]) -> Html:
    """A legend: (class of the swatch, text)."""
    return element(
        "ul",
        *(element("li", element("i", class_=f"swatch {kind}"), text) for kind, text in entries),
        class_="legend",
    )


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
    keyed: Sequence[Mark] = (),
    span: tuple[float, float] | None = None,
    note: object = None,
    step: bool = False,
) -> Html:
    """Curves in one frame, with a legend where there are several.

    Args:
      title: of the figure.
      series: the curves; values that are not finite break nothing, they are left out.
      x_label: what the x axis counts.
      x_range, y_range: the frame; what the curves need where it is None (y then starts at 0).
      marks: lines and dots over the curves.
      keyed: marks that the legend names.
      span: a shaded stretch of the x axis.
      note: a line under the chart.
      step: hold each value until the next, as a cumulative distribution does.
    """
    finite = [
        Series(s.label, s.x[keep], s.y[keep])
        for s in series
        for keep in [np.isfinite(np.asarray(s.y, np.float64))]
    ]
    xs = np.concatenate([s.x for s in finite]) if finite else np.empty(0)
    ys = np.concatenate([s.y for s in finite]) if finite else np.empty(0)
    if not xs.size:
        xs, ys = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    x_low, x_high = x_range or (float(xs.min()), float(xs.max()))
    y_low, y_high = y_range or (min(0.0, float(ys.min())), float(ys.max()))
    x_high = x_high if x_high > x_low else x_low + 1.0
    if y_range is None:
        y_high = y_low + (1.06 * (y_high - y_low) or 1.0)
    elif y_high <= y_low:
        y_high = y_low + 1.0

    def place(x, y):
        across = _LEFT + (np.asarray(x, np.float64) - x_low) / (x_high - x_low) * (
            _WIDTH - _LEFT - _RIGHT
        )
        down = (
            _HEIGHT
            - _BOTTOM
            - (np.asarray(y, np.float64) - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)
        )
        return across, np.clip(down, 0.0, _HEIGHT - _BOTTOM)

    floor = _HEIGHT - _BOTTOM
    drawn: list[Html] = []
    if span is not None:
        (left, right), _ = place(np.clip(span, x_low, x_high), [0, 0])
        drawn.append(
            element(
                "rect", x=f"{left:.1f}", y=_TOP, width=f"{right - left:.1f}", height=floor - _TOP,
                class_="span",
            )
        )  # fmt: skip
    y_ticks, x_ticks = ticks(y_low, y_high, 4), ticks(x_low, x_high, 5)
    y_names, y_factor = tick_labels(y_ticks)
    x_names, x_factor = tick_labels(x_ticks)
    for tick, name in zip(y_ticks, y_names, strict=True):
        _, down = place(0, tick)
        drawn.append(
            element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{down:.1f}", y2=f"{down:.1f}",
                    class_="grid-line")
        )  # fmt: skip
        drawn.append(element("text", name, x=_LEFT - 6, y=f"{down + 4:.1f}", class_="y-tick"))
    for tick, name in zip(x_ticks, x_names, strict=True):
        across, _ = place(tick, 0)
        drawn.append(element("text", name, x=f"{across:.1f}", y=floor + 15, class_="x-tick"))
    drawn.append(
        element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=floor, y2=floor, class_="axis-line")
    )
    drawn.append(
        element(
            "text",
            f"{x_label} {x_factor}".strip(),
            x=_WIDTH - _RIGHT,
            y=_HEIGHT - 4,
            class_="axis-name",
        )
    )
    for i, curve in enumerate(finite):
        across, down = place(curve.x, curve.y)
        points = [f"{a:.1f} {d:.1f}" for a, d in zip(across, down, strict=True)]
        if not points:
            continue
        if step:
            path = f"M{points[0]}" + "".join(
                f"H{a:.1f}V{d:.1f}" for a, d in zip(across[1:], down[1:], strict=True)
            )
        else:
            path = "M" + "L".join(points)
        if len(points) == 1:
            drawn.append(
                element("circle", cx=f"{across[0]:.1f}", cy=f"{down[0]:.1f}", r=3,
                        class_=f"dot c{i % 6}")
            )  # fmt: skip
        drawn.append(element("path", d=path, class_=f"curve c{i % 6}"))
    for mark in [*marks, *keyed]:
        across, down = place(np.clip(mark.x, x_low, x_high), 0 if mark.y is None else mark.y)
        tip = element("title", mark.label)
        if mark.y is None:
            drawn.append(
                element("line", tip, x1=f"{across:.1f}", x2=f"{across:.1f}", y1=_TOP, y2=floor,
                        class_=f"mark {mark.kind}")
            )  # fmt: skip
        else:
            drawn.append(
                element("circle", tip, cx=f"{across:.1f}", cy=f"{down:.1f}", r=4,
                        class_=f"mark {mark.kind}")
            )  # fmt: skip
    last = "; ".join(f"{s.label} ends at {significant(s.y[-1])}" for s in finite if len(s.y))
    legend = [(f"c{i % 6}", s.label) for i, s in enumerate(finite)]
    legend = [*(legend if len(legend) > 1 else []), *((m.kind, m.label) for m in keyed)]
    return element(
        "figure",
        element("figcaption", title, element("span", y_factor) if y_factor else None),
        swatches(legend) if legend else None,
        element(
            "svg",
            *drawn,
            viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
            role="img",
            aria_label=f"{title}. {last}.",
        ),
        element("p", note, class_="note") if note is not None else None,
    )


# Clips -------------------------------------------------------------------------------------------


def png_source(image: np.ndarray, colours: str = "magma") -> str:
    """A picture as a data URI; `image` is <float>[rows, columns], its first row at the bottom."""
    image = np.nan_to_num(np.asarray(image, np.float32), posinf=0.0, neginf=0.0)
    low, high = np.percentile(image, [2, 99.8])
    scaled = np.clip((image - low) / max(float(high - low), 1e-6), 0.0, 1.0)
    buffer = io.BytesIO()
    # 48 shades: the eye sees no steps, and the file is less than half the size.
    matplotlib.image.imsave(
        buffer, np.round(scaled * 47) / 47, cmap=colours, vmin=0.0, vmax=1.0, origin="lower",
        format="png", pil_kwargs={"optimize": True},
    )  # fmt: skip
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


class Lane(NamedTuple):
    """What is known of one class in one clip; times in seconds, posterior <float>[T] or None."""

    label: str
    reference: Sequence[tuple[float, float]] = ()
    predicted: Sequence[tuple[float, float]] = ()
    posterior: np.ndarray | None = None


def _spans(spans: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{onset:.2f}–{offset:.2f} s" for onset, offset in spans) or "none"


def _track(lane: Lane, seconds: float) -> Html:
    parts: list[Html] = []
    if lane.posterior is not None:
        values = np.clip(np.nan_to_num(np.asarray(lane.posterior, np.float64)), 0.0, 1.0)
        frames = len(values)
        # A run of equal (rounded) values is one step of the outline.
        levels = np.round(100 * (1 - values)).astype(int)
        changes = np.flatnonzero(np.diff(levels)) + 1
        path = f"M0 100V{levels[0]}" + "".join(f"H{t}V{levels[t]}" for t in changes)
        parts.append(
            element(
                "svg",
                element("path", d=f"{path}H{frames}V100Z"),
                viewBox=f"0 0 {frames} 100",
                preserveAspectRatio="none",
                aria_hidden="true",
            )
        )
    for kind, spans in (("reference", lane.reference), ("predicted", lane.predicted)):
        for onset, offset in spans:
            left = 100 * max(onset, 0.0) / seconds
            width = 100 * (min(offset, seconds) - max(onset, 0.0)) / seconds
            parts.append(
                element(
                    "i",
                    class_=f"event {kind}",
                    style=f"left:{left:.2f}%;width:{max(width, 0.0):.2f}%",
                    title=f"{kind}: {onset:.2f}–{offset:.2f} s",
                )
            )
    described = (
        f"{lane.label}: reference {_spans(lane.reference)}; predicted {_spans(lane.predicted)}"
    )
    return element("div", *parts, class_="track", role="img", aria_label=described)


def clip_figure(
    name: str,
    mel: np.ndarray | None,
    lanes: Sequence[Lane],
    *,
    seconds: float,
    note: object = None,
) -> Html:
    """A clip: its log-mel and below it, on the same time axis, one lane per class.

    Args:
      name: shown above the picture, usually the file name.
      mel: <float>[T, F] log-mel, or None for no picture.
      lanes: one per class; see `Lane`.
      seconds: length of the time axis.
      note: a few words beside the name.
    """
    marks = ticks(0.0, seconds, 10 if seconds > 5 else 5)
    rows = []
    if mel is not None and mel.size:
        picture = element("img", src=png_source(np.asarray(mel).T), alt=f"Log-mel of {name}")
        rows.append(
            element("span", "log-mel", element("small", f" {mel.shape[1]} bands"), class_="lane")
        )
        rows.append(element("div", picture, class_="track mel"))
    for lane in lanes:
        rows.append(element("span", label_text(lane.label), class_="lane", title=lane.label))
        rows.append(_track(lane, seconds))
    axis = [element("span", significant(t), style=f"left:{100 * t / seconds:.2f}%") for t in marks]
    rows.append(element("span", "seconds", class_="lane seconds"))
    rows.append(element("div", *axis, class_="time"))
    spacing = 100 * (marks[1] - marks[0]) / seconds if len(marks) > 1 else 100.0
    return element(
        "figure",
        element("figcaption", name, element("span", note) if note is not None else None),
        element("div", *rows, class_="lanes", style=f"--tick:{spacing:.3f}%"),
        class_="clip",
    )


def clip_legend(*, predicted: bool = True, posterior: bool = True) -> Html:
    """What the bars and the area in `clip_figure` are."""
    entries = [("reference", "reference")]
    if predicted:
        entries.append(("predicted", "predicted"))
    if posterior:
        entries.append(("posterior", "posterior (full height is 1)"))
    return swatches(entries)


_STYLE = """
:root{
color-scheme:light dark;
--paper:#fbfbf9;--card:#fff;--ink:#1a1c20;--soft:#5a606b;--line:#dedfda;--hair:#ecece7;
--blue:#2a5cc4;--orange:#c2540a;--green:#0f7c66;--violet:#7a4cb4;--rose:#b83266;--olive:#77700f;
--heat:42 92 196;--on-heat:#fff;--wash:rgb(42 92 196/.09);--area:rgb(42 92 196/.28);
--bar:rgb(42 92 196/.22);
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Inter,Arial,sans-serif;
--serif:"Iowan Old Style","Palatino Linotype",Palatino,"Book Antiqua",Charter,Georgia,
"Liberation Serif",serif;
--mono:ui-monospace,"SF Mono",SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
@media (prefers-color-scheme:dark){:root{
--paper:#131518;--card:#1a1d21;--ink:#e6e6e3;--soft:#a0a6b0;--line:#343840;--hair:#262a30;
--blue:#7fa9ff;--orange:#ff9f5e;--green:#4fcdb1;--violet:#c19bf2;--rose:#ff85b0;--olive:#cfc65a;
--heat:112 158 255;--on-heat:#0d1220;--wash:rgb(127 169 255/.13);--area:rgb(127 169 255/.5);
--bar:rgb(127 169 255/.34)}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.55 var(--sans);
font-feature-settings:"kern","liga";text-rendering:optimizeLegibility}
main{max-width:74rem;margin:0 auto;padding:clamp(1.5rem,4vw,3.5rem) clamp(1rem,4vw,3rem) 4rem}
h1,h2,h3{font-family:var(--serif);font-weight:600;line-height:1.15;text-wrap:balance;margin:0}
h1{font-size:clamp(2rem,5.2vw,3.25rem);letter-spacing:-.015em;overflow-wrap:anywhere}
h2{font-size:clamp(1.45rem,3vw,1.85rem);letter-spacing:-.01em}
h3{font-size:1.15rem;margin-top:2rem}
p{margin:.6rem 0;max-width:68ch;text-wrap:pretty}
a{color:var(--blue);text-underline-offset:.18em;text-decoration-thickness:.06em}
code{font:.9em/1.4 var(--mono);background:var(--hair);border-radius:.25em;padding:.1em .35em;
overflow-wrap:anywhere}
.kicker{margin:0 0 .5rem;color:var(--soft);font-size:.8rem;letter-spacing:.09em;
text-transform:uppercase}
.lede{color:var(--soft);margin:.5rem 0 0}
.lede+.legend{margin-top:.9rem}
td small{color:var(--soft);white-space:nowrap;margin-left:.5em}
header .lede{font-size:1.1rem;color:var(--ink);margin-top:.9rem}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1.4rem;margin:1.6rem 0 0;padding:.7rem 0;
border-block:1px solid var(--line);font-size:.95rem}
nav a{text-decoration:none;padding:.15rem 0}
nav a:hover{text-decoration:underline}
section{margin-top:clamp(2.5rem,5vw,3.75rem);scroll-margin-top:1rem}
.missing{border-left:3px solid var(--orange);padding:.45rem 0 .45rem .9rem;color:var(--soft)}
.missing code{color:var(--ink)}
.scores{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,8.2rem),1fr));
gap:0 clamp(1rem,3vw,2.5rem);margin:.3rem 0 0}
.scores>div{border-top:1px solid var(--line);padding:.8rem 0 1rem}
.scores b{display:block;font:600 clamp(2rem,5vw,2.9rem)/1.05 var(--serif);
font-variant-numeric:lining-nums tabular-nums;letter-spacing:-.02em}
.scores span{display:block;font-weight:600;font-size:.92rem;margin-bottom:.25rem}
.scores small{display:block;color:var(--soft);font-size:.82rem;line-height:1.4;margin-top:.3rem}
.split{margin:2rem 0 .2rem;font:600 1.05rem/1.3 var(--sans)}
.split small{font-weight:400;color:var(--soft);font-size:.88rem;margin-left:.5em}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));
gap:0 2.5rem;margin:1.4rem 0 0;font-size:.93rem}
.facts div{display:flex;gap:.8rem;padding:.35rem 0;border-bottom:1px solid var(--hair)}
.facts dt{color:var(--soft);flex:0 0 7.2rem}
.facts dd{margin:0;min-width:0;overflow-wrap:anywhere}
details{margin:1.2rem 0}
summary{cursor:pointer;color:var(--blue);font-size:.95rem;padding:.25rem 0;width:fit-content}
summary:hover{text-decoration:underline;text-underline-offset:.18em}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19.5rem),1fr));
gap:1.1rem;margin-top:1.2rem}
figure{display:flex;flex-direction:column;margin:0;min-width:0;background:var(--card);
border:1px solid var(--line);border-radius:.6rem;
padding:.85rem .9rem .75rem}
figure.wide,figure.clip{margin-top:1.2rem}
.grid figure.wide{margin-top:0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,31rem),1fr));gap:1.1rem;
margin-top:1.2rem}
.pair figure.wide{margin-top:0}
figcaption{font-weight:600;font-size:.95rem;line-height:1.35;margin-bottom:.45rem;
overflow-wrap:anywhere}
figcaption span{color:var(--soft);font-weight:400;font-size:.86rem;margin-left:.7em}
figure>svg{display:block;width:100%;height:auto;overflow:visible;margin-top:auto}
figure text{font-family:var(--sans);font-size:11px;fill:var(--soft);
font-variant-numeric:tabular-nums}
.y-tick,.axis-name{text-anchor:end}.x-tick{text-anchor:middle}
.grid-line{stroke:var(--hair)}.axis-line{stroke:var(--line)}
.curve{fill:none;stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}
.c0{stroke:var(--blue);--c:var(--blue)}.c1{stroke:var(--orange);--c:var(--orange)}
.c2{stroke:var(--green);--c:var(--green)}.c3{stroke:var(--violet);--c:var(--violet)}
.c4{stroke:var(--rose);--c:var(--rose)}.c5{stroke:var(--olive);--c:var(--olive)}
.dot{fill:var(--c);stroke:none}
.span{fill:var(--wash)}
.mark{fill:none;stroke-width:1.75}
.mark.mean{stroke:var(--green);stroke-dasharray:5 3}
.mark.esp{stroke:var(--ink)}
.mark.knee{fill:var(--orange);stroke:var(--card);stroke-width:1.5}
.mark.best,.mark.stage{stroke:var(--soft);stroke-dasharray:2 3;stroke-width:1.25}
.mark.stage{stroke-dasharray:7 4}
.note{font-size:.82rem;line-height:1.45;color:var(--soft);margin:.45rem 0 0;
font-variant-numeric:tabular-nums}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.15rem 1.1rem;margin:.1rem 0 .5rem;
padding:0;
font-size:.84rem;color:var(--soft)}
.legend li{display:flex;align-items:center;gap:.45em}
.swatch{flex:none;width:1.1em;height:.2em;border-radius:1px;background:var(--c)}
.swatch.mean{background:repeating-linear-gradient(90deg,var(--green) 0 5px,transparent 5px 8px)}
.swatch.best{background:repeating-linear-gradient(90deg,var(--soft) 0 2px,transparent 2px 5px)}
.swatch.stage{background:repeating-linear-gradient(90deg,var(--soft) 0 6px,transparent 6px 9px)}
.swatch.esp{background:var(--ink)}
.swatch.knee{width:.6em;height:.6em;border-radius:50%;background:var(--orange)}
.swatch.window{height:.8em;background:var(--wash);outline:1px solid var(--line)}
.swatch.reference,.swatch.predicted,.swatch.posterior{height:.55em;border-radius:2px}
.swatch.reference,.event.reference{background:var(--ink)}
.swatch.predicted,.event.predicted{background:var(--orange)}
.swatch.posterior{background:var(--area)}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-variant-numeric:lining-nums tabular-nums;font-size:.93rem;
line-height:1.35}
div.scroll>table:not(.matrix){width:100%;margin-top:1.2rem}
caption{text-align:left;color:var(--soft);font-size:.86rem;padding-bottom:.5rem}
th,td{padding:.42rem .6rem;text-align:right;border-bottom:1px solid var(--hair);
vertical-align:middle}
th[scope=row]{text-align:left;font-weight:500;padding-left:0;overflow-wrap:break-word;
hyphens:auto;min-width:6.2rem}
thead th{color:var(--soft);font-weight:500;font-size:.84rem;border-bottom-color:var(--line);
vertical-align:bottom}
thead th:first-child{text-align:left;padding-left:0}
tfoot th,tfoot td{font-weight:650;border-bottom:0}
tfoot tr:first-child>*{border-top:1px solid var(--line)}
td.bar{background:linear-gradient(var(--bar),var(--bar)) no-repeat
.7rem 50%/calc((100% - 4.6rem)*var(--fill)) 1.1rem}
.by-class{table-layout:fixed}
.by-class th[scope=row]{min-width:0}
.by-class th:first-child{width:26%}.with-counts thead th:nth-child(2){width:9%}
.text td{text-align:left;overflow-wrap:anywhere}
.matrix{width:100%;table-layout:fixed;font-size:.8rem}
.matrix th,.matrix td{padding:.15rem 0;height:2.1rem;text-align:center;
border:1px solid var(--card)}
.matrix td{background:rgb(var(--heat)/var(--v,0));box-shadow:inset 0 0 0 1px var(--hair)}
.matrix td.hot{color:var(--on-heat);font-weight:600}
.matrix td.count{background:none;color:var(--soft);box-shadow:none}
.matrix td.corner{width:27%;box-shadow:none}
.matrix th[scope=row]{text-align:right;padding-right:.55rem;line-height:1.15;min-width:0}
.matrix thead th{height:auto;padding:0 0 .35rem;font-size:.78rem;line-height:1.05;border:0;
text-align:center}
.matrix thead span{display:inline-block;writing-mode:vertical-rl;transform:rotate(180deg);
max-height:12rem;text-align:left;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.matrix.dense{width:auto;font-size:.72rem}
.matrix.dense th,.matrix.dense td{height:1.05rem;width:1.05rem;min-width:1.05rem}
.matrix.dense th[scope=row],.matrix.dense td.corner{position:sticky;left:0;background:var(--card);
width:9rem;min-width:9rem;max-width:9rem;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.matrix.dense td.count{width:2.2rem;min-width:2.2rem}
.lanes{display:grid;grid-template-columns:9.5rem minmax(0,1fr);gap:.4rem .8rem;align-items:center}
.lane{font-size:.86rem;line-height:1.2;text-align:right;overflow-wrap:anywhere}
.lane small,.seconds{color:var(--soft)}
.track{position:relative;height:3.1rem;border-radius:3px;background:
linear-gradient(90deg,var(--hair) 1px,transparent 1px) 0 0/var(--tick) 100% var(--paper);
box-shadow:inset 0 0 0 1px var(--hair);overflow:hidden}
.track.mel{height:8.5rem;box-shadow:none}
.mel img{display:block;width:100%;height:100%;object-fit:fill}
.track svg{position:absolute;left:0;bottom:0;width:100%;height:1.25rem}
.track path{fill:var(--area)}
.event{position:absolute;height:.5rem;min-width:2px;border-radius:2px}
.event.reference{top:.35rem}.event.predicted{top:1rem}
.time{position:relative;height:1.2rem;font-size:.78rem;color:var(--soft);
font-variant-numeric:tabular-nums}
.time span{position:absolute;transform:translateX(-50%)}
.time span:first-child{transform:none}.time span:last-child{transform:translateX(-100%)}
.seconds{font-size:.78rem}
footer{margin-top:4rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--soft);
font-size:.86rem}
@media (max-width:40rem){
.lanes{grid-template-columns:minmax(0,1fr);gap:.15rem}
.lane{text-align:left;margin-top:.35rem}
.seconds{display:none}
th,td{padding:.4rem .35rem}
td small{display:block;margin:0}
td.bar{background-position:.3rem 50%;background-size:calc((100% - .3rem)*var(--fill)) 1.3rem}
.with-counts tr>:nth-child(2){display:none}.by-class th:first-child{width:30%}
thead th{font-size:.78rem}
table{font-size:.86rem}
.matrix{font-size:.68rem}
.matrix th[scope=row]{font-size:.7rem;padding-right:.35rem}
figure{padding:.75rem .7rem .65rem}
}
@media print{nav{display:none}figure,tr{break-inside:avoid}body{background:#fff}}
"""
