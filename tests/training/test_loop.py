"""What the loop promises without training: bad losses stop it, workdirs and logs stay apart."""

import json
import os
import re
import signal
from itertools import count
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.configs import pts_tfd_afl_esp
from jfsed_jax.datasets.selection import split_data
from jfsed_jax.errors import InputError
from jfsed_jax.hosts import ALONE
from jfsed_jax.method import parallel
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import NotWritten, Workdir
from jfsed_jax.training import loop
from jfsed_jax.training.feed import Feed, make_feed
from jfsed_jax.training.interrupt import Interrupted, Stop, stop_on_signals
from jfsed_jax.training.log import RunLog, RunLogs, RunsLost
from jfsed_jax.training.plan import check_values
from jfsed_jax.training.starting import Standing
from jfsed_jax.training.steps import Steps, run_steps


def log_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def run_stub(tmp_path, step, saved, *, stop=None, num_seeds=1, scores=None, **changes):
    """`run_steps` with a stub of a step; ``saved`` gets (step, selection) of every checkpoint."""
    values = dict(total_steps=3, steps_per_epoch=3, evaluate_every=3, checkpoint_every=500)
    step_fns = step if isinstance(step, dict) else {1: step}
    log = changes.pop("log", None) or RunLog(Workdir(tmp_path), 0, num_seeds)
    several = "runs" in changes

    def save(step, state, selections):
        saved.append((step, selections) if several else (step, *selections.values()))

    steps = Steps(
        feed=changes.pop("feed", Feed(int, int)),
        step_fns=step_fns,
        validate=scores or (lambda state: [{"selection": 0.0}]),
        where_it_began=changes.pop("where", lambda number, k, before: "it began somewhere"),
        save=save,
        log=log,
        batch_size=2,
        num_seeds=num_seeds,
        where=tmp_path / "checkpoints",
        **{**values, **changes},
    )
    try:
        return run_steps({"step": 0}, 0, steps, stop or Stop())
    finally:
        log.close()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    losses, saved = iter([1.0, float("nan"), 1.0]), []

    def step(state, batch):
        return state, {"loss": jnp.asarray(next(losses)), "student/weak": jnp.asarray(0.5)}

    message = (
        "step 2: loss not finite; it began somewhere; .*/checkpoints holds no checkpoint yet; "
        "finite are student/weak 0.5$"
    )
    with pytest.raises(InputError, match=message):
        run_stub(tmp_path, step, saved)
    assert not saved
    losses = iter([1.0, 1.0, float("nan")])
    with pytest.raises(InputError, match="the last good checkpoint is step 2 of"):
        run_stub(tmp_path, step, saved, checkpoint_every=2)


def test_where_it_began_is_looked_for_in_the_step_that_was_not_finite(tmp_path):
    """The ninth of twelve, seen after the tenth; a step gives its state away, as on a device."""
    drawn, asked, calls = count(1), [], []

    def step(state, batch):
        taken = int(state["step"]) + 1
        calls.append(taken)
        if not isinstance(state["step"], int):
            state["step"].delete()
        loss = float("nan") if taken >= 9 else 1.0
        return {"step": jnp.asarray(taken)}, {"loss": jnp.asarray([1.0, loss])}

    def where(number, k, before):
        state, batch = before()
        asked.append((number, k, int(state["step"]), batch))
        return "it began there"

    values = dict(total_steps=12, evaluate_every=12, where=where, num_seeds=2)
    feed = Feed(draw=lambda _: next(drawn), place=lambda number: number)
    with pytest.raises(InputError, match="step 9, seed 1: loss not finite; it began there; "):
        run_stub(tmp_path, step, [], feed=feed, **values)
    assert asked == [(9, 1, 8, 9)]
    assert calls == [*range(1, 11), 6, 7, 8]  # again from the last look, after the fifth


def test_a_validation_that_cannot_be_scored_says_when_and_what_is_safe(tmp_path):
    def scores(state):
        return [InputError("1 of 2 clips have a log-mel that is not finite, a.wav")]

    saved = []
    message = "validation at step 4: .* not finite, a.wav; the last good checkpoint is step 3 of "
    with pytest.raises(InputError, match=message):
        run_stub(
            tmp_path, lambda *_: ({}, {"loss": jnp.asarray(1.0)}), saved, scores=scores,
            total_steps=6, evaluate_every=4, checkpoint_every=3,
        )  # fmt: skip
    assert saved == [(3, None)]


def test_of_several_seeds_the_failing_one_is_named_and_means_are_logged(tmp_path):
    losses, saved = iter([[1.0, 3.0], [1.0, float("nan")]]), []
    with pytest.raises(InputError, match=r"step 2, seed 1: loss not finite"):
        run_stub(
            tmp_path,
            lambda *_: ({}, {"loss": jnp.array(next(losses))}),
            saved,
            num_seeds=2,
            steps_per_epoch=1,
            evaluate_every=1,
            scores=lambda state: [
                {"at_f1": 10.0, "event_f1": None, "selection": 10.0},
                {"at_f1": 20.0, "event_f1": 4.0, "selection": 24.0},
            ],
        )
    assert saved == [(1, 17.0)]  # the mean, by which the seeds' common checkpoint is chosen
    logs = [log_of(folder) for folder in (tmp_path, tmp_path / "seeds/0", tmp_path / "seeds/1")]
    assert [rows[0]["loss"] for rows in logs] == [2.0, 1.0, 3.0]
    assert [rows[1]["at_f1"] for rows in logs] == [15.0, 10.0, 20.0]
    assert [rows[1]["event_f1"] for rows in logs] == [None, None, 4.0]
    assert [rows[1]["selection"] for rows in logs] == [17.0] * 3


def test_a_run_that_cannot_go_on_does_not_stop_those_that_train_with_it(tmp_path):
    """Of three runs of two seeds the first is not finite in step 3, the last cannot be scored."""
    losses, saved = iter(range(1, 7)), []
    folders = [Workdir(tmp_path / name) for name in ("a", "b", "c")]

    def step(state, batch):
        number = next(losses)
        first = float("nan") if number == 3 else float(number)
        return state, {"loss": jnp.array([[1.0, first], [2.0, 4.0], [5.0, 5.0]])}

    def scores(state):
        unfit = InputError("no frames")
        last = {"selection": 5.0} if not saved else unfit
        found = {"selection": 7.0}
        return [{"selection": 1.0}, {"selection": 3.0}, found, found, last, last]

    with pytest.raises(RunsLost) as lost:
        run_stub(
            tmp_path, step, saved, log=RunLogs(folders, 0, 2), runs=["a", "b", "c"], num_seeds=2,
            total_steps=6, evaluate_every=2, checkpoint_every=3, scores=scores,
        )  # fmt: skip
    left = [(3, {1: None, 2: None}), (4, {1: 7.0}), (6, {1: 7.0})]
    assert saved == [(2, {0: 2.0, 1: 7.0, 2: 5.0}), *left]
    assert lost.value.why[0].startswith("step 3, seed 1: loss not finite; it began somewhere")
    assert lost.value.why[2].startswith("validation at step 4: no frames; the last good checkpoint")
    assert re.match("a: step 3, .*; c: validation at step 4", str(lost.value))
    steps = [[row["step"] for row in log_of(f.path) if row["kind"] == "train"] for f in folders]
    assert steps == [[1, 2], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4]]
    assert [row["loss"] for row in log_of(folders[1].seed(1, 2).path) if "loss" in row] == [4.0] * 6
    chosen = [row["selection"] for row in log_of(folders[0].path) if "selection" in row]
    assert chosen == [2.0]  # the mean of its own seeds


def test_a_signal_ends_the_run_after_its_step_is_saved(tmp_path):
    saved = []

    def step(state, batch):
        if state["step"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"step": state["step"] + 1}, {"loss": jnp.asarray(1.0)}

    with stop_on_signals() as stop:
        assert run_stub(tmp_path, step, saved, stop=stop, total_steps=9, evaluate_every=9) == 2
    assert stop.signum == signal.SIGTERM
    assert saved == [(2, None)]
    assert [row["step"] for row in log_of(tmp_path)] == [1, 2]


class Clips:
    """`count` clips of which the log-mel tells the set and the number."""

    def __init__(self, count, first):
        self.filenames = [f"{first + i}.wav" for i in range(count)]

    def __len__(self):
        return len(self.filenames)

    def __getitem__(self, i):
        number = float(self.filenames[i].removesuffix(".wav"))
        return {
            "mel": np.full((3, 2), number, np.float16),
            "clip_labels": np.zeros(2, np.float32),
            "onsets": np.array([]),
            "offsets": np.array([]),
            "labels": np.array([], int),
        }


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("share_batch", [False, True])
def test_seeds_see_the_clips_of_their_single_runs(share_batch, in_memory):
    """And hold out the same ones; sharing a batch, all see those of the first seed."""
    config = pts_tfd_afl_esp.get_config("tiny")
    config.data.in_memory = in_memory
    config.evaluation.holdout = 0.4
    splits = {"weak": Clips(9, 0), "unlabel_in_domain": Clips(10, 100), "synthetic": Clips(8, 200)}
    prepared = SimpleNamespace(
        splits=splits, classes=("a", "b"), front_end=SimpleNamespace(frame_rate=1.0)
    )
    mesh = parallel.make_mesh(1)

    def clips(config, count):
        """Numbers of the clips of some steps, first of one and then of two at once."""
        data = [split_data(prepared, config, k) for k in range(config.num_seeds)]
        held = [own.held["weak"].filenames for own in data]
        plan = SimpleNamespace(config=config, prepared=prepared, data=data)
        draw, place = make_feed(plan, mesh, 2)
        drawn = [np.asarray(place(draw(1))["mel"])[..., 0, 0] for _ in range(count)]
        if in_memory:
            drawn += list(np.asarray(place(draw(2))["mel"])[..., 0, 0])
        return held, np.stack(drawn)

    expected = []
    for k in range(3):
        config.seed = 7 + (0 if share_batch else k)
        expected.append(clips(config, 5))
    config.seed, config.num_seeds, config.seeds_share_batch = 7, 3, share_batch
    held, found = clips(config, 5)
    assert held == [own[0] for own, _ in expected]
    if share_batch:
        np.testing.assert_array_equal(found, expected[0][1])
    else:
        assert held[0] != held[1]
        np.testing.assert_array_equal(found, np.stack([drawn for _, drawn in expected], axis=1))


@pytest.mark.parametrize("steps_per_dispatch", [1, 3, 7])
def test_no_dispatch_crosses_a_checkpoint_or_an_evaluation(tmp_path, steps_per_dispatch):
    """13 steps, an evaluation every 5, a checkpoint every 4; every step is logged."""
    saved, dispatched, evaluated = [], [], []

    def step(state, count):
        dispatched.append(count)
        first = state["step"] + 1
        return {"step": state["step"] + count}, {"loss": jnp.arange(first, first + count)}

    def scores(state):
        evaluated.append(state["step"])
        return [{"selection": 0.0}]

    reached = run_stub(
        tmp_path, {1: step, steps_per_dispatch: step}, saved, total_steps=13, steps_per_epoch=5,
        evaluate_every=5, checkpoint_every=4, scores=scores,
    )  # fmt: skip
    assert reached == 13
    assert [step for step, _ in saved] == [4, 5, 8, 10, 12, 13] and evaluated == [5, 10, 13]
    assert [selection for _, selection in saved] == [None, 0.0, None, 0.0, None, 0.0]
    expected = {1: [1] * 13, 3: [3, 1, 1, 3, 1, 1, 1, 1, 1], 7: [1] * 13}
    assert dispatched == expected[steps_per_dispatch]
    rows = [row for row in log_of(tmp_path) if row["kind"] == "train"]
    assert [(row["step"], row["loss"], row["epoch"]) for row in rows] == [
        (n, n, (n - 1) // 5) for n in range(1, 14)
    ]
    assert all(0 <= row["data_wait"] <= 1 for row in rows)


def test_several_steps_a_dispatch_need_the_clips_on_the_device():
    config = pts_tfd_afl_esp.get_config("tiny")
    config.steps_per_dispatch = 3
    with pytest.raises(InputError, match=r"steps_per_dispatch is 3.*set config.data.in_memory"):
        check_values(config)
    config.data.in_memory = True
    check_values(config)


def test_a_loop_that_does_not_exist_is_refused():
    config = pts_tfd_afl_esp.get_config("tiny")
    check_values(config)
    config.gru_loop = "triton"
    with pytest.raises(InputError, match="config.gru_loop is 'triton': expected scan or pallas"):
        check_values(config)


@pytest.mark.parametrize(
    ("steps", "safe"),
    [
        ((), "no checkpoint had been saved: once there is room, the same command begins anew"),
        ((3, 12), "safe is the checkpoint of step 12 of 18: once there is room, the same command"),
    ],
)
def test_on_a_full_disk_a_line_says_what_is_safe(tmp_path, monkeypatch, steps, safe):
    files = Workdir(tmp_path / "run")
    for step in steps:
        (files.checkpoints / str(step)).mkdir(parents=True)
        (files.checkpoints / f"{step + 3}.orbax-checkpoint-tmp").mkdir()

    def train(*_):
        assert files.lock.exists()
        raise NotWritten("run/metrics.jsonl cannot be written: No space left on device")

    monkeypatch.setattr(loop, "prepare", lambda *_, **__: None)
    monkeypatch.setattr(loop, "make_plan", lambda *_, **__: SimpleNamespace(total_steps=18))
    monkeypatch.setattr(loop, "_train", train)
    with pytest.raises(InputError, match=f"No space left on device; {safe}") as refused:
        loop.fit(pts_tfd_afl_esp.get_config("tiny"), tmp_path, files.path)
    assert "\n" not in str(refused.value)
    assert not files.lock.exists()


def train_apart(tmp_path, monkeypatch, train_from):
    """`_train` of three runs, of which the middle one stands at step 4 of 9, the others at 0."""
    folders = [Workdir(tmp_path / "members" / str(m)) for m in range(3)]
    found = [Standing(None, step, None) for step in (0, 4, 0)]
    monkeypatch.setattr(loop, "where_they_stand", lambda *_: found)
    monkeypatch.setattr(loop, "_train_from", train_from)
    plans = [SimpleNamespace(total_steps=9)] * 3
    loop._train(plans, folders, ALONE, None, None, None, None)


def test_a_run_that_cannot_go_on_alone_stops_no_other_program(tmp_path, monkeypatch):
    taken = []

    def train_from(runs, found, *_):
        taken.append([run.name for run in runs])
        if found[0].step:
            raise RunsLost({0: "step 5: loss not finite"}, [runs[0].name])
        return 9

    with pytest.raises(RunsLost, match="^members/1: step 5: loss not finite$") as lost:
        train_apart(tmp_path, monkeypatch, train_from)
    assert lost.value.why.keys() == {1}
    assert taken == [["members/1"], ["members/0", "members/2"]]


def test_a_signal_as_one_program_ends_says_that_others_are_left(tmp_path, monkeypatch):
    def train_from(runs, found, *others):
        assert found[0].step == 4
        others[-1].signum = signal.SIGTERM
        return 9

    with pytest.raises(Interrupted, match="^stopped at step 0 of 9"):
        train_apart(tmp_path, monkeypatch, train_from)


def test_a_folder_of_members_is_none_of_a_run_and_what_is_left_out_is_told(
    tmp_path, monkeypatch, caplog
):
    for m in range(2):
        (tmp_path / f"members/{m}").mkdir(parents=True)
        (tmp_path / f"members/{m}/config.json").write_text("{}")
    trained = []
    monkeypatch.setattr(loop, "fit_together", lambda *arguments, **_: trained.append(arguments))
    config = pts_tfd_afl_esp.get_config("tiny")
    with pytest.raises(InputError, match="holds runs of config.members, as members/0: repeat"):
        loop.fit(config, tmp_path, tmp_path)
    config.members = ("loss.gamma=1",)
    loop.fit(config, tmp_path, tmp_path)
    assert [folder.name for folder in trained[0][2]] == ["0"]
    assert f"{tmp_path}/members/1 is of no member of the config any more" in caplog.text
    (tmp_path / "checkpoints/3").mkdir(parents=True)
    with pytest.raises(InputError, match="holds a run without config.members"):
        loop.fit(config, tmp_path, tmp_path)


def test_a_refused_run_stays_as_it_is(tmp_path, monkeypatch):
    """Without config.json its checkpoint tells what it is; nothing of the other one is written."""
    files, config = Workdir(tmp_path / "run"), pts_tfd_afl_esp.get_config("tiny")
    meta = {
        "config": json.loads(config.to_json()),
        "classes": ["a"],
        "front_end": dict(config.front_end),
        "frame_rate": 60.0,
        "feature_shares": None,
        "windows": {},
    }
    with checkpoints.open_manager(files, training=True) as manager:
        checkpoints.save(manager, 3, {"x": np.ones(1)}, meta)
    config.optimiser.learning_rate = 0.5
    other = meta | {"config": json.loads(config.to_json())}
    plan = SimpleNamespace(
        config=config, meta=other, system=None, input_shape=(1, 1), total_steps=9
    )
    monkeypatch.setattr(loop, "prepare", lambda *_, **__: None)
    monkeypatch.setattr(loop, "make_plan", lambda *_, **__: plan)
    with pytest.raises(InputError, match="another config: config.optimiser.learning_rate is"):
        loop.fit(config, tmp_path, files.path)
    assert [path.name for path in files.path.iterdir()] == ["checkpoints"]
