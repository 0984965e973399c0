"""What sound a page gets: the recording, parts of it, or the way to it."""

import io
import json
import re
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.cli import recording_files
from jfsed_jax.sed.events import Event

RATE = 8000
TIMES = (3.0, 4.0), (14.0, 15.5), (20.0, 21.0)


@pytest.fixture
def write(tmp_path, monkeypatch, caplog):
    """Writes the page of a recording of 25 s with three events where pages hold so much sound."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).normal(0, 0.1, 25 * RATE)
    soundfile.write("long.wav", noise, RATE)
    postprocess = SimpleNamespace(medians=2)
    detector = SimpleNamespace(
        front_end=FrontEnd(RATE, 256, 256, 80, 4, 0.0, 4000.0, 10.0, 1e-10),
        frame_rate=10.0,
        classes=("Dog",),
        step=1,
        config=SimpleNamespace(system="pts", postprocess=postprocess),
    )
    heard = SimpleNamespace(path="long.wav", seconds=25.0, frames=np.zeros((250, 1)))
    events = [Event("long.wav", *times, "Dog") for times in TIMES]
    labelled = SimpleNamespace(events=events, confidences=[(0.9, 0.9), (0.8, 0.9), (0.7, 0.9)])
    caplog.set_level("INFO")

    def written(most: float, *, embed_audio: bool) -> str:
        monkeypatch.setattr(recording_files, "_EMBEDDED_SECONDS", most)
        pages = recording_files.RecordingPages("pages", ["long.wav"], embed_audio)
        pages.add_mel("long.wav", np.zeros((10, 4), np.float32), 10.0)
        pages.write(detector, heard, labelled, None)
        return Path("pages/long.html").read_text()

    return written


def sounds(page: str) -> list[float]:
    """Seconds of each sound in it."""
    return [
        soundfile.info(io.BytesIO(b64decode(part))).duration
        for part in re.findall(r'src="data:audio/ogg;base64,([^"]*)"', page)
    ]


def test_without_the_flag_it_is_beside_the_page(write):
    page = write(600.0, embed_audio=False)
    assert 'src="../long.wav"' in page and not sounds(page)


def test_of_what_fits_the_whole(write, caplog):
    assert sounds(write(25.0, embed_audio=True)) == [25.0]
    assert not caplog.text


def test_of_what_does_not_its_events_and_the_log_says_how_many(write, caplog):
    page = write(7.0, embed_audio=True)  # 3 s and 3.5 s, and not 3 s more
    assert sounds(page) == pytest.approx([3.0, 3.5], abs=1e-3)
    data = json.loads(re.search(r'type="application/json"[^>]*>(.*?)</script>', page)[1])
    assert data["excerpts"] == [[2.0, 5.0], [13.0, 16.5]]
    assert "long.wav: in its page 2 of 3 events have their sound, the most" in caplog.text
    assert "In this page 2 of 3 events have their sound, the most" in page
    assert 'src="../long.wav"' not in page
