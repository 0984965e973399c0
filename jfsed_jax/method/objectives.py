"""What teacher and student minimise: equations 3, 5 and 6, and the baselines' sums.

An `Objective` names its terms; the step means each over its clips, weighs and adds them. `joint` is
the paper's (systems 2 to 9), `guided_learning` that of system 1, `mean_teacher` that of system 0,
`supervised` that of the control, a student alone.

Axis letters: ``B`` clips, ``T`` frames, ``C`` event classes, ``D`` features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jfsed_jax.errors import InputError
from jfsed_jax.method import losses
from jfsed_jax.method.distillation import (
    DISTANCES,
    LITERAL,
    Compared,
    Distilled,
    Space,
    distillation_maps,
    mapped,
    measures,
)
from jfsed_jax.method.losses import Batch
from jfsed_jax.method.models import Output
from jfsed_jax.method.numbers import is_on
from jfsed_jax.method.schedules import Schedules
from jfsed_jax.seams import resolve


class Term(NamedTuple):
    """One summand of the loss; a plain pair or triple serves as well.

    Attributes:
      weight: <float32>[]; with 0 the value is logged, and must be finite all the same.
      value: <float32>[B] one value a clip, or <float32>[] one for the batch.
      clips: <float32>[B] 1 for the clips over which the value is averaged, None for all. A batch
        without such clips contributes 0.
    """

    weight: jax.Array | float
    value: jax.Array
    clips: jax.Array | None = None


Terms = dict[str, Term]


def _no_parameters(key, teacher, student) -> dict:
    return {}


def _nothing(*arguments) -> dict:
    return {}


@dataclass(frozen=True)
class Objective:
    """What the step minimises, as functions.

    Attributes:
      terms: ``(teacher, student, params, batch, step) -> {name: Term}``. ``teacher`` and
        ``student`` are the `Output` of each for the batch; ``params`` all parameters, the
        objective's own among them; ``batch`` as `step.train_step` takes it; ``step`` <int32>[]
        steps taken so far. Nothing in it knows of devices, unless `across_devices`.
      init: ``(key, teacher, student) -> {name: parameters}`` of the objective's own, which are
        trained with the models' and lie beside them in the state. Outputs are shapes.
        ``key`` is that of the state, of whose four parts (`jax.random.split`) the first two are the
        models'.
      weights: ``(step) -> {name: value}`` that the log shows beside the terms.
      measures: ``(teacher, student, params, batch, axis_name) -> {name: <float32>[]}``, logged as
        ``measures/NAME`` and no part of the loss: the step keeps its gradient out. ``axis_name`` is
        the mapped axis over which the batch is spread, or None; the value must be finite, as all
        that is logged, and the same on all devices, so sums over clips go through ``lax.psum``.
      across_devices: whether `terms` needs sums over devices and takes ``axis_name`` too, by name.
      teacher: whether there is one, a model or the student's average. Without, the student learns
        alone, and ``terms`` and ``init`` get None in the teacher's place.
    """

    terms: Callable[..., Terms]
    init: Callable[[jax.Array, Output, Output], dict[str, Any]] = _no_parameters
    weights: Callable[[jax.Array], dict[str, jax.Array]] = _nothing
    measures: Callable[..., Mapping[str, jax.Array]] = _nothing
    across_devices: bool = False
    teacher: bool = True


# Whose clip labels are learnt: those of the weak clips, or those of the strong ones too.
TAGGED_CLIPS = ("weak", "labelled")


def _tagged(batch: Batch, clips: str) -> jax.Array:
    """<float32>[B]: 1 for the clips that `TAGGED_CLIPS` names."""
    strong = batch["is_strong"] if clips == "labelled" else 0.0
    return jnp.maximum(batch["is_weak"], strong)


# Whom the models guide each other on.
GUIDED_CLIPS = ("all", "unlabelled")


@dataclass(frozen=True)
class Guidance:
    """How the models guide each other: the choices of a config's ``guided`` page.

    Attributes:
      clips: one of `GUIDED_CLIPS`.
      soft: see `losses.guided_consistency`.
      alpha_inside: whether alpha is a factor of probabilities and decisions, and not of their BCE.
    """

    clips: str = "all"
    soft: bool = False
    alpha_inside: bool = False

    @classmethod
    def of(cls, page) -> "Guidance":
        """That of a config; an `InputError` says which clips there are."""
        if page.clips not in GUIDED_CLIPS:
            raise InputError(
                f"config.guided.clips is {page.clips!r}: expected {' or '.join(GUIDED_CLIPS)}"
            )
        return cls(page.clips, page.soft, page.alpha_inside)


def joint_terms(
    teacher: Output,
    student: Output,
    params: Mapping[str, Any],
    batch: Batch,
    step: jax.Array,
    *,
    schedules: Schedules,
    distillation: tuple[Distilled, ...] = (),
    gamma: float = 2.0,
    focal_form: str = "paper",
    tagged: str = "weak",
    space: Space = LITERAL,
    guidance: Guidance = Guidance(),
    axis_name: str | None = None,
) -> Terms:
    """The terms of ``L_s1`` and ``L_s2`` (equations 5 and 6), systems 2 to 9.

    Args:
      teacher, student, params, batch, step: see `Objective.terms`; ``params["distillation"]`` holds
        ``W_t`` and ``W_s`` of equation 2.
      schedules: of the weights and the stage.
      distillation: the distances to minimise.
      gamma, focal_form: of the adaptive focal loss (equation 4).
      tagged: one of `TAGGED_CLIPS`.
      space: how features become the maps that they compare.
      guidance: how the models guide each other.
      axis_name: the mapped axis over which the batch is spread, or None; of the standardised scale.
    """
    second_stage = schedules.second_stage(step)

    def supervised(p, target):
        bce = losses.binary_cross_entropy(p, target)
        focal = losses.adaptive_focal(p, target, gamma, focal_form)
        return jnp.where(second_stage, focal, bce)

    terms: Terms = {}
    for name, output in (("teacher", teacher), ("student", student)):
        labels = losses.pool_labels(batch["frame_labels"], output.frames.shape[1])
        weak = supervised(output.clip, batch["clip_labels"])
        terms[f"{name}/weak"] = Term(1.0, weak, _tagged(batch, tagged))
        terms[f"{name}/strong"] = Term(1.0, supervised(output.frames, labels), batch["is_strong"])
    terms |= _guidance(teacher, student, batch, step, schedules, guidance)

    if distillation:
        maps = params["distillation"]
        pair = mapped(teacher.features, student.features, maps, space, axis_name)
    for entry in distillation:
        weight = entry.weight * schedules.beta(step)
        value, clips, _ = Compared(*entry.distance(*pair, batch))
        terms[f"distillation/{entry.name}"] = Term(weight, value, clips)
    return terms


def _guidance(teacher, student, batch, step, schedules, how: Guidance) -> Terms:
    """Each model's clip outputs against the other's (equation 3)."""
    guided = partial(losses.guided_consistency, soft=how.soft)
    clips = jnp.ones_like(batch["is_weak"])
    if how.clips == "unlabelled":
        clips -= jnp.maximum(batch["is_weak"], batch["is_strong"])
    alpha = schedules.alpha(step)
    weight, scale = (1.0, alpha) if how.alpha_inside else (alpha, 1.0)
    return {
        "consistency/teacher_to_student": Term(
            schedules.consistency(step), guided(student.clip, teacher.clip), clips
        ),
        "consistency/student_to_teacher": Term(
            weight, guided(teacher.clip, student.clip, scale), clips
        ),
    }


def guided_learning_terms(
    teacher: Output,
    student: Output,
    params,
    batch: Batch,
    step,
    *,
    schedules: Schedules,
    guidance: Guidance = Guidance(clips="unlabelled"),
) -> Terms:
    """Guided Learning (arXiv 1906.02517), system 1: clip labels of all labelled clips, strong ones
    too, and guidance on the unlabelled ones. As `joint_terms`.
    """
    terms: Terms = {
        f"{name}/clip": Term(
            1.0,
            losses.binary_cross_entropy(output.clip, batch["clip_labels"]),
            _tagged(batch, "labelled"),
        )
        for name, output in (("teacher", teacher), ("student", student))
    }
    return terms | _guidance(teacher, student, batch, step, schedules, guidance)


def mean_teacher_terms(
    teacher: Output, student: Output, params, batch: Batch, step, *, schedules: Schedules
) -> Terms:
    """The DCASE 2019 baseline, system 0: BCE of the student on weak and on strong clips, and mean
    squared distance from its teacher's outputs on all clips. As `joint_terms`.
    """
    labels = losses.pool_labels(batch["frame_labels"], student.frames.shape[1])
    bce, mse = losses.binary_cross_entropy, losses.mean_squared_error
    weight = schedules.consistency(step)
    guide = jax.tree.map(lax.stop_gradient, teacher)
    return {
        "student/weak": Term(1.0, bce(student.clip, batch["clip_labels"]), batch["is_weak"]),
        "student/strong": Term(1.0, bce(student.frames, labels), batch["is_strong"]),
        "consistency/clip": Term(weight, mse(student.clip, guide.clip)),
        "consistency/frames": Term(weight, mse(student.frames, guide.frames)),
    }


def supervised_terms(
    teacher: None, student: Output, params, batch: Batch, step, *, tagged: str = "weak"
) -> Terms:
    """The control of table 1: BCE of the student on weak and on strong clips, and nothing else. As
    `joint_terms`.
    """
    labels = losses.pool_labels(batch["frame_labels"], student.frames.shape[1])
    bce = losses.binary_cross_entropy
    return {
        "student/weak": Term(1.0, bce(student.clip, batch["clip_labels"]), _tagged(batch, tagged)),
        "student/strong": Term(1.0, bce(student.frames, labels), batch["is_strong"]),
    }


def _normalised(terms: Callable[..., Terms], page) -> Callable[..., Terms]:
    """The terms with the normalisation of a config's ``loss`` page; an `InputError` if unknown."""
    if page.normalisation not in NORMALISATIONS:
        raise InputError(
            f"config.loss.normalisation is {page.normalisation!r}: expected one of "
            f"{', '.join(NORMALISATIONS)}"
        )
    over = NORMALISATIONS[page.normalisation]
    return terms if over is None else partial(over, terms)


def _over_batch(terms: Callable[..., Terms], *arguments, **axis) -> Terms:
    """Each term of some clips as one of all clips that is 0 for the others."""
    return {
        name: term
        if term.clips is None
        else Term(term.weight, jnp.where(term.clips > 0, term.value, 0.0))
        for name, term in terms(*arguments, **axis).items()
    }


def _over_labelled(
    terms: Callable[..., Terms], teacher, student, params, batch: Batch, *arguments, **axis
) -> Terms:
    """The terms of labels, ``teacher/...`` and ``student/...``, as ones of all labelled clips."""
    labelled = _tagged(batch, "labelled")
    return {
        name: Term(term.weight, jnp.where(term.clips > 0, term.value, 0.0), labelled)
        if name.startswith(("teacher/", "student/")) and term.clips is not None
        else term
        for name, term in terms(teacher, student, params, batch, *arguments, **axis).items()
    }


# What a term's sum over its clips is divided by: their number; of a term of labels, that of weak
# and strong clips together; or that of all clips of the batch.
NORMALISATIONS: dict[str, Callable[..., Terms] | None] = {
    "own": None,
    "labelled": _over_labelled,
    "batch": _over_batch,
}


def _on_all_devices(terms: Callable[..., Terms], *arguments, axis_name: str | None) -> Terms:
    """The terms with an axis that has to be named: left out, statistics would be each device's."""
    return terms(*arguments, axis_name=axis_name)


def joint(config, steps_per_epoch: int) -> Objective:
    """The joint framework of a config: equations 5 and 6."""
    ramps = Schedules.of(config, steps_per_epoch)
    page = config.loss
    space = Space.of(page)
    distillation = tuple(
        Distilled(
            name,
            resolve(page.distances.get(name, name), DISTANCES, f"config.loss.distillation.{name}"),
            weight,
        )
        for name, weight in page.distillation.items()
        if is_on(weight)
    )
    terms = partial(
        joint_terms,
        schedules=ramps,
        distillation=distillation,
        gamma=page.gamma,
        focal_form=page.focal_form,
        tagged=page.clip_labels,
        space=space,
        guidance=Guidance.of(config.guided),
    )
    init = partial(distillation_maps, dims=page.distillation_dims)
    if not distillation:
        return Objective(_normalised(terms, page), init, ramps.weights)
    across_devices = space.scale == "standardised"
    return Objective(
        _normalised(partial(_on_all_devices, terms) if across_devices else terms, page),
        init,
        ramps.weights,
        measures=partial(measures, distillation=distillation, space=space),
        across_devices=across_devices,
    )


def guided_learning(config, steps_per_epoch: int) -> Objective:
    """Guided Learning's objective of a config."""
    ramps = Schedules.of(config, steps_per_epoch)
    guidance = Guidance.of(config.guided)
    terms = partial(guided_learning_terms, schedules=ramps, guidance=guidance)
    return Objective(_normalised(terms, config.loss), weights=ramps.weights)


def mean_teacher(config, steps_per_epoch: int) -> Objective:
    """The mean teacher's objective of a config."""
    ramps = Schedules.of(config, steps_per_epoch)
    terms = partial(mean_teacher_terms, schedules=ramps)
    return Objective(_normalised(terms, config.loss), weights=ramps.weights)


def supervised(config, steps_per_epoch: int) -> Objective:
    """The objective of a student alone."""
    terms = partial(supervised_terms, tagged=config.loss.clip_labels)
    return Objective(_normalised(terms, config.loss), teacher=False)


# By the names that ``config.scheme`` can have; a function of (config, steps_per_epoch).
OBJECTIVES: dict[str, Callable[[Any, int], Objective]] = {
    "joint": joint,
    "guided_learning": guided_learning,
    "mean_teacher": mean_teacher,
    "supervised": supervised,
}
