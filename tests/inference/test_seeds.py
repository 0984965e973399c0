"""Means and deviations over seeds, by hand."""

from typing import Any

import pytest

from jfsed_jax.inference.seeds import summarise_seeds


def test_scores_of_seeds_have_a_mean_and_a_sample_deviation():
    scores: list[Any] = [
        {"event_f1": {"macro": macro, "classwise": {"Cat": macro, "Dog": dog}}, "info": {}}
        for macro, dog in ((10.0, 5.0), (20.0, None), (60.0, 7.0))
    ]
    found = summarise_seeds(scores)
    assert found.keys() == {"event_f1"}
    # Deviations from 30 are -20, -10 and 30: 1400 / 2 is 700.
    expected = {"mean": 30.0, "std": pytest.approx(700**0.5), "values": [10.0, 20.0, 60.0]}
    assert found["event_f1"]["macro"] == found["event_f1"]["classwise"]["Cat"] == expected
    # A class that one of the seeds has no score for has no mean: it would be of other seeds.
    assert found["event_f1"]["classwise"]["Dog"] == {
        "mean": None, "std": None, "values": [5.0, None, 7.0]
    }  # fmt: skip
