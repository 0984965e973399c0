"""Sound for pages: parts of a recording are cut where they should be, and it is read in blocks."""

import io
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from jfsed_jax.audio import encoding
from jfsed_jax.audio.decoding import OpenAudio
from jfsed_jax.errors import InputError

RATE = 8000


def clicks(seconds: float) -> np.ndarray:
    """A short tone at the middle of each second, of a pitch of its own: 300 Hz, 400 Hz, ..."""
    times = np.arange(round(seconds * RATE)) / RATE
    second = np.floor(times)
    near = np.exp(-(((times - second - 0.5) / 0.02) ** 2))
    return (0.5 * near * np.sin(2 * np.pi * (300 + 100 * second) * times)).astype(np.float32)


def decoded(content: bytes) -> np.ndarray:
    waveform, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == 48000
    return waveform


def pitch_and_time(waveform: np.ndarray) -> tuple[float, float]:
    """Of the loudest 0.1 s: its pitch in Hz, and where the middle of its power is in seconds."""
    loud = int(np.argmax(np.convolve(waveform**2, np.ones(4800), "same")))
    first = max(loud - 4800, 0)
    power = waveform[first : loud + 4800] ** 2
    spectrum = np.abs(np.fft.rfft(waveform[first : loud + 4800], 48000))
    return float(np.argmax(spectrum)), (
        first + np.average(np.arange(len(power)), weights=power)
    ) / 48000


@contextmanager
def opened(blocks, given):
    """An open file of these blocks; `given` gets a weak reference to each that is asked for."""

    def read():
        for block in blocks:
            copy = block.copy()
            given.append(weakref.ref(copy))
            yield copy

    yield OpenAudio(RATE, 1, "PCM_16", None, read())


@pytest.mark.parametrize("size", [700, 8000, 40_000])
def test_each_part_is_cut_where_it_should_be_whatever_the_blocks(monkeypatch, size):
    waveform = clicks(9.0)
    blocks = [waveform[i : i + size] for i in range(0, len(waveform), size)]
    monkeypatch.setattr(encoding, "open_audio", lambda *_, **__: opened(blocks, []))
    # The second begins where the first ends, the last goes beyond the recording.
    spans = [(1.25, 2.0), (2.0, 2.75), (5.1, 6.0), (8.0, 12.0)]
    parts = [decoded(part) for part in encoding.opus_excerpts("a.wav", spans)]
    assert [len(part) for part in parts] == [36_000, 36_000, 43_200, 48_000]
    found = [pitch_and_time(part) for part in parts]
    expected = [(400, 0.25), (500, 0.5), (800, 0.4), (1100, 0.5)]
    for (pitch, time), (hertz, seconds) in zip(found, expected, strict=True):
        assert pitch == pytest.approx(hertz, abs=15)
        assert time == pytest.approx(seconds, abs=2e-3)


def test_a_recording_is_read_once_in_blocks_and_no_further_than_needed(monkeypatch):
    """100 blocks of a second; of 10 to 12 s and 50 to 51 s."""
    given, kept, asked = [], [], []
    blocks, encoded = list(clicks(100.0).reshape(100, RATE)), encoding._encoded

    def open_audio(path, *, max_seconds):
        asked.append((path, max_seconds))
        return opened(blocks, given)

    def watched(path, pieces, rate):
        def each():
            for piece in pieces:
                kept.append(sum(block() is not None for block in given))
                yield piece

        return encoded(path, each(), rate)

    monkeypatch.setattr(encoding, "open_audio", open_audio)
    monkeypatch.setattr(encoding, "_encoded", watched)
    parts = encoding.opus_excerpts("a.wav", [(10.0, 12.0), (50.0, 51.0)])
    assert not given  # before one is asked for
    next(parts)
    assert len(given) == 12
    next(parts)
    assert len(given) == 51 and asked == [("a.wav", 51.0)]
    assert 1 <= max(kept) <= 2


def test_nothing_is_opened_for_no_parts():
    assert list(encoding.opus_excerpts("not/there.wav", [])) == []


def test_what_is_wrong_with_a_file_is_told_as_it_is(tmp_path):
    """Not as a fault of the encoder, within which it is met."""
    waveform = clicks(3.0)
    waveform[2 * RATE] = np.nan
    path = tmp_path / "a.wav"
    soundfile.write(path, waveform, RATE, subtype="FLOAT")
    with pytest.raises(InputError) as error:
        encoding.opus(path)
    assert str(error.value).startswith(f"{path}: NaN, infinite or absurd samples")
