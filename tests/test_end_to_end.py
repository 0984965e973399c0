"""The main job, through the command line: train, kill, resume, evaluate, predict.

Invariants: a run that was killed and resumed ends in the same bits as an uninterrupted one; what
`evaluate` writes is what `score` computes from its files.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import jax
import learning_problem
import numpy as np
import orbax.checkpoint as ocp
import pytest
import soundfile

import jfsed_jax as jf
from jfsed_jax.audio.host import log_mel
from jfsed_jax.cli import main as cli
from jfsed_jax.config_files import load_config
from jfsed_jax.inference.detector import load
from jfsed_jax.inference.recordings import make_listen
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.log_rows import SPEED
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.sed import tables
from jfsed_jax.training.loop import fit

ROOT = Path(__file__).parents[1]
EPOCHS, STEPS_PER_EPOCH = 4, 3
RATE = 44100


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo_set):
    """A folder with a data set, where its features and the module's runs go too."""
    place = tmp_path_factory.mktemp("end_to_end")
    shutil.copytree(demo_set / "data", place / "data")
    return place


def train_command(place, workdir, *overrides):
    return [
        sys.executable,
        "-m",
        "jfsed_jax",
        "train",
        f"--config={ROOT}/tests/narrow.py:pts_tfd_afl_esp",
        f"--data={place / 'data'}",
        f"--features={place / 'features'}",
        f"--workdir={workdir}",
        f"--config.epochs={EPOCHS}",
        *overrides,
    ]


def run_train(place, workdir, *overrides):
    return subprocess.run(
        train_command(place, workdir, *overrides),
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def workdir(place):
    workdir = place / "run"
    done = run_train(place, workdir)
    assert done.returncode == 0, done.stderr
    return workdir


def log_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def whole_state(run):
    """Everything in the latest checkpoint, the optimiser's state too, as it was saved."""
    with checkpoints.open_manager(Workdir(run)) as manager:
        folder = manager.directory / str(checkpoints.choose_step(manager, "latest")) / "state"
    with closing(ocp.PyTreeCheckpointHandler()) as handler:
        as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        arguments = jax.tree.map(lambda _: as_numpy, handler.metadata(folder).tree)
        return handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=arguments))


def assert_same_run(expected, found):
    """State and log, but for times, are the same to the bit."""
    states = [whole_state(run) for run in (expected, found)]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(np.asarray(b), np.asarray(a))
    assert_same_log(expected, found)


def assert_same_log(*runs):
    logs = [
        [{k: v for k, v in entry.items() if k not in SPEED} for entry in log_of(run)]
        for run in runs
    ]
    assert logs[0] == logs[1]


def stop_after_checkpoint(place, workdir, step, signum, *overrides):
    """Trains until the checkpoint of `step` is there, then sends the signal."""
    process = subprocess.Popen(
        train_command(place, workdir, *overrides),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 600
        while not (workdir / "checkpoints" / str(step)).exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signum)
        return process.wait(timeout=600)
    finally:
        process.kill()


def test_a_run_logs_every_step_and_selects(workdir):
    log = log_of(workdir)
    train = [entry for entry in log if entry["kind"] == "train"]
    assert [entry["step"] for entry in train] == list(range(1, EPOCHS * STEPS_PER_EPOCH + 1))
    terms = {"student/weak", "student/strong", "teacher/weak", "teacher/strong"}
    terms |= {"consistency/teacher_to_student", "consistency/student_to_teacher"}
    assert terms | {"distillation/tfd", "loss"} <= train[0].keys()
    validation = [entry for entry in log if entry["kind"] == "validation"]
    assert [entry["epoch"] for entry in validation] == list(range(1, EPOCHS + 1))
    for entry in validation:
        assert entry["selection"] == pytest.approx(entry["event_f1"] + entry["at_f1"])
    best = max(validation, key=lambda entry: (entry["selection"], entry["step"]))
    assert load(workdir, "best").step == best["step"]
    assert any((workdir / "tensorboard").iterdir())


def test_killed_and_interrupted_equals_uninterrupted(place, workdir):
    other = place / "interrupted"
    assert stop_after_checkpoint(place, other, STEPS_PER_EPOCH, signal.SIGKILL) == -signal.SIGKILL
    assert len(log_of(other)) < len(log_of(workdir))
    assert stop_after_checkpoint(place, other, 2 * STEPS_PER_EPOCH, signal.SIGINT) == 130
    done = run_train(place, other)
    assert done.returncode == 0, done.stderr
    assert "resumed" in done.stderr
    assert_same_run(workdir, other)


def test_clips_on_the_device_train_the_same_bits(place, workdir):
    other = place / "in_memory"
    done = run_train(place, other, "--config.data.in_memory")
    assert done.returncode == 0, done.stderr
    assert_same_run(workdir, other)


def test_members_are_runs_of_their_own_and_one_more_can_be_added(place, tmp_path):
    """Each keeps its own config and state with its checkpoints, as where it trains alone."""
    config = load_config(f"{ROOT}/tests/narrow.py:linear")
    config.epochs = 1
    single, run = Workdir(tmp_path / "single"), Workdir(tmp_path / "run")
    options = {"data_dir": place / "data", "features_dir": place / "features"}
    members = ["", "seed=1", "seed=1 optimiser.learning_rate=0.1"]
    for count in (2, 3):
        config.members = tuple(members[:count])
        fit(config, workdir=run.path, **options)
    config.members = ()
    config.seed = 1
    fit(config, workdir=single.path, **options)
    found = []
    for files in (single, *run.members()):
        with checkpoints.open_manager(files) as manager:
            meta = checkpoints.read_meta(manager, STEPS_PER_EPOCH)
            variables = checkpoints.read_variables(manager, STEPS_PER_EPOCH, use_average=False)
        assert json.loads(files.config.read_text()) == meta["config"]
        values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(variables)])
        found.append((meta["config"]["seed"], meta["config"]["optimiser"]["learning_rate"], values))
    alone, zeroth, first, second = found
    assert [own[:2] for own in found] == [(1, zeroth[1]), zeroth[:2], (1, zeroth[1]), (1, 0.1)]
    assert zeroth[0] == 0
    np.testing.assert_allclose(first[2], alone[2], rtol=1e-4, atol=1e-6)
    for other in (zeroth, second):
        assert np.abs(other[2] - alone[2]).max() > 1e-3


def test_several_seeds_are_their_single_runs_resume_and_are_scored_each(
    place, tmp_path, capsys, monkeypatch
):
    """Killed and resumed they are what each is by itself, whose clips come from the host.

    An epoch of three steps is one program, with clips of their own for each seed.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))  # where the model is
    config = f"--config={ROOT}/tests/narrow.py:linear"
    run, single = place / "seeds", place / "single"
    overrides = [config, "--config.num_seeds=2", "--config.steps_per_dispatch=3"]
    overrides.append("--config.data.in_memory")
    stopped = stop_after_checkpoint(place, run, STEPS_PER_EPOCH, signal.SIGKILL, *overrides)
    assert stopped == -signal.SIGKILL
    done = run_train(place, run, *overrides)
    assert done.returncode == 0 and "resumed" in done.stderr, done.stderr
    done = run_train(place, single, config, "--config.seed=1")
    assert done.returncode == 0, done.stderr
    logs = [log_of(run / "seeds" / str(k)) for k in range(2)]
    for other, own, alone in zip(*logs, log_of(single), strict=True):
        for name in own.keys() - SPEED - {"kind", "selection"}:
            expected = alone[name]  # None of Segment-F1 where nothing was found
            assert own[name] == (expected and pytest.approx(expected, rel=1e-4)), name
        if own["kind"] == "validation":  # of all seeds, the mean
            both = [row["event_f1"] + row["at_f1"] for row in (other, own)]
            assert other["selection"] == own["selection"] == pytest.approx(sum(both) / 2)
    assert logs[0][0]["loss"] != logs[1][0]["loss"]

    features = f"--features={place / 'features'}"
    files = tmp_path / "score_files"
    assert cli.main(["evaluate", f"--workdir={run}", features, f"--score_files={files}"]) == 0
    assert "AT-F1 (events)     macro  mean" in capsys.readouterr().out
    summary = json.loads((run / "seeds" / "validation.json").read_text())
    own = [run / "seeds" / str(k) / "eval" / "validation" for k in range(2)]
    scores = [json.loads((folder / "scores.json").read_text()) for folder in own]
    assert summary["event_f1"]["macro"]["values"] == [s["event_f1"]["macro"] for s in scores]
    posteriors = [np.load(folder / "posteriors.npz")["clip"] for folder in own]
    assert not np.array_equal(*posteriors)
    assert sorted(path.name for path in files.iterdir()) == ["seed0", "seed1"]
    written = [
        {path.name: path.read_text() for path in (files / f"seed{k}").iterdir()} for k in (0, 1)
    ]
    assert len(written[0]) == 4 and written[0].keys() == written[1].keys()
    assert not written[0].items() & written[1].items()
    assert cli.main(["report", f"--workdir={run / 'seeds' / '1'}"]) == 0

    assert cli.main(["evaluate", f"--workdir={run}", features, "--seed=1"]) == 0
    again = np.load(run / "seeds/1/eval/validation/posteriors.npz")["clip"]
    np.testing.assert_array_equal(again, posteriors[1])
    audio = tmp_path / "any.wav"
    soundfile.write(audio, np.zeros(RATE), RATE)
    assert cli.main(["predict", f"--workdir={run}", "--seed=1", str(audio)]) == 0
    assert cli.main(["predict", f"--workdir={run}", "--seed=2", str(audio)]) == 2
    assert "config.num_seeds = 2; expected 0 to 1" in capsys.readouterr().err


def test_another_config_is_refused(place, workdir, capsys):
    assert cli.main(train_command(place, workdir, "--config.seed=1")[3:]) == 2
    refused = capsys.readouterr().err
    assert "config.seed is 0 there and 1 here" in refused.strip().splitlines()[-1]
    assert "Traceback" not in refused


def test_evaluate_report_and_score_agree(place, workdir, capsys):
    features = f"--features={place / 'features'}"
    assert cli.main(["evaluate", f"--workdir={workdir}", features]) == 0
    directory = workdir / "eval" / "validation"
    scores = json.loads((directory / "scores.json").read_text())
    for name in ("event_f1", "segment_f1", "at_f1", "at_f1_events"):
        assert {"macro", "micro", "classwise"} <= scores[name].keys()
        assert len(scores[name]["classwise"]) == 10
    posteriors = np.load(directory / "posteriors.npz")
    assert posteriors["clip"].shape == (4, 10)
    assert posteriors["frames"].shape == (4, 600, 10)

    again = place / "again.json"
    files = [f"--{name}={directory / name}.tsv" for name in ("reference",)]
    files.append(f"--estimates={directory / 'events.tsv'}")
    classes = ",".join(posteriors["classes"])
    assert cli.main(["score", *files, f"--classes={classes}", f"--json={again}"]) == 0
    rescored = json.loads(again.read_text())
    for name in ("event_f1", "segment_f1", "at_f1_events"):
        assert rescored[name]["classwise"] == scores[name]["classwise"]

    assert cli.main(["report", f"--workdir={workdir}"]) == 0
    page = (workdir / "report.html").read_text()
    assert "Event-F1" in page
    # Each of the clips that are shown can be heard.
    assert page.count('<audio controls preload="none" src="data:audio/ogg;base64,T2dnU') == 4

    for model in ("teacher", "mean"):
        assert cli.main(["evaluate", f"--workdir={workdir}", features, f"--model={model}"]) == 0
        assert np.load(directory / "posteriors.npz")["frames"].shape == (4, 600, 10)

    tuned = ["evaluate", f"--workdir={workdir}", features, "--tune_thresholds"]
    assert cli.main(tuned) == 0
    info = json.loads((directory / "scores.json").read_text())["info"]
    assert len(info["thresholds"]) == 10
    capsys.readouterr()


def test_a_copied_run_finds_the_data_that_were_copied_with_it(place, workdir, tmp_path, capsys):
    copy = tmp_path / "elsewhere"
    for name in ("run", "data", "features"):
        shutil.copytree(place / name, copy / name)
    table = copy / "data/metadata/validation/validation.tsv"
    first = table.read_text().splitlines()[1].split("\t")[0]
    kept = [line for line in table.read_text().splitlines() if not line.startswith(first)]
    table.write_text("\n".join(kept) + "\n")
    next((copy / "data").rglob(f"validation/**/{first}")).unlink()
    assert cli.main(["evaluate", f"--workdir={copy / 'run'}"]) == 0
    assert "3 clips of validation" in capsys.readouterr().out
    meta = (copy / "run/meta.json").read_text()
    assert str(place) not in meta

    shutil.rmtree(copy / "data")
    assert cli.main(["evaluate", f"--workdir={copy / 'run'}"]) == 2
    assert f"not in {copy / 'data'} any more" in capsys.readouterr().err


@pytest.mark.parametrize(("rate", "channels", "seconds"), [(16000, 1, 3.3), (22050, 2, 27.0)])
def test_predict_labels_any_recording(place, workdir, rate, channels, seconds, tmp_path):
    noise = np.random.default_rng(0).normal(size=(int(rate * seconds), channels)) * 0.1
    path = tmp_path / "any.wav"
    soundfile.write(path, noise, rate)
    output = tmp_path / "events.tsv"
    assert cli.main(["predict", f"--workdir={workdir}", f"--output={output}", str(path)]) == 0
    table = tables.read_events(output)
    assert table.filenames == [str(path)]
    for event in table.events:
        assert 0 <= event.onset < event.offset <= seconds + 1 / 60


def test_waveform_to_posteriors_in_one_program(workdir):
    detector = load(workdir)
    waveforms = np.random.default_rng(0).normal(0, 0.1, (2, 10 * RATE)).astype(np.float32)
    found = make_listen(detector)(detector.variables, waveforms)
    mels = [log_mel(waveform, detector.front_end) for waveform in waveforms]
    for ours, expected in zip(found, detector.posteriors(mels), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_predict_names_bad_files_and_keeps_the_good(workdir, tmp_path, capsys):
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    soundfile.write(good, np.zeros(RATE), RATE)
    bad.write_text("not audio")
    output = tmp_path / "events.tsv"
    status = cli.main(
        ["predict", f"--workdir={workdir}", f"--output={output}", str(bad), str(good)]
    )
    assert status == 2
    assert "1 of 2 files" in capsys.readouterr().err
    assert tables.read_events(output).filenames == [str(good)]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A folder with clips of two seconds, where runs of other systems go."""
    folder = tmp_path_factory.mktemp("short")
    learning_problem.write_data(folder / "data")
    return folder


def config_of_baseline(name):
    """System 0 or 1 at `:tiny`, of few blocks; of 80 frames system 0 makes 10."""
    config = jf.load_config(f"{name}:tiny")
    config.front_end.update(sample_rate=8000, clip_seconds=2.0, win_length=512, n_fft=512,
                            hop_length=200, n_mels=16, fmax=4000.0)  # fmt: skip
    two = dict(filters=(4, 8), kernels=(3, 3))
    if name == "mean_teacher":
        config.student.update(two, pools=((4, 4), (2, 2)), gru_layers=1)
    else:
        config.student.update(two, pools=((1, 4), (1, 2)), convs=(1, 1))
        config.teacher.update(two, pools=((8, 4), (5, 2)), convs=(2, 1))
        config.optimiser.update(restart=True, decay_offset=1.0)  # as at the paper's size
    config.batch = dict(weak=2, unlabelled=2, strong=2)
    config.epochs, config.steps_per_epoch = 4, 2
    config.optimiser.decay_epochs = 1.0
    return config


@pytest.mark.parametrize(
    ("name", "terms", "num_frames"),
    [
        (
            "mean_teacher",
            {"student/weak", "student/strong", "consistency/clip", "consistency/frames"},
            10,
        ),
        (
            "guided_learning",
            {
                "teacher/clip",
                "student/clip",
                "consistency/teacher_to_student",
                "consistency/student_to_teacher",
            },
            80,
        ),
    ],
)
def test_systems_0_and_1_train_resume_are_scored_and_label(short, name, terms, num_frames, capsys):
    config = config_of_baseline(name)
    front_end = jf.FrontEnd(**config.front_end)
    features = {"features_dir": short / f"{name}_features"}
    prepared = jf.prepare(short / "data", front_end, workers=1, progress=False, **features)
    whole, resumed = short / name, short / f"{name}_resumed"
    jf.fit(config, short / "data", whole, **features)
    log = [row for row in log_of(whole) if row["kind"] == "train"]
    assert [row["step"] for row in log] == list(range(1, 9))
    named = {key for row in log for key in row if "/" in key}
    assert terms <= named
    assert {key for key in named if key.startswith(("teacher/", "student/"))} <= terms
    assert all(np.isfinite(row["loss"]) for row in log)

    # As if it had been killed in its last epoch: before it, a checkpoint is always kept.
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints" / "8")
    assert jf.load(resumed, "latest").step == 6
    jf.fit(config, short / "data", resumed, **features)
    assert_same_run(whole, resumed)

    assert cli.main(["evaluate", f"--workdir={whole}"]) == 0
    posteriors = np.load(whole / "eval" / "validation" / "posteriors.npz")
    assert posteriors["frames"].shape == (len(prepared.splits["validation"]), num_frames, 3)
    assert posteriors["frame_rate"] == num_frames / 2
    audio, output = next((short / "data").rglob("validation0.wav")), short / "events.tsv"
    assert cli.main(["predict", f"--workdir={whole}", f"--output={output}", str(audio)]) == 0
    for event in tables.read_events(output).events:
        assert 0 <= event.onset < event.offset <= 2
    capsys.readouterr()
