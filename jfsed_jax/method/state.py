"""What training carries from step to step: state, schedules, optimiser.

Every schedule is a function of the step alone, so a resumed run computes the same values.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """Arrays only. Of K > 1 seeds trained as one program, each has a leading axis [K, ...].

    Attributes:
      step: <int32>[] steps taken.
      params: ``teacher`` and ``student`` variables, and ``distillation``: the bias-free maps
        ``teacher`` <float32>[D_t, E] and ``student`` <float32>[D_s, E] of equation 2. A mean
        teacher (system 0) has a student alone: the optimiser's average is the teacher.
      batch_stats: running batch statistics of ``teacher`` and ``student``.
      opt_state: the optimiser's, which holds the moving average of the parameters too.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


@jax.jit
def _at(stacked, k):
    return jax.tree.map(lambda leaf: leaf[k], stacked)


def state_of_seed(state: TrainState, k: int) -> TrainState:
    """What seed `k` has of the state of several, whose arrays are [K, ...]; one seed's as it is."""
    return _at(state, k) if state.step.ndim else state


@dataclass(frozen=True)
class Schedules:
    """alpha, beta, the stage and the learning rate as functions of the step (section 3.2).

    Attributes:
      steps_per_epoch: steps in one epoch.
      alpha_base, alpha_start: lambda and s of ``alpha = 1 - lambda^(e - s)``.
      consistency_max, consistency_rampup_epochs: the teacher's guidance of the student grows to
        this weight over these epochs as beta does; 0 epochs for full weight from the start, as in
        equation 3.
      beta_max, beta_rampup_epochs: top and length of the sigmoid-shaped ramp of beta.
      tau: the epoch from which the adaptive focal loss replaces BCE; None for never.
      learning_rate, decay, decay_epochs: the rate is multiplied by `decay` every `decay_epochs`.
    """

    steps_per_epoch: int
    alpha_base: float
    alpha_start: float
    consistency_max: float
    consistency_rampup_epochs: float
    beta_max: float
    beta_rampup_epochs: float
    tau: float | None
    learning_rate: float
    decay: float
    decay_epochs: float

    def epoch(self, step) -> jax.Array:
        """The number of whole epochs before this step."""
        return jnp.asarray(step) // self.steps_per_epoch

    def alpha(self, step) -> jax.Array:
        """Weight of the student's guidance of the teacher: 0 before epoch s (equation 3)."""
        return 1 - self.alpha_base ** jnp.maximum(self.epoch(step) - self.alpha_start, 0.0)

    def beta(self, step) -> jax.Array:
        """Weight of the distillation: ``beta_max exp(-5 (1 - x)^2)``, x the ramp's progress."""
        return self.beta_max * self._rampup(step, self.beta_rampup_epochs)

    def consistency(self, step) -> jax.Array:
        """Weight of the teacher's guidance of the student."""
        return self.consistency_max * self._rampup(step, self.consistency_rampup_epochs)

    def _rampup(self, step, epochs: float) -> jax.Array:
        """``exp(-5 (1 - x)^2)``, x growing from 0 to 1 over `epochs` (reference [29])."""
        if not epochs:
            return jnp.ones(())
        x = jnp.clip(jnp.asarray(step) / (epochs * self.steps_per_epoch), 0.0, 1.0)
        return jnp.exp(-5.0 * (1 - x) ** 2)

    def second_stage(self, step) -> jax.Array:
        """True from epoch tau on (equations 5 and 6)."""
        if self.tau is None:
            return jnp.asarray(False)
        return self.epoch(step) >= self.tau

    def rate(self, step) -> jax.Array:
        """The learning rate."""
        return self.learning_rate * self.decay ** (self.epoch(step) // self.decay_epochs)


class ParameterEmaState(NamedTuple):
    """The moving average of the parameters; kept by the optimiser, updated after each step."""

    ema: Any


def parameter_ema(decay: float) -> optax.GradientTransformation:
    """Passes updates through and keeps ``ema = d ema + (1 - d) params`` of the updated params.

    As in the mean teacher (reference [29]), ``d = min(decay, 1 - 1 / (step + 1))``: it starts from
    the first parameters, and for long it is the mean of all. Comes last in a chain, where updates
    are final.
    """

    def init(params):
        # A copy: state is donated, and a buffer can be given away only once.
        return jnp.zeros((), jnp.int32), ParameterEmaState(jax.tree.map(jnp.copy, params))

    def update(updates, state, params):
        count, (ema,) = state
        d = jnp.minimum(decay, 1 - 1 / (count + 2.0))
        new = optax.apply_updates(params, updates)
        ema = jax.tree.map(lambda old, new: d * old + (1 - d) * new, ema, new)
        return updates, (count + 1, ParameterEmaState(ema))

    return optax.GradientTransformation(init, update)


def averaged_params(state: TrainState):
    """The moving average of all parameters, or None where the optimiser keeps none."""
    found = [
        leaf.ema
        for leaf in jax.tree.leaves(
            state.opt_state, is_leaf=lambda node: isinstance(node, ParameterEmaState)
        )
        if isinstance(leaf, ParameterEmaState)
    ]
    return found[0] if found else None


def teacher_params(state: TrainState):
    """The teacher's parameters: its own, or in a mean teacher the average of the student's."""
    if "teacher" in state.params:
        return state.params["teacher"]
    return averaged_params(state)["student"]


def make_optimiser(schedules: Schedules, ema_decay: float) -> optax.GradientTransformation:
    """Adam with the schedule's rate; `ema_decay` 0 keeps no average."""
    chain = [optax.scale_by_adam(), optax.scale_by_learning_rate(schedules.rate)]
    if ema_decay:
        chain.append(parameter_ema(ema_decay))
    return optax.chain(*chain)


def create_state(
    key: jax.Array,
    teacher: nn.Module,
    student: nn.Module,
    optimiser: optax.GradientTransformation,
    *,
    input_shape: tuple[int, int],
    distillation_dims: int,
    mean_teacher: bool = False,
) -> TrainState:
    """A fresh state.

    Args:
      key: typed random key.
      teacher, student: the two models.
      optimiser: optax transformation over all parameters.
      input_shape: (T, F).
      distillation_dims: E; 0 for a system without distillation, whose state has no maps.
      mean_teacher: the teacher has the student's architecture and no parameters of its own.
    """
    keys = dict(
        zip(("teacher", "student", "map_t", "map_s"), jax.random.split(key, 4), strict=True)
    )
    mel = jnp.zeros((1, *input_shape), jnp.float32)
    variables = {
        "teacher": teacher.init(keys["teacher"], mel),
        "student": student.init(keys["student"], mel),
    }

    def width(model, variables):
        return jax.eval_shape(model.apply, variables, mel).features.shape[-1]

    params = {name: v["params"] for name, v in variables.items()}
    if mean_teacher:
        del params["teacher"]
    if distillation_dims:
        lecun = nn.initializers.lecun_normal()
        params["distillation"] = {
            name: lecun(keys[key], (width(model, variables[name]), distillation_dims))
            for name, key, model in (("teacher", "map_t", teacher), ("student", "map_s", student))
        }
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats={name: v["batch_stats"] for name, v in variables.items()},
        opt_state=optimiser.init(params),
    )
