"""Wide 2-D convolutions on a CPU with a fifth of the multiplications: Toom-Cook, or Winograd.

A tile of m outputs of r taps along an axis needs m + r - 1 inputs. Tile and taps are polynomials;
their product is known from its values at as many points, so that about m + r - 1 products do for
m r: of linear combinations of the inputs (B) with such of the taps (G), combined to the outputs
(A). Over both axes a tile is transformed twice. Products of a point are summed over channels, as
one matrix product over all tiles.

The points decide what rounding costs. Here they are infinity, 0, 1, -1 and, for long tiles, 1/2
and -2; instead of more, which lose digits, the rest modulo x^2 + 1, whose product takes three
multiplications (Karatsuba). 4 outputs of 5 taps take 9 products instead of 20, 4 of 3 take 7
instead of 12.

Axis letters: ``B`` clips, ``T`` frames, ``F`` mel bands, ``I`` and ``O`` channels in and out, and
``P``, ``Q`` the products along time and mel bands.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_OUTPUTS = {1: 1, 3: 4, 5: 4, 7: 2}  # of a tile, by taps
_ROWS = 160  # tiles of a matrix product: what is transformed at a time stays in the cache
# With fewer channels or tiles the transforms, of data and of weights, cost what the products save.
_WIDE = 64
_TILES = 200
_SAVING = 1.5  # times fewer products: tiles that a small plane does not fill are lost
_at = lax.dynamic_index_in_dim


class Algorithm(NamedTuple):
    """``outputs.T @ ((taps @ kernel) * (inputs @ tile))`` are m outputs of a tile.

    Attributes:
      outputs: A, [P, m].
      taps: G, [P, r].
      inputs: B, [P, m + r - 1].
    """

    outputs: np.ndarray
    taps: np.ndarray
    inputs: np.ndarray


def _values(length: int, size: int) -> np.ndarray:
    """[P, length]: a polynomial's values at the points, of its coefficients; `size` of a tile."""
    powers = np.arange(length)
    rows = [1.0 * (powers == length - 1)]  # at infinity
    if size > 1:
        rows += [float(point) ** powers for point in (0, 1, -1, 0.5, -2)[: size - 3]]
        real, imaginary = (1j**powers).real, (1j**powers).imag
        rows += [real, imaginary, real + imaginary]
    return np.asarray(rows).round(9)


@cache
def algorithm(taps: int) -> Algorithm:
    """For 1, 3, 5 or 7 taps."""
    outputs = _OUTPUTS[taps]
    size = outputs + taps - 1
    of_outputs, of_taps = _values(outputs, size), _values(taps, size)
    # The coefficients of the product of two polynomials, from the products of their values; a
    # convolution is its transpose.
    products = np.einsum("pm,pr->mrp", of_outputs, of_taps).reshape(outputs * taps, -1)
    sums = np.add.outer(np.arange(outputs), np.arange(taps)).ravel()
    inputs = np.linalg.lstsq(products, np.eye(size)[sums], rcond=None)[0]
    return Algorithm(of_outputs, of_taps, np.asarray(inputs.round(12)))


class _Tiles(NamedTuple):
    """How the plane of a convolution is cut: loops of `steps` turns of `chunk` rows of tiles."""

    steps: int
    chunk: int
    bands: int  # tiles of a row
    time: Algorithm
    mel: Algorithm

    @property
    def size(self) -> tuple[int, int]:
        """Outputs of a tile, frames and mel bands."""
        return self.time.outputs.shape[1], self.mel.outputs.shape[1]

    def weights(self, kernel: jax.Array) -> jax.Array:
        """[h, w, I, O] -> [P, Q, I, O]."""
        rows = _combined(self.time.taps, list(kernel), 0)
        return _combined(self.mel.taps, list(rows.swapaxes(0, 1)), 1)

    def padded(self, x: jax.Array, reach: tuple[int, int] = (0, 0)) -> jax.Array:
        """[B, T, F, C] with `reach` zeros on each side, and what fills the last tiles."""
        whole = self.steps * self.chunk * self.size[0], self.bands * self.size[1]
        fill = [(r, r + w - n) for r, w, n in zip(reach, whole, x.shape[1:3], strict=True)]
        return jnp.pad(x, ((0, 0), *fill, (0, 0)))

    def frames(self, x: jax.Array, turn, reach: int = 0) -> jax.Array:
        """Those of a turn, of a `padded` x."""
        length = self.chunk * self.size[0]
        return lax.dynamic_slice_in_dim(x, turn * length, length + 2 * reach, 1)

    def along_time(self, matrix, x: jax.Array) -> jax.Array:
        """[B, frames, F, C] -> [P, B, chunk, F, C]."""
        clips, _, bands, channels = x.shape
        flat = x.reshape(clips, -1, bands * channels)
        flat = _transform(matrix, flat, 1, self.size[0], self.chunk)
        return flat.reshape(-1, clips, self.chunk, bands, channels)

    def along_mel(self, matrix, x: jax.Array) -> jax.Array:
        """[B, chunk, F, C] -> [Q, tiles, C]."""
        x = _transform(matrix, x, 2, self.size[1], self.bands)
        return x.reshape(x.shape[0], -1, x.shape[-1])


def _tiles(shape, kernel_shape) -> _Tiles:
    time, mel = (algorithm(taps) for taps in kernel_shape[:2])
    rows, bands = (
        -(-n // a.outputs.shape[1]) for n, a in zip(shape[1:3], (time, mel), strict=True)
    )
    steps = -(-rows * bands * shape[0] // _ROWS)
    chunk = -(-rows // min(steps, rows))
    return _Tiles(-(-rows // chunk), chunk, bands, time, mel)


def pays(shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> bool:
    """Whether this is faster than a plain convolution, on a CPU and forward and backward.

    Args:
      shape: [B, T, F, I]; for a B that is not known, as of a program to be exported, it is not.
      kernel_shape: [h, w, I, O].
    """
    if min(kernel_shape[2:]) < _WIDE or not set(kernel_shape[:2]) <= _OUTPUTS.keys():
        return False
    if not all(isinstance(length, int) for length in shape):
        return False
    tiles, saving = shape[0], 1.0
    for length, taps in zip(shape[1:3], kernel_shape[:2], strict=True):
        products, outputs = algorithm(taps).outputs.shape
        count = -(-length // outputs)
        tiles *= count
        saving *= length * taps / (count * products)
    return tiles >= _TILES and saving >= _SAVING


def _transform(matrix, x: jax.Array, axis: int, step: int, count: int) -> jax.Array:
    """Of every `step`-th window along an axis, `count` windows; the products come first."""
    windows = [
        lax.slice_in_dim(x, a, a + (count - 1) * step + 1, step, axis)
        for a in range(matrix.shape[1])
    ]
    return _combined(matrix, windows, 0)


def _combined(matrix, arrays, axis: int) -> jax.Array:
    """The linear combinations of some arrays that the rows of a matrix give, on a new axis."""
    column = [1] * (arrays[0].ndim + 1)
    column[axis] = -1
    matrix = matrix.astype(arrays[0].dtype)
    terms = (
        matrix[:, a].reshape(column) * jnp.expand_dims(array, axis)
        for a, array in enumerate(arrays)
    )
    return sum(terms)  # type: ignore[return-value]


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """As `jfsed_jax.kernels.convolution.convolve`."""
    return _convolve(x, kernel.shape, lambda tiles: tiles.weights(kernel))


def input_gradient(cotangent: jax.Array, kernel: jax.Array) -> jax.Array:
    """Of `convolve`: a convolution with the kernel turned round."""
    height, width, inputs, outputs = kernel.shape

    def weights(tiles):
        # Transposed last: the other way round XLA reads strided memory for every sum.
        return tiles.weights(kernel[::-1, ::-1]).swapaxes(2, 3)

    return _convolve(cotangent, (height, width, outputs, inputs), weights)


def _convolve(x, kernel_shape, make_weights):
    height, width, _, outputs = kernel_shape
    tiles = _tiles(x.shape, kernel_shape)
    clips, frames, bands, _ = x.shape
    time, mel = tiles.size
    weights = make_weights(tiles)
    padded = tiles.padded(x, (height // 2, width // 2))

    def turn(i, out):
        along_time = tiles.along_time(tiles.time.inputs, tiles.frames(padded, i, height // 2))

        def products(p, sums):
            tile = tiles.along_mel(tiles.mel.inputs, _at(along_time, p, keepdims=False))
            found = jnp.einsum("qti,qio->qto", tile, _at(weights, p, keepdims=False))
            combined = _combined(tiles.mel.outputs.T, list(found), 1)  # [tiles, mel, O]
            return lax.dynamic_update_index_in_dim(sums, combined, p, 0)

        points = len(weights)
        shape = points, clips * tiles.chunk * tiles.bands, mel, outputs
        sums = lax.fori_loop(0, points, products, jnp.zeros(shape, x.dtype))
        sums = sums.reshape(points, clips, tiles.chunk, -1)
        new = _combined(tiles.time.outputs.T, list(sums), 2)
        new = new.reshape(clips, tiles.chunk * time, -1, outputs)
        return lax.dynamic_update_slice_in_dim(out, new, i * tiles.chunk * time, 1)

    shape = clips, tiles.steps * tiles.chunk * time, tiles.bands * mel, outputs
    out = lax.fori_loop(0, tiles.steps, turn, jnp.zeros(shape, x.dtype))
    return out[:, :frames, :bands]


def weight_gradient(x: jax.Array, cotangent: jax.Array, taps: tuple[int, int]) -> jax.Array:
    """Of `convolve` with a kernel of so many taps, [h, w, I, O]: its transpose, point by point."""
    inputs, outputs = x.shape[-1], cotangent.shape[-1]
    tiles = _tiles(x.shape, (*taps, inputs, outputs))
    height, width = taps
    padded = tiles.padded(x, (height // 2, width // 2))
    cotangent = tiles.padded(cotangent)

    def turn(i, total):
        along_time = tiles.along_time(tiles.time.inputs, tiles.frames(padded, i, height // 2))
        of_outputs = tiles.along_time(tiles.time.outputs, tiles.frames(cotangent, i))

        def products(p, total):
            tile = tiles.along_mel(tiles.mel.inputs, _at(along_time, p, keepdims=False))
            gain = tiles.along_mel(tiles.mel.outputs, _at(of_outputs, p, keepdims=False))
            found = _at(total, p, keepdims=False) + jnp.einsum("qti,qto->qio", tile, gain)
            return lax.dynamic_update_index_in_dim(total, found, p, 0)

        return lax.fori_loop(0, len(total), products, total)

    points = len(tiles.time.taps), len(tiles.mel.taps)
    start = jnp.zeros((*points, inputs, outputs), x.dtype)
    total = lax.fori_loop(0, tiles.steps, turn, start)
    rows = _combined(tiles.time.taps.T, list(total), 0)  # [h, Q, I, O]
    return _combined(tiles.mel.taps.T, list(rows.swapaxes(0, 1)), 1)
