"""The two loops of `jfsed_jax.kernels.gru` as one GPU kernel each (Pallas, lowered to Triton).

A scan of 600 frames starts every turn anew: several kernels of little work, weights from memory.
Here the turns are a loop inside the kernel. A program is one direction of `_TILE` clips; it reads
the recurrent weights once, keeps them and the state on the chip, and reads and writes one row of
every array a turn. Programs do not wait for each other. A turn reads the rows of the next one, so
that no turn waits for memory.

The state (backward: the gradient) is carried in float32, whatever the arrays' type; operands of the
matrix products have the arrays' type and are accumulated in float32. The products of float32
follow JAX's ``jax_default_matmul_precision``, like XLA's: TF32, unless it is "highest".

Triton knows no slices of values and only shapes that are powers of two: the three gates are read
from their arrays one by one, and the clips are padded to whole tiles.

Axis letters as in `jfsed_jax.kernels.gru`.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jfsed_jax.kernels.gru import next_state

_TILE = 16  # clips: the fewest rows that a matrix product in Triton takes
_WARPS = 4


def fits(hidden: int) -> bool:
    """Whether the kernels are made for H: a power of two, of which the weights fit on the chip."""
    return hidden in (16, 32, 64)


def _gate_slices(hidden):
    return [pl.ds(gate * hidden, hidden) for gate in range(3)]


def _product(rows, weights):
    return jnp.dot(rows.astype(weights.dtype), weights, preferred_element_type=jnp.float32)


def _forward_kernel(projected, kernel, bias, states):
    """Refs to [T, tile, 3H] frame by frame, [H, 3H], [3H], and to [T, tile, H] turn by turn."""
    turns, tile, hidden = states.shape
    slices = _gate_slices(hidden)
    kernels = [kernel[:, gate] for gate in slices]
    biases = [bias[gate].astype(jnp.float32) for gate in slices]
    direction = pl.program_id(0)

    def read(t):
        t = jnp.minimum(t, turns - 1)  # the last turn reads ahead too
        frame = jnp.where(direction == 0, t, turns - 1 - t)
        return [projected[frame, :, gate] for gate in slices]

    def turn(t, carry):
        state, now = carry
        coming = read(t + 1)
        recurred = [_product(state, k) + b for k, b in zip(kernels, biases, strict=True)]
        state = next_state(state, [gate.astype(jnp.float32) for gate in now], recurred)
        states[t] = state.astype(states.dtype)
        return state, coming

    lax.fori_loop(0, turns, turn, (jnp.zeros((tile, hidden), jnp.float32), read(0)))


def _backward_kernel(outer, update, to_recurred, transposed, totals):
    """Refs to [T, tile, H] twice, [T, tile, 3H], [3H, H], and to [T, tile, H]; turn by turn."""
    turns, tile, hidden = totals.shape
    slices = _gate_slices(hidden)
    kernels = [transposed[gate, :] for gate in slices]

    def read(t):
        t = jnp.maximum(t, 0)  # the last turn reads ahead too
        return outer[t], update[t], [to_recurred[t, :, gate] for gate in slices]

    def turn(i, carry):
        inner, (gain, keep, shares) = carry
        t = turns - 1 - i
        coming = read(t - 1)
        total = inner + gain.astype(jnp.float32)
        totals[t] = total.astype(totals.dtype)
        inner = total * keep.astype(jnp.float32)
        for share, kernel in zip(shares, kernels, strict=True):
            inner += _product(total * share.astype(jnp.float32), kernel)
        return inner, coming

    lax.fori_loop(0, turns, turn, (jnp.zeros((tile, hidden), jnp.float32), read(turns - 1)))


def _padded(x):
    """[2, T, B, ...] with B a multiple of the tile."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % _TILE), (0, 0)))


def _tiles(width, frames):
    """The rows of one direction and tile, of [2, T, B, width]."""
    return pl.BlockSpec((None, frames, _TILE, width), lambda z, tile: (z, 0, tile, 0))


def _whole(rows, columns):
    """All weights of one direction."""
    return pl.BlockSpec((None, rows, columns), lambda z, tile: (z, 0, 0))


def forward_loop(forward, backward, kernel, bias, *, interpret: bool = False) -> jax.Array:
    """The states turn by turn, [T, 2, B, H]; arguments of `bigru.recurrence`.

    With ``interpret`` the kernel runs as JAX operations, on any platform.
    """
    turns, clips, _ = forward.shape
    hidden = kernel.shape[1]
    projected = _padded(jnp.stack([forward, backward]))
    rows = projected.shape[2]
    states = pl.pallas_call(
        _forward_kernel,
        grid=(2, rows // _TILE),
        in_specs=[
            _tiles(3 * hidden, turns),
            _whole(hidden, 3 * hidden),
            pl.BlockSpec((None, 3 * hidden), lambda z, tile: (z, 0)),
        ],
        out_specs=pl.BlockSpec((turns, None, _TILE, hidden), lambda z, tile: (0, z, tile, 0)),
        out_shape=jax.ShapeDtypeStruct((turns, 2, rows, hidden), forward.dtype),
        compiler_params=triton.CompilerParams(num_warps=_WARPS, num_stages=1),
        interpret=interpret,
        name="gru_forward",
    )(projected, kernel, bias)
    return states[:, :, :clips]


def backward_loop(outer, update, to_recurred, kernel, *, interpret: bool = False) -> jax.Array:
    """The loss's whole gradient for every state, [2, T, B, H], as the scan's backward loop."""
    _, turns, clips, hidden = outer.shape
    narrow, wide = _tiles(hidden, turns), _tiles(3 * hidden, turns)
    outer, update, to_recurred = map(_padded, (outer, update, to_recurred))
    totals = pl.pallas_call(
        _backward_kernel,
        grid=(2, outer.shape[2] // _TILE),
        in_specs=[narrow, narrow, wide, _whole(3 * hidden, hidden)],
        out_specs=narrow,
        out_shape=jax.ShapeDtypeStruct(outer.shape, outer.dtype),
        compiler_params=triton.CompilerParams(num_warps=_WARPS, num_stages=1),
        interpret=interpret,
        name="gru_backward",
    )(outer, update, to_recurred, kernel.swapaxes(1, 2))
    return totals[:, :, :clips]
