"""Shards: array_record files of log-mel, and beside each a manifest of what is in it.

A shard never changes: its name contains a digest of the audio files (path, size, modification time)
that it was made from. It is written under another name, synced and renamed when complete, so a
shard that has its name was whole when it got it. array_record keeps a hash of each record, which is
compared when the record is read: damage on the disk is noticed then, and never becomes a feature.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import resource
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from absl import logging
from array_record.python import array_record_module

from jfsed_jax.atomic import write_whole
from jfsed_jax.datasets.extraction import AudioFile, AudioInfo
from jfsed_jax.errors import InputError

_OPTIONS = "group_size:1,uncompressed"  # reads four times as fast as zstd, 8 % larger
# What a shard and its manifest are called, and what they are while they are written.
NAMES = r"\.?\d{5}-[0-9a-f]+\.(array_record|tmp|json(\.\d+\.tmp)?)"
_KINDS = get_type_hints(AudioInfo)  # once: it takes longer than a file's row of a manifest
_COUNTING = 16  # shards opened at once to count their records, where a file system answers slowly


def shard_path(folder: Path, number: int, files: Mapping[AudioFile, AudioInfo]) -> Path:
    """Where the shard of exactly these files is, each cut into so many clips."""
    # Of a file of one clip nothing more is said, as before there were others.
    parts = [[*file, info.clips] if info.clips > 1 else [*file] for file, info in files.items()]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return folder / f"{number:05d}-{digest[:16]}.array_record"


def write_shard(path: Path, records: Iterable[bytes], files: Mapping[AudioFile, AudioInfo]) -> None:
    """Writes a shard and its manifest; `files` in the order of the records, as many as each has.

    Raises:
      OSError, RuntimeError: it cannot be written; nothing of it is left.
    """
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    writer = array_record_module.ArrayRecordWriter(str(temporary), _OPTIONS)
    try:
        for record in records:
            writer.write(record)
        writer.close()
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
    except (OSError, RuntimeError):
        temporary.unlink(missing_ok=True)  # it may have filled the disk
        raise
    write_manifest(path, files, temporary.stat().st_size)
    os.replace(temporary, path)


def manifest_path(shard: Path) -> Path:
    return shard.with_suffix(".json")


def write_manifest(shard: Path, files: Mapping[AudioFile, AudioInfo], size: int) -> None:
    """Writes what is in a shard of `size` bytes."""
    manifest = {
        "bytes": size,
        "files": [[*file, info.saved()] for file, info in files.items()],
    }
    write_whole(manifest_path(shard), json.dumps(manifest) + "\n")


def read_manifest(shard: Path) -> dict[AudioFile, AudioInfo]:
    """The files of a shard in the order of its records; none if it is not there or not whole."""
    path = manifest_path(shard)
    try:
        manifest = json.loads(path.read_bytes())
        files = {AudioFile(*file): _audio_info(info) for *file, info in manifest["files"]}
        return files if shard.stat().st_size == manifest["bytes"] else {}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        logging.warning("%s: damaged (%s); the clips of this shard are decoded again", path, error)
        return {}


def _audio_info(saved: Mapping[str, Any]) -> AudioInfo:
    """What a manifest holds of a file; TypeError if a value is of another kind."""
    info = AudioInfo(**saved)
    for name, kind in _KINDS.items():
        if not isinstance(value := getattr(info, name), kind):
            raise TypeError(f"{name} is {value!r}")
    return info


@dataclass(frozen=True)
class StoredClip:
    """Where the records of an audio file begin, and what is known of the file."""

    shard: Path
    position: int
    info: AudioInfo

    @property
    def records(self) -> range:
        """Their positions in the shard."""
        return range(self.position, self.position + self.info.clips)

    def read(self) -> bytes | None:
        """The records, joined; None, and a warning, if one is damaged."""
        found = _read(self.shard, self.records)
        if found is None:
            logging.warning("%s: damaged; what cannot be read is decoded again", self.shard)
            return None
        return b"".join(found)


def damaged_records(shard: Path, count: int, size: int) -> set[int]:
    """Positions, of a shard's `count` records, that do not hold `size` bytes of finite numbers."""

    def whole(positions: Sequence[int]) -> bool:
        found = _read(shard, positions)
        return found is not None and all(
            len(record) == size and np.isfinite(np.frombuffer(record, np.float16)).all()
            for record in found
        )

    if whole(range(count)):
        return set()
    return {position for position in range(count) if not whole([position])}


def _read(shard: Path, positions: Sequence[int]) -> list[bytes] | None:
    """Records of a shard; None if one of them cannot be read."""
    reader = array_record_module.ArrayRecordReader(str(shard))
    try:
        return reader.read(list(positions))
    except RuntimeError as error:
        _check_open_files(shard, error)
        return None
    finally:
        _close(reader)


class Records:
    """The records of shards, counted through all of them; read at random, by several threads.

    A shard that was read stays open until others have been: at most an eighth of as many as the
    process may have files open (``ulimit -n``), so that the five splits of a data set leave room.

    Raises:
      InputError: a shard cannot be opened, or, when it is read, its record is damaged.
    """

    def __init__(self, shards: Sequence[Path]):
        self._shards = list(shards)
        with ThreadPoolExecutor(_COUNTING) as pool:
            self._ends = list(accumulate(pool.map(_count, self._shards)))
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = None if most == resource.RLIM_INFINITY else max(most // 8, 1)
        # One that is dropped while another thread reads from it is closed when that has ended.
        self._reader = lru_cache(limit)(_opened)

    def __getitem__(self, record: int) -> bytes:
        number = bisect_right(self._ends, record)
        shard, first = self._shards[number], self._ends[number - 1] if number else 0
        try:
            return self._reader(shard).read([record - first])[0]
        except RuntimeError as error:
            raise _damage(shard, error) from error

    def __reduce__(self):
        return Records, (self._shards,)


def _opened(shard: Path) -> Any:
    """A reader of single records; RuntimeError if the shard cannot be opened."""
    reader = array_record_module.ArrayRecordReader(
        str(shard), "readahead_buffer_size:0", file_reader_buffer_size=32768
    )
    if not reader.ok():
        reader.close()  # it raises what opening has said
    return reader


def _count(shard: Path) -> int:
    """Records of a shard."""
    try:
        return _opened(shard).num_records()
    except RuntimeError as error:
        raise _damage(shard, error) from error


def _damage(shard: Path, error: RuntimeError) -> InputError:
    """Why a shard, or a record in it, cannot be read."""
    _check_open_files(shard, error)
    reason = "damaged" if shard.exists() else "missing"
    said = re.split(r"; | \(", str(error))[0]
    return InputError(
        f"{shard}: {reason} ({said}); jfsed-jax prepare --verify --data DIR "
        f"--features {shard.parents[1]} makes it anew, then the same command goes on"
    )


def _check_open_files(shard: Path, error: RuntimeError) -> None:
    """Refuses to take for damage that no more files can be opened; array_record has text alone."""
    if os.strerror(errno.EMFILE) in str(error):
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise InputError(
            f"{shard} cannot be opened: too many open files, of which this process may have "
            f"{most}; allow more with ulimit -n, then the same command goes on"
        ) from error


def _close(reader) -> None:
    with contextlib.suppress(RuntimeError):  # once more, what its last call has said
        reader.close()
