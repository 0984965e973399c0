"""The page of `score`, without the extra `psds`: its scores are made up."""

import numpy as np
import pytest
from html_page import ParsedPage

from jfsed_jax.cli import main as cli
from jfsed_jax.report.score_page import render_scores
from jfsed_jax.sed import predictions, scoring, threshold_free, threshold_free_text, uncertainty
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.threshold_free import Curve, FreeScore
from jfsed_jax.sed.uncertainty import Sampled

LABELS = ["Cat", "<b>Dog</b>", "Cow"]
EVENTS = [Event("a.wav", 0.0, 1.0, "Cat"), Event("b.wav", 1.0, 3.0, "<b>Dog</b>")]


def made_up_scores(shift=0.0):
    """Each score with curves; Cow has no reference events."""
    rng = np.random.default_rng(1)
    found = {}
    for i, name in enumerate(("psds1", "psds2", "best_event_f1", "segment_ap", "clip_ap")):
        of = Sampled(0.25 + i / 10 + shift, 0.25 + i / 10 + shift + rng.normal(0, 0.01, 99))
        roc = Curve(np.array([0.0, 10.0, 100.0]), np.array([0.0, 0.4, 0.5]))
        precision = Curve(np.array([0.2, 0.8]), np.array([1.0, 0.5]))
        found[name] = FreeScore(
            of,
            {"Cat": of, "<b>Dog</b>": of, "Cow": None},
            {"Cat": 0.5, "<b>Dog</b>": None} if name == "best_event_f1" else None,
            {"": roc, "Cat": roc, "<b>Dog</b>": roc}
            if name.startswith("psds")
            else {"Cat": precision, "<b>Dog</b>": precision},
        )
    return found


def make_result(*systems):
    """What the command gives of one or two folders, and of the events of one system."""
    scores, counts = scoring.score_clips(
        EVENTS, EVENTS[:1], filenames=["a.wav", "b.wav"], classes=LABELS
    )
    intervals = uncertainty.intervals([counts], classes=LABELS, num_resamples=20)
    info = {"reference": "r&d.tsv", "num_clips": 2, "classes": LABELS, "num_resamples": 20}
    result = {"info": {**info, "notes": ["a <i>note</i>"]}}
    result |= {**scores, "intervals": intervals, "file": "<u>.tsv"}
    names = ("threshold_free", "compare_scores")
    for name, system in zip(names, systems, strict=False):
        result[name] = {**threshold_free_text.free_entries(system), "folder": name.upper()}
    if len(systems) > 1:
        differences = threshold_free_text.free_differences(*systems)
        result["threshold_free_differences"] = {k: d._asdict() for k, d in differences.items()}
    return result


def test_the_page_has_scores_intervals_curves_and_notes():
    system = made_up_scores()
    page = ParsedPage(render_scores(make_result(system), {"scores": system}))
    assert page.open == []
    low, high = uncertainty.confidence_interval(system["psds1"].overall)
    assert f"0.250 {low:.3f} to {high:.3f} reacts fast" in page.words
    assert "Event-F1 50.0" in page.words and "a <i>note</i>" in page.words
    assert "THRESHOLD_FREE: undefined for Cow (no reference): PSDS 1, PSDS 2, Best" in page.words
    # PSDS 1 and 2 of all classes, then a chart of each kind for the classes with events.
    charts = [a["aria-label"] for tag, a in page.tags if tag == "svg" and a.get("role") == "img"]
    assert [chart.partition(".")[0] for chart in charts] == [
        "PSDS 1", "PSDS 2", "Cat", "<b>Dog</b>", "Cat", "<b>Dog</b>"
    ]  # fmt: skip
    assert not {"script", "b>", "link"} & {tag for tag, _ in page.tags}
    ids = [a["id"] for tag, a in page.tags if tag == "section"]
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    assert ids == ["classes", "roc", "precision"] == [link[1:] for link in links]


def test_two_systems_are_drawn_over_one_another_and_their_difference_told():
    """Beside PSDS of operating points, which have neither curves nor classes."""
    systems = made_up_scores(), made_up_scores(shift=0.125)
    free = dict(zip(("scores", "compare_scores"), systems, strict=True))
    result = make_result(*systems)
    result["psds_operating_points"] = {"psds2": {"value": 0.75, "notes": ["of points"]}}
    page = ParsedPage(render_scores(result, free))
    assert "Operating points a list of events per threshold PSDS 2 0.750 confuses" in page.words
    assert "of points" in page.words
    assert "COMPARE_SCORES less THRESHOLD_FREE" in page.words
    assert "PSDS 1 0.125 0.125 to 0.125 100.0" in page.words
    assert page.words.count("PSDS 1, COMPARE_SCORES") == 2  # of both classes' charts


def test_events_alone_have_a_page_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predictions.write_predictions("r.tsv", EVENTS, filenames=["c.wav"])
    predictions.write_predictions("e.tsv", EVENTS[:1], filenames=["c.wav"])
    command = ["score", "--reference=r.tsv", "--estimates=e.tsv", "--bootstrap=100"]
    assert cli.main([*command, "--compare=r.tsv", "--page=p.html"]) == 0
    page = ParsedPage((tmp_path / "p.html").read_text())
    assert page.open == [] and "r.tsv less e.tsv" in page.words
    assert [a["id"] for tag, a in page.tags if tag == "section"] == ["differences", "classes"]
    assert "an interval without 0" in page.words and "Ahead, %" in page.words
    assert cli.main([*command, "--compare=r.tsv", "--page=p.html", "--bootstrap=0"]) == 0
    page = ParsedPage((tmp_path / "p.html").read_text())
    assert "Event-F1, macro 50.0" in page.words and "interval" not in page.words


def test_intervals_of_few_clips_are_widened():
    of = made_up_scores()["psds1"].overall
    rare = np.where(np.arange(50) < 2, 0.4, of.value)  # all hangs on two of 50 clips
    wide = {"psds1": made_up_scores()["psds1"]._replace(overall=of._replace(left_out=rare))}
    (plain_low, plain_high), (low, high) = (
        threshold_free_text.free_entries(scores)["psds1"]["interval"]
        for scores in (made_up_scores(), wide)
    )
    assert low < plain_low < plain_high < high


def test_scores_as_text():
    text = threshold_free_text.format_free(made_up_scores()).splitlines()
    assert text[0].startswith("PSDS 1                  0.250000   95 % interval 0.2")
    assert text[-2].split() == ["Cow", *["-"] * 5] and text[-1].startswith(
        "note: undefined for Cow"
    )
    entries = threshold_free_text.free_entries(made_up_scores())
    assert entries["best_event_f1"]["thresholds"] == {"Cat": 0.5, "<b>Dog</b>": None}
    assert entries["psds1"]["classwise"]["Cow"] is entries["psds1"]["classwise_intervals"]["Cow"]
    assert set(entries) < set(threshold_free.TITLES)
    undefined = {
        "psds1": made_up_scores()["psds1"]._replace(overall=Sampled(np.nan, np.full(99, np.nan)))
    }
    assert threshold_free_text.free_entries(undefined)["psds1"]["value"] is None
    assert threshold_free_text.format_free_differences(
        threshold_free_text.free_differences(undefined, made_up_scores())
    ).endswith("undefined")
    assert (
        pytest.approx(0.125)
        == (
            threshold_free_text.free_differences(made_up_scores(), made_up_scores(0.125))["psds2"]
        ).difference
    )
