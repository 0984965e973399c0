"""What is kept, what is best, that a reopened folder knows both; variables without an optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.method.optimisers import parameter_ema
from jfsed_jax.method.parallel import make_mesh
from jfsed_jax.method.state import TrainState
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import Workdir


def test_latest_and_best_are_kept_and_known_after_reopening(tmp_path):
    # Steps with their selection; None is a checkpoint between two evaluations.
    history = [(1, 10.0), (2, 30.0), (3, 20.0), (4, None), (5, 30.0), (6, 5.0), (7, None)]
    for step, selection in history:
        # A new manager each time, as after a kill.
        with checkpoints.open_manager(Workdir(tmp_path)) as manager:
            state = {"x": jnp.full(3, float(step))}
            checkpoints.save(manager, step, state, {"step": step}, selection)
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        assert checkpoints.choose_step(manager, "latest") == 7
        assert checkpoints.choose_step(manager, "best") == 5  # of equals the later
        assert set(manager.all_steps()) >= {5, 7}
        assert len(manager.all_steps()) <= 3
        assert checkpoints.read_meta(manager, 5) == {"step": 5}


def test_a_folder_without_checkpoints_says_so(tmp_path):
    with (
        checkpoints.open_manager(Workdir(tmp_path)) as manager,
        pytest.raises(InputError, match="holds no checkpoint: train first"),
    ):
        checkpoints.choose_step(manager, "best")


def test_a_damaged_checkpoint_is_named(tmp_path):
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        checkpoints.save(manager, 3, {"x": jnp.ones(3)}, {"step": 3}, 1.0)
        manager.wait_until_finished()
        for path in (tmp_path / "checkpoints" / "3").rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
        with pytest.raises(InputError, match=r"checkpoints/3 cannot be read .*move that folder"):
            checkpoints.read_meta(manager, 3)
        with pytest.raises(InputError, match=r"checkpoints/3 cannot be read .*move that folder"):
            checkpoints.restore_state(manager, 3, make_state(optax.sgd(0.1)), make_mesh(1), 2)
        with pytest.raises(InputError, match=r"checkpoints/3 cannot be read .*move that folder"):
            checkpoints.read_variables(manager, 3)


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


def saved(tmp_path, state):
    manager = checkpoints.open_manager(Workdir(tmp_path))
    checkpoints.save(manager, 7, state, {}, 1.0)
    manager.wait_until_finished()
    return manager


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
