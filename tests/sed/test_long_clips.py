"""Long recordings: counts are those of sed_eval where it can be waited for, else by hand."""

import json

import numpy as np
import pytest

from jfsed_jax.sed import long_clips, scoring
from jfsed_jax.sed.events import Event

SOUND_EVENT, CONTAINER = scoring.load_sed_eval()
LABELS = ("Cat", "Dog", "Speech")


def crowd(rng, count, length):
    """Events that overlap, match one another or just fail to, on a grid of 0.05 s."""
    onsets = rng.integers(0, 20 * length, count) / 20
    return [
        Event("a", float(onset), float(onset + rng.integers(1, 90) / 20), str(rng.choice(LABELS)))
        for onset in onsets
    ]


@pytest.mark.parametrize(("seed", "length"), [(0, 60), (1, 200), (2, 3000)])
def test_a_crowded_clip_is_counted_as_sed_eval_counts_it(seed, length):
    rng = np.random.default_rng(seed)
    reference = crowd(rng, 150, length)
    moved = rng.integers(-8, 9, (150, 2)) / 20
    estimates = [
        e._replace(
            onset=max(0.0, e.onset + a),
            offset=max(0.0, e.onset + a) + max(0.05, e.offset - e.onset + b),
            event_label=str(rng.choice(LABELS)) if i % 3 == 0 else e.event_label,
        )
        for i, (e, (a, b)) in enumerate(zip(reference, moved, strict=True))
    ] + crowd(rng, 40, length)
    estimates = [estimates[i] for i in rng.permutation(len(estimates))]
    ours = scoring.score(reference, estimates, filenames=["a"], classes=LABELS)
    items = [[e._asdict() for e in events] for events in (reference, estimates)]
    assert len(long_clips.stretches(*items, collar=0.2)) > 4
    for name, metric in (
        ("event_f1", SOUND_EVENT.EventBasedMetrics(
            event_label_list=list(LABELS), t_collar=0.2, percentage_of_length=0.2
        )),
        ("segment_f1", SOUND_EVENT.SegmentBasedMetrics(
            event_label_list=list(LABELS), time_resolution=1.0
        )),
    ):  # fmt: skip
        metric.evaluate(*(CONTAINER(events) for events in items))
        theirs, overall = metric.results(), metric.results_overall_metrics()
        assert 0 < ours[name]["micro"] == 100 * overall["f_measure"]["f_measure"] < 100
        rates = overall["error_rate"]
        assert ours[name]["error_rate"]["micro"] == rates["error_rate"]
        for kind in ("substitution", "deletion", "insertion"):
            assert ours[name]["error_rate"][kind] == rates[f"{kind}_rate"] > 0
        for label in LABELS:
            count, found = theirs["class_wise"][label]["count"], ours[name]["counts"][label]
            assert (found["reference"], found["estimated"]) == (count["Nref"], count["Nsys"])
            expected = theirs["class_wise"][label]["f_measure"]["f_measure"]
            assert ours[name]["classwise"][label] == 100 * expected
    json.dumps(ours, allow_nan=False)


@pytest.mark.parametrize("length", [86_400.0, 1e8])
def test_a_day_and_three_years(length):
    """By hand: of one event that lasts throughout half is found, and another is found 1 s late."""
    reference = [Event("a", 0.0, length, "Cat"), Event("a", 10.5, 12.0, "Dog")]
    estimates = [Event("a", 0.0, length / 2, "Cat"), Event("a", 11.5, 13.0, "Dog")]
    scores = scoring.score(reference, estimates, filenames=["a"], classes=LABELS[:2])
    counts = scores["segment_f1"]["counts"]
    assert counts["Cat"] == {"reference": length, "estimated": length / 2, "matched": length / 2}
    assert counts["Dog"] == {"reference": 2, "estimated": 2, "matched": 1}
    assert scores["segment_f1"]["classwise"]["Cat"] == pytest.approx(200 / 3)
    assert scores["event_f1"]["micro"] == 0


def test_only_what_cannot_match_is_parted():
    collar = 0.2
    # 60 events at once, then one 0.21 s later, which rounding might bring nearer, and one far off.
    items = [{"onset": onset} for onset in [0.0] * 60 + [0.21, 9.0]]
    parts = long_clips.stretches(items, [{"onset": 0.0}, {"onset": 9.1}], collar)
    assert [[len(events) for events in part] for part in parts] == [[61, 1], [1, 1]]
    # Few events are not worth it.
    assert long_clips.stretches(items[-2:], [], collar) == [(items[-2:], [])]
    assert long_clips.stretches([], [], collar) == [([], [])]
    # Of many each comes once, in its order.
    spread = [{"onset": float(i)} for i in np.random.default_rng(0).permutation(500)]
    parts = long_clips.stretches(spread, [], collar)
    assert [len(events) for events, _ in parts] == [50] * 10
    for k, (events, _) in enumerate(parts):
        assert events == [item for item in spread if 50 * k <= item["onset"] < 50 * (k + 1)]
