"""Recordings at a sample rate of one's own: whole, or in blocks whatever their length.

Axis letters: ``N`` samples.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jfsed_jax.audio.decoding import open_audio


class Recording(NamedTuple):
    """An audio file, decoded, mixed to mono and resampled.

    Attributes:
      waveform: <float32>[N], full scale is 1.
      duration: seconds of the whole file.
      sample_rate, channels, encoding: of the file, before resampling and mixing; the encoding as
        libsndfile calls it, such as PCM_16.
    """

    waveform: np.ndarray
    duration: float
    sample_rate: int
    channels: int
    encoding: str


def read_audio(
    path: str | Path, sample_rate: int, *, max_seconds: float | None = None
) -> Recording:
    """Decodes what `decoding.open_audio` opens; of a long file the beginning.

    Raises:
      InputError: it is missing, no file, not audio, cut short, empty, under 0.1 s, or has NaN or
        infinity.
    """
    with open_audio(path, max_seconds=max_seconds) as source:
        blocks = list(source.blocks)
    waveform = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    rate = source.sample_rate
    duration = len(waveform) / rate if source.promised is None else source.promised
    if source.promised is None and max_seconds is not None and duration >= max_seconds:
        with open_audio(path) as source:  # how much more there is no header says
            duration = sum(map(len, source.blocks)) / rate
    if rate != sample_rate:
        import librosa

        waveform = librosa.resample(waveform, orig_sr=rate, target_sr=sample_rate)
    waveform = np.ascontiguousarray(waveform)
    return Recording(waveform, duration, rate, source.channels, source.encoding)


def load_audio(path: str | Path, sample_rate: int) -> np.ndarray:
    """A whole file as mono <float32>[N] at `sample_rate`; raises what `read_audio` raises."""
    return read_audio(path, sample_rate).waveform


def resampled(blocks: Iterable[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks <float32>[N] of a waveform at another rate: the samples of `librosa.resample`.

    Wherever blocks begin; so `load_audio` in blocks is this of what `decoding.open_audio` gives.
    """
    if rate == sample_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    given, made = 0, 0
    for block in blocks:
        given += len(block)
        if len(found := stream.resample_chunk(block)):
            made += len(found)
            yield found
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    due = math.ceil(given * sample_rate / rate) - made  # librosa's length
    yield np.pad(rest[:due], (0, max(due - len(rest), 0)))
