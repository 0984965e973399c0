"""Seconds and frames: hand-worked values and what survives the way there and back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jfsed_jax.sed import events
from jfsed_jax.sed.events import Event

CLASSES = ("Cat", "Dog")


def test_seconds_to_frames_by_hand():
    seconds = [0.0, 0.04, 0.05, 0.14, 0.15, 9.96]
    assert events.seconds_to_frames(seconds, 10).tolist() == [0, 0, 1, 1, 2, 100]
    assert events.frames_to_seconds([0, 3], 10).tolist() == [0.0, 0.3]


def test_events_to_frames_by_hand():
    found = events.events_to_frames(
        [
            Event("a", 0.0, 0.3, "Cat"),
            Event("a", 0.5, 0.51, "Dog"),  # shorter than a frame: one frame all the same
            Event("a", 0.8, 1.7, "Dog"),  # beyond the clip: cut
        ],
        CLASSES,
        num_frames=10,
        frame_rate=10,
    )
    assert found.T.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 0, 1, 1]]


def test_frames_to_events_by_hand():
    decisions = np.array([[1, 0], [1, 1], [0, 1], [1, 0]])
    assert events.frames_to_events(decisions, CLASSES, frame_rate=2, filename="a") == [
        Event("a", 0.0, 1.0, "Cat"),
        Event("a", 1.5, 2.0, "Cat"),
        Event("a", 0.5, 1.5, "Dog"),
    ]
    empty = np.zeros((4, 2))
    assert events.frames_to_events(empty, CLASSES, frame_rate=2, filename="a") == []


FRAME_RATE = 60.0
# Times of one class that keep a frame of silence between events and at least a frame each.
TIMES = st.lists(st.floats(2 / FRAME_RATE, 1.0), min_size=2, max_size=12).map(np.cumsum)


@given(TIMES, TIMES)
def test_events_survive_frames_to_within_half_a_frame(cat, dog):
    original = [
        Event("a", float(onset), float(offset), label)
        for label, times in (("Cat", cat), ("Dog", dog))
        for onset, offset in zip(times[::2], times[1::2], strict=False)
    ]
    frames = events.events_to_frames(original, CLASSES, num_frames=900, frame_rate=FRAME_RATE)
    restored = events.frames_to_events(frames, CLASSES, frame_rate=FRAME_RATE, filename="a")
    assert [e.event_label for e in restored] == [e.event_label for e in original]
    for before, after in zip(original, restored, strict=True):
        assert abs(before.onset - after.onset) <= 0.5 / FRAME_RATE + 1e-9
        assert abs(before.offset - after.offset) <= 0.5 / FRAME_RATE + 1e-9


@given(st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=40))
def test_frames_survive_events_exactly(decisions):
    found = events.frames_to_events(
        np.array(decisions), CLASSES, frame_rate=FRAME_RATE, filename="a"
    )
    frames = events.events_to_frames(
        found, CLASSES, num_frames=len(decisions), frame_rate=FRAME_RATE
    )
    np.testing.assert_array_equal(frames, np.array(decisions))


MERGED = [
    Event("b", 0.0, 1.0, "Cat"),
    Event("a", 2.0, 3.0, "Cat"),
    Event("a", 0.0, 2.5, "Cat"),
    Event("a", 0.5, 0.6, "Cat"),
    Event("a", 1.0, 2.0, "Dog"),
    Event("a", 3.0, 4.0, "Cat"),  # touches
    Event("a", 4.1, 5.0, "Cat"),
]


def test_merge_overlaps():
    assert events.merge_overlaps(MERGED) == [
        Event("a", 0.0, 4.0, "Cat"),
        Event("a", 1.0, 2.0, "Dog"),
        Event("a", 4.1, 5.0, "Cat"),
        Event("b", 0.0, 1.0, "Cat"),
    ]


def test_the_events_that_were_joined_to_another_are_known():
    # Not 0, 2, 4 and 6, with which events begin.
    assert events.join_overlaps(MERGED)[1] == [1, 3, 5]
    assert events.join_overlaps([MERGED[0], MERGED[0]])[1] == [1]
