"""Data sets: a folder of audio and labels becomes clips of features, once."""

from jfsed_jax.datasets.clips import ClipSet, Prepared, load
from jfsed_jax.datasets.preparation import prepare

__all__ = ["ClipSet", "Prepared", "load", "prepare"]
