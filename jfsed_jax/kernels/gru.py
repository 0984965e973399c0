"""A turn of a bidirectional GRU, and the two loops over all turns as scans.

Axis letters: ``T`` frames, ``B`` clips, ``H`` hidden units. Pairs are (forward, backward) in time:
in turn t the forward direction is at frame t, the backward one at frame T - 1 - t. Gates are
stacked in the order reset, update, new.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# Turns of a loop's body. With one XLA's CPU backend writes the new state over the old, and does not
# vectorise what it writes in place.
_UNROLL = 2

_at = partial(lax.dynamic_index_in_dim, keepdims=False)


split_gates = partial(jnp.split, indices_or_sections=3, axis=-1)


class Loops(NamedTuple):
    """What goes turn by turn, as `_scan_forward` and `_scan_backward` define it."""

    forward: Callable[..., jax.Array]
    backward: Callable[..., jax.Array]


def gates(projected, recurred):
    """Reset, update and new, of the input's and the state's share of the three."""
    reset = nn.sigmoid(projected[0] + recurred[0])
    update = nn.sigmoid(projected[1] + recurred[1])
    return reset, update, jnp.tanh(projected[2] + reset * recurred[2])


def next_state(state, projected, recurred):
    """The state after a turn."""
    _, update, new = gates(projected, recurred)
    return (1 - update) * new + update * state


def _scan_forward(forward, backward, kernel, bias):
    """The states turn by turn, [T, 2, B, H], from zero; arguments of `recurrence`."""
    turns, clips, _ = forward.shape

    def turn(state, t):
        projected = jnp.stack([_at(forward, t), _at(backward, turns - 1 - t)])
        recurred = jnp.einsum("zbh,zhk->zbk", state, kernel) + bias[:, None]
        state = next_state(state, split_gates(projected), split_gates(recurred))
        return state, state

    start = jnp.zeros((2, clips, kernel.shape[1]), forward.dtype)
    return lax.scan(turn, start, jnp.arange(turns), unroll=_UNROLL)[1]


def _scan_backward(outer, update, to_recurred, kernel):
    """The loss's whole gradient for every state, from the last turn to the first.

    Args:
      outer: [2, T, B, H] what the states gain from outside; all arrays turn by turn.
      update: [2, T, B, H] the gate: what a state hands on to the next.
      to_recurred: [2, T, B, 3H] what the gates' recurrent share gains per unit of the new state.
      kernel: [2, H, 3H] recurrent weights.

    Returns:
      [2, T, B, H]: outer and what came back from the turns after.
    """
    transposed = kernel.swapaxes(1, 2)

    def turn(inner, t):
        total = inner + _at(outer, t, 1)
        recurred = jnp.tile(total, 3) * _at(to_recurred, t, 1)
        inner = total * _at(update, t, 1) + jnp.einsum("zbk,zkh->zbh", recurred, transposed)
        return inner, total

    start = jnp.zeros_like(outer[:, 0])
    numbers = jnp.arange(outer.shape[1])
    _, totals = lax.scan(turn, start, numbers, reverse=True, unroll=_UNROLL)
    return totals.swapaxes(0, 1)


SCAN = Loops(_scan_forward, _scan_backward)
