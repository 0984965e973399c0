"""The hand-written gradient against that of a plain loop; the GPU's kernels against the scan."""

import importlib
import sys
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.kernels import bigru
from jfsed_jax.kernels.bigru import LOOPS, recurrence
from jfsed_jax.kernels.gru import SCAN, Loops

VERSION = tuple(map(int, jax.__version__.split(".")[:2]))
# Mosaic GPU has what the kernels need from JAX 0.12 on.
BACKENDS = {"pallas": "triton"} | ({"mosaic": "mosaic"} if VERSION >= (0, 12) else {})


def interpreted(backend):
    """The loops as kernels, run as JAX operations."""
    module = importlib.import_module(f"jfsed_jax.kernels.gru_{backend}")
    return Loops(
        *(partial(getattr(module, f"{which}_loop"), interpret=True) for which in Loops._fields)
    )


every_backend = pytest.mark.parametrize("backend", BACKENDS.values())


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
@every_backend
@pytest.mark.parametrize(("frames", "clips", "hidden"), [(7, 3, 16), (3, 17, 32), (12, 32, 64)])
def test_the_kernels_are_the_scan(frames, clips, hidden, backend):
    arrays = make(frames, clips, hidden)
    with jax.default_matmul_precision("highest"):
        found = states_and_gradients(interpreted(backend), *arrays)
    for ours, theirs in zip(found, states_and_gradients(SCAN, *arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6 * np.abs(theirs).max(), rtol=1e-6)


@every_backend
def test_without_highest_precision_the_kernels_are_closer_than_tf32(backend):
    """A CPU has no TF32 for Triton's products; Mosaic's are those of two bfloat16 a number."""
    arrays = make(12, 32, 64)
    found, expected = (states_and_gradients(x, *arrays) for x in (interpreted(backend), SCAN))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


@every_backend
def test_the_kernels_in_bfloat16_are_no_further_from_float32_than_the_scan(backend):
    """They carry the state in float32, the scan in bfloat16."""
    wide = make(40, 5, 16)
    narrow = jax.tree.map(lambda array: array.astype(jnp.bfloat16), wide)
    exact = states_and_gradients(SCAN, *wide)
    loops = interpreted(backend)
    scan, found = (states_and_gradients(loops, *narrow) for loops in (SCAN, loops))
    for ours, theirs, true in zip(found, scan, exact, strict=True):
        assert distance(ours, true) < min(0.02, 1.1 * distance(theirs, true))
    states = jax.eval_shape(partial(recurrence, loops=loops), *narrow[0])
    assert {array.dtype for array in states} == {jnp.dtype(jnp.bfloat16)}


def gradient(loops, hidden, dtype="float32"):
    """The gradient with the kernels asked for, jitted, and its arguments."""
    arguments, cotangents = make(6, 5, hidden, dtype)

    def run(*arguments):
        return jax.vjp(lambda *arguments: recurrence(*arguments, loops), *arguments)[1](cotangents)

    return jax.jit(run), *arguments


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("hidden", [16, 32, 64, 5, 128])
@pytest.mark.parametrize(("name", "backend"), BACKENDS.items())
def test_the_kernels_are_for_the_sizes_they_fit(name, backend, hidden, dtype, kernels_for_cuda):
    found = kernels_for_cuda(*gradient(LOOPS[name], hidden, dtype), backend=backend)
    assert found == (2 if hidden in (16, 32, 64) else 0)


@pytest.mark.parametrize(("name", "backend"), BACKENDS.items())
def test_the_kernels_lower_for_the_highest_precision(name, backend, kernels_for_cuda):
    with jax.default_matmul_precision("highest"):
        assert kernels_for_cuda(*gradient(LOOPS[name], 64), backend=backend) == 2


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_other_platforms_lower_to_the_scan(platform, name):
    run, *arguments = gradient(LOOPS[name], 64)
    text = run.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.while") == 2 and "custom_call" not in text


@pytest.mark.parametrize("name", BACKENDS)
def test_asking_for_the_kernels_elsewhere_gives_the_scan(name):
    arrays = make(4, 2, 16)
    found, expected = (states_and_gradients(loops, *arrays) for loops in (LOOPS[name], SCAN))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def unknown_backends():
    """Nobody has asked for the kernels yet; what is found out in the test is forgotten after it."""
    bigru._kernels.cache_clear()
    yield
    bigru._kernels.cache_clear()


@pytest.mark.parametrize(
    ("name", "backend", "module"),
    [("pallas", "triton", "triton"), ("mosaic", "mosaic", "mosaic_gpu")],
)
def test_without_its_backend_the_loop_is_the_scan_and_says_so_once(
    name, backend, module, unknown_backends, kernels_for_cuda, monkeypatch
):
    """As when JAX will have removed Triton, and before JAX 0.12 with Mosaic GPU."""
    monkeypatch.setitem(sys.modules, f"jax.experimental.pallas.{module}", None)
    monkeypatch.delitem(sys.modules, f"jfsed_jax.kernels.gru_{backend}", raising=False)
    arrays = make(4, 2, 16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = states_and_gradients(LOOPS[name], *arrays)
        assert kernels_for_cuda(*gradient(LOOPS[name], 16)) == 0
    (said,) = [str(one.message) for one in caught if one.category is UserWarning]
    assert said.startswith("The GRU runs as a scan") and f"lacks what its {backend} kernels" in said
    for ours, theirs in zip(found, states_and_gradients(SCAN, *arrays), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_backend_is_missing_where_jax_has_it(unknown_backends):
    for backend in ("triton", "mosaic"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert (bigru._kernels(backend) is not None) == (backend in BACKENDS.values())


@every_backend
def test_several_models_at_once_are_one_kernel(backend):
    """Seeds trained as one program: `jax.vmap` adds an axis to the grid."""
    one, cotangents = make(5, 3, 16)
    two = [jnp.stack([array, -array]) for array in one]
    with jax.default_matmul_precision("highest"):
        states = jax.vmap(partial(recurrence, loops=interpreted(backend)))(*two)
    for i in range(2):
        expected = recurrence(*(array[i] for array in two), SCAN)
        for ours, theirs in zip(states, expected, strict=True):
            np.testing.assert_allclose(ours[i], theirs, atol=1e-6)
