"""The hand-written gradient against that of a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.recurrence import recurrence


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
