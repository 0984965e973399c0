"""The weights that a run takes from another one: which, for which classes, and what begins anew."""

from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from defaults import front_end
from narrow import narrow

import jfsed_jax as jf
from jfsed_jax.errors import InputError
from jfsed_jax.method.optimisers import averaged, parameter_ema
from jfsed_jax.method.state import TrainState
from jfsed_jax.method.system import Models
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.training import loop
from jfsed_jax.training.origin import (
    Origin,
    check_origin,
    read_origin,
    remembered,
    started_from,
)

OLD = ("Cat", "Dog", "Speech")
SHAPE = (5, 4)


class Small(nn.Module):
    """A layer, a batch norm and an output for each class."""

    classes: int
    width: int = 3

    @nn.compact
    def __call__(self, mel, train=False):
        hidden = nn.BatchNorm(use_running_average=not train)(nn.Dense(self.width)(mel))
        return nn.Dense(self.classes, name="heads")(hidden)


def system_of(classes, teacher: Any = None, **fields) -> Any:
    """What `started_from` asks of a system; its optimiser keeps moments and an average."""
    optimiser = optax.chain(optax.adam(0.1), parameter_ema(0.9))
    return SimpleNamespace(models=Models(teacher, Small(classes, **fields)), optimiser=optimiser)


def state_of(system, seeds=1, key=0, taught=True):
    """A state at random; of a mean teacher if the system has no teacher."""

    def one(number):
        variables = {
            name: module.init(jax.random.key(number), jnp.zeros((1, *SHAPE)))
            for name, module in system.models.named().items()
        }
        params = {name: found["params"] for name, found in variables.items()}
        if system.models.teacher is None:
            params.pop("teacher")
        params["distillation"] = {"student": jnp.full(2, float(number))}
        stats = {name: found["batch_stats"] for name, found in variables.items()}
        return TrainState(jnp.zeros((), jnp.int32), params, stats, system.optimiser.init(params))

    states = [one(key + k) for k in range(seeds)]
    return states[0] if seeds == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def variables_of(classes, number):
    """A model of so many classes whose leaves are numbered on from `number`."""
    found = Small(classes).init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    leaves, tree = jax.tree.flatten(found)
    ends = np.cumsum([0, *(leaf.size for leaf in leaves)]) + number
    return jax.tree.unflatten(
        tree,
        [
            np.arange(end - leaf.size, end, dtype=np.float32).reshape(leaf.shape)
            for leaf, end in zip(leaves, ends[1:], strict=True)
        ],
    )


def origin_of(path, *numbers, classes=OLD):
    """A run whose seeds have a teacher and a student each."""
    variables = [
        {"teacher": variables_of(len(classes), n), "student": variables_of(len(classes), n + 1000)}
        for n in numbers
    ]
    return Origin(path, 7, classes, variables)


def start(origin, system, classes, **options):
    return started_from(
        state_of(system, **options), origin, system, classes=classes, input_shape=SHAPE
    )


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, dict(found), dict(expected))


def test_models_are_those_of_the_other_run_and_the_rest_begins_anew(tmp_path):
    system = system_of(3, teacher=Small(3))
    origin = origin_of(tmp_path, 0)
    state = start(origin, system, OLD)
    for name in ("teacher", "student"):
        expected = origin.variables[0][name]
        assert_equal(state.params[name], expected["params"])
        assert_equal(state.batch_stats[name], expected["batch_stats"])
    assert int(state.step) == 0
    assert state.params["distillation"]["student"].tolist() == [0, 0]
    assert_equal(averaged(state.opt_state)["student"], state.params["student"])
    moments = state.opt_state[0][0]
    assert not any(leaf.any() for leaf in jax.tree.leaves(moments.mu["student"]))


def test_a_class_has_what_the_class_of_its_name_had_and_a_new_one_begins_at_random(tmp_path):
    classes = ("Speech", "Bell", "Cat", "Tap")
    system = system_of(4, teacher=Small(4))
    fresh = state_of(system)
    origin = origin_of(tmp_path, 0)
    state = start(origin, system, classes)
    heads, old = state.params["student"]["heads"], origin.variables[0]["student"]["params"]["heads"]
    anew = fresh.params["student"]["heads"]
    for new, before in ((0, 2), (2, 0)):
        np.testing.assert_array_equal(heads["kernel"][:, new], old["kernel"][:, before])
        assert heads["bias"][new] == old["bias"][before]
    for new in (1, 3):
        np.testing.assert_array_equal(heads["kernel"][:, new], anew["kernel"][:, new])
        assert heads["bias"][new] == anew["bias"][new]
    expected = origin.variables[0]["student"]["params"]["Dense_0"]
    assert_equal(state.params["student"]["Dense_0"], expected)


def test_as_many_classes_in_another_order_are_not_mistaken_for_the_same(tmp_path):
    classes = ("Dog", "Cat", "Speech")
    origin = origin_of(tmp_path, 0)
    state = start(origin, system_of(3, teacher=Small(3)), classes)
    old = origin.variables[0]["teacher"]["params"]["heads"]["bias"]
    assert state.params["teacher"]["heads"]["bias"].tolist() == [old[1], old[0], old[2]]


def test_a_layer_as_wide_as_there_are_classes_is_none_of_theirs(tmp_path):
    """Three hidden units, three classes: only what grows with the classes is theirs."""
    classes = ("Dog", "Cat", "Speech")
    origin = origin_of(tmp_path, 0)
    state = start(origin, system_of(3, teacher=Small(3)), classes)
    expected = origin.variables[0]["student"]["params"]["Dense_0"]
    assert_equal(state.params["student"]["Dense_0"], expected)


def test_a_mean_teacher_starts_as_the_student_of_the_other_run(tmp_path):
    origin = origin_of(tmp_path, 0)
    state = start(origin, system_of(3), OLD)
    expected = origin.variables[0]["student"]
    assert "teacher" not in state.params
    assert_equal(averaged(state.opt_state)["student"], expected["params"])
    assert_equal(state.batch_stats["teacher"], expected["batch_stats"])


@pytest.mark.parametrize(("there", "expected"), [((0, 500), [0, 500, 0]), ((0,), [0, 0, 0])])
def test_each_seed_starts_from_the_seed_of_its_number(tmp_path, there, expected):
    system = system_of(3, teacher=Small(3))
    origin = origin_of(tmp_path, *there)
    state = start(origin, system, OLD, seeds=3)
    first = origin_of(tmp_path, 0).variables[0]["teacher"]["params"]["Dense_0"]["bias"][0]
    found = state.params["teacher"]["Dense_0"]["bias"][:, 0].tolist()
    assert found == [first + number for number in expected]
    assert state.params["distillation"]["student"][:, 0].tolist() == [0, 1, 2]


def test_other_models_are_refused_and_the_first_difference_named(tmp_path):
    message = r"another student: \['batch_stats'\]\['BatchNorm_0'\]\['mean'\] has the shape \(3,\)"
    with pytest.raises(InputError, match=message) as error:
        start(origin_of(tmp_path, 0), system_of(3, width=4), OLD)
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_there_is_named(tmp_path):
    origin = origin_of(tmp_path, 0)
    origin.variables[0].pop("teacher")
    with pytest.raises(InputError, match="has no teacher, and this run has one"):
        start(origin, system_of(3, teacher=Small(3)), OLD)


def test_a_model_that_does_not_say_its_classes_keeps_them(tmp_path):
    class Mute(nn.Module):
        @nn.compact
        def __call__(self, mel, train=False):
            return Small(3)(mel, train)

    origin = origin_of(tmp_path, 0)
    system = SimpleNamespace(models=Models(Mute(), Mute()), optimiser=optax.sgd(0.1))
    with pytest.raises(InputError, match="trained on Cat, Dog, Speech, this run is on Dog, Cat, S"):
        start(origin, system, ("Dog", "Cat", "Speech"))


# On disk ----------------------------------------------------------------------------------------


def save(folder, *, average, ema=2.0):
    """A run whose parameters are 1, and their average is `ema`."""
    params = {name: {"kernel": jnp.ones(2)} for name in ("teacher", "student")}
    kept = jax.tree.map(lambda leaf: ema * leaf, params)
    opt_state = parameter_ema(0.9).init(kept)
    stats = {"teacher": {}, "student": {}}
    state = TrainState(jnp.zeros((), jnp.int32), params, stats, opt_state)
    meta = {
        "config": {"evaluation": {"average": average}, "num_seeds": 1},
        "classes": list(OLD),
        "front_end": asdict(front_end()),
        "frame_rate": 60.0,
        "feature_shares": None,
    }
    with checkpoints.open_manager(Workdir(folder), training=True) as manager:
        checkpoints.save(manager, 3, state, meta, 50.0)


@pytest.mark.parametrize(("average", "expected"), [(True, 2.0), (False, 1.0)])
def test_weights_are_those_that_the_other_run_is_evaluated_with(tmp_path, average, expected):
    save(tmp_path, average=average)
    origin = read_origin(tmp_path, front_end())
    assert (origin.step, origin.classes, len(origin.variables)) == (3, OLD, 1)
    assert origin.variables[0]["student"]["params"]["kernel"].tolist() == [expected] * 2


def test_another_front_end_is_refused_and_the_first_difference_named(tmp_path):
    save(tmp_path, average=False)
    other = replace(front_end(), hop_length=1470, n_mels=32)
    with pytest.raises(InputError, match="front_end.hop_length = 735, this run has 1470: give it"):
        read_origin(tmp_path, other)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no checkpoints: is it the --workdir of a training"):
        read_origin(tmp_path / "nothing", front_end())
    assert not (tmp_path / "nothing").exists()


def test_a_run_goes_on_as_it_was_begun_and_not_as_if_from_elsewhere(tmp_path):
    """Named or not; and as a copy of both folders, which remember each other."""
    workdir, other = Workdir(tmp_path / "run"), tmp_path / "other"
    meta = {"init_from": remembered(Origin(other, 3, OLD, []), workdir)}
    check_origin(meta, None, workdir)
    check_origin(meta, other, workdir)
    check_origin({}, None, workdir)
    with pytest.raises(InputError, match="was begun from .*/other, not from .*/third: leave"):
        check_origin(meta, tmp_path / "third", workdir)
    with pytest.raises(InputError, match="was begun from random weights, not from .*/other"):
        check_origin({}, other, workdir)
    check_origin(meta, tmp_path / "copy/other", Workdir(tmp_path / "copy/run"))


def test_a_run_starts_from_another_and_goes_on_without_it(demo_set, tmp_path, monkeypatch, caplog):
    """Nothing is trained: of each run the state that it starts with is saved."""
    caplog.set_level("INFO")
    begun = []

    def run_steps(state, first, steps, stop):
        begun.append((first, state))
        steps.save(first + 1, state, {0: 1.0})
        return steps.total_steps

    monkeypatch.setattr(loop, "run_steps", run_steps)
    config = narrow(jf.load_config("pts:tiny"))

    def fit(workdir, seed=0, **options):
        config.seed = seed
        folders = demo_set / "data", tmp_path / workdir
        jf.fit(config, *folders, features_dir=demo_set / "features", **options)
        return begun[-1]

    _, first = fit("first")
    _, second = fit("second", seed=1, init_from=tmp_path / "first")
    assert "/second starts from the weights of " in caplog.text
    assert_equal(second.params["student"], first.params["student"])
    assert_equal(second.batch_stats, first.batch_stats)
    meta = jf.load(tmp_path / "second").meta["init_from"]
    assert meta["workdir"] == "../first" and meta["step"] == 1
    page = jf.write_report(tmp_path / "second").read_text()
    assert "Began from" in page and "../first, step 1" in page
    # Where it started from may be gone by then, and is not forgotten.
    (tmp_path / "first").rename(tmp_path / "gone")
    start_at, third = fit("second", seed=1)
    assert start_at == 1
    assert_equal(third.params["student"], first.params["student"])
    assert jf.load(tmp_path / "second", "latest").meta["init_from"] == meta
    with pytest.raises(InputError, match="was begun from .*/first, not from .*/gone: leave"):
        fit("second", seed=1, init_from=tmp_path / "gone")
