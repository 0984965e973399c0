"""What distillation compares, whom it moves, and what is measured of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jfsed_jax.configs import pts_tfd
from jfsed_jax.errors import InputError
from jfsed_jax.method import losses
from jfsed_jax.method.distillation import (
    Distilled,
    Space,
    compared_maps,
    measures,
    participation_ratio,
)
from jfsed_jax.method.models import Output
from jfsed_jax.method.objectives import Guidance, Term, joint
from jfsed_jax.method.step import weighted_sum

NAMES = {f"{m}_{what}" for m in ("teacher", "student") for what in ("norm", "rank")}
NAMES |= {"relative_distance"}


def close(found, expected, **kwargs):
    np.testing.assert_allclose(found, expected, **{"rtol": 1e-5, "atol": 1e-6} | kwargs)


def objective_of(**page):
    """The joint framework with TFD at full weight and some values of the loss page changed."""
    config = pts_tfd.get_config()
    config.loss.update(dict(beta_rampup=0.0, distillation_dims=5) | page)
    return joint(config, 10)


def example(clips=4, frames=12, seed=0):
    """Outputs, maps and a batch: the second half of the clips is strong, with events."""
    rng = np.random.default_rng(seed)

    def output(length, features):
        p = rng.uniform(0.1, 0.9, (clips, length + 1, 3)).astype(np.float32)
        return Output(p[:, 0], p[:, 1:], rng.normal(1, 2, (clips, length, features)))

    teacher, student = output(3, 6), output(frames, 4)
    maps = {"teacher": rng.normal(size=(6, 5)), "student": rng.normal(size=(4, 5))}
    strong = (np.arange(clips) >= clips // 2).astype(np.float32)
    labels = np.zeros((clips, frames, 3), np.float32)
    labels[strong > 0, 2:8, 1] = 1
    batch = {"clip_labels": labels.max(1), "frame_labels": labels}
    batch |= {"is_strong": strong, "is_weak": np.zeros(clips, np.float32)}
    return jax.tree.map(jnp.float32, (teacher, student, {"distillation": maps}, batch))


def test_the_participation_ratio_counts_directions():
    direction = jnp.array([3.0, 4.0, 0.0])
    close(participation_ratio(jnp.outer(direction, direction)), 1)
    close(participation_ratio(7 * jnp.eye(5)), 5)
    close(participation_ratio(jnp.diag(jnp.array([2.0, 1.0]))), 9 / 5)
    close(participation_ratio(1e-25 * jnp.eye(4)), 4)  # its squares are below the least float32
    assert participation_ratio(jnp.zeros((4, 4))) == 0


def test_measures_of_two_maps_by_hand():
    # The teacher goes along (3, 4), the student has equal variances along both axes.
    teacher = jnp.array([[[3.0, 4.0], [-3.0, -4.0], [6.0, 8.0], [-6.0, -8.0], [jnp.inf, 0]]])
    student = jnp.array([[[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0], [0.0, -4.0], [0.0, 90]]])
    counts = jnp.array([[True, True, True, True, False]])
    found = compared_maps(teacher, student, counts)
    assert found.keys() == NAMES
    close(found["teacher_norm"], 7.5)
    close(found["student_norm"], 4)
    close(found["teacher_rank"], 1)
    close(found["student_rank"], 2)
    squares = [1 + 16, 1 + 16, 36 + 16, 36 + 16]
    close(found["relative_distance"], np.sqrt(np.mean(squares) / (62.5 + 16)))


def test_the_relative_distance_is_of_any_scale():
    teacher = jnp.array([[[2.0, 0.0], [0.0, 1.0]]])
    right = jnp.array([[[0.0, 5.0], [3.0, 0.0]]])
    counts = jnp.ones((1, 2), bool)
    for student, expected in ((teacher, 0), (right, 1), (-teacher, np.sqrt(2))):
        for scale in (1.0, 1e-3):
            found = compared_maps(scale * teacher, scale * student, counts)
            close(found["relative_distance"], expected)
    # One of them near zero is not alignment.
    close(compared_maps(teacher, 1e-4 * teacher, counts)["relative_distance"], 1, rtol=1e-3)


def test_a_rank_is_of_what_varies_and_not_of_the_mean():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 500, 3)).astype(np.float32)
    far = jnp.asarray(1e3 + 0.1 * noise)  # a hundredth of a percent of its power varies
    found = compared_maps(far, far, jnp.ones((4, 500), bool))
    close(found["teacher_rank"], 3, rtol=0.02)


def test_maps_without_frames_measure_zero():
    maps = jnp.full((2, 3, 4), jnp.inf)
    found = compared_maps(maps, maps, jnp.zeros((2, 3), bool))
    assert {float(value) for value in found.values()} == {0.0}


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("scale", ["literal", "standardised"])
def test_many_devices_measure_what_one_does(devices, scale):
    """Eight clips; at least one device has no strong one."""
    teacher, student, params, batch = example(clips=8)
    objective = objective_of(distillation_scale=scale)

    def found(teacher, student, batch, axis_name):
        return objective.measures(teacher, student, params, batch, axis_name)

    one = found(teacher, student, batch, None)
    assert one.keys() == {f"distillation/tfd/{name}" for name in NAMES}
    split = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), (teacher, student, batch))
    many = jax.vmap(partial(found, axis_name="data"), axis_name="data")(*split)
    for name, value in one.items():
        close(many[name], np.full(devices, value), err_msg=name)


@pytest.mark.parametrize("name", ["tfd", "dfd_d", "dfd_d_weak_unlabelled", "dfd_mse"])
def test_a_distance_is_measured_where_it_looks(name):
    """Clip n of the student is n in frames with an event and 10 n in the others."""
    number = jnp.arange(4.0)[:, None, None]
    teacher, student, params, batch = example()
    active = batch["frame_labels"].max(-1, keepdims=True) > 0
    active = active.at[:2, 2:8].set(True)
    student = student._replace(features=jnp.where(active, number, 10 * number))
    teacher = teacher._replace(features=jnp.zeros((4, 1, 1)))
    params = {"distillation": {"teacher": jnp.ones((1, 1)), "student": jnp.ones((1, 1))}}
    objective = objective_of(distillation={"tfd": 0.0, name: 1.0})
    found = objective.measures(teacher, student, params, batch, None)
    assert found.keys() == {f"distillation/{name}/{of}" for of in NAMES}
    expected = {"tfd": 2.5, "dfd_d_weak_unlabelled": 5.5 * 0.5}.get(name, 5.5 * 1.5)
    close(found[f"distillation/{name}/student_norm"], expected)
    close(found[f"distillation/{name}/relative_distance"], 1)
    assert found[f"distillation/{name}/teacher_rank"] == 0


def test_without_distillation_nothing_is_measured():
    assert objective_of(distillation={"tfd": 0.0}).measures(*example(), None) == {}


def gradients(objective, teacher, student, params, batch, name="tfd"):
    """Of one distillation term alone: for both features and both maps, by name."""

    def term(features, maps):
        outputs = [
            output._replace(features=features[model])
            for model, output in (("teacher", teacher), ("student", student))
        ]
        axis = {"axis_name": None} if objective.across_devices else {}
        found = objective.terms(*outputs, {"distillation": maps}, batch, jnp.int32(0), **axis)
        return weighted_sum({name: found[f"distillation/{name}"]}, None)[0]

    features = {"teacher": teacher.features, "student": student.features}
    of_features, of_maps = jax.grad(term, (0, 1))(features, params["distillation"])
    return {"features": of_features, "maps": of_maps}


@pytest.mark.parametrize("scale", ["literal", "standardised"])
@pytest.mark.parametrize(
    ("page", "still"),
    [
        ({}, set()),
        ({"distillation_teacher_map": "fixed"}, {"maps/teacher"}),
        ({"distillation_gradient": "student"}, {"maps/teacher", "features/teacher"}),
    ],
)
def test_whom_distillation_moves(page, still, scale):
    found = gradients(objective_of(distillation_scale=scale, **page), *example())
    stands = {f"{what}/{name}" for what in found for name, g in found[what].items() if not g.any()}
    assert stands == still


@pytest.mark.parametrize("name", ["dfd_d", "dfd_d_weak_unlabelled", "dfd_mse"])
def test_every_distance_moves_both_models_by_default(name):
    objective = objective_of(distillation={"tfd": 0.0, name: 1.0})
    found = gradients(objective, *example(), name=name)
    assert all(gradient.any() for of in found.values() for gradient in of.values())


@pytest.mark.parametrize("teacher_map", ["trained", "fixed"])
def test_a_fixed_map_stays_as_drawn_under_adam(teacher_map):
    teacher, student, params, batch = example()
    objective = objective_of(distillation_teacher_map=teacher_map)
    maps = drawn = params["distillation"]
    adam = optax.adam(0.1)
    state = adam.init(maps)
    for _ in range(3):
        found = gradients(objective, teacher, student, {"distillation": maps}, batch)
        updates, state = adam.update(found["maps"], state, maps)
        maps = optax.apply_updates(maps, updates)
    assert bool((maps["teacher"] == drawn["teacher"]).all()) == (teacher_map == "fixed")
    assert (maps["student"] != drawn["student"]).all()


def test_the_maps_are_drawn_as_wide_as_the_config_says():
    """Each by itself, with a variance of 1 / D."""
    outputs = [Output(None, None, jnp.zeros((1, 3, dims))) for dims in (60, 40)]
    maps = objective_of(distillation_dims=50).init(jax.random.key(0), *outputs)["distillation"]
    assert (maps["teacher"].shape, maps["student"].shape) == ((60, 50), (40, 50))
    for kernel in maps.values():
        assert len(kernel) * kernel.var() == pytest.approx(1, rel=0.1)
    assert not np.intersect1d(maps["teacher"], maps["student"]).size


def test_standardised_maps_have_variance_1_over_E():
    maps = jnp.array([[[1.0, 50.0]], [[3.0, -50.0]]])
    close(losses.standardised(maps), np.array([[[-1.0, 1]], [[1, -1]]]) / np.sqrt(2))
    close(losses.standardised(0.5 * maps + 8), losses.standardised(maps), rtol=1e-4)
    assert not losses.standardised(jnp.ones((2, 3, 4))).any()  # and no division by zero


def test_statistics_of_standardised_maps_are_those_of_all_devices():
    """Their gradients too: those of the devices' shares sum to that of the whole."""
    maps = jnp.asarray(np.random.default_rng(0).normal(2, 3, (4, 6, 5)), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=maps.shape), jnp.float32)

    def share(maps, weights, axis_name=None):
        return (weights * losses.standardised(maps, axis_name)).sum()

    value, gradient = jax.value_and_grad(share)(maps, weights)
    on_two = jax.vmap(jax.value_and_grad(partial(share, axis_name="data")), axis_name="data")(
        maps.reshape(2, 2, 6, 5), weights.reshape(2, 2, 6, 5)
    )
    close(on_two[0].sum(), value)
    close(on_two[1].reshape(maps.shape), gradient)


def test_standardised_terms_ask_for_the_devices():
    """Without an axis each device would standardise its own clips, and nothing would tell."""
    teacher, student, params, batch = example()
    for normalisation in ("own", "batch"):
        objective = objective_of(distillation_scale="standardised", normalisation=normalisation)
        assert objective.across_devices
        with pytest.raises(TypeError, match="axis_name"):
            objective.terms(teacher, student, params, batch, 0)
        terms = objective.terms(teacher, student, params, batch, 0, axis_name=None)
        assert 0 < weighted_sum(terms, None)[1]["distillation/tfd"] < 2
    assert not objective_of().across_devices


def test_a_value_of_the_whole_batch_counts_once_on_many_devices():
    shares = jax.vmap(
        lambda value: weighted_sum({"whole": Term(2.0, value)}, "data")[0], axis_name="data"
    )(jnp.array([3.0, 3.0]))
    close(shares.sum(), 6.0)


def test_a_distance_may_name_its_clips_alone():
    """As one from outside does: then all frames of those clips are measured."""
    teacher, student, params, batch = example()

    def pair(teacher, student, batch):
        return losses.feature_distillation(teacher, student), batch["is_strong"]

    entry = Distilled("pair", pair, 1.0)
    found = measures(teacher, student, params, batch, distillation=[entry], space=Space())
    mapped = student.features[2:] @ params["distillation"]["student"]
    expected = jnp.sqrt((mapped**2).sum(-1)).mean()
    close(found["distillation/pair/student_norm"], expected)


@pytest.mark.parametrize(
    "name", ["alignment", "distillation_gradient", "distillation_teacher_map", "distillation_scale"]
)
def test_a_choice_that_there_is_not_is_named(name):
    with pytest.raises(InputError, match=f"config.loss.{name} is 'all': expected one of"):
        objective_of(**{name: "all"})


def test_the_defaults_are_equation_2_as_it_is_printed():
    assert Space.of(pts_tfd.get_config().loss) == Space()
    assert measures(*example(), distillation=(), space=Space()) == {}


def test_guidance_that_nobody_asked_otherwise_is_the_configs():
    assert Guidance() == Guidance.of(pts_tfd.get_config().guided)
