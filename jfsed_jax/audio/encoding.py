"""Sound for pages: small, and played by every browser.

Axis letters: ``N`` samples.
"""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from jfsed_jax.audio.decoding import open_audio
from jfsed_jax.audio.reading import resampled
from jfsed_jax.errors import InputError

MIME = "audio/ogg"
RATE = 48000  # Opus has no 44.1 kHz


def opus(
    path: str | Path, *, start: float = 0.0, end: float | None = None, rate: int = RATE
) -> bytes:
    """An audio file, or its seconds from `start` to `end`, as mono Ogg Opus.

    Args:
      path: the file.
      start, end: in seconds; to its end if None.
      rate: in Hz, of those that Opus has; of half of it the sound takes less than two thirds.

    Raises:
      InputError: the file cannot be used, or the libsndfile that is installed writes no Opus.
    """
    (content,) = opus_excerpts(path, [(start, math.inf if end is None else end)], rate=rate)
    return content


def opus_excerpts(
    path: str | Path, spans: Sequence[tuple[float, float]], *, rate: int = RATE
) -> Iterator[bytes]:
    """Parts of an audio file, each as mono Ogg Opus of its own; the file is read once, in blocks.

    Args:
      path: the file; it is read no further than the last part goes.
      spans: start and end in seconds, in order, none before the end of the one before.
      rate: see `opus`.

    Raises:
      InputError: the file cannot be used, or the libsndfile that is installed writes no Opus.
    """
    if not spans:
        return
    last = spans[-1][1]
    with open_audio(path, max_seconds=last if math.isfinite(last) else None) as source:
        own_rate, blocks = source.sample_rate, source.blocks
        held, at = np.zeros(0, np.float32), 0  # the latest block, and where it begins

        def cut(start: int, stop: float) -> Iterator[np.ndarray]:
            nonlocal held, at
            while True:
                begin, end = max(start - at, 0), min(stop - at, len(held))
                if begin < end:
                    yield held[begin:end]
                if stop <= at + len(held):
                    return
                at += len(held)
                held = next(blocks, held[:0])
                if not len(held):
                    return

        for start, end in spans:
            stop = round(end * own_rate) if math.isfinite(end) else math.inf
            yield _encoded(
                path, resampled(cut(round(start * own_rate), stop), own_rate, rate), rate
            )


def _encoded(path: str | Path, blocks: Iterable[np.ndarray], rate: int) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", rate, 1, format="OGG", subtype="OPUS") as file:
            for block in blocks:
                file.write(block)
    except InputError:  # of what is read
        raise
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path} cannot be written as Opus ({error})") from error
    return buffer.getvalue()
