"""What training carries from step to step."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from jfsed_jax.errors import InputError
from jfsed_jax.method.optimisers import averaged, with_average
from jfsed_jax.method.system import System


@flax.struct.dataclass
class TrainState:
    """Arrays only. Of K > 1 seeds trained as one program, each has a leading axis [K, ...].

    Attributes:
      step: <int32>[] steps taken.
      params: ``teacher`` and ``student`` variables, and those of the objective; of the joint
        framework ``distillation``: the bias-free maps ``teacher`` <float32>[D_t, E] and ``student``
        <float32>[D_s, E] of equation 2. A mean teacher (system 0) has a student alone: the
        optimiser's average is the teacher.
      batch_stats: running batch statistics of ``teacher`` and ``student``; empty where a model has
        none, and without ``teacher`` where there is no teacher at all.
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


def teacher_params(params, opt_state):
    """The teacher's parameters: its own, or in a mean teacher the average of the student's."""
    if "teacher" in params:
        return params["teacher"]
    average = averaged(opt_state)
    if average is None:
        raise InputError("a mean teacher needs a moving average: set config.optimiser.ema_decay")
    return average["student"]


Variables = dict[str, dict[str, Any]]


def model_variables(
    params: Any, batch_stats: Any, average: Any = None, *, use_average: bool = False
) -> Variables:
    """What inference needs of one seed's state: the variables of its models.

    Args:
      params, batch_stats: of the state.
      average: the optimiser's moving average of `params`, None if it keeps none.
      use_average: take it and not the parameters.

    Returns:
      ``teacher`` and ``student``, each with ``params`` and ``batch_stats``. A mean teacher has the
      average of the student's parameters and the student's statistics: its own are those of noisy
      clips, and the clips to be labelled are clean. A student alone has no ``teacher``.

    Raises:
      InputError: there is no average, and it is needed.
    """
    own_teacher, alone = "teacher" in params, "teacher" not in batch_stats
    if average is None and (use_average or not (own_teacher or alone)):
        raise InputError(
            "there is no moving average of the parameters: train with "
            "config.optimiser.ema_decay, or evaluate with config.evaluation.average=False"
        )
    chosen = average if use_average else params
    student = {"params": chosen["student"], "batch_stats": batch_stats["student"]}
    if alone:
        return {"student": student}
    return {
        "teacher": {
            "params": chosen["teacher"] if own_teacher else average["student"],
            "batch_stats": batch_stats["teacher" if own_teacher else "student"],
        },
        "student": student,
    }


def run_keys(seed: int, num_seeds: int = 1) -> jax.Array:
    """The random key of a run, or one for each of its `num_seeds` > 1 seeds: <key>[] or [K].

    A run starts from it and folds the step into it. The generator is JAX's default, threefry: under
    `jax.vmap` the other one, ``rbg``, draws the numbers of all keys from the first, so that a seed
    would not repeat the run that it is alone.
    """
    keys = [jax.random.key(seed + k) for k in range(num_seeds)]
    return keys[0] if num_seeds == 1 else jnp.stack(keys)


def initial_state(system: System, key: jax.Array, *, input_shape: tuple[int, int]) -> TrainState:
    """The state in which training starts.

    Args:
      system: models, objective, optimiser.
      key: of `run_keys`. Of several <key>[K]: the states that each of them gives, stacked, all
        arrays [K, ...].
      input_shape: (T, F) of a clip.
    """
    if key.ndim:
        # One after the other, and so to the bit what one key alone gives.
        return lax.map(lambda own: initial_state(system, own, input_shape=input_shape), key)
    key = jax.random.fold_in(key, 2**32 - 1)  # a step's number is what training folds in
    models = system.models.named()
    mel = jnp.zeros((1, *input_shape), jnp.float32)
    # By name: a student starts from the same weights with a teacher and without.
    keys = dict(zip(("teacher", "student"), jax.random.split(key, 4)[:2], strict=True))
    variables: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    for name, model in models.items():
        output, variables[name] = model.init_with_output(keys[name], mel)  # one trace for both
        outputs[name] = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), output)
    params = {name: found["params"] for name, found in variables.items()}
    if system.models.teacher is None:
        params.pop("teacher", None)
    teacher: Any = outputs.get("teacher")
    params |= system.objective.init(key, teacher, outputs["student"])
    opt_state = system.optimiser.init(params)
    if system.own_start:
        opt_state = with_average(opt_state, {"student": variables["teacher"]["params"]})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats={name: found.get("batch_stats", {}) for name, found in variables.items()},
        opt_state=opt_state,
    )
