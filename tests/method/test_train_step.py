"""The step: the terms of each system, devices, missing kinds of clips, donation, compilation."""

import importlib
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jfsed_jax.config_files import load_config
from jfsed_jax.configs import guided_learning, mean_teacher, pts_tfd_afl_esp
from jfsed_jax.errors import InputError
from jfsed_jax.method import parallel
from jfsed_jax.method import system as systems
from jfsed_jax.method.models import Output
from jfsed_jax.method.objectives import OBJECTIVES, Objective, Term
from jfsed_jax.method.optimisers import averaged
from jfsed_jax.method.state import initial_state, run_keys, state_of_seed
from jfsed_jax.method.step import train_step, weighted_sum

ROOT = Path(__file__).parents[2]
FRAMES = 100  # the teacher pools by 100


def make(config, steps_per_epoch=1, axis_name=parallel.AXIS):
    return systems.from_config(
        config, classes=10, steps_per_epoch=steps_per_epoch, axis_name=axis_name
    )


def shape_of(config):
    return round(config.front_end.clip_seconds * 44100 / config.front_end.hop_length), 64


def tiny():
    """The complete system with fewer blocks and no dropout, which compiles in less time."""
    config = pts_tfd_afl_esp.get_config("tiny")
    config.teacher.dropout = 0.0
    few = dict(filters=(4, 4), kernels=(3, 3), convs=(1, 1), gru_layers=1)
    config.teacher.update(few, pools=((10, 8), (10, 4)))
    config.student.update(few, pools=((1, 8), (1, 8)))
    return config


def tiny_guided_learning():
    config = guided_learning.get_config("tiny")
    few = dict(filters=(4, 4), kernels=(3, 3), convs=(1, 1), dropout=0.0)
    config.teacher.update(few, pools=((10, 8), (10, 4)))
    config.student.update(few, pools=((1, 8), (1, 8)))
    return config


def tiny_mean_teacher():
    config = mean_teacher.get_config("tiny")
    config.student.update(filters=(4, 4), kernels=(3, 3), pools=((2, 8), (2, 8)), gru_layers=1)
    return config


def create(system, config):
    return initial_state(system, jax.random.key(0), input_shape=shape_of(config))


def start(system, config):
    """A fresh state on the host, which no step can consume."""
    # Op by op this takes much longer than compiled.
    return jax.device_get(jax.jit(lambda: create(system, config))())


def everywhere(state, mesh):
    """The state where a step leaves it: from elsewhere the first step is a program of its own."""
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def make_batch(weak=2, unlabelled=4, strong=2):
    """Random clips, in this order; weak ones have tags, strong ones tags and events."""
    rng = np.random.default_rng(0)
    clips = weak + unlabelled + strong
    kind = np.repeat([0, 1, 2], [weak, unlabelled, strong])
    frame_labels = np.zeros((clips, FRAMES, 10), np.uint8)
    frame_labels[kind == 2, 20:60, 3] = 1
    clip_labels = frame_labels.max(1).astype(np.float32)
    clip_labels[kind == 0, 5] = 1
    return {
        "mel": rng.normal(-5, 2, (clips, FRAMES, 64)).astype(np.float16),
        "clip_labels": clip_labels,
        "frame_labels": frame_labels,
        "is_weak": (kind == 0).astype(np.float32),
        "is_strong": (kind == 2).astype(np.float32),
    }


def full(epoch):
    return 1.0


def alpha(start):
    return lambda epoch: 1 - 0.996 ** max(epoch - start, 0)


def ramp(top, epochs):
    return lambda epoch: top * np.exp(-5 * (1 - min(epoch / epochs, 1)) ** 2)


# Systems of table 1 at the paper's size: their terms, and the weight of each in an epoch.
SUPERVISED = dict.fromkeys(
    ("teacher/weak", "teacher/strong", "student/weak", "student/strong"), full
)
PTS = SUPERVISED | {
    "consistency/teacher_to_student": full,
    "consistency/student_to_teacher": alpha(30),
}
BETA = ramp(1, 100)
TERMS = {
    "mean_teacher": {
        "student/weak": full,
        "student/strong": full,
        "consistency/clip": ramp(2, 50),
        "consistency/frames": ramp(2, 50),
    },
    "guided_learning": {
        "teacher/clip": full,
        "student/clip": full,
        "consistency/teacher_to_student": full,
        "consistency/student_to_teacher": full,  # alpha is within the BCE
    },
    "pts_without_bgru": PTS,
    "pts": PTS,
    "pts_dfd_mse": PTS | {"distillation/dfd_mse": BETA},
    "pts_dfd_d": PTS | {"distillation/dfd_d": BETA},
    "pts_tfd": PTS | {"distillation/tfd": BETA},
    "pts_tfd_dfd_d": PTS | {"distillation/tfd": BETA, "distillation/dfd_d_weak_unlabelled": BETA},
    "pts_tfd_afl": PTS | {"distillation/tfd": BETA},
    "pts_tfd_afl_esp": PTS | {"distillation/tfd": BETA},
}
TAU = {"pts_tfd_afl": 15, "pts_tfd_afl_esp": 15}  # the others stay with BCE


def terms_of(config, teacher, student, params, batch, step, steps_per_epoch=1):
    """name -> (weight, value), of the config's scheme."""
    objective = OBJECTIVES[config.scheme](config, steps_per_epoch)
    terms = objective.terms(teacher, student, params, batch, jnp.int32(step))
    _, values = weighted_sum(terms, None)
    return {name: (term.weight, values[name]) for name, term in terms.items()}


@pytest.mark.parametrize("epoch", [0, 5, 6, 14, 15, 31, 150])
@pytest.mark.parametrize("name", TERMS)
def test_terms_of_each_system(name, epoch):
    config = importlib.import_module(f"jfsed_jax.configs.{name}").get_config()
    rng = np.random.default_rng(0)

    def output(frames, features):
        p = rng.uniform(0.1, 0.9, (8, frames + 1, 10)).astype(np.float32)
        return Output(p[:, 0], p[:, 1:], rng.normal(size=(8, frames, features)))

    teacher, student = output(FRAMES if name == "mean_teacher" else 1, 6), output(FRAMES, 4)
    params = {
        "distillation": {"teacher": rng.normal(size=(6, 5)), "student": rng.normal(size=(4, 5))}
    }
    batch = make_batch()
    terms = terms_of(config, teacher, student, params, batch, 10 * epoch, steps_per_epoch=10)

    assert terms.keys() == TERMS[name].keys()
    for term, weight in TERMS[name].items():
        np.testing.assert_allclose(terms[term][0], weight(epoch), atol=1e-6, err_msg=term)

    if config.scheme == "joint":
        # The first two clips are the weak ones; consistency stays BCE (equation 6).
        q = np.where(batch["clip_labels"][:2] > 0, student.clip[:2], 1 - student.clip[:2])
        weight = 1 - q**2 if epoch >= TAU.get(name, np.inf) else 1
        expected = (-weight * np.log(q)).mean()
        np.testing.assert_allclose(terms["student/weak"][1], expected, rtol=1e-5)
        q = np.where(teacher.clip > 0.5, student.clip, 1 - student.clip)
        consistency = terms["consistency/teacher_to_student"][1]
        np.testing.assert_allclose(consistency, -np.log(q).mean(), rtol=1e-5)


def test_both_models_and_both_kinds_of_labels_are_focal_as_the_config_says():
    """(1 - q)^3 of Lin et al., with q the probability of the true value."""
    config = pts_tfd_afl_esp.get_config()
    config.loss.update(tau=0.0, gamma=3.0, focal_form="lin")
    config.loss.distillation.tfd = 0.0
    teacher, student = constant([0.3, 0.6, 0.9], [0.5, 0.5, 0.4]), constant([0.2, 0.9, 0.9])
    found = terms_of(config, teacher, student, {}, make_batch(1, 1, 1), 0)

    def focal(p, present):
        """Of one clip, a share of whose labels is 1."""
        return -(present * (1 - p) ** 3 * np.log(p) + (1 - present) * p**3 * np.log(1 - p))

    # One of ten tags; 40 of 100 frames of one class of ten.
    for name, p, present in (
        ("teacher/weak", 0.3, 0.1),
        ("teacher/strong", 0.4, 0.04),
        ("student/weak", 0.2, 0.1),
        ("student/strong", 0.9, 0.04),
    ):
        np.testing.assert_allclose(found[name][1], focal(p, present), rtol=1e-5, err_msg=name)


def test_a_distance_has_its_own_weight_times_beta():
    config = pts_tfd_afl_esp.get_config()
    config.loss.distillation.update(tfd=3.0, dfd_mse=0.5)
    half = constant([0.5] * 8)._replace(features=np.zeros((8, FRAMES, 1), np.float32))
    params = {"distillation": {"teacher": np.ones((1, 1)), "student": np.ones((1, 1))}}
    found = terms_of(config, half, half, params, make_batch(), 0)
    for name, weight in (("tfd", 3.0), ("dfd_mse", 0.5)):
        assert float(found[f"distillation/{name}"][0]) == pytest.approx(weight * np.exp(-5))


def constant(clips, frames=None):
    """Clip n has the n-th probability in all classes, and in all frames where no other is given."""
    clips = np.asarray(clips, np.float32)
    frames = clips if frames is None else np.asarray(frames, np.float32)
    return Output(
        np.tile(clips[:, None], (1, 10)), np.tile(frames[:, None, None], (1, FRAMES, 10)), None
    )


def test_which_clips_the_terms_of_a_mean_teacher_are_over():
    # One weak, one unlabelled, one strong clip; outside its mask a clip is far off.
    teacher = constant([0.3, 0.6, 0.9], frames=[0.5, 0.5, 0.5])
    student = constant([0.2, 0.9, 0.9], frames=[0.9, 0.5, 0.25])
    found = terms_of(tiny_mean_teacher(), teacher, student, {}, make_batch(1, 1, 1), 0)
    expected = {
        # One of ten tags; 40 of 100 frames of one class of ten.
        "student/weak": -(0.1 * np.log(0.2) + 0.9 * np.log(0.8)),
        "student/strong": -(0.04 * np.log(0.25) + 0.96 * np.log(0.75)),
        "consistency/clip": (0.01 + 0.09 + 0) / 3,
        "consistency/frames": (0.16 + 0 + 0.0625) / 3,
    }
    for term, value in expected.items():
        np.testing.assert_allclose(found[term][1], value, rtol=1e-5, err_msg=term)


def test_a_mean_teacher_gets_no_gradient():
    teacher, student = constant([0.3, 0.6, 0.9]), constant([0.2, 0.9, 0.9])

    def total(teacher):
        found = terms_of(tiny_mean_teacher(), teacher, student, {}, make_batch(1, 1, 1), 0)
        return sum(value for _, value in found.values())

    gradients = jax.grad(total)(teacher._replace(features=np.zeros(3, np.float32)))
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients))


def test_which_clips_the_terms_of_guided_learning_are_over():
    # One weak, one unlabelled, one strong clip; each has one tag of ten, but the unlabelled none.
    teacher, student = constant([0.2, 0.7, 0.6]), constant([0.9, 0.4, 0.2])
    found = terms_of(tiny_guided_learning(), teacher, student, {}, make_batch(1, 1, 1), 0)

    def clip(p):
        return -(0.1 * np.log(p) + 0.9 * np.log(1 - p))

    expected = {
        "teacher/clip": (clip(0.2) + clip(0.6)) / 2,
        "student/clip": (clip(0.9) + clip(0.2)) / 2,
        # The unlabelled clip alone: the teacher says present, the student absent.
        "consistency/teacher_to_student": -np.log(0.4),
        "consistency/student_to_teacher": -np.log(1 - 0.7),
    }
    for term, value in expected.items():
        np.testing.assert_allclose(found[term][1], value, rtol=1e-5, err_msg=term)


@pytest.mark.parametrize("name", ["pts", "supervised"])
def test_clip_labels_are_learnt_from_weak_clips_or_from_all_labelled_ones(name):
    """One weak, one unlabelled, one strong clip, as `make_batch` has them: tags 0, 1 of 10."""
    outputs = {"student": constant([0.9, 0.4, 0.2]), "teacher": constant([0.2, 0.7, 0.6])}
    config = load_config(name)
    if name == "supervised":
        outputs["teacher"] = None
    else:
        config.loss.update(tau=5.0, gamma=2.0)

    def bce(p):
        return -(0.1 * np.log(p) + 0.9 * np.log(1 - p))

    def focal(p):
        return -(0.1 * (1 - p**2) * np.log(p) + 0.9 * (1 - (1 - p) ** 2) * np.log(1 - p))

    for clip_labels, clips in (("weak", [0]), ("labelled", [0, 2])):
        config.loss.clip_labels = clip_labels
        for epoch, loss in ((0, bce), (7, bce if name == "supervised" else focal)):
            found = terms_of(
                config, outputs["teacher"], outputs["student"], {}, make_batch(1, 1, 1), epoch
            )
            of_student = np.mean([loss([0.9, 0.4, 0.2][i]) for i in clips])
            np.testing.assert_allclose(found["student/weak"][1], of_student, rtol=1e-5)
            if name == "pts":
                of_teacher = np.mean([loss([0.2, 0.7, 0.6][i]) for i in clips])
                np.testing.assert_allclose(found["teacher/weak"][1], of_teacher, rtol=1e-5)


def test_the_joint_framework_guides_on_all_clips_or_on_unlabelled_ones():
    teacher, student = constant([0.2, 0.7, 0.6]), constant([0.9, 0.4, 0.2])
    to_student = "consistency/teacher_to_student"
    config = pts_tfd_afl_esp.get_config()
    config.loss.distillation.tfd = 0.0
    # The teacher says absent, present, present, to the student's 0.9, 0.4, 0.2.
    everyone = -(np.log(1 - 0.9) + np.log(0.4) + np.log(0.2)) / 3
    for clips, soft, expected in (
        ("all", False, everyone),
        ("unlabelled", False, -np.log(0.4)),
        ("unlabelled", True, -(0.7 * np.log(0.4) + 0.3 * np.log(0.6))),
    ):
        config.guided.update(clips=clips, soft=soft)
        found = terms_of(config, teacher, student, {}, make_batch(1, 1, 1), 0)
        np.testing.assert_allclose(found[to_student][1], expected, rtol=1e-5)
    config.guided.clips = "weak"
    with pytest.raises(InputError, match="config.guided.clips is 'weak'.*all or unlabelled"):
        terms_of(config, teacher, student, {}, make_batch(1, 1, 1), 0)


def test_guided_learnings_alpha_is_within_the_bce():
    """As its code has it, a factor of probability and decision: 0.198 after 55 epochs of it."""
    teacher, student = constant([0.2, 0.7, 0.6]), constant([0.9, 0.8, 0.2])
    config, alpha = guided_learning.get_config(), 1 - 0.996**55
    found = terms_of(config, teacher, student, {}, make_batch(1, 1, 1), 60)
    # On the unlabelled clip, one of three: the student says present, the teacher 0.7.
    expected = -(alpha * np.log(alpha * 0.7) + (1 - alpha) * np.log(1 - alpha * 0.7))
    weight, value = found["consistency/student_to_teacher"]
    assert weight == 1.0
    np.testing.assert_allclose(value, expected / 3, rtol=1e-5)


def test_which_clips_distances_are_over():
    config = pts_tfd_afl_esp.get_config()
    config.loss.distillation.update(tfd=1.0, dfd_d=1.0, dfd_d_weak_unlabelled=1.0, dfd_mse=1.0)
    config.loss.distillation_dims = 1
    # Clip n is n everywhere for the student and 0 for the teacher.
    number = np.arange(8, dtype=np.float32)[:, None, None]
    half = np.full((8, 10), 0.5, np.float32)
    student = Output(half, half[:, None], np.broadcast_to(number, (8, FRAMES, 1)))
    teacher = Output(half, half[:, None], np.zeros((8, 1, 1), np.float32))
    params = {"distillation": {"teacher": np.ones((1, 1)), "student": np.ones((1, 1))}}
    found = terms_of(config, teacher, student, params, make_batch(), 0)
    expected = {
        "tfd": 0.4 * (6 + 7) / 2,  # strong clips, 40 of 100 frames
        "dfd_d": 28 / 8,
        "dfd_d_weak_unlabelled": 15 / 6,
        "dfd_mse": (1 + 4 + 9 + 16 + 25 + 36 + 49) / 8,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[f"distillation/{name}"][1], value, rtol=1e-5)


@pytest.mark.parametrize("alignment", ["repeat", "interpolate", "pool"])
def test_the_maps_are_aligned_in_time_as_asked(alignment):
    """The teacher has 0 and 4 in its two frames, the student t in frame t of 4; map and W are 1."""
    config = pts_tfd_afl_esp.get_config()
    config.loss.update(alignment=alignment, distillation_dims=1)
    config.loss.distillation.update(dfd_d=1.0)
    half = np.full((8, 10), 0.5, np.float32)

    def output(frames):
        maps = np.broadcast_to(np.asarray(frames, np.float32)[:, None], (8, len(frames), 1))
        return Output(half, half[:, None], maps)

    teacher, student = output([0, 4]), output([0, 1, 2, 3])
    params = {"distillation": {"teacher": np.ones((1, 1)), "student": np.ones((1, 1))}}
    batch = make_batch()
    batch["frame_labels"][-2:] = 0
    batch["frame_labels"][-2:, 80:, 2] = 1  # the last fifth: in the last frame of 4 and of 2
    found = terms_of(config, teacher, student, params, batch, 0)
    dfd_d, target = {
        "repeat": ((0 + 1 + 2 + 1) / 4, 1 / 4),  # 0 0 4 4
        "interpolate": ((0 + 0 + 1 + 1) / 4, 1 / 4),  # 0 1 3 4
        "pool": ((0.5 + 1.5) / 2, 1.5 / 2),  # against 0.5 and 2.5
    }[alignment]
    np.testing.assert_allclose(found["distillation/dfd_d"][1], dfd_d, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["distillation/tfd"][1], target, rtol=1e-5)


def test_terms_over_the_batch_are_shares_of_those_over_their_clips():
    teacher, student = constant([0.2, 0.7, 0.6]), constant([0.9, 0.4, 0.2])
    found = []
    for normalisation in ("own", "batch"):
        config = tiny_guided_learning()
        config.loss.normalisation = normalisation
        found.append(terms_of(config, teacher, student, {}, make_batch(1, 1, 1), 0))
    shares = {"teacher/clip": 2 / 3, "student/clip": 2 / 3}
    shares |= {
        f"consistency/{ways}": 1 / 3 for ways in ("teacher_to_student", "student_to_teacher")
    }
    assert found[0].keys() == found[1].keys() == shares.keys()
    for name, share in shares.items():
        assert float(found[1][name][1]) == pytest.approx(share * float(found[0][name][1]), rel=1e-6)


def test_terms_over_the_labelled_clips_are_shares_of_those_over_their_own():
    """Of one weak, two unlabelled and three strong clips; the letter of equation 4's K."""
    teacher, student = constant([0.2, 0.7, 0.6, 0.1, 0.3, 0.8]), constant([0.9, 0.4, 0.2] * 2)
    found = []
    for normalisation in ("own", "labelled"):
        config = tiny()
        config.loss.normalisation = normalisation
        config.loss.distillation.tfd = 0.0
        found.append(terms_of(config, teacher, student, {}, make_batch(1, 2, 3), 0))
    shares = dict.fromkeys(found[0], 1.0)
    for name in ("teacher", "student"):
        shares |= {f"{name}/weak": 1 / 4, f"{name}/strong": 3 / 4}
    assert found[0].keys() == found[1].keys()
    for name, share in shares.items():
        assert float(found[1][name][1]) == pytest.approx(share * float(found[0][name][1]), rel=1e-6)


def test_a_mean_teacher_may_start_from_weights_of_its_own():
    config = tiny_mean_teacher()
    assert config.teacher_start == "own"
    own = start(make(config, axis_name=None), config)
    config.teacher_start = "student"
    same = start(make(config, axis_name=None), config)
    jax.tree.map(np.testing.assert_array_equal, own.params, same.params)
    jax.tree.map(
        np.testing.assert_array_equal, averaged(same.opt_state)["student"], same.params["student"]
    )
    kernels = [
        np.asarray(tree["block_0"]["Conv_0"]["kernel"])
        for tree in (averaged(own.opt_state)["student"], own.params["student"])
    ]
    assert np.abs(kernels[0] - kernels[1]).min() > 0
    assert kernels[0].std() == pytest.approx(kernels[1].std(), rel=0.5)


def test_noise_on_the_log_mel_is_the_teachers_alone():
    """Models that give back the mean of what they hear, and of its square."""

    class Ears(nn.Module):
        @nn.compact
        def __call__(self, mel, train=False):
            mel = mel + self.param("nothing", nn.initializers.zeros, ())
            heard = jnp.stack([mel.mean((1, 2)), (mel**2).mean((1, 2))], axis=-1)
            return Output(heard, heard[:, None], heard[:, None])

    def terms(teacher, student, params, batch, step):
        return {
            f"{name}/{moment}": Term(1.0, output.clip[:, i])
            for name, output in (("teacher", teacher), ("student", student))
            for i, moment in enumerate(("mean", "square"))
        }

    config = guided_learning.get_config()
    config.augmentation.update(time_shift=0.0)
    system = systems.from_config(
        config, classes=2, steps_per_epoch=1,
        teacher=Ears(), student=Ears(), objective=Objective(terms),
    )  # fmt: skip
    state = initial_state(system, jax.random.key(0), input_shape=(FRAMES, 64))
    batch = make_batch() | {"mel": np.full((8, FRAMES, 64), 2.0, np.float16)}
    _, metrics = train_step(state, batch, jax.random.key(1), system=system)
    assert (metrics["student/mean"], metrics["student/square"]) == (2.0, 4.0)
    # Of 51,200 draws: the mean is within 0.15 / 226 or so, the variance within 1 %.
    mean, square = float(metrics["teacher/mean"]), float(metrics["teacher/square"])
    assert mean == pytest.approx(2, abs=3e-3)
    assert square - mean**2 == pytest.approx(0.15**2, rel=0.03)


class Ears(nn.Module):
    """Gives back what it hears as the clip's one probability, times a parameter."""

    @nn.compact
    def __call__(self, mel, train=False):
        heard = mel.mean((1, 2))[:, None] * self.param("gain", nn.initializers.ones, ())
        return Output(heard, heard[:, None], heard[:, None])


def ears_that_measure(measures):
    config = guided_learning.get_config()
    objective = Objective(
        lambda teacher, student, *_: {"heard": Term(1.0, student.clip[:, 0])}, measures=measures
    )
    return systems.from_config(
        config, classes=1, steps_per_epoch=1,
        teacher=Ears(), student=Ears(), objective=objective,
    )  # fmt: skip


def test_an_objective_of_ones_own_may_measure():
    def measures(teacher, student, params, batch, axis_name):
        assert axis_name is None
        gain = params["student"]["gain"]
        return {"heard/gain": 3 * gain, "heard/clips": batch["is_weak"].sum()}

    system = ears_that_measure(measures)
    state = initial_state(system, jax.random.key(0), input_shape=(FRAMES, 64))
    _, metrics = train_step(state, make_batch(), jax.random.key(1), system=system)
    assert (metrics["measures/heard/gain"], metrics["measures/heard/clips"]) == (3, 2)


def test_a_measure_that_is_not_one_value_is_named():
    system = ears_that_measure(lambda *_: {"wide": jnp.ones(3)})
    state = initial_state(system, jax.random.key(0), input_shape=(FRAMES, 64))
    with pytest.raises(ValueError, match=r"'wide' has shape \(3,\): expected one value"):
        train_step(state, make_batch(), jax.random.key(1), system=system)


def compiled(config, **changes):
    """A step as training uses it, and what gives a state placed as training places it."""
    system = make(config)
    system = replace(system, objective=replace(system.objective, **changes))
    mesh = parallel.make_mesh(1)
    step = parallel.data_parallel(partial(train_step, system=system, axis_name=parallel.AXIS), mesh)
    state = start(system, config)

    return step, lambda: everywhere(state, mesh)


@pytest.fixture(scope="module")
def run():
    return compiled(tiny())


MISSING = [(4, 4, 0), (0, 4, 4), (4, 0, 4), (0, 8, 0), (0, 0, 8)]  # weak, unlabelled, strong


def check_finite(state, metrics):
    assert all(np.isfinite(value) for value in metrics.values())
    # Adam's state holds the gradients.
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(("weak", "unlabelled", "strong"), MISSING)
def test_kinds_may_be_missing(weak, unlabelled, strong, run):
    step, first = run
    state, metrics = step(first(), make_batch(weak, unlabelled, strong), jax.random.key(0))
    check_finite(state, metrics)
    for name, value in metrics.items():
        if name.endswith("/weak"):
            assert (value > 0) == (weak > 0)  # without such clips exactly 0
        if name.endswith(("/strong", "/tfd")):
            assert (value > 0) == (strong > 0)
        if name.startswith("consistency/"):
            assert value > 0


@pytest.mark.parametrize("config", [tiny_mean_teacher, tiny_guided_learning])
def test_kinds_may_be_missing_in_systems_0_and_1(config):
    step, first = compiled(config())
    for weak, unlabelled, strong in MISSING:
        state, metrics = step(first(), make_batch(weak, unlabelled, strong), jax.random.key(0))
        check_finite(state, metrics)
        expected = {
            "student/weak": weak,
            "student/strong": strong,
            "student/clip": weak + strong,
            "teacher/clip": weak + strong,
            "consistency/clip": 8,
            "consistency/frames": 8,
            "consistency/teacher_to_student": unlabelled,
            "consistency/student_to_teacher": unlabelled,
        }
        for name, clips in expected.items():
            if name in metrics:
                assert (metrics[name] > 0) == (clips > 0), name
    assert step._cache_size() == 1


def test_a_step_consumes_its_state_and_compiles_once(run):
    step, first = run
    state, key, batch = first(), jax.random.key(0), make_batch()
    for number in range(3):
        before = state
        state, _ = step(state, batch, key)
        assert int(state.step) == number + 1
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert step._cache_size() == 1


def test_measures_do_not_change_a_bit_of_training(run):
    found = []
    for step, first in (run, compiled(tiny(), measures=lambda *_: {})):
        state, metrics = step(first(), make_batch(), jax.random.key(0))
        found.append((state, {k: v for k, v in metrics.items() if not k.startswith("measures/")}))
        measured = len(metrics) - len(found[-1][1])
        assert measured == (5 if step is run[0] else 0)
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_randomness_is_a_function_of_key_and_step(run):
    step, first = run
    batch = make_batch()

    def loss(key, number):
        state = first()
        at = state.replace(step=jnp.zeros_like(state.step) + number)
        return float(step(at, batch, jax.random.key(key))[1]["loss"])

    assert loss(0, 0) == loss(0, 0)
    # The augmentation is another one with another key, or at another step.
    assert len({loss(0, 0), loss(1, 0), loss(0, 1)}) == 3


@pytest.fixture(scope="module")
def plain():
    """Config, system, step and compiled step with dropout, augmentation and plain SGD.

    Which does not amplify rounding: XLA fuses a loop's body and several seeds otherwise.
    """
    config = tiny()
    config.teacher.dropout = 0.3
    assert config.augmentation.mix and config.augmentation.time_shift
    system = replace(make(config), optimiser=optax.sgd(0.05))
    step = partial(train_step, system=system, axis_name=parallel.AXIS)
    return config, system, step, parallel.data_parallel(step, parallel.make_mesh(1))


def test_one_program_of_three_steps_is_three_steps(plain):
    config, system, step, one = plain
    mesh = parallel.make_mesh(1)
    clips, key = make_batch(4, 8, 4), jax.random.key(0)
    positions = np.stack([np.roll(np.arange(16), n)[::2] for n in (0, 1, 5)]).astype(np.int32)
    pick = parallel.data_parallel_gather(mesh, parallel.SEVERAL_BATCHES)
    steps = parallel.scanned(step)
    steps = parallel.data_parallel(steps, mesh, parallel.SEVERAL_BATCHES)
    found = steps(start(system, config), pick(clips, positions), key)

    state, metrics = everywhere(start(system, config), mesh), []
    for chosen in positions:
        batch = {name: values[chosen] for name, values in clips.items()}
        state, values = one(state, batch, key)
        metrics.append(values)
    expected = state, jax.tree.map(lambda *values: np.stack(values), *metrics)
    for a, b in zip(*map(jax.tree.leaves, (expected, found)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


def test_each_of_several_seeds_is_its_single_run(plain):
    """Three steps on the same clips; on clips of their own in test_end_to_end.py, and a stub."""
    config, system, step, one = plain
    clips = make_batch(4, 8, 4)
    picks = [np.roll(np.arange(16), n)[::2] for n in range(3)]
    batches = [{name: values[pick] for name, values in clips.items()} for pick in picks]
    init = jax.jit(partial(initial_state, system, input_shape=shape_of(config)))
    keys, single_keys = run_keys(5, 2), [run_keys(5), run_keys(6)]
    mesh = parallel.make_mesh(1)
    state, *singles = (everywhere(init(key), mesh) for key in (keys, *single_keys))

    several = parallel.several_seeds(step, share_batch=True)
    several = parallel.data_parallel(several, mesh)
    for batch in batches:
        state, metrics = several(state, batch, keys)
        for k, key in enumerate(single_keys):
            singles[k], values = one(singles[k], batch, key)
            for name, value in values.items():
                np.testing.assert_allclose(metrics[name][k], value, rtol=1e-4, err_msg=name)
    assert state.step.tolist() == [3, 3]
    for k, single in enumerate(singles):
        for a, b in zip(*map(jax.tree.leaves, (single, state_of_seed(state, k))), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_step_lowers_for_tpu(dtype):
    config = tiny()
    config.compute_dtype, config.teacher.dropout = dtype, 0.3
    system = make(config)
    step = parallel.data_parallel(
        partial(train_step, system=system, axis_name=parallel.AXIS),
        parallel.make_mesh(1),
    )
    state = jax.eval_shape(lambda: create(system, config))
    exported = jax.export.export(step, platforms=["tpu"])(state, make_batch(), jax.random.key(0))
    assert exported.platforms == ("tpu",)
    text = exported.mlir_module()
    assert "callback" not in text and "f64" not in text
    assert ("bf16" in text) == (dtype == "bfloat16")


def test_the_step_lowers_for_cuda_with_the_recurrence_as_kernels(
    kernels_for_cuda, h100, monkeypatch
):
    # They are asked of a device that compiles; here nothing is compiled.
    monkeypatch.setattr(parallel, "frugal_options", lambda mesh: {})
    config = tiny()
    config.compute_dtype, config.gru_loop = "bfloat16", "pallas"
    config.student.gru_hidden = config.teacher.gru_hidden = 16
    system = make(config)
    step = parallel.data_parallel(
        partial(train_step, system=system, axis_name=parallel.AXIS),
        AbstractMesh((1,), (parallel.AXIS,), (AxisType.Auto,), abstract_device=h100),
    )
    state = jax.eval_shape(lambda: create(system, config))
    # One layer of two models, forward and backward.
    assert kernels_for_cuda(step, state, make_batch(), jax.random.key(0)) == 4


EIGHT_DEVICES = """
    import json, sys
    from dataclasses import replace
    from functools import partial
    import jax, numpy as np, optax
    from jfsed_jax.inference import prediction
    from jfsed_jax.method import parallel
    from jfsed_jax.method.step import train_step
    sys.path.insert(0, "tests/method")
    from test_train_step import everywhere, make, make_batch, start, tiny

    config = tiny()
    config.loss.tau = 0.0
    config.loss.distillation_scale = "standardised"  # by the statistics of all devices
    config.teacher.dropout = config.student.dropout = 0.3
    config.augmentation.mix = 1.0  # with partners on other devices
    config.teacher_noise, config.teacher_log_noise = 0.1, 0.1
    system = replace(make(config), optimiser=optax.sgd(0.05))
    step = partial(train_step, system=system, axis_name=parallel.AXIS)
    batch, key = make_batch(4, 8, 4), jax.random.key(0)
    split = {name: value.reshape(8, 2, *value.shape[1:]) for name, value in batch.items()}
    assert jax.device_count() == 8
    first, found = start(system, config), {}
    meshes = [parallel.make_mesh(devices) for devices in (1, 8)]
    one, eight = (parallel.data_parallel(step, mesh) for mesh in meshes)
    begin, shared = (everywhere(first, mesh) for mesh in meshes)
    runs = {
        "one": (one, begin, batch),
        "eight": (eight, shared, batch),
        "pmap": (
            jax.pmap(step, parallel.AXIS, in_axes=(None, 0, None), out_axes=None), first, split
        ),
    }
    for name, (run, state, clips) in runs.items():
        for _ in range(2):
            state, metrics = run(state, clips, key)
        values = {k: float(v) for k, v in metrics.items()}
        for part in ("params", "batch_stats"):
            for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(state, part)):
                values[part + jax.tree_util.keystr(path)] = np.asarray(leaf).ravel().tolist()
        found[name] = values
    predict_fn = prediction.make_posteriors(make(config, axis_name=None).models)
    first = {
        "teacher": {"params": first.params["teacher"], "batch_stats": first.batch_stats["teacher"]},
        "student": {"params": first.params["student"], "batch_stats": first.batch_stats["student"]},
    }
    mels, by = np.concatenate([batch["mel"], batch["mel"][:3]]), set()

    def listened(state, mel):
        by.add(mel.sharding.shard_shape(mel.shape)[0])
        return predict_fn(state, mel)

    shared = prediction.clip_posteriors(listened, first, mels)
    assert by == {2}, by  # of 16 clips, two a device
    for name, output in ("shared", shared), ("alone", predict_fn(first, mels)):
        found[name] = {k: np.ravel(v).tolist() for k, v in output._asdict().items()}
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def eight_devices():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    if "xla_cpu_use_fusion_emitters" in parallel.frugal_options(parallel.make_mesh()):
        flags += " --xla_cpu_use_fusion_emitters=false"  # as data_parallel does: pmap rounds alike
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    code = textwrap.dedent(EIGHT_DEVICES)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_one_device_equals_eight(eight_devices):
    """Two steps of plain SGD: a gradient that is too large by the devices' number would show, and
    so would a clip that is mixed, shifted, coloured or dropped otherwise on another device.

    Weak and strong clips are on two devices each, so no device's own mean is that of the batch.
    """
    one, eight = eight_devices["one"], eight_devices["eight"]
    assert one.keys() == eight.keys()
    for name, value in one.items():
        np.testing.assert_allclose(eight[name], value, rtol=2e-4, atol=2e-5, err_msg=name)


def test_shard_map_equals_pmap(eight_devices):
    shard_map, pmap = eight_devices["eight"], eight_devices["pmap"]
    for name, value in shard_map.items():
        np.testing.assert_allclose(pmap[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


def test_clips_that_eight_devices_share_have_the_posteriors_of_one(eight_devices):
    shared, alone = eight_devices["shared"], eight_devices["alone"]
    for name, value in alone.items():
        np.testing.assert_allclose(shared[name], value, atol=1e-6, err_msg=name)


def test_terms_are_meant_over_their_clips_and_shared_by_devices():
    """A value a clip over the clips that count, a scalar as it is; on two devices their sum."""
    terms = {
        "masked": (2.0, jnp.array([1.0, 5.0, 9.0]), jnp.array([1.0, 0.0, 1.0])),
        "all": Term(1.0, jnp.array([1.0, 2.0, 6.0])),
        "scalar": (0.5, 4.0),
    }
    total, values = weighted_sum(terms, None)
    assert {name: float(value) for name, value in values.items()} == {
        "masked": 5.0, "all": 3.0, "scalar": 4.0
    }  # fmt: skip
    assert float(total) == 2 * 5 + 3 + 0.5 * 4
    spread = jax.vmap(lambda x: weighted_sum({"x": (1.0, x), "s": (1.0, 4.0)}, "d"), axis_name="d")
    total, values = spread(jnp.array([[1.0, 2.0], [3.0, 6.0]]))
    assert values["x"].tolist() == [0.75, 2.25] and values["s"].tolist() == [2.0, 2.0]
    assert float(total.sum()) == 3 + 4


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("loss", (1.0, 2.0)),
        ("wide", (1.0, np.ones((3, 3)), np.ones(3))),
        ("short", (1.0, np.ones(3), np.ones(2))),
    ],
)
def test_a_term_that_is_none_is_named(name, term):
    with pytest.raises(ValueError, match=f"the term '{name}' has values of shape"):
        weighted_sum({name: term}, None)


def test_what_a_user_sets_is_left_to_him(monkeypatch):
    """The tests themselves compile with less of LLVM's work than a run."""
    mesh = parallel.make_mesh(1)
    flag = "xla_backend_optimization_level"
    monkeypatch.setenv("XLA_FLAGS", "")
    assert parallel.frugal_options(mesh)[flag] == parallel.once_options(mesh)[flag] == 1
    monkeypatch.setenv("XLA_FLAGS", f"--{flag}=3")
    assert flag not in parallel.frugal_options(mesh)
    assert parallel.frugal_options(mesh)
    assert not parallel.once_options(mesh)
