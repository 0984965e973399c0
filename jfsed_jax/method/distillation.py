"""Distillation of features: the maps of equation 2 and the distances between them.

Axis letters: ``B`` clips, ``T`` frames, ``D`` features, ``E`` dimensions of the distillation space.
"""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from jfsed_jax.method import losses
from jfsed_jax.method.losses import Batch
from jfsed_jax.method.models import Output

# Distillation: (teacher [B, T, E], student [B, T, E], batch) -> distance [B], its clips [B].
Distance = Callable[[jax.Array, jax.Array, Batch], tuple[jax.Array, jax.Array]]


def tfd(teacher, student, batch):
    """Target-event distillation, on strong clips (equation 1)."""
    labels = losses.pool_labels(batch["frame_labels"], student.shape[1])
    return losses.target_event_distillation(teacher, student, labels), batch["is_strong"]


def dfd_d(teacher, student, batch):
    """Euclidean distance of whole maps, on all clips."""
    return losses.feature_distillation(teacher, student), jnp.ones_like(batch["is_strong"])


def dfd_d_weak_unlabelled(teacher, student, batch):
    """The same on weak and unlabelled clips only (system 7)."""
    return losses.feature_distillation(teacher, student), 1 - batch["is_strong"]


def dfd_mse(teacher, student, batch):
    """Mean squared error of whole maps, on all clips (system 4)."""
    return losses.mean_squared_error(teacher, student), jnp.ones_like(batch["is_strong"])


DISTANCES: dict[str, Distance] = {
    "tfd": tfd,
    "dfd_d": dfd_d,
    "dfd_d_weak_unlabelled": dfd_d_weak_unlabelled,
    "dfd_mse": dfd_mse,
}


@dataclass(frozen=True)
class Distilled:
    """A distance that distillation minimises: its name in the log, the function, its weight."""

    name: str
    distance: Distance
    weight: float  # times beta


def distillation_maps(key: jax.Array, teacher: Output, student: Output, *, dims: int) -> dict:
    """First values of the bias-free maps of equation 2: <float32>[D, E] of each model."""
    lecun = nn.initializers.lecun_normal()
    keys = jax.random.split(key, 4)[2:]
    return {
        "distillation": {
            name: lecun(own, (output.features.shape[-1], dims))
            for name, own, output in zip(
                ("teacher", "student"), keys, (teacher, student), strict=True
            )
        }
    }


# How the two maps of equation 2 get the same frames: the teacher's frame repeated over the
# student's that it covers, or interpolated between; or the student's pooled to the teacher's.
ALIGNMENTS = ("repeat", "interpolate", "pool")


def aligned(teacher, student, maps, alignment) -> tuple[jax.Array, jax.Array]:
    """Both features [B, T', D] in the distillation space, [B, T, E] each; T is the student's T'
    unless the student is pooled."""
    own, shorter = student.shape[1], teacher.shape[1]
    mapped = losses.to_distillation_space
    mapped_s = mapped(student, maps["student"], own)
    if alignment == "repeat":
        return mapped(teacher, maps["teacher"], own), mapped_s
    mapped_t = mapped(teacher, maps["teacher"], shorter)
    if alignment == "interpolate":
        return losses.interpolate_frames(mapped_t, own), mapped_s
    return mapped_t, losses.pool_frames(mapped_s, shorter)
