"""Intervals and counts that `evaluate` writes, of one seed and of several."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stub_detector import CLASSES, StubClips, active, make_detector, make_prepared

from jfsed_jax.cli import detection
from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import trained_runs
from jfsed_jax.inference import evaluation
from jfsed_jax.inference.evaluation import evaluate
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.inference.seeds import write_seeds
from jfsed_jax.runs.saved_counts import read_counts
from jfsed_jax.sed import uncertainty
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.score_text import format_seeds

DOGS = [Event(f"{i}.wav", 6 / 60, 14 / 60, "Dog") for i in range(8)]


# The keys of `info` before there were intervals.
OLDER_INFO = (
    "system data split model tags selected reference postprocess decoder gate medians windows "
    "thresholds checkpoint_step num_clips clips_listed"
)


def clips(found):
    """Eight clips with a dog each; the first `found` are heard."""
    mels = [active(20, *([(6, 14)] if i < found else []), label=1) for i in range(8)]
    return StubClips(mels, reference=DOGS)


def score(workdir, k=0, found=4, **options):
    detector = make_detector(workdir, k=k)
    prepared = make_prepared(validation=clips(found))
    return evaluate(detector, prepared, detector.workdir.seed(k, 2), **options)


def test_scores_have_intervals_of_what_each_clip_counts(tmp_path):
    scores = score(tmp_path / "run")
    folder = make_detector(tmp_path / "run").workdir.seed(0, 2).split("validation")
    assert json.loads(folder.scores.read_text()) == scores
    assert scores["resamples"] == {"number": 1000, "seed": 0, "level": 0.95}
    # F1 of dogs is 2n / (n + 8) where n of 8 draws hit one of the four clips that are heard.
    one_clip_in_two = {round(200 * n / (n + 8), 6) for n in range(9)}
    for key in ("macro", "micro", "classwise/Dog"):
        low, high = (round(v, 6) for v in scores["intervals"][f"event_f1/{key}"])
        assert low < scores["event_f1"]["macro"] < high and {low, high} <= one_clip_in_two
    assert scores["intervals"]["event_f1/classwise/Cat"] is None
    assert "at_f1/macro" in scores["intervals"]
    counts = read_counts(folder, CLASSES)
    assert set(counts) == {"event_f1", "segment_f1", "at_f1", "at_f1_events"}
    np.testing.assert_array_equal(counts["at_f1"][:, 1], [[1, 1, 1]] * 4 + [[1, 0, 0]] * 4)
    order = [7, *range(7)]
    turned = read_counts(folder, ["Dog", "Cat"], [f"{i}.wav" for i in order])
    for name, count in counts.items():
        np.testing.assert_array_equal(turned[name], count[order][:, ::-1])
    folder.counts.unlink()  # as older versions left it, without the clip head's
    for name, count in read_counts(folder, CLASSES).items():
        np.testing.assert_array_equal(count, counts[name])
    folder.counts.write_bytes(b"PK")
    with pytest.raises(InputError, match="counts.npz is damaged"):
        read_counts(folder, CLASSES)


@pytest.mark.parametrize("number", [0, 100])
def test_the_command_resamples_as_often_as_it_is_asked(tmp_path, monkeypatch, number):
    """Of each seed, and of their mean."""

    def load(workdir, checkpoint, model, k, tags):
        return make_detector(Path(workdir), k=k, num_seeds=2)

    monkeypatch.setattr(detection.process, "start_jax_as_trained", lambda _: None)
    monkeypatch.setattr("jfsed_jax.inference.detector.load", load)
    prepared = make_prepared(validation=clips(4))
    monkeypatch.setattr(evaluation, "prepare_for", lambda *_: prepared)
    for name in ("focal_weights.write_adaptive_weights", "held_out_curves.write_threshold_curves"):
        monkeypatch.setattr(f"jfsed_jax.inference.{name}", lambda *_: None)
    assert cli.main(["evaluate", f"--workdir={tmp_path}", f"--bootstrap={number}"]) == 0
    workdir = make_detector(tmp_path).workdir
    files = [workdir.seed(k, 2).split("validation").scores for k in (0, 1)]
    for path in (*files, workdir.scores_of_seeds("validation")):
        scores = json.loads(path.read_text())
        assert scores["resamples"]["number"] == number
        assert bool(scores["intervals"]) == bool(number)


def test_the_mean_over_seeds_has_an_interval_over_clips_and_seeds(tmp_path):
    """Of which one hears half of the dogs and one all: wider than either's own."""
    scores = [score(tmp_path, k=k, found=found) for k, found in enumerate((4, 8))]
    workdir = make_detector(tmp_path).workdir
    summary = write_seeds(workdir, scores)
    assert json.loads(workdir.scores_of_seeds("validation").read_text()) == summary
    counts = [read_counts(workdir.seed(k, 2).split("validation"), CLASSES) for k in (0, 1)]
    expected = uncertainty.intervals(counts, classes=CLASSES)
    assert {key: v and tuple(v) for key, v in summary["intervals"].items()} == expected
    low, high = summary["intervals"]["event_f1/macro"]
    assert low < scores[0]["intervals"]["event_f1/macro"][0] < 200 / 3 < high == 100
    assert f"95 % interval {low:.2f} to 100.00" in format_seeds(summary).splitlines()[0]


def test_scores_of_an_older_version_get_intervals_from_their_posteriors(tmp_path, monkeypatch):
    """And no model runs for it; what has intervals is left as it is."""
    detector = make_detector(tmp_path, lambda *_: pytest.fail("the posteriors are saved"))
    prepared = make_prepared(validation=clips(4))
    detector.meta["clips"] = {"weak": 1}
    frames = np.stack(clips(4).mels).astype(np.float32)
    output = Posteriors(frames.max(axis=1), frames)
    evaluate(detector, prepared, detector.workdir, output=output)
    folder = detector.workdir.split("validation")
    new = json.loads(folder.scores.read_text())
    old = {key: value for key, value in new.items() if key not in ("intervals", "resamples")}
    old["info"] = {key: new["info"][key] for key in OLDER_INFO.split()}
    folder.scores.write_text(json.dumps(old))
    folder.counts.unlink()
    monkeypatch.setattr(trained_runs, "detectors", SimpleNamespace(load=lambda _: detector))
    monkeypatch.setattr(trained_runs, "prepare", lambda *_, **__: prepared)
    silent = lambda data, split, classes, spans, *_, **__: [b""] * len(spans)  # noqa: E731
    monkeypatch.setattr(evaluation, "example_sounds", silent)
    monkeypatch.setattr(trained_runs, "write_adaptive_weights", lambda *_: None)
    written = []
    monkeypatch.setattr(trained_runs, "run_page", SimpleNamespace(write_report=written.append))

    def again():
        return trained_runs.score_run(tmp_path, tmp_path, ["avg"], None)

    assert again().scores["avg"]["validation"] == new == json.loads(folder.scores.read_text())
    assert folder.counts.exists() and written == [tmp_path]
    detector.workdir.report.touch()
    stamp = folder.scores.stat().st_mtime_ns
    assert again().scores["avg"]["validation"] == new
    assert folder.scores.stat().st_mtime_ns == stamp and written == [tmp_path]
