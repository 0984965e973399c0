"""Pooling over windows of frames and mel bands, with a gradient of the maximum that is never lost.

Windows are pairs (frames, mel bands); arrays are [B, T, F, channels].
"""

import jax
import jax.numpy as jnp

Window = tuple[int, int]


def max_pool(x: jax.Array, window: Window) -> jax.Array:
    """Maximum over windows of (frames, mel bands); what does not fill a window is dropped.

    On CPU its gradient is many times faster than that of a window reduction.
    """
    return x if window == (1, 1) else max_of_windows(windows(x, window))


def mean_pool(x: jax.Array, window: Window) -> jax.Array:
    """As `max_pool`, the mean."""
    return x if window == (1, 1) else mean_of_windows(windows(x, window))


def fills(x: jax.Array, window: Window) -> bool:
    """Whether windows leave nothing of the frames and mel bands of [B, T, F, C]."""
    return not (x.shape[1] % window[0] or x.shape[2] % window[1])


def windows(x: jax.Array, window: Window) -> jax.Array:
    """[B, T, F, C] by windows: [B, T / frames, frames, F / bands, bands, C], without the rest."""
    time, mel = window
    batch, frames, bands, channels = x.shape
    frames, bands = frames // time, bands // mel
    x = x[:, : frames * time, : bands * mel]
    return x.reshape(batch, frames, time, bands, mel, channels)


def mean_of_windows(x: jax.Array) -> jax.Array:
    """The mean of each window of `windows`."""
    return x.mean((2, 4))


@jax.custom_vjp
def max_of_windows(x: jax.Array) -> jax.Array:
    """The maximum of each window of `windows`; the gradient goes to the first of equal values.

    ``x.max((2, 4))`` hands its gradient to the places where x equals the maximum. XLA may compute x
    anew for that comparison, round differently and find no such place: the gradient is lost, and
    nothing tells. Here the place is found once, with the maximum.
    """
    return _largest_and_place(x)[0]


def _largest_and_place(x):
    window = [(i, j) for i in range(x.shape[2]) for j in range(x.shape[4])]
    largest = x[:, :, 0, :, 0]
    place = jnp.zeros(largest.shape, jnp.uint8)
    for number, (i, j) in enumerate(window[1:], start=1):
        candidate = x[:, :, i, :, j]
        place = jnp.where(candidate > largest, jnp.uint8(number), place)
        largest = jnp.maximum(candidate, largest)
    return largest, (place, jnp.arange(len(window), dtype=jnp.uint8).reshape(x.shape[2:5:2]))


def _gradient_to_place(residuals, cotangent):
    place, numbers = residuals
    here = place[:, :, None, :, None] == numbers[:, None, :, None]
    return (jnp.where(here, cotangent[:, :, None, :, None], 0),)


max_of_windows.defvjp(_largest_and_place, _gradient_to_place)
