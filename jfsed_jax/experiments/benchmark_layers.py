"""The layers that are ours for speed against the plain ones they stand for: forward + backward.

Convolutions, batch norm, pooling, BGRU and dropout at the shapes of the paper's size, the plain
versions from XLA and flax. Both sides of a row take turns. They compute the same to float32
rounding (tests/kernels, tests/method/test_models.py); dropout draws other random numbers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jfsed_jax.experiments.measuring import Timing, take_turns
from jfsed_jax.kernels.batch_norm import normalised_relu
from jfsed_jax.kernels.convolution import convolve
from jfsed_jax.kernels.dropout import Dropout
from jfsed_jax.kernels.pooling import max_pool
from jfsed_jax.method.layers import BiGRU

_CLIPS = 8
_SECONDS = 12.0  # that a row's repeats may take


def _gradients(function: Callable, *arguments) -> Callable[[], Any]:
    """A call of the compiled gradient of the output's mean square, by all arguments."""
    gradient = jax.grad(
        lambda *values: jnp.mean(function(*values) ** 2), argnums=tuple(range(len(arguments)))
    )
    compiled = jax.jit(gradient).lower(*arguments).compile()
    return lambda: jax.block_until_ready(compiled(*arguments))


def _random(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def _convolution(size: int, bands: int, inputs: int) -> dict[str, Callable]:
    x, kernel = _random(_CLIPS, 600, bands, inputs), 0.02 * _random(size, size, inputs, 160)
    plain = partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return {"ours": _gradients(convolve, x, kernel), "plain": _gradients(plain, x, kernel)}


def _batch_norm() -> dict[str, Callable]:
    x, ones, zeros = _random(_CLIPS, 600, 64, 16), jnp.ones(16), jnp.zeros(16)

    def plain(x, scale, bias):
        variables = {"params": {"scale": scale, "bias": bias}}
        values, _ = nn.BatchNorm(False).apply(variables, x, mutable=["batch_stats"])
        return nn.relu(values)

    return {
        "ours": _gradients(lambda *values: normalised_relu(*values, 1e-5, None)[0], x, ones, zeros),
        "plain": _gradients(plain, x, ones, zeros),
    }


def _max_pool() -> dict[str, Callable]:
    x, window = _random(_CLIPS, 600, 64, 160), (1, 4)
    return {
        "ours": _gradients(lambda x: max_pool(x, window), x),
        "plain": _gradients(lambda x: nn.max_pool(x, window, window), x),
    }


def _recurrence() -> dict[str, Callable]:
    x, hidden = _random(_CLIPS, 600, 160), 64

    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                forward, backward = (nn.RNN(nn.GRUCell(hidden)) for _ in range(2))
                x = nn.Bidirectional(forward, backward)(x)
            return x

    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = BiGRU(hidden)(x)
            return x

    def call(module):
        params = module.init(jax.random.key(0), x)
        return _gradients(module.apply, params, x)

    return {"ours": call(Ours()), "plain": call(Plain())}


def _dropout() -> dict[str, Callable]:
    x, key = _random(_CLIPS, 600, 16, 160), jax.random.key(0)

    def ours(x):
        return Dropout(0.3).apply({}, x, True, rngs={"dropout": key})

    def plain(x):
        return nn.Dropout(0.3, deterministic=False).apply({}, x, rngs={"dropout": key})

    return {"ours": _gradients(ours, x), "plain": _gradients(plain, x)}


ROWS: dict[str, Callable[[], dict[str, Callable]]] = {
    "convolution 5x5, 1 -> 160": partial(_convolution, 5, 64, 1),
    "convolution 5x5, 160 -> 160": partial(_convolution, 5, 16, 160),
    "convolution 3x3, 160 -> 160": partial(_convolution, 3, 4, 160),
    "batch norm, ReLU, 16 channels": _batch_norm,
    "max-pool 1x4": _max_pool,
    "two BGRU layers of 64": _recurrence,
    "dropout": _dropout,
}


def measure_layers() -> dict[str, dict[str, Timing]]:
    """Medians of both sides of every row, in seconds."""
    return {name: take_turns(make(), _SECONDS) for name, make in ROWS.items()}


def format_layers(found: dict[str, dict[str, Timing]]) -> str:
    """The rows as text."""
    width = max(map(len, found))
    lines = [f"forward + backward of {_CLIPS} clips of 600 frames, {jax.default_backend()}, median"]
    lines.append(f"{'':{width}}      ours     plain  ratio")
    for name, timings in found.items():
        ours, plain = (1000 * timings[side].seconds for side in ("ours", "plain"))
        lines.append(f"{name:{width}}  {ours:5.0f} ms  {plain:5.0f} ms  {plain / ours:5.2f}")
    return "\n".join(lines)
