"""What the loop promises without training: bad losses stop it, workdirs and logs stay apart."""

import itertools
import json
import threading
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax import train, train_step
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
            {}, 0, 3, 3, itertools.repeat({"mel": np.zeros((2, 1))}), train_step.make_mesh(1),
            step, None, log, config=config, manager=manager, meta={},
            stop=threading.Event(), evaluate=lambda state: {"selection": 0.0},
        )  # fmt: skip
    log.close()
    assert not saved


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
