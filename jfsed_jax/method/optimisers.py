"""The optimiser that a config names, and the moving average that it keeps of the parameters."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jfsed_jax.errors import InputError
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
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, ParameterEmaState))
    return next((node.ema for node in nodes if isinstance(node, ParameterEmaState)), None)


def from_config(page, rate: Schedule) -> optax.GradientTransformation:
    """The optimiser of a config's ``optimiser`` page.

    Args:
      page: ``name`` is an optimiser of optax, or ``package.module:function``, that takes
        ``learning_rate`` and the page's ``arguments``; ``ema_decay`` 0 keeps no average.
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
    return optax.chain(optimiser, parameter_ema(page.ema_decay)) if page.ema_decay else optimiser


def rate_in(opt_state) -> jax.Array | None:
    """The rate that `optax.inject_hyperparams` keeps in a state; None where nothing does."""
    found = optax.tree_utils.tree_get_all_with_path(opt_state, "learning_rate")
    return found[0][1] if found else None
