"""Scores of resamples from the steps in which counts change, without the extra `psds`."""

import numpy as np
import pytest

from jfsed_jax.sed.threshold_steps import (
    GRID,
    ClipSums,
    Scenario,
    average_precisions,
    counts_above,
    psds_samples,
    steps_of,
)

CLIPS = ["a", "b", "c"]
ONCE = np.ones(3)


def make_deltas(*rows, cross=False):
    """Of one class "0" the changes (clip, posterior, found, false[, cross triggers])."""
    deltas = {}
    for clip in CLIPS:
        own = [row[1:] for row in rows if row[0] == clip]
        scores, *kinds = np.array(own, float).reshape(-1, 4 if cross else 3).T
        names = ["tps", "fps", *(["cts\\1"] if cross else [])]
        deltas[clip] = {"0": (scores, dict(zip(names, kinds, strict=True)))}
    return deltas


def test_average_precision_by_hand():
    """Ties are one step, whichever clip they are of; a clip that is drawn twice counts twice."""
    deltas = make_deltas(
        ("a", 0.9, 1, 0), ("b", 0.6, 0, 1), ("c", 0.6, 1, 0), ("a", 0.2, 1, 0), ("b", 0.1, 0, 1)
    )
    steps = [steps_of(deltas, CLIPS, "0")]
    draws = [np.array([ONCE, [2, 1, 0], [0, 3, 0]])]
    once = (1 + 2 / 3 + 3 / 4) / 3
    without_c = (2 / 2 * 2 + 4 / 5 * 2) / 4
    found = average_precisions(steps, draws)[:, 0]
    assert found.tolist() == [
        pytest.approx(once),
        pytest.approx(without_c),
        pytest.approx(np.nan, nan_ok=True),
    ]


def test_psds_by_hand():
    """One class, an hour, at most ten false ones per hour."""
    deltas = make_deltas(
        ("b", 0.95, 0, 4),
        ("a", 0.9, 1, 0),  # 1 of 2 found, 4 false
        ("b", 0.7, 0, -2),  # two become one: 2 false
        ("a", 0.6, -1, 0),  # none is found
        ("a", 0.5, 2, 3),  # both, 5 false
        ("b", 0.4, 0, 9),
    )
    steps = [[steps_of(deltas, CLIPS, "0")]]
    clips = ClipSums(np.full(3, 1200.0), np.array([[2], [0], [0]]), np.ones((3, 1)))
    scenario = Scenario(max_efpr=10.0)
    draws = [np.array([ONCE, [1, 2, 0], [0, 2, 1]])]
    values, classwise = psds_samples(steps, draws, clips, scenario)
    # Drawn twice, b has 4 false ones at 0.7, at 0.5 there are 7 of all.
    assert values[:2] == pytest.approx([0.5 * 0.3 + 0.5, 0.5 * 0.3 + 0.3])
    assert np.isnan(values[2]) and classwise[:2, 0] == pytest.approx(values[:2])


def test_psds_takes_the_best_post_processing_and_counts_cross_triggers():
    first = make_deltas(("a", 0.9, 1, 0, 0), ("a", 0.5, 1, 1, 2), cross=True)
    second = make_deltas(("b", 0.9, 2, 1, 0), cross=True)
    clips = ClipSums(
        np.full(3, 1200.0),
        np.array([[2, 1], [0, 1], [0, 1]]),
        np.array([[900.0, 900], [0, 900], [0, 0]]),
    )
    other = make_deltas(("b", 0.9, 1, 0, 1), cross=True)
    scenario = Scenario(alpha_ct=0.5, alpha_st=0.0, max_efpr=10.0)

    def areas(*versions):
        steps = [[steps_of(v, CLIPS, "0") for v in versions], [steps_of(other, CLIPS, "0")]]
        return psds_samples(steps, [ONCE[None]], clips, scenario)[1][0]

    def area(*versions):
        return areas(*versions)[0]

    # 1 false in the hour and 2 cross triggers in half an hour of the other class, half of which.
    assert area(first) == pytest.approx(0.5 * 0.3 + 0.7)
    assert area(second) == pytest.approx(0.9)
    assert area(first, second) == pytest.approx(0.5 * 0.1 + 0.9)
    # Of the other class's 3 events one, and 1 cross trigger in a quarter of an hour.
    assert areas(first)[1] == pytest.approx(0.8 / 3)
    # Where nothing is found of it, no mean less deviation is below 0.
    steps = [[steps_of(second, CLIPS, "0")], [steps_of(make_deltas(cross=True), CLIPS, "0")]]
    value, _ = psds_samples(steps, [ONCE[None]], clips, scenario._replace(alpha_st=2.0))
    assert value[0] == 0


def test_counts_above_a_threshold():
    deltas = make_deltas(("a", 0.9, 1, 0), ("a", 0.5, 1, 1), ("b", 0.6, 0, 2), ("b", 0.4, 1, -1))
    references = np.array([[2], [1], [0]])
    steps = [steps_of(deltas, CLIPS, "0")]
    assert counts_above(steps, [0.5], references)[:, 0].tolist() == [
        [2, 1, 1],
        [1, 2, 0],
        [0, 0, 0],
    ]
    assert counts_above(steps, [-np.inf], references)[:2, 0].tolist() == [[2, 3, 2], [1, 2, 1]]


def test_a_draw_is_the_score_of_its_clips():
    """Random changes, ties among them: a clip drawn twice is as good as two clips alike."""
    rng = np.random.default_rng(4)
    rows = []
    for clip in CLIPS:
        for _ in range(40):
            rows.append((clip, rng.integers(1, 30) / 30, rng.integers(0, 2), rng.integers(-1, 3)))
    deltas = make_deltas(*rows)
    clips = ClipSums(np.array([400.0, 800.0, 900.0]), np.array([[40], [40], [40]]), np.ones((3, 1)))
    twice = {"a": deltas["a"], "a2": deltas["a"], "c": deltas["c"]}
    again = ClipSums(*(part[[0, 0, 2]] for part in clips))
    for scenario in (Scenario(max_efpr=60.0), Scenario(max_efpr=200.0)):
        drawn = psds_samples(
            [[steps_of(deltas, CLIPS, "0")]], [np.array([[2.0, 0.0, 1.0]])], clips, scenario
        )
        copied = psds_samples([[steps_of(twice, list(twice), "0")]], [ONCE[None]], again, scenario)
        assert drawn[0] == pytest.approx(copied[0], abs=0.5 / GRID)
        assert 0.03 < drawn[0][0] < 0.97
