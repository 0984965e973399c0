"""Schedules at hand-worked steps."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
import pytest

from jfsed_jax.configs import guided_learning, pts_tfd_afl_esp
from jfsed_jax.errors import InputError
from jfsed_jax.method.schedules import Schedules, learning_rate

PAPER = Schedules(
    steps_per_epoch=450,
    alpha_base=0.996,
    alpha_start=30.0,
    consistency_max=1.0,
    consistency_rampup_epochs=0.0,
    beta_max=1.0,
    beta_rampup_epochs=100.0,
    tau=15.0,
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


def test_beta_starts_and_ends_where_it_is_told():
    late = replace(PAPER, beta_start=20.0, beta_end=150.0)
    for epoch, offset, beta in (
        (0, 0, 0),
        (20, -1, 0),
        (20, 0, math.exp(-5)),  # the ramp begins here, and is as long as ever
        (70, 0, math.exp(-1.25)),
        (120, 0, 1),
        (150, -1, 1),
        (150, 0, 0),
        (199, 0, 0),
    ):
        assert at_epoch(late.beta, epoch, offset) == pytest.approx(beta, rel=1e-6)
    assert at_epoch(replace(PAPER, beta_end=0.0).beta, 0) == 0
    config = pts_tfd_afl_esp.get_config()
    config.loss.update(beta_start=20.0, beta_end=150.0)
    assert Schedules.of(config, 450) == late


def test_negative_epochs_are_never_and_fractions_are_epochs():
    config = pts_tfd_afl_esp.get_config()
    config.loss.update(tau=-1.0, beta_end=-1.0)
    never = Schedules.of(config, 450)
    assert (never.tau, never.beta_end) == (None, None)
    config.loss.update(tau=0.0, beta_end=0.5)
    soon = Schedules.of(config, 450)
    assert (soon.tau, soon.beta_end) == (0.0, 0.5)


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
    found = learning_rate(pts_tfd_afl_esp.get_config().optimiser, 450)
    assert at_epoch(found, epoch, offset) == pytest.approx(rate, rel=1e-5)


def test_consistency_has_full_weight_or_a_ramp():
    assert at_epoch(PAPER.consistency, 0) == 1
    ramped = replace(PAPER, consistency_rampup_epochs=50.0)
    assert at_epoch(ramped.consistency, 25) == pytest.approx(math.exp(-1.25), rel=1e-6)
    assert at_epoch(ramped.consistency, 50) == 1


def test_the_papers_config_has_the_papers_schedules():
    assert Schedules.of(pts_tfd_afl_esp.get_config(), 450) == PAPER


def test_a_schedule_of_optax_counts_epochs_and_scales_the_rate():
    page = pts_tfd_afl_esp.get_config().optimiser
    page.schedule, page.learning_rate = "warmup_cosine_decay_schedule", 2e-3
    page.schedule_arguments = dict(init_value=0.0, peak_value=1.0, warmup_steps=4, decay_steps=20)
    rate = learning_rate(page, 450)
    in_epochs = optax.warmup_cosine_decay_schedule(0.0, 1.0, 4, 20)
    assert at_epoch(rate, 0) == 0
    assert at_epoch(rate, 2) == pytest.approx(1e-3, rel=1e-6)  # half of the warm-up
    assert at_epoch(rate, 4) == pytest.approx(2e-3, rel=1e-6)
    assert at_epoch(rate, 12) == pytest.approx(1e-3, rel=1e-5)  # half of the cosine
    for epoch, offset in ((7, 100), (19, 449)):
        expected = float(2e-3 * in_epochs(epoch + offset / 450))
        assert at_epoch(rate, epoch, offset) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_a_schedule_that_does_not_exist_is_named():
    page = pts_tfd_afl_esp.get_config().optimiser
    page.schedule = "stairs"
    with pytest.raises(InputError, match="config.optimiser.schedule is 'stairs'.*optax"):
        learning_rate(page, 450)


@pytest.mark.parametrize(("epoch", "falls"), [(0, 0), (10, 0), (11, 1), (20, 1), (21, 2), (99, 9)])
def test_guided_learnings_rate_falls_first_after_11_epochs(epoch, falls):
    """Its released code lowers it at the end of epochs 10, 20, ..., counted from 0."""
    rate = learning_rate(guided_learning.get_config().optimiser, 450)
    assert at_epoch(rate, epoch) == pytest.approx(1.8e-3 * 0.8**falls, rel=1e-5)
