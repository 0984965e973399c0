"""The control: a student that learns alone, without the forward pass of any teacher."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.config_files import load_config
from jfsed_jax.errors import InputError
from jfsed_jax.inference.prediction import make_posteriors
from jfsed_jax.method import system as systems
from jfsed_jax.method.models import Output
from jfsed_jax.method.objectives import OBJECTIVES
from jfsed_jax.method.optimisers import averaged
from jfsed_jax.method.state import initial_state, model_variables, run_keys
from jfsed_jax.method.step import train_step, weighted_sum
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.training.plan import check_values

SHAPE = (20, 64)


class Counted(nn.Module):
    """One linear layer a frame; counts how often it is traced."""

    calls: Any

    @nn.compact
    def __call__(self, mel, train=False):
        self.calls.append(train)
        frames = nn.sigmoid(nn.Dense(3)(mel))
        return Output(frames.mean(axis=1), frames, frames)


def make_batch():
    rng = np.random.default_rng(0)
    return {
        "mel": jnp.asarray(rng.normal(size=(4, *SHAPE)), jnp.float32),
        "clip_labels": jnp.eye(4, 3),
        "frame_labels": jnp.ones((4, SHAPE[0], 3), jnp.uint8),
        "is_weak": jnp.array([1.0, 1.0, 0.0, 0.0]),
        "is_strong": jnp.array([0.0, 0.0, 1.0, 1.0]),
    }


def make_system(name, **changes):
    config = load_config(f"{name}:tiny")
    config.update_from_flattened_dict(changes)
    calls = []
    student = Counted(Calls(calls))
    system = systems.from_config(config, classes=3, steps_per_epoch=1, student=student)
    return system, calls


class Calls:
    """A list that a module can hold."""

    def __init__(self, found):
        self.append = found.append


def test_the_loss_by_hand():
    terms = OBJECTIVES["supervised"](load_config("supervised"), 1).terms
    clip = jnp.array([[0.5, 0.9], [0.2, 0.2]])
    frames = jnp.full((2, 3, 2), 0.8)
    batch = {
        "clip_labels": jnp.array([[1.0, 1.0], [0.0, 0.0]]),
        "frame_labels": jnp.ones((2, 3, 2)),
        "is_weak": jnp.array([1.0, 0.0]),
        "is_strong": jnp.array([0.0, 1.0]),
    }
    total, values = weighted_sum(terms(None, Output(clip, frames, frames), {}, batch, 0), None)
    # The weak clip has tags of 0.5 and 0.9, the strong one frames of 0.8, and all labels are 1.
    expected = {"student/weak": -np.log([0.5, 0.9]).mean(), "student/strong": -np.log(0.8)}
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-6)
    np.testing.assert_allclose(total, sum(expected.values()), rtol=1e-6)


def test_no_teacher_runs_and_none_is_kept():
    trained = {}
    for name in ("supervised", "mean_teacher"):
        system, calls = make_system(name)
        state = initial_state(system, jax.random.key(0), input_shape=SHAPE)
        calls.clear()
        step = jax.jit(partial(train_step, system=system))
        state, metrics = step(state, make_batch(), jax.random.key(1))
        trained[name] = (calls.count(True), set(state.params), set(state.batch_stats))
        if name == "supervised":
            shown = {"student/weak", "student/strong", "loss", "gradient_norm", "learning_rate"}
            assert metrics.keys() == shown
    assert trained["mean_teacher"][0] == 2  # what counting would see of a teacher
    assert trained["supervised"] == (1, {"student"}, {"student"})


def test_the_student_starts_as_it_does_with_a_teacher():
    first = {}
    for name in ("supervised", "pts_tfd"):
        config = load_config(f"{name}:tiny")
        system = systems.from_config(config, classes=3, steps_per_epoch=1)
        make = partial(initial_state, system, input_shape=(600, 64))
        first[name] = jax.jit(make)(run_keys(4)).params["student"]
    jax.tree.map(np.testing.assert_array_equal, first["supervised"], first["pts_tfd"])


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("name", ["supervised", "mean_teacher"])
def test_a_checkpoint_says_whether_there_is_a_teacher(tmp_path, name, average):
    """The models have no batch statistics, which are empty and still tell the two apart."""
    system, _ = make_system(name)
    state = initial_state(system, jax.random.key(0), input_shape=SHAPE)
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        checkpoints.save(manager, 1, state, {})
        manager.wait_until_finished()
        found = checkpoints.read_variables(manager, 1, use_average=average)
    expected = model_variables(
        state.params, state.batch_stats, averaged(state.opt_state), use_average=average
    )
    assert set(found) == ({"student"} if name == "supervised" else {"teacher", "student"})
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("model", ["teacher", "mean"])
@pytest.mark.parametrize("option", ["model", "tags"])
def test_a_teacher_that_is_not_there_is_refused(option, model):
    config = load_config("supervised:tiny")
    models = systems.models_from_config(config, classes=3, alone=True)
    with pytest.raises(InputError, match=f"{option} '{model}': this system has no teacher"):
        make_posteriors(models, **{option: model})
    config.evaluation[option] = model
    with pytest.raises(InputError, match=f"config.evaluation.{option} '{model}'.*no teacher"):
        check_values(config)


def test_an_average_that_was_not_kept_is_missed():
    """Of two models too, whose own parameters are there."""
    both = {"teacher": {"params": 1}, "student": {"params": 2}}
    with pytest.raises(InputError, match="no moving average of the parameters"):
        model_variables(both, both, None, use_average=True)


def test_an_augmentation_is_the_one_handed_in_or_the_configs():
    config = load_config("supervised:small")
    make = partial(systems.from_config, config, classes=3, steps_per_epoch=1)
    mine = lambda key, batch: batch  # noqa: E731
    assert make(augment=mine).augment is mine
    assert make().augment.keywords == {
        name: value for name, value in config.augmentation.items() if name != "function"
    }


def test_neither_an_average_nor_a_teacher_is_asked_for():
    config = load_config("supervised")
    assert not config.optimiser.ema_decay
    check_values(config)
    config.teacher = load_config("pts").teacher
    refused = "in which the student learns alone, but there is a teacher"
    with pytest.raises(InputError, match=f"that of config.scheme 'supervised', {refused}"):
        check_values(config)
    alone = OBJECTIVES["supervised"](config, 1)
    with pytest.raises(InputError, match=f"the one handed in, {refused}"):
        check_values(load_config("pts"), objective=alone)
