"""Scores of a split, of stub posteriors: the rule, the thresholds and the seed that were asked."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from stub_detector import StubClips, active, make_detector, make_prepared

from jfsed_jax.errors import InputError
from jfsed_jax.inference import evaluation
from jfsed_jax.inference.evaluation import evaluate
from jfsed_jax.inference.focal_weights import write_adaptive_weights
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.sed.decoder_files import TunedDecoder
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.score_files import frame_rate_of, read_score_files
from jfsed_jax.sed.tables import read_events

SHORT = Event("0.wav", 3 / 60, 5 / 60, "Cat")  # which windows of 5 frames remove
LONG = Event("1.wav", 6 / 60, 14 / 60, "Dog")
FAINT = Event("2.wav", 2 / 60, 10 / 60, "Cat")  # of frames of 0.3 where the tag is 0.9


def validation_clips():
    faint = active(20, (2, 10), level=0.3)
    faint[15, 0] = 0.9
    mels = [active(20, (3, 5)), active(20, (6, 14), label=1), faint]
    return StubClips(mels, reference=[LONG, FAINT])


def numbered(count, scale):
    """Clip i has ``i / scale`` everywhere, and is published with cats alone."""
    mels = [np.full((20, 2), i / scale) for i in range(count)]
    reference = [Event(f"{i}.wav", 0.0, 20 / 60, "Cat") for i in range(count)]
    return StubClips(mels, reference, labels=[[1, 0]] * count, events=[])


def held_by(seed, count=10):
    """A fifth of the clips, as the generator of `seed` deals them."""
    return sorted(np.random.default_rng(seed).permutation(count)[: count // 5])


def test_events_and_scores_are_of_the_rule_that_is_asked(tmp_path):
    detector = make_detector(tmp_path)
    prepared = make_prepared(validation=validation_clips())
    scores = evaluate(detector, prepared, detector.workdir, rule="fixed")
    folder = detector.workdir.split("validation")
    found = read_events(folder.events)
    assert found.events == [LONG]
    assert sorted(found.filenames) == ["0.wav", "1.wav", "2.wav"]
    assert read_events(folder.reference).events == [LONG, FAINT]
    assert scores["info"]["postprocess"] == "fixed" and scores["info"]["windows"] == [5, 5]
    assert json.loads(folder.scores.read_text()) == scores
    # Dogs are all found. Cats: tagged in 0 and 2, and only in 2 are there any.
    assert scores["event_f1"]["classwise"] == {"Cat": 0, "Dog": pytest.approx(100)}
    assert scores["at_f1"]["classwise"] == pytest.approx({"Cat": 200 / 3, "Dog": 100})
    with np.load(folder.posteriors) as saved:
        np.testing.assert_array_equal(saved["clip_reference"], [[0, 0], [0, 1], [1, 0]])
        np.testing.assert_allclose(saved["clip"], [[0.9, 0], [0, 0.9], [0.9, 0]], rtol=1e-3)


def test_a_clip_that_is_not_finite_is_named_and_nothing_is_written(tmp_path):
    clips = validation_clips()
    clips.mels[1][3, 0] = np.nan
    detector = make_detector(tmp_path)
    with pytest.raises(InputError, match=r"1 of 3 clips have a log-mel .* not finite, 1.wav: "):
        evaluate(detector, make_prepared(validation=clips), detector.workdir)
    assert not detector.workdir.split("validation").path.exists()


def tagged(frames, cat, dog):
    """A clip of four bands for `by_bands`, with these tags."""
    return np.hstack([frames, np.tile([cat, dog], (len(frames), 1))])


def by_bands(variables, mel):
    """Two bands are the frames of the classes, two their tags."""
    mel = np.asarray(mel, np.float32)
    return Posteriors(mel[:, 0, 2:], mel[:, :, :2])


def test_a_second_evaluation_that_stops_leaves_no_scores_of_the_first(tmp_path, monkeypatch):
    """Whose events are written over by then."""
    detector = make_detector(tmp_path)
    prepared = make_prepared(validation=validation_clips())
    evaluate(detector, prepared, detector.workdir)
    scores = detector.workdir.split("validation").scores
    assert scores.exists()

    def full(*arguments, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        evaluate(detector, prepared, detector.workdir)
    assert not scores.exists()


def test_tags_gate_the_events_and_are_scored_themselves(tmp_path):
    """A tag of a half is none; one without events counts, and events without one do not."""
    cats, dogs = (
        [Event(f"{i}.wav", 0.1, 0.2, "Cat") for i in range(3)],
        Event("1.wav", 0, 0.2, "Dog"),
    )
    clips = StubClips(
        [
            tagged(active(20, (3, 10)), cat=0.5, dog=0.0),
            tagged(active(20, (3, 10), label=1, level=0.4), cat=0.0, dog=0.6),
            tagged(active(20, (5, 12)), cat=0.7, dog=0.4),
        ],
        reference=[*cats, dogs],
    )
    detector = make_detector(tmp_path, by_bands)
    scores = evaluate(detector, make_prepared(validation=clips), detector.workdir)
    found = read_events(detector.workdir.split("validation").events).events
    assert found == [Event("2.wav", 5 / 60, 12 / 60, "Cat")]
    assert scores["at_f1"]["counts"] == {
        "Cat": {"reference": 3, "estimated": 1, "matched": 1},
        "Dog": {"reference": 1, "estimated": 1, "matched": 1},
    }
    assert scores["at_f1_events"]["counts"]["Dog"]["estimated"] == 0


def test_references_that_overlap_are_scored_as_they_were_published(tmp_path):
    """And not as they are cleaned for training, where two cats at once are one."""
    published = [Event("0.wav", 2 / 60, 14 / 60, "Cat"), Event("0.wav", 13 / 60, 40 / 60, "Cat")]
    merged = [Event("0.wav", 2 / 60, 40 / 60, "Cat")]
    clips = StubClips([active(60, (2, 14))], reference=published, events=merged)
    detector = make_detector(tmp_path, num_frames=60)
    scores = evaluate(detector, make_prepared(validation=clips), detector.workdir)
    counts = {"reference": 2, "estimated": 1, "matched": 1}
    assert scores["event_f1"]["counts"]["Cat"] == counts
    assert read_events(detector.workdir.split("validation").reference).events == published


def test_posteriors_that_are_known_are_scored_as_a_decoder_that_is_handed_in_says(tmp_path):
    """Beside the run's own scores, with what a page and other programs need."""
    clips = validation_clips()
    unasked = lambda *_: pytest.fail("they are known")  # noqa: E731
    detector = make_detector(tmp_path / "run", unasked, stride=2)
    frames = np.linspace(0.1, 0.4, 3 * 20 * 2, dtype=np.float32).reshape(3, 20, 2)
    known = Posteriors(np.full((3, 2), 0.7, np.float32), frames)
    event = Event("1.wav", 0.1, 0.2, "Dog")
    scores = evaluate(
        detector,
        make_prepared(validation=clips),
        detector.workdir,
        output=known,
        decode=lambda clip, frames, filenames: [event],
        scored="eval-mine",
        score_files=tmp_path / "files",
    )
    assert scores["info"]["decoder"] == "handed in"
    assert not detector.workdir.split("validation").path.exists()
    folder = detector.workdir.split("validation", "eval-mine")
    assert read_events(folder.events).events == [event]
    with np.load(folder.posteriors) as saved:
        np.testing.assert_array_equal(saved["clip"], known.clip)
        np.testing.assert_array_equal(saved["frames"], known.frames)
        assert saved["filenames"].tolist() == clips.filenames
        assert saved["frame_rate"] == 30  # of a student that pools
    with np.load(folder.examples) as saved:
        # Those with a class come first, then the one without.
        assert saved["filenames"].tolist() == ["1.wav", "2.wav", "0.wav"]
        for name, mel in zip(saved["filenames"], saved["mel"], strict=True):
            np.testing.assert_array_equal(mel, clips[clips.filenames.index(name)]["mel"])
    names = [f"{i}.tsv" for i in range(3)]
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == names
    assert frame_rate_of(read_score_files(tmp_path / "files")) == pytest.approx(30)


def test_a_clip_of_errors_is_kept_beside_those_with_many_classes(tmp_path):
    """The ninth, which no class speaks for: its dog is none."""
    cats = [active(20, (2, 14))] * 8
    reference = [Event(f"{i}.wav", 2 / 60, 14 / 60, "Cat") for i in range(8)]
    clips = StubClips([*cats, active(20, (3, 9), label=1)], reference=reference)
    detector = make_detector(tmp_path)
    evaluate(detector, make_prepared(validation=clips), detector.workdir)
    with np.load(detector.workdir.split("validation").examples) as saved:
        assert saved["filenames"].tolist() == [*(f"{i}.wav" for i in range(6)), "8.wav"]
        assert saved["worst"].tolist() == [False] * 6 + [True]
        np.testing.assert_array_equal(saved["mel"][6], clips[8]["mel"])


def test_the_data_of_training_are_prepared_again_where_they_still_are(tmp_path, monkeypatch):
    """With the features of training, unless other data are named."""
    meta = {"data_dir": "../data", "features_dir": "../features"}
    detector = make_detector(tmp_path / "run", meta=meta)
    monkeypatch.setattr(evaluation, "prepare", lambda *data, **options: (*data, options))
    with pytest.raises(InputError, match="trained on are not in .*/data any more: name"):
        evaluation.prepare_for(detector)
    (tmp_path / "data").mkdir()

    def asked(*folders):
        data, front_end, options = evaluation.prepare_for(detector, *folders)
        assert front_end is detector.front_end and options["classes"] == detector.classes
        return data, options["features_dir"]

    data, features = tmp_path / "data", tmp_path / "features"
    assert asked() == (data, None)
    features.mkdir()
    assert asked() == (data, features)
    assert asked(None, "elsewhere") == (data, "elsewhere")
    assert asked("others") == ("others", None)


def test_without_a_rule_the_configs_windows_are_used(tmp_path):
    detector = make_detector(tmp_path)
    evaluate(detector, make_prepared(validation=validation_clips()), detector.workdir)
    found = read_events(detector.workdir.split("validation").events).events
    assert found == [SHORT, LONG, Event("2.wav", 15 / 60, 16 / 60, "Cat")]


@pytest.mark.parametrize(
    ("changes", "generator"),
    [({}, 0 + 1 + 2), ({"seed": 7}, 7 + 1 + 2), ({"seeds_share_batch": True}, 0 + 2)],
)
def test_thresholds_are_tuned_on_what_the_seed_held_out_with_the_windows_of_the_rule(
    tmp_path, monkeypatch, changes, generator
):
    strong = numbered(10, scale=16)
    prepared = make_prepared(weak=numbered(10, 16), synthetic=strong, validation=validation_clips())
    detector = make_detector(tmp_path, k=1, **{"num_seeds": 2, **changes})
    held = held_by(generator)
    assert held != held_by(generator - 1)
    calls = []

    def spy(frames, times, reference, candidates, **options):
        calls.append((np.array(frames), reference, candidates, options))
        return {"Cat": SimpleNamespace(threshold=0.2), "Dog": SimpleNamespace(threshold=0.95)}

    monkeypatch.setattr(evaluation, "tune_classes", spy)
    monkeypatch.setattr(evaluation, "median_candidates", lambda windows, **_: windows)
    scores = evaluate(detector, prepared, detector.workdir, rule="fixed", tune=True)
    ((frames, reference, windows, options),) = calls
    assert options["filenames"] == [f"{i}.wav" for i in held]
    assert reference == [strong.reference[i] for i in held]
    assert windows == {"Cat": [5], "Dog": [5]}
    gated = np.array(held) / 16
    np.testing.assert_allclose(frames[:, 19, 1], np.where(gated > 0.5, gated, 0))
    assert scores["info"]["thresholds"] == [0.2, 0.95]
    # Cats above 0.2, dogs above 0.95.
    assert read_events(detector.workdir.split("validation").events).events == [FAINT]


@pytest.mark.parametrize(("gate", "medians"), [(True, 1), (False, 3)])
def test_thresholds_are_tuned_as_events_are_decoded_afterwards(
    tmp_path, monkeypatch, gate, medians
):
    """With the gate and the medians of the config, at the frame rate of the posteriors."""
    strong = numbered(10, scale=16)
    prepared = make_prepared(synthetic=strong, validation=validation_clips())
    changes = {"postprocess.gate": gate, "postprocess.medians": medians}
    detector = make_detector(tmp_path, stride=2, **changes)
    calls = []

    def spy(frames, times, reference, candidates, **options):
        silent = [name for name, own in zip(options["filenames"], frames, strict=True)
                  if not own.any()]  # fmt: skip
        calls.append((silent, times[0][1], candidates["Dog"]))
        return dict.fromkeys(("Cat", "Dog"), SimpleNamespace(threshold=0.5))

    monkeypatch.setattr(evaluation, "tune_classes", spy)
    monkeypatch.setattr(evaluation, "median_candidates", lambda _, medians: medians)
    evaluate(detector, prepared, detector.workdir, tune=True)
    # Clip i has the tag i / 16, or none at all.
    silent = [f"{i}.wav" for i in held_by(0 + 2) if i == 0 or (gate and i <= 8)]
    assert calls == [(silent, 1 / 30, medians)]


def test_a_decoder_file_is_used_and_told(tmp_path):
    """At the frame rate of the posteriors: windows of 0.05 s are 3 frames, of 0.08 s 5."""
    tuned = TunedDecoder(
        "median",
        1,
        {"Dog": {"threshold": 0.95, "window": 0.05}, "Cat": {"threshold": 0.25, "window": 0.08}},
        {"clips": 7, "reference": "v.tsv"},
    )
    detector = make_detector(tmp_path)
    prepared = make_prepared(validation=validation_clips())
    before = evaluate(detector, prepared, detector.workdir)["info"]
    info = evaluate(detector, prepared, detector.workdir, tuned=tuned)["info"]
    assert read_events(detector.workdir.split("validation").events).events == [FAINT]
    assert info["decoder_file"] == {
        "decoder": "median",
        "medians": 1,
        "classes": {
            "Dog": {"threshold": 0.95, "window": 0.05},
            "Cat": {"threshold": 0.25, "window": 0.08},
        },
    }
    assert info["postprocess"] == "decoder file" and info["windows"] is None
    assert info["decoder_tuned"] == {"reference": "v.tsv", "metric": None}
    assert "decoder_file" not in before and before["windows"] == [1, 1]


def test_change_points_are_told_without_windows(tmp_path):
    detector = make_detector(tmp_path, **{"postprocess.decoder": "change_points"})
    prepared = make_prepared(validation=validation_clips())
    info = evaluate(detector, prepared, detector.workdir)["info"]
    assert (info["decoder"], info["postprocess"]) == ("change_points", "change points")
    assert info["windows"] is None and info["medians"] is None


def test_thresholds_are_tuned_for_the_median_decoder_alone(tmp_path):
    detector = make_detector(tmp_path)
    prepared = make_prepared(validation=validation_clips())
    with pytest.raises(InputError, match="tuned for the median decoder"):
        evaluate(detector, prepared, detector.workdir, tune=True, decode=lambda *_: [])


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_adaptive_weights_are_of_what_the_seed_held_out(tmp_path, tau):
    prepared = make_prepared(weak=numbered(10, 16), synthetic=numbered(10, 32))
    changes = {"num_seeds": 2, "loss.tau": tau, "loss.gamma": 2.0, "loss.focal_form": "paper"}
    meta = {"clips": {"weak": 8, "strong": 8}}
    detector = make_detector(tmp_path, k=1, meta=meta, **changes)
    write_adaptive_weights(detector, prepared, detector.workdir)
    found = json.loads(detector.workdir.weights.read_text())
    assert found["clips"] == {"weak": 2, "strong": 2}
    assert (found["epoch"], found["step"]) == (2, 20)
    levels = np.concatenate([np.array(held_by(0 + 1)) / 16, np.array(held_by(0 + 1 + 2)) / 32])
    # Cats are in all clips, dogs in none.
    p = np.stack([levels, 1 - levels])
    np.testing.assert_allclose(found["probability"], p.sum(1))
    np.testing.assert_allclose(found["weight"], (1 - p**2).sum(1), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "clips"),
    [
        ({"loss.tau": -1.0}, {"weak": 8, "strong": 8}),  # without the adaptive focal loss
        ({"loss.tau": 1.0}, {"weak": 9, "strong": 8}),  # of other data
        ({"loss.tau": 1.0, "evaluation.holdout": 0.0}, {"weak": 10, "strong": 10}),
    ],
)
def test_there_may_be_no_adaptive_weights_to_write(tmp_path, changes, clips):
    prepared = make_prepared(weak=numbered(10, 16), synthetic=numbered(10, 32))
    detector = make_detector(tmp_path, meta={"clips": clips}, **changes)
    write_adaptive_weights(detector, prepared, detector.workdir)
    assert not detector.workdir.weights.exists()
