"""The losses of the paper, equations 1 to 4, a function each (sections 2.2 and 2.3).

Equations 5 and 6 sum them: `objectives.joint_terms`.

Axis letters: ``B`` clips, ``T`` frames of the input, ``T'`` frames of a model, ``C`` event
classes, ``D`` features, ``E`` dimensions of the distillation space.

A loss of a subset of the clips is ``sum(mask * x) / max(sum(mask), 1)`` over the whole batch: with
``axis_name`` the count is summed over the devices, so that the *sum* over devices of what this
returns is the loss, and a batch without such clips contributes exactly 0.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Batch = dict[str, jax.Array]  # arrays by name, see `step.train_step`

# log(1e-7) = -16.1: finite, and further out than a float32 sigmoid can tell from 0 or 1.
_SMALLEST = 1e-7


def masked_mean(x: jax.Array, mask: jax.Array, axis_name: str | None = None) -> jax.Array:
    """This device's share of the mean of `x` over the clips that `mask` admits.

    Args:
      x: <float32>[B] one value a clip.
      mask: <float32 or bool>[B].
      axis_name: the mapped axis over which a batch is spread, if it is.
    """
    mask = mask.astype(x.dtype)
    count = mask.sum()
    if axis_name is not None:
        count = lax.psum(count, axis_name)
    # `where` and not a product: a clip outside the mask may hold anything, even infinity.
    return jnp.where(mask > 0, x, 0.0).sum() / jnp.maximum(count, 1.0)


def _per_clip(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1).mean(-1)


def _log(p: jax.Array) -> jax.Array:
    return jnp.log(jnp.clip(p, _SMALLEST, 1.0))


def binary_cross_entropy(p: jax.Array, target: jax.Array) -> jax.Array:
    """BCE of probabilities, the terms of equation 3.

    Args:
      p: <float32>[B, ..., C] probabilities.
      target: the same shape, 0 or 1.

    Returns:
      <float32>[B], the mean over all axes but the first.
    """
    return _per_clip(-(target * _log(p) + (1 - target) * _log(1 - p)))


def adaptive_weight(p_true: jax.Array, gamma: float, form: str = "paper") -> jax.Array:
    """The weight of equation 4, any shape: ``1 - p^gamma``; Lin et al.'s is ``(1 - p)^gamma``."""
    if form == "paper":
        return 1 - p_true**gamma
    if form == "lin":
        return (1 - p_true) ** gamma
    raise ValueError(f"focal_form {form!r}: expected 'paper' or 'lin'")


def adaptive_focal(
    p: jax.Array, target: jax.Array, gamma: float = 2.0, form: str = "paper"
) -> jax.Array:
    """Equation 4: ``-(1 - p^gamma) log p``, with `p` the probability given to the true value.

    That is the posterior where the class is present and one minus it where it is not: the paper
    writes `p_ij` for both. Shapes as in `binary_cross_entropy`.
    """
    p_true = target * p + (1 - target) * (1 - p)
    return _per_clip(-adaptive_weight(p_true, gamma, form) * _log(p_true))


def guided_consistency(
    p: jax.Array, guide: jax.Array, scale: jax.Array | float = 1.0, soft: bool = False
) -> jax.Array:
    """``L_con`` of equation 3: BCE of a model's clip output against the other's decisions.

    Args:
      p: <float32>[B, C] clip probabilities of the model that learns.
      guide: <float32>[B, C] clip probabilities of the model that guides; no gradient, and binarised
        at 0.5 (Guided Learning, arXiv 1906.02517).
      scale: factor of both, probabilities and decisions, within the BCE: where Guided Learning's
        released code has the weight alpha that the paper has before it.
      soft: whether the guide's probabilities are the target, and not its decisions.

    Returns:
      <float32>[B].
    """
    target = guide if soft else guide > 0.5
    return binary_cross_entropy(scale * p, scale * lax.stop_gradient(target).astype(p.dtype))


def mean_squared_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """<float32>[B]: mean squared difference of two arrays [B, ...], clip by clip."""
    return _per_clip((x - y) ** 2)


def to_distillation_space(features: jax.Array, kernel: jax.Array, num_frames: int) -> jax.Array:
    """``F W`` of equation 2, each frame repeated until there are `num_frames`.

    Args:
      features: <float32>[B, T', D].
      kernel: <float32>[D, E].
      num_frames: T.

    Returns:
      <float32>[B, T, E].
    """
    projected = features @ kernel
    own = projected.shape[1]
    if num_frames % own:  # frame t of T lies in frame t T' // T
        return projected[:, np.arange(num_frames) * own // num_frames]
    return jnp.repeat(projected, num_frames // own, axis=1)


def interpolate_frames(maps: jax.Array, num_frames: int) -> jax.Array:
    """[B, T', E] -> [B, num_frames, E]: between the middles of frames linearly, flat beyond."""
    return jax.image.resize(maps, (maps.shape[0], num_frames, maps.shape[2]), "linear")


def pool_frames(maps: jax.Array, num_frames: int) -> jax.Array:
    """[B, T, E] -> [B, num_frames, E]: means of the frames that lie in each longer one.

    As in `to_distillation_space`, frame t of T lies in frame ``t num_frames // T``.
    """
    longer = np.arange(maps.shape[1]) * num_frames // maps.shape[1]
    members = (longer == np.arange(num_frames)[:, None]).astype(np.float32)
    return jnp.einsum("nt,bte->bne", members / members.sum(1, keepdims=True), maps)


def standardised(maps: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Maps with mean 0 and variance 1/E in each dimension, so that a frame's norm is about 1.

    A batch norm without scale, offset or moving averages; 1e-5 is added to the variance.

    Args:
      maps: <float32>[B, T, E].
      axis_name: the mapped axis over which a batch is spread, as many clips on each device, if it
        is; statistics are those of the whole batch.
    """

    def mean(x):
        own = x.mean((0, 1))
        return own if axis_name is None else lax.pmean(own, axis_name)

    centred = maps - mean(maps)
    return centred * lax.rsqrt(maps.shape[-1] * (mean(centred**2) + 1e-5))


def frame_distance(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """Equation 2: ``D_j``, the Euclidean distance of frame j, [B, T, E] twice -> [B, T].

    1e-12 under the root keeps the gradient finite where both maps agree.
    """
    return jnp.sqrt(((teacher - student) ** 2).sum(-1) + 1e-12)


def target_event_distillation(
    teacher: jax.Array, student: jax.Array, frame_labels: jax.Array
) -> jax.Array:
    """Equation 1 (TFD): ``1/T sum_j M_j D_j`` with ``M_j = 1`` where any target event is active.

    Args:
      teacher, student: <float32>[B, T, E] in the distillation space.
      frame_labels: <float32>[B, T, C], 0 or 1.

    Returns:
      <float32>[B].
    """
    mask = frame_labels.max(-1)
    return (mask * frame_distance(teacher, student)).mean(-1)


def feature_distillation(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """DFD-D (section 2.2): equation 1 with ``M = 1``. [B, T, E] twice -> [B]."""
    return frame_distance(teacher, student).mean(-1)


def pool_labels(frame_labels: jax.Array, num_frames: int) -> jax.Array:
    """Frame labels at a model's T': the maximum over the frames that a pooled frame covers.

    Args:
      frame_labels: <float32>[B, T, C].
      num_frames: T'; each pooled frame covers ``T // T'`` frames, a remainder is dropped.

    Returns:
      <float32>[B, T', C].
    """
    batch, frames, classes = frame_labels.shape
    covered = frames // num_frames
    labels = frame_labels[:, : num_frames * covered]
    return labels.reshape(batch, num_frames, covered, classes).max(2)
