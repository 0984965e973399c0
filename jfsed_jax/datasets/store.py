"""Features on disk: array_record shards of float16 log-mel, written once and read at random.

A shard holds the features of up to `SHARD_CLIPS` audio files and never changes: its name contains a
digest of the files (path, size, modification time) that it was made from. It is written under
another name, synced and renamed when complete, so a shard that has its name is whole. The next run
keeps every shard that is still right, copies unchanged records out of those that are not, and
decodes only what is new or has changed.

Labels are not in the shards: they are read from the metadata each time, so correcting a label
decodes nothing.

Axis letters: ``T`` frames, ``F`` mel bands, ``C`` event classes.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from jfsed_jax.atomic import write_whole
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.audio.host import fit_length, log_mel
from jfsed_jax.audio.reading import read_audio
from jfsed_jax.errors import InputError

SHARD_CLIPS = 128
_RECORD_OPTIONS = "group_size:1,uncompressed"  # reads four times as fast as zstd, 8 % larger
_FEW = 32  # as many clips are decoded here sooner than a pool of processes starts


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


@dataclass(frozen=True)
class Extracted:
    """The features of one split.

    Attributes:
      shards: shard paths in order.
      positions: per decoded file its record, counted through all shards.
      info: per decoded file what is known of it.
      errors: per file that could not be used, why.
    """

    shards: list[Path]
    positions: dict[AudioFile, int]
    info: dict[AudioFile, AudioInfo]
    errors: dict[AudioFile, str]


def extract_clip(path: Path, front_end: FrontEnd) -> tuple[np.ndarray, AudioInfo]:
    """Log-mel <float16>[T, F] of the first clip of a file; raises what `read_audio` raises."""
    recording = read_audio(path, front_end.sample_rate, max_seconds=front_end.clip_seconds)
    waveform = recording.waveform
    mel = log_mel(fit_length(waveform, front_end), front_end)
    peak = float(np.abs(waveform).max())
    rms = math.sqrt(float(np.dot(waveform, waveform)) / len(waveform))
    info = AudioInfo(
        duration=recording.duration,
        sample_rate=recording.sample_rate,
        channels=recording.channels,
        encoding=recording.encoding,
        peak=round(20 * math.log10(peak), 2) if peak else None,
        rms=round(20 * math.log10(rms), 2) if rms else None,
        digest=_digest(path),
    )
    return mel.astype(np.float16), info


def _digest(path: Path) -> str:
    """Of what a file holds; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


class Store:
    """The shards of a features folder."""

    def __init__(self, directory: Path, data_dir: Path, front_end: FrontEnd):
        self.directory = directory
        self.data_dir = data_dir
        self.front_end = front_end

    def extract(
        self,
        splits: Mapping[str, Sequence[AudioFile]],
        *,
        workers: int,
        progress: Callable[[int, int], Any],
    ) -> dict[str, Extracted]:
        """Brings every split's shards up to date.

        Args:
          splits: the audio files of each split, in the order their records shall have.
          workers: processes that decode; 1 decodes here.
          progress: called with (decoded, to decode) as clips are done.
        """
        known = {name: self._read_manifests(name) for name in splits}
        groups = {
            name: [list(files[i : i + SHARD_CLIPS]) for i in range(0, len(files), SHARD_CLIPS)]
            for name, files in splits.items()
        }
        pending = [
            file for name, files in splits.items() for file in files if file not in known[name]
        ]
        self._check_space(len(pending))
        done = 0
        result = {}
        with _Decoder(self.data_dir, self.front_end, pending, workers) as decoded:
            for name in splits:
                extracted = Extracted([], {}, {}, {})
                for number, group in enumerate(groups[name]):
                    fresh: dict[AudioFile, bytes] = {}
                    info: dict[AudioFile, AudioInfo] = {}
                    for file in group:
                        if file in known[name]:
                            info[file] = known[name][file].info
                            continue
                        outcome = next(decoded)
                        done += 1
                        progress(done, len(pending))
                        if isinstance(outcome, str):
                            extracted.errors[file] = outcome
                        else:
                            fresh[file], info[file] = outcome
                    if info:
                        self._complete(info, workers)
                        path = self._bring(name, number, info, fresh, known[name])
                        first = len(extracted.positions)
                        extracted.positions.update({f: first + i for i, f in enumerate(info)})
                        extracted.info.update(info)
                        extracted.shards.append(path)
                result[name] = extracted
        return result

    def remove_others(self, keep: Iterable[Path]) -> None:
        """Deletes shards that nothing refers to any more, and what killed runs left."""
        wanted = {path for shard in keep for path in (shard, shard.with_suffix(".json"))}
        for pattern in ("*/*.array_record", "*/*.json", "*/*.tmp", "*.tmp"):
            for path in self.directory.glob(pattern):
                if path not in wanted:
                    path.unlink(missing_ok=True)

    def _complete(self, info: dict[AudioFile, AudioInfo], threads: int) -> None:
        """Fills in the digests of files whose features an earlier version made, which kept none."""
        without = [file for file, known in info.items() if not known.digest]
        if not without:
            return
        with ThreadPoolExecutor(threads) as pool:
            digests = pool.map(_digest, [self.data_dir / file.path for file in without])
            for file, digest in zip(without, digests, strict=True):
                info[file] = replace(info[file], digest=digest)

    def _bring(
        self,
        split: str,
        number: int,
        info: Mapping[AudioFile, AudioInfo],
        fresh: Mapping[AudioFile, bytes],
        known: "Mapping[AudioFile, _Record]",
    ) -> Path:
        """The shard that holds exactly these files, written unless it is there."""
        digest = hashlib.sha256(json.dumps([list(file) for file in info]).encode()).hexdigest()
        path = self.directory / split / f"{number:05d}-{digest[:16]}.array_record"
        found = _read_manifest(path)
        if found:
            if found != info:
                _write_manifest(path, info, path.stat().st_size)
            return path

        def records() -> Iterator[bytes]:
            for file in info:
                yield fresh[file] if file in fresh else known[file].read()

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_shard(path, records(), info)
        except (OSError, RuntimeError) as error:
            raise self._cannot_write(error) from error
        return path

    def _read_manifests(self, split: str) -> "dict[AudioFile, _Record]":
        records: dict[AudioFile, _Record] = {}
        for shard in sorted((self.directory / split).glob("*.array_record")):
            for position, (file, info) in enumerate(_read_manifest(shard).items()):
                records[file] = _Record(shard, position, info)
        return records

    def _check_space(self, num_clips: int) -> None:
        size = num_clips * self.front_end.num_frames * self.front_end.n_mels * 2
        free = shutil.disk_usage(self.directory).free
        if size * 1.02 > free:
            raise InputError(
                f"{self.directory}: no space left on the disk: the features of {num_clips} clips "
                f"need {size / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; free some, or pass "
                "--features with a folder on another disk"
            )

    def _cannot_write(self, error: Exception) -> InputError:
        # array_record reports everything as a RuntimeError with a text of several lines.
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        reason = "no space left on the disk" if full else str(error).split(";")[0]
        return InputError(
            f"{self.directory}: {reason}; finished shards are kept: make room or pass --features "
            "with a folder elsewhere, and the same command goes on"
        )


def _write_shard(
    path: Path, records: Iterable[bytes], files: Mapping[AudioFile, AudioInfo]
) -> None:
    from array_record.python import array_record_module

    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    writer = array_record_module.ArrayRecordWriter(str(temporary), _RECORD_OPTIONS)
    try:
        for record in records:
            writer.write(record)
        writer.close()
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
    except (OSError, RuntimeError):
        temporary.unlink(missing_ok=True)  # it may have filled the disk
        raise
    _write_manifest(path, files, temporary.stat().st_size)
    os.replace(temporary, path)


def _write_manifest(shard: Path, files: Mapping[AudioFile, AudioInfo], size: int) -> None:
    manifest = {
        "bytes": size,
        "files": [[*file, asdict(info)] for file, info in files.items()],
    }
    write_whole(shard.with_suffix(".json"), json.dumps(manifest) + "\n")


def _read_manifest(shard: Path) -> dict[AudioFile, AudioInfo]:
    """The files of a shard in the order of its records; none if it is not there or not whole."""
    try:
        manifest = json.loads(shard.with_suffix(".json").read_bytes())
        if shard.stat().st_size != manifest["bytes"]:
            return {}
    except FileNotFoundError:
        return {}
    return {AudioFile(*file): AudioInfo(**info) for *file, info in manifest["files"]}


@dataclass(frozen=True)
class _Record:
    shard: Path
    position: int
    info: AudioInfo

    def read(self) -> bytes:
        from array_record.python import array_record_module

        reader = array_record_module.ArrayRecordReader(str(self.shard))
        try:
            return reader.read([self.position])[0]
        except RuntimeError as error:
            raise InputError(f"{self.shard}: damaged; delete it and run again") from error
        finally:
            reader.close()


class _Decoder:
    """An iterator over (record, info) or an error's text, in the order of the files."""

    def __init__(
        self, data_dir: Path, front_end: FrontEnd, files: Sequence[AudioFile], workers: int
    ):
        self.paths = [data_dir / file.path for file in files]
        self.front_end = front_end
        self.pool = None
        self.window = 4 * workers
        if workers > 1 and len(files) > _FEW:
            import concurrent.futures
            import multiprocessing

            # Not forked: JAX's threads do not survive a fork.
            self.pool = concurrent.futures.ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"), _start_worker
            )

    def __enter__(self) -> Iterator[tuple[bytes, AudioInfo] | str]:
        if self.pool is None:
            return (_decode(path, self.front_end) for path in self.paths)
        return self._from_pool()

    def _from_pool(self) -> Iterator[tuple[bytes, AudioInfo] | str]:
        from concurrent.futures.process import BrokenProcessPool

        assert self.pool is not None
        todo = iter(self.paths)
        running: deque = deque()
        try:
            for path in todo:
                running.append(self.pool.submit(_decode, path, self.front_end))
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


@lru_cache(maxsize=1)
def _threads() -> threadpoolctl.ThreadpoolController:
    """What sets the threads of NumPy's matrix products; looking for it takes milliseconds."""
    return threadpoolctl.ThreadpoolController()


def _decode(path: Path, front_end: FrontEnd) -> tuple[bytes, AudioInfo] | str:
    try:
        # Wherever it is decoded: a matrix product rounds by the number of its threads.
        with _threads().limit(limits=1):
            mel, info = extract_clip(path, front_end)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")
    return mel.tobytes(), info
