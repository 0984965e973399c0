"""One training step: equations 3, 5 and 6 over a batch of weak, unlabelled and strong clips.

`train_step` is a pure function of one device's share of the batch with a named axis.
`data_parallel` maps it over a mesh with ``jax.shard_map`` under ``jit``; ``jax.pmap`` maps the very
same function.

Axis letters: ``B`` clips, ``T`` frames, ``T'`` frames of a model, ``F`` mel bands, ``C`` classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jfsed_jax import losses, models
from jfsed_jax.augment import Augmentation, augment
from jfsed_jax.models import Output
from jfsed_jax.train_state import Schedules, TrainState, make_optimiser

AXIS = "data"
Batch = dict[str, jax.Array]


@dataclass(frozen=True)
class LossOptions:
    """Which terms a system sums, beside those of equation 3.

    Attributes:
      tfd: weight, times beta, of target-event distillation (equation 1).
      dfd_d, dfd_d_weak_unlabelled, dfd_mse: the same for the ablations of section 2.2: Euclidean
        distance on all clips, on weak and unlabelled clips, mean squared error on all clips.
      gamma, focal_form: of the adaptive focal loss (equation 4).
    """

    tfd: float = 0.0
    dfd_d: float = 0.0
    dfd_d_weak_unlabelled: float = 0.0
    dfd_mse: float = 0.0
    gamma: float = 2.0
    focal_form: str = "paper"


@dataclass(frozen=True)
class System:
    """The statics of a step: models, optimiser, schedules, loss terms."""

    teacher: nn.Module
    student: nn.Module
    optimiser: optax.GradientTransformation
    schedules: Schedules
    options: LossOptions
    augmentation: Augmentation | None = None


def make_system(config, *, num_classes: int, steps_per_epoch: int, axis_name: str | None) -> System:
    """The statics that a config describes.

    Args:
      config: a ``ConfigDict`` as ``configs/base.py`` lays it out.
      num_classes: C.
      steps_per_epoch: steps in one pass over the unlabelled set.
      axis_name: the mapped axis over which batch statistics are averaged, or None.
    """
    make = partial(
        models.from_config,
        batch_norm=config.batch_norm,
        classes=num_classes,
        dtype=config.compute_dtype,
        axis_name=axis_name,
    )
    schedules = Schedules(
        steps_per_epoch=steps_per_epoch,
        alpha_base=config.guided.alpha_base,
        alpha_start=config.guided.alpha_start,
        consistency_rampup_epochs=config.guided.consistency_rampup * config.epochs,
        beta_max=config.loss.beta_max,
        beta_rampup_epochs=config.loss.beta_rampup * config.epochs,
        tau=config.loss.tau if config.loss.tau >= 0 else None,
        learning_rate=config.optimiser.learning_rate,
        decay=config.optimiser.decay,
        decay_epochs=config.optimiser.decay_epochs,
    )
    options = {field.name: config.loss[field.name] for field in fields(LossOptions)}
    augmentation = Augmentation(**config.augmentation)
    return System(
        teacher=make(config.teacher),
        student=make(config.student),
        optimiser=make_optimiser(schedules, config.optimiser.ema_decay),
        schedules=schedules,
        options=LossOptions(**options),
        augmentation=augmentation if augmentation != Augmentation() else None,
    )


def loss_terms(
    teacher: Output,
    student: Output,
    maps: dict[str, jax.Array],
    batch: Batch,
    step: jax.Array,
    system: System,
    axis_name: str | None,
) -> dict[str, tuple[jax.Array | float, jax.Array]]:
    """The weighted terms of ``L_s1`` and ``L_s2`` (equations 5 and 6): name -> (weight, value).

    Args:
      teacher, student: outputs for the batch.
      maps: ``W_t`` and ``W_s`` of equation 2.
      batch: see `train_step`.
      step: <int32>[] steps taken so far.
    """
    options, schedules = system.options, system.schedules
    mean = partial(losses.masked_mean, axis_name=axis_name)
    weak, strong = batch["is_weak"], batch["is_strong"]
    everything = jnp.ones_like(weak)
    second_stage = schedules.second_stage(step)

    def supervised(p, target, mask):
        bce = losses.binary_cross_entropy(p, target)
        if schedules.tau is None:
            return mean(bce, mask)
        focal = losses.adaptive_focal(p, target, options.gamma, options.focal_form)
        return mean(jnp.where(second_stage, focal, bce), mask)

    terms: dict[str, tuple[jax.Array | float, jax.Array]] = {}
    for name, output in (("teacher", teacher), ("student", student)):
        frame_labels = losses.pool_labels(batch["frame_labels"], output.frames.shape[1])
        terms[f"{name}/weak"] = 1.0, supervised(output.clip, batch["clip_labels"], weak)
        terms[f"{name}/strong"] = 1.0, supervised(output.frames, frame_labels, strong)
    guided = losses.guided_consistency
    terms["consistency/teacher_to_student"] = (
        schedules.consistency(step),
        mean(guided(student.clip, teacher.clip), everything),
    )
    terms["consistency/student_to_teacher"] = (
        schedules.alpha(step),
        mean(guided(teacher.clip, student.clip), everything),
    )

    beta = schedules.beta(step)
    num_frames = student.features.shape[1]
    to_space = losses.to_distillation_space
    mapped_t = to_space(teacher.features, maps["teacher"], num_frames)
    mapped_s = to_space(student.features, maps["student"], num_frames)
    if options.tfd:
        labels = losses.pool_labels(batch["frame_labels"], num_frames)
        tfd = losses.target_event_distillation(mapped_t, mapped_s, labels)
        terms["distillation/tfd"] = options.tfd * beta, mean(tfd, strong)
    if options.dfd_d:
        dfd = losses.feature_distillation(mapped_t, mapped_s)
        terms["distillation/dfd_d"] = options.dfd_d * beta, mean(dfd, everything)
    if options.dfd_d_weak_unlabelled:
        dfd = losses.feature_distillation(mapped_t, mapped_s)
        weight = options.dfd_d_weak_unlabelled * beta
        terms["distillation/dfd_d_weak_unlabelled"] = weight, mean(dfd, everything - strong)
    if options.dfd_mse:
        mse = losses.mean_squared_error(mapped_t, mapped_s)
        terms["distillation/dfd_mse"] = options.dfd_mse * beta, mean(mse, everything)
    return terms


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    system: System,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update of both models.

    Args:
      state: the same on every device.
      batch: this device's clips. ``mel`` <float>[B, T, F]; ``clip_labels`` <float32>[B, C];
        ``frame_labels`` <uint8 or float32>[B, T, C]; ``is_weak``, ``is_strong`` <float32>[B], 1
        where the clip enters the weak or the strong loss (an unlabelled clip enters neither).
      key: one key for the whole run; the step and the device are folded in.
      system: models, optimiser, schedules, options.
      axis_name: the mapped axis, or None on one device.

    Returns:
      The next state, and every loss term by name with ``loss``, ``gradient_norm``, ``alpha``,
      ``beta`` and ``learning_rate``, all <float32>[].
    """
    key = jax.random.fold_in(key, state.step)
    if axis_name is not None:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    augment_key, teacher_key, student_key = jax.random.split(key, 3)
    batch = dict(batch, mel=batch["mel"].astype(jnp.float32))
    batch["frame_labels"] = batch["frame_labels"].astype(jnp.float32)
    if system.augmentation is not None:
        batch = augment(augment_key, batch, system.augmentation)

    def forward(model, name, params, key):
        variables = {"params": params[name], "batch_stats": state.batch_stats[name]}
        return model.apply(
            variables, batch["mel"], train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )

    def total_loss(params):
        teacher, teacher_stats = forward(system.teacher, "teacher", params, teacher_key)
        student, student_stats = forward(system.student, "student", params, student_key)
        terms = loss_terms(
            teacher, student, params["distillation"], batch, state.step, system, axis_name
        )
        total = sum(weight * value for weight, value in terms.values())
        stats = {
            "teacher": teacher_stats["batch_stats"],
            "student": student_stats["batch_stats"],
        }
        values = {name: value for name, (_, value) in terms.items()}
        return total, (stats, values | {"loss": total})

    gradients, (batch_stats, metrics) = jax.grad(total_loss, has_aux=True)(state.params)
    if axis_name is not None:
        # Each device holds its share of the masked means, so shares are summed, not averaged.
        gradients, metrics = lax.psum((gradients, metrics), axis_name)
    # A gradient can overflow where the loss does not; it must be seen before it is saved.
    metrics["gradient_norm"] = optax.global_norm(gradients)
    updates, opt_state = system.optimiser.update(gradients, state.opt_state, state.params)
    schedules = system.schedules
    metrics |= {
        "alpha": schedules.alpha(state.step),
        "beta": schedules.beta(state.step),
        "learning_rate": jnp.asarray(schedules.rate(state.step)),
    }
    next_state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    return next_state, metrics


def data_parallel(step: Callable, mesh: Mesh) -> Callable:
    """A jitted ``(state, batch, key) -> (state, metrics)`` over all devices of the mesh.

    The batch is split along its first axis, the state is on every device and is donated.
    """
    everywhere, split = PartitionSpec(), PartitionSpec(AXIS)
    # With check_vma=True gradients of replicated parameters arrive already summed.
    mapped = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(everywhere, split, everywhere),
        out_specs=(everywhere, everywhere),
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=0)


def make_mesh(devices: int | None = None) -> Mesh:
    """The first `devices` devices, or all of them, along one axis, `AXIS`."""
    auto = jax.sharding.AxisType.Auto  # linen's Dropout cannot work with explicit axes
    chosen = jax.devices()[:devices]
    return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(auto,), devices=chosen)
