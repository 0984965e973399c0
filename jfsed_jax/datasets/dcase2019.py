"""DCASE 2019 Task 4 as a TFDS builder, ``dcase2019_task4``; no TensorFlow is needed.

The audio cannot be downloaded by a program, so it is taken from `manual_dir`, a folder in the
layout of `folder.TREE`. Validation, extraction and the treatment of flawed labels are those of
`folder` and `preparation`; the items are those of `clips.ClipSet`.

On one machine the builder prepares the folder with all cores (an interrupted build goes on) and
copies the result. With ``beam=True`` it returns Beam transforms instead, which decode on the
workers of any runner:

    builder = Dcase2019Task4(data_dir="gs://BUCKET/tfds", beam=True)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
        manual_dir="/mnt/dcase2019", beam_runner="DataflowRunner", beam_options=options))

Every worker must see `manual_dir` at that path. Through Beam a set is built by itself: the clips of
a long weak recording whose labels do not say when are in none, and not unlabelled ones.

Axis letters: ``T`` frames, ``F`` mel bands, ``C`` event classes, ``N`` events of a clip.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.configs import base, guided_learning, mean_teacher
from jfsed_jax.datasets import folder, preparation
from jfsed_jax.datasets.clips import Clip, make_item
from jfsed_jax.datasets.extraction import AudioInfo, clip_start, extract_clips
from jfsed_jax.datasets.joining import join
from jfsed_jax.datasets.listing import ListedSplit
from jfsed_jax.datasets.store import Extracted
from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import DCASE2019_CLASSES, Event, cut_events


@dataclasses.dataclass(kw_only=True)
class FrontEndConfig(tfds.core.BuilderConfig):
    """A build of the data set with one front end."""

    front_end: FrontEnd


class Dcase2019Task4(tfds.core.GeneratorBasedBuilder):
    """Sound event detection in domestic environments (DCASE 2019 Task 4, DESED)."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"manual_dir holds audio and metadata:\n{folder.TREE}"
    BUILDER_CONFIGS = [
        FrontEndConfig(
            name="pts",
            description="600 frames: the paper's front end.",
            front_end=FrontEnd(**base.get_config().front_end),
        ),
        FrontEndConfig(
            name="guided_learning",
            description="500 frames.",
            front_end=FrontEnd(**guided_learning.get_config().front_end),
        ),
        FrontEndConfig(
            name="mean_teacher",
            description="864 frames: the front end of the DCASE 2019 baseline.",
            front_end=FrontEnd(**mean_teacher.get_config().front_end),
        ),
    ]

    def __init__(self, *, beam: bool = False, **kwargs: Any):
        """`beam` returns Beam transforms; the other arguments are those of every builder."""
        self._beam = beam
        super().__init__(file_format=kwargs.pop("file_format", "array_record"), **kwargs)

    @property
    def front_end(self) -> FrontEnd:
        return self.builder_config.front_end

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (self.front_end.num_frames, self.front_end.n_mels)
        return tfds.core.DatasetInfo(
            builder=self,
            description="10 s clips of domestic sounds: log-mel, weak and strong labels.",
            features=tfds.features.FeaturesDict(
                {
                    "filename": tfds.features.Text(),
                    # As bytes a clip is written ten times as fast as number by number.
                    "mel": tfds.features.Tensor(shape=shape, dtype=np.float16, encoding="bytes"),
                    "clip_labels": tfds.features.Tensor(
                        shape=(len(DCASE2019_CLASSES),), dtype=np.float32
                    ),
                    "onsets": tfds.features.Tensor(shape=(None,), dtype=np.float64),
                    "offsets": tfds.features.Tensor(shape=(None,), dtype=np.float64),
                    "labels": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                }
            ),
            homepage="https://dcase.community/challenge2019/task-sound-event-detection-in-domestic-environments",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        data_dir = Path(dl_manager.manual_dir)
        if self._beam:
            listed = folder.read_folder(data_dir, DCASE2019_CLASSES)
            return {name: self._transform(data_dir, split) for name, split in listed.splits.items()}
        prepared = preparation.prepare(data_dir, self.front_end, classes=DCASE2019_CLASSES)
        return {name: self._generate_examples(clips) for name, clips in prepared.splits.items()}

    def _generate_examples(self, clips) -> Iterator[tuple[str, dict[str, Any]]]:
        for i in range(len(clips)):
            yield _key(clips.clips[i]), clips[i]

    def _transform(self, data_dir: Path, split: ListedSplit):
        import apache_beam as beam

        events: dict[str, list[tuple[int, Event]]] = {}
        for row, event in split.events:
            events.setdefault(event.filename, []).append((row, event))
        parts = [
            dataclasses.replace(
                split, clips=[clip], events=events.get(clip.filename, []), problems=[]
            )
            for clip in split.clips
            if clip.audio
        ]
        return (
            f"{split.name} clips" >> beam.Create(parts)
            | f"{split.name} over the workers" >> beam.Reshuffle()
            | f"{split.name} features" >> beam.FlatMap(_example, data_dir, self.front_end)
        )


def _key(clip: Clip) -> str:
    return f"{clip.filename}@{clip.start:g}" if clip.start else clip.filename


def _example(
    part: ListedSplit, data_dir: Path, front_end: FrontEnd
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The examples of a split of one recording; none, counted, if it cannot be used."""
    import apache_beam as beam

    (listed,) = part.clips
    assert listed.audio is not None
    extracted = Extracted([], {listed.audio: 0}, {}, {})
    mels = np.zeros(0)
    try:
        mels, extracted.info[listed.audio] = extract_clips(data_dir / listed.audio.path, front_end)
    except InputError as error:
        extracted.errors[listed.audio] = str(error)
    saved, counts = join(part, extracted, front_end)
    for name, count in counts.items():
        beam.metrics.Metrics.counter(part.name, name).inc(count)
    for filename, record, info, labels, _, *start in saved["clips"]:
        clip = Clip(filename, record, AudioInfo(*info), tuple(labels), (), *start)
        events = cut_events(saved["events"], clip.start, clip.start + clip_start(1, front_end))
        index = {label: i for i, label in enumerate(DCASE2019_CLASSES)}
        yield _key(clip), make_item(clip, events, mels[record], index)


_CITATION = """\
@inproceedings{turpault2019sound,
  title={Sound event detection in domestic environments with weakly labeled data and soundscape
         synthesis},
  author={Turpault, Nicolas and Serizel, Romain and Salamon, Justin and Shah, Ankit Parag},
  booktitle={Workshop on Detection and Classification of Acoustic Scenes and Events},
  year={2019}
}"""
