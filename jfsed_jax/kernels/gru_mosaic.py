"""The kernels of `jfsed_jax.kernels.gru_gpu` for Pallas' Mosaic GPU backend, from JAX 0.12 on.

Nobody has run them on a GPU. Their lowering is tested, and their numbers with a plain product in
place of `mma`, which JAX cannot interpret; what was done by hand is in docs/performance.md.

The matrix products are those of a warp (`mma`): every GPU since Ampere has them, while those of a
warpgroup, of 64 rows, are Hopper's alone. They take bfloat16. A float32 operand is the sum of two
bfloat16 (16 bits, more than TF32's 11) or, when ``jax_default_matmul_precision`` is "highest", of
three; products of two small parts are left out.
"""

# Type checkers may see JAX 0.10, which has less of Mosaic GPU: there, importing this module fails.
# mypy: disable-error-code="attr-defined, call-arg"

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as gpu
from jax.experimental.pallas.mosaic_gpu import InterpretGPUParams, load, mma, store

from jfsed_jax.kernels.gru_gpu import Operations, backward_kernel, forward_kernel, padded

# By hidden units: the clips of a tile and how many of the four warps share them; the others share
# the columns of the weights, 8 a warp.
_TILES = {16: (32, 2), 32: (16, 1), 64: (16, 1)}


def fits(hidden: int) -> bool:
    """Whether the kernels are made for H."""
    return hidden in _TILES


def _parts(dtype) -> int:
    if dtype == jnp.bfloat16:
        return 1
    return 3 if jax.config.jax_default_matmul_precision in ("highest", "float32") else 2


def _split(x, parts):
    """Float32 as so many bfloat16, largest first, of which it is the sum."""
    found = []
    for _ in range(parts):
        found.append(x.astype(jnp.bfloat16))
        x = x - found[-1].astype(jnp.float32)
    return found


def _plain(total, rows, weights):
    """As `mma`."""
    return total + jnp.dot(rows, weights, preferred_element_type=jnp.float32)


def _operations(staged, *, warps: int, interpret: bool) -> Operations:
    """With ``staged`` [parts, tile, H], shared by the threads.

    The rows of a product lie otherwise in the threads than those of its result: they change places
    through ``staged``.
    """
    parts, tile, hidden = staged.shape
    rows_of, weights_of, sums_of = (
        layout(jnp.bfloat16, m_warps=warps)
        for layout in (gpu.Layout.MMA_LHS, gpu.Layout.MMA_RHS, gpu.Layout.MMA_ACC)
    )
    multiply_add = _plain if interpret else mma

    def read(ref, index):
        return load(ref.at[index], layout=sums_of, optimized=False)

    def write(ref, index, rows):
        store(ref.at[index], rows.astype(ref.dtype), optimized=False)

    def weights(ref, index):
        loaded = load(ref.at[index], layout=weights_of, optimized=False)
        return _split(loaded.astype(jnp.float32), parts)

    def bias(ref, gate):
        row = load(ref.at[gate], layout=sums_of.reduce(0), optimized=False)
        return lax.broadcast_in_dim(row.astype(jnp.float32), (tile, hidden), (1,))

    def operand(rows):
        for i, part in enumerate(_split(rows, parts)):
            staged[i] = part
        return [load(staged.at[i], layout=rows_of, optimized=False) for i in range(parts)]

    def product(rows, weights):
        total = gpu.layout_cast(jnp.zeros((tile, hidden), jnp.float32), sums_of)
        for i in reversed(range(parts)):
            for j in reversed(range(parts - i)):
                total = multiply_add(total, rows[i], weights[j])
        return total

    return Operations(read, write, weights, bias, operand, product)


def _call(body, out_type, hidden, rows, interpret):
    tile, warps = _TILES[hidden]

    def program(*refs):
        on = _operations(refs[-1], warps=warps, interpret=interpret)
        clips = pl.ds(lax.axis_index("tile") * tile, tile)
        body(on, lax.axis_index("direction"), clips, *refs[:-1])

    return gpu.kernel(
        program,
        out_type=out_type,
        grid=(2, rows // tile),
        grid_names=("direction", "tile"),
        scratch_types=[gpu.SMEM((_parts(out_type.dtype), tile, hidden), jnp.bfloat16)],
        interpret=InterpretGPUParams() if interpret else None,
    )


def _forward(on, z, clips, projected, transposed, bias, states):
    projected, states = projected.at[z, :, clips], states.at[:, z, clips]
    # `mma` takes columns of the weights: in memory, those are rows.
    forward_kernel(on, z, projected, transposed.at[z].T, bias.at[z], states)


def _backward(on, z, clips, outer, update, to_recurred, kernel, totals):
    outer, update, to_recurred, totals = (
        x.at[z, :, clips] for x in (outer, update, to_recurred, totals)
    )
    backward_kernel(on, outer, update, to_recurred, kernel.at[z].T, totals)


def forward_loop(forward, backward, kernel, bias, *, interpret: bool = False) -> jax.Array:
    """As `gru_triton.forward_loop`; interpreted with a plain product in place of `mma`."""
    turns, clips, _ = forward.shape
    hidden = kernel.shape[1]
    projected = padded(jnp.stack([forward, backward]), _TILES[hidden][0])
    rows = projected.shape[2]
    out_type = jax.ShapeDtypeStruct((turns, 2, rows, hidden), forward.dtype)
    call = _call(_forward, out_type, hidden, rows, interpret)
    return call(projected, kernel.swapaxes(1, 2), bias)[:, :, :clips]


def backward_loop(outer, update, to_recurred, kernel, *, interpret: bool = False) -> jax.Array:
    """As `gru_triton.backward_loop`; interpreted with a plain product in place of `mma`."""
    clips, hidden = outer.shape[2:]
    pad = partial(padded, tile=_TILES[hidden][0])
    outer, update, to_recurred = pad(outer), pad(update), pad(to_recurred)
    out_type = jax.ShapeDtypeStruct(outer.shape, outer.dtype)
    call = _call(_backward, out_type, hidden, outer.shape[2], interpret)
    return call(outer, update, to_recurred, kernel)[:, :, :clips]
