"""The confidence of an event is that of its own frames and its own class."""

import numpy as np
import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.sed.confidence import Confidence, confidences
from jfsed_jax.sed.events import Event, frames_to_events

CLASSES = ("Cat", "Dog")
# Frames of 0.5 s; columns Cat, Dog.
FRAMES = np.array([[0.9, 0.1], [0.8, 0.6], [0.1, 1.0], [0.7, 0.2]], np.float32)


def test_by_hand():
    events = [
        Event("a.wav", 0.5, 1.5, "Dog"),  # frames 1 and 2
        Event("a.wav", 0.0, 1.0, "Cat"),  # frames 0 and 1
        Event("a.wav", 1.5, 1.6, "Cat"),  # shorter than a frame: frame 3
        Event("a.wav", 1.5, 9.0, "Dog"),  # cut at the end of the recording
    ]
    found = confidences(events, FRAMES, CLASSES, 2.0)
    expected = [(0.8, 1.0), (0.85, 0.9), (0.7, 0.7), (0.2, 0.2)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert all(isinstance(one, Confidence) for one in found)


def test_every_frame_of_an_event_that_was_detected_counts_and_no_other():
    # 1 where active, 0 elsewhere: a frame too many lowers the mean. 60 frames a second have no
    # times of finitely many digits.
    rng = np.random.default_rng(0)
    active = rng.random((500, 2)) < 0.5
    events = frames_to_events(active, CLASSES, frame_rate=60.0, filename="a.wav")
    found = confidences(events, active.astype(np.float32), CLASSES, 60.0)
    assert len(found) > 100
    assert set(found) == {Confidence(1.0, 1.0)}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event("a.wav", 2.0, 3.0, "Dog"), "within the 2 s"),
        (Event("a.wav", 0.0, 1.0, "Bird"), "'Bird' is not one of Cat, Dog"),
    ],
)
def test_an_event_that_has_no_posteriors_is_named(event, reason):
    with pytest.raises(InputError, match=f"a.wav.*{reason}"):
        confidences([event], FRAMES, CLASSES, 2.0)
