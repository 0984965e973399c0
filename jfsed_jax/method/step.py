"""One training step: equations 3, 5 and 6 over a batch of weak, unlabelled and strong clips.

Systems differ in their models and in the loss terms that the step sums; `SCHEMES` names the three
ways of table 1 to train a teacher and a student.

`train_step` is a pure function of one device's share of the batch with a named axis.
`data_parallel` maps it over a mesh with ``jax.shard_map`` under ``jit``; ``jax.pmap`` maps the very
same function.

Axis letters: ``B`` clips, ``T`` frames, ``T'`` frames of a model, ``F`` mel bands, ``C`` classes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jfsed_jax.audio.front_end import FrontEnd, filter_peaks
from jfsed_jax.errors import InputError
from jfsed_jax.method import losses, models
from jfsed_jax.method.augmentation import Augmentation, add_noise, augment
from jfsed_jax.method.memory import frugal_options
from jfsed_jax.method.models import Output
from jfsed_jax.method.state import (
    Schedules,
    TrainState,
    create_state,
    make_optimiser,
    teacher_params,
)

AXIS = "data"
ONE_BATCH = PartitionSpec(AXIS)  # of arrays [B, ...]
SEVERAL_BATCHES = PartitionSpec(None, AXIS)  # of arrays [K, B, ...]
Batch = dict[str, jax.Array]


Terms = dict[str, tuple[jax.Array | float, jax.Array]]


@dataclass(frozen=True)
class LossOptions:
    """Numbers that the terms of the joint framework depend on.

    Attributes:
      distillation: weight, times beta, of each distance of `distances`; without entries, none.
      gamma, focal_form: of the adaptive focal loss (equation 4).
    """

    distillation: tuple[tuple[str, float], ...] = ()
    gamma: float = 2.0
    focal_form: str = "paper"


@dataclass(frozen=True)
class System:
    """The statics of a step: models, optimiser, schedules, loss terms.

    Attributes:
      scheme: how teacher and student are trained, a key of `SCHEMES`.
      teacher_noise: standard deviation per mel band of what is added to the teacher's input, of
        the linear mel (system 0); empty for none.
    """

    teacher: nn.Module
    student: nn.Module
    optimiser: optax.GradientTransformation
    schedules: Schedules
    options: LossOptions
    scheme: str = "joint"
    augmentation: Augmentation | None = None
    teacher_noise: tuple[float, ...] = ()


def make_system(
    config,
    *,
    num_classes: int,
    steps_per_epoch: int,
    axis_name: str | None,
    shares: Sequence[float] | None = None,
) -> System:
    """The statics that a config describes.

    Args:
      config: a ``ConfigDict`` as ``configs/base.py`` lays it out.
      num_classes: C.
      steps_per_epoch: steps in one pass over the unlabelled set.
      axis_name: the mapped axis over which batch statistics are averaged, or None.
      shares: `models.feature_shares` of the training data, for system 1.
    """
    make = partial(
        models.from_config,
        batch_norm=config.batch_norm,
        classes=num_classes,
        dtype=config.compute_dtype,
        axis_name=axis_name,
        shares=shares,
        gru_loop=config.gru_loop,
    )
    schedules = Schedules(
        steps_per_epoch=steps_per_epoch,
        alpha_base=config.guided.alpha_base,
        alpha_start=config.guided.alpha_start,
        consistency_max=config.guided.consistency,
        consistency_rampup_epochs=config.guided.consistency_rampup * config.epochs,
        beta_max=config.loss.beta_max,
        beta_rampup_epochs=config.loss.beta_rampup * config.epochs,
        tau=config.loss.tau if config.loss.tau >= 0 else None,
        learning_rate=config.optimiser.learning_rate,
        decay=config.optimiser.decay,
        decay_epochs=config.optimiser.decay_epochs,
    )
    distillation = {name: weight for name, weight in config.loss.distillation.items() if weight}
    augmentation = Augmentation(**config.augmentation)
    student = make(config.student)
    noise = config.teacher_noise * filter_peaks(FrontEnd(**config.front_end))
    return System(
        teacher=student if config.scheme == "mean_teacher" else make(config.teacher),
        student=student,
        optimiser=make_optimiser(schedules, config.optimiser.ema_decay),
        schedules=schedules,
        options=LossOptions(tuple(distillation.items()), config.loss.gamma, config.loss.focal_form),
        scheme=config.scheme,
        augmentation=augmentation if augmentation != Augmentation() else None,
        teacher_noise=tuple(noise.tolist()) if config.teacher_noise else (),
    )


def run_keys(config) -> jax.Array:
    """The random key of a run, or one for each of its ``num_seeds`` > 1 seeds: <key>[] or [K].

    A run starts from it and folds the step into it. The generator is JAX's default, threefry: under
    `jax.vmap` the other one, ``rbg``, draws the numbers of all keys from the first, so that a seed
    would not repeat the run that it is alone.
    """
    if config.num_seeds == 1:
        return jax.random.key(config.seed)
    return jnp.stack([jax.random.key(config.seed + k) for k in range(config.num_seeds)])


def initial_state(system: System, config, key: jax.Array) -> TrainState:
    """The state in which the training of a config's system starts.

    Of several keys <key>[K]: the states that each of them gives, stacked, all arrays [K, ...].
    """
    if key.ndim:
        # One after the other, and so to the bit what one key alone gives.
        return lax.map(partial(initial_state, system, config), key)
    front_end = FrontEnd(**config.front_end)
    joint = system.scheme == "joint"
    return create_state(
        jax.random.fold_in(key, 2**32 - 1),  # a step's number is what training folds in
        system.teacher,
        system.student,
        system.optimiser,
        input_shape=(front_end.num_frames, front_end.n_mels),
        distillation_dims=config.loss.distillation_dims if joint else 0,
        mean_teacher=system.scheme == "mean_teacher",
    )


def distances(
    teacher: jax.Array, student: jax.Array, frame_labels: jax.Array, strong: jax.Array
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """What distillation can minimise, one line each: name -> (distance [B], mask [B]).

    Args:
      teacher, student: <float32>[B, T, E] features in the distillation space.
      frame_labels: <float32>[B, T, C].
      strong: <float32>[B] 1 for strong clips.
    """
    everything = jnp.ones_like(strong)
    dfd = losses.feature_distillation(teacher, student)
    return {
        "tfd": (losses.target_event_distillation(teacher, student, frame_labels), strong),
        "dfd_d": (dfd, everything),
        "dfd_d_weak_unlabelled": (dfd, 1 - strong),
        "dfd_mse": (losses.mean_squared_error(teacher, student), everything),
    }


def joint_terms(
    teacher: Output,
    student: Output,
    params,
    batch: Batch,
    step: jax.Array,
    system: System,
    axis_name: str | None,
) -> Terms:
    """The weighted terms of ``L_s1`` and ``L_s2`` (equations 5 and 6), systems 2 to 9.

    Args:
      teacher, student: outputs for the batch.
      params: ``distillation`` holds ``W_t`` and ``W_s`` of equation 2.
      batch: see `train_step`.
      step: <int32>[] steps taken so far.

    Returns:
      name -> (weight, value).
    """
    options, schedules = system.options, system.schedules
    mean = partial(losses.masked_mean, axis_name=axis_name)
    weak, strong = batch["is_weak"], batch["is_strong"]
    everything = jnp.ones_like(weak)
    second_stage = schedules.second_stage(step)

    def supervised(p, target, mask):
        bce = losses.binary_cross_entropy(p, target)
        focal = losses.adaptive_focal(p, target, options.gamma, options.focal_form)
        return mean(jnp.where(second_stage, focal, bce), mask)

    terms: Terms = {}
    for name, output in (("teacher", teacher), ("student", student)):
        frame_labels = losses.pool_labels(batch["frame_labels"], output.frames.shape[1])
        terms[f"{name}/weak"] = 1.0, supervised(output.clip, batch["clip_labels"], weak)
        terms[f"{name}/strong"] = 1.0, supervised(output.frames, frame_labels, strong)
    terms |= _guidance(teacher, student, everything, step, schedules, mean)

    num_frames = student.features.shape[1]
    maps = params["distillation"]
    mapped_t = losses.to_distillation_space(teacher.features, maps["teacher"], num_frames)
    mapped_s = losses.to_distillation_space(student.features, maps["student"], num_frames)
    frame_labels = losses.pool_labels(batch["frame_labels"], num_frames)
    found = distances(mapped_t, mapped_s, frame_labels, strong)
    for name, weight in options.distillation:
        if name not in found:
            raise InputError(f"config.loss.distillation.{name}: expected {', '.join(found)}")
        terms[f"distillation/{name}"] = weight * schedules.beta(step), mean(*found[name])
    return terms


def _guidance(teacher, student, mask, step, schedules, mean) -> Terms:
    """Each model's clip outputs against the other's decisions (equation 3)."""
    guided = losses.guided_consistency
    return {
        "consistency/teacher_to_student": (
            schedules.consistency(step),
            mean(guided(student.clip, teacher.clip), mask),
        ),
        "consistency/student_to_teacher": (
            schedules.alpha(step),
            mean(guided(teacher.clip, student.clip), mask),
        ),
    }


def guided_learning_terms(
    teacher: Output, student: Output, params, batch: Batch, step, system: System, axis_name
) -> Terms:
    """Guided Learning (arXiv 1906.02517), system 1: clip labels of all labelled clips, strong ones
    too, and guidance on the unlabelled ones. As `joint_terms`.
    """
    mean = partial(losses.masked_mean, axis_name=axis_name)
    labelled = jnp.maximum(batch["is_weak"], batch["is_strong"])
    terms: Terms = {
        f"{name}/clip": (
            1.0,
            mean(losses.binary_cross_entropy(output.clip, batch["clip_labels"]), labelled),
        )
        for name, output in (("teacher", teacher), ("student", student))
    }
    return terms | _guidance(teacher, student, 1 - labelled, step, system.schedules, mean)


def mean_teacher_terms(
    teacher: Output, student: Output, params, batch: Batch, step, system: System, axis_name
) -> Terms:
    """The DCASE 2019 baseline, system 0: BCE of the student on weak and on strong clips, and mean
    squared distance from its teacher's outputs on all clips. As `joint_terms`.
    """
    mean = partial(losses.masked_mean, axis_name=axis_name)
    everything = jnp.ones_like(batch["is_weak"])
    frame_labels = losses.pool_labels(batch["frame_labels"], student.frames.shape[1])
    bce, mse = losses.binary_cross_entropy, losses.mean_squared_error
    weight = system.schedules.consistency(step)
    guide = jax.tree.map(lax.stop_gradient, teacher)
    return {
        "student/weak": (1.0, mean(bce(student.clip, batch["clip_labels"]), batch["is_weak"])),
        "student/strong": (1.0, mean(bce(student.frames, frame_labels), batch["is_strong"])),
        "consistency/clip": (weight, mean(mse(student.clip, guide.clip), everything)),
        "consistency/frames": (weight, mean(mse(student.frames, guide.frames), everything)),
    }


SCHEMES: dict[str, Callable[..., Terms]] = {
    "joint": joint_terms,
    "guided_learning": guided_learning_terms,
    "mean_teacher": mean_teacher_terms,
}


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    system: System,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update of both models; of the student alone where its average is the teacher.

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
      ``beta``, ``consistency`` (their weights) and ``learning_rate``, all <float32>[].
    """
    key = jax.random.fold_in(key, state.step)
    if axis_name is not None:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    augment_key, teacher_key, student_key, noise_key = jax.random.split(key, 4)
    batch = dict(batch, mel=batch["mel"].astype(jnp.float32))
    batch["frame_labels"] = batch["frame_labels"].astype(jnp.float32)
    if system.augmentation is not None:
        batch = augment(augment_key, batch, system.augmentation)

    teacher_mel = batch["mel"]
    if system.teacher_noise:
        teacher_mel = add_noise(noise_key, teacher_mel, system.teacher_noise)

    def forward(model, name, params, mel, key):
        variables = {"params": params, "batch_stats": state.batch_stats[name]}
        return model.apply(
            variables, mel, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )

    def total_loss(params):
        of_teacher = teacher_params(dataclasses.replace(state, params=params))
        teacher, teacher_stats = forward(
            system.teacher, "teacher", of_teacher, teacher_mel, teacher_key
        )
        student, student_stats = forward(
            system.student, "student", params["student"], batch["mel"], student_key
        )
        terms = SCHEMES[system.scheme](
            teacher, student, params, batch, state.step, system, axis_name
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
        "consistency": schedules.consistency(state.step),
        "learning_rate": jnp.asarray(schedules.rate(state.step)),
    }
    next_state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    return next_state, metrics


def data_parallel(step: Callable, mesh: Mesh, split: PartitionSpec = ONE_BATCH) -> Callable:
    """A jitted ``(state, batch, key) -> (state, metrics)`` over all devices of the mesh.

    The batch is split along its clips (`split` says which axis they are, `ONE_BATCH` or
    `SEVERAL_BATCHES`), the state is on every device and is donated.
    """
    everywhere = PartitionSpec()
    # With check_vma=True gradients of replicated parameters arrive already summed.
    mapped = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(everywhere, split, everywhere),
        out_specs=(everywhere, everywhere),
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=0, compiler_options=frugal_options(mesh))


def several_seeds(step: Callable, *, share_batch: bool) -> Callable:
    """`step` for K independent runs at once: of states [K, ...], keys [K], to metrics [K].

    The batch is [K, B, ...], or one [B, ...] for all. To go inside `data_parallel` and `scanned`.
    """
    return jax.vmap(step, in_axes=(0, None if share_batch else 0, 0))


def scanned(step: Callable) -> Callable:
    """``(state, batches, key) -> (state, metrics)``: one step for each of K batches.

    ``batches`` are the arrays of a batch as [K, B, ...]; metrics are <float32>[K].
    """

    def steps(state, batches, key):
        return lax.scan(lambda state, batch: step(state, batch, key), state, batches)

    return steps


def data_parallel_gather(mesh: Mesh, split: PartitionSpec = ONE_BATCH) -> Callable:
    """A jitted ``(clips, positions) -> batch``; each device picks its share of the batch.

    ``clips`` are the arrays of a batch with all N clips for B, on every device; ``positions``
    <int32>[B] or, for `SEVERAL_BATCHES`, [K, B].
    """
    # A program of its own: as a part of the step's it would be fused with it, and the same clips
    # would give other roundings than when they come from the host.
    mapped = jax.shard_map(
        lambda clips, positions: {name: values[positions] for name, values in clips.items()},
        mesh=mesh,
        in_specs=(PartitionSpec(), split),
        out_specs=split,
        check_vma=False,
    )
    return jax.jit(mapped)


def use_cpu_devices(count: int) -> None:
    """Makes that many devices of the CPU, see ``config.cpu_devices``.

    Without effect once JAX has started its backend, or on another platform.
    """
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)


def make_mesh(devices: int | None = None) -> Mesh:
    """The first `devices` devices, or all of them, along one axis, `AXIS`."""
    auto = jax.sharding.AxisType.Auto  # linen's Dropout cannot work with explicit axes
    chosen = jax.devices()[:devices]
    return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(auto,), devices=chosen)
