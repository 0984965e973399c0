"""PSDS and intersection F1 through the libraries that define them (extra `psds`)."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.sed import psds, score_files, tables
from jfsed_jax.sed.events import Event

DESED = Path(__file__).parents[3] / "shared/data/reference/desed_validation"
needs_desed = pytest.mark.skipif(not DESED.exists(), reason=f"no reference predictions: {DESED}")
CLASSES = ("Cat", "Dog")
DURATIONS = {"a.wav": 10.0, "b.wav": 10.0}
REFERENCE = [
    Event("a.wav", 1.0, 3.0, "Cat"),
    Event("a.wav", 2.0, 4.0, "Cat"),  # overlaps: joined
    Event("b.wav", 5.0, 6.0, "Dog"),
]


@pytest.fixture
def sed_scores_eval():
    if importlib.util.find_spec("sed_scores_eval") is None:
        pytest.skip("the extra psds is not installed")


def test_steps_of_events():
    edges, steps = score_files.steps_of_events(REFERENCE[:2], CLASSES, duration=10.0)
    assert edges.tolist() == [0, 1, 2, 3, 4, 10]
    assert steps.T.tolist() == [[0, 1, 1, 1, 0], [0] * 5]


def test_intersection_f1_by_hand(sed_scores_eval):
    estimates = [
        Event("a.wav", 1.5, 4.0, "Cat"),
        Event("b.wav", 5.4, 6.4, "Dog"),  # 0.6 of each lies in the other
        Event("b.wav", 0.0, 1.0, "Dog"),
    ]
    result = psds.intersection_f1(REFERENCE, estimates, durations=DURATIONS, classes=CLASSES)
    assert result["classwise"] == {"Cat": pytest.approx(100), "Dog": pytest.approx(200 / 3)}
    assert result["macro"] == pytest.approx(250 / 3)


def test_psds_of_perfect_and_of_useless_scores(sed_scores_eval, tmp_path):
    perfect = np.zeros((2, 100, 2))
    perfect[0, 10:40, 0] = perfect[1, 50:60, 1] = 1.0
    for frames, expected in ((perfect, 1.0), (np.zeros_like(perfect), 0.0)):
        score_files.write_score_files(
            tmp_path, frames, filenames=list(DURATIONS), classes=CLASSES, frame_rate=10.0
        )
        files = score_files.read_score_files(tmp_path)
        result = psds.psds_of_scores(files, REFERENCE, DURATIONS)
        assert result["psds1"]["value"] == pytest.approx(expected)
        assert result["psds2"]["value"] == pytest.approx(expected)
    with pytest.raises(InputError, match="the clip 'c' has no score file"):
        psds.psds_of_scores(files, REFERENCE, {**DURATIONS, "c.wav": 10.0})


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sed_scores_eval", None)
    with pytest.raises(InputError, match="pip install"):
        psds.intersection_f1(REFERENCE, [], durations=DURATIONS, classes=CLASSES)


@needs_desed
def test_published_operating_points(sed_scores_eval, tmp_path):
    if importlib.util.find_spec("psds_eval") is None:
        pytest.skip("the extra psds is not installed")
    out = tmp_path / "scores.json"
    code = cli.main(
        [
            "score",
            "--psds",
            f"--reference={DESED / 'validation.tsv'}",
            f"--json={out}",
            f"--estimates={DESED / 'student_predictions_0.5.csv'}",
            f"--durations={DESED / 'validation_durations.tsv'}",
            f"--operating_points={DESED / 'student_operating_points'}",
        ]
    )
    assert code == 0
    result = json.loads(out.read_text())
    assert round(result["intersection_f1"]["macro"], 4) == 63.7417
    points = result["psds_operating_points"]
    assert round(points["psds1"]["value"], 6) == 0.334469
    assert round(points["psds2"]["value"], 6) == 0.528100  # psds_eval 0.5.3


@needs_desed
def test_scores_made_of_the_operating_points_agree_with_psds_eval(sed_scores_eval, tmp_path):
    # The points are thresholds of one set of scores, so the highest threshold at which a class is
    # active is its score. psds_eval decides a few events on the edge of a criterion differently.
    durations = tables.read_durations(DESED / "validation_durations.tsv")
    reference = tables.read_events(DESED / "validation.tsv")
    classes = tuple(sorted({event.event_label for event in reference.events}))
    steps: dict[str, list] = {name: [] for name in durations}
    for path in sorted((DESED / "student_operating_points").glob("*.tsv")):
        for event in tables.read_events(path).events:
            steps[event.filename].append((float(path.stem.removeprefix("predictions_th_")), event))
    times, scores = [], []
    for name, duration in durations.items():
        events = [event for _, event in steps[name]]
        edges = np.unique([0.0, duration, *(t for e in events for t in (e.onset, e.offset))])
        values = np.zeros((len(edges) - 1, len(classes)))
        for threshold, event in steps[name]:  # ascending thresholds
            start, stop = np.searchsorted(edges, [event.onset, event.offset])
            values[start:stop, classes.index(event.event_label)] = threshold
        times.append(edges)
        scores.append(values)
    clips = [score_files.clip_name(name) for name in durations]
    files = score_files.ScoreFiles(classes, clips, times, scores)
    result = psds.psds_of_scores(files, reference.events, durations)
    assert result["psds1"]["value"] == pytest.approx(0.334469, abs=5e-5)
    assert result["psds2"]["value"] == pytest.approx(0.528100, abs=5e-5)
