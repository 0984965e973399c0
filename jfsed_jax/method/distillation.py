"""Distillation of features: the maps of equation 2, distances between them, and their measures.

A small distance is not alignment: both maps can shrink, or become one direction. `measures` shows
it, and `Space` says what may move.

Axis letters: ``B`` clips, ``T`` frames, ``D`` features, ``E`` dimensions of the distillation space.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jfsed_jax.errors import InputError
from jfsed_jax.method import losses
from jfsed_jax.method.losses import Batch
from jfsed_jax.method.models import Output


class Compared(NamedTuple):
    """What a distance makes of two maps; a plain pair or triple serves as well.

    Attributes:
      value: <float32>[B] the distance, one value a clip.
      clips: <float32>[B] 1 for the clips over which it is averaged.
      frames: <float32>[B, T] 1 for the frames that it looks at, None for all; for `measures`.
    """

    value: jax.Array
    clips: jax.Array
    frames: jax.Array | None = None


# (teacher [B, T, E], student [B, T, E], batch) -> Compared
Distance = Callable[
    [jax.Array, jax.Array, Batch],
    Compared | tuple[jax.Array, jax.Array] | tuple[jax.Array, jax.Array, jax.Array],
]


def tfd(teacher, student, batch):
    """Target-event distillation, on strong clips (equation 1)."""
    labels = losses.pool_labels(batch["frame_labels"], student.shape[1])
    value = losses.target_event_distillation(teacher, student, labels)
    return Compared(value, batch["is_strong"], labels.max(-1))


def dfd_d(teacher, student, batch):
    """Euclidean distance of whole maps, on all clips."""
    return Compared(
        losses.feature_distillation(teacher, student), jnp.ones_like(batch["is_strong"])
    )


def dfd_d_weak_unlabelled(teacher, student, batch):
    """The same on weak and unlabelled clips only (system 7)."""
    return Compared(losses.feature_distillation(teacher, student), 1 - batch["is_strong"])


def dfd_mse(teacher, student, batch):
    """Mean squared error of whole maps, on all clips (system 4)."""
    return Compared(losses.mean_squared_error(teacher, student), jnp.ones_like(batch["is_strong"]))


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
# Whom a distance moves: both models and both maps; or the student and W_s alone.
GRADIENTS = ("both", "student")
TEACHER_MAPS = ("trained", "fixed")  # W_t: learnt with the rest, or as it was drawn
SCALES = ("literal", "standardised")  # the maps as they are, or `losses.standardised`


@dataclass(frozen=True)
class Space:
    """How features become the maps that the distances compare: a choice of each tuple above."""

    alignment: str = "repeat"
    gradient: str = "both"
    teacher_map: str = "trained"
    scale: str = "literal"

    @classmethod
    def of(cls, page) -> "Space":
        """That of a config's ``loss`` page; an `InputError` names a value that there is not."""
        choices = {
            "alignment": ALIGNMENTS,
            "distillation_gradient": GRADIENTS,
            "distillation_teacher_map": TEACHER_MAPS,
            "distillation_scale": SCALES,
        }
        for name, known in choices.items():
            if page[name] not in known:
                raise InputError(
                    f"config.loss.{name} is {page[name]!r}: expected one of {', '.join(known)}"
                )
        return cls(*(page[name] for name in choices))


LITERAL = Space()  # equation 2 as it is printed


def mapped(
    teacher: jax.Array,
    student: jax.Array,
    maps: Mapping[str, jax.Array],
    space: Space,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Both features in the distillation space, <float32>[B, T, E] each, as distances compare them.

    Args:
      teacher, student: <float32>[B, T', D] features, each with a T' and a D of its own.
      maps: ``W_t`` and ``W_s`` <float32>[D, E], see `distillation_maps`.
      space: how.
      axis_name: the mapped axis over which a batch is spread, if it is; `SCALES` depend on it.
    """
    if space.teacher_map == "fixed":
        maps = {**maps, "teacher": lax.stop_gradient(maps["teacher"])}
    of_teacher, of_student = aligned(teacher, student, maps, space.alignment)
    if space.scale == "standardised":
        of_teacher = losses.standardised(of_teacher, axis_name)
        of_student = losses.standardised(of_student, axis_name)
    if space.gradient == "student":
        of_teacher = lax.stop_gradient(of_teacher)
    return of_teacher, of_student


def aligned(teacher, student, maps, alignment) -> tuple[jax.Array, jax.Array]:
    """Both features [B, T', D] in the distillation space, [B, T, E] each; T is the student's T'
    unless the student is pooled."""
    own, shorter = student.shape[1], teacher.shape[1]
    project = losses.to_distillation_space
    mapped_s = project(student, maps["student"], own)
    if alignment == "repeat":
        return project(teacher, maps["teacher"], own), mapped_s
    mapped_t = project(teacher, maps["teacher"], shorter)
    if alignment == "interpolate":
        return losses.interpolate_frames(mapped_t, own), mapped_s
    return mapped_t, losses.pool_frames(mapped_s, shorter)


def measures(
    teacher: Output,
    student: Output,
    params: Mapping[str, Any],
    batch: Batch,
    axis_name: str | None = None,
    *,
    distillation: Sequence[Distilled],
    space: Space,
) -> dict[str, jax.Array]:
    """``distillation/NAME/...`` of each distance: the `compared_maps` of the frames it looks at.

    Args:
      teacher, student, params, batch, axis_name: see `objectives.Objective.measures`.
      distillation: the distances.
      space: how features become maps.
    """
    pair = mapped(teacher.features, student.features, params["distillation"], space, axis_name)
    found = {}
    for entry in distillation:
        _, clips, frames = Compared(*entry.distance(*pair, batch))
        counts = jnp.broadcast_to(clips[:, None] > 0, pair[0].shape[:2])
        if frames is not None:
            counts &= frames > 0
        for name, value in compared_maps(*pair, counts, axis_name).items():
            found[f"distillation/{entry.name}/{name}"] = value
    return found


def compared_maps(
    teacher: jax.Array, student: jax.Array, counts: jax.Array, axis_name: str | None = None
) -> dict[str, jax.Array]:
    """Whether two maps shrink, agree, or become one direction; 0 where no frame counts.

    Args:
      teacher, student: <float32>[B, T, E].
      counts: <bool>[B, T], the frames that count.
      axis_name: the mapped axis over which a batch is spread, if it is.

    Returns:
      Over the frames that count, on all devices, each <float32>[]:

      - ``teacher_norm``, ``student_norm``: the mean of the Euclidean norm of a frame.
      - ``relative_distance``: ``sqrt(mean |t - s|^2 / (mean |t|^2 + mean |s|^2))``, of any scale: 0
        for equal maps, 1 where t and s are at right angles on average, sqrt(2) for t = -s.
      - ``teacher_rank``, ``student_rank``: the `participation_ratio` of a map's covariance.
    """

    def mean(x):
        inside = jnp.where(counts.reshape(counts.shape + (1,) * (x.ndim - 2)), x, 0.0)
        return _over_devices(inside.sum((0, 1)), axis_name) / jnp.maximum(number, 1)

    number = _over_devices(counts.sum(), axis_name)
    found, powers = {}, {}
    for name, maps in (("teacher", teacher), ("student", student)):
        squares = (maps**2).sum(-1)
        found[f"{name}_norm"], powers[name] = mean(jnp.sqrt(squares)), mean(squares)
        # Centred before it is squared: once the variance is small, rounding would be the rest.
        centred = jnp.where(counts[..., None], maps - mean(maps), 0.0)
        scatter = jnp.einsum("bte,btf->ef", centred, centred)
        found[f"{name}_rank"] = participation_ratio(_over_devices(scatter, axis_name))
    power = powers["teacher"] + powers["student"]
    apart = mean(((teacher - student) ** 2).sum(-1))
    found["relative_distance"] = jnp.sqrt(apart / jnp.where(power > 0, power, 1.0))
    return found


def participation_ratio(covariance: jax.Array) -> jax.Array:
    """How many directions carry a variance: ``(tr C)^2 / tr(C^2)``, <float32>[E, E] -> [].

    1 for one direction, E for equal variances in all; a factor does not matter. 0 without variance.
    """
    trace = jnp.trace(covariance)
    shares = covariance / jnp.where(trace > 0, trace, 1.0)
    return jnp.where(trace > 0, 1 / jnp.maximum((shares**2).sum(), 1e-12), 0.0)


def _over_devices(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else lax.psum(x, axis_name)
