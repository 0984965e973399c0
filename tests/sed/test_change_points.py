"""Change points by hand: steps, gaps, edges; what must not depend on anything else."""

import numpy as np
import pytest

from jfsed_jax.sed import tuning
from jfsed_jax.sed.change_points import (
    ChangePoints,
    change_point_candidates,
    change_point_decoder,
    half_filter,
    merged,
    segments,
)
from jfsed_jax.sed.confidence import confidences
from jfsed_jax.sed.decoder_files import TunedDecoder
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.heights import boxes, track_of


def clip(num_frames, *spans):
    posteriors = np.zeros(num_frames)
    for start, stop, value in spans:
        posteriors[start:stop] = value
    return posteriors


def found(*clips, half=4, absolute=0.1, relative=1.2):
    """Clip, start, stop and confidence of each event."""
    track = track_of(clips)
    heights = track._replace(values=merged(segments(track, half), absolute, relative))
    box = boxes(heights)
    assert not box.low.any()  # events never touch
    rows = zip(box.clip.tolist(), box.start.tolist(), box.stop.tolist(), box.high, strict=True)
    return [(*places, pytest.approx(float(high), abs=1e-8)) for *places, high in sorted(rows)]


def test_a_clean_step_is_found_to_the_frame():
    for half in (1, 4, 9):
        assert found(clip(40, (11, 23, 0.8)), half=half) == [(0, 11, 23, 0.8)]


def test_extent_and_confidence_do_not_depend_on_the_threshold():
    """From the steepest rise to the steepest fall; the events of a median would shrink."""
    slope = np.concatenate([np.zeros(10), np.linspace(0, 0.9, 5), np.full(10, 0.9), np.zeros(10)])
    [(_, start, stop, confidence)] = found(slope)
    assert (start, stop) == (12, 25) and confidence == slope[12:25].mean()
    for threshold in (0.05, 0.5, 0.8):
        decode = change_point_decoder(
            None, classes=["x"], frame_rate=10.0, threshold=threshold,
            settings=[ChangePoints(0.8, 0.1, 1.2)],
        )  # fmt: skip
        assert decode(None, slope[None, :, None], ["a"]) == [Event("a", 1.2, 2.5, "x")]


@pytest.mark.parametrize(
    ("gap", "absolute", "relative", "joined"),
    [
        (0.75, 0.2, 1.0, True),  # 0.15 below the higher one
        (0.75, 0.1, 1.0, False),
        (0.75, 0.0, 1.25, True),  # a fifth more than the gap
        (0.75, 0.0, 1.15, False),
        (0.1, 0.75, 8.5, False),  # 0.7 below the lower one, 0.8 below the higher one
    ],
)
def test_a_gap_that_is_hardly_lower_is_closed(gap, absolute, relative, joined):
    two = clip(50, (5, 15, 0.8), (15, 20, gap), (20, 30, 0.9))
    events = found(two, absolute=absolute, relative=relative)
    assert events == ([(0, 5, 30, two[5:30].mean())] if joined else
                      [(0, 5, 15, 0.8), (0, 20, 30, 0.9)])  # fmt: skip


def test_closing_goes_on_with_the_confidences_of_what_was_joined():
    """Of three, the second gap is 0.22 below the event before it; joined to the first, 0.19."""
    last = [(20, 30, 0.9), (30, 35, 0.68), (35, 45, 0.74)]
    first = [(5, 15, 0.9), (15, 20, 0.75)]
    alone = found(clip(80, *last), absolute=0.2, relative=1.0)
    assert [row[1:3] for row in alone] == [(20, 30), (35, 45)]
    joined = found(clip(80, *first, *last), absolute=0.2, relative=1.0)
    assert [row[1:3] for row in joined] == [(5, 45)]


def test_of_a_flat_extremum_the_middle_counts():
    """Equal steps from frame 9 to 21: a filter of two frames a side is on them from 11 to 20."""
    ramp = np.concatenate([np.zeros(10), np.arange(1, 13) / 16, np.full(10, 0.75), np.zeros(10)])
    assert [row[1:3] for row in found(ramp, half=2)] == [(15, 32)]


def test_the_ends_of_a_clip_are_no_change():
    assert found(clip(30, (0, 12, 0.8))) == [(0, 0, 12, 0.8)]
    assert found(clip(30, (18, 30, 0.8))) == [(0, 18, 30, 0.8)]
    assert found(clip(30, (0, 6, 0.8), (24, 30, 0.7))) == [(0, 0, 6, 0.8), (0, 24, 30, 0.7)]
    assert found(clip(30, (1, 29, 0.8))) == [(0, 1, 29, 0.8)]
    # And change as much before an end as elsewhere.
    assert found(clip(30, (10, 27, 0.8), (27, 30, 0.5))) == [(0, 10, 27, 0.8)]
    assert found(clip(30, (0, 3, 0.5), (3, 20, 0.8))) == [(0, 3, 20, 0.8)]


def test_constant_one_frame_and_empty():
    for value in (0.7, 0.1 + 0.2, 1.0):
        assert found(np.full(37, value)) == [(0, 0, 37, value)]
    assert found(np.array([0.4])) == [(0, 0, 1, 0.4)]
    assert found(np.zeros(9)) == found(np.zeros(0)) == found() == []


def test_clips_beside_one_another_change_nothing():
    rng = np.random.default_rng(0)
    clips = [rng.random(n) for n in (30, 0, 1, 2, 55)]
    alone = [[(b, *row[1:]) for row in found(own)] for b, own in enumerate(clips)]
    assert found(*clips) == [row for rows in alone for row in rows]


def test_mirrored_time_gives_mirrored_events_where_extrema_are_sharp():
    posteriors = np.random.default_rng(1).random(200)
    mirrored = [(0, 200 - stop, 200 - start, c) for _, start, stop, c in found(posteriors[::-1])]
    assert found(posteriors) == mirrored[::-1]


def test_a_ripple_of_silence_joins_nothing():
    rippled = clip(100, (20, 40, 0.8)) + 0.01 * (1 + np.sin(np.arange(100)))
    loud = [row for row in found(rippled, absolute=0.2, relative=1.5) if row[3].expected > 0.5]
    assert [row[1:3] for row in loud] == [(20, 40)]


def test_filters_in_frames():
    assert [half_filter(s, 60.0) for s in (0.0, 0.01, 0.32, 0.48, 0.64)] == [1, 1, 10, 14, 19]


def test_clip_tags_gate_and_the_confidence_is_the_mean_of_the_events_own_extent():
    rng = np.random.default_rng(2)
    frames = np.repeat(rng.random((2, 12, 2)), 9, axis=1).astype(np.float32)
    decode = change_point_decoder(None, classes=["x", "y"], frame_rate=20.0, threshold=0.4)
    events = decode(np.array([[0.51, 0.5], [0, 1]]), frames, ["a", "b"])
    assert {(event.filename, event.event_label) for event in events} == {("a", "x"), ("b", "y")}
    own = [event for event in events if event.filename == "a"]
    heights = merged(segments(track_of([frames[0, :, 0]]), half_filter(0.48, 20.0)), 0.2, 1.5)
    expected = sorted(set(heights[heights > 0.4]))
    sure = confidences(own, frames[0], ["x", "y"], 20.0)
    assert sorted(one.mean for one in sure) == pytest.approx(expected, abs=1e-6)


def test_the_search_finds_the_settings_that_gave_the_events():
    rng = np.random.default_rng(3)
    frames = np.clip(np.repeat(rng.random((8, 10, 2)), 6, axis=1) + rng.normal(0, 0.1, (8, 60, 2)),
                     0, 1)  # fmt: skip
    names = [f"{b}.wav" for b in range(8)]
    settings = [ChangePoints(0.8, 0.2, 2.0), ChangePoints(0.4, 0.0, 2.0)]
    said = change_point_decoder(
        None, classes="xy", frame_rate=10.0, threshold=np.array([0.5, 0.7]), settings=settings
    )
    reference = said(None, frames, names)
    tried = change_point_candidates((0.4, 0.8), (0.0, 0.2), (1.0, 2.0), frame_rate=10.0)
    tuned = tuning.tune_classes(
        list(frames), [np.arange(61) / 10] * 8, reference, {"x": tried, "y": tried}, filenames=names
    )
    found = {c: {"threshold": own.threshold, **own.settings} for c, own in tuned.items()}
    decode = TunedDecoder("change_points", 0, found, {}).decode(["x", "y"], 10.0)
    assert decode(None, frames, names) == reference
    for label, own in tuned.items():
        assert own.counts.tolist() == [sum(event.event_label == label for event in reference)] * 3
