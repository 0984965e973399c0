"""The examples: what a config names and what code hands in train to the same bits."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import soundfile
from narrow import narrow

import jfsed_jax as jf
from jfsed_jax.datasets.preparation import prepare
from jfsed_jax.method import distillation, optimisers, schedules
from jfsed_jax.method.distillation import Distilled
from jfsed_jax.method.objectives import joint_terms
from jfsed_jax.runs.log_rows import SPEED
from jfsed_jax.runs.workdir import read_json

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # where a command that is run there finds `examples`

from examples import conformer, cosine_distillation, hysteresis, upper_bound  # noqa: E402

OVERRIDES = {"epochs": 2, "steps_per_epoch": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo_set):
    """A folder with a data set, its features, a recording and the module's runs."""
    place = tmp_path_factory.mktemp("examples")
    shutil.copytree(demo_set, place, dirs_exist_ok=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 44100 * 12)
    soundfile.write(place / "recording.wav", noise, 44100)
    return place


def config_of(name, base=None):
    config = jf.load_config(f"{ROOT}/examples/{name}.py:tiny" if base is None else base)
    config = narrow(config)
    config.update(OVERRIDES)
    return config


def fit(place, workdir, config, **handed):
    jf.fit(config, place / "data", place / workdir, features_dir=place / "features", **handed)
    return jf.load(place / workdir, "latest", student=handed.get("student"))


def scores_and_events(place, detector, decode=None):
    """Scores and events of the validation clips, events of a recording."""
    prepared = prepare(
        place / "data", detector.front_end, features_dir=place / "features", progress=False
    )
    scores = jf.evaluate(detector, prepared, detector.workdir, decode=decode)
    folder = detector.workdir.split("validation")
    found = jf.detect(detector, place / "recording.wav", decode=decode)
    return scores, jf.read_events(folder.events).events, found


def assert_same(place, name, *decoders):
    """Parameters, events, and all that both logs know are equal to the bit."""
    detectors = [jf.load(place / f"{name}-{form}", "latest", student=student) for form, student in
                 (("named", None), ("handed", STUDENTS.get(name)))]  # fmt: skip
    variables = [jax.tree.leaves(detector.variables) for detector in detectors]
    for a, b in zip(*variables, strict=True):
        np.testing.assert_array_equal(b, a)
    logs = []
    for detector in detectors:
        rows = map(json.loads, detector.workdir.metrics.read_text().splitlines())
        logs.append([{k: v for k, v in row.items() if k not in SPEED} for row in rows])
    known = [{k: v for k, v in row.items() if k in other} for row, other in zip(*logs, strict=True)]
    assert known == logs[1]
    decoders = decoders or (None, None)
    named, handed = (
        scores_and_events(place, detector, decode)
        for detector, decode in zip(detectors, decoders, strict=True)
    )
    for scores in (named[0], handed[0]):
        scores.pop("info")
    assert named == handed
    return logs[0]


STUDENTS = {"conformer": conformer.Conformer(classes=10, width=8, layers=1, time_stride=4)}


def test_a_loss(place):
    config = config_of("cosine_distillation")
    fit(place, "cosine_distillation-named", config)

    plain = config_of(None, "pts:tiny")
    cosine = Distilled("cosine", cosine_distillation.cosine, 1.0)

    def terms(teacher, student, params, batch, step):
        weights = schedules.Schedules.of(plain, OVERRIDES["steps_per_epoch"])
        return joint_terms(
            teacher, student, params, batch, step, schedules=weights, distillation=(cosine,)
        )

    joint = jf.objectives.joint(plain, OVERRIDES["steps_per_epoch"])
    # Measured in both forms: without, XLA fuses otherwise and the last bits differ.
    measured = partial(distillation.measures, distillation=(cosine,), space=distillation.LITERAL)
    objective = jf.Objective(terms, joint.init, joint.weights, measured)
    fit(place, "cosine_distillation-handed", plain, objective=objective)
    log = assert_same(place, "cosine_distillation")
    values = [row["distillation/cosine"] for row in log if row["kind"] == "train"]
    assert len(values) == 4 and all(0 < value < 2 for value in values)


def test_the_angle_is_that_of_the_maps():
    maps = np.zeros((2, 4, 3), np.float32)
    maps[..., 0] = 2.0
    turned = np.zeros_like(maps)
    turned[0, :, 1] = 5.0  # a right angle
    turned[1, :, 0] = -1.0  # opposite
    labels = np.zeros((2, 8, 5), np.float32)
    labels[0, :4, 1] = labels[1, 6:, 0] = 1  # half and a quarter of the frames
    batch = {"frame_labels": labels, "is_strong": np.array([1.0, 0.0])}
    value, clips, frames = cosine_distillation.cosine(maps, turned, batch)
    np.testing.assert_allclose(value, [0.5 * 1, 0.25 * 2], atol=1e-6)
    np.testing.assert_array_equal(clips, [1, 0])
    np.testing.assert_array_equal(frames, [[1, 1, 0, 0], [0, 0, 0, 1]])
    same, *_ = cosine_distillation.cosine(maps, 3 * maps, batch)
    np.testing.assert_allclose(same, [0, 0], atol=1e-6)


def test_a_model(place):
    detector = fit(place, "conformer-named", config_of("conformer"))
    assert detector.variables["student"]["batch_stats"] == {}
    assert detector.frame_rate == 15 and detector.time_stride == 4
    fit(place, "conformer-handed", config_of(None, "pts_tfd:tiny"), student=STUDENTS["conformer"])
    with pytest.raises(jf.InputError, match=r"not those of its student, CRNN.*load\(..., student="):
        jf.load(place / "conformer-handed")
    assert_same(place, "conformer")


def test_an_optimiser(place):
    config = config_of("adamw")
    fit(place, "adamw-named", config)
    plain = config_of(None, "pts:tiny")
    rate = schedules.learning_rate(config.optimiser, OVERRIDES["steps_per_epoch"])
    fit(place, "adamw-handed", plain, optimiser=optax.adamw(rate, weight_decay=1e-2))
    log = assert_same(place, "adamw")
    rates = [row["learning_rate"] for row in log if row["kind"] == "train"]
    # The cosine from 0.2 epochs of 2 on, at steps 0 to 3 of 4.
    shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, 0.2, 2.0)
    np.testing.assert_allclose(rates, [3e-3 * float(shape(n / 2)) for n in range(4)], rtol=1e-5)


def test_a_run_loads_where_its_optimiser_is_unknown(place):
    """Of its optimiser the config knows nothing; another process labels a recording with it."""
    lion = optax.inject_hyperparams(optax.lion)(learning_rate=lambda step: 1e-3 * 0.5**step)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), lion)
    detector = fit(place, "lion", config_of(None, "supervised:tiny"), optimiser=optimiser)
    expected = detector.posteriors(list(np.zeros((2, 600, 64), np.float32)))
    code = """
import sys, numpy as np, jfsed_jax as jf
found = jf.load(sys.argv[1], "latest").posteriors(list(np.zeros((2, 600, 64), np.float32)))
np.savez(sys.argv[2], clip=found.clip, frames=found.frames)
jf.detect(jf.load(sys.argv[1]), sys.argv[3])
"""
    subprocess.run(
        [sys.executable, "-c", code, place / "lion", place / "found.npz", place / "recording.wav"],
        check=True,
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with np.load(place / "found.npz") as found:
        np.testing.assert_allclose(found["clip"], expected.clip, atol=1e-6)
        np.testing.assert_allclose(found["frames"], expected.frames, atol=1e-6)


def test_the_logged_rate_is_the_true_one_or_none(place):
    """Injected hyperparameters are found; an optimiser that keeps its rate to itself has none."""
    for name, expected in (("lion", [1e-3, 5e-4, 2.5e-4, 1.25e-4]), ("adamw-handed", [None] * 4)):
        rows = map(json.loads, (place / name / "metrics.jsonl").read_text().splitlines())
        rates = [row.get("learning_rate") for row in rows if row["kind"] == "train"]
        assert rates == pytest.approx(expected)


def test_a_post_processing(place):
    config = config_of("hysteresis")
    detector = fit(place, "hysteresis-named", config)
    windows = detector.windows()
    durations = read_json(detector.workdir.meta)["durations"]
    shortest = [min(lengths, default=0) for lengths in durations.values()]
    expected = [max(1, round(0.5 * length * 60)) if length else 5 for length in shortest]
    assert windows.tolist() == expected
    decode = hysteresis.hysteresis(windows, classes=detector.classes, frame_rate=60.0)
    plain = config_of(None, "pts:tiny")
    fit(place, "hysteresis-handed", plain, decode=decode)
    assert_same(place, "hysteresis", None, decode)
    with pytest.raises(jf.InputError, match="tuned for the median decoder"):
        jf.evaluate(detector, jf.prepare_for(detector), detector.workdir, tune=True)


def test_events_touch_the_threshold_and_last_above_the_lower_one():
    frames = np.zeros((1, 12, 2), np.float32)
    frames[0, :, 0] = [0, 0.4, 0.6, 0.4, 0, 0.4, 0.4, 0, 0.9, 0, 0, 0]
    frames[0, :, 1] = 0.9
    decode = hysteresis.hysteresis([2, 1], classes=("a", "b"), frame_rate=2.0)
    # 5 and 6 never exceed 0.5; frame 8 alone is shorter than the window.
    expected = [jf.Event("x", 0.5, 2.0, "a")]
    assert decode(np.array([[0.9, 0.4]]), frames, ["x"]) == expected
    both = [*expected, jf.Event("x", 0.0, 6.0, "b")]
    assert decode(None, frames, ["x"]) == both


def test_the_command_of_an_example(place):
    """As its docstring has it, from the root of the clone; then events of a recording."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "jfsed_jax", *arguments],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    workdir = f"--workdir={place / 'command'}"
    config = config_of("hysteresis")  # whose few layers compile in less time
    few = [
        f"--config.{model}.{key}={value}".replace(" ", "")
        for model in ("teacher", "student")
        for key, value in config[model].items()
        if key in ("filters", "kernels", "convs", "pools", "gru_layers", "pooling")
    ]
    run(
        "train", "--config", "examples/hysteresis.py:tiny", f"--data={place / 'data'}", workdir,
        f"--features={place / 'features'}", "--config.epochs=1", "--config.steps_per_epoch=1", *few,
    )  # fmt: skip
    found = run("predict", workdir, str(place / "recording.wav"))
    assert found.startswith("filename\tonset\toffset\tevent_label")


@pytest.mark.parametrize("name", ["cosine_distillation", "conformer", "adamw", "hysteresis"])
def test_an_example_is_short(name):
    text = (ROOT / "examples" / f"{name}.py").read_text()
    code = text.split('"""', 2)[2].splitlines()
    assert len([line for line in code if line.strip()]) <= 40
    config = jf.load_config(f"{ROOT}/examples/{name}.py:small")
    assert optimisers.from_config(config.optimiser, lambda step: 0.1)


def test_an_upper_bound_is_the_control_with_the_labels_that_unlabelled_clips_have(tmp_path):
    """Digits that are said in one go are one event, sneezes one after another are two."""
    openmix = tmp_path / "openmix"
    rows = {
        "w.flac": [("0.00", "10.00", "background"), ("1.00", "2.00", "Dog")],
        "s.flac": [("1.00", "2.00", "Dog")],
        "u.flac": [
            *(("1.00", "2.00", "Speech"), ("2.15", "3.00", "Speech"), ("3.16", "4.00", "Speech")),
            *(("1.00", "2.00", "Sneeze"), ("2.10", "3.00", "Sneeze")),
        ],
    }
    tables = {
        "weak": "filename\tevent_labels\nw.flac\tDog\n",
        "synthetic": "filename\tonset\toffset\tevent_label\ns.flac\t1.00\t2.00\tDog\n",
        "unlabel_in_domain": "filename\nu.flac\n",
    }
    (openmix / "metadata/train").mkdir(parents=True)
    for (name, table), clip in zip(tables.items(), ("w", "s", "u"), strict=True):
        (openmix / f"metadata/train/{name}.tsv").write_text(table)
        (openmix / f"audio/train/{name}").mkdir(parents=True)
        (openmix / f"audio/train/{name}/{clip}.flac").write_text(clip)
    (openmix / "audio/validation").mkdir()
    lines = ["\t".join((clip, *row)) for clip, found in rows.items() for row in found]
    header = "filename\tonset\toffset\tevent_label\n"
    (openmix / "sources.tsv").write_text(header + "\n".join(lines) + "\n")
    speech, sneeze = [(1.0, 3.0), (3.16, 4.0)], [(1.0, 2.0), (2.1, 3.0)]
    expected = {
        "weak": ("weak", "u.flac\tSneeze,Speech\n"),
        "strong": (
            "synthetic",
            "".join(
                f"u.flac\t{onset:.2f}\t{offset:.2f}\t{label}\n"
                for label, times in (("Speech", speech), ("Sneeze", sneeze))
                for onset, offset in times
            ),
        ),
    }
    for kind, (name, added) in expected.items():
        upper_bound.label(openmix, tmp_path / kind, kind)
        for other, table in tables.items():
            found = (tmp_path / kind / f"metadata/train/{other}.tsv").read_text()
            assert found == table + (added if other == name else "")
        folder = tmp_path / kind / "audio/train" / name
        own = {"weak": "w", "synthetic": "s"}[name]
        assert {path.name: path.read_text() for path in folder.iterdir()} == {
            f"{own}.flac": own,
            "u.flac": "u",
        }
        assert (tmp_path / kind / "audio/validation").is_dir()
        assert (tmp_path / kind / "sources.tsv").exists()
