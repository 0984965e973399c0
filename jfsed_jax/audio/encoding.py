"""Sound for pages: small, and played by every browser."""

import io
from pathlib import Path

from jfsed_jax.audio.reading import read_audio
from jfsed_jax.errors import InputError

MIME = "audio/ogg"
_RATE = 48000  # Opus has no 44.1 kHz


def opus(path: str | Path, *, start: float = 0.0, end: float | None = None) -> bytes:
    """An audio file, or its seconds from `start` to `end`, as mono Ogg Opus.

    Raises:
      InputError: the file cannot be used, or the libsndfile that is installed writes no Opus.
    """
    import soundfile

    waveform = read_audio(path, _RATE, max_seconds=end).waveform[round(start * _RATE) :]
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, waveform, _RATE, format="OGG", subtype="OPUS")
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path} cannot be written as Opus ({error})") from error
    return buffer.getvalue()
