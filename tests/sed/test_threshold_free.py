"""Scores over all thresholds, against sed_scores_eval itself (extra `psds`)."""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.sed import predictions, score_files, tables, threshold_free
from jfsed_jax.sed.events import Event, merge_overlaps
from jfsed_jax.sed.threshold_steps import GRID, Scenario

DESED = Path(__file__).parents[3] / "shared/data/reference/desed_validation"
needs_desed = pytest.mark.skipif(not DESED.exists(), reason=f"no reference predictions: {DESED}")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sed_scores_eval") is None, reason="the extra psds is not installed"
)
CLASSES = ("Cat", "Cow", "Dog")
# Together most of an hour, so that a false alarm is one of many that count.
DURATIONS = {"b.wav": 1000.0, "a.wav": 750.0, "c.wav": 420.0, "d.wav": 1000.0}
REFERENCE = [
    Event("a.wav", 100.0, 300.0, "Cat"),
    Event("a.wav", 200.0, 400.0, "Cat"),  # overlaps: joined
    Event("a.wav", 480.0, 620.0, "Cat"),
    Event("b.wav", 500.0, 600.0, "Dog"),
    Event("b.wav", 740.0, 900.0, "Cat"),
    Event("c.wav", 60.0, 400.0, "Dog"),
]
RATE = 0.05  # frames per second


def make_frames(reference, durations, classes, rate=RATE, seed=3, lean=0.7):
    """Posteriors of clips that lean towards their events: <float32>[T, C] each, with ties."""
    rng = np.random.default_rng(seed)
    frames = []
    for name, seconds in durations.items():
        values = rng.uniform(size=(round(seconds * rate), len(classes)))
        for event in reference:
            if event.filename == name:
                part = slice(round(event.onset * rate), round(event.offset * rate))
                values[part, classes.index(event.event_label)] += lean
        frames.append(np.minimum(values / 1.7, 1).round(2))
    return frames


def write(folder, frames, durations=DURATIONS, classes=CLASSES, rate=RATE):
    score_files.write_score_files(
        folder, frames, filenames=list(durations), classes=classes, frame_rate=rate
    )
    return score_files.read_score_files(folder)


def write_inputs(folder, reference=REFERENCE, durations=DURATIONS):
    """The tables of a scoring; its score files are in `scores`."""
    predictions.write_predictions(folder / "r.tsv", reference, filenames=list(durations))
    tables.write_table(folder / "d.tsv", ["filename", "duration"], list(durations.items()))


def own_scores(
    folder, reference, durations, labels, filters=(0.0, 60.0), collar=0.2, share=0.2, segment=1.0
):
    """What sed_scores_eval says of a folder, a table of events and one of durations, by itself."""
    from sed_scores_eval import clip_based, collar_based, intersection_based, io, segment_based

    scores = {
        name: frame[["onset", "offset", *labels]]
        for name, frame in io.lazy_sed_scores_loader(folder).items()
    }
    truth = {name: [] for name in scores} | io.read_ground_truth_events(reference)
    seconds = io.read_audio_durations(durations)
    tags = {name: {label for *_, label in events} for name, events in truth.items()}
    given = {"scores": scores, "ground_truth": truth}
    timed = {**given, "audio_durations": seconds}
    one = {"dtc_threshold": 0.7, "gtc_threshold": 0.7, "alpha_st": 1.0}
    two = {"dtc_threshold": 0.1, "gtc_threshold": 0.1, "cttc_threshold": 0.3}
    two |= {"alpha_ct": 0.5, "alpha_st": 1.0}
    half = {"dtc_threshold": 0.5, "gtc_threshold": 0.5}
    collars = {"onset_collar": collar, "offset_collar": collar, "offset_collar_rate": share}
    independent = intersection_based.median_filter_independent_psds
    lengths = {"median_filter_lengths_in_sec": filters}
    found = {
        "psds1": intersection_based.psds(**timed, **one)[:2],
        "psds2": intersection_based.psds(**timed, **two)[:2],
        "pi_psds1": independent(**timed, **one, **lengths)[:2],
        "pi_psds2": independent(**timed, **two, **lengths)[:2],
        "segment_ap": segment_based.average_precision(**timed, segment_length=segment),
        "clip_ap": clip_based.average_precision(scores, tags),
        "best_event_f1": collar_based.best_fscore(**given, **collars),
        "best_intersection_f1": intersection_based.best_fscore(**given, **half),
    }
    totals = {"_ap": "mean", "_f1": "macro_average"}
    return {
        name: (
            (value, classwise)
            if "psds" in name
            else (value[totals[name[-3:]]], {label: value[label] for label in labels})
        )
        for name, (value, classwise, *_) in found.items()
    }


def check_against_own(result, expected, labels, tolerance):
    for name, (value, classwise) in expected.items():
        scale = 100 if name.endswith("_f1") else 1
        assert result[name]["value"] == pytest.approx(scale * value, abs=scale * tolerance), name
        for label in labels:
            found = result[name]["classwise"][label]
            assert found == pytest.approx(scale * classwise[label], abs=scale * tolerance), name


def test_equals_sed_scores_eval_on_the_same_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    durations = {f"{b}.wav": float(rng.integers(90, 200)) for b in range(24)}
    events = [
        Event(name, start, start + rng.uniform(4, 60), ("Cat", "Dog")[rng.integers(2)])
        for name, seconds in durations.items()
        for start in rng.uniform(0, seconds - 60, size=2).round(1).tolist()
    ]
    write(
        "scores", make_frames(events, durations, CLASSES, rate=0.2, lean=0.2), durations, rate=0.2
    )
    write_inputs(tmp_path, merge_overlaps(events), durations)
    command = ["score", "--reference=r.tsv", "--durations=d.tsv", "--scores=scores"]
    assert cli.main([*command, "--classes=Cat,Cow,Dog", "--filters=0,60", "--json=s.json"]) == 0
    result = json.loads(Path("s.json").read_text())["threshold_free"]
    labels = ["Cat", "Dog"]
    expected = own_scores("scores", "r.tsv", "d.tsv", labels)
    check_against_own(result, expected, labels, 1e-9)
    assert {name for name in result if name != "folder"} == {*expected, "collar_psds"}
    assert all(result[name]["classwise"]["Cow"] is None for name in expected)
    # With other collars and segments, and intervals that another seed moves.
    expected = own_scores("scores", "r.tsv", "d.tsv", labels, collar=9.0, share=0.1, segment=7.0)
    expected = {name: value for name, value in expected.items() if name[:2] != "pi"}
    command += ["--collar=9", "--offset_share=0.1", "--segment=7"]
    seeded = []
    for seed in (0, 1):
        flags = [f"--seed={seed}", "--bootstrap=100", "--json=s.json"]
        assert cli.main([*command, *flags]) == 0
        seeded.append(json.loads(Path("s.json").read_text())["threshold_free"])
    check_against_own(seeded[0], expected, labels, 1e-9)
    assert seeded[0]["best_event_f1"]["value"] > result["best_event_f1"]["value"]
    for name in expected:
        assert seeded[0][name]["interval"] != seeded[1][name]["interval"], name


@needs_desed
def test_equals_sed_scores_eval_on_the_reference_predictions(tmp_path, monkeypatch, capsys):
    """Of score files made of its operating points, whose published PSDS are psds_eval's."""
    monkeypatch.chdir(tmp_path)
    inputs = [f"{DESED / name}" for name in ("validation.tsv", "validation_durations.tsv")]
    labels = write_posteriors_of_points("scores")
    command = ["score", f"--reference={inputs[0]}", f"--durations={inputs[1]}", "--scores=scores"]
    assert cli.main([*command, "--bootstrap=100", "--filters=0.5", "--json=s.json"]) == 0
    result = json.loads(Path("s.json").read_text())["threshold_free"]
    check_against_own(result, own_scores("scores", *inputs, labels, filters=[0.5]), labels, 1e-6)
    # psds_eval 0.5.3 decides a few events on the edge of a criterion differently.
    assert result["psds1"]["value"] == pytest.approx(0.334469, abs=5e-5)
    assert result["psds2"]["value"] == pytest.approx(0.528100, abs=5e-5)
    for entry in (result["psds1"], result["segment_ap"], result["best_event_f1"]):
        low, high = entry["interval"]
        assert low < high and low / entry["value"] > 0.9 and high / entry["value"] < 1.1
    assert "PSDS 1" in capsys.readouterr().out


def write_posteriors_of_points(folder):
    """Score files: a posterior is the highest threshold that has the class at that time."""
    durations = tables.read_durations(DESED / "validation_durations.tsv")
    steps: dict[str, list] = {name: [] for name in durations}
    for path in sorted((DESED / "student_operating_points").glob("*.tsv")):
        for event in tables.read_events(path).events:
            steps[event.filename].append((float(path.stem.removeprefix("predictions_th_")), event))
    labels = sorted({event.event_label for found in steps.values() for _, event in found})
    for name, duration in durations.items():
        events = [event for _, event in steps[name]]
        edges = np.unique([0.0, duration, *(t for e in events for t in (e.onset, e.offset))])
        values = np.zeros((len(edges) - 1, len(labels)))
        for threshold, event in steps[name]:  # ascending thresholds
            start, stop = np.searchsorted(edges, [event.onset, event.offset])
            values[start:stop, labels.index(event.event_label)] = threshold
        path = Path(folder) / f"{score_files.clip_name(name)}.tsv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, delimiter="\t", lineterminator="\n")
            rows.writerow(["onset", "offset", *labels])
            rows.writerows(np.column_stack([edges[:-1], edges[1:], values]).tolist())
    return labels


def test_a_resample_is_scored_as_its_clips_would_be(tmp_path, monkeypatch):
    """Every score of one draw, against the score of a folder in which the drawn clips lie."""
    frames = make_frames(REFERENCE, DURATIONS, CLASSES)
    files = write(tmp_path / "all", frames)
    draw = np.array([[1.0, 0.0, 2.0, 3.0], [0.0, 2.0, 2.0, 0.0], [0.0, 2.0, 0.0, 1.0]])  # no dogs
    for module in ("threshold_free", "uncertainty"):
        monkeypatch.setattr(
            f"jfsed_jax.sed.{module}.draw_clips",
            lambda _, *, num_resamples, seed: [draw] if num_resamples else [],
        )
    criteria = threshold_free.Criteria(
        scenario=Scenario(dtc=0.3, gtc=0.3, alpha_ct=1.0, alpha_st=0.5), filters=(60.0, 0.0)
    )
    options = {"criteria": criteria, "num_resamples": 3}
    resampled = threshold_free.free_scores(files, REFERENCE, DURATIONS, **options)
    for i, times in enumerate(draw):
        copies = [
            (f"{name[0]}{k}.wav", name, values)
            for name, values, count in zip(DURATIONS, frames, times, strict=True)
            for k in range(int(count))
        ]
        durations = {copy: DURATIONS[name] for copy, name, _ in copies}
        reference = [
            event._replace(filename=copy)
            for copy, name, _ in copies
            for event in REFERENCE
            if event.filename == name
        ]
        folder = tmp_path / f"drawn{i}"
        drawn = write(folder, [values for *_, values in copies], durations)
        options["num_resamples"] = 0
        expected = threshold_free.free_scores(drawn, reference, durations, **options)
        for name, score in resampled.items():
            if score.thresholds:  # stay those of all clips
                continue
            found = score.overall.samples[i]
            assert found == pytest.approx(expected[name].overall.value, abs=1 / GRID), name
            for label, of in expected[name].classwise.items():
                own = score.classwise[label]
                if of is not None:
                    assert own.samples[i] == pytest.approx(of.value, abs=1 / GRID), name


def test_scores_of_all_clips_but_one(tmp_path):
    """Which intervals of few clips are widened by."""
    frames = make_frames(REFERENCE, DURATIONS, CLASSES)
    files = write(tmp_path / "all", frames)
    found = threshold_free.free_scores(files, REFERENCE, DURATIONS, num_resamples=4)
    for b, left_out in enumerate(DURATIONS):
        durations = {name: s for name, s in DURATIONS.items() if name != left_out}
        reference = [event for event in REFERENCE if event.filename != left_out]
        others = write(tmp_path / left_out, [f for i, f in enumerate(frames) if i != b], durations)
        expected = threshold_free.free_scores(others, reference, durations)
        for name in ("psds2", "segment_ap"):
            value = expected[name].overall.value
            assert found[name].overall.left_out[b] == pytest.approx(value, abs=1 / GRID), name
            assert found[name].overall.samples.shape == (4,)


def test_psds_of_perfect_and_of_useless_scores(tmp_path):
    perfect = [np.zeros((round(RATE * seconds), 3)) for seconds in DURATIONS.values()]
    for event in REFERENCE:
        part = slice(round(RATE * event.onset), round(RATE * event.offset))
        perfect[list(DURATIONS).index(event.filename)][part, CLASSES.index(event.event_label)] = 1.0
    for frames, expected in ((perfect, 1.0), ([np.zeros_like(values) for values in perfect], 0.0)):
        found = threshold_free.free_scores(write(tmp_path, frames), REFERENCE, DURATIONS)
        for name in ("psds1", "collar_psds", "best_event_f1"):
            scale = 100 if name.endswith("_f1") else 1
            assert found[name].overall.value == pytest.approx(scale * expected, abs=1e-9), name
        # Posteriors that are all equal list every clip at once: half of them have the class.
        assert found["clip_ap"].overall.value == pytest.approx((1 + expected) / 2)
        assert (found["best_event_f1"].thresholds["Cat"] is None) == (expected == 0)
    files = score_files.read_score_files(tmp_path)
    with pytest.raises(InputError, match="the clip 'e' has no score file"):
        threshold_free.free_scores(files, REFERENCE, {**DURATIONS, "e.wav": 10.0})
    with pytest.raises(InputError, match="no column for the class 'Cat'"):
        threshold_free.free_scores(
            write(tmp_path, [f[:, 1:] for f in perfect], classes=CLASSES[1:]), REFERENCE, DURATIONS
        )


@pytest.mark.parametrize(
    "reference", [REFERENCE[3:4], [*REFERENCE[:1], Event("c.wav", 500.0, 600.0, "Dog")]]
)
def test_one_class_and_a_class_whose_event_lies_past_its_clip(reference, tmp_path):
    files = write(tmp_path, make_frames(REFERENCE, DURATIONS, CLASSES))
    found = threshold_free.free_scores(files, reference, DURATIONS, num_resamples=40)
    for score in found.values():
        assert 0 <= score.overall.value <= 100
        assert score.overall.samples.shape == (40,)
        assert set(score.classwise) == set(CLASSES) and score.classwise["Cow"] is None
    past = found["segment_ap"].classwise["Dog"]
    assert (past is None) == (len(reference) == 2) and found["clip_ap"].classwise["Dog"] is not None


def test_of_one_clip_every_resample_is_that_clip(tmp_path):
    durations = {"b.wav": 1000.0}
    reference = [event for event in REFERENCE if event.filename == "b.wav"]
    files = write(tmp_path, make_frames(REFERENCE, durations, CLASSES), durations)
    for name, score in threshold_free.free_scores(
        files, reference, durations, num_resamples=3
    ).items():
        assert score.overall.samples == pytest.approx([score.overall.value] * 3, abs=1 / GRID), name


def test_labels_that_mean_something_to_sed_scores_eval(tmp_path):
    """Its averages and separators are no labels of ours."""
    frames = make_frames(REFERENCE, DURATIONS, CLASSES)
    plain = threshold_free.free_scores(write(tmp_path / "p", frames), REFERENCE, DURATIONS)
    names = dict(zip(CLASSES, ("mean", "macro_average", "a\\b"), strict=True))
    reference = [event._replace(event_label=names[event.event_label]) for event in REFERENCE]
    files = write(tmp_path / "n", frames, classes=tuple(names.values()))
    named = threshold_free.free_scores(files, reference, DURATIONS)
    for key, score in plain.items():
        assert named[key].overall.value == score.overall.value, key
        for label, name in names.items():
            of = named[key].classwise[name]
            assert (of and of.value) == (score.classwise[label] and score.classwise[label].value)


def test_the_command_compares_two_systems_on_the_same_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write("scores", make_frames(REFERENCE, DURATIONS, CLASSES))
    write("better", make_frames(REFERENCE * 3, DURATIONS, CLASSES))
    write_inputs(tmp_path)
    predictions.write_predictions("e.tsv", REFERENCE[2:], filenames=list(DURATIONS))
    command = ["score", "--reference=r.tsv", "--durations=d.tsv", "--scores=scores"]
    more = ["--compare_scores=better", "--estimates=e.tsv", "--bootstrap=100", "--json=s.json"]
    assert cli.main([*command, *more, "--scenario=dtc=0.5,max_efpr=300"]) == 0
    result = json.loads(Path("s.json").read_text())
    out, err = capsys.readouterr()
    assert err.count("scoring: 100% 8/8") == 2
    for name, entry in result["threshold_free"].items():
        if name == "folder":
            continue
        found = result["threshold_free_differences"][name]
        other = result["compare_scores"][name]
        assert found["difference"] == pytest.approx(other["value"] - entry["value"])
        assert threshold_free.TITLES[name].text in out
    assert result["threshold_free_differences"]["psds1"]["difference"] > 0
    assert "better minus scores" in out and "PSDS, own scenario" in out
    assert "intersection_f1/macro" in result["intervals"]
    # In another order the clips are drawn as often; other post-processing is one to choose from.
    tables.write_table("d.tsv", ["filename", "duration"], sorted(DURATIONS.items()))
    turned = [*command[:-1], "--scores=better", "--processed=scores", "--bootstrap=100"]
    assert cli.main([*turned, "--json=s.json"]) == 0
    assert "scoring: 100% 9/9" in capsys.readouterr().err
    again = json.loads(Path("s.json").read_text())["threshold_free"]
    assert again["psds1"] == result["compare_scores"]["psds1"]
    assert again["pi_psds1"]["value"] == pytest.approx(result["threshold_free"]["psds1"]["value"])
    # The same system twice differs in nothing.
    assert cli.main([*command, "--compare_scores=scores", "--bootstrap=100", "--json=s.json"]) == 0
    differences = json.loads(Path("s.json").read_text())["threshold_free_differences"]
    assert all(d["difference"] == 0 for d in differences.values())
