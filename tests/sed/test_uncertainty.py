"""Scores over clips and seeds: by hand, and what must not depend on the draw."""

import numpy as np
import pytest

from jfsed_jax.sed.uncertainty import (
    Difference,
    Sampled,
    compare_samples,
    compare_systems,
    confidence_interval,
    draw_clips,
    intervals,
    sample_scores,
)

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
    a, b = (sample_scores([own], num_resamples=1000) for own in (first, other))
    for key in (MACRO, MICRO):
        assert (a[key].value, b[key].value) == (50.0, 100.0)
        assert set(a[key].samples) == {0.0, 50.0, 100.0} and set(b[key].samples) == {100.0}
        # Of two draws of two clips both are the first in a quarter.
        assert differences([first], [other])[key].share_better == pytest.approx(0.75, abs=0.05)
        assert differences([first], [other])[key].difference == 50.0


@pytest.mark.parametrize("clips", [5, 6])
def test_five_clips_are_too_few_for_an_interval_and_six_are_not(clips):
    """Of those with an event; and of those in which one of two systems finds what the other lacks,
    beside as many others as one likes."""
    all_found, none_found = counts(*[(1, 1, 1)] * clips), counts(*[(1, 1, 0)] * clips)
    found = compare_systems({"first": [none_found], "other": [all_found]})["other"][MICRO]
    known = clips == 6
    assert found.interval == ((100, 100) if known else None)
    assert found.against_first.interval == ((100, 100) if known else None)
    # False alarms, in clips without an event, make it no surer.
    silent = [(0, 1, 0)] * 20
    assert (intervals([counts(*[(1, 1, 1)] * clips, *silent)])[MICRO] is not None) == known
    alike = [(1, 1, 1)] * 20
    low, high = intervals([counts(*[(1, 1, 0)] * clips, *alike)])[MICRO]
    assert low < 100 * 20 / (20 + clips) < high
    found = differences(
        [counts(*[(1, 1, 0)] * clips, *alike)], [counts(*[(1, 1, 1)] * clips, *alike)]
    )[MICRO]
    assert (found.interval is not None) == known


def test_a_clip_in_which_any_seed_differs_counts():
    """The first seed's systems differ in three clips, the second's in three others."""
    alike = [(1, 1, 1)] * 6
    seeds = [
        counts(*[(1, 1, int(i not in differing)) for i in range(6)], *alike)
        for differing in (range(3), range(3, 6))
    ]
    found = counts(*[(1, 1, 1)] * 6, *alike)
    assert differences(seeds, [found] * 2)[MICRO].interval is not None
    assert differences([seeds[0]] * 2, [found] * 2)[MICRO].interval is None
    assert differences(seeds, [found] * 3)[MICRO].interval is not None  # without pairs, too


def test_seeds_by_hand():
    """Clips that are all alike, so that seeds alone tell: 0 and 2 points are 1 +- 12.706 (Student's
    t of one degree of freedom), 0, 1 and 2 points 1 +- 4.303 * 0.5774."""
    level = np.full(100_000, 1.0)
    for seeds, half in (((0.0, 2.0), 12.706), ((0.0, 1.0, 2.0), 4.303 * 0.5774)):
        score = Sampled(1.0, level, seeds=(np.array(seeds),))
        assert confidence_interval(score) == pytest.approx((1 - half, 1 + half), rel=0.05)
        within = score._replace(limits=(0.0, 2.5))
        assert confidence_interval(within) == pytest.approx((0.0, 2.5))
    # Pairs: what one seed has more in both systems tells them not apart.
    pairs = [Sampled(1.0, level, seeds=(np.array(of),)) for of in ((0.0, 9.0), (1.0, 10.0))]
    assert confidence_interval(pairs[1].less(pairs[0])) == (0.0, 0.0)
    # Of other numbers of seeds there are no pairs: both are unsure.
    three = Sampled(1.0, level, seeds=(np.array([0.0, 9.0, 18.0]),))
    low, high = confidence_interval(pairs[1].less(three))
    assert high - low > 2 * 12.706 * 4.5
    # One seed tells nothing of others.
    assert confidence_interval(Sampled(1.0, level, seeds=(np.ones(1),))) == (1.0, 1.0)


def test_a_system_against_itself_is_exactly_zero():
    """With seeds that differ among themselves: what is drawn is drawn for both."""
    seeds = [random_counts(seed) for seed in range(3)]
    found = differences(seeds, seeds, 200)
    assert found[MACRO] == found[MICRO] == (0.0, None, None)


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


def test_a_class_that_a_draw_lacks_is_not_in_its_mean():
    """Whatever the score: two clips with a class each, both found. A draw of one clip twice has
    one class, and that one is found; by the formula of tags the other would score 0."""
    clips = np.array([[[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 1]]])
    for name in ("at_f1", "event_f1", "segment_f1"):
        found = sample_scores([{name: clips}], classes=["a", "b"], num_resamples=50)
        assert len(found) == 4
        for score in found.values():
            assert set(score.samples[~np.isnan(score.samples)]) == {100.0}
    # One that the clips lack is none of chance: 0 by the formula, in the score and in each draw.
    found = sample_scores([{"at_f1": clips[:1]}], num_resamples=50)["at_f1/macro"]
    assert found.value == 50.0 and set(found.samples) == {50.0}


def test_percentiles_by_hand():
    score = Sampled(50.0, np.append(np.arange(101.0), np.nan))
    assert confidence_interval(score) == pytest.approx((2.5, 97.5))
    assert confidence_interval(score, level=0.5) == (25, 75)
    assert confidence_interval(score._replace(samples=score.samples[-1:])) is None
    assert confidence_interval(score._replace(value=np.nan)) is None


def test_what_hangs_on_few_clips_is_less_sure():
    samples = np.arange(1001.0)

    def interval(*left_out):
        return confidence_interval(Sampled(500.0, samples, np.array(left_out)))

    # Variance 1/3, kurtosis 3 of 6 clips: 6 degrees of freedom, t 2.4469, of which the normal
    # distribution has 0.7204 % beyond.
    assert interval(49, 50, 50, 50, 50, 51) == pytest.approx((7.204, 992.796), abs=1e-3)
    assert interval(*[49, 51] * 50) == pytest.approx((25, 975))
    # A jackknife's error of 1.2 times the samples' 288.96: 2.352 deviations, 0.934 % beyond.
    wide = 50 + np.array([-1, 1] * 50) * 1.2 * 288.96 / np.sqrt(99)
    assert interval(*wide) == pytest.approx((9.34, 990.66), abs=0.01)
    assert interval(*[50] * 999, 51) == pytest.approx((0, 1000), abs=0.01)


def test_intervals_and_those_of_differences_know_on_how_many_clips_they_hang():
    systems = {name: [random_counts(seed, clips=12)] for seed, name in enumerate("ab")}
    a, b = (sample_scores(of_seeds)[MACRO] for of_seeds in systems.values())
    found = compare_systems(systems)
    assert found["a"][MACRO].interval == intervals(systems["a"])[MACRO]
    for interval, sampled in (
        (found["a"][MACRO].interval, a),
        (found["b"][MACRO].against_first.interval, b.less(a)),
    ):
        assert interval == confidence_interval(sampled)
        plain_low, plain_high = confidence_interval(sampled._replace(left_out=np.empty(0)))
        low, high = interval
        assert low < plain_low and plain_high < high


def test_scores_without_each_clip_by_hand():
    """In the mean over seeds: 3 clips of an event, of which one seed finds the first alone."""
    seeds = [counts((1, 1, 1), (1, 1, 0), (1, 1, 0)), counts((1, 1, 1), (1, 1, 1), (1, 1, 1))]
    found = sample_scores(seeds, num_resamples=3)[MICRO]
    assert found.value == pytest.approx((100 / 3 + 100) / 2)
    np.testing.assert_allclose(found.left_out, [50, 75, 75])
    one = sample_scores(seeds[:1], num_resamples=3)[MICRO]
    with pytest.raises(ValueError, match="broadcast"):
        found.less(one._replace(samples=np.zeros(4)))
    np.testing.assert_allclose(found.less(one).left_out, [50, 25, 25])


def test_samples_that_were_drawn_elsewhere_are_compared_alike():
    """Such as PSDS of the clips of `draw_clips`: here micro F1 of them."""
    systems = {name: random_counts(seed) for seed, name in enumerate("ab")}

    def micro(weights, c):
        reference, estimated, matched = np.einsum("nb,bck->kn", weights, c["event_f1"])
        return 200 * matched / (reference + estimated)

    blocks = list(draw_clips(30, num_resamples=300, seed=5))
    ours = {
        name: {
            MICRO: sample_scores([c], num_resamples=0)[MICRO]._replace(
                samples=np.concatenate([micro(block, c) for block in blocks])
            )
        }
        for name, c in systems.items()
    }
    of_counts = compare_systems({n: [c] for n, c in systems.items()}, num_resamples=300, seed=5)
    for name, scores in compare_samples(ours).items():
        expected = of_counts[name][MICRO]
        assert scores[MICRO].value == pytest.approx(expected.value)
        assert scores[MICRO].interval == pytest.approx(expected.interval)
        if name == "b":
            found = scores[MICRO].against_first
            assert found.share_better == expected.against_first.share_better
            assert found.interval == pytest.approx(expected.against_first.interval)


def test_draws_are_the_same_however_many_fit_into_memory(monkeypatch):
    """Each has as many clips as there are; how many are made at once is no matter of the seed."""
    (whole,) = draw_clips(7, num_resamples=40, seed=1)
    assert (whole.sum(axis=1) == 7).all() and (np.ptp(whole, axis=0) > 0).all()
    monkeypatch.setattr("jfsed_jax.sed.uncertainty._WEIGHTS_AT_ONCE", 30)
    parts = list(draw_clips(7, num_resamples=40, seed=1))
    assert len(parts) == 10
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def correlated_clips(rng, clips):
    """Of two classes and two scores: in a clip all events are found, or none. What is resampled
    has to be clips: an interval from resampled events would be a third as wide."""
    present = rng.uniform(size=(clips, 2)) < (0.3, 0.9)
    events = present * rng.integers(5, 15, (clips, 2))
    found = events * (rng.uniform(size=(clips, 1)) < 0.6)
    tags = found > 0
    return {
        "event_f1": np.stack([events, events, found], -1),
        "at_f1": np.stack([present, tags, tags], -1).astype(int),
    }


def test_95_of_100_intervals_cover_the_truth():
    """As near as 300 sets of 60 clips can tell, on both sides alike (examples/coverage.py)."""
    rng = np.random.default_rng(2)
    population = sample_scores([correlated_clips(rng, 100_000)], num_resamples=0)
    sides = {key: [] for key in population}
    for seed in range(300):
        found = intervals([correlated_clips(rng, 60)], num_resamples=300, seed=seed)
        for key, (low, high) in found.items():
            truth = population[key].value
            sides[key].append((truth < low, truth > high))
    for key, missed in sides.items():
        below, above = np.mean(missed, axis=0)
        assert 0.02 <= below + above <= 0.08, (key, below, above)
        assert max(below, above) <= 0.06, (key, below, above)
