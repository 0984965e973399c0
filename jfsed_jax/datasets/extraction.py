"""From an audio file to its features: here, or in a pool of processes.

Axis letters: ``T`` frames, ``F`` mel bands.
"""

import contextlib
import ctypes
import hashlib
import math
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jfsed_jax.audio.decoding import open_audio
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.audio.host import fit_length, framed, log_mel, mel_frames
from jfsed_jax.audio.reading import read_audio, resampled
from jfsed_jax.errors import InputError

FEW = 32  # as many clips are decoded here sooner than a pool of processes starts
# Files that a process is given at a time, and their bytes: handing over costs 0.3 ms, and what they
# become is in memory until it is written.
_HANDED, _HANDED_BYTES = 16, 2**25
# A clip is as long as it should be if it is so within this; encoders add and drop a little.
TOLERANCE = 0.1


class AudioFile(NamedTuple):
    """An audio file as it was found: path relative to the data folder, bytes, time in ns."""

    path: str
    size: int
    modified: int


@dataclass(frozen=True)
class AudioInfo:
    """What was learnt while decoding a file.

    Attributes:
      duration: seconds of the whole file.
      sample_rate, channels, encoding: of the file.
      peak, rms: dBFS of the mono signal; None for digital silence.
      digest: SHA-256 of the file's bytes; empty in features of an earlier version whose audio
        could not be read again.
      clips: how many it was cut into, and so how many records it has.
    """

    duration: float
    sample_rate: int
    channels: int
    encoding: str
    peak: float | None
    rms: float | None
    digest: str = ""
    clips: int = 1

    def saved(self) -> dict[str, Any]:
        """As features keep it: of a file of one clip as they did before there were others."""
        fields = vars(self)
        return {name: fields[name] for name in fields if name != "clips" or self.clips > 1}


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
Outcome = tuple[bytes, AudioInfo] | str  # the records and what was learnt, or why there are none


def clip_start(number: int, front_end: FrontEnd) -> float:
    """Seconds at which clip `number` of a recording begins: a whole number of frames."""
    return number * front_end.num_frames * front_end.hop_length / front_end.sample_rate


def num_clips(duration: float, front_end: FrontEnd) -> int:
    """How many clips a recording of so many seconds is cut into.

    What is left over is a clip of its own, padded with silence, if it is longer than `TOLERANCE`.
    """
    if duration - front_end.clip_seconds <= TOLERANCE:
        return 1
    whole = int(duration / clip_start(1, front_end))
    return max(whole + (duration - clip_start(whole, front_end) > TOLERANCE), 1)


def extract_clip(path: Path, front_end: FrontEnd) -> tuple[np.ndarray, AudioInfo]:
    """Log-mel <float16>[T, F] of the first clip of a file; raises what `read_audio` raises."""
    recording = read_audio(path, front_end.sample_rate, max_seconds=front_end.clip_seconds)
    waveform = recording.waveform
    mel = log_mel(fit_length(waveform, front_end), front_end)
    info = AudioInfo(
        duration=recording.duration,
        sample_rate=recording.sample_rate,
        channels=recording.channels,
        encoding=recording.encoding,
        peak=_decibels(_peak(waveform)),
        rms=_decibels(math.sqrt(_energy(waveform) / len(waveform))),
        digest=digest_of(path),
    )
    return mel.astype(np.float16), info


def extract_clips(path: Path, front_end: FrontEnd) -> tuple[np.ndarray, AudioInfo]:
    """Log-mel <float16>[N, T, F] of all N clips of a file; raises what `read_audio` raises.

    Those of a recording longer than a clip lie end to end in its log-mel, so none but the first
    and the last has an edge; the last one is padded with silence.
    """
    mel, info = extract_clip(path, front_end)
    count = num_clips(info.duration, front_end)
    if count == 1:
        return mel[None], info
    levels = []  # of each block: greatest magnitude, sum of squares, samples

    def measured(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            levels.append((_peak(block), _energy(block), len(block)))
            yield block

    with open_audio(path) as source:
        blocks = resampled(source.blocks, source.sample_rate, front_end.sample_rate)
        frames = front_end.num_frames
        parts = framed(measured(blocks), front_end, frames, lambda heard: count * frames)
        mels = [mel_frames(part, front_end).astype(np.float16) for part in parts]
    peaks, energies, lengths = zip(*levels, strict=True)
    peak, rms = _decibels(max(peaks)), _decibels(math.sqrt(sum(energies) / sum(lengths)))
    return np.stack(mels[:count]), replace(info, peak=peak, rms=rms, clips=count)


def _peak(waveform: np.ndarray) -> float:
    return float(max(waveform.max(initial=0.0), -waveform.min(initial=0.0)))


def _energy(waveform: np.ndarray) -> float:
    """Sum of squares; not as a product of vectors, which rounds by the number of threads."""
    return float(np.einsum("n,n->", waveform, waveform))


def _decibels(level: float) -> float | None:
    """Of full scale; None for silence."""
    return round(20 * math.log10(level), 2) if level else None


def digest_of(path: Path) -> str:
    """Of what a file holds; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def decode(path: Path, front_end: FrontEnd) -> Outcome:
    """The records of a file and what is known of it, or why it cannot be used."""
    try:
        mels, info = extract_clips(path, front_end)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")
    return mels.tobytes(), info


def _decode_all(paths: Sequence[Path], front_end: FrontEnd) -> list[Outcome]:
    return [decode(path, front_end) for path in paths]


class Decoder:
    """An iterator over (records, info) or an error's text, in the order of the files."""

    def __init__(
        self, data_dir: Path, front_end: FrontEnd, files: Sequence[AudioFile], workers: int
    ):
        self.data_dir, self.files = data_dir, files
        self.front_end = front_end
        self.pool = None
        self.workers = workers
        if workers > 1 and len(files) > FEW:
            import concurrent.futures
            import multiprocessing

            # Not forked: JAX's threads do not survive a fork.
            self.pool = concurrent.futures.ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"), _start_worker
            )

    def __enter__(self) -> Iterator[Outcome]:
        if self.pool is None:
            return (decode(self.data_dir / file.path, self.front_end) for file in self.files)
        return self._from_pool()

    def _from_pool(self) -> Iterator[Outcome]:
        from concurrent.futures.process import BrokenProcessPool

        assert self.pool is not None
        running: deque = deque()
        try:
            for paths in self._handed():
                running.append(self.pool.submit(_decode_all, paths, self.front_end))
                if len(running) > 2 * self.workers:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        except BrokenProcessPool as error:
            raise InputError(
                "a decoding process ended: for want of memory (then fewer --workers help, and the "
                "same command goes on where it stopped), or because a script of your own starts "
                "it outside of if __name__ == '__main__':"
            ) from error

    def _handed(self) -> Iterator[list[Path]]:
        """The files in order, as many as a process is given at a time."""
        most = min(_HANDED, -(-len(self.files) // (4 * self.workers)))
        paths: list[Path] = []
        size = 0
        for file in self.files:
            if paths and (len(paths) == most or size + file.size > _HANDED_BYTES):
                yield paths
                paths, size = [], 0
            paths.append(self.data_dir / file.path)
            size += file.size
        yield paths

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """In a decoding process: an end with the parent's end; memory that is kept."""
    import multiprocessing
    import signal

    # glibc gives the memory of each large array back, and the next clip waits for the system to
    # clear as much again: a sixth of the time. Others have no mallopt, or no such habit.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**27)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
