"""Pages without a script in Chromium: for the keyboard, the phone, paper and a person's colours."""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from scored_workdir import write_log, write_scored
from test_charts import palette
from test_inspection import TINY, make_data
from test_recording_browser import wait
from test_report import make_workdir
from test_score_page import made_up_scores, make_result

from jfsed_jax import datasets
from jfsed_jax.report import inspection
from jfsed_jax.report.comparison import compare_runs
from jfsed_jax.report.comparison_page import write_comparison
from jfsed_jax.report.rendering import save_page
from jfsed_jax.report.run_page import write_report
from jfsed_jax.report.score_page import render_scores
from jfsed_jax.report.table_page import Confusion, render_table_page

MANY = tuple(f"class number {i}" for i in range(18))  # too many for numbers in a heat map


@pytest.fixture(scope="module")
def pages(browser, tmp_path_factory) -> dict[str, Path]:
    """One of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    make_workdir(folder / "run", splits={"validation": 8}, examples=2, num_epochs=4)
    tags = np.random.default_rng(0).random((30, len(MANY))) < 0.2
    table = folder / "table.html"
    table.write_text(
        render_table_page(
            heading="Table 1",
            caption="F1 in percent",
            columns=["System", *(f"score number {i}" for i in range(8))],
            rows=[[f"{row} of the systems", *["34.5 ± 0.9"] * 8] for row in range(3)],
            notes=["a note"],
            links=[("seed 0", "runs/seed0/report.html")],
            confusions=[Confusion(MANY, tags, tags[::-1], "The tags of one")],
        ),
        encoding="utf-8",
    )
    prepared = datasets.prepare(
        make_data(folder / "data", "a.wav", "Running_water"), TINY,
        features_dir=folder / "features", workers=1, progress=False,
    )  # fmt: skip
    free = made_up_scores()
    return {
        "report": write_report(folder / "run"),
        "table": table,
        "inspection": inspection.write_page(prepared),
        "comparison": compared_page(folder),
        "score": save_page(
            folder / "score.html", render_scores(make_result(free), {"scores": free})
        ),
    }


def compared_page(folder: Path) -> Path:
    """Of five runs, one of them better than the first."""
    clips = {f"{n}.wav": [(1.0, 3.0, MANY[n]), (5.0, 6.0, MANY[0])] for n in range(8)}
    runs = [folder / f"a_long_name_of_a_run_number_{n}" for n in range(5)]
    for n, run in enumerate(runs):
        found = clips if n == 1 else {"0.wav": [(1.0, 3.0 + n, MANY[0])]}
        examples = ["3.wav"]
        write_scored(run, clips, found, classes=MANY, examples=examples, mine={"value": n})
        write_log(run, [{"kind": "train", "step": k, "loss": 1.0 / k} for k in range(1, 9)])
    compared = compare_runs([*map(str, runs)], split="eval", num_resamples=50)
    return write_comparison(folder / "compare.html", compared)


@pytest.mark.parametrize(("width", "scheme"), [(1440, "dark"), (390, "light")])
@pytest.mark.parametrize("kind", ["report", "table", "inspection", "comparison", "score"])
def test_axe_finds_nothing_serious(pages, visit, serious_findings, kind, width, scheme):
    size = {"width": width, "height": 900}
    page = visit(pages[kind], ready=False, viewport=size, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((folded) => folded.open = true)")
    assert not serious_findings(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    right = "[...document.querySelectorAll('caption')].map((e) => e.getBoundingClientRect().right)"
    assert max(page.evaluate(right), default=0) <= width


def test_a_posterior_fills_its_lane(pages, visit):
    page = visit(pages["report"], ready=False)
    lane = page.locator(".track:has(svg)").first
    assert lane.locator("svg").bounding_box() == lane.bounding_box()
    # The line of 0.5, drawn as thin as any, is in the middle.
    line = lane.locator(".threshold").bounding_box()
    middle = lane.bounding_box()["y"] + lane.bounding_box()["height"] / 2
    assert line["y"] + line["height"] / 2 == pytest.approx(middle, abs=1)


def test_a_table_is_scrolled_by_keys_under_the_names_of_its_rows(pages, visit):
    page = visit(pages["table"], ready=False, viewport={"width": 390, "height": 900})
    scroll, name = page.locator(".scroll").first, page.locator("tbody th").first
    page.keyboard.press("Tab")
    assert scroll.evaluate("(element) => element === document.activeElement")
    assert scroll.evaluate("(element) => getComputedStyle(element).outlineStyle") == "solid"
    before = name.bounding_box()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    wait(page, "document.querySelector('.scroll').scrollLeft > 100")
    assert name.bounding_box() == before
    # Nothing shines through: what is seen at the name is the name.
    at = "({ x, y, width, height }) => document.elementFromPoint(x + 5, y + height / 2).scope"
    assert page.evaluate(at, before) == "row"


def fills(pdf: bytes) -> dict[tuple[int, ...], int]:
    """How many areas of the pages are filled with each colour; patterns are ``()``."""
    found: dict[tuple[int, ...], int] = {}
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            lines = zlib.decompress(stream).split(b"\n")
        except zlib.error:
            continue
        colour: tuple[int, ...] = (0, 0, 0)
        for line in lines:
            if line.endswith(b" rg"):
                colour = tuple(round(255 * float(part)) for part in line.split()[-4:-1])
            elif line.endswith(b" scn"):
                colour = ()
            elif line.split()[-1:] in ([b"f"], [b"f*"]):
                found[colour] = found.get(colour, 0) + 1
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_keeps_every_bar_in_the_light_colours(pages, visit, scheme):
    page = visit(pages["report"], ready=False, color_scheme=scheme)
    bars, lanes = "td.bar:not([style='--fill:0.000'])", ".track:not(.mel)"
    names = ".event.reference", ".event.predicted", ".matrix td[style]", bars, lanes
    count = {name: page.locator(name).filter(visible=True).count() for name in names}
    assert all(count.values())
    printed = fills(page.pdf(print_background=False))
    on_paper = {name: printed.get(colour, 0) for name, colour in colours("light").items()}
    # The legend has a bar of each kind too.
    assert on_paper["ink"] > count[".event.reference"]
    assert on_paper["orange"] > count[".event.predicted"]
    assert on_paper["heat"] > count[".matrix td[style]"]
    assert printed[()] >= count[bars] + count[lanes]
    by_night = colours("dark")
    assert not {by_night[name] for name in ("paper", "card", "ink", "orange")} & printed.keys()


def colours(theme: str) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(round(255 * float(value)) for value in colour[:3])
        for name, colour in palette(theme).items()
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_bars_and_heat_stay_in_a_persons_own_colours(pages, visit, scheme):
    page = visit(pages["report"], ready=False, forced_colors="active", color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for name in (".event.reference", ".event.predicted", ".swatch.predicted", ".matrix td[style]"):
        style = "(element) => getComputedStyle(element).backgroundColor"
        assert page.locator(name).first.evaluate(style) not in (ground, "rgba(0, 0, 0, 0)"), name
    style = "(element) => getComputedStyle(element).backgroundImage"
    assert "gradient" in page.locator("td.bar").first.evaluate(style)


def test_a_page_without_a_script_runs_and_asks_for_nothing(pages, visit):
    page = visit(pages["report"], ready=False)
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.hacked = true";
        const image = new Image();
        image.src = "https://example.org/x.png";
        document.body.append(script, image);
    }""")
    assert page.evaluate("window.hacked") is None
    page.wait_for_timeout(100)
    refused = [text for text in page.problems if "Content Security Policy" in text]
    assert len(refused) == 2
    page.problems.clear()
    page.requests.clear()
