"""One training step: both models, the objective's terms, one update.

`train_step` is a pure function of one device's share of the batch with a named axis;
`jfsed_jax.method.parallel` maps it over devices.

Axis letters: ``B`` clips, ``T`` frames, ``F`` mel bands, ``C`` classes.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jfsed_jax.kernels.randomness import normal_by_clip
from jfsed_jax.method.augmentation import add_noise
from jfsed_jax.method.losses import Batch, masked_mean
from jfsed_jax.method.numbers import is_on
from jfsed_jax.method.objectives import Term, Terms
from jfsed_jax.method.optimisers import rate_in
from jfsed_jax.method.state import TrainState, teacher_params
from jfsed_jax.method.system import Augment, System, takes_axis

RESERVED = ("loss", "gradient_norm", "learning_rate")  # what the log has beside the terms


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    system: System,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update of both models; of the student alone where its average is the teacher, or where
    there is none.

    Args:
      state: the same on every device.
      batch: this device's clips. ``mel`` <float>[B, T, F]; ``clip_labels`` <float32>[B, C];
        ``frame_labels`` <uint8 or float32>[B, T, C]; ``is_weak``, ``is_strong`` <float32>[B], 1
        where the clip enters the weak or the strong loss (an unlabelled clip enters neither).
      key: one key for the whole run, the same on every device; the step is folded in.
      system: models, objective, optimiser.
      axis_name: the mapped axis, or None on one device.

    Returns:
      The next state, and every loss term by name with ``loss``, ``gradient_norm``, the objective's
      weights, ``measures/NAME`` of its measures and, where it is known, ``learning_rate``, all
      <float32>[].
    """
    key = jax.random.fold_in(key, state.step)
    augment_key, teacher_key, student_key, noise_key = jax.random.split(key, 4)
    batch = dict(batch, mel=batch["mel"].astype(jnp.float32))
    batch["frame_labels"] = batch["frame_labels"].astype(jnp.float32)
    if system.augment is not None:
        batch = _augmented(system.augment, augment_key, batch, axis_name)

    teacher_mel = batch["mel"]
    if system.teacher_noise:
        teacher_mel = add_noise(noise_key, teacher_mel, system.teacher_noise, axis_name)
    if is_on(system.teacher_log_noise):
        # A key of its own: both kinds of noise may be on.
        drawn = normal_by_clip(jax.random.fold_in(noise_key, 1), teacher_mel.shape, axis_name)
        teacher_mel = teacher_mel + system.teacher_log_noise * drawn
    models, objective = system.models.named(), system.objective

    def forward(name, params, mel, key):
        variables = {"params": params, "batch_stats": state.batch_stats[name]}
        rngs = {"clips": key, "dropout": _of_device(key, axis_name)}
        output, changed = models[name].apply(
            variables, mel, train=True, mutable=["batch_stats"], rngs=rngs
        )
        return output, changed.get("batch_stats", {})

    def total_loss(params):
        teacher: Any = None
        stats = {}
        if "teacher" in models:
            of_teacher = teacher_params(params, state.opt_state)
            teacher, stats["teacher"] = forward("teacher", of_teacher, teacher_mel, teacher_key)
        student, stats["student"] = forward("student", params["student"], batch["mel"], student_key)
        axis = {"axis_name": axis_name} if objective.across_devices else {}
        terms = objective.terms(teacher, student, params, batch, state.step, **axis)
        total, values = weighted_sum(terms, axis_name)
        # Apart: what is measured must not change how XLA fuses, and so rounds, what is trained.
        seen = lax.optimization_barrier((teacher, student, params))
        seen = jax.tree.map(lax.stop_gradient, seen)
        measured = _measured(objective.measures(*seen, batch, axis_name))
        return total, (stats, values | {"loss": total}, measured)

    gradients, (batch_stats, metrics, measured) = jax.grad(total_loss, has_aux=True)(state.params)
    if axis_name is not None:
        # Each device holds its share of the masked means, so shares are summed, not averaged.
        gradients, metrics = lax.psum((gradients, metrics), axis_name)
    # A gradient can overflow where the loss does not; it must be seen before it is saved.
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    updates, opt_state = system.optimiser.update(gradients, state.opt_state, state.params)
    metrics |= measured | objective.weights(state.step)
    rate = system.rate(state.step) if system.rate is not None else rate_in(opt_state)
    if rate is not None:
        metrics["learning_rate"] = jnp.asarray(rate)
    next_state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    return next_state, metrics


def _of_device(key: jax.Array, axis_name: str | None) -> jax.Array:
    """A key for what draws without knowing of other devices, so that no two draw the same."""
    return key if axis_name is None else jax.random.fold_in(key, lax.axis_index(axis_name))


def _augmented(augment: Augment, key: jax.Array, batch: Batch, axis_name: str | None) -> Batch:
    """An augmentation that takes ``axis_name`` draws for the whole batch, another for its clips."""
    if takes_axis(augment):
        return augment(key, batch, axis_name=axis_name)
    return augment(_of_device(key, axis_name), batch)


def weighted_sum(terms: Terms, axis_name: str | None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """This device's share of the loss and of every term before its weight, by name.

    Args:
      terms: of an objective, for this device's clips.
      axis_name: the mapped axis over which the batch is spread, or None.
    """
    values = {}
    total: jax.Array | float = 0
    for name, term in terms.items():
        weight, value, clips = Term(*term)
        value = jnp.asarray(value)
        if name in RESERVED or value.ndim > 1 or (clips is not None and clips.shape != value.shape):
            raise ValueError(
                f"the term {name!r} has values of shape {value.shape} for clips of shape "
                f"{None if clips is None else clips.shape}: expected one value a clip and one mask "
                f"a clip, or one value; the names {', '.join(RESERVED)} are taken"
            )
        if value.ndim:
            clips = jnp.ones_like(value) if clips is None else clips
            value = masked_mean(value, clips, axis_name)
        elif axis_name is not None:  # the same on every device, and shares are summed
            value = value / lax.axis_size(axis_name)
        values[name] = value
        total = total + weight * value
    return jnp.asarray(total), values


def _measured(measures: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """An objective's measures by the names that the log has for them."""
    for name, value in measures.items():
        if jnp.shape(value):
            raise ValueError(
                f"the measure {name!r} has shape {jnp.shape(value)}: expected one value"
            )
    return {f"measures/{name}": jnp.asarray(value) for name, value in measures.items()}
