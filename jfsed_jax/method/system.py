"""The statics of training: two models, what they minimise, the optimiser, what changes the input.

A config names them (`from_config`); code may hand in any of them as a value.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict, Unpack

import flax.linen as nn
import optax

from jfsed_jax.audio.front_end import FrontEnd, filter_peaks
from jfsed_jax.errors import InputError
from jfsed_jax.method import models, objectives, optimisers, schedules
from jfsed_jax.method.augmentation import AUGMENTATIONS
from jfsed_jax.method.numbers import is_on
from jfsed_jax.method.objectives import Batch, Objective
from jfsed_jax.method.schedules import Schedule
from jfsed_jax.seams import call, resolve

Augment = Callable[..., Batch]


@dataclass(frozen=True)
class Models:
    """Teacher and student.

    Attributes:
      teacher: None where the student's average is the teacher, or where there is none.
      student: the module that is evaluated.
      alone: there is no teacher at all, not even the student's average.
    """

    teacher: nn.Module | None
    student: nn.Module
    alone: bool = False

    def named(self) -> dict[str, nn.Module]:
        """``teacher`` and ``student``, or ``student`` alone; the teacher of a mean teacher is the
        student's module."""
        taught = {} if self.alone else {"teacher": self.teacher or self.student}
        return taught | {"student": self.student}


@dataclass(frozen=True)
class System:
    """All that a step depends on beside arrays.

    Attributes:
      models: teacher and student.
      objective: what they minimise.
      optimiser: of all parameters.
      rate: the learning rate that is logged; None where the optimiser alone knows it.
      augment: ``(key, batch) -> batch`` of the same shapes, or None. It sees one device's clips
        and has a key of that device. One that takes ``axis_name`` by name is given the mapped axis,
        or None, and a key that is the same on every device.
      teacher_noise: standard deviation per mel band of what is added to the teacher's input, of
        the linear mel (system 0); empty for none.
      teacher_log_noise: standard deviation of what is added to its log-mel (system 1).
      own_start: whether a mean teacher starts from weights of its own, and not the student's.
    """

    models: Models
    objective: Objective
    optimiser: optax.GradientTransformation
    rate: Schedule | None = None
    augment: Augment | None = None
    teacher_noise: tuple[float, ...] = ()
    teacher_log_noise: float = 0.0
    own_start: bool = False


class Handed(TypedDict, total=False):
    """Values in place of those that a config names.

    Attributes:
      teacher, student: linen modules ``(mel, train) -> Output``. One with batch statistics has a
        field ``axis_name`` for its batch norms, over which several devices average them.
      objective: what they minimise.
      optimiser: of all parameters; the config's ``ema_decay`` holds for it too. Its learning rate
        is logged where `optax.inject_hyperparams` keeps it.
      augment: ``(key, batch) -> batch``, see `System`.
    """

    teacher: nn.Module
    student: nn.Module
    objective: Objective
    optimiser: optax.GradientTransformation
    augment: Augment


def takes_axis(augment: Augment) -> bool:
    """Whether an augmentation is told of the other devices, see `System`."""
    return "axis_name" in inspect.signature(augment).parameters


def models_from_config(
    config,
    *,
    classes: int,
    axis_name: str | None = None,
    shares: Sequence[float] | None = None,
    teacher: nn.Module | None = None,
    student: nn.Module | None = None,
    alone: bool = False,
) -> Models:
    """The models of a config's ``teacher`` and ``student`` pages; without a page no teacher.

    Args:
      config: a ``ConfigDict`` as ``configs/base.py`` lays it out.
      classes: C.
      axis_name: the mapped axis over which batch statistics are averaged, or None.
      shares: `models.feature_shares` of the training data, for system 1.
      teacher, student: in place of the config's.
      alone: see `Models`.
    """
    make = partial(
        models.from_config,
        batch_norm=config.batch_norm,
        classes=classes,
        dtype=config.compute_dtype,
        axis_name=axis_name,
        shares=shares,
        gru_loop=config.gru_loop,
        clip_floor_db=config.clip_floor_db,
        mel_heights=filter_peaks(FrontEnd(**config.front_end)).tolist(),
        before_dropout=config.loss.before_dropout,
    )
    if teacher is not None:
        teacher = _on_axis(teacher, axis_name)
    elif "teacher" in config:
        teacher = make(config.teacher)
    student = make(config.student) if student is None else _on_axis(student, axis_name)
    return Models(teacher, student, alone)


def _on_axis(module: nn.Module, axis_name: str | None) -> nn.Module:
    """A module that was handed in, its batch statistics averaged as those of a named one are."""
    return module.clone(axis_name=axis_name) if hasattr(module, "axis_name") else module


def from_config(
    config,
    *,
    classes: int,
    steps_per_epoch: int,
    axis_name: str | None = None,
    shares: Sequence[float] | None = None,
    **handed: Unpack[Handed],
) -> System:
    """The system that a config describes.

    Args:
      config, classes, axis_name, shares: see `models_from_config`.
      steps_per_epoch: steps in one epoch.
      handed: in place of what the config names, see `Handed`.
    """
    if unknown := handed.keys() - Handed.__annotations__.keys():
        known = ", ".join(Handed.__annotations__)
        raise TypeError(f"{', '.join(sorted(unknown))} cannot be handed in; expected {known}")
    objective = handed.get("objective")
    if objective is None:
        make = resolve(config.scheme, objectives.OBJECTIVES, "config.scheme")
        objective = call(partial(make, config, steps_per_epoch), "config.scheme")
    if not isinstance(objective, Objective):
        raise InputError(
            f"the objective is {objective!r}: expected an Objective, of whose fields `terms` is one"
        )
    augment = handed.get("augment")
    if augment is None:
        options = dict(config.augmentation)
        function = resolve(options.pop("function"), AUGMENTATIONS, "config.augmentation.function")
        # A wrong option would show in the first step, after the data are prepared.
        given = options | ({"axis_name": None} if takes_axis(function) else {})
        bind = inspect.signature(function).bind
        call(partial(bind, None, None), "config.augmentation", **given)
        augment = partial(function, **options)
    optimiser, rate = handed.get("optimiser"), None
    if optimiser is None:
        rate = schedules.learning_rate(config.optimiser, steps_per_epoch)
        optimiser = optimisers.from_config(config.optimiser, rate)
    elif is_on(config.optimiser.ema_decay):
        average = optimisers.parameter_ema(config.optimiser.ema_decay)
        optimiser = optax.chain(optimiser, average)
    noise = config.teacher_noise * filter_peaks(FrontEnd(**config.front_end))
    return System(
        models=models_from_config(
            config,
            classes=classes,
            axis_name=axis_name,
            shares=shares,
            teacher=handed.get("teacher"),
            student=handed.get("student"),
            alone=not objective.teacher,
        ),
        objective=objective,
        optimiser=optimiser,
        rate=rate,
        augment=augment,
        teacher_noise=tuple(noise.tolist()) if config.teacher_noise else (),
        teacher_log_noise=config.teacher_log_noise,
        own_start=config.teacher_start == "own",
    )
