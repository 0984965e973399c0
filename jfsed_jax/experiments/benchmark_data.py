"""What both sides of the benchmark are given: one batch, waveforms, clips in memory.

Axis letters: ``B`` clips, ``T`` frames, ``N`` samples, ``F`` mel bands, ``C`` event classes.
"""

from typing import Any

import numpy as np

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.training.epochs import steps_in_epoch

CLASSES = 10
STEPS_PER_EPOCH = 450
# Clips of DCASE 2019 Task 4, the paper's data.
FULL_SET = {"weak": 1578, "unlabelled": 14412, "strong": 2045}


def make_batch(config, front_end: FrontEnd, size: int) -> dict[str, np.ndarray]:
    """Noise with the level of a log-mel, of each kind the config's share, and some labels.

    Returns:
      ``mel`` <float16>[B, T, F], ``clip_labels`` <float32>[B, C], ``frame_labels``
      <uint8>[B, T, C], ``is_weak`` and ``is_strong`` <float32>[B].
    """
    rng = np.random.default_rng(0)
    shares = np.cumsum([config.batch.weak, config.batch.unlabelled, config.batch.strong])
    kind = np.searchsorted(shares / shares[-1], (np.arange(size) + 0.5) / size)
    frames = front_end.num_frames
    frame_labels = np.zeros((size, frames, CLASSES), np.uint8)
    frame_labels[kind == 2, frames // 4 : frames // 2, 1] = 1
    return {
        "mel": rng.normal(-5, 2, (size, frames, front_end.n_mels)).astype(np.float16),
        "clip_labels": (rng.random((size, CLASSES)) < 0.2).astype(np.float32),
        "frame_labels": frame_labels,
        "is_weak": (kind == 0).astype(np.float32),
        "is_strong": (kind == 2).astype(np.float32),
    }


def make_waveforms(front_end: FrontEnd, size: int) -> np.ndarray:
    """Noise, <float32>[B, N]."""
    noise = np.random.default_rng(0).normal(0, 0.1, (size, front_end.num_samples))
    return noise.astype(np.float32)


def full_epoch(config) -> int:
    """Steps of an epoch over `FULL_SET`, without what the config holds out of it."""
    held_out = config.evaluation.holdout if config.evaluation.select_on == "holdout" else 0.0
    counts = {
        kind: clips if kind == "unlabelled" else clips - round(held_out * clips)
        for kind, clips in FULL_SET.items()
    }
    return steps_in_epoch(config, counts)


class ClipsInMemory:
    """As many clips as DCASE 2019 has weak ones, for the input pipeline: 16, over and over."""

    def __init__(self, front_end: FrontEnd):
        rng = np.random.default_rng(0)
        shape = (front_end.num_frames, front_end.n_mels)
        self._mels = [rng.normal(-5, 2, shape).astype(np.float16) for _ in range(16)]
        self.filenames = [f"{i}.wav" for i in range(FULL_SET["weak"])]

    def __len__(self) -> int:
        return len(self.filenames)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {
            "mel": self._mels[i % len(self._mels)],
            "clip_labels": np.zeros(CLASSES, np.float32),
            "onsets": np.array([0.5, 3.0, 8.0]),
            "offsets": np.array([2.0, 9.5, 8.4]),
            "labels": np.array([1, 4, 9], np.int32),
        }
