"""Intervals of a run's scores: where a page has them, and that it needs none."""

from types import SimpleNamespace

import pytest

from jfsed_jax.report.run_scores import class_scores, headlines

SCORES = {
    "info": {"num_clips": 240},
    "event_f1": {"macro": 53.8, "micro": 50.1, "classwise": {"Dog": 60.0, "Running_water": None}},
}
INTERVALS = {
    "intervals": {
        "event_f1/macro": [45.12, 62.08],
        "event_f1/micro": [44.0, 57.0],
        "event_f1/classwise/Dog": [51.0, 70.0],
        "event_f1/classwise/Running_water": None,
    },
    "resamples": {"number": 1000, "seed": 0, "level": 0.95},
}


def run(**changes):
    split = SimpleNamespace(
        folder=None, title="Validation", scores=SCORES | changes, reference=None
    )
    return SimpleNamespace(splits=[split], classes=["Dog", "Running_water"])


def test_intervals_stand_beside_every_f1():
    ((_, conditions, (tile,)),) = headlines(run(**INTERVALS))
    assert conditions == "240 clips, 95 % intervals of 1\u202f000 resamples of the clips"
    assert (tile.macro, tile.margin) == ("53.8", "45.1–62.1 · ")
    assert tile.micro == "50.1, 44.0–57.0"
    (found,) = class_scores(run(**INTERVALS))
    (_, dog), (_, water) = found.scores.rows
    assert (dog.text, dog.small) == ("60.0", "51.0–70.0")
    assert (water.text, water.small) == ("–", "")
    (_, macro), (_, micro) = found.scores.footer
    assert tuple(macro) == ("53.8", "45.1–62.1") and tuple(micro) == ("50.1", "44.0–57.0")


@pytest.mark.parametrize(
    "changes",
    [
        {},  # as older versions wrote them
        {"intervals": {}, "resamples": {"number": 0}},
        {"intervals": None, "resamples": None},
        {"intervals": "x", "resamples": "x"},
        {"intervals": [1], "resamples": [1]},
        {"intervals": {"event_f1/macro": ["a", None]}},
    ],
)
def test_a_page_needs_no_intervals(changes):
    ((_, conditions, (tile,)),) = headlines(run(**changes))
    assert conditions == "240 clips"
    assert (tile.margin, tile.micro) == ("", "50.1")
    (found,) = class_scores(run(**changes))
    assert [
        cell.small for row in (*found.scores.rows, *found.scores.footer) for cell in row[1:]
    ] == [""] * 4
