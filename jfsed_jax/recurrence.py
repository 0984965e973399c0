"""The recurrence of a bidirectional GRU, with its gradient written by hand.

Whatever does not wait for the frame before is done for all frames at once: before the loop the
projection of the input, and in the backward pass the gates, their derivatives and the weights'
gradients. What is left to a loop is one small matrix product a turn, for both directions together.
There are two implementations of the two `Loops`: a scan, here, and one kernel for all frames on a
GPU, in `jfsed_jax.recurrence_gpu`.

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

_at = partial(lax.dynamic_index_in_dim, keepdims=False)
_split = partial(jnp.split, indices_or_sections=3, axis=-1)


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
        state = next_state(state, _split(projected), _split(recurred))
        return state, state

    start = jnp.zeros((2, clips, kernel.shape[1]), forward.dtype)
    return lax.scan(turn, start, jnp.arange(turns))[1]


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
    _, totals = lax.scan(turn, start, jnp.arange(outer.shape[1]), reverse=True)
    return totals.swapaxes(0, 1)


def _kernel_or_scan(which, *arguments):
    """The kernel's loop on a CUDA device, if the kernel is made for this H; elsewhere the scan's.

    The platform is known only when the program is compiled: a checkpoint of a run on a GPU predicts
    on any machine.
    """
    # Here, so that nobody who does not ask for the kernel needs Pallas.
    from jfsed_jax import recurrence_gpu

    scan = getattr(SCAN, which)
    if not recurrence_gpu.fits(hidden=arguments[-1].shape[-1] // 3):
        return scan(*arguments)
    kernel = getattr(recurrence_gpu, f"{which}_loop")
    return lax.platform_dependent(*arguments, cuda=kernel, default=scan)


SCAN = Loops(_scan_forward, _scan_backward)
PALLAS = Loops(partial(_kernel_or_scan, "forward"), partial(_kernel_or_scan, "backward"))
LOOPS = {"scan": SCAN, "pallas": PALLAS}  # by the names that config.gru_loop can have


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def recurrence(forward, backward, kernel, bias, loops: Loops = SCAN) -> tuple[jax.Array, jax.Array]:
    """The states of both directions, from zero.

    Args:
      forward, backward: [T, B, 3H] projected inputs, frame by frame.
      kernel: [2, H, 3H] recurrent weights.
      bias: [2, 3H] recurrent biases.
      loops: how the loops are run.

    Returns:
      Two [T, B, H], frame by frame.
    """
    return _forward(forward, backward, kernel, bias, loops)[0]


def _forward(forward, backward, kernel, bias, loops):
    states = loops.forward(forward, backward, kernel, bias)
    return (states[:, 0], states[::-1, 1]), (forward, backward, kernel, bias, states)


def _backward(loops, residuals, cotangents):
    forward, backward, kernel, bias, states = residuals
    # From here on [2, T, B, ...], both directions turn by turn.
    before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]]).swapaxes(0, 1)
    projected = _split(jnp.stack([forward, backward[::-1]]))
    recurred = _split(jnp.einsum("ztbh,zhk->ztbk", before, kernel) + bias[:, None, None])
    reset, update, new = gates(projected, recurred)
    # What the gates' arguments gain per unit of the new state.
    to_new = (1 - update) * (1 - new**2)
    to_update = (before - new) * update * (1 - update)
    to_reset = to_new * recurred[2] * reset * (1 - reset)
    to_recurred = jnp.concatenate([to_reset, to_update, to_new * reset], axis=-1)
    outer = jnp.stack([cotangents[0], cotangents[1][::-1]])

    totals = loops.backward(outer, update, to_recurred, kernel)

    to_projected = jnp.concatenate([to_reset, to_update, to_new], axis=-1)
    projected_gradient = jnp.tile(totals, 3) * to_projected
    recurred_gradient = jnp.tile(totals, 3) * to_recurred
    kernel_gradient = jnp.einsum("ztbh,ztbk->zhk", before, recurred_gradient)
    bias_gradient = recurred_gradient.sum((1, 2))
    return projected_gradient[0], projected_gradient[1][::-1], kernel_gradient, bias_gradient


recurrence.defvjp(_forward, _backward)
