"""The two loops of `jfsed_jax.kernels.gru` as one GPU kernel each, whatever compiles it.

A scan of 600 frames starts every turn anew: several kernels of little work, weights from memory.
Here the turns are a loop inside the kernel. A program is one direction of a tile of clips; it reads
the recurrent weights once, keeps them and the state on the chip, and reads and writes one row of
every array a turn. Programs do not wait for each other. A turn reads the rows of the next one, so
that no turn waits for memory.

The state (backward: the gradient) is carried in float32, whatever the arrays' type; the matrix
products are accumulated in float32.

The bodies are written once, in JAX's operations and the `Operations` of one of Pallas' backends:
Triton in `jfsed_jax.kernels.gru_triton`, Mosaic GPU in `jfsed_jax.kernels.gru_mosaic`. Triton knows
no slices of values: the three gates are read from their arrays one by one.

Axis letters as in `jfsed_jax.kernels.gru`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jfsed_jax.kernels.gru import next_state


class Operations(NamedTuple):
    """What a program does in its backend's own way."""

    read: Callable[..., jax.Array]  # (ref, index) -> rows [tile, H]
    write: Callable[..., None]  # (ref, index, rows)
    weights: Callable[..., Any]  # (ref, index) -> what `product` takes for [H, H]
    bias: Callable[..., jax.Array]  # (ref, gate) -> float32 to add to [tile, H]
    operand: Callable[..., Any]  # float32 rows -> what `product` takes for them
    product: Callable[..., jax.Array]  # (operand, weights) -> float32 [tile, H]


def padded(x: jax.Array, tile: int) -> jax.Array:
    """[2, T, B, ...] with B a multiple of the tile."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % tile), (0, 0)))


def _gate_slices(hidden):
    return [pl.ds(gate * hidden, hidden) for gate in range(3)]


def forward_kernel(on: Operations, direction, projected, kernel, bias, states) -> None:
    """All turns of a direction's tile.

    Refs to [T, tile, 3H] frame by frame, [H, 3H], [3H], and to [T, tile, H] turn by turn.
    """
    turns, tile, hidden = states.shape
    slices = _gate_slices(hidden)
    kernels = [on.weights(kernel, (slice(None), gate)) for gate in slices]
    biases = [on.bias(bias, gate) for gate in slices]

    def read(t):
        t = jnp.minimum(t, turns - 1)  # the last turn reads ahead too
        frame = jnp.where(direction == 0, t, turns - 1 - t)
        return [on.read(projected, (frame, slice(None), gate)) for gate in slices]

    def turn(t, carry):
        state, now = carry
        coming = read(t + 1)
        operand = on.operand(state)
        recurred = [on.product(operand, k) + b for k, b in zip(kernels, biases, strict=True)]
        state = next_state(state, [gate.astype(jnp.float32) for gate in now], recurred)
        on.write(states, t, state)
        return state, coming

    lax.fori_loop(0, turns, turn, (jnp.zeros((tile, hidden), jnp.float32), read(0)))


def backward_kernel(on: Operations, outer, update, to_recurred, transposed, totals) -> None:
    """All turns of a direction's tile, from the last.

    Refs to [T, tile, H] twice, [T, tile, 3H], [3H, H], and to [T, tile, H]; turn by turn.
    """
    turns, tile, hidden = totals.shape
    slices = _gate_slices(hidden)
    kernels = [on.weights(transposed, (gate, slice(None))) for gate in slices]

    def read(t):
        t = jnp.maximum(t, 0)  # the last turn reads ahead too
        shares = [on.read(to_recurred, (t, slice(None), gate)) for gate in slices]
        return on.read(outer, t), on.read(update, t), shares

    def turn(i, carry):
        inner, (gain, keep, shares) = carry
        t = turns - 1 - i
        coming = read(t - 1)
        total = inner + gain.astype(jnp.float32)
        on.write(totals, t, total)
        inner = total * keep.astype(jnp.float32)
        for share, kernel in zip(shares, kernels, strict=True):
            inner += on.product(on.operand(total * share.astype(jnp.float32)), kernel)
        return inner, coming

    lax.fori_loop(0, turns, turn, (jnp.zeros((tile, hidden), jnp.float32), read(turns - 1)))
