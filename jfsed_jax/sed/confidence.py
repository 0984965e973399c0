"""How sure a model was of an event: mean and maximum of its class's posterior over its frames.

A posterior is what the model gives for a frame, after its sigmoid. It is no probability that a
listener would agree: it is not calibrated, and depends on class, threshold and recording.

Axis letters: ``T`` frames, ``C`` event classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event, seconds_to_frames


class Confidence(NamedTuple):
    """Of one event, over its frames, from 0 to 1."""

    mean: float
    max: float


def confidences(
    events: Sequence[Event], frames: np.ndarray, classes: Sequence[str], frame_rate: float
) -> list[Confidence]:
    """The confidence of each event of one recording, in their order.

    Args:
      events: of that recording; their frames are those that `events_to_frames` gives them.
      frames: <float32>[T, C] posteriors.
      classes: C labels.
      frame_rate: frames per second of `frames`.

    Raises:
      InputError: an event lies outside the T frames, or its label is not among `classes`.
    """
    index = {label: c for c, label in enumerate(classes)}
    found = []
    for event in events:
        if event.event_label not in index:
            raise InputError(
                f"an event of {event.filename}: the label {event.event_label!r} is not one of "
                f"{', '.join(classes)}"
            )
        start = int(seconds_to_frames(event.onset, frame_rate))
        stop = max(int(seconds_to_frames(event.offset, frame_rate)), start + 1)
        posteriors = frames[max(start, 0) : max(stop, 0), index[event.event_label]]
        if not len(posteriors):
            raise InputError(
                f"an event of {event.filename} is from {event.onset:g} to {event.offset:g} s; "
                f"expected it within the {len(frames) / frame_rate:g} s of posteriors"
            )
        found.append(Confidence(float(posteriors.mean(dtype=np.float64)), float(posteriors.max())))
    return found
