"""From an audio file to its features: here, or in a pool of processes.

Axis letters: ``T`` frames, ``F`` mel bands.
"""

import hashlib
import math
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.audio.host import fit_length, log_mel
from jfsed_jax.audio.reading import read_audio
from jfsed_jax.errors import InputError

FEW = 32  # as many clips are decoded here sooner than a pool of processes starts


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
      peak, rms: dBFS of the clip's mono signal; None for digital silence.
      digest: SHA-256 of the file's bytes; empty in features of an earlier version whose audio
        could not be read again.
    """

    duration: float
    sample_rate: int
    channels: int
    encoding: str
    peak: float | None
    rms: float | None
    digest: str = ""


Outcome = tuple[bytes, AudioInfo] | str  # the record and what was learnt, or why there is none


def extract_clip(path: Path, front_end: FrontEnd) -> tuple[np.ndarray, AudioInfo]:
    """Log-mel <float16>[T, F] of the first clip of a file; raises what `read_audio` raises."""
    recording = read_audio(path, front_end.sample_rate, max_seconds=front_end.clip_seconds)
    waveform = recording.waveform
    mel = log_mel(fit_length(waveform, front_end), front_end)
    peak = float(np.abs(waveform).max())
    rms = math.sqrt(np.mean(np.square(waveform, dtype=np.float64)))
    info = AudioInfo(
        duration=recording.duration,
        sample_rate=recording.sample_rate,
        channels=recording.channels,
        encoding=recording.encoding,
        peak=round(20 * math.log10(peak), 2) if peak else None,
        rms=round(20 * math.log10(rms), 2) if rms else None,
        digest=digest_of(path),
    )
    return mel.astype(np.float16), info


def digest_of(path: Path) -> str:
    """Of what a file holds; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def decode(path: Path, front_end: FrontEnd) -> Outcome:
    """The record of a file and what is known of it, or why it cannot be used."""
    try:
        mel, info = extract_clip(path, front_end)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")
    return mel.tobytes(), info


class Decoder:
    """An iterator over (record, info) or an error's text, in the order of the files."""

    def __init__(
        self, data_dir: Path, front_end: FrontEnd, files: Sequence[AudioFile], workers: int
    ):
        self.paths = [data_dir / file.path for file in files]
        self.front_end = front_end
        self.pool = None
        self.window = 4 * workers
        if workers > 1 and len(files) > FEW:
            import concurrent.futures
            import multiprocessing

            # Not forked: JAX's threads do not survive a fork.
            self.pool = concurrent.futures.ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"), _start_worker
            )

    def __enter__(self) -> Iterator[Outcome]:
        if self.pool is None:
            return (decode(path, self.front_end) for path in self.paths)
        return self._from_pool()

    def _from_pool(self) -> Iterator[Outcome]:
        from concurrent.futures.process import BrokenProcessPool

        assert self.pool is not None
        todo = iter(self.paths)
        running: deque = deque()
        try:
            for path in todo:
                running.append(self.pool.submit(decode, path, self.front_end))
                if len(running) > self.window:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool as error:
            raise InputError(
                "a decoding process ended: for want of memory (then fewer --workers help, and the "
                "same command goes on where it stopped), or because a script of your own starts "
                "it outside of if __name__ == '__main__':"
            ) from error

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """In a decoding process: an end with the parent's end."""
    import multiprocessing
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
