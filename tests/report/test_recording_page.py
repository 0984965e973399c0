"""The page of a recording: what lies in it, that it is text, that its policy lets it run."""

import base64
import hashlib
import io
import json
import zlib

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from html_page import ParsedPage

from jfsed_jax.report.excerpts import Excerpts
from jfsed_jax.report.recording_page import (
    STATIC_EVENTS,
    EmbeddedAudio,
    EmbeddedExcerpts,
    HeardRecording,
    clock,
    mel_pictures,
    pack_mel,
    palette_png,
    pool_maxima,
    render_recording,
    write_recording_page,
)
from jfsed_jax.sed.events import DCASE2019_CLASSES, Event
from jfsed_jax.sed.postprocessing import MedianFilters, detect_events

FRAME_RATE = 60.0
BANDS = 64
HOSTILE = (
    '</script><img src=x onerror="window.hacked=1">',
    "<!--<script>",
    '"><svg onload=window.hacked=1>',
    "' onmouseover='window.hacked=1",
    "]]>{{ 7*7 }}&lt;b&gt;\u2028\udcff",
)


def make_recording(seconds=60.0, classes=DCASE2019_CLASSES, *, bursts=30, seed=0, **changed):
    """Posteriors, noise with a tone in it for each event, and the events of median filters."""
    draw = np.random.default_rng(seed)
    length, name = round(seconds * FRAME_RATE), changed.get("name", "garden.flac")
    frames = draw.uniform(0, 0.2, (length, len(classes))).astype(np.float32)
    mel = draw.normal(-6.0, 1.0, (length, BANDS)).astype(np.float32)
    for _ in range(bursts):
        c, start = draw.integers(len(classes)), draw.integers(length)
        heard = slice(start, start + draw.integers(20, 200))
        frames[heard, c] = draw.uniform(0.55, 1.0)
        mel[heard, 5 * (c % 10) : 5 * (c % 10) + 4] += 5.0
    windows = np.linspace(0.05, 0.5, len(classes))
    events = detect_events(
        None, frames[None], np.round(windows * FRAME_RATE).astype(int), filenames=[name],
        classes=classes, frame_rate=FRAME_RATE,
    )  # fmt: skip
    minute = round(60 * FRAME_RATE)
    values = {
        "name": name,
        "seconds": seconds,
        "classes": classes,
        "posteriors": frames,
        "frame_rate": FRAME_RATE,
        "events": events,
        "confidences": [(0.5 + 0.25 * (i % 2), 0.9) for i in range(len(events))],
        "filters": MedianFilters([0.5] * len(classes), windows),
        "mel": [pack_mel(mel[i : i + minute], FRAME_RATE) for i in range(0, length, minute)],
        "band_hz": np.linspace(100, 20_000, BANDS),
    }
    return HeardRecording(**(values | changed))


def parts(*spans: tuple[float, float]) -> EmbeddedExcerpts:
    """Of a recording, with the number of each as its sound."""
    sounds = [EmbeddedAudio(b"%d" % i, "audio/ogg") for i in range(len(spans))]
    return EmbeddedExcerpts(Excerpts(list(spans), 600.0), sounds)


def embedded(text: str) -> dict:
    """What the script of a page reads."""
    start = text.index(">", text.index('id="data"')) + 1
    return json.loads(text[start : text.index("</script>", start)])


def policy_of(page: ParsedPage) -> dict[str, str]:
    (policy,) = [a["content"] for tag, a in page.tags if "http-equiv" in a and tag == "meta"]
    return dict(part.split(" ", 1) for part in policy.split("; "))


def test_a_value_is_the_maximum_of_its_tenth_of_a_second():
    values = np.array([[0, 9], [1, 8], [2, 7], [3, 6], [4, 5]])
    np.testing.assert_array_equal(pool_maxima(values, 20.0), [[1, 9], [3, 7], [4, 5]])
    # 2.5 frames each: 0 and 1, 2 to 4.
    np.testing.assert_array_equal(pool_maxima(values, 25.0), [[1, 9], [4, 7]])
    np.testing.assert_array_equal(pool_maxima(values, 5.0), values)
    assert len(pool_maxima(values[:0], 60.0)) == 0
    # 119 values of 8.647 frames, which rounding makes a little more.
    assert len(pool_maxima(np.ones((1029, 1)), 22050 / 255)) == 119


@pytest.mark.parametrize("frame_rate", [10.0, 15.0, 43.2, 50.0, 60.0, 86.4])
def test_minutes_are_pooled_as_the_whole(frame_rate):
    length = round(150 * frame_rate) + 1
    values = np.random.default_rng(1).random((length, 2))
    minute = round(60 * frame_rate)
    parts = [pool_maxima(values[i : i + minute], frame_rate) for i in range(0, length, minute)]
    whole = pool_maxima(values, frame_rate)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(whole) == 1501  # the last of one frame
    np.testing.assert_array_equal(pool_maxima(whole, 10.0), whole)


@pytest.mark.parametrize("columns", [7, 8])
def test_a_png_is_what_pillow_reads(columns):
    shades = np.random.default_rng(2).integers(0, 16, (5, columns), np.uint8)
    image = matplotlib.image.imread(io.BytesIO(palette_png(shades)))
    expected = matplotlib.colormaps["magma"](shades / 15, bytes=True)[..., :3]
    np.testing.assert_array_equal(np.round(image[..., :3] * 255), expected)


def bright(picture: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(picture))[..., :3].sum(-1)


def test_a_low_tone_is_at_the_bottom_and_ten_columns_are_a_second():
    mel = np.full((180, 8), -6.0, np.float32)
    mel[60:120, 1] = 0.0
    (picture,) = mel_pictures([pack_mel(mel, FRAME_RATE)])
    image = bright(picture)
    assert image.shape == (8, 30)
    rows, columns = np.nonzero(image > image.min())
    assert set(rows) == {6} and set(columns) == set(range(10, 20))


def test_pictures_do_not_drift_where_a_minute_is_no_whole_number_of_frames():
    # 5178 frames, the whole number nearest to a minute of one every 511 samples at 44.1 kHz.
    mel = [pack_mel(np.zeros((5178, 4)), 44100 / 511)] * 3
    data = embedded(render_recording(make_recording(20.0, mel=mel)))
    assert data["pictureSeconds"] == pytest.approx(5178 * 511 / 44100)


def test_one_contrast_for_all_minutes_whatever_the_level():
    mel = np.random.default_rng(3).normal(-5, 1, (1200, 8)).astype(np.float32)
    mel[600:] += 3.0

    def pictures(level):
        return mel_pictures([pack_mel(part + level, FRAME_RATE) for part in (mel[:600], mel[600:])])

    assert pictures(0.0) == pictures(-3.0)
    quiet, loud = map(bright, pictures(0.0))
    assert quiet.min() < loud.min() and quiet.max() < loud.max()
    # Silence is 2^-52 in some front ends, and a log of 0 in others: as dark as it gets.
    (silent,) = mel_pictures([pack_mel(np.full((60, 8), -np.inf), FRAME_RATE)])
    assert bright(silent).shape == (8, 10)


def test_the_page_holds_posteriors_and_events(tmp_path):
    heard = make_recording(65.0)
    shuffled = np.random.default_rng(4).permutation(len(heard.events))
    heard = make_recording(
        65.0,
        events=[heard.events[i] for i in shuffled],
        confidences=[(float(i) / 100, 0.9) for i in shuffled],
    )
    path = write_recording_page(tmp_path / "new/page.html", heard)
    data = embedded(path.read_text(encoding="utf-8"))
    raw = zlib.decompress(base64.b64decode(data["posteriors"]))
    levels = np.frombuffer(raw, np.uint8).reshape(10, data["count"]).T
    pooled = heard.posteriors.reshape(650, 6, 10).max(1)
    assert data["rate"] == 10.0
    np.testing.assert_allclose(levels / 255, pooled, atol=0.5 / 255 + 1e-7)
    by_time = sorted(range(len(shuffled)), key=lambda k: heard.events[k][1:])
    assert data["onsets"] == [round(heard.events[k].onset, 3) for k in by_time]
    assert data["means"] == [shuffled[k] / 100 for k in by_time]
    labels = [data["classes"][c] for c in data["labels"]]
    assert labels == [heard.events[k].event_label for k in by_time]
    # 0.05 s is half a value: a filter of one is none; 0.2 s is two, and even, 0.5 s five values.
    assert [data["windows"][i] for i in (0, 3, 9)] == [1, 3, 5]
    assert len(data["pictures"]) == 2
    assert (data["pictureSeconds"], data["lastSeconds"]) == (60.0, 5.0)


def test_pooled_posteriors_make_the_same_page():
    heard = make_recording(30.0)
    pooled = pool_maxima(heard.posteriors, FRAME_RATE)
    again = make_recording(30.0, posteriors=pooled, frame_rate=10.0)
    assert render_recording(again) == render_recording(heard)


@pytest.mark.parametrize(
    ("audio", "media"),
    [
        (None, "'none'"),
        ("a.wav", "'self' file:"),
        (EmbeddedAudio(b"x", "audio/ogg"), "data:"),
        (parts((1.0, 2.0)), "data:"),
        (parts(), "'none'"),
    ],
)
def test_the_policy_allows_this_script_this_style_and_nothing_else(audio, media):
    text = render_recording(make_recording(20.0, audio=audio))
    page = ParsedPage(text)
    assert not page.open

    def source(opened, closed):
        start = text.rindex(opened) + len(opened)
        content = text[start : text.index(closed, start)]
        return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

    assert policy_of(page) == {
        "default-src": "'none'",
        "script-src": source("<script>", "</script>"),
        "style-src": source("<style>", "</style>"),
        "img-src": "data:",
        "media-src": media,
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # Above all that it governs; and it would stop a style attribute.
    tags = [tag for tag, _ in page.tags]
    assert tags.index("style") > [i for i, (_, a) in enumerate(page.tags) if "http-equiv" in a][0]
    assert all("style" not in attributes for _, attributes in page.tags)


@pytest.mark.parametrize("attack", HOSTILE)
def test_what_stands_in_a_file_is_text(attack):
    def render(text):
        classes = (f"{text} one", f"{text} two")
        heard = make_recording(20.0, classes, name=f"{text}.wav", facts=[(text, text)], audio=text)
        return render_recording(heard)

    text = render(attack)
    page, plain = ParsedPage(text), ParsedPage(render("word"))
    assert [(t, list(a)) for t, a in page.tags] == [(t, list(a)) for t, a in plain.tags]
    data = embedded(text)
    assert data["name"] == f"{attack}.wav"
    assert data["classes"] == [f"{attack} one", f"{attack} two"]
    assert text.count("<script") == 2 and text.count("<!--") == 0


@pytest.mark.parametrize("attack", HOSTILE)
def test_what_stands_beside_an_excerpt_is_text(attack):
    def page(text):
        heard = make_recording(20.0, (f"{text} one", f"{text} two"), audio=parts((0, 9), (11, 20)))
        return ParsedPage(render_recording(heard))

    found, plain = page(attack), page("word")
    assert not found.open
    assert [(t, list(a)) for t, a in found.tags] == [(t, list(a)) for t, a in plain.tags]
    assert found.words.count("0:00:11.0 – 0:00:20.0") == 1


def test_an_excerpt_is_listed_with_its_classes_and_its_sound():
    """Of 1 to 3 s and 3.5 to 5 s: an event that lies in both, and one between, in neither."""
    events = [("b", 2.9, 3.6), ("a", 1.5, 2.0), ("c", 3.1, 3.4), ("c", 4.9, 6.0)]
    heard = make_recording(
        20.0,
        "abc",
        events=[Event("a.wav", onset, offset, label) for label, onset, offset in events],
        confidences=[(0.5, 0.9)] * 4,
        audio=parts((1.0, 3.0), (3.5, 5.00049)),
    )
    text = render_recording(heard)
    page = ParsedPage(text)
    assert "0:00:01.0 – 0:00:03.0 a, b 0:00:03.5 – 0:00:05.0 b, c Events" in page.words
    sources = [a["src"] for tag, a in page.tags if tag == "audio" and "src" in a]
    assert sources == ["data:audio/ogg;base64,MA==", "data:audio/ogg;base64,MQ=="]
    assert embedded(text)["excerpts"] == [[1.0, 3.0], [3.5, 5.0]]
    # Of the recording as a whole there is no player; and without excerpts no list of them.
    assert all("src" not in a for _, a in page.tags if a.get("id") == "audio")
    assert embedded(render_recording(make_recording(20.0, audio="a.wav")))["excerpts"] is None


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("a b#1?.wav", "a%20b%231%3F.wav"),
        ("../dög/%20.wav", "../d%C3%B6g/%2520.wav"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("//example.org/a.wav", "/example.org/a.wav"),
        ("a\udcff.wav", "a%FF.wav"),
    ],
)
def test_audio_beside_the_page_is_an_address_of_a_file(path, address):
    page = ParsedPage(render_recording(make_recording(20.0, audio=path)))
    assert [a["src"] for tag, a in page.tags if tag == "audio"] == [address]


def test_embedded_audio_is_the_file():
    audio = EmbeddedAudio(bytes(range(256)), "audio/ogg")
    page = ParsedPage(render_recording(make_recording(20.0, audio=audio)))
    (source,) = [a["src"] for tag, a in page.tags if tag == "audio"]
    kind, content = source.split(",")
    assert kind == "data:audio/ogg;base64" and base64.b64decode(content) == audio.content


def test_without_a_script_the_first_events_are_listed_with_their_number():
    heard = make_recording(1200.0, bursts=600)
    page = ParsedPage(render_recording(heard))
    assert len(heard.events) > STATIC_EVENTS
    assert [tag for tag, _ in page.tags].count("tr") == STATIC_EVENTS + 1
    assert f"The first {STATIC_EVENTS} of {len(heard.events)} events." in page.words
    first = min(heard.events, key=lambda e: e.onset)
    assert f"{clock(first.onset)} {clock(first.offset)}" in page.words
    (app,) = [a for tag, a in page.tags if a.get("id") == "app"]
    assert "hidden" in app


def test_a_time_is_read_as_a_clock():
    assert clock(0.0) == "0:00:00.0"
    assert clock(59.96) == "0:01:00.0"
    assert clock(90_723.44) == "25:12:03.4"


def test_an_hour_of_ten_classes_is_small():
    # Noise is what PNG and zlib make least smaller.
    text = render_recording(make_recording(3600.0, bursts=600))
    assert len(text) < 1_500_000


def test_nothing_heard_is_a_page():
    classes = ("a",)
    nothing = HeardRecording("silence.wav", 0.0, classes, np.zeros((0, 1)), FRAME_RATE, [], [])
    text = render_recording(nothing)
    data = embedded(text)
    assert data["count"] == 0 and data["thresholds"] is None and data["onsets"] == []
    page = ParsedPage(text)
    assert "0 events." in page.words
    assert all(a.get("id") not in ("explore", "audio") for _, a in page.tags)
