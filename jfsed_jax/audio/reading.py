"""Audio files, decoded, mixed to mono and resampled; a file that cannot be used says why.

Axis letters: ``N`` samples.
"""

import math
import os
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jfsed_jax.audio.front_end import SHORTEST_SECONDS
from jfsed_jax.errors import InputError

_LOUDEST = 1e6  # times full scale; float files can hold anything


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
    """Decodes wav, flac, ogg and whatever else libsndfile reads; of a long file the beginning.

    Raises:
      InputError: it is missing, no file, not audio, cut short, empty, under 0.1 s, or has NaN or
        infinity.
    """
    import soundfile

    check_file(path)
    try:
        # As bytes, for a file name need not be text.
        with soundfile.SoundFile(os.fsencode(path)) as file:
            rate, channels, length = file.samplerate, file.channels, file.frames
            encoding = file.subtype
            wanted = length if max_seconds is None else min(length, math.ceil(max_seconds * rate))
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise InputError(f"{path}: {_why_undecodable(path, error)}") from error
    announced = _announced_seconds(path) or length / rate
    found = length / rate if len(samples) == wanted else len(samples) / rate
    if found < announced - 1e-3:
        raise InputError(
            f"{path}: cut short, its header announces {announced:.3f} s and {found:.3f} s are "
            "there; copy or download it again"
        )
    if found < SHORTEST_SECONDS:
        raise InputError(
            f"{path}: too short, {found:.3f} s; expected at least {SHORTEST_SECONDS} s"
        )
    if not np.abs(samples).max() < _LOUDEST:  # nor is NaN
        at, channel = np.argwhere(~(np.abs(samples) < _LOUDEST))[0]
        raise InputError(
            f"{path}: NaN, infinite or absurd samples, the first at {at / rate:.3f} s "
            f"({samples[at, channel]}); export it again"
        )
    waveform = samples.mean(axis=1) if channels > 1 else samples[:, 0]
    if rate != sample_rate:
        import librosa

        waveform = librosa.resample(waveform, orig_sr=rate, target_sr=sample_rate)
    return Recording(np.ascontiguousarray(waveform), length / rate, rate, channels, encoding)


def check_file(path: str | Path) -> None:
    """Refuses what would wait for a writer, or never end, when it is read: no file but a FIFO."""
    try:
        kind = special_file(os.stat(path).st_mode)
    except OSError:
        return  # whoever opens it says why it cannot be
    if kind:
        raise InputError(f"{path}: {kind}, not a file; write what it gives to a file first")


def special_file(mode: int) -> str | None:
    """What a path of this `os.stat` mode is, if neither a file nor a folder."""
    kinds = {
        stat.S_ISFIFO: "a FIFO (a named pipe)",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), None)


def load_audio(path: str | Path, sample_rate: int) -> np.ndarray:
    """A whole file as mono <float32>[N] at `sample_rate`; raises what `read_audio` raises."""
    return read_audio(path, sample_rate).waveform


def _why_undecodable(path: str | Path, error: Exception) -> str:
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as cause:
        return f"cannot be read ({cause.strerror})"
    if not head:
        return "empty, 0 bytes; copy or download it again"
    if head.lstrip()[:1] == b"<":
        return "not audio but HTML or XML, often a saved error page; download it again"
    if all(byte in b"\t\n\r" or byte >= 32 for byte in head):
        return "not audio but text; expected wav, flac or ogg"
    reason = str(error).rsplit(": ", 1)[-1].strip().rstrip(".")
    return f"cannot be decoded ({reason}); copy or download it again"


def _announced_seconds(path: str | Path) -> float | None:
    """How much audio the header of a RIFF wav file announces; None if it is not one or is silent.

    libsndfile trusts the file's size instead, so a download that stopped looks like a short clip.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"RIFF":
            return None
        file.seek(12)
        byte_rate = 0
        while len(chunk := file.read(8)) == 8:
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"fmt ":
                byte_rate = int.from_bytes(file.read(16)[8:12], "little")
                size -= 16
            elif chunk[:4] == b"data":
                streamed = size in (0, 0xFFFFFFFF)  # written to a pipe, the length unknown
                return None if streamed or not byte_rate else size / byte_rate
            file.seek(size + size % 2, 1)
    return None
