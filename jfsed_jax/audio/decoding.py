"""Audio files, decoded a block at a time: what is read never follows what a header promises.

Axis letters: ``N`` samples.
"""

import math
import os
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jfsed_jax.audio.front_end import SHORTEST_SECONDS
from jfsed_jax.errors import InputError

_BLOCK = 2**18  # samples of all channels: a megabyte
_LOUDEST = 1e6  # times full scale; float files can hold anything
_RATES = (1_000, 10_000_000)  # Hz; a slower one would be resampled to gigabytes
_BY_SAMPLE = (1, 3, 6, 7, 0xFFFE)  # PCM, float, A-law, mu-law, and PCM or float with channels named
# What libsndfile does not read and ffmpeg, if it is installed, does.
BY_FFMPEG = (".m4a", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".wma", ".amr", ".3gp", ".mov")


class OpenAudio(NamedTuple):
    """An audio file that is open.

    Attributes:
      sample_rate, channels, encoding: the encoding as libsndfile calls it, such as PCM_16.
      promised: seconds of the whole file as its header has it, or None.
      blocks: <float32>[N] each, mixed to mono, full scale is 1; once. They raise InputError where
        the file turns out to be cut short, too short, or to have NaN or infinity.
    """

    sample_rate: int
    channels: int
    encoding: str
    promised: float | None
    blocks: Iterator[np.ndarray]


@contextmanager
def open_audio(path: str | Path, *, max_seconds: float | None = None) -> Iterator[OpenAudio]:
    """Opens wav, flac, ogg and what else libsndfile reads; m4a and others by ffmpeg, if installed.

    Args:
      path: the file.
      max_seconds: of a longer file the beginning.

    Raises:
      InputError: it is missing, no file, not audio or in a format that nothing here reads.
    """
    import soundfile

    check_file(path)
    try:
        # As bytes, for a file name need not be text.
        file = soundfile.SoundFile(os.fsencode(path))
    except TypeError as error:  # soundfile goes by the suffix
        raise InputError(
            f"{path}: raw samples, whose rate no header says; convert it: "
            f"ffmpeg -f s16le -ar RATE -ac CHANNELS -i {Path(path).name} {Path(path).stem}.flac"
        ) from error
    except (soundfile.LibsndfileError, OSError) as error:
        reason = _why_undecodable(path, error)
        foreign = Path(path).suffix.lower() in BY_FFMPEG and reason.startswith("cannot be decoded")
        if not foreign:
            raise InputError(f"{path}: {reason}") from error
        with _converted(path, max_seconds) as source:
            yield source
        return
    with file:
        rate = _checked_rate(path, file.samplerate)

        def read(count: int) -> np.ndarray:
            try:
                return file.read(count, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, OSError) as error:
                raise InputError(f"{path}: {_why_undecodable(path, error)}") from error

        promised = file.frames / rate
        announced = _announced_seconds(path) or promised
        blocks = _checked_blocks(path, read, rate, file.channels, max_seconds, promised, announced)
        yield OpenAudio(rate, file.channels, file.subtype, promised, blocks)


def _checked_blocks(
    path, read, rate: int, channels: int, max_seconds, promised, announced
) -> Iterator[np.ndarray]:
    size = max(_BLOCK // channels, 1)
    wanted = math.inf if max_seconds is None else math.ceil(max_seconds * rate)
    done = 0
    while done < wanted:
        samples = read(int(min(size, wanted - done)))
        if not len(samples):
            break
        if not np.abs(samples).max() < _LOUDEST:  # nor is NaN
            at, channel = np.argwhere(~(np.abs(samples) < _LOUDEST))[0]
            raise InputError(
                f"{path}: NaN, infinite or absurd samples, the first at {(done + at) / rate:.3f} s "
                f"({samples[at, channel]}); export it again"
            )
        done += len(samples)
        yield samples.mean(axis=1) if channels > 1 else samples[:, 0]
    # Where no more was wanted, libsndfile's word for the rest: it goes by the size of the file.
    found = done / rate if done < wanted or promised is None else promised
    if announced is not None and found < announced - 1e-3:
        raise InputError(
            f"{path}: cut short, its header announces {announced:.3f} s and {found:.3f} s are "
            "there; copy or download it again"
        )
    if found < SHORTEST_SECONDS:
        raise InputError(
            f"{path}: too short, {found:.3f} s; expected at least {SHORTEST_SECONDS} s"
        )


@contextmanager
def _converted(path: str | Path, max_seconds: float | None) -> Iterator[OpenAudio]:
    """The first audio stream of a file, as ffmpeg decodes it."""
    program = shutil.which("ffmpeg")
    if not program:
        raise InputError(
            f"{path}: libsndfile does not read this format; install ffmpeg, or convert the file: "
            f"ffmpeg -i {Path(path).name} {Path(path).stem}.flac"
        )
    # AU: a header of a few numbers and then the samples, whose count need not be known.
    command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file"]
    command += ["-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        )
        output = process.stdout
        assert output is not None

        def failed() -> InputError:
            process.wait()
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["no audio in it"]
            return InputError(f"{path}: cannot be decoded by ffmpeg ({lines[-1]})")

        try:
            header = output.read(24)
            if len(header) < 24 or header[:4] != b".snd":
                raise failed()
            _, begin, _, _, rate, channels = struct.unpack(">4s5I", header)
            output.read(begin - 24)

            def read(count: int) -> np.ndarray:
                data = output.read(4 * channels * count)
                if not data and process.wait():
                    raise failed()
                whole = data[: len(data) // (4 * channels) * 4 * channels]
                return np.frombuffer(whole, ">f4").astype(np.float32).reshape(-1, channels)

            rate = _checked_rate(path, rate)
            blocks = _checked_blocks(path, read, rate, channels, max_seconds, None, None)
            yield OpenAudio(rate, channels, "by ffmpeg", None, blocks)
        finally:
            process.kill()
            process.wait()
            output.close()


def _checked_rate(path: str | Path, rate: int) -> int:
    if not _RATES[0] <= rate <= _RATES[1]:
        raise InputError(
            f"{path}: its header says {rate} samples a second; expected {_RATES[0]} to {_RATES[1]}"
        )
    return rate


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
        if os.stat(path).st_size > 2**32 + _BLOCK:
            raise InputError(
                f"{path}: larger than the 4 GB that the header of a wav can say, so where it ends "
                f"is not known; convert it: ffmpeg -ignore_length 1 -i {Path(path).name} "
                f"{Path(path).stem}.flac"
            )
        file.seek(12)
        byte_rate = 0
        while len(chunk := file.read(8)) == 8:
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"fmt ":
                header = file.read(16)
                size -= 16
                # Of a codec of blocks the rate is rounded.
                if int.from_bytes(header[:2], "little") not in _BY_SAMPLE:
                    return None
                byte_rate = int.from_bytes(header[8:12], "little")
            elif chunk[:4] == b"data":
                streamed = size in (0, 0xFFFFFFFF)  # written to a pipe, the length unknown
                return None if streamed or not byte_rate else size / byte_rate
            file.seek(size + size % 2, 1)
    return None
