"""Event-F1 by threshold is what each threshold's events score."""

import numpy as np

from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import detect_events
from jfsed_jax.sed.scoring import f1_of_counts, sed_eval_scores
from jfsed_jax.sed.threshold_curves import event_f1_curves


def test_curves_are_what_each_threshold_scores():
    """Also at a threshold that is a posterior; the third class has no reference."""
    rng = np.random.default_rng(0)
    names, classes, windows = [f"{i}.wav" for i in range(6)], ["A", "B", "C"], np.array([1, 5, 3])
    waves = np.sin(np.arange(40)[:, None] / 5 + rng.uniform(0, 6, (6, 1, 3))) ** 2
    frames = np.clip(waves + rng.normal(0, 0.2, waves.shape), 0, 1).round(1)
    reference = [
        Event(name, onset, onset + 0.8, label)
        for name in names
        for label in "AB"
        for onset in rng.uniform(0, 3, 2).round(1).tolist()
    ]
    options = {"filenames": names, "classes": classes, "frame_rate": 10.0}
    thresholds = np.array([0.05, 0.3, 0.5, 0.9])
    curves = event_f1_curves(frames, windows, reference, thresholds, **options)
    for threshold, found in zip(thresholds, curves, strict=True):
        events = detect_events(None, frames, windows, threshold=threshold, medians=2, **options)
        _, counts = sed_eval_scores(["event_f1"], reference, events, names, classes)
        expected = 100 * f1_of_counts("event_f1", counts["event_f1"].sum(0))
        np.testing.assert_allclose(found[:2], expected[:2])
    assert np.isnan(curves[:, 2]).all() and (curves[:, :2] > 0).any()
