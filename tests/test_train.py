"""What the loop promises without training: bad losses stop it, workdirs and logs stay apart."""

import json
import threading
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax import train
from jfsed_jax.configs import pts_tfd_afl_esp
from jfsed_jax.errors import InputError


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    config = pts_tfd_afl_esp.get_config("tiny")
    losses = iter([1.0, float("nan"), 1.0])
    saved = []

    def step(state, batch, key):
        return state, {"loss": jnp.asarray(next(losses)), "student/weak": jnp.asarray(0.5)}

    manager = SimpleNamespace(
        directory=tmp_path, all_steps=list, wait_until_finished=lambda: None,
        save=lambda step, **_: saved.append(step),
    )  # fmt: skip
    log = train.MetricsLog(tmp_path, 0)
    with pytest.raises(InputError, match=r"step 2: loss not finite .*student/weak 0.5.*step 0 of"):
        train._loop(
            {}, 0, 3, 3, lambda count: {"mel": np.zeros((2, 1))}, dict, {1: step}, None, log,
            config=config, manager=manager, meta={},
            stop=threading.Event(), evaluate=lambda state: {"selection": 0.0},
        )  # fmt: skip
    log.close()
    assert not saved


@pytest.mark.parametrize("steps_per_dispatch", [1, 3, 7])
def test_no_dispatch_crosses_a_checkpoint_or_an_evaluation(tmp_path, steps_per_dispatch):
    """13 steps, an evaluation every 5, a checkpoint every 4; every step is logged."""
    config = pts_tfd_afl_esp.get_config("tiny")
    config.steps_per_dispatch = steps_per_dispatch
    config.evaluation.every_epochs = 1
    config.checkpoint_every_steps = 4
    saved, dispatched = [], []

    def step(state, count, key):
        dispatched.append(count)
        first = state["step"] + 1
        return {"step": state["step"] + count}, {"loss": jnp.arange(first, first + count)}

    manager = SimpleNamespace(
        directory=tmp_path, all_steps=list, wait_until_finished=lambda: None,
        save=lambda step, **_: saved.append(step),
    )  # fmt: skip
    log = train.MetricsLog(tmp_path, 0)
    evaluated = []
    assert train._loop(
        {"step": 0}, 0, 13, 5, int, int, {1: step, steps_per_dispatch: step}, None, log,
        config=config, manager=manager, meta={}, stop=threading.Event(),
        evaluate=lambda state: evaluated.append(state["step"]) or {"selection": 0.0},
    )  # fmt: skip
    log.close()
    assert saved == [4, 5, 8, 10, 12, 13] and evaluated == [5, 10, 13]
    expected = {1: [1] * 13, 3: [3, 1, 1, 3, 1, 1, 1, 1, 1], 7: [1] * 13}
    assert dispatched == expected[steps_per_dispatch]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "train"]
    assert [(row["step"], row["loss"], row["epoch"]) for row in rows] == [
        (n, n, (n - 1) // 5) for n in range(1, 14)
    ]
    assert all(0 <= row["data_wait"] <= 1 for row in rows)


def test_several_steps_a_dispatch_need_the_clips_on_the_device():
    config = pts_tfd_afl_esp.get_config("tiny")
    config.steps_per_dispatch = 3
    with pytest.raises(InputError, match=r"steps_per_dispatch is 3.*set config.data.in_memory"):
        train.check_config(config)
    config.data.in_memory = True
    train.check_config(config)


def test_metrics_after_the_resumed_step_are_dropped(tmp_path):
    lines = [json.dumps({"kind": "train", "step": step}) for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"kind": "tr']))
    log = train.MetricsLog(tmp_path, 2)
    log.write("train", 3, {"loss": 0.5})
    log.close()
    found = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in found] == [1, 2, 3]
    assert found[-1]["loss"] == 0.5


def test_a_workdir_belongs_to_one_config(tmp_path):
    config = pts_tfd_afl_esp.get_config("tiny")
    train.check_workdir(tmp_path, config)
    (tmp_path / "config.json").write_text(config.to_json())
    train.check_workdir(tmp_path, config)
    config.loss.gamma = 3.0
    with pytest.raises(InputError, match=r"config.loss.gamma is 2.0 there and 3.0 here"):
        train.check_workdir(tmp_path, config)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        train.check_workdir(tmp_path, config)


def test_a_loop_that_does_not_exist_is_refused():
    config = pts_tfd_afl_esp.get_config("tiny")
    train.check_config(config)
    config.gru_loop = "triton"
    with pytest.raises(InputError, match="config.gru_loop is 'triton': expected scan or pallas"):
        train.check_config(config)
