"""The exact search over thresholds and settings: against brute force, and by hand."""

import numpy as np
import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.sed import intersection, postprocessing, psds_libraries, scoring, tuning
from jfsed_jax.sed.error_kinds import KINDS, sort_errors
from jfsed_jax.sed.events import Event, frames_to_events
from jfsed_jax.sed.heights import boxes, median_heights, onsets, track_of
from jfsed_jax.sed.threshold_counts import event_counts, intersection_counts

CLASSES = ["Cat", "Dog"]


def tuned(clips, times, reference, windows=(1,), names=None, **options):
    names = names or [f"{b}.wav" for b in range(len(clips))]
    tried = dict.fromkeys(CLASSES[: clips[0].shape[1]], tuning.median_candidates(windows))
    return tuning.tune_classes(clips, times, reference, tried, filenames=names, **options)


def runs(heights, threshold):
    """Clip, start and stop of the runs above a threshold, by `frames_to_events`."""
    found = []
    for b, (start, stop) in enumerate(zip(heights.starts, heights.starts[1:], strict=False)):
        active = heights.values[start:stop, None] > threshold
        events = frames_to_events(active, ["x"], frame_rate=1.0, filename="a")
        found += [(b, int(event.onset), int(event.offset)) for event in events]
    return found


def test_boxes_are_the_events_of_every_threshold():
    rng = np.random.default_rng(0)
    for _ in range(30):
        clips = [np.round(rng.random(rng.integers(0, 12)), 1) for _ in range(4)]
        heights = track_of(clips)
        found, begun = boxes(heights), onsets(heights)
        for threshold in np.arange(21) / 20:
            there = (found.low <= threshold) & (threshold < found.high)
            own = [part[there].tolist() for part in (found.clip, found.start, found.stop)]
            expected = runs(heights, threshold)
            assert sorted(zip(*own, strict=True)) == expected
            assert np.sum((begun.low <= threshold) & (threshold < begun.high)) == len(expected)


def test_a_long_comb_takes_few_steps():
    """As a day of sound has it: all boxes end in one, and each would walk past all others."""
    comb = np.tile([0.5, 1.0], 200_000) * np.linspace(0.5, 1.0, 400_000)
    found = boxes(track_of([comb]))
    assert len(found.clip) == 400_000
    assert (found.stop - found.start).max() == 400_000


@pytest.mark.parametrize("medians", [0, 1, 2])
def test_heights_decide_as_the_decoder_does(medians):
    frames = np.random.default_rng(1).random((5, 40, 1)).astype(np.float32)
    frames[0] = 0
    for window in (1, 2, 7, 99):
        heights = median_heights(track_of(list(frames[:, :, 0])), window, medians)
        for threshold in (0.3, 0.5, 0.62):
            found = postprocessing.postprocess(
                None, frames, np.array([window]), threshold=threshold, medians=medians
            )
            np.testing.assert_array_equal(found.decisions.ravel(), heights.values > threshold)


def random_clips(rng, scale):
    """Posteriors of eleven values, and events at and near their edges, some of them crowded."""
    lengths = rng.integers(1, 30, 5)
    clips = [np.round(rng.random((length, 2)) ** 2, 1) for length in lengths]
    clips[0].sort(axis=0)
    reference = []
    for b, length in enumerate(lengths.tolist()):
        for label in CLASSES:
            for _ in range(rng.integers(0, 5)):
                start = int(rng.integers(0, length))
                stop = int(rng.integers(start + 1, length + 1))
                onset = (start / 10 + rng.choice([0, 0.05, 0.2])) * scale
                reference.append(Event(f"{b}.wav", onset, (stop / 10 + 0.2) * scale, label))
    return clips, [np.arange(length + 1) / 10 * scale for length in lengths], reference


def best_by_brute_force(clips, times, reference, metric, label, windows):
    """F1 and window of the first of the best, every threshold scored by `scoring`."""
    c, names = CLASSES.index(label), [f"{b}.wav" for b in range(len(clips))]
    values = np.unique(np.concatenate([np.zeros(1), *(clip[:, c] for clip in clips)]))
    own = [event for event in reference if event.event_label == label]
    best = (-1.0, 0)
    for window in windows:
        for threshold in (values[1:] + values[:-1]) / 2:
            events = []
            for name, clip, edges in zip(names, clips, times, strict=True):
                found = postprocessing.detect_events(
                    None, clip[None, :, [c]], np.array([window]), filenames=[name],
                    classes=[label], frame_rate=1.0, threshold=threshold,
                )  # fmt: skip
                events += [
                    event._replace(onset=edges[int(event.onset)], offset=edges[int(event.offset)])
                    for event in found
                ]
            scores = scoring.score(own, events, filenames=names, classes=[label])
            f1 = scores[metric]["macro"] or 0.0
            if f1 > best[0] + 1e-9:
                best = f1, window
    return best


@pytest.mark.parametrize(
    ("metric", "scale", "seeds"),
    [("event_f1", 1, 6), ("segment_f1", 3.7, 2), ("at_f1_events", 1, 1)],
)
def test_the_search_finds_the_best_of_all_thresholds_and_windows(metric, scale, seeds):
    for seed in range(seeds):
        clips, times, reference = random_clips(np.random.default_rng(seed), scale)
        found = tuned(clips, times, reference, (1, 3, 5), metric=metric)
        f1 = tuning.summary([one.counts for one in found.values()], metric, CLASSES)
        for label in CLASSES:
            expected = best_by_brute_force(clips, times, reference, metric, label, (1, 3, 5))
            assert f1["classwise"][label] == pytest.approx(expected[0], abs=1e-9)
            assert found[label].settings == {"window": expected[1]}


def test_of_equally_good_intervals_the_one_nearest_a_half_and_its_middle():
    frames = np.zeros((40, 2))
    frames[10:20, 0] = 0.3  # right below 0.3
    frames[10:20, 1] = 0.9
    frames[11:19, 1] = 0.95  # right up to 0.95
    reference = [Event("0.wav", 1.0, 2.0, label) for label in CLASSES]
    times = [np.arange(41) / 10]
    found = tuned([frames], times, reference, (1, 5))
    assert found["Cat"].threshold == 0.15 and found["Dog"].threshold == 0.45
    assert found["Cat"].settings == {"window": 1}
    assert found["Dog"].counts.tolist() == [1, 1, 1]
    frames[10:18, 0] = 0.4
    frames[18:20, 0] = 0.2, 0.25  # joined below 0.2, and a false alarm from there to 0.25
    assert tuned([frames], times, reference)["Cat"].threshold == 0.325
    absent = tuned([frames], times, reference[:1], (1, 5))["Dog"]
    assert (absent.threshold, absent.settings) == (0.5, {"window": 1})


def test_the_largest_matching_counts():
    """The first event fits both runs, the second the earlier one alone, which the first takes."""
    frames = np.zeros((200, 1))
    frames[110:115], frames[130:145] = 0.8, 0.6
    reference = [Event("0.wav", 1.2, 1.3, "Cat"), Event("0.wav", 1.21, 1.22, "Cat")]
    found = tuned([frames], [np.arange(201) / 100], reference)["Cat"]
    assert found.counts.tolist() == [2, 2, 2] and found.threshold == 0.3


def test_a_crowd_is_matched_at_every_threshold_as_scipy_matches_it():
    rng = np.random.default_rng(5)
    for _ in range(10):
        heights = track_of([np.round(rng.random(60), 1)])
        onset = rng.uniform(0, 2.8, 25).round(2)
        reference = [Event("a", t, t + rng.uniform(0.05, 0.4), "x") for t in onset.tolist()]
        truth = tuning.truths_of(reference, np.arange(61) / 20, ["a"], ["x"])["x"]
        matched = event_counts(heights, truth).matched
        for threshold in np.arange(10) / 10:
            events = [Event("a", s / 20, e / 20, "x") for _, s, e in runs(heights, threshold)]
            hits = np.sum(sort_errors(reference, events).reference == KINDS.index("hit"))
            assert np.sum((matched.low <= threshold) & (threshold < matched.high)) == hits


def test_a_long_chain_of_shared_candidates_is_matched_whole():
    """Short calls every 0.3 s, heard 0.15 s late: each run fits two of them, in one chain."""
    calls, frames = np.arange(2000) * 0.3, np.zeros((12_020, 1))
    frames[np.round((calls + 0.15) * 20).astype(int)[:, None] + np.arange(2)] = 0.6
    reference = [Event("0.wav", onset, onset + 0.1, "Cat") for onset in calls.tolist()]
    found = tuned([frames], [np.arange(12_021) / 20], reference)["Cat"]
    assert found.counts.tolist() == [2000, 2000, 2000]


def test_neighbouring_floats_have_a_threshold_between_them():
    for low in (0.7, np.nextafter(0.7, 1)):  # their middle is rounded up or down
        high = np.nextafter(low, 1)
        frames = np.full((40, 1), low)
        frames[10:20] = high
        found = tuned([frames], [np.arange(41) / 10], [Event("0.wav", 1.0, 2.0, "Cat")])["Cat"]
        assert found.counts.tolist() == [1, 1, 1]
        assert low <= found.threshold < high


def test_held_out_clips_are_scored_with_what_the_others_say():
    """Four clips of two kinds: where the last of a kind is left out, the other kind decides."""
    loud, soft = np.zeros((40, 1)), np.zeros((40, 1))
    loud[10:20], loud[30:40] = 0.9, 0.6  # of which only the first is true
    soft[10:20] = 0.4
    reference = [Event(f"{b}.wav", 1.0, 2.0, "Cat") for b in range(3)]
    found = tuned([loud, soft, loud], [np.arange(41) / 10] * 3, reference, folds=3)["Cat"]
    # All: above 0.6 two of three are found, above 0 three, with two false alarms.
    assert found.counts.tolist() == [3, 2, 2] and found.threshold == 0.75
    # Without a loud one: above 0 both are found and one false alarm: F1 4/5, above 0.6 2/3; so the
    # loud one is scored with a false alarm. Without the soft one: above 0.6, and it is missed.
    assert found.held_out.tolist() == [3, 4, 2]


def test_values_of_held_out_clips_decide_no_threshold():
    """Of two loud clips it is 0.6, between 0.4 and 0.8; a soft one would draw it below its own."""
    loud, soft = np.zeros((40, 1)), np.zeros((40, 1))
    loud[10:20], loud[30:40], soft[10:20] = 0.8, 0.4, 0.58
    reference = [Event(f"{b}.wav", 1.0, 2.0, "Cat") for b in range(3)]
    found = tuned([loud, loud, soft], [np.arange(41) / 10] * 3, reference, folds=3)["Cat"]
    assert found.threshold == pytest.approx(0.49) and found.counts.tolist() == [3, 3, 3]
    assert found.held_out.tolist() == [3, 2, 2]


def test_folds_need_clips():
    frames, times = [np.zeros((4, 1))] * 2, [np.arange(5.0)] * 2
    with pytest.raises(InputError, match="3 folds of 2 clips"):
        tuned(frames, times, [], folds=3)
    with pytest.raises(InputError, match="metric is 'f1'"):
        tuned(frames, times, [], metric="f1")


def test_intersections_by_hand():
    """Two events of 1 s; a run of 0.9 covers the first, one of 0.6 both and the second between."""
    frames = np.zeros(60)
    frames[8:50] = 0.3  # 2 of 4.2 s are events: false
    frames[8:34] = 0.6  # 1.6 of 2.6 s: covers all of the first, 0.4 of the second
    frames[10:20] = 0.9
    frames[55:58] = 0.5  # false
    truth = tuning.truths_of(
        [Event("0.wav", 1.0, 2.0, "Cat"), Event("0.wav", 3.0, 4.0, "Cat")],
        np.arange(61) / 10, ["0.wav"], ["Cat"],
    )["Cat"]  # fmt: skip
    counts = intersection_counts(track_of([frames]), truth)

    def at(threshold):
        return [
            int(np.sum((spans.low <= threshold) & (threshold < spans.high)))
            for spans in (counts.estimated, counts.matched)
        ]

    assert counts.reference.tolist() == [2]
    # Estimated are the false ones and the matched ones.
    assert [at(t) for t in (0.1, 0.4, 0.55, 0.7, 0.95)] == [[2, 0], [2, 1], [1, 1], [1, 1], [0, 0]]


def test_intersection_f1_is_that_of_the_reference_implementation():
    try:
        psds_libraries.library("sed_scores_eval")
    except InputError as error:
        pytest.skip(str(error))
    clips, times, reference = random_clips(np.random.default_rng(3), 1)
    lengths = {f"{b}.wav": float(edges[-1]) + 0.5 for b, edges in enumerate(times)}
    found = tuned(clips, times, reference, (3,), metric="intersection_f1")
    f1 = tuning.summary([one.counts for one in found.values()], "intersection_f1", CLASSES)
    for c, label in enumerate(CLASSES):
        best = 0.0
        for threshold in np.unique(np.concatenate(clips)[:, c]):
            events = [
                Event(f"{b}.wav", times[b][start], times[b][stop], label)
                for b, start, stop in runs(
                    median_heights(track_of([clip[:, c] for clip in clips]), 3), threshold
                )
            ]
            own = [event for event in reference if event.event_label == label]
            scores, _ = intersection.intersection_f1(
                own, events, durations=lengths, classes=[label]
            )
            best = max(best, scores["macro"])
        assert f1["classwise"][label] == pytest.approx(best, abs=1e-9)
