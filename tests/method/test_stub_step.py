"""The step of models that say what they hear and draw: whose noise, whose statistics, which step.

Nothing ramps here: what differs between two steps is random, or counted.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jfsed_jax.audio.front_end import FrontEnd, filter_peaks
from jfsed_jax.configs import mean_teacher
from jfsed_jax.method import parallel
from jfsed_jax.method import system as systems
from jfsed_jax.method.models import Output
from jfsed_jax.method.objectives import Objective, Term
from jfsed_jax.method.optimisers import averaged, parameter_ema
from jfsed_jax.method.state import initial_state, run_keys, state_of_seed
from jfsed_jax.method.step import train_step
from jfsed_jax.method.system import Models, System

CLIPS, FRAMES, BANDS = 2, 6, 4
NAMES = ("teacher", "student")


class Telling(nn.Module):
    """Of each clip what it hears times `gain`, a number drawn as dropout draws, and its statistic.

    In training the statistic grows by 1.
    """

    @nn.compact
    def __call__(self, mel, train=False):
        gain = self.param("gain", nn.initializers.ones, ())
        passes = self.variable("batch_stats", "passes", jnp.zeros, ())
        before = passes.value
        drawn = jnp.zeros(len(mel))
        if train:
            passes.value += 1
            drawn = jax.random.uniform(self.make_rng("dropout"), (len(mel),))
        told = jnp.stack([gain * mel.mean((1, 2)), drawn, before + jnp.zeros(len(mel))], axis=-1)
        return Output(told, told[:, None], told[:, None])


def told(teacher, student, params, batch, axis_name):
    """What each model says of its first clip, for each device."""
    found = {}
    for name, output in zip(NAMES, (teacher, student), strict=True):
        found |= {f"{name}/{what}": output.clip[0, i] for i, what in enumerate(WHAT)}
    return found


WHAT = ("heard", "drawn", "passes")


def make_system(*, own_teacher=True, optimiser=None, **changes) -> System:
    """One whose loss is twice what the student hears in all clips, and the steps so far."""
    objective = Objective(
        lambda teacher, student, params, batch, step: {
            "heard": Term(2.0, student.clip[:, 0]),
            "since": Term(1.0, 1.0 * step),
        },
        weights=lambda step: {"counted": step},
        measures=told,
    )
    models = Models(Telling() if own_teacher else None, Telling())
    return System(models, objective, optimiser or optax.sgd(0.5), **changes)


def make_batch(clips=CLIPS):
    return {
        "mel": np.full((clips, FRAMES, BANDS), 3.0, np.float16),
        "clip_labels": np.zeros((clips, 3), np.float32),
        "frame_labels": np.zeros((clips, FRAMES, 3), np.uint8),
        "is_weak": np.ones(clips, np.float32),
        "is_strong": np.zeros(clips, np.float32),
    }


def louder(key, batch):
    """An augmentation: each clip gets louder by what it draws."""
    return batch | {"mel": batch["mel"] + jax.random.uniform(key, (len(batch["mel"]), 1, 1))}


def run(system, *, step=0, key=0, devices=0):
    """What both models say in a step, and by how much the teacher's hearing differs: its noise.

    Of several devices with the same clips <float>[devices] each.
    """
    state = initial_state(system, jax.random.key(0), input_shape=(FRAMES, BANDS))
    state = state.replace(step=jnp.int32(step))
    # Operation by operation: to compile it takes longer.
    take, batch = partial(train_step, system=system), make_batch()
    if devices:
        take = jax.vmap(partial(take, axis_name="data"), in_axes=(None, 0, None), axis_name="data")
        batch = jax.tree.map(lambda array: np.stack([array] * devices), batch)
    _, metrics = take(state, batch, jax.random.key(key))
    found = {name: np.asarray(metrics[f"measures/{name}"]) for name in RANDOM}
    found["noise"] = found["teacher/heard"] - found["student/heard"]
    return found


RANDOM = ["teacher/heard", "student/heard", "teacher/drawn", "student/drawn"]
NOISE = {"teacher_noise": (5.0,) * BANDS}
LOG_NOISE = {"teacher_log_noise": 0.3}
every_noise = pytest.mark.parametrize("noise", [NOISE, LOG_NOISE, NOISE | LOG_NOISE])


@pytest.mark.parametrize("share_batch", [True, False])
def test_seeds_share_a_batch_or_have_one_each(share_batch):
    """Each hears its own clips, draws what its single run draws and has that run's weights."""
    system = make_system(augment=louder)
    keys = run_keys(3, 2)
    states = initial_state(system, keys, input_shape=(FRAMES, BANDS))
    batches = [make_batch(), make_batch() | {"mel": make_batch()["mel"] * 2}]
    batch = batches[0] if share_batch else jax.tree.map(lambda *own: np.stack(own), *batches)
    take = partial(train_step, system=system)
    after, found = parallel.several_seeds(take, share_batch=share_batch)(states, batch, keys)
    for k in range(2):
        own = batches[0 if share_batch else k]
        single, expected = take(state_of_seed(states, k), own, run_keys(3 + k))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][k], value, rtol=1e-6, err_msg=name)
        for a, b in zip(*map(jax.tree.leaves, (single, state_of_seed(after, k))), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-6)


@every_noise
def test_a_step_repeats_itself_and_no_other(noise):
    system = make_system(augment=louder, **noise)
    first = run(system)
    assert run(system) == first
    for other in (run(system, step=1), run(system, key=1)):
        assert not [name for name in first if other[name] == first[name]]
    assert first["teacher/drawn"] != first["student/drawn"]


@every_noise
def test_devices_draw_apart_for_the_same_clips(noise):
    found = run(make_system(augment=louder, **noise), devices=2)
    assert not [name for name, value in found.items() if value[0] == value[1]]


@every_noise
def test_noise_is_drawn_anew_for_a_clip_that_stays(noise):
    system = make_system(**noise)
    first = run(system, devices=2)["noise"]
    second = run(system, devices=2, step=1)["noise"]
    assert len({*first.tolist(), *second.tolist()}) == 4


@every_noise
def test_noise_is_the_teachers_alone(noise):
    """Both hear the same augmented clip, and the teacher its noise beside it."""
    without, found = (run(make_system(augment=louder, **kind)) for kind in ({}, noise))
    assert without["noise"] == 0 and without["student/heard"] > 3
    assert found["student/heard"] == without["student/heard"]
    assert abs(found["noise"]) > 1e-3


def test_the_noise_of_system_0_is_of_filters_of_height_1():
    """As high as the filters are, so high is the noise of their band."""
    config = mean_teacher.get_config()
    found = systems.from_config(config, classes=2, steps_per_epoch=1).teacher_noise
    expected = config.teacher_noise * filter_peaks(FrontEnd(**config.front_end))
    np.testing.assert_allclose(found, expected)
    assert min(found) > 0


def test_each_model_keeps_its_own_statistics_and_both_train():
    system = make_system()
    state = initial_state(system, jax.random.key(0), input_shape=(FRAMES, BANDS))
    passes = {"teacher": {"passes": jnp.float32(10)}, "student": {"passes": jnp.float32(20)}}
    state, metrics = train_step(
        state.replace(batch_stats=passes), make_batch(), jax.random.key(0), system=system
    )
    assert (metrics["measures/teacher/passes"], metrics["measures/student/passes"]) == (10, 20)
    assert {name: float(own["passes"]) for name, own in state.batch_stats.items()} == {
        "teacher": 11, "student": 21
    }  # fmt: skip


def test_a_mean_teacher_hears_with_the_average_from_before_the_step():
    """The student's gain falls from 1 to -2 and the average to the mean of both, -1/2."""
    optimiser = optax.chain(optax.sgd(0.5), parameter_ema(0.9))
    system = make_system(own_teacher=False, optimiser=optimiser)
    state = initial_state(system, jax.random.key(0), input_shape=(FRAMES, BANDS))
    heard = []
    for _ in range(2):
        state, metrics = train_step(state, make_batch(), jax.random.key(0), system=system)
        heard.append([float(metrics[f"measures/{name}/heard"]) for name in NAMES])
    assert heard == [[3.0, 3.0], [-1.5, -6.0]]
    # -2 falls to -5: of three, 1 - 2 - 5, the mean is -2.
    assert float(state.params["student"]["gain"]) == -5.0
    assert float(averaged(state.opt_state)["student"]["gain"]) == pytest.approx(-2.0)
    assert float(state.batch_stats["teacher"]["passes"]) == 2.0


def test_what_is_counted_is_counted_from_the_step_that_is_taken():
    system = make_system(rate=lambda step: 0.5 * step)
    state = initial_state(system, jax.random.key(0), input_shape=(FRAMES, BANDS))
    state = state.replace(step=jnp.int32(7))
    state, metrics = train_step(state, make_batch(), jax.random.key(0), system=system)
    assert int(state.step) == 8
    assert (metrics["counted"], metrics["learning_rate"]) == (7, 3.5)
    # Heard is 3 times the gain.
    assert (metrics["heard"], metrics["since"], metrics["loss"]) == (3, 7, 2 * 3 + 7)
    assert metrics["gradient_norm"] == 6
    assert {name: float(own["gain"]) for name, own in state.params.items()} == {
        "teacher": 1.0, "student": 1 - 0.5 * 6
    }  # fmt: skip


def test_models_of_one_kind_start_apart():
    class Linear(nn.Module):
        @nn.compact
        def __call__(self, mel, train=False):
            frames = nn.Dense(3)(mel)
            return Output(frames.mean(1), frames, frames)

    system = make_system()
    system = System(Models(Linear(), Linear()), system.objective, system.optimiser)
    params = initial_state(system, jax.random.key(0), input_shape=(FRAMES, BANDS)).params
    kernels = [params[name]["Dense_0"]["kernel"] for name in NAMES]
    assert (kernels[0] != kernels[1]).all()
