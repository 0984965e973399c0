"""Batch norm and ReLU in one operation, with the gradient written by hand.

Autodiff goes through mean and variance, and reads the batch once more for each of them. Here the
forward pass reads it for its two sums and for its values, the backward pass likewise, and the
devices that share the batch exchange one small array in each.

``C`` are channels; statistics are over all axes before them.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalised_relu(
    x: jax.Array, scale: jax.Array, offset: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``relu(scale (x - mean) / sqrt(variance + epsilon) + offset)`` by the batch's statistics.

    Args:
      x: [..., C].
      scale, offset: <float32>[C].
      epsilon: see above.
      axis_name: the mapped axis over which the batch is spread, or None.

    Returns:
      The values, [..., C] of x's type; mean and variance (of a population) of all devices'
      values, <float32>[C], which have no gradient.
    """
    return _forward(x, scale, offset, epsilon, axis_name)[0]


def _forward(x, scale, offset, epsilon, axis_name):
    wide = x.astype(jnp.float32)
    sums, count = _of_all(wide, wide * wide, axis_name), _count(x, axis_name)
    mean = sums[0] / count
    # Float32's rounding can take it below 0.
    variance = jnp.maximum(sums[1] / count - mean * mean, 0)
    inverse = lax.rsqrt(variance + epsilon)
    values = jnp.maximum((wide - mean) * (scale * inverse) + offset, 0).astype(x.dtype)
    return (values, mean, variance), (x, scale, offset, mean, inverse)


def _backward(epsilon, axis_name, residuals, cotangents):
    x, scale, offset, mean, inverse = residuals
    centred = x.astype(jnp.float32) - mean
    factor = scale * inverse
    # Not from the values: where they are pooled they need not be kept.
    passed = jnp.where(centred * factor + offset > 0, cotangents[0].astype(jnp.float32), 0)
    own = _sums(passed, passed * centred)
    total = own if axis_name is None else lax.psum(own, axis_name)
    mean_gain, mean_slope = total / _count(x, axis_name)
    gradient = factor * (passed - mean_gain - centred * (inverse * inverse * mean_slope))
    return gradient.astype(x.dtype), own[1] * inverse, own[0]


normalised_relu.defvjp(_forward, _backward)


def _sums(first, second):
    """The sums of two arrays [..., C], <float32>[2, C]."""
    values = tuple(range(first.ndim - 1))
    return jnp.stack([first.sum(values), second.sum(values)])


def _of_all(first, second, axis_name):
    own = _sums(first, second)
    return own if axis_name is None else lax.psum(own, axis_name)


def _count(x, axis_name) -> int:
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    return devices * (x.size // x.shape[-1])
