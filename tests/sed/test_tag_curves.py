"""Precision and recall of tags at every threshold, by hand and by counting."""

import numpy as np

from jfsed_jax.sed.tag_curves import tag_curve


def test_a_curve_by_hand():
    """Equal posteriors are tagged together."""
    posteriors = np.array([0.2, 0.9, 0.5, 0.5, 0.7])
    curve = tag_curve(posteriors, np.array([1, 1, 1, 0, 0], bool))
    assert curve.thresholds.tolist() == [0.9, 0.7, 0.5, 0.2]
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 4, 3 / 5])
    np.testing.assert_allclose(curve.recall, [1 / 3, 1 / 3, 2 / 3, 1])
    assert tag_curve(posteriors, np.zeros(5, bool)) is None


def test_every_threshold_is_as_counted():
    rng = np.random.default_rng(0)
    posteriors = rng.integers(0, 20, 60).astype(np.float32) / 20
    truth = rng.random(60) < 0.3
    curve = tag_curve(posteriors, truth)
    assert set(curve.thresholds) == set(posteriors.astype(np.float64))
    for threshold, precision, recall in zip(*curve, strict=True):
        tagged = posteriors >= threshold
        assert precision == (tagged & truth).sum() / tagged.sum()
        assert recall == (tagged & truth).sum() / truth.sum()
