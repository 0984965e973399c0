"""The kernels of `jfsed_jax.kernels.gru_gpu` for Pallas' Triton backend.

JAX calls this backend deprecated from 0.11 on and will remove it: importing this module then fails.
Operands of the matrix products have the arrays' type. The products of float32 follow JAX's
``jax_default_matmul_precision``, like XLA's: TF32, unless it is "highest".

Triton knows only shapes that are powers of two: the clips are padded to whole tiles.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas.triton import CompilerParams

from jfsed_jax.kernels.gru_gpu import Operations, backward_kernel, forward_kernel, padded

_TILE = 16  # clips: the fewest rows that a matrix product in Triton takes
_WARPS = 4


def fits(hidden: int) -> bool:
    """Whether the kernels are made for H: a power of two, of which the weights fit on the chip."""
    return hidden in (16, 32, 64)


def _write(ref, index, rows):
    ref[index] = rows.astype(ref.dtype)


def _product(rows, weights):
    return jnp.dot(rows.astype(weights.dtype), weights, preferred_element_type=jnp.float32)


_OPERATIONS = Operations(
    read=lambda ref, index: ref[index],
    write=_write,
    weights=lambda ref, index: ref[index],
    bias=lambda ref, gate: ref[gate].astype(jnp.float32),
    operand=lambda rows: rows,
    product=_product,
)


def _forward_kernel(*refs):
    forward_kernel(_OPERATIONS, pl.program_id(0), *refs)


def _backward_kernel(*refs):
    backward_kernel(_OPERATIONS, *refs)


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
    projected = padded(jnp.stack([forward, backward]), _TILE)
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
        compiler_params=CompilerParams(num_warps=_WARPS, num_stages=1),
        interpret=interpret,
        name="gru_forward",
    )(projected, kernel, bias)
    return states[:, :, :clips]


def backward_loop(outer, update, to_recurred, kernel, *, interpret: bool = False) -> jax.Array:
    """The loss's whole gradient for every state, [2, T, B, H], as the scan's backward loop."""
    _, turns, clips, hidden = outer.shape
    narrow, wide = _tiles(hidden, turns), _tiles(3 * hidden, turns)
    outer, update, to_recurred = (padded(x, _TILE) for x in (outer, update, to_recurred))
    totals = pl.pallas_call(
        _backward_kernel,
        grid=(2, outer.shape[2] // _TILE),
        in_specs=[narrow, narrow, wide, _whole(3 * hidden, hidden)],
        out_specs=narrow,
        out_shape=jax.ShapeDtypeStruct(outer.shape, outer.dtype),
        compiler_params=CompilerParams(num_warps=_WARPS, num_stages=1),
        interpret=interpret,
        name="gru_backward",
    )(outer, update, to_recurred, kernel.swapaxes(1, 2))
    return totals[:, :, :clips]
