"""Batch norm with ReLU against flax's, and by windows as pooled after it."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.kernels.batch_norm import normalised_relu
from jfsed_jax.kernels.pooling import max_pool, mean_pool
from jfsed_jax.method import layers
from jfsed_jax.method.parallel import AXIS

EPSILON = 1e-3
SHAPE = 4, 6, 5, 3


def _arguments(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    # Far from 0, as a convolution may be, and with a negative scale.
    x = jnp.asarray(3 + rng.normal(size=SHAPE), dtype)
    scale, offset = np.float32([0.5, -1.5, 2.0]), np.float32([0.3, 0.0, -0.2])
    return x, jnp.asarray(scale), jnp.asarray(offset), jnp.asarray(rng.normal(size=SHAPE), dtype)


def _flax(x, scale, offset, axis_name=None):
    """Values and running statistics that keep nothing of what was before: those of the batch."""
    norm = nn.BatchNorm(False, momentum=0.0, epsilon=EPSILON, axis_name=axis_name, dtype=x.dtype)
    statistics = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    variables = {"params": {"scale": scale, "bias": offset}, "batch_stats": statistics}
    values, changed = norm.apply(variables, x, mutable=["batch_stats"])
    found = changed["batch_stats"]
    return nn.relu(values), found["mean"], found["var"]


def _ours(x, scale, offset, axis_name=None):
    return normalised_relu(x, scale, offset, EPSILON, axis_name)


def _values_and_gradients(function, x, scale, offset, weights):
    """What it gives, and the gradients of a loss of the values by all three arguments."""

    def loss(*arguments):
        values, mean, variance = function(*arguments)
        return (values.astype(jnp.float32) ** 2 * weights).sum(), (values, mean, variance)

    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(x, scale, offset)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 3e-5), (jnp.bfloat16, 0.03)])
def test_it_is_flax_batch_norm_and_relu(dtype, tolerance):
    (_, found), gradients = _values_and_gradients(_ours, *_arguments(dtype))
    (_, expected), expected_gradients = _values_and_gradients(_flax, *_arguments(dtype))
    for own, theirs in zip((*found, *gradients), (*expected, *expected_gradients), strict=True):
        assert own.dtype == theirs.dtype
        own, theirs = (np.asarray(value, np.float32) for value in (own, theirs))
        np.testing.assert_allclose(own, theirs, atol=tolerance * np.abs(theirs).max())


def test_two_devices_are_one():
    """Statistics and the gradient of x are of all clips, those of scale and offset are shares."""
    x, scale, offset, weights = _arguments()

    def share(x, weights):
        ours = partial(_ours, axis_name=AXIS)
        (_, found), gradients = _values_and_gradients(ours, x, scale, offset, weights)
        return (*found, *gradients)

    values, mean, variance, *gradients = jax.vmap(share, axis_name=AXIS)(
        *(array.reshape(2, 2, *SHAPE[1:]) for array in (x, weights))
    )
    found = values.reshape(SHAPE), mean[1], variance[0], gradients[0].reshape(SHAPE)
    found += gradients[1].sum(0), gradients[2].sum(0)
    (_, alone), gradients = _values_and_gradients(_ours, x, scale, offset, weights)
    for own, expected in zip(found, (*alone, *gradients), strict=True):
        np.testing.assert_allclose(own, expected, rtol=2e-5, atol=2e-5)


def test_a_constant_channel_has_no_gradient_that_is_not_finite():
    """Its variance is 0, and float32 may find less."""
    x = jnp.full(SHAPE, 1000.1)
    (_, (values, _, variance)), gradients = _values_and_gradients(_ours, x, *_arguments()[1:])
    assert (variance >= 0).all()
    assert all(np.isfinite(leaf).all() for leaf in (values, *gradients))


@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("window", [(2, 2), (5, 2), (3, 1)])
def test_a_block_pools_what_it_normalised(pooling, window):
    """By windows before batch norm, where they fill the batch, or after it: the same values.

    Windows of 5 frames leave one of 6, which counts into the statistics and not into a maximum.
    """
    shape, momentum = (2, 6, 4, 3), 0.9
    block = layers.ConvBlock(
        4, 3, window, 1, 0.0, {"momentum": momentum, "epsilon": EPSILON}, pooling=pooling
    )
    x = jax.random.normal(jax.random.key(0), shape)
    params = block.init(jax.random.key(1), x, False)["params"]
    params["Conv_0"]["bias"] = jnp.arange(4.0)
    params["BatchNorm_0"] = {"scale": jnp.float32([1, -1, 2, 0.5]), "bias": jnp.full(4, 0.1)}
    start = {"BatchNorm_0": {"mean": jnp.ones(4), "var": jnp.full(4, 2.0)}}
    variables = {"params": params, "batch_stats": start}

    def plain(x, train):
        conv = nn.Conv(4, (3, 3)).apply({"params": params["Conv_0"]}, x)
        norm = nn.BatchNorm(not train, momentum=momentum, epsilon=EPSILON)
        own = {"params": params["BatchNorm_0"], "batch_stats": start["BatchNorm_0"]}
        values, changed = norm.apply(own, conv, mutable=["batch_stats"])
        pool = {"max": max_pool, "mean": mean_pool}[pooling]
        return pool(nn.relu(values), window), changed["batch_stats"]

    found, changed = block.apply(variables, x, True, mutable=["batch_stats"])
    expected, statistics = plain(x, True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for name, value in statistics.items():
        np.testing.assert_allclose(changed["batch_stats"]["BatchNorm_0"][name], value, rtol=1e-5)
    np.testing.assert_allclose(block.apply(variables, x, False), plain(x, False)[0], atol=1e-5)
