"""The recurrence of a bidirectional GRU, with its gradient written by hand.

Whatever does not wait for the frame before is done for all frames at once: before the loop the
projection of the input, and in the backward pass the gates, their derivatives and the weights'
gradients. What is left to a loop is one small matrix product a turn, for both directions together.

Axis letters: ``T`` frames, ``B`` clips, ``H`` hidden units. Pairs are (forward, backward) in time:
in turn t the forward direction is at frame t, the backward one at frame T - 1 - t. Gates are
stacked in the order reset, update, new.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

_at = partial(lax.dynamic_index_in_dim, keepdims=False)


def _gates(projected, recurred):
    """Reset, update and new, each [..., H], of two [..., 3H]."""
    reset, update, new = jnp.split(projected, 3, axis=-1)
    recurred_reset, recurred_update, recurred_new = jnp.split(recurred, 3, axis=-1)
    reset = nn.sigmoid(reset + recurred_reset)
    update = nn.sigmoid(update + recurred_update)
    return reset, update, jnp.tanh(new + reset * recurred_new)


@jax.custom_vjp
def recurrence(forward, backward, kernel, bias):
    """The states of both directions, from zero.

    Args:
      forward, backward: [T, B, 3H] projected inputs, frame by frame.
      kernel: [2, H, 3H] recurrent weights.
      bias: [2, 3H] recurrent biases.

    Returns:
      Two [T, B, H], frame by frame.
    """
    return _forward(forward, backward, kernel, bias)[0]


def _forward(forward, backward, kernel, bias):
    turns, clips, _ = forward.shape

    def turn(state, t):
        projected = jnp.stack([_at(forward, t), _at(backward, turns - 1 - t)])
        recurred = jnp.einsum("zbh,zhk->zbk", state, kernel) + bias[:, None]
        _, update, new = _gates(projected, recurred)
        state = (1 - update) * new + update * state
        return state, state

    start = jnp.zeros((2, clips, kernel.shape[1]), forward.dtype)
    _, states = lax.scan(turn, start, jnp.arange(turns))
    return (states[:, 0], states[::-1, 1]), (forward, backward, kernel, bias, states)


def _backward(residuals, cotangents):
    forward, backward, kernel, bias, states = residuals
    turns = len(states)
    # From here on [2, T, B, ...], both directions turn by turn.
    before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]]).swapaxes(0, 1)
    projected = jnp.stack([forward, backward[::-1]])
    recurred = jnp.einsum("ztbh,zhk->ztbk", before, kernel) + bias[:, None, None]
    reset, update, new = _gates(projected, recurred)
    # What the gates' arguments gain per unit of the new state.
    to_new = (1 - update) * (1 - new**2)
    to_update = (before - new) * update * (1 - update)
    to_reset = to_new * jnp.split(recurred, 3, axis=-1)[2] * reset * (1 - reset)
    to_recurred = jnp.concatenate([to_reset, to_update, to_new * reset], axis=-1)
    outer = jnp.stack([cotangents[0], cotangents[1][::-1]])
    transposed = kernel.swapaxes(1, 2)

    def turn(inner, t):
        total = inner + _at(outer, t, 1)
        recurred = jnp.tile(total, 3) * _at(to_recurred, t, 1)
        inner = total * _at(update, t, 1) + jnp.einsum("zbk,zkh->zbh", recurred, transposed)
        return inner, total

    start = jnp.zeros_like(states[0])
    _, totals = lax.scan(turn, start, jnp.arange(turns), reverse=True)
    totals = totals.swapaxes(0, 1)
    recurred = jnp.tile(totals, 3) * to_recurred
    to_projected = jnp.concatenate([to_reset, to_update, to_new], axis=-1)
    projected = jnp.tile(totals, 3) * to_projected
    kernel_gradient = jnp.einsum("ztbh,ztbk->zhk", before, recurred)
    return projected[0], projected[1][::-1], kernel_gradient, recurred.sum((1, 2))


recurrence.defvjp(_forward, _backward)
