"""Charts: what lies where, and that series are told apart, by colour and without."""

import re
from importlib import resources

import matplotlib
import numpy as np
import pytest

from jfsed_jax.report.charts import FEW, MARKERS, Mark, Series, line_chart

# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as it is seen.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def some(count: int, points: int) -> list[Series]:
    x = np.arange(float(points))
    return [Series(f"s{i}", x, x + i) for i in range(count)]


def chart(series, **options):
    return line_chart("t", series, x_label="epoch", y_label="loss, nat", **options)


def test_places_by_hand():
    # The plot is 310 by 156 from (40, 26); y ends 6 % over the largest value.
    line = Series("a", np.array([0.0, 1.0, 2.0, 2.0]), np.array([0.0, 1.0, 1.0, 0.5]))
    shapes = chart([line], marks=[Mark("best", "here", 1.0)], span=(0.0, 0.5)).shapes
    paths = {shape.class_: shape.path for shape in shapes if shape.path}
    high = f"{182 - 156 / 1.06:.1f}"
    assert paths["curve c0 d0"] == f"M40 182L195 {high}H350V{182 - 78 / 1.06:.1f}"
    assert paths["mark best"] == "M195 182V26"
    assert paths["span"] == "M40 182H117.5V26H40z"
    assert paths["axis-line"] == "M40 182H350"
    assert [s.tip for s in shapes if s.class_ == "mark best"] == ["here"]
    texts = {(s.class_, s.text) for s in shapes if s.text}
    assert {("axis-name", "epoch"), ("axis-name level", "loss, nat"), ("y-tick", "0.5")} <= texts


def test_what_a_pointer_is_told_is_described():
    marks = [Mark("best", "selected", 1.5), Mark("knee", "knee: 2 s", 2.0, 0.5)]
    drawn = chart([Series("a", np.arange(3.0), np.arange(3.0))], marks=marks[:1], keyed=marks[1:])
    assert drawn.described == "t. a ends at 2. selected, at 1.5; knee: 2 s, at 2."
    assert chart([]).described == "t."


def test_values_beyond_the_frame_stay_in_it():
    line = Series("a", np.array([0.0, 9.0]), np.array([-5.0, 500.0]))
    shapes = chart([line], x_range=(0.0, 1.0), y_range=(0.0, 1.0), step=True).shapes
    assert [s.path for s in shapes if s.class_.startswith("curve")] == ["M40 182H350V26"]


@pytest.mark.parametrize("y", [[1e308, -1e308], [1e-320, 0.0], [1e300, 1e300], [-2.0, -1.0]])
def test_any_finite_value_is_drawn(y):
    drawn = chart([Series("a", np.arange(2.0), np.array(y))])
    path = next(s.path for s in drawn.shapes if s.class_.startswith("curve"))
    assert all(0 <= float(v) <= 360 for v in re.findall(r"[-\d.]+", path))


@pytest.mark.parametrize(("points", "dots"), [(1, 1), (FEW, FEW), (FEW + 1, 0)])
def test_few_points_have_markers(points, dots):
    drawn = chart(some(1, points))
    assert sum(s.class_ == "dot c0" for s in drawn.shapes) == dots
    assert not [s for s in chart(some(1, points), step=True).shapes if s.class_ == "dot c0"]


@pytest.mark.parametrize("points", [5, 60])
def test_legend_is_drawn_as_the_chart(points):
    drawn = chart(some(9, points), keyed=[Mark("best", "sel", 1.0), Mark("knee", "knee", 1.0, 2.0)])
    assert [key.text for key in drawn.keys] == [*(f"s{i}" for i in range(9)), "sel", "knee"]
    classes = {s.class_ for s in drawn.shapes}
    forms = {(s.class_, s.path) for s in drawn.shapes if s.at is not None}
    for key in drawn.keys:
        for shape in key.shapes:
            assert shape.class_ in classes
            assert shape.at is None or (shape.class_, shape.path) in forms
    # Every entry looks different, with markers or without.
    looks = [tuple((s.class_, s.path) for s in key.shapes) for key in drawn.keys]
    assert len(set(looks)) == len(looks)


def test_series_differ_without_colour():
    # Six series: six patterns of dashes, and of few points six markers.
    few, many = chart(some(6, 5)), chart(some(6, 60))
    for drawn in (few, many):
        lines = [s.class_ for s in drawn.shapes if s.class_.startswith("curve")]
        assert len({name.split()[2] for name in lines}) == 6
    assert len({s.path for s in few.shapes if s.class_.startswith("dot")}) == len(MARKERS) == 6
    dashes = re.findall(r"\.d\d \{ stroke-dasharray: ([^;]+)", style())
    assert len(set(dashes)) == len(dashes) == 5  # the first is solid


def style() -> str:
    return (resources.files("jfsed_jax.report") / "templates/style.css").read_text()


def linear(colour: str) -> np.ndarray:
    """Linear RGB of ``#rrggbb`` or ``#rgb``: <float>[3]."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * d for d in digits)
    value = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Ottosson's OKLab of linear RGB <float>[..., 3]."""
    lms = np.clip(rgb, 0, 1) @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(lms) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_told_apart_by_everyone(theme):
    light, dark = style().split("@media screen and (prefers-color-scheme: dark)")
    text = light if theme == "light" else dark
    first = {name: linear(value) for name, value in re.findall(r"--(c\d|card): (#[0-9a-f]+)", text)}
    colours = np.stack([first[f"c{i}"] for i in range(6)])
    luminance = np.array([0.2126, 0.7152, 0.0722])
    for colour in colours:  # WCAG's 3:1 for graphics
        low, high = sorted([colour @ luminance, first["card"] @ luminance])
        assert (high + 0.05) / (low + 0.05) > 3
    for vision in VISION.values():
        seen = oklab(colours @ vision.T)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        # A just noticeable difference is about 0.02.
        assert apart[np.triu_indices(6, 1)].min() > 0.12


def palette(theme: str) -> dict[str, np.ndarray]:
    """RGBA from 0 to 1 of the style sheet's colours on a screen, by name."""
    light, dark = style().split("@media screen and (prefers-color-scheme: dark)")
    text = (light if theme == "light" else dark).split("}")[0]
    found = {}
    for name, colour in re.findall(r"--(\w+): #([0-9a-f]+)", text):
        digits = colour if len(colour) == 6 else "".join(2 * d for d in colour)
        found[name] = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)] + [1.0])
    for name, *rgb, alpha in re.findall(r"--(\w+): rgb\((\d+) (\d+) (\d+)/([.\d]+)\)", text):
        found[name] = np.array([*(int(value) / 255 for value in rgb), float(alpha)])
    heat, deepest = re.search(r"--heat: ([\d ]+);\s+--deepest: ([.\d]+)", text).groups()
    found["heat"] = np.array([*(int(value) / 255 for value in heat.split()), float(deepest)])
    return found


def contrast(first: np.ndarray, second: np.ndarray) -> float:
    """WCAG's, of two RGB from 0 to 1."""
    values = np.stack([first, second])[:, :3]
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    low, high = np.sort(linear @ np.array([0.2126, 0.7152, 0.0722]) + 0.05)
    return high / low


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_on_everything_it_lies_on(theme):
    colours = palette(theme)
    for name, layers in {
        "ink": ("wash", "bar", "area", "heat"), "soft": ("wash", "bar"),
        "blue": (), "orange": (), "green": (),
    }.items():  # fmt: skip
        for ground in (colours["paper"], colours["card"]):
            assert contrast(colours[name], ground) >= 4.5, name
            for layer in layers:
                alpha = colours[layer][3]
                behind = alpha * colours[layer] + (1 - alpha) * ground
                assert contrast(colours[name], behind) >= 4.5, (name, layer)
    assert contrast(colours["soft"], colours["hair"]) >= 4.5  # code in a footer


@pytest.mark.parametrize("name", ["$x^2$", r"$\frac{", "a_b^c", "<b>&", r"\input{/etc/passwd}"])
def test_names_of_axes_are_literal(name):
    drawn = line_chart("t", some(1, 3), x_label=name, y_label=f"{name}\x00\n\ud800")
    texts = [s.text for s in drawn.shapes if s.class_.startswith("axis-name")]
    assert texts == [name, f"{name}\ufffd \ufffd"]


def test_matplotlib_is_left_as_it_was():
    before = dict(matplotlib.rcParams)
    own = {"font.size": 30.0, "text.usetex": True, "savefig.bbox": "tight", "lines.marker": "x"}
    with matplotlib.rc_context(own):
        odd = chart(some(3, 9))
    assert odd == chart(some(3, 9))
    assert dict(matplotlib.rcParams) == before
