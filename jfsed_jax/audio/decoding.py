"""Audio files, decoded a block at a time: what is read never follows what a header promises.

Axis letters: ``N`` samples.
"""

import math
import os
import re
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

from jfsed_jax.audio.containers import check_whole, conversion
from jfsed_jax.audio.front_end import SHORTEST_SECONDS
from jfsed_jax.errors import InputError

_BLOCK = 2**19  # samples of all channels: two megabytes, a clip of 10 s
_LOUDEST = 1e6  # times full scale; float files can hold anything
_RATES = (1_000, 10_000_000)  # Hz; a slower one would be resampled to gigabytes
# What libsndfile reads, and what it does not and ffmpeg, if it is installed, does.
BY_LIBSNDFILE = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf"),
    *(".w64", ".rf64"),
)
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

    from jfsed_jax.audio.sequential import SequentialFile

    check_file(path)
    try:
        check_whole(path)
        file = SequentialFile(path)
    except TypeError as error:  # soundfile goes by the suffix
        raise InputError(
            f"{path}: raw samples, whose rate no header says; convert it: "
            f"{conversion(path, '-f s16le -ar RATE -ac CHANNELS ')}"
        ) from error
    except (soundfile.LibsndfileError, OSError) as error:
        reason = _why_undecodable(path, error)
        if not reason.startswith("cannot be decoded"):
            raise InputError(f"{path}: {reason}") from error
        if Path(path).suffix.lower() not in BY_FFMPEG:
            raise InputError(
                f"{path}: {reason}, or, if it plays elsewhere, convert it: {conversion(path)}"
            ) from error
        with _converted(path, max_seconds) as source:
            yield source
        return
    with file:
        rate = _checked_rate(path, file.samplerate)

        def read(count: int) -> np.ndarray:
            try:
                return file.block(count)
            except (soundfile.LibsndfileError, OSError) as error:
                raise InputError(f"{path}: {_why_undecodable(path, error)}") from error

        promised = None if file.length is None else file.length / rate
        blocks = _checked_blocks(path, read, rate, file.channels, max_seconds, promised)
        yield OpenAudio(rate, file.channels, file.subtype, promised, blocks)


def _checked_blocks(
    path, read, rate: int, channels: int, max_seconds, promised
) -> Iterator[np.ndarray]:
    size = max(_BLOCK // channels, 1)
    wanted = math.inf if max_seconds is None else math.ceil(max_seconds * rate)
    done = 0
    while done < wanted:
        samples = read(int(min(size, wanted - done)))
        if not len(samples):
            break
        if not -_LOUDEST < samples.min() <= samples.max() < _LOUDEST:  # nor is NaN
            at, channel = np.argwhere(~(np.abs(samples) < _LOUDEST))[0]
            raise InputError(
                f"{path}: NaN, infinite or absurd samples, the first at {(done + at) / rate:.3f} s "
                f"({samples[at, channel]}); export it again"
            )
        done += len(samples)
        yield _mono(samples)
    # Where no more was wanted, the header's word for the rest.
    found = done / rate if done < wanted or promised is None else promised
    if promised is not None and found < promised - 1e-3:
        raise InputError(
            f"{path}: cut short, its header announces {promised:.3f} s and {found:.3f} s are "
            "there; copy or download it again"
        )
    if found < SHORTEST_SECONDS:
        raise InputError(
            f"{path}: too short, {found:.3f} s; expected at least {SHORTEST_SECONDS} s"
        )


def _mono(samples: np.ndarray) -> np.ndarray:
    """<float32>[N] of [N, channels]."""
    if samples.shape[1] > 2:
        return samples.mean(axis=1)
    # Their mean to the bit; NumPy takes it pair by pair, in thirty times the time.
    return samples[:, 0] if samples.shape[1] == 1 else (samples[:, 0] + samples[:, 1]) / 2


@contextmanager
def _converted(path: str | Path, max_seconds: float | None) -> Iterator[OpenAudio]:
    """The first audio stream of a file, as ffmpeg decodes it."""
    program = shutil.which("ffmpeg")
    if not program:
        raise InputError(
            f"{path}: libsndfile does not read this format; install ffmpeg, or convert the file: "
            f"{conversion(path)}"
        )
    # AU: a header of a few numbers and then the samples, whose count need not be known.
    command = [program, "-v", "error", "-xerror", "-nostdin", "-protocol_whitelist", "file"]
    command += ["-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        )
        output = process.stdout
        assert output is not None

        def errors() -> list[str]:
            """What it wrote to standard error, the cause first, as -v error leaves it."""
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
            # Of the times in its output, which have no place in that.
            lines = [line for line in lines if not re.match(r"\[(out#\d+/)?au @", line)]
            return [re.sub(r"^(\[[^]]*\] )+", "", line) for line in lines if line.strip()]

        try:
            header = output.read(24)
            if len(header) < 24 or header[:4] != b".snd":
                process.wait()
                reason = (errors() or ["no audio in it"])[0]
                raise InputError(f"{path}: cannot be decoded by ffmpeg ({reason})")
            _, begin, _, _, rate, channels = struct.unpack(">4s5I", header)
            output.read(begin - 24)

            def read(count: int) -> np.ndarray:
                data = output.read(4 * channels * count)
                # Of Matroska that is cut short it says so, but ends with status 0.
                if not data and (process.wait() or errors()):
                    reason = (errors() or [f"status {process.returncode}"])[0]
                    raise InputError(
                        f"{path}: cut short or damaged, as ffmpeg has it ({reason}); copy or "
                        f"download it again, or convert what is there: {conversion(path)}"
                    )
                whole = data[: len(data) // (4 * channels) * 4 * channels]
                return np.frombuffer(whole, ">f4").astype(np.float32).reshape(-1, channels)

            rate = _checked_rate(path, rate)
            blocks = _checked_blocks(path, read, rate, channels, max_seconds, None)
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
        known = ", ".join(suffix[1:] for suffix in (*BY_LIBSNDFILE, *BY_FFMPEG))
        return f"not audio but text; expected one of {known}"
    reason = str(error).rsplit(": ", 1)[-1].strip().rstrip(".")
    return f"cannot be decoded ({reason}); copy or download it again"
