"""Shards: array_record files of log-mel, and beside each a manifest of what is in it.

A shard never changes: its name contains a digest of the audio files (path, size, modification time)
that it was made from. It is written under another name, synced and renamed when complete, so a
shard that has its name was whole when it got it. array_record keeps a hash of each record, which is
compared when the record is read: damage on the disk is noticed then, and never becomes a feature.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    for name, kind in get_type_hints(AudioInfo).items():
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
    except RuntimeError:
        return None
    finally:
        _close(reader)


def damage(shards: Sequence[Path], record: int | None, error: Exception) -> InputError:
    """Why clips cannot be read; names the shard.

    Args:
      shards: in order.
      record: which one was asked for, counted through all shards; None if they could not be opened.
      error: array_record's.
    """
    first, where = 0, shards[0]
    for shard in shards:
        found = _count(shard)
        if found is None or (record is not None and record < first + found):
            where = shard
            break
        first += found
    reason = "damaged" if where.exists() else "missing"
    said = re.split(r"; | \(", str(error))[0]
    return InputError(
        f"{where}: {reason} ({said}); jfsed-jax prepare --verify --data DIR "
        f"--features {where.parents[1]} makes it anew, then the same command goes on"
    )


def _count(shard: Path) -> int | None:
    """Records of a shard; None if it cannot be opened."""
    reader = array_record_module.ArrayRecordReader(str(shard))
    found = reader.num_records() if reader.ok() else None
    _close(reader)
    return found


def _close(reader) -> None:
    with contextlib.suppress(RuntimeError):  # once more, what its last call has said
        reader.close()
