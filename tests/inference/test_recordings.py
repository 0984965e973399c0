"""Recordings of any length, of stub posteriors: gated, cross-faded, cut, decoded as asked."""

import numpy as np
import pytest
import soundfile
from stub_detector import active, constant, make_detector

from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.inference.recordings import detect, recording_posteriors
from jfsed_jax.sed.events import Event

HOP = 735  # samples of a frame


def by_number(levels, tags=None):
    """Clip i of a recording has ``levels[i]`` in its four frames, and ``tags[i]``."""

    def posteriors(variables, mel) -> Posteriors:
        assert mel.shape[1:] == (8, 64)
        numbers = np.minimum(np.arange(len(mel)), len(levels) - 1)  # a batch is padded
        clip = np.float32(levels if tags is None else tags)[numbers]
        frames = np.float32(levels)[numbers]
        return Posteriors(
            np.repeat(clip[:, None], 2, axis=1), np.tile(frames[:, None, None], (1, 4, 2))
        )

    return posteriors


def silence(samples):
    return np.zeros(samples, np.float32)


def test_frames_count_where_the_tag_of_their_class_is_above_a_half(tmp_path):
    posteriors = constant([0.4, 0.6], np.full((4, 2), 0.9))
    detector = make_detector(tmp_path, posteriors, num_frames=8, stride=2)
    found = recording_posteriors(detector, silence(8 * HOP))
    np.testing.assert_allclose(found, [[0, 0.9]] * 4, rtol=1e-6)


def test_a_tag_of_a_half_is_absent(tmp_path):
    posteriors = constant([0.5, 0.5], np.full((4, 2), 0.9))
    detector = make_detector(tmp_path, posteriors, num_frames=8, stride=2)
    assert not recording_posteriors(detector, silence(8 * HOP)).any()


def test_overlapping_clips_are_cross_faded(tmp_path):
    # Clips of 4 of the student's frames, weights 0.4 0.8 0.8 0.4; the second begins at frame 2.
    # Frame 2: (0.8 0.6 + 0.4 0.9) / 1.2 = 0.7; frame 3: (0.4 0.6 + 0.8 0.9) / 1.2 = 0.8.
    detector = make_detector(tmp_path, by_number([0.6, 0.9]), num_frames=8, stride=2)
    found = recording_posteriors(detector, silence(12 * HOP))
    assert found.dtype == np.float32
    expected = [0.6, 0.6, 0.7, 0.8, 0.9, 0.9]
    np.testing.assert_allclose(found, np.tile(np.array(expected)[:, None], 2), rtol=1e-6)


def test_each_clip_is_gated_by_its_own_tags_before_the_fade(tmp_path):
    # Frame 2: 0.4 0.9 / 1.2; frame 3: 0.8 0.9 / 1.2.
    posteriors = by_number([0.9, 0.9], tags=[0.4, 0.6])
    detector = make_detector(tmp_path, posteriors, num_frames=8, stride=2)
    found = recording_posteriors(detector, silence(12 * HOP))
    np.testing.assert_allclose(found[:, 1], [0, 0, 0.3, 0.6, 0.9, 0.9], rtol=1e-6)


@pytest.mark.parametrize(
    ("samples", "frames"),
    # Started frames of the front end, two of them to one of the student.
    [(1, 1), (2 * HOP, 1), (2 * HOP + 1, 2), (5 * HOP, 3), (8 * HOP, 4), (8 * HOP + 1, 5)],
)
def test_a_recording_has_its_own_length(tmp_path, samples, frames):
    detector = make_detector(tmp_path, by_number([0.9, 0.9]), num_frames=8, stride=2)
    found = recording_posteriors(detector, silence(samples))
    np.testing.assert_allclose(found, np.full((frames, 2), 0.9), rtol=1e-6)


@pytest.fixture
def recording(tmp_path):
    """A file of 20 frames, and a detector that finds two frames and eight frames of cats in it."""
    path = tmp_path / "recording.wav"
    soundfile.write(path, silence(20 * HOP) + 0.25, 44100)
    frames = active(20, (3, 5), (8, 16))
    return str(path), make_detector(tmp_path, constant([0.9, 0.1], frames)), frames


def test_the_rule_that_is_asked_for_filters(recording):
    path, detector, _ = recording
    short, long = Event(path, 3 / 60, 5 / 60, "Cat"), Event(path, 8 / 60, 16 / 60, "Cat")
    assert detect(detector, path) == [short, long]  # the config's, windows of 1
    assert detect(detector, path, rule="fixed") == [long]  # windows of 5


def test_a_decoder_that_is_handed_in_gets_gated_frames(recording):
    path, detector, expected = recording
    events = [Event("other.wav", 0.0, 1.0, "Dog")]

    def decode(clip, frames, filenames):
        assert clip is None and filenames == [path]
        np.testing.assert_allclose(frames, expected[None], rtol=1e-6)
        return events

    assert detect(detector, path, rule="fixed", decode=decode) is events


def test_without_a_gate_tags_do_not_count(tmp_path):
    posteriors = constant([0.4, 0.6], np.full((4, 2), 0.9))
    changes = {"postprocess.gate": False}
    detector = make_detector(tmp_path, posteriors, num_frames=8, stride=2, **changes)
    found = recording_posteriors(detector, silence(8 * HOP))
    np.testing.assert_allclose(found, np.full((4, 2), 0.9), rtol=1e-6)
