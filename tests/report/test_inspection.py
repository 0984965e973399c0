"""The page about a data folder: whole, self-contained, and nothing in it is markup but ours."""

import html.parser
import re

import defaults
import numpy as np
import pytest
import soundfile
from html_page import ParsedPage
from test_escaping import ATTACKS, check_links, shape

from jfsed_jax import datasets
from jfsed_jax.cli import main as cli
from jfsed_jax.datasets.examples import example_clips
from jfsed_jax.report import inspection

EVIL = "<script>alert(1)</script>"
STRONG = "filename\tonset\toffset\tevent_label\n"
TINY = defaults.front_end(
    sample_rate=8000,
    n_fft=256,
    win_length=200,
    hop_length=80,
    n_mels=8,
    fmax=4000.0,
    clip_seconds=1.0,
)


def make_data(root, name, label):
    """Three splits with a file and a class of those names, a clip missing, one undecodable."""
    tables = {
        "train/weak.tsv": f"filename\tevent_labels\n{name}\t{label}\nb.wav\tDog,Dog\n"
        "gone<i>.wav\tDog\n",
        "train/synthetic.tsv": f"{STRONG}c.wav\t0.1\t0.5\tDog\nc.wav\t0.2\t0.9\t{label}\n"
        "d.wav\t0.5\t1.5\tDog\n",
        "validation/validation.tsv": f"{STRONG}e.wav\t\t\t\nf.wav\t0.0\t0.3\tDog\n",
    }
    for table, text in tables.items():
        path = root / "metadata" / table
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    audio = {
        f"train/weak/{name}": (noise, 8000),
        "train/weak/b.wav": (noise, 16000),
        "train/synthetic/c.wav": (noise, 8000),
        "train/synthetic/d.wav": (noise * 0, 8000),
        "validation/e.wav": (noise * 0.01, 8000),
    }
    for file, (samples, rate) in audio.items():
        path = root / "audio" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate)
    (root / "audio/validation/f.wav").write_text("<html>")
    return root


@pytest.fixture
def data(tmp_path):
    """Hostile names; one silent clip."""
    name = "<img src=x onerror=alert(1)>.wav"
    return make_data(tmp_path / f"a & <b>{tmp_path.name}", name, EVIL[:8])


class Reader(html.parser.HTMLParser):
    """Elements, their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_page_is_whole_and_escaped(data, tmp_path):
    prepared = datasets.prepare(
        data, TINY, features_dir=tmp_path / "features", workers=1, progress=False
    )
    page = Reader(inspection.write_page(prepared).read_text())
    tags = {tag for tag, _ in page.elements}
    assert "script" not in tags and "iframe" not in tags
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for link in ("src", "href"):
            assert re.match(r"data:image/png;base64,|#", attributes.get(link, "#"))
    assert "url(" not in page.text and "@import" not in page.text
    for heading in ("Problems", "Classes", "How long events are", "Levels and formats"):
        assert heading in page.text
    for text in (data.name, EVIL[:8], "<img src=x onerror=alert(1)>.wav", "gone<i>.wav"):
        assert text in page.text
    assert "not audio but HTML" in page.text and "digital silence" in page.text
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == sum(map(len, prepared.splits.values())) == 4


@pytest.mark.parametrize("attack", ATTACKS)
def test_page_has_the_tags_of_a_plain_one(tmp_path, attack):
    def render(text: str) -> ParsedPage:
        name, folder = text.replace("/", "∕"), tmp_path / text.replace("/", "∕")
        # In a table a leading quote is one around the field.
        root = make_data(folder / name, f"a{name}.wav", f"a{text}".strip())
        prepared = datasets.prepare(
            root, TINY, features_dir=folder / "features", workers=1, progress=False
        )
        return ParsedPage(inspection.write_page(prepared).read_text(encoding="utf-8"))

    page = render(attack)
    assert not page.open
    assert shape(page) == shape(render("word"))
    check_links(page)
    assert attack.strip() in page.words.replace("∕", "/") or "\u2028" in attack


def test_command_names_the_page(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = tmp_path / "pages/page.html"
    arguments = ["inspect", f"--data={data}", f"--output={output}", "--workers=1"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert output.read_text().startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    assert cli.main([*arguments, f"--output={tmp_path / 'file/page.html'}"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_examples_cover_the_classes():
    labels = [("a",), ("a",), ("a", "b"), (), ("c",)]
    assert example_clips(labels, 3) == [2, 4, 0]
