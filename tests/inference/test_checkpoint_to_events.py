"""From a checkpoint to events, without training: the label of an event tells whose variables it is.

Two seeds, two checkpoints, models whose posteriors are known: in a clip of 24 frames the student
says [3, 6) and [12, 20), the teacher, of four frames to one, [4, 8) and [12, 20).
"""

import json
from types import SimpleNamespace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from stub_detector import StubClips, active, make_prepared

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.cli import main as cli
from jfsed_jax.cli import process
from jfsed_jax.config_files import load_config
from jfsed_jax.datasets.selection import TrainingData
from jfsed_jax.errors import InputError
from jfsed_jax.inference import evaluation
from jfsed_jax.inference.detector import load
from jfsed_jax.inference.recordings import detect
from jfsed_jax.method.models import Output
from jfsed_jax.method.optimisers import ParameterEmaState
from jfsed_jax.method.state import TrainState
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.tables import read_events
from jfsed_jax.training.plan import describe

FRAMES, HOP = 24, 735
CLASSES = tuple(map(str, range(16)))
# The number of a class is a sum of these.
SEED_1, TEACHER, LATEST, NOT_AVERAGED = 1, 2, 4, 8
STUDENT_RUNS, TEACHER_RUNS = [(3, 6), (12, 20)], [(4, 8), (12, 20)]


class Telling(nn.Module):
    """Its tag and its events are of the class whose number is ``parameter + statistic``."""

    stride: int = 1

    @nn.compact
    def __call__(self, mel, train=False):
        number = self.param("number", nn.initializers.zeros, ())
        number += self.variable("batch_stats", "number", jnp.zeros, ()).value
        own = jnp.where(jnp.arange(len(CLASSES)) == number, 0.9, 0.1)
        times = jnp.arange(0, mel.shape[1], self.stride)
        sounds = ((times >= 3) & (times < 6)) | ((times >= 12) & (times < 20))
        frames = jnp.broadcast_to(sounds[:, None] * own, (len(mel), len(times), len(own)))
        return Output(jnp.tile(own, (len(mel), 1)), frames, frames)


def make_config():
    config = load_config("pts:tiny")  # which evaluates the parameters' average
    config.front_end.clip_seconds = FRAMES / 60
    config.num_seeds = 2
    with config.unlocked():
        config.teacher = dict(architecture=f"{__name__}:Telling", stride=4)
        config.student = dict(architecture=f"{__name__}:Telling", stride=1)
    return config


def make_state(added):
    seeds = jnp.array([0.0, SEED_1])

    def models(student, teacher):
        return {"student": {"number": student}, "teacher": {"number": teacher}}

    return TrainState(
        step=jnp.zeros(2, jnp.int32),
        params=models(seeds + NOT_AVERAGED, seeds + NOT_AVERAGED),
        batch_stats=models(jnp.full(2, added), jnp.full(2, added + TEACHER)),
        opt_state=(ParameterEmaState(models(seeds, seeds)),),
    )


def strong_labels():
    """Of each class nine events of a sixth of a second and one of two: windows of 7 and of 3."""
    return [
        Event("a", 0.0, frames / 60, label) for label in CLASSES for frames in [10.5] * 9 + [130]
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose first checkpoint is its best and whose second is its latest."""
    path, config = tmp_path_factory.mktemp("run"), make_config()
    prepared = SimpleNamespace(
        data="stub",
        classes=CLASSES,
        front_end=FrontEnd(**config.front_end),
        splits={"synthetic": StubClips([active(FRAMES)], strong_labels())},
    )
    meta = describe(prepared, TrainingData({}, {}), config, frame_rate=60.0, shares=None)
    assert {rule: sizes[0] for rule, sizes in meta["windows"].items()} == {
        "avg": 7, "esp": 3, "fixed": 5
    }  # fmt: skip
    with checkpoints.open_manager(Workdir(path)) as manager:
        for step, added, selection in (3, 0.0, 20.0), (6, LATEST, 10.0):
            state = make_state(added)
            checkpoints.save(manager, step, state, meta, selection=selection)
        manager.wait_until_finished()
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "recording.wav"
    soundfile.write(path, np.zeros(FRAMES * HOP), 44100)
    return str(path)


def events(name, number, runs):
    return [Event(name, start / 60, stop / 60, str(number)) for start, stop in runs]


@pytest.mark.parametrize(
    ("asked", "rule", "number", "runs"),
    [
        ({}, None, 0, STUDENT_RUNS[1:]),  # a window of 7 removes what is shorter than 4
        ({}, "avg", 0, STUDENT_RUNS[1:]),
        ({}, "esp", 0, STUDENT_RUNS),
        ({"which": "latest"}, "esp", LATEST, STUDENT_RUNS),
        ({"seed": 1}, "esp", SEED_1, STUDENT_RUNS),
        ({"model": "teacher"}, "esp", TEACHER, TEACHER_RUNS),
        ({"model": "teacher", "seed": 1}, "avg", TEACHER + SEED_1, TEACHER_RUNS),
        ({"tags": "teacher"}, "esp", 0, []),  # the teacher tags another class
        ({"tags": "mean"}, "esp", 0, []),  # with 0.5
    ],
)
def test_events_are_of_what_is_asked_for(run, recording, asked, rule, number, runs):
    assert detect(load(run, **asked), recording, rule=rule) == events(recording, number, runs)


def test_a_student_that_learnt_alone_is_restored_alone(tmp_path, recording):
    config = load_config("supervised:tiny")
    config.front_end.clip_seconds = FRAMES / 60
    config.evaluation.average = False
    with config.unlocked():
        config.student = dict(architecture=f"{__name__}:Telling")
    number = {"student": {"number": jnp.float32(5)}}
    state = TrainState(jnp.int32(3), number, number, ())
    meta = {
        "config": json.loads(config.to_json()),
        "classes": list(CLASSES),
        "front_end": dict(config.front_end),
        "frame_rate": 60.0,
        "windows": {"avg": [3] * len(CLASSES)},
        "feature_shares": None,
    }
    with checkpoints.open_manager(Workdir(tmp_path)) as manager:
        checkpoints.save(manager, 3, state, meta, selection=1.0)
        manager.wait_until_finished()
    found = detect(load(tmp_path), recording, rule="avg")
    assert found == events(recording, 5 + 5, STUDENT_RUNS)
    with pytest.raises(InputError, match="this system has no teacher"):
        load(tmp_path, model="teacher")


@pytest.fixture
def command(run, monkeypatch):
    """`jfsed-jax COMMAND --workdir RUN FLAGS...`, on data of one clip."""
    clips = StubClips([active(FRAMES)], reference=events("0.wav", 0, STUDENT_RUNS))
    prepared = make_prepared(validation=clips)
    monkeypatch.setattr(process, "start_jax_as_trained", lambda workdir: None)
    monkeypatch.setattr(evaluation, "prepare_for", lambda *_: prepared)
    return lambda name, *flags: cli.main([name, f"--workdir={run}", *flags])


def test_each_seed_is_scored_with_its_own_weights(run, command, capsys):
    assert command("evaluate", "--postprocess=esp") == 0
    capsys.readouterr()
    for k in range(2):
        found = read_events(Workdir(run).seed(k, 2).split("validation").events).events
        assert found == events("0.wav", k, STUDENT_RUNS)
    assert not Workdir(run).split("validation").path.exists()
    summary = json.loads(Workdir(run).scores_of_seeds("validation").read_text())
    assert summary["event_f1"]["macro"]["values"] == pytest.approx([100, 0])
    assert summary["at_f1"]["classwise"]["0"]["values"] == pytest.approx([100, 0])


def test_evaluate_does_what_its_flags_ask(command, monkeypatch, tmp_path):
    asked = []

    def spy(detector, prepared, workdir, **options):
        asked.append((detector.seed, detector.model, detector.tags, detector.step, options))
        raise InputError("that is all")

    monkeypatch.setattr(evaluation, "evaluate", spy)
    files = tmp_path / "files"
    flags = ["--split=eval", "--tune_thresholds", "--postprocess=fixed", f"--score_files={files}"]
    assert command("evaluate", *flags, "--seed=1", "--tags=mean", "--checkpoint=latest") == 2
    options = {"split": "eval", "rule": "fixed", "tune": True, "score_files": files}
    options |= {"data_dir": None, "tuned": None, "num_resamples": 1000}
    assert asked.pop() == (1, "student", "mean", 6, options)
    assert command("evaluate", "--model=teacher") == 2
    options = {"split": "validation", "rule": None, "tune": False, "score_files": None}
    options |= {"data_dir": None, "tuned": None, "num_resamples": 1000}
    assert asked.pop() == (0, "teacher", "teacher", 3, options)


def test_predict_takes_what_evaluate_takes(command, recording, tmp_path):
    output = tmp_path / "events.tsv"
    flags = [f"--output={output}", "--seed=1", "--model=teacher", "--checkpoint=latest"]
    assert command("predict", *flags, recording) == 0
    expected = events(recording, SEED_1 + TEACHER + LATEST, TEACHER_RUNS)
    assert read_events(output).events == in_milliseconds(expected)
    assert command("predict", f"--output={output}", "--postprocess=esp", recording) == 0
    expected = events(recording, 0, STUDENT_RUNS)
    assert read_events(output).events == in_milliseconds(expected)


def in_milliseconds(found):
    """As the tables of predict have them."""
    return [
        event._replace(onset=round(event.onset, 3), offset=round(event.offset, 3))
        for event in found
    ]
