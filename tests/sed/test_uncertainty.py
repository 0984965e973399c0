"""Scores over clips and seeds: by hand, and what must not depend on the draw."""

import numpy as np
import pytest

from jfsed_jax.sed.uncertainty import Difference, compare_systems

MACRO, MICRO = "event_f1/macro", "event_f1/micro"


def counts(*clips):
    """Each clip's items of one class: reference, estimated, matched."""
    return {"event_f1": np.array(clips, np.int64)[:, None, :]}


def random_counts(seed, clips=30, classes=4):
    matched = np.random.default_rng(seed).integers(0, 2, (clips, classes))
    return {"event_f1": np.stack([np.ones_like(matched)] * 2 + [matched], -1)}


def differences(first, other, num_resamples=1000):
    """Of the other system to the first, by key."""
    found = compare_systems({"first": first, "other": other}, num_resamples=num_resamples)
    return {key: estimate.against_first for key, estimate in found["other"].items()}


def test_one_seed_by_hand():
    # F1 of the first: 2/4, of the other 4/4. The first clip alone: 1 to 1; the second: 0 to 1.
    first, other = counts((1, 1, 1), (1, 1, 0)), counts((1, 1, 1), (1, 1, 1))
    found = compare_systems({"first": [first], "other": [other]})
    assert found["first"][MACRO] == found["first"][MICRO] == (50.0, (0.0, 100.0), None)
    for key in (MACRO, MICRO):
        value, interval, (difference, of_difference, ahead) = found["other"][key]
        assert (value, interval) == (100.0, (100.0, 100.0))
        # Of two draws of two clips both are the first in a quarter.
        assert (difference, of_difference) == (50.0, (0.0, 100.0))
        assert ahead == pytest.approx(0.75, abs=0.05)


def test_seeds_by_hand():
    """One clip, so that seeds alone are drawn: +100 with the first, -50 with the second."""
    half = counts((2, 2, 1))
    before = [counts((1, 1, 0)), counts((1, 1, 1))]
    after = [counts((1, 1, 1)), half]
    assert differences(before, after)[MACRO][:2] == (25.0, (-50.0, 100.0))
    # Of 9 seeds of which one gains 90, a draw has none in (8/9)^9 = 35 % and 4 or more in 1 %.
    many = differences(
        [counts((10, 10, 1))] + [counts((1, 1, 0))] * 8,
        [counts((10, 10, 10))] + [counts((1, 1, 0))] * 8,
        num_resamples=4000,
    )[MACRO]
    assert many.difference == pytest.approx(10) and many.interval == pytest.approx((0, 30))


def test_a_system_against_itself_is_exactly_zero():
    """With seeds that differ among themselves: what is drawn is drawn for both."""
    seeds = [random_counts(seed) for seed in range(3)]
    found = differences(seeds, seeds, 200)
    assert found[MACRO] == found[MICRO] == (0.0, (0.0, 0.0), 0.0)


def test_swapping_turns_the_sign():
    before, after = ([random_counts(k + s) for s in range(3)] for k in (0, 10))
    there, back = differences(before, after, 400), differences(after, before, 400)
    for key in (MACRO, MICRO):
        assert there[key].difference == pytest.approx(-back[key].difference)
        low, high = there[key].interval
        assert low < high
        assert back[key].interval == pytest.approx((-high, -low))


def test_all_seeds_are_scored_on_the_same_draw_of_clips():
    """Seeds that are one and the same make nothing surer."""
    before, after = random_counts(0), random_counts(1)
    one = differences([before], [after], 300)
    four = differences([before] * 4, [after] * 4, 300)
    for key in (MACRO, MICRO):
        assert four[key].interval == pytest.approx(one[key].interval)


def test_what_is_undefined_is_none():
    nothing = counts((0, 0, 0), (0, 0, 0))
    found = differences([nothing] * 2, [nothing] * 2, 50)
    assert found[MACRO] == Difference(None, None, None)
