"""A `Detector` made by hand, whose posteriors are what a test says, and clips of known log-mel."""

from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import ml_collections
import numpy as np
from defaults import front_end

from jfsed_jax.config_files import load_config
from jfsed_jax.inference.detector import Detector
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.method.models import Output
from jfsed_jax.method.system import Models
from jfsed_jax.runs.workdir import Workdir

CLASSES = ("Cat", "Dog")
WINDOWS = {"avg": [1, 1], "fixed": [5, 5], "esp": [3, 3]}  # the config's rule is avg


class ByMel(nn.Module):
    """The log-mel's first two bands are the posteriors, a frame in `stride` of them."""

    stride: int = 1

    def __call__(self, mel, train=False):
        frames = mel[:, :: self.stride, :2].astype(jnp.float32)
        return Output(frames.max(axis=1), frames, frames)


def by_mel(variables, mel) -> Posteriors:
    """The log-mel's bands are the frame posteriors, the tags are their maxima over time."""
    frames = np.asarray(mel, np.float32)
    return Posteriors(frames.max(axis=1), frames)


def constant(clip, frames):
    """Posteriors that are the same for all clips: ``clip`` [C], ``frames`` [T, C]."""

    def posteriors(variables, mel) -> Posteriors:
        return Posteriors(
            np.tile(np.float32(clip), (len(mel), 1)), np.tile(np.float32(frames), (len(mel), 1, 1))
        )

    return posteriors


def make_detector(
    workdir, posteriors_of=by_mel, *, num_frames=20, stride=1, k=0, meta=None, **changes: Any
) -> Detector:
    """A detector of clips of `num_frames` frames, 60 a second.

    `k` is the number of its seed; `changes` are of the config.
    """
    config = load_config("pts:tiny")
    config.update_from_flattened_dict(changes)
    return Detector(
        workdir=Workdir(workdir),
        config=ml_collections.FrozenConfigDict(config),
        meta={
            "windows": WINDOWS,
            "durations": {label: [1.0] for label in CLASSES},
            "frame_rate": 60 / stride,
            "steps_per_epoch": 10,
            **(meta or {}),
        },
        front_end=front_end(clip_seconds=num_frames / 60),
        classes=CLASSES,
        step=20,
        seed=k,
        model="student",
        tags="student",
        models=Models(None, ByMel(stride)),
        variables={"teacher": {}, "student": {}},
        posteriors_of=posteriors_of,
    )


class StubClips:
    """Clips whose log-mel are known; as a `clips.ClipSet` otherwise.

    `events` are those of training, where they are not the published ones.
    """

    def __init__(self, mels, reference=(), labels=None, events=None):
        self.mels = [np.asarray(mel, np.float16) for mel in mels]
        self.filenames = [f"{i}.wav" for i in range(len(self.mels))]
        self.reference = list(reference)
        self.events = self.reference if events is None else list(events)
        self.labels = np.zeros((len(self.mels), 2)) if labels is None else np.asarray(labels)

    def __len__(self):
        return len(self.mels)

    def __getitem__(self, i):
        return {"mel": self.mels[i], "clip_labels": self.labels[i].astype(np.float32)}


def make_prepared(**splits: StubClips) -> Any:
    """What `evaluate` and `validate` ask of a `clips.Prepared`."""
    return SimpleNamespace(
        data="stub",
        classes=CLASSES,
        splits=splits,
        summary={name: {"listed": len(clips)} for name, clips in splits.items()},
    )


def active(num_frames, *runs, label=0, level=0.9):
    """A clip <float>[T, 2] where one class has `level` in each run ``(start, stop)``."""
    mel = np.zeros((num_frames, 2))
    for start, stop in runs:
        mel[start:stop, label] = level
    return mel
