"""The optimiser that a config names, and the moving average that it keeps of the parameters."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jfsed_jax.errors import InputError
from jfsed_jax.method.numbers import is_on
from jfsed_jax.method.schedules import Schedule
from jfsed_jax.seams import call, resolve


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


def averaged(opt_state) -> Any | None:
    """The moving average of all parameters, or None where the optimiser keeps none."""
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_average)
    return next((node.ema for node in nodes if _is_average(node)), None)


def with_average(opt_state, changes: Mapping[str, Any]) -> Any:
    """The same state, some of the averages in place of those that it keeps."""

    def replace(node):
        return ParameterEmaState(node.ema | changes) if _is_average(node) else node

    return jax.tree.map(replace, opt_state, is_leaf=_is_average)


def _is_average(node: Any) -> bool:
    return isinstance(node, ParameterEmaState)


def restarted(
    optimiser: optax.GradientTransformation, rate: Schedule
) -> optax.GradientTransformation:
    """The optimiser, its state made anew at each step whose rate is below that of the step before.

    As Guided Learning's released code does, which compiles a new Adam. What counts the steps of a
    schedule goes on counting.
    """

    def init(params):
        return jnp.zeros((), jnp.int32), optimiser.init(params)

    def update(updates, state, params):
        count, inner = state
        falls = rate(count) < rate(jnp.maximum(count - 1, 0))

        def anew(old, fresh):
            return old if _counts(old) else jnp.where(falls, fresh, old)

        inner = jax.tree.map(anew, inner, optimiser.init(params), is_leaf=_counts)
        updates, inner = optimiser.update(updates, inner, params)
        return updates, (count + 1, inner)

    return optax.GradientTransformation(init, update)


def _counts(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)


def from_config(page, rate: Schedule) -> optax.GradientTransformation:
    """The optimiser of a config's ``optimiser`` page.

    Args:
      page: ``name`` is an optimiser of optax, or ``package.module:function``, that takes
        ``learning_rate`` and the page's ``arguments``; ``restart``, see `restarted`; ``ema_decay``
        0 keeps no average.
      rate: the learning rate of a step.
    """
    make = resolve(page.name, optax, "config.optimiser.name")
    if "learning_rate" in page.arguments:
        raise InputError(
            "config.optimiser.arguments has a learning_rate: it is config.optimiser.learning_rate, "
            "times the schedule"
        )
    optimiser = call(
        partial(make, learning_rate=rate), "config.optimiser.arguments", **page.arguments
    )
    if page.restart:
        optimiser = restarted(optimiser, rate)
    if not is_on(page.ema_decay):
        return optimiser
    return optax.chain(optimiser, parameter_ema(page.ema_decay))


def rate_in(opt_state) -> jax.Array | None:
    """The rate that `optax.inject_hyperparams` keeps in a state; None where nothing does."""
    found = optax.tree_utils.tree_get_all_with_path(opt_state, "learning_rate")
    return found[0][1] if found else None
