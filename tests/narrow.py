"""Configs at `:tiny` with models of two blocks and one GRU layer, which compile in half the time.

For tests that train, but of which no statement depends on the models: ``--config
tests/narrow.py:pts`` on a command line, `narrow` on a config.
"""

import json
import os

import flax.linen as nn
import jax
import numpy as np

import jfsed_jax as jf
from jfsed_jax.kernels.dropout import Dropout
from jfsed_jax.method.augmentation import augment
from jfsed_jax.method.models import Output


def narrow(config):
    """The config; of its models those that are CRNNs are small, with the same frame rates."""
    few = dict(filters=(4, 4), kernels=(3, 3), convs=(1, 1), gru_layers=1)
    if "teacher" in config:
        # The largest of so many values makes a long program.
        config.teacher.update(few, pools=((10, 8), (10, 4)), pooling="mean")
    if config.student.architecture == "CRNN":
        config.student.update(few, pools=((1, 8), (1, 8)))
    return config


class Linear(nn.Module):
    """A student of one layer, which compiles in no time."""

    classes: int
    time_stride: int = 1

    @nn.compact
    def __call__(self, mel, train: bool = False) -> Output:
        frames = nn.sigmoid(nn.Dense(self.classes)(mel / 10))
        return Output(frames.mean(axis=1), frames, mel)


class Random(nn.Module):
    """A student of little more, with statistics of the batch and with dropout."""

    classes: int
    axis_name: str | None = None
    time_stride: int = 1

    @nn.compact
    def __call__(self, mel, train: bool = False) -> Output:
        x = nn.BatchNorm(not train, axis_name=self.axis_name if train else None)(mel)
        x = Dropout(0.3, self.axis_name)(x, train)
        frames = nn.sigmoid(nn.Dense(self.classes)(x))
        return Output(frames.mean(axis=1), frames, mel)


def spied(key, batch, *, axis_name, **options):
    """The package's augmentation; what a device hears is appended to a file that CLIPS_HEARD names.

    A clip is known by the first values of its log-mel.
    """
    jax.debug.callback(_note, batch["mel"][:, 0, :3])
    return augment(key, batch, axis_name=axis_name, **options)


def _note(values):
    with open(os.environ["CLIPS_HEARD"], "a") as file:
        file.write(json.dumps(np.asarray(values, np.float64).tolist()) + "\n")


def get_config(name: str):
    """The config NAME of the package; ``linear`` is system ``supervised`` with a `Linear`, and
    ``random`` with a `Random`, mixed clips and plain SGD, which does not amplify rounding.
    """
    if name == "random":
        config = jf.load_config("supervised:tiny")
        config.student = dict(architecture="narrow:Random", time_stride=1)
        config.augmentation.update(function="narrow:spied", mix=1.0)
        config.optimiser.name = "sgd"
        config.optimiser.learning_rate = 0.05
        return config
    if name == "linear":
        config = jf.load_config("supervised:tiny")
        config.student = dict(architecture="narrow:Linear", time_stride=1)
        return config
    return narrow(jf.load_config(f"{name}:tiny"))
