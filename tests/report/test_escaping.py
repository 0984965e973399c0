"""Whatever stands in a file is text on its page: no tag, attribute, template or formula."""

import json
from pathlib import Path

import numpy as np
import pytest
from html_page import ParsedPage
from test_report import make_workdir

from jfsed_jax.report.rendering import save_page
from jfsed_jax.report.run_page import write_report
from jfsed_jax.report.table_page import Confusion, render_table_page

ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</style></title><script>alert(1)</script>",
    "</text></svg><svg onload=alert(1)>",
    "{{ 7*7 }}{% include 'run.html' %}{# ",
    r"$\frac{1}{$ $\input{x}$",
    "<!-- ]]> --!> <?php &lt;b&gt; &#60;i&#62;",
    "\u202e\u2028 &quot; onload=alert(1) %00",
)


def shape(page: ParsedPage) -> list[tuple[str, list[str]]]:
    """Its tags, each with the names of its attributes."""
    return [(tag, sorted(attributes)) for tag, attributes in page.tags]


def check_links(page: ParsedPage) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "base", "link")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "action", "xlink:href"):
                assert value.startswith(("#", "data:image/png;base64,", "runs/", "javascript%3A"))
            if name == "style":
                assert "url" not in value and len(value) < 60


def run_page(folder: Path, text: str) -> ParsedPage:
    """The page of a run that says `text` wherever a file of it can say something."""
    name = text.replace("/", "∕")
    make_workdir(
        folder,
        classes=(f"{text} one", f"{text} two"),
        splits={name: 4},
        examples=2,
        num_epochs=4,
        odd_name=f"{text}.wav",
    )
    meta = json.loads((folder / "meta.json").read_text())
    meta |= {"system": text, "data": text, "clips": {text: 3}}
    meta["front_end"]["n_mels"] = text
    (folder / "meta.json").write_text(json.dumps(meta))
    config = {text: text, "loss": {"tau": 2.0, text: [text]}}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {
        **{"epoch": 20, "gamma": 2.0, "focal_form": text, "clips": {text: 3}},
        **{"classes": meta["classes"], "probability": [3, 1], "weight": [1, 2]},
    }
    (folder / "adaptive_weights.json").write_text(json.dumps(weights))
    # A slash parts group and term; both have one here, whatever is in the text.
    row = {"kind": "train", "step": 150, f"{name}/{name} 1": 1.0, f"{name}/{name} 2": 2.0}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    path = folder / "eval" / name / "scores.json"
    scores = json.loads(path.read_text())
    scores["info"] |= {"model": text, "postprocess": text}
    scores["event_f1"]["notes"] = [text]
    path.write_text(json.dumps(scores))
    return ParsedPage(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> ParsedPage:
    return run_page(tmp_path_factory.mktemp("plain") / "run word", "word")


@pytest.mark.parametrize("attack", ATTACKS)
def test_run_page_has_the_tags_of_a_plain_one(tmp_path, plain, attack):
    page = run_page(tmp_path / f"run {attack.replace('/', '∕')}", attack)
    assert not page.open
    assert shape(page) == shape(plain)
    check_links(page)
    # As often in the text as the plain word; names of files have another slash, JSON two "\\".
    seen = page.words.replace("∕", "/").replace("\\\\", "\\")
    assert seen.count(" ".join(attack.split())) == plain.words.count("word")
    values = [value for _, attributes in page.tags for value in attributes.values() if value]
    assert f"Log-mel of {attack}.wav" in values


@pytest.mark.parametrize("attack", ATTACKS)
def test_table_page_has_the_tags_of_a_plain_one(attack):
    def render(text: str) -> ParsedPage:
        tags = np.eye(2, dtype=bool)
        return ParsedPage(
            render_table_page(
                heading=text,
                caption=text,
                columns=[text, text],
                rows=[[text, text]],
                notes=[text, text],
                links=[(text, text), (text, f"runs/{text}/report.html")],
                confusions=[Confusion([text, text], tags, tags, text)],
            )
        )

    page = render(attack)
    assert not page.open
    assert shape(page) == shape(render("word"))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert all(":" not in link for link in links) and len(links) == 2
    assert page.words.count(" ".join(attack.split())) >= 12


def test_names_that_are_no_text_are_written(tmp_path):
    path = save_page(tmp_path / "new/page.html", "a\udcffb")
    assert path.read_text(encoding="utf-8") == "a\\udcffb"
