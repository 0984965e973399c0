"""Configs at `:tiny` with models of two blocks and one GRU layer, which compile in half the time.

For tests that train, but of which no statement depends on the models: ``--config
tests/narrow.py:pts`` on a command line, `narrow` on a config.
"""

import flax.linen as nn

import jfsed_jax as jf
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


def get_config(name: str):
    """The config NAME of the package; ``linear`` is system ``supervised`` with a `Linear`."""
    if name == "linear":
        config = jf.load_config("supervised:tiny")
        config.student = dict(architecture="narrow:Linear", time_stride=1)
        return config
    return narrow(jf.load_config(f"{name}:tiny"))
