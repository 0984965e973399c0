"""Scores against published ones, sed_eval itself and hand-worked values."""

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.sed import score_text, scoring, tables, uncertainty
from jfsed_jax.sed.events import Event

SOUND_EVENT, _ = scoring.load_sed_eval()
DESED = Path(__file__).parents[3] / "shared/data/reference/desed_validation"
needs_desed = pytest.mark.skipif(not DESED.exists(), reason=f"no reference predictions: {DESED}")
CLASSES = ("Cat", "Dog", "Speech")
CLIPS = ("a.wav", "b.wav", "c.wav")


def sed_eval_results(reference, estimates):
    """sed_eval the way the official baseline calls it: one file after the other."""
    labels = list(CLASSES)
    metrics = {
        "event_f1": SOUND_EVENT.EventBasedMetrics(
            event_label_list=labels,
            t_collar=0.2,
            percentage_of_length=0.2,
            empty_system_output_handling="zero_score",
        ),
        "segment_f1": SOUND_EVENT.SegmentBasedMetrics(event_label_list=labels, time_resolution=1.0),
    }
    for name in CLIPS:
        of_clip = [
            [e._asdict() for e in events if e.filename == name] for events in (reference, estimates)
        ]
        for metric in metrics.values():
            metric.evaluate(*of_clip)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: metric.results() for name, metric in metrics.items()}


def same(ours, theirs):
    return np.isnan(theirs) if ours is None else ours == 100 * theirs


# Times on a 0.1 s grid, so that events sit exactly on the collars; shares of the length too.
EVENTS = st.lists(
    st.builds(
        lambda name, onset, length, label: Event(name, onset / 10, (onset + length) / 10, label),
        st.sampled_from(CLIPS),
        st.integers(0, 30),
        st.integers(1, 30),
        st.sampled_from(CLASSES),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS, EVENTS, st.sampled_from([0.0, 0.1, 0.2, 0.3, -0.2]))
def test_scores_are_those_of_sed_eval(reference, estimates, shift):
    # Shifted copies of the reference make matches, near misses and overlaps common.
    estimates = estimates + [
        e._replace(onset=max(0.0, e.onset + shift), offset=e.offset + shift)
        for e in reference
        if max(0.0, e.onset + shift) < e.offset + shift
    ]
    scores, counts = scoring.score_clips(reference, estimates, filenames=CLIPS, classes=CLASSES)
    theirs = sed_eval_results(reference, estimates)
    for name, result in theirs.items():
        entry = scores[name]
        for key, ours in (("f_measure", entry), *((k, entry[k]) for k in ("precision", "recall"))):
            assert same(ours["macro"], result["class_wise_average"]["f_measure"][key])
            assert same(ours["micro"], result["overall"]["f_measure"][key])
            for label in CLASSES:
                assert same(ours["classwise"][label], result["class_wise"][label]["f_measure"][key])
        for label in CLASSES:
            count = result["class_wise"][label]["count"]
            assert entry["counts"][label]["reference"] == count["Nref"]
            assert entry["counts"][label]["estimated"] == count["Nsys"]
            if count["Nref"]:
                rate = result["class_wise"][label]["error_rate"]["error_rate"]
                assert entry["error_rate"]["classwise"][label] == rate
        if reference:
            assert entry["error_rate"]["micro"] == result["overall"]["error_rate"]["error_rate"]
    json.dumps(scores, allow_nan=False)
    sampled = uncertainty.compare_systems({"": [counts]}, classes=CLASSES, num_resamples=0)[""]
    for name in counts:
        values = {average: scores[name][average] for average in ("macro", "micro")}
        values |= {f"classwise/{label}": v for label, v in scores[name]["classwise"].items()}
        for key, value in values.items():
            assert sampled.pop(f"{name}/{key}").value == pytest.approx(value, abs=1e-9)
    assert not sampled


def test_collar_edges_by_hand():
    reference = [Event("a.wav", 1.0, 3.0, "Dog")]

    def f1(onset, offset):
        estimates = [Event("a.wav", onset, offset, "Dog")]
        return scoring.score(reference, estimates, filenames=CLIPS, classes=["Dog"])["event_f1"][
            "micro"
        ]

    assert f1(0.8, 3.0) == 100  # 1.0 - 0.8 is 0.19999999999999996
    assert f1(1.2, 3.0) == 100  # 0.19999999999999996 again
    assert f1(1.21, 3.0) == 0
    assert f1(1.0, 3.4) == 100  # 20 % of 2 s: 0.3999999999999999 <= 0.4
    assert f1(1.0, 3.41) == 0


def test_a_file_by_hand():
    reference = [
        Event("a.wav", 0.0, 1.0, "Dog"),
        Event("a.wav", 5.0, 6.0, "Dog"),
        Event("b.wav", 0.0, 10.0, "Cat"),
    ]
    estimates = [
        Event("a.wav", 0.1, 1.1, "Dog"),  # matched
        Event("b.wav", 2.0, 10.0, "Cat"),  # onset off
        Event("c.wav", 0.0, 1.0, "Cat"),  # nothing there
    ]
    scores = scoring.score(reference, estimates, filenames=CLIPS, classes=CLASSES)
    event, segment, tags = (scores[k] for k in ("event_f1", "segment_f1", "at_f1_events"))
    assert event["classwise"] == {"Cat": 0.0, "Dog": pytest.approx(200 / 3), "Speech": None}
    assert event["macro"] == pytest.approx(100 / 3)
    assert event["counts"]["Dog"] == {"reference": 2, "estimated": 1, "matched": 1}
    assert event["precision"]["micro"] == event["recall"]["micro"] == pytest.approx(100 / 3)
    assert "Speech (no reference)" in event["notes"][0]
    # Dog: segments 0 and 5, estimated 0 and 1; Cat: ten segments, eight found, one invented.
    assert segment["classwise"]["Dog"] == pytest.approx(50)
    assert segment["classwise"]["Cat"] == pytest.approx(100 * 16 / 19)
    assert tags["classwise"] == {"Cat": pytest.approx(200 / 3), "Dog": 100.0, "Speech": 0.0}
    assert tags["macro"] == pytest.approx(100 * 5 / 9)
    assert tags["micro"] == pytest.approx(80)
    assert "at_f1" not in scores


def test_tags_of_the_clip_head():
    reference = [Event("a.wav", 0.0, 1.0, "Dog"), Event("b.wav", 0.0, 1.0, "Cat")]
    kwargs = {"filenames": CLIPS, "classes": CLASSES}
    named = {"a.wav": ["Dog", "Cat"], "b.wav": ["Cat"], "c.wav": []}
    matrix = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    for tags in (named, matrix):
        scores, counts = scoring.score_clips(reference, [], tags=tags, **kwargs)
        assert scores["at_f1"]["classwise"] == {
            "Cat": pytest.approx(200 / 3),
            "Dog": 100.0,
            "Speech": 0.0,
        }
        assert counts["at_f1"].shape == (3, 3, 3)
    with pytest.raises(InputError, match="no tags for the clip 'b.wav'"):
        scoring.score(reference, [], tags={"a.wav": []}, **kwargs)


def test_labels_that_dcase_util_would_drop():
    events = [Event("a.wav", 0.0, 1.0, "none"), Event("a.wav", 2.0, 3.0, " padded ")]
    scores = scoring.score(events, events, filenames=["a.wav"], classes=["none", " padded "])
    assert scores["event_f1"]["micro"] == scores["segment_f1"]["micro"] == 100


SCORES = """
from jfsed_jax.sed import events, scoring
dog = [events.Event("a.wav", 0.0, 1.0, "Dog")]
print(scoring.score(dog, dog, filenames=["a.wav"], classes=["Dog"])["event_f1"]["macro"])
"""
WITHOUT_PKG_RESOURCES = f"""
import sys
import types

def find_spec(name, path=None, target=None):
    if name == "pkg_resources":
        raise ModuleNotFoundError(f"No module named {{name!r}}")

sys.meta_path.insert(0, types.SimpleNamespace(find_spec=find_spec))
{SCORES}
assert "pkg_resources" not in sys.modules
"""


def test_scores_need_no_pkg_resources():
    """Which dcase_util imports, and setuptools 81 dropped."""
    command = [sys.executable, "-c", WITHOUT_PKG_RESOURCES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "100.0\n"), done.stderr


def test_what_an_old_setuptools_warns_of_is_kept_from_users(tmp_path):
    (tmp_path / "pkg_resources.py").write_text("import warnings; warnings.warn('deprecated')")
    command = [sys.executable, "-W", "error", "-c", SCORES]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "100.0\n"), done.stderr


def test_unknown_clips_and_labels_are_named():
    good = Event("a.wav", 0.0, 1.0, "Dog")
    with pytest.raises(InputError, match="clip 'd.wav' is not among the 3"):
        scoring.score([], [good._replace(filename="d.wav")], filenames=CLIPS, classes=CLASSES)
    with pytest.raises(InputError, match="label 'Cow' is not one of Cat, Dog, Speech"):
        scoring.score([good._replace(event_label="Cow")], [], filenames=CLIPS, classes=CLASSES)


def test_bootstrap_of_equal_clips_has_no_spread_and_is_seeded():
    clips = [f"{n}.wav" for n in range(12)]
    reference = [Event(name, 0.0, 1.0, "Dog") for name in clips]
    _, counts = scoring.score_clips(reference, reference, filenames=clips, classes=["Dog"])
    assert uncertainty.intervals([counts], num_resamples=50)["event_f1/macro"] == (100.0, 100.0)
    _, half = scoring.score_clips(reference, reference[:6], filenames=clips, classes=["Dog"])
    first, again = (uncertainty.sample_scores([half], num_resamples=300, seed=3) for _ in range(2))
    key = "at_f1_events/micro"
    np.testing.assert_array_equal(first[key].samples, again[key].samples)
    assert set(first) == {f"{n}/{a}" for n in half for a in ("macro", "micro")}
    systems = {"half": [half], "all": [counts]}
    compared = uncertainty.compare_systems(systems, num_resamples=300)["all"]
    found = compared["event_f1/micro"].against_first
    assert found.difference == pytest.approx(100 / 3)
    assert found.interval[0] > 0 and found.share_better == 1


def test_bootstrap_spread_is_that_of_the_mean_of_independent_clips():
    # One event a clip and one guess a clip: F1 is the share of clips that are right, a binomial.
    rng = np.random.default_rng(0)
    right = rng.uniform(size=400) < 0.3
    counts = {"event_f1": np.stack([np.ones(400), np.ones(400), right], -1)[:, None]}
    samples = uncertainty.sample_scores([counts], num_resamples=2000)["event_f1/micro"].samples
    share = right.mean()
    assert samples.std() == pytest.approx(100 * np.sqrt(share * (1 - share) / 400), rel=0.1)


@needs_desed
def test_published_predictions_score_as_published(capsys, tmp_path):
    out = tmp_path / "scores.json"
    code = cli.main(
        [
            "score",
            f"--reference={DESED / 'validation.tsv'}",
            f"--json={out}",
            f"--estimates={DESED / 'student_predictions_0.5.csv'}",
            "--bootstrap=200",
            f"--durations={DESED / 'validation_durations.tsv'}",
        ]
    )
    assert code == 0
    scores = json.loads(out.read_text())
    assert scores["info"]["num_clips"] == 1168
    assert round(scores["event_f1"]["macro"], 4) == 39.8728
    assert round(scores["event_f1"]["micro"], 4) == 40.9501
    assert round(scores["segment_f1"]["macro"], 4) == 69.3526
    assert round(scores["segment_f1"]["micro"], 4) == 75.4658
    # 75.4783; published as 75.4780, which is the mean of class scores rounded to 0.01 percent.
    classwise = scores["at_f1_events"]["classwise"].values()
    assert round(scores["at_f1_events"]["macro"], 4) == 75.4783
    assert round(np.mean(np.round(list(classwise), 2)), 4) == 75.4780
    low, high = scores["intervals"]["event_f1/macro"]
    assert 36 < low < 39.8728 < high < 44
    printed = capsys.readouterr().out
    assert "39.8728" in printed and "Running_water" in printed


def test_a_system_that_finds_nothing(capsys, tmp_path):
    reference, nothing = tmp_path / "r.tsv", tmp_path / "e.tsv"
    tables.write_events(reference, [Event("a.wav", 0.0, 1.0, "Dog")])
    tables.write_events(nothing, [])
    out = tmp_path / "s.json"
    command = ["score", f"--reference={reference}", f"--json={out}", "--bootstrap=100"]
    assert cli.main([*command, f"--estimates={nothing}", f"--compare={reference}"]) == 0
    assert "undefined for Dog" in capsys.readouterr().out
    scores = json.loads(out.read_text())
    assert scores["event_f1"]["macro"] == scores["at_f1_events"]["macro"] == 0
    assert scores["segment_f1"]["macro"] is None
    assert scores["intervals"]["segment_f1/macro"] is None
    assert scores["differences"]["event_f1/macro"]["difference"] == 100
    assert scores["differences"]["segment_f1/macro"]["difference"] is None
    assert cli.main(["score", f"--reference={nothing}", f"--estimates={nothing}"]) == 2
    assert "has no events; name the labels with --classes" in capsys.readouterr().err


def test_score_command_compares_and_names_bad_input(capsys, tmp_path):
    reference = tmp_path / "r.tsv"
    events = [Event("a.wav", 0.0, 1.0, "Dog"), Event("b.wav", 0.0, 1.0, "Dog")]
    tables.write_events(reference, events, filenames=["c.wav"])
    worse = tmp_path / "worse.tsv"
    tables.write_events(worse, events[:1])
    command = ["score", f"--reference={reference}", f"--estimates={worse}"]
    assert cli.main([*command, f"--compare={reference}"]) == 0
    assert f"{reference} minus {worse}" in capsys.readouterr().out

    durations = tmp_path / "d.tsv"
    tables.write_table(durations, ["filename", "duration"], [["d.wav", 10], ["a.wav", 10]])
    tables.write_events(worse, [Event("d.wav", 0.0, 1.0, "Dog")])
    assert cli.main([*command, f"--durations={durations}"]) == 0
    assert capsys.readouterr().out.startswith("4 clips")
    assert cli.main(command) == 2
    assert f"{worse}, row 2: the clip 'd.wav' is not among the 3" in capsys.readouterr().err
    for arguments, message in [
        (command[:2], "--estimates, --scores or --operating_points is missing"),
        ([*command, "--bootstrap=-1"], "bootstrap"),
        ([*command, "--nonsense=1"], "nonsense"),
        ([*command, "stray"], "unexpected argument 'stray'"),
        ([*command[:2], "--estimates=none.tsv"], "none.tsv cannot be read"),
        ([*command, "--classes=Cat"], "the label 'Dog' is not one of Cat"),
    ]:
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_precision_and_recall_of_tags_by_hand():
    # Dog: 1 of the 2 that are said is right, and 1 of 1 is found. Cat: 0 of 0, and 0 of 2.
    reference = np.array([[0, 1], [1, 0], [1, 0]], bool)
    estimated = np.array([[0, 1], [0, 1], [0, 0]], bool)
    entry = scoring.tagging_scores(reference, estimated, ["Cat", "Dog"])
    assert entry["precision"]["classwise"] == {"Cat": 0.0, "Dog": 50.0}
    assert entry["recall"]["classwise"] == {"Cat": 0.0, "Dog": 100.0}
    assert entry["precision"]["micro"] == 50 and entry["recall"]["micro"] == pytest.approx(100 / 3)


def test_a_system_is_not_ahead_of_itself():
    reference = [Event(name, 0.0, 1.0, "Dog") for name in CLIPS]
    _, counts = scoring.score_clips(reference, reference[:1], filenames=CLIPS, classes=["Dog"])
    found = uncertainty.compare_systems({"a": [counts], "b": [counts]}, num_resamples=50)["b"]
    assert found["event_f1/macro"].against_first == (0.0, None, 0.0)


def test_differences_as_text():
    differences = {
        "event_f1/macro": uncertainty.Difference(1.25, (0.5, 2.0), 0.9875),
        "event_f1/classwise/Dog": uncertainty.Difference(1.0, (0.5, 2.0), 1.0),
        "at_f1/micro": uncertainty.Difference(-0.5, (-1.0, 0.0), 0.02),
        "at_f1/macro": uncertainty.Difference(-0.5, None, None),
        "segment_f1/micro": uncertainty.Difference(0.5, (-1.0, 2.0), None),
        "segment_f1/macro": uncertainty.Difference(None, None, None),
    }
    assert score_text.format_differences(differences).splitlines() == [
        "Event-F1           macro   +1.2500   95 % interval +0.50 to +2.00, ahead in 98.8 % of "
        "resamples: told from noise",
        "AT-F1 (clip head)  micro   -0.5000   95 % interval -1.00 to +0.00, ahead in 2.0 % of "
        "resamples: not told from noise",
        "AT-F1 (clip head)  macro   -0.5000   no interval",
        "Segment-F1         micro   +0.5000   95 % interval -1.00 to +2.00: not told from noise",
        "Segment-F1         macro  undefined",
    ]


def test_seeds_as_text():
    summary = {
        "info": {},
        "at_f1_events": {"macro": {"mean": None, "std": None, "values": [None, 50.0]}},
        "event_f1": {"macro": {"mean": 43.0, "std": 3.6056, "values": [40.0, 42.0, 47.0]}},
    }
    assert score_text.format_seeds(summary).splitlines() == [
        "Event-F1           macro  mean  43.00   deviation  3.61   of 40.00, 42.00, 47.00",
        "AT-F1 (events)     macro  mean      -   deviation     -   of -, 50.00",
    ]


def test_mean_and_sample_standard_deviation():
    # 40, 42, 47: mean 43, squared deviations 9 + 1 + 16 over n - 1 = 2.
    assert uncertainty.mean_std([40.0, 42.0, 47.0]) == (43.0, pytest.approx(math.sqrt(13)))
    assert uncertainty.mean_std([40.0]) == (40.0, None)
    assert uncertainty.mean_std([]) == (None, None)


def test_scores_as_text():
    """Of three dogs one is found, one half a second late, one not; all by hand."""
    cat = Event("b.wav", 2, 5, "Cat")
    dogs = [Event("a.wav", onset, onset + 1, "Dog") for onset in (0, 3, 6)]
    found = [cat, dogs[0], Event("a.wav", 3.5, 4, "Dog")]
    scores = scoring.score(
        [*dogs, cat], found, filenames=["a.wav", "b.wav"], classes=["Cat", "Dog"]
    )
    assert score_text.format_scores(scores).splitlines() == [
        "Event-F1           macro   70.0000   precision  75.00   recall  66.67   error rate 0.500",
        "Event-F1           micro   57.1429   precision  66.67   recall  50.00   error rate 0.750",
        "Segment-F1         macro   90.0000   precision 100.00   recall  83.33   error rate 0.167",
        "Segment-F1         micro   90.9091   precision 100.00   recall  83.33   error rate 0.167",
        "AT-F1 (events)     macro  100.0000   precision 100.00   recall 100.00",
        "AT-F1 (events)     micro  100.0000   precision 100.00   recall 100.00",
        "",
        "     -- events (200 ms) -------------------------------  -- 1 s segments --     AT",
        "class      F1   prec    rec    err    ref    est      F1   prec    rec     F1",
        "Cat  100.00 100.00 100.00   0.00      1      1  100.00 100.00 100.00 100.00",
        "Dog   40.00  50.00  33.33   1.00      3      2   80.00 100.00  66.67 100.00",
    ]
