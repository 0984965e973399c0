"""tune, then postprocess with its file, then score: the F1 that was promised."""

import json
from pathlib import Path

import numpy as np
import pytest

from jfsed_jax.cli import main as cli
from jfsed_jax.sed import score_files, tables
from jfsed_jax.sed.events import Event

CLASSES, RATE = ["Cat", "Dog"], 12.5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Score files of 12 clips, noisy around events that the reference has; the last is silent."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names, frames, events = [f"{b}.x.wav" for b in range(12)], [], []
    for name in names:
        posteriors = rng.uniform(0, 0.5, (125 - rng.integers(0, 5), 2))
        for c, label in enumerate(CLASSES if name != names[-1] else []):
            start = int(rng.integers(10, 60))
            stop = start + int(rng.integers(5, 40))
            posteriors[start:stop, c] += 0.4 * (1 + c) / 2
            events.append(Event(name, start / RATE, stop / RATE + 0.1, label))
        frames.append(np.clip(posteriors, 0, 1))
    score_files.write_score_files("s", frames, filenames=names, classes=CLASSES, frame_rate=RATE)
    tables.write_events("r.tsv", events, filenames=names)
    return names


def run(*arguments):
    assert cli.main(list(arguments)) == 0


@pytest.mark.parametrize("metric", ["event_f1", "segment_f1", "at_f1_events"])
@pytest.mark.parametrize(
    ("decoder", "tagged"), [("median", True), ("median", False), ("change_points", True)]
)
def test_the_circle(folder, metric, decoder, tagged, capsys):
    tags = []
    if tagged:
        # In no order that that of the score files, "10" before "2", would repeat.
        tags = {name: CLASSES[: 1 + (i in (0, 2, 3, 7, 8))] for i, name in enumerate(folder)}
        tables.write_tags("t.tsv", tags)
        tags = ["--tags=t.tsv"]
    files = ["--scores=s", *tags]
    run(
        "tune",
        *files,
        f"--decoder={decoder}",
        "--reference=r.tsv",
        "--output=d.json",
        f"--metric={metric}",
        "--folds=3",
    )
    printed = capsys.readouterr().out
    run("postprocess", *files, "--decoder=d.json", "--output=e.tsv")
    run("score", "--reference=r.tsv", "--estimates=e.tsv", "--json=j.json")
    found = json.loads(Path("j.json").read_text())[metric]
    told = json.loads(Path("d.json").read_text())["tuned"]
    for average in ("macro", "micro"):
        assert told["f1"][average] == pytest.approx(found[average], abs=1e-9)
        assert f"{found[average]:.2f}" in printed
    assert told["f1"]["classwise"] == pytest.approx(found["classwise"], abs=1e-9)
    assert 0 < told["cross_validated_f1"]["macro"] <= told["f1"]["macro"]
    assert told["metric"] == metric and told["clips"] == 12 and told["folds"] == 3


def test_the_seed_deals_the_clips(folder):
    told = []
    for seed in (0, 1, 0):
        run(
            *("tune", "--scores=s", "--reference=r.tsv", "--output=d.json", "--windows=0.5"),
            *("--folds=3", f"--seed={seed}"),
        )
        told.append(json.loads(Path("d.json").read_text())["tuned"])
    assert told[0] == told[2] and told[0]["f1"] == told[1]["f1"]
    assert told[0]["cross_validated_f1"] != told[1]["cross_validated_f1"]


def test_the_edge_of_what_was_tried_is_noted(folder, capsys):
    """A window of one frame is no edge, and one that was asked for alone neither."""
    tune = ["tune", "--scores=s", "--reference=r.tsv", "--output=d.json", "--folds=0"]
    for flag, expected in (
        ("--windows=0.08,0.24", "of those tried, 0.24 s is the last and the best of Cat, Dog: l"),
        ("--windows=0.56,3", "of those tried, 0.56 s is the last and the best of Cat, Dog: s"),
        ("--windows=0.08,0.56,3", ""),
        ("--windows=0.56", ""),
        ("--windows=0.08,9", ""),
    ):
        run(*tune, flag)
        notes = [line for line in capsys.readouterr().out.splitlines() if "of those tried" in line]
        assert len(notes) == bool(expected) and expected in "".join(notes)


def test_clips_that_the_reference_does_not_name_are_not_tuned_on(folder, capsys):
    few = [e for e in tables.read_events("r.tsv").events if e.filename in folder[:4]]
    tables.write_events("few.tsv", few)
    run("tune", "--scores=s", "--reference=few.tsv", "--output=d.json", "--folds=0", "--windows=1")
    assert "note: 8 score files are of clips that few.tsv does not name" in capsys.readouterr().out
    told = json.loads(Path("d.json").read_text())
    assert told["tuned"]["clips"] == 4 and told["tuned"]["cross_validated_f1"] is None
    assert told["classes"]["Dog"]["window"] == pytest.approx(13 / RATE)
    tables.write_table("d.tsv", ["filename", "duration"], [[folder[-1], 10.0]])
    run(
        *("tune", "--scores=s", "--reference=few.tsv", "--durations=d.tsv"),
        *("--output=d.json", "--windows=1"),
    )
    assert json.loads(Path("d.json").read_text())["tuned"]["clips"] == 5


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--reference=more.tsv"], "s has no score file of the clip 'z.wav' and 0 others"),
        (["--reference=bird.tsv"], "the label 'Bird' is not one of Cat, Dog"),
        (["--reference=r.tsv", "--windows=1,x"], "--windows: "),
        (["--reference=r.tsv", "--windows=61"], "--windows: "),
        (["--reference=r.tsv", "--filters=1"], "--filters is for --decoder=change_points"),
        (["--reference=r.tsv", "--folds=13"], "13 folds of 12 clips"),
        (["--reference=r.tsv", "--output=r.tsv"], "r.tsv"),
    ],
)
def test_what_tune_refuses(folder, flags, expected, capsys):
    tables.write_events("more.tsv", [Event("z.wav", 0.0, 1.0, "Dog")])
    tables.write_events("bird.tsv", [Event("0.x.wav", 0.0, 1.0, "Bird")])
    before = Path("r.tsv").read_text()
    assert cli.main(["tune", "--scores=s", "--output=d.json", *flags]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
    assert Path("r.tsv").read_text() == before


def test_a_decoder_file_stands_alone_and_has_the_classes(folder, capsys):
    run("tune", "--scores=s", "--reference=r.tsv", "--output=d.json", "--windows=0.2,0.5")
    postprocess = ["postprocess", "--scores=s", "--output=e.tsv", "--decoder=d.json"]
    of_windows = ["--strong=r.tsv", "--fixed=99", "--knee=chord"]
    for flag in ("--postprocess=avg", "--threshold=0", *of_windows):
        assert cli.main([*postprocess, flag]) == 2
        assert "beside --decoder, which decides that" in capsys.readouterr().err
    for flag in of_windows:
        assert cli.main([*postprocess[:-1], "--postprocess=change_points", flag]) == 2
        assert "beside --postprocess=change_points, which" in capsys.readouterr().err
    content = json.loads(Path("d.json").read_text())
    content["classes"]["Bird"] = content["classes"].pop("Cat")
    Path("d.json").write_text(json.dumps(content))
    assert cli.main(postprocess) == 2
    assert "d.json has no settings for 'Cat'" in capsys.readouterr().err
    Path("w").mkdir()
    Path("w/meta.json").write_text(json.dumps({"classes": CLASSES}))  # what is read before JAX
    for command in (["evaluate"], ["predict", "x.wav"]):
        flags = ["--workdir=w", "--decoder=d.json", "--postprocess=avg"]
        Path("x.wav").touch()
        assert cli.main([command[0], *flags, *command[1:]]) == 2
        assert "beside --decoder" in capsys.readouterr().err
        assert cli.main([command[0], *flags[:-1], *command[1:]]) == 2
        assert "d.json has no settings for 'Cat'; expected" in capsys.readouterr().err


def test_change_points_need_no_tuning_and_no_strong_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = np.full((1, 100, 2), 0.01)
    frames[0, 20:60, 1] = np.linspace(0.4, 0.9, 40)
    score_files.write_score_files(
        "s", frames, filenames=["a.wav"], classes=CLASSES, frame_rate=RATE
    )
    for threshold, events in (("0.6", [Event("a.wav", 1.6, 4.8, "Dog")]), ("0.7", [])):
        run(
            *("postprocess", "--scores=s", "--postprocess=change_points", "--output=e.tsv"),
            f"--threshold={threshold}",
        )
        assert tables.read_events("e.tsv").events == events
