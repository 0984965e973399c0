"""The hand-written gradient against that of a plain loop; the GPU's kernels against the scan."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.kernels import gru_gpu
from jfsed_jax.kernels.bigru import PALLAS, recurrence
from jfsed_jax.kernels.gru import SCAN, Loops

INTERPRETED = Loops(
    partial(gru_gpu.forward_loop, interpret=True),
    partial(gru_gpu.backward_loop, interpret=True),
)


def plain(forward, backward, kernel, bias):
    """One direction after the other, one frame after the other; equations of `torch.nn.GRU`."""

    def direction(projected, kernel, bias):
        state, states = jnp.zeros_like(projected[0, :, : len(kernel)]), []
        for now in projected:
            reset, update, new = jnp.split(now, 3, axis=-1)
            r, z, n = jnp.split(state @ kernel + bias, 3, axis=-1)
            reset, update = jax.nn.sigmoid(reset + r), jax.nn.sigmoid(update + z)
            state = (1 - update) * jnp.tanh(new + reset * n) + update * state
            states.append(state)
        return jnp.stack(states)

    ahead = direction(forward, kernel[0], bias[0])
    return ahead, direction(backward[::-1], kernel[1], bias[1])[::-1]


@pytest.mark.parametrize(("frames", "clips", "hidden"), [(1, 2, 3), (6, 3, 4), (19, 1, 5)])
def test_states_and_gradients_are_those_of_a_plain_loop(frames, clips, hidden):
    rng = np.random.default_rng(0)
    shapes = [(frames, clips, 3 * hidden)] * 2 + [(2, hidden, 3 * hidden), (2, 3 * hidden)]
    arguments = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    weights = [rng.normal(size=(frames, clips, hidden)).astype(np.float32) for _ in range(2)]

    def run(function):
        states, vjp = jax.vjp(function, *arguments)
        return states, vjp(tuple(map(jnp.asarray, weights)))

    found, expected = jax.jit(lambda: run(recurrence))(), jax.jit(lambda: run(plain))()
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6 * np.abs(theirs).max(), rtol=1e-5)


def test_bfloat16_stays_bfloat16():
    rng = np.random.default_rng(0)
    shapes = [(5, 2, 12), (5, 2, 12), (2, 4, 12), (2, 12)]
    wide = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    narrow = [jnp.asarray(array, jnp.bfloat16) for array in wide]

    def loss(*arguments):
        return sum((states.astype(jnp.float32) ** 2).sum() for states in recurrence(*arguments))

    found, expected = (jax.grad(loss, (0, 1, 2, 3))(*arrays) for arrays in (narrow, wide))
    for ours, exact in zip(found, expected, strict=True):
        assert ours.dtype == jnp.bfloat16
        assert np.linalg.norm(ours.astype(np.float32) - exact) < 0.03 * np.linalg.norm(exact)


def make(frames, clips, hidden, dtype="float32"):
    """Arguments of `recurrence` and cotangents of its states."""
    rng = np.random.default_rng(0)
    shapes = [(frames, clips, 3 * hidden)] * 2 + [(2, hidden, 3 * hidden), (2, 3 * hidden)]
    shapes += [(frames, clips, hidden)] * 2
    arrays = [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]
    arrays[2] = arrays[2] / hidden**0.5
    return arrays[:4], tuple(arrays[4:])


def states_and_gradients(loops, arguments, cotangents):
    """The two states, then the gradients of the four arguments."""

    @jax.jit
    def run(arguments, cotangents):
        states, vjp = jax.vjp(lambda *arguments: recurrence(*arguments, loops), *arguments)
        return *states, *vjp(cotangents)

    return [np.asarray(array, np.float32) for array in run(arguments, cotangents)]


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


# Less than a tile of clips, one more than a tile, whole tiles.
@pytest.mark.parametrize(("frames", "clips", "hidden"), [(7, 3, 16), (3, 17, 32), (12, 32, 64)])
def test_the_kernels_are_the_scan(frames, clips, hidden):
    arrays = make(frames, clips, hidden)
    found, expected = (states_and_gradients(loops, *arrays) for loops in (INTERPRETED, SCAN))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6 * np.abs(theirs).max(), rtol=1e-6)


def test_the_kernels_in_bfloat16_are_no_further_from_float32_than_the_scan():
    """They carry the state in float32, the scan in bfloat16."""
    wide = make(40, 5, 16)
    narrow = jax.tree.map(lambda array: array.astype(jnp.bfloat16), wide)
    exact = states_and_gradients(SCAN, *wide)
    scan, found = (states_and_gradients(loops, *narrow) for loops in (SCAN, INTERPRETED))
    for ours, theirs, true in zip(found, scan, exact, strict=True):
        assert distance(ours, true) < min(0.02, 1.1 * distance(theirs, true))
    states = jax.eval_shape(partial(recurrence, loops=INTERPRETED), *narrow[0])
    assert {array.dtype for array in states} == {jnp.dtype(jnp.bfloat16)}


def gradient(hidden):
    """The gradient with the kernels asked for, jitted, and its arguments."""
    arguments, cotangents = make(6, 5, hidden)

    def run(*arguments):
        return jax.vjp(lambda *arguments: recurrence(*arguments, PALLAS), *arguments)[1](cotangents)

    return jax.jit(run), *arguments


@pytest.mark.parametrize(("hidden", "kernels"), [(64, 2), (5, 0), (128, 0)])
def test_the_kernels_are_for_the_sizes_they_fit(hidden, kernels, kernels_for_cuda):
    assert kernels_for_cuda(*gradient(hidden)) == kernels


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_other_platforms_lower_to_the_scan(platform):
    run, *arguments = gradient(64)
    text = run.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.while") == 2 and "custom_call" not in text


def test_asking_for_the_kernels_elsewhere_gives_the_scan():
    arrays = make(4, 2, 16)
    found, expected = (states_and_gradients(loops, *arrays) for loops in (PALLAS, SCAN))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_several_models_at_once_are_one_kernel():
    """Seeds trained as one program: `jax.vmap` adds an axis to the grid."""
    one, cotangents = make(5, 3, 16)
    two = [jnp.stack([array, -array]) for array in one]
    states = jax.vmap(lambda *arguments: recurrence(*arguments, INTERPRETED))(*two)
    for i in range(2):
        expected = recurrence(*(array[i] for array in two), SCAN)
        for ours, theirs in zip(states, expected, strict=True):
            np.testing.assert_allclose(ours[i], theirs, atol=1e-6)
