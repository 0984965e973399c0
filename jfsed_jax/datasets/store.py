"""The features of a data folder: written once, in shards, and read at random.

Each run keeps every shard that is still right, copies unchanged records out of those that are not,
and decodes only what is new or has changed, or what is damaged. Labels are not in the shards: they
are read from the metadata each time, so correcting a label decodes nothing.
"""

import errno
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from absl import logging

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets import extraction, shards
from jfsed_jax.datasets.extraction import AudioFile, AudioInfo, Decoder
from jfsed_jax.datasets.shards import StoredClip
from jfsed_jax.errors import InputError

# A shard is full at so many files, or, where they are longer than a clip, so many bytes: what goes
# into it is in memory until it is written.
SHARD_CLIPS = 128
SHARD_BYTES = 64_000_000


@dataclass(frozen=True)
class Extracted:
    """The features of one split.

    Attributes:
      shards: shard paths in order.
      positions: per decoded file its first record, counted through all shards.
      info: per decoded file what is known of it.
      errors: per file that could not be used, why.
    """

    shards: list[Path]
    positions: dict[AudioFile, int]
    info: dict[AudioFile, AudioInfo]
    errors: dict[AudioFile, str]

    @property
    def num_records(self) -> int:
        """Of all shards."""
        return sum(info.clips for info in self.info.values())


class Store:
    """The shards of a features folder."""

    def __init__(self, directory: Path, data_dir: Path, front_end: FrontEnd):
        self.directory = directory
        self.data_dir = data_dir
        self.front_end = front_end
        self.record_bytes = front_end.num_frames * front_end.n_mels * 2

    def extract(
        self,
        splits: Mapping[str, Sequence[AudioFile]],
        *,
        workers: int,
        progress: Callable[[int, int], Any],
        verify: bool = False,
    ) -> dict[str, Extracted]:
        """Brings every split's shards up to date.

        Args:
          splits: the audio files of each split, in the order their records shall have.
          workers: processes that decode; 1 decodes here.
          progress: called with (decoded, to decode) as clips are done.
          verify: read every record that is there, and make anew what is damaged.
        """
        known = {name: self._known(name, verify) for name in splits}
        pending = [
            file for name, files in splits.items() for file in files if file not in known[name]
        ]
        self._check_space(len(pending))
        result = {}
        with Decoder(self.data_dir, self.front_end, pending, workers) as decoded:
            outcomes = _counted(decoded, len(pending), progress)
            for name, files in splits.items():
                extracted = result[name] = Extracted([], {}, {}, {})
                todo, number = deque(files), 0
                while todo:
                    self._bring(name, number, todo, known[name], outcomes, extracted, workers)
                    number += 1
        return result

    def superseded(self, keep: Iterable[Path]) -> list[Path]:
        """Shards that nothing refers to any more, and what killed runs left."""
        wanted = {path for shard in keep for path in (shard, shards.manifest_path(shard))}
        found = [
            path for path in self.directory.glob("*/*") if re.fullmatch(shards.NAMES, path.name)
        ]
        found += self.directory.glob(".*.tmp")
        return [path for path in found if path not in wanted]

    def _known(self, split: str, verify: bool) -> dict[AudioFile, StoredClip]:
        """What is stored of a split. With `verify`, a damaged shard loses its manifest."""
        found: dict[AudioFile, StoredClip] = {}
        for shard in sorted((self.directory / split).glob("*.array_record")):
            stored, count = {}, 0
            for file, info in shards.read_manifest(shard).items():
                stored[file] = StoredClip(shard, count, info)
                count += info.clips
            damaged = set()
            if verify:
                damaged = shards.damaged_records(shard, count, self.record_bytes)
            if damaged:
                logging.warning("%s: damaged clips, made anew: %d", shard, len(damaged))
                shards.manifest_path(shard).unlink()
            for file, known in stored.items():
                # Earlier versions kept the first clip of a longer recording alone.
                whole = known.info.clips == extraction.num_clips(
                    known.info.duration, self.front_end
                )
                if whole and damaged.isdisjoint(known.records):
                    found[file] = known
        return found

    def _bring(
        self,
        split: str,
        number: int,
        todo: deque[AudioFile],
        known: Mapping[AudioFile, StoredClip],
        outcomes: Iterator[extraction.Outcome],
        extracted: Extracted,
        threads: int,
    ) -> None:
        """Adds the next shard to `extracted`; written unless it is there.

        Args:
          todo: the split's files that are in no shard yet; those of this one are taken from it.
          known: what is stored of the split.
          outcomes: of decoding the others, in order.
          threads: that read files at once.
        """
        fresh: dict[AudioFile, bytes] = {}
        info: dict[AudioFile, AudioInfo] = {}

        def take(file: AudioFile, outcome: extraction.Outcome) -> None:
            if isinstance(outcome, str):
                extracted.errors[file] = outcome
                info.pop(file, None)
            else:
                fresh[file], info[file] = outcome

        # Files of one clip are counted, however large their records are.
        count, room = SHARD_CLIPS, max(SHARD_BYTES, SHARD_CLIPS * self.record_bytes)
        while todo and count and room > 0:
            file, count = todo.popleft(), count - 1
            if file in known:
                info[file] = known[file].info
            else:
                take(file, next(outcomes))
            if file in info:
                room -= info[file].clips * self.record_bytes
        self._complete(info, threads)
        folder = self.directory / split
        path = shards.shard_path(folder, number, info)
        found = shards.read_manifest(path)
        if not found:
            for file in [file for file in info if file not in fresh]:
                record = known[file].read()
                if record is not None:
                    fresh[file] = record
                else:
                    take(file, extraction.decode(self.data_dir / file.path, self.front_end))
            path = shards.shard_path(folder, number, info)
        if not info:
            return
        try:
            if not found:
                folder.mkdir(parents=True, exist_ok=True)
                shards.write_shard(path, self._records(fresh[file] for file in info), info)
            elif found != info:
                shards.write_manifest(path, info, path.stat().st_size)
        except (OSError, RuntimeError) as error:
            raise self._cannot_write(error) from error
        first = 0
        if extracted.positions:
            last = next(reversed(extracted.positions))
            first = extracted.positions[last] + extracted.info[last].clips
        for file in info:
            extracted.positions[file] = first
            first += info[file].clips
        extracted.info.update(info)
        extracted.shards.append(path)

    def _records(self, joined: Iterable[bytes]) -> Iterator[bytes]:
        """The records of files, one by one."""
        for records in joined:
            for first in range(0, len(records), self.record_bytes):
                yield records[first : first + self.record_bytes]

    def _complete(self, info: dict[AudioFile, AudioInfo], threads: int) -> None:
        """Fills in the digests of files whose features an earlier version made, which kept none."""
        without = [file for file, known in info.items() if not known.digest]
        if not without:
            return
        with ThreadPoolExecutor(threads) as pool:
            paths = [self.data_dir / file.path for file in without]
            for file, digest in zip(without, pool.map(extraction.digest_of, paths), strict=True):
                info[file] = replace(info[file], digest=digest)

    def _check_space(self, num_clips: int) -> None:
        size = num_clips * self.record_bytes
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


def _counted(
    outcomes: Iterator[extraction.Outcome], total: int, progress: Callable[[int, int], Any]
) -> Iterator[extraction.Outcome]:
    for done, outcome in enumerate(outcomes, 1):
        progress(done, total)
        yield outcome
