"""Schedules at hand-worked steps, and the moving average of the parameters against a loop."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jfsed_jax.configs import pts_tfd_afl_esp

from jfsed_jax.method import step as train_step
from jfsed_jax.method.state import (
    Schedules,
    TrainState,
    averaged_params,
    make_optimiser,
    parameter_ema,
)

PAPER = Schedules(
    steps_per_epoch=450,
    alpha_base=0.996,
    alpha_start=30.0,
    consistency_max=1.0,
    consistency_rampup_epochs=0.0,
    beta_max=1.0,
    beta_rampup_epochs=100.0,
    tau=15.0,
    learning_rate=1.8e-3,
    decay=0.8,
    decay_epochs=10.0,
)


def at_epoch(schedule, epoch, offset=0):
    """A schedule's value, jitted as in the step, `offset` steps from the start of an epoch."""
    return float(jax.jit(schedule)(jnp.int32(450 * epoch + offset)))


@pytest.mark.parametrize(
    ("epoch", "offset", "alpha"),
    [
        (0, 0, 0),
        (29, 449, 0),
        (30, 0, 0),
        (31, -1, 0),
        (31, 0, 0.004),
        (31, 449, 0.004),
        (32, 0, 1 - 0.996**2),
        (200, 0, 1 - 0.996**170),  # 0.494
    ],
)
def test_alpha(epoch, offset, alpha):
    assert at_epoch(PAPER.alpha, epoch, offset) == pytest.approx(alpha, abs=1e-6)


@pytest.mark.parametrize(
    ("epoch", "offset", "beta"),
    [
        (0, 0, math.exp(-5)),
        (50, 0, math.exp(-1.25)),
        (25, 225, math.exp(-5 * 0.745**2)),  # it moves within an epoch
        (100, 0, 1),
        (199, 0, 1),
    ],
)
def test_beta(epoch, offset, beta):
    assert at_epoch(PAPER.beta, epoch, offset) == pytest.approx(beta, rel=1e-6)
    doubled = replace(PAPER, beta_max=2.0)
    assert at_epoch(doubled.beta, epoch, offset) == pytest.approx(2 * beta, rel=1e-6)


def test_beta_without_a_ramp_is_at_its_top():
    assert at_epoch(replace(PAPER, beta_rampup_epochs=0.0).beta, 0, 1) == 1


def test_the_second_stage_begins_with_epoch_tau():
    stages = [at_epoch(PAPER.second_stage, epoch, offset) for epoch, offset in
              [(0, 0), (15, -1), (15, 0), (199, 449)]]  # fmt: skip
    assert stages == [False, False, True, True]
    never, always = replace(PAPER, tau=None), replace(PAPER, tau=0.0)
    assert [at_epoch(s.second_stage, 199) for s in (never, always)] == [False, True]


@pytest.mark.parametrize(
    ("epoch", "offset", "rate"),
    [
        (0, 0, 1.8e-3),
        (10, -1, 1.8e-3),
        (10, 0, 1.44e-3),
        (25, 7, 1.152e-3),
        (199, 0, 1.8e-3 * 0.8**19),
    ],
)
def test_rate(epoch, offset, rate):
    assert at_epoch(PAPER.rate, epoch, offset) == pytest.approx(rate, rel=1e-5)


def test_consistency_has_full_weight_or_a_ramp():
    assert at_epoch(PAPER.consistency, 0) == 1
    ramped = replace(PAPER, consistency_rampup_epochs=50.0)
    assert at_epoch(ramped.consistency, 25) == pytest.approx(math.exp(-1.25), rel=1e-6)
    assert at_epoch(ramped.consistency, 50) == 1


def test_the_papers_config_has_the_papers_schedules():
    config = pts_tfd_afl_esp.get_config()
    system = train_step.make_system(config, num_classes=10, steps_per_epoch=450, axis_name=None)
    assert system.schedules == PAPER


def test_the_average_is_that_of_a_loop():
    decay, steps = 0.7, 6
    chain = optax.chain(optax.sgd(0.5), parameter_ema(decay))
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}
    state = chain.init(params)
    assert jax.tree.all(jax.tree.map(np.array_equal, ema_of(state), params))
    gradients = np.random.default_rng(0).normal(size=(steps, 3)).astype(np.float32)

    plain, mean = np.array([1.0, -2.0, 3.0]), np.array([1.0, -2.0, 3.0])
    for n, gradient in enumerate(gradients, start=1):
        tree = {"w": jnp.asarray(gradient[:2]), "b": jnp.asarray(gradient[2])}
        updates, state = jax.jit(chain.update)(tree, state, params)
        params = optax.apply_updates(params, updates)
        plain = plain - 0.5 * gradient
        d = min(decay, 1 - 1 / (n + 1))  # 1/2, 2/3, then 0.7
        mean = d * mean + (1 - d) * plain
        np.testing.assert_allclose(np.append(params["w"], params["b"]), plain, rtol=1e-6)
        ema = ema_of(state)
        np.testing.assert_allclose(np.append(ema["w"], ema["b"]), mean, rtol=1e-5)


def ema_of(opt_state):
    return averaged_params(TrainState(jnp.int32(0), None, None, opt_state))


def test_an_optimiser_without_an_average_says_so():
    params = {"w": jnp.ones(3)}
    assert ema_of(make_optimiser(PAPER, 0.0).init(params)) is None
    assert ema_of(make_optimiser(PAPER, 0.999).init(params)).keys() == {"w"}


def test_adam_uses_the_schedules_rate():
    """The first step of Adam has the size of the rate, whatever the gradient."""
    optimiser = make_optimiser(PAPER, 0.0)
    params = {"w": jnp.array([1.0, 1.0])}
    updates, _ = optimiser.update({"w": jnp.array([4.0, -0.01])}, optimiser.init(params), params)
    np.testing.assert_allclose(updates["w"], [-1.8e-3, 1.8e-3], rtol=1e-4)
