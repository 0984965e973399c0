"""What is kept, what is best, and that a reopened folder knows both."""

import jax.numpy as jnp
import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.method import step as train_step
from jfsed_jax.runs import checkpoints


def test_latest_and_best_are_kept_and_known_after_reopening(tmp_path):
    # Steps with their selection; None is a checkpoint between two evaluations.
    history = [(1, 10.0), (2, 30.0), (3, 20.0), (4, None), (5, 30.0), (6, 5.0), (7, None)]
    for step, selection in history:
        # A new manager each time, as after a kill.
        with checkpoints.open_manager(tmp_path) as manager:
            state = {"x": jnp.full(3, float(step))}
            checkpoints.save(manager, step, state, {"step": step}, selection)
    with checkpoints.open_manager(tmp_path) as manager:
        assert checkpoints.choose_step(manager, "latest") == 7
        assert checkpoints.choose_step(manager, "best") == 5  # of equals the later
        assert set(manager.all_steps()) >= {5, 7}
        assert len(manager.all_steps()) <= 3
        assert checkpoints.read_meta(manager, 5) == {"step": 5}


def test_a_folder_without_checkpoints_says_so(tmp_path):
    with (
        checkpoints.open_manager(tmp_path) as manager,
        pytest.raises(InputError, match="holds no checkpoint: train first"),
    ):
        checkpoints.choose_step(manager, "best")


def test_a_damaged_checkpoint_is_named(tmp_path):
    with checkpoints.open_manager(tmp_path) as manager:
        checkpoints.save(manager, 3, {"x": jnp.ones(3)}, {"step": 3}, 1.0)
        manager.wait_until_finished()
        for path in (tmp_path / "checkpoints" / "3").rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
        with pytest.raises(InputError, match=r"checkpoints/3 cannot be read .*move that folder"):
            checkpoints.read_meta(manager, 3)
        state = {"x": jnp.ones(3)}
        with pytest.raises(InputError, match=r"checkpoints/3 cannot be read .*move that folder"):
            checkpoints.restore_state(manager, 3, state, train_step.make_mesh(1))
