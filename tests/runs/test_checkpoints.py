"""What is kept, what is best, that a reopened folder knows both; variables without an optimiser."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from defaults import front_end

from jfsed_jax.errors import InputError
from jfsed_jax.method.optimisers import parameter_ema
from jfsed_jax.method.parallel import make_mesh
from jfsed_jax.method.state import TrainState
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import Workdir

# Arrays that are read beside one that fails end without the event loop that they were begun in.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

META = {
    "config": {},
    "classes": ["a"],
    "front_end": asdict(front_end()),
    "frame_rate": 60.0,
    "feature_shares": None,
}


def save_steps(folder, history):
    """Steps with their selection; None is a checkpoint between two evaluations."""
    for step, selection in history:
        # A new manager each time, as after a kill.
        with checkpoints.open_manager(Workdir(folder), training=True) as manager:
            state = {"x": jnp.full(3, float(step))}
            checkpoints.save(manager, step, state, META | {"step": step}, selection)


def test_latest_and_best_are_kept_and_known_after_reopening(tmp_path):
    history = [(1, 10.0), (2, 30.0), (3, 20.0), (4, None), (5, 30.0), (6, 5.0), (7, None)]
    save_steps(tmp_path, history)
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        assert checkpoints.choose_step(manager, "latest") == 7
        assert checkpoints.choose_step(manager, "best") == 5  # of equals the later
        assert list(manager.all_steps()) == [5, 6, 7]
        assert checkpoints.read_meta(manager, 5) == META | {"step": 5}
    assert checkpoints.newest_on_disk(Workdir(tmp_path)) == 7


def test_there_is_another_one_where_the_latest_is_the_best(tmp_path):
    save_steps(tmp_path, [(1, 10.0), (2, 20.0), (3, 30.0)])
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        assert list(manager.all_steps()) == [2, 3]
    save_steps(tmp_path, [(4, 30.0)])
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        assert checkpoints.choose_step(manager, "best") == 4


def test_a_save_that_was_under_way_is_no_checkpoint_and_is_removed(tmp_path):
    save_steps(tmp_path, [(1, 10.0), (2, 20.0)])
    folder = tmp_path / "checkpoints"
    under_way = folder / "3.orbax-checkpoint-tmp"
    shutil.copytree(folder / "2", under_way)
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        assert checkpoints.choose_step(manager, "latest") == 2
    assert under_way.exists()  # it may be of a training that goes on
    assert checkpoints.newest_on_disk(Workdir(tmp_path)) == 2
    save_steps(tmp_path, [(4, 30.0)])
    assert sorted(path.name for path in folder.iterdir()) == ["2", "4"]


def test_a_folder_without_checkpoints_says_so(tmp_path):
    with (
        checkpoints.open_manager(Workdir(tmp_path)) as manager,
        pytest.raises(InputError, match="holds no checkpoint: train first"),
    ):
        checkpoints.choose_step(manager, "best")
    assert checkpoints.newest_on_disk(Workdir(tmp_path)) is None


def fill(folder, content):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_and_what_there_is_instead(tmp_path):
    target, mesh = make_state(optax.sgd(0.1)), make_mesh(1)

    def expect(step, what):
        with checkpoints.open_manager(Workdir(tmp_path)) as manager:
            for read in (
                lambda: checkpoints.read_meta(manager, step),
                lambda: checkpoints.restore_state(manager, step, target, mesh, 2),
                lambda: checkpoints.read_variables(manager, step),
            ):
                with pytest.raises(
                    checkpoints.DamagedCheckpoint,
                    match=rf"checkpoints/{step} cannot be read \(.*\); {what}",
                ) as refused:
                    read()
                assert "\n" not in str(refused.value)

    save_steps(tmp_path, [(3, 1.0)])
    fill(tmp_path / "checkpoints", b"")
    expect(3, "is it of another version, or damaged")
    shutil.rmtree(tmp_path / "checkpoints")
    save_steps(tmp_path, [(3, 5.0), (4, 2.0), (5, 1.0)])
    fill(tmp_path / "checkpoints" / "3", b"")
    fill(tmp_path / "checkpoints" / "5", b"no JSON")
    expect(3, "--checkpoint latest takes that of step 5")
    expect(5, "its 'jfsed-jax train' command goes on from that of step 4")


def test_a_lack_of_permission_is_no_damage(tmp_path, monkeypatch):
    """It moves nothing away."""
    save_steps(tmp_path, [(3, 1.0)])
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        for error in (PermissionError(13, "Permission denied"), ValueError("PERMISSION_DENIED: x")):
            monkeypatch.setattr(Path, "read_bytes", lambda *_, raised=error: throw(raised))
            with pytest.raises(InputError, match="cannot be read: P") as refused:
                checkpoints.read_meta(manager, 3)
            assert not isinstance(refused.value, checkpoints.DamagedCheckpoint)


def throw(error):
    raise error


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"frame_rate": 60.0', '"frame_rate": 30.0', "is not what was written"),
        ('"sha256"', '"sha"', None),  # as of a version that sealed nothing
        ('"frame_rate": 60.0', '"frame_rate": -60.0', "frame_rate' to be a positive number"),
        ('"classes"', '"klasses"', "lacks classes"),
        ('"classes": ["a"]', '"classes": 3', "'classes' to be a list of labels, found 3"),
    ],
)
def test_metadata_is_what_was_saved_or_at_least_possible(tmp_path, old, new, message):
    save_steps(tmp_path, [(3, 5.0), (4, 2.0)])
    path = tmp_path / "checkpoints/3/meta/metadata"
    text = path.read_text()
    assert old in text
    text = text.replace(old, new)
    if message != "is not what was written":
        text = text.replace('"sha256"', '"sha"')
    path.write_text(text)
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        assert checkpoints.choose_step(manager, "best") == 3
        if message is None:
            assert checkpoints.read_meta(manager, 3)["frame_rate"] == 60
            return
        with pytest.raises(
            checkpoints.DamagedCheckpoint,
            match=f"checkpoints/3/meta.*{message}.*; --checkpoint latest takes that of step 4",
        ):
            checkpoints.read_meta(manager, 3)


METRICS = [b"", b'{"selec', b'{"selection": "much"}', b"[]", b"\xff", None]


def put(path, content):
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize("content", [*METRICS, b'{"selection": 99.0}'])
def test_metrics_that_are_damaged_cost_nothing(tmp_path, content):
    """What they say is also in what is sealed."""
    save_steps(tmp_path, [(1, 30.0), (2, 10.0), (3, 20.0)])
    for step in (1, 3):
        put(tmp_path / f"checkpoints/{step}/metrics/metrics", content)
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        assert checkpoints.choose_step(manager, "best") == 1
    save_steps(tmp_path, [(4, 25.0)])
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        assert list(manager.all_steps()) == [1, 3, 4]


@pytest.mark.parametrize("content", METRICS)
def test_of_an_older_version_what_was_not_evaluated_is_never_the_best(tmp_path, caplog, content):
    """Its metrics alone say how good it is."""
    caplog.set_level("WARNING")
    save_steps(tmp_path, [(1, 30.0), (2, 10.0)])
    for step in (1, 2):
        path = tmp_path / f"checkpoints/{step}/meta/metadata"
        path.write_text(json.dumps(META))
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        assert checkpoints.choose_step(manager, "best") == 1
    assert not caplog.records
    put(tmp_path / "checkpoints/1/metrics/metrics", content)
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        assert checkpoints.choose_step(manager, "best") == 2
    (record,) = caplog.records
    assert "how good the checkpoint" in record.getMessage() and "/1 " in record.getMessage()


def make_state(optimiser, own_teacher=True, seeds=0):
    """A state after one update by gradients of 1; the student has no batch statistics."""
    params = {"student": {"w": jnp.array([3.0, 4.0])}, "distillation": {"student": jnp.ones(2)}}
    stats = {"teacher": {"mean": jnp.array([5.0])}, "student": {}}
    if own_teacher:
        params["teacher"] = {"w": jnp.array([1.0, 2.0])}
    state = TrainState(jnp.int32(7), params, stats, optimiser.init(params))
    updates, opt_state = optimiser.update(
        jax.tree.map(jnp.ones_like, params), state.opt_state, params
    )
    state = state.replace(params=optax.apply_updates(params, updates), opt_state=opt_state)
    if seeds:
        state = jax.tree.map(lambda leaf: jnp.stack([leaf + 10 * k for k in range(seeds)]), state)
    return state


@contextmanager
def saved(tmp_path, state):
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        checkpoints.save(manager, 7, state, {}, 1.0)
        manager.wait_until_finished()
        yield manager


LABELS = {"student": {"w": "slow"}, "teacher": {"w": "fast"}, "distillation": {"student": "fast"}}
CHAINS = {
    "sgd": optax.sgd(1.0),
    "adamw": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2)),
    "by group": optax.multi_transform({"slow": optax.adam(0.1), "fast": optax.lion(0.5)}, LABELS),
    "injected": optax.inject_hyperparams(optax.rmsprop)(learning_rate=0.1),
}


@pytest.mark.parametrize("name", CHAINS)
def test_variables_are_read_whatever_optimiser_trained_them(tmp_path, name):
    """And their average, wherever in the chain it is kept."""
    decay = 0.25  # new average = 1/4 first + 3/4 updated
    state = make_state(optax.chain(CHAINS[name], parameter_ema(decay)))
    with saved(tmp_path, state) as manager:
        plain = checkpoints.read_variables(manager, 7)
        mean = checkpoints.read_variables(manager, 7, use_average=True)
    assert plain.keys() == {"teacher", "student"}
    for model, first in (("teacher", np.array([1.0, 2.0])), ("student", np.array([3.0, 4.0]))):
        updated = np.asarray(state.params[model]["w"])
        assert not np.allclose(updated, first)
        np.testing.assert_array_equal(plain[model]["params"]["w"], updated)
        expected = decay * first + (1 - decay) * updated
        np.testing.assert_allclose(mean[model]["params"]["w"], expected, rtol=1e-6)
    assert plain["teacher"]["batch_stats"] == {"mean": np.array([5.0])}
    assert plain["student"]["batch_stats"] == {}


def test_a_mean_teacher_is_the_average_with_the_students_statistics(tmp_path):
    state = make_state(optax.chain(optax.sgd(1.0), parameter_ema(0.25)), own_teacher=False)
    with saved(tmp_path, state) as manager:
        found = checkpoints.read_variables(manager, 7)
    np.testing.assert_allclose(found["student"]["params"]["w"], [2.0, 3.0])
    np.testing.assert_allclose(found["teacher"]["params"]["w"], [2.25, 3.25])
    assert found["teacher"]["batch_stats"] == {}


def test_an_average_that_was_not_kept_is_missed(tmp_path):
    with (
        saved(tmp_path, make_state(optax.adam(0.1))) as manager,
        pytest.raises(InputError, match="no moving average.*ema_decay"),
    ):
        checkpoints.read_variables(manager, 7, use_average=True)


def test_one_of_several_seeds_is_read(tmp_path):
    with saved(tmp_path, make_state(optax.sgd(1.0), seeds=3)) as manager:
        for k in range(3):
            found = checkpoints.read_variables(manager, 7, seed=k)
            np.testing.assert_array_equal(found["student"]["params"]["w"], [2 + 10 * k, 3 + 10 * k])


def test_the_flat_chain_of_format_1_goes_on_nested(tmp_path):
    """Format 1: Adam's two transformations and the average side by side."""
    rate = optax.scale_by_learning_rate(lambda step: 0.1)
    old = make_state(optax.chain(optax.scale_by_adam(), rate, parameter_ema(0.5)))
    now = optax.chain(optax.adam(lambda step: 0.1), parameter_ema(0.5))
    with saved(tmp_path, old) as manager:
        target = jax.eval_shape(lambda: make_state(now))
        found = checkpoints.restore_state(manager, 7, target, make_mesh(1), 1)
    expected = make_state(now)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(*map(jax.tree.leaves, (expected, found)), strict=True):
        np.testing.assert_array_equal(b, a)


def test_a_state_of_another_optimiser_says_what_to_hand_in(tmp_path):
    with saved(tmp_path, make_state(optax.adam(0.1))) as manager:
        alone = make_state(optax.adam(0.1), own_teacher=False)
        for other, name in ((make_state(optax.sgd(0.1)), "opt_state"), (alone, "params")):
            with pytest.raises(InputError, match=f"holds {name} of other shapes.*optimiser that"):
                checkpoints.restore_state(manager, 7, other, make_mesh(1), 2)
