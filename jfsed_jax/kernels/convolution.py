"""A 2-D convolution with gradients, made for CPUs; accelerators keep XLA's own.

The platform is chosen when the program is lowered. On a CPU

- wide convolutions, forward and backward, go by `jfsed_jax.kernels.winograd`: a fifth to a third of
  the multiplications, and an error of at most 8e-7 of the norm, up to four times that of
  a plain sum (normal and sparse values, offsets, frames of 1e-6 to 1e4);
- the gradients of a single input channel are matrix products, of the cotangent with all taps, or
  with the shifted input of each frame.

Axis letters: ``B`` clips, ``T`` frames, ``F`` mel bands, ``I`` and ``O`` channels in and out.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jfsed_jax.kernels import winograd

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _convolve(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT)


def _exact(x):
    """What a CPU computes with; in bfloat16 the transforms would lose all digits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _on_cpu(x, kernel):
    return winograd.convolve(_exact(x), _exact(kernel)).astype(x.dtype)


def _chosen(x, kernel):
    if not winograd.pays(x.shape, kernel.shape):
        return _convolve(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=_on_cpu, default=_convolve)


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Stride 1, zero padding to the same size, odd kernel sizes.

    Args:
      x: [B, T, F, I].
      kernel: [h, w, I, O], h and w odd.

    Returns:
      [B, T, F, O].
    """
    return _chosen(x, kernel)


def _forward(x, kernel):
    return _chosen(x, kernel), (x, kernel)


def _wide_gradients(x, kernel, cotangent):
    of_input = winograd.input_gradient(cotangent, kernel)
    return of_input, winograd.weight_gradient(x, cotangent, kernel.shape[:2])


def _one_channel_gradients(x, kernel, cotangent):
    clips, frames, bands, outputs = cotangent.shape
    height, width = kernel.shape[:2]
    taps = [(i, j) for i in range(height) for j in range(width)]
    frame = ((0, 0), (height // 2, height // 2), (width // 2, width // 2))

    def shifted(values, i, j):
        return values[:, i : i + frames, j : j + bands]

    padded = jnp.pad(x[..., 0], frame)
    windows = jnp.stack([shifted(padded, i, j) for i, j in taps], 2)  # [B, T, taps, F]
    # Summed over the bands of a frame, then over frames: fast, and it keeps more digits.
    of_kernel = jnp.einsum("btkf,btfo->btko", windows, cotangent).sum((0, 1))

    flat = jnp.einsum("ko,no->kn", kernel.reshape(-1, outputs), cotangent.reshape(-1, outputs))
    flat = jnp.pad(flat.reshape(-1, clips, frames, bands), ((0, 0), *frame))
    turned = zip(flat, reversed(taps), strict=True)
    of_input = sum(shifted(values, i, j) for values, (i, j) in turned)
    return of_input[..., None], of_kernel.reshape(kernel.shape)


def _backward(residuals, cotangent):
    x, kernel = residuals

    def xla(x, kernel, cotangent):
        return jax.vjp(_convolve, x, kernel)[1](cotangent)

    if kernel.shape[2] == 1:
        gradients = _one_channel_gradients
    elif winograd.pays(x.shape, kernel.shape):
        gradients = _wide_gradients
    else:
        return xla(x, kernel, cotangent)

    def cpu(x, kernel, cotangent):
        of_input, of_kernel = gradients(_exact(x), _exact(kernel), _exact(cotangent))
        return of_input.astype(x.dtype), of_kernel.astype(kernel.dtype)

    return lax.platform_dependent(x, kernel, cotangent, cpu=cpu, default=xla)


convolve.defvjp(_forward, _backward)
