"""A prepared data set as the rest of the system sees it: clips at random, labels in memory.

Axis letters: ``T`` frames, ``F`` mel bands, ``C`` event classes, ``N`` events of a clip.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets.extraction import AudioInfo, clip_start
from jfsed_jax.datasets.features_folder import PREPARED, Reader
from jfsed_jax.datasets.shards import Records
from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event, cut_events

SPLITS = ("weak", "unlabel_in_domain", "synthetic", "validation", "eval")


class Clip(NamedTuple):
    """One clip of a split: its name in the metadata, its record, its labels.

    Attributes:
      filename: as the metadata names it; clips of one recording share it.
      record: position in the split's shards.
      info: what the audio file is like.
      labels: the classes that occur in it; empty if unlabelled.
      origins: the recordings that it was mixed from; empty where ``sources.tsv`` names none.
      start: seconds at which it begins in its recording.
    """

    filename: str
    record: int
    info: AudioInfo
    labels: tuple[str, ...]
    origins: tuple[str, ...] = ()
    start: float = 0.0


class ClipSet:
    """The clips of one split: a random-access source (of grain, or by itself).

    Item i is a dict:
      filename: str, as the metadata names the clip.
      mel: <float16>[T, F] log-mel.
      clip_labels: <float32>[C], 1 where the class occurs; zeros if unlabelled.
      onsets, offsets: <float64>[N] seconds in the clip; labels: <int32>[N] class indices. N is 0
        for clips that are weakly labelled or not at all.

    Attributes:
      filenames: of the clips, in order.
      events: strong labels as cleaned for training: cut to the audio, overlaps of a class merged.
        Times are those of the recording, also where it has several clips.
      reference: strong labels as published, for scoring.
      durations: seconds of each clip's audio file, by file name.
      clips: what is known of each clip.
      front_end: what the features were made with.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        clips: Sequence[Clip],
        *,
        events: Sequence[Event],
        reference: Sequence[Event],
        classes: Sequence[str],
        front_end: FrontEnd,
        reader: Reader | None = None,
    ):
        self.clips = list(clips)
        self.events = list(events)
        self.reference = list(reference)
        self.filenames = [clip.filename for clip in clips]
        self.durations = {clip.filename: clip.info.duration for clip in clips}
        self.front_end = front_end
        self._shape = (front_end.num_frames, front_end.n_mels)
        self._index = {label: i for i, label in enumerate(classes)}
        self._events = _by_clip(events)
        self._reader = reader  # held while these clips may be read
        self._records = Records(shards)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[int(index)]
        mel = np.frombuffer(self._records[clip.record], np.float16).reshape(self._shape)
        events = self._events.get(clip.filename, ())
        own = cut_events(events, clip.start, clip.start + clip_start(1, self.front_end))
        return make_item(clip, own, mel, self._index)

    def digest(self) -> str:
        """SHA-256 of what the clips are, in hex; see `Prepared.digests`."""
        events = _by_clip(self.reference)  # those of training follow from them
        whole = hashlib.sha256()
        for clip in self.clips:
            name = clip.filename
            # Of audio that an earlier version decoded, and that is gone, its length and level.
            audio = clip.info.digest or list(clip.info.saved().values())
            labels = sorted(clip.labels), sorted(events.get(name, ()))
            saved = json.dumps([name, audio, *labels, sorted(clip.origins)])
            whole.update(saved.encode() + b"\n")
        return whole.hexdigest()

    def __repr__(self) -> str:
        # grain names its sources by this when it checks a restored position.
        return f"ClipSet({len(self)} clips)"


def _by_clip(events: Sequence[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.filename, []).append(event)
    return found


def make_item(
    clip: Clip, events: Sequence[Event], mel: np.ndarray, index: Mapping[str, int]
) -> dict[str, Any]:
    """The item of one clip (see `ClipSet`); `index` numbers the classes."""
    clip_labels = np.zeros(len(index), np.float32)
    clip_labels[[index[label] for label in clip.labels]] = 1
    return {
        "filename": clip.filename,
        "mel": mel,
        "clip_labels": clip_labels,
        "onsets": np.array([event.onset for event in events], np.float64),
        "offsets": np.array([event.offset for event in events], np.float64),
        "labels": np.array([index[event.event_label] for event in events], np.int32),
    }


class Prepared(NamedTuple):
    """A prepared data set.

    Attributes:
      directory: where the features are.
      data: the name of the data folder.
      classes: C labels, in the order of the class axis.
      front_end: what the features were made with.
      splits: by name (`SPLITS`); a split without metadata is absent.
      summary: per split the counts that `prepare` prints.
      conventions: what the folder's layout was recognised as.
    """

    directory: Path
    data: str
    classes: tuple[str, ...]
    front_end: FrontEnd
    splits: dict[str, ClipSet]
    summary: dict[str, dict[str, int]]
    conventions: list[str]

    def digests(self) -> dict[str, str]:
        """What the data are, for a run to compare when it goes on: per split a digest in hex.

        Of the clips' names in order, their weak labels, their strong ones as published, the
        recordings that they were mixed from, and the bytes of each audio file. Where the files are,
        their times, and how features are made and stored do not enter.
        """
        return {name: clips.digest() for name, clips in self.splits.items()}


def load(directory: str | Path) -> Prepared:
    """Opens a features folder that `prepare` has finished; needs neither audio nor metadata.

    Raises:
      InputError: it has not, or what it left is damaged.
    """
    directory = Path(directory)
    reader = Reader(directory)  # first: what is named from here on stays
    path = directory / PREPARED
    try:
        saved = json.loads(path.read_bytes())
        front_end = FrontEnd(**saved["front_end"])
        splits = {
            name: _clip_set(directory, reader, split, saved["classes"], front_end)
            for name, split in saved["splits"].items()
        }
        return Prepared(
            directory=directory,
            data=saved["data"],
            classes=tuple(saved["classes"]),
            front_end=front_end,
            splits=splits,
            summary=saved["summary"],
            conventions=saved["conventions"],
        )
    except FileNotFoundError:
        raise InputError(f"{directory} holds no prepared features; run jfsed-jax prepare") from None
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({error}); run jfsed-jax prepare, which writes it anew"
        ) from error


def _clip_set(
    directory: Path, reader: Reader, split: dict, classes: Sequence[str], front_end: FrontEnd
) -> ClipSet:
    """A split as ``prepared.json`` has it."""
    return ClipSet(
        [directory / shard for shard in split["shards"]],
        [_clip(*row) for row in split["clips"]],
        events=[Event(*event) for event in split["events"]],
        reference=[Event(*event) for event in split["reference"]],
        classes=classes,
        front_end=front_end,
        reader=reader,
    )


def _clip(filename: str, record: int, info, labels, origins=(), start: float = 0.0) -> Clip:
    """A row of ``clips``; a folder of version 0.2 names no origins, a recording of one clip no
    start."""
    return Clip(filename, record, AudioInfo(*info), tuple(labels), tuple(origins), start)
