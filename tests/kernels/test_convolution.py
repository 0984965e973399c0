"""`jfsed_jax.kernels.convolution` and its fast ways on a CPU, beside a plain sum in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jfsed_jax.kernels import winograd
from jfsed_jax.kernels.convolution import convolve

LAYOUT = ("NHWC", "HWIO", "NHWC")


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


def sums(x, kernel, cotangent):
    """Value and both gradients in float64, as sums over the taps."""
    x, kernel, cotangent = (np.asarray(a, np.float64) for a in (x, kernel, cotangent))
    height, width = kernel.shape[:2]
    frames, bands = x.shape[1:3]
    reach = (0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0)
    padded = np.pad(x, reach)
    value, of_kernel, of_padded = 0, np.zeros(kernel.shape), np.zeros(padded.shape)
    for i in range(height):
        for j in range(width):
            own = np.s_[:, i : i + frames, j : j + bands]
            value = value + padded[own] @ kernel[i, j]
            of_kernel[i, j] = np.einsum("btfi,btfo->io", padded[own], cotangent)
            of_padded[own] += cotangent @ kernel[i, j].T
    inside = np.s_[:, height // 2 : height // 2 + frames, width // 2 : width // 2 + bands]
    return value, of_padded[inside], of_kernel


def with_gradients(function, x, kernel, cotangent):
    value, vjp = jax.vjp(function, x, kernel)
    return value, *vjp(cotangent)


def arguments(shape, kernel_shape):
    kernel = random(*kernel_shape, seed=1)
    return random(*shape), kernel, random(*shape[:3], kernel_shape[-1], seed=2)


@pytest.mark.parametrize("taps", [1, 3, 5, 7])
def test_an_algorithm_gives_the_outputs_of_a_tile(taps):
    outputs_of, taps_of, inputs_of = winograd.algorithm(taps)
    outputs = outputs_of.shape[1]
    tile, kernel = random(outputs + taps - 1), random(taps, seed=1)
    found = outputs_of.T @ ((taps_of @ kernel) * (inputs_of @ tile))
    np.testing.assert_allclose(found, np.correlate(tile, kernel), atol=1e-6)
    assert len(outputs_of) <= outputs + taps  # one more than the least, where it keeps digits


@pytest.mark.parametrize(
    "shape, kernel_shape",
    [
        ((2, 61, 16, 64), (5, 5, 64, 80)),  # not whole tiles of frames
        ((3, 40, 7, 80), (3, 3, 80, 64)),  # nor of mel bands, in several turns
        ((40, 1, 13, 64), (3, 5, 64, 64)),  # one frame
        ((2, 30, 9, 64), (7, 1, 64, 64)),
    ],
)
def test_a_wide_convolution_by_tiles_rounds_as_a_plain_sum(shape, kernel_shape):
    x, kernel, cotangent = arguments(shape, kernel_shape)

    @jax.jit
    def by_tiles(x, kernel, cotangent):
        return (
            winograd.convolve(x, kernel),
            winograd.input_gradient(cotangent, kernel),
            winograd.weight_gradient(x, cotangent, kernel.shape[:2]),
        )

    found, expected = by_tiles(x, kernel, cotangent), sums(x, kernel, cotangent)
    for ours, wanted in zip(found, expected, strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


def test_wide_planes_go_by_tiles_and_others_do_not():
    paper, few = (8, 600, 16, 160), (1, 8, 4, 160)
    assert winograd.pays(paper, (5, 5, 160, 160))
    assert winograd.pays((8, 600, 4, 160), (3, 3, 160, 160))
    assert not winograd.pays(paper, (1, 1, 160, 160))  # nothing to save
    assert not winograd.pays(paper, (9, 9, 160, 160))  # no algorithm
    assert not winograd.pays(paper, (5, 5, 160, 10))
    assert not winograd.pays(few, (5, 5, 160, 160))
    assert not winograd.pays((800, 1, 1, 160), (3, 3, 160, 160))  # tiles that are hardly filled


@pytest.mark.parametrize(
    "shape, kernel_shape",
    [
        ((4, 50, 16, 64), (5, 5, 64, 64)),
        ((2, 7, 6, 3), (3, 3, 3, 4)),
        ((2, 7, 6, 1), (3, 5, 1, 4)),
        ((2, 1, 1, 1), (5, 5, 1, 3)),
    ],
)
def test_convolution_has_its_value_and_gradients(shape, kernel_shape):
    x, kernel, cotangent = arguments(shape, kernel_shape)
    found = jax.jit(partial(with_gradients, convolve))(x, kernel, cotangent)
    for ours, wanted in zip(found, sums(x, kernel, cotangent), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


def test_several_models_convolve_at_once():
    shapes = (2, 4, 50, 16, 64), (2, 5, 5, 64, 64), (2, 4, 50, 16, 64)
    several = [random(*shape, seed=i) for i, shape in enumerate(shapes)]
    one = partial(with_gradients, convolve)
    together = jax.jit(jax.vmap(one))(*several)
    apart = [jax.jit(one)(*model) for model in zip(*several, strict=True)]
    for found, expected in zip(together, map(np.stack, zip(*apart, strict=True)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_bfloat16_is_rounded_once():
    x, kernel, cotangent = arguments((4, 50, 16, 64), (5, 5, 64, 64))
    half = [jnp.asarray(a, jnp.bfloat16) for a in (x, kernel, cotangent)]
    found = jax.jit(partial(with_gradients, convolve))(*half)
    for ours, wanted in zip(found, sums(*half), strict=True):
        assert ours.dtype == jnp.bfloat16
        wanted = np.asarray(wanted)
        np.testing.assert_allclose(
            ours.astype(jnp.float32), wanted, rtol=2**-8, atol=3e-6 * np.abs(wanted).max()
        )


@pytest.mark.parametrize(
    "shape, kernel_shape, on_cpu",
    [((4, 50, 16, 64), (5, 5, 64, 64), 0), ((2, 7, 6, 1), (3, 3, 1, 4), 1)],
)
def test_accelerators_keep_the_convolution_of_xla(shape, kernel_shape, on_cpu):
    def products(function, platform):
        gradients = jax.jit(partial(with_gradients, function))
        given = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arguments(shape, kernel_shape))
        module = jax.export.export(gradients, platforms=[platform])(*given).mlir_module()
        return module.count("stablehlo.dot_general"), module.count("stablehlo.convolution")

    for platform in ("tpu", "cuda"):
        assert products(convolve, platform) == products(plain, platform) == (0, 3)
    assert products(convolve, "cpu")[1] == on_cpu


def test_a_program_of_any_number_of_clips_has_a_plain_convolution():
    clips = jax.export.symbolic_shape("clips, 50, 16, 64")
    given = (jax.ShapeDtypeStruct(shape, np.float32) for shape in (clips, (5, 5, 64, 64)))
    exported = jax.export.export(jax.jit(convolve), platforms=["cpu"])(*given)
    assert exported.mlir_module().count("stablehlo.convolution") == 1
    x, kernel, _ = arguments((4, 50, 16, 64), (5, 5, 64, 64))
    found, expected = exported.call(x, kernel), convolve(x, kernel)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


def test_what_is_not_finite_stays_in_its_clip():
    x, kernel, cotangent = arguments((5, 50, 16, 64), (5, 5, 64, 64))
    x[2, 30, 7, 3] = cotangent[2, 30, 7, 3] = np.nan
    value, of_input, _ = jax.jit(partial(with_gradients, convolve))(x, kernel, cotangent)
    for found in (value, of_input):
        finite = np.isfinite(found).all((2, 3))
        assert finite[[0, 1, 3, 4]].all()
        assert not finite[2, 30] and finite[2, :20].all() and finite[2, 40:].all()
