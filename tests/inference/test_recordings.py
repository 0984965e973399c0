"""Recordings of any length, of stub posteriors: gated, cross-faded, cut, decoded as asked."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from defaults import front_end
from stub_detector import CLASSES, active, constant, make_detector

from jfsed_jax.audio import decoding
from jfsed_jax.audio.host import log_mel
from jfsed_jax.errors import InputError
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.inference.recordings import detect, hear, make_listen, recording_posteriors
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


def test_a_recording_whose_posteriors_are_not_finite_is_named(tmp_path):
    """A NaN is above no threshold: without a word it would be a recording without events."""
    detector = make_detector(tmp_path, by_number([0.6, np.nan]), num_frames=8, stride=2)
    path = tmp_path / "a.wav"
    soundfile.write(path, silence(12 * HOP), 44100)
    with pytest.raises(InputError, match=r"a.wav: .* from 0.067 s are not finite: the mod"):
        detect(detector, path)


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


@pytest.mark.parametrize(("clip_frames", "stride"), [(8, 2), (12, 4), (7, 1)])
@pytest.mark.parametrize("frames", [3, 8, 9, 20, 31])
def test_clips_are_cut_and_put_back_where_they_lie(tmp_path, clip_frames, stride, frames):
    """A model that says what it hears: clips that overlap and fade are the recording again."""

    def says_what_it_hears(variables, mel) -> Posteriors:
        heard = np.asarray(mel[:, ::stride, :2], np.float32)
        return Posteriors(np.ones_like(heard[:, 0]), heard)

    detector = make_detector(tmp_path, says_what_it_hears, num_frames=clip_frames, stride=stride)
    noise = np.random.default_rng(0).normal(0, 0.1, frames * HOP - 100).astype(np.float32)
    found = recording_posteriors(detector, noise)
    expected = log_mel(noise, detector.front_end)[::stride, :2]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_clips_end_to_end_are_those_of_files(tmp_path, monkeypatch):
    """The same sound, silence around it and place in the clip, to the bit; in blocks or at once."""

    def says_where_it_is(variables, mel) -> Posteriors:
        where = np.arange(mel.shape[1], dtype=np.float32)[:, None]
        heard = np.asarray(mel[:, :, :2], np.float32) + 100 * where
        return Posteriors(np.ones_like(heard[:, 0]), heard)

    detector = make_detector(tmp_path, says_where_it_is, num_frames=20)
    noise = np.random.default_rng(0).normal(0, 0.1, 50 * HOP - 100).astype(np.float32)
    mels: list[np.ndarray] = []
    for end in (len(noise), 40 * HOP):  # the last one a part of a clip, or whole
        files = [noise[start : min(start + 20 * HOP, end)] for start in range(0, end, 20 * HOP)]
        expected = np.concatenate([recording_posteriors(detector, file) for file in files])
        found = recording_posteriors(detector, noise[:end], overlap=0)
        # A frame alone is faded by a weight and divided by it.
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        soundfile.write(tmp_path / "a.wav", noise[:end], 44100, subtype="FLOAT")
        monkeypatch.setattr(decoding, "_BLOCK", 7 * HOP + 1)
        mels.clear()
        [heard] = hear(
            detector, [tmp_path / "a.wav"], overlap=0, on_mel=lambda path, mel: mels.append(mel)
        )
        np.testing.assert_array_equal(heard.frames, found)
        own = np.concatenate([log_mel(file, detector.front_end) for file in files])
        np.testing.assert_array_equal(np.concatenate(mels), own)
        assert len(mels) == len(files)  # and no clip of silence behind the last one
        assert abs(recording_posteriors(detector, noise[:end]) - expected).max() > 400


def test_one_program_hears_waveforms_as_two_do(tmp_path):
    """The log-mel of the device is that of the host: what a model hears is the same."""

    def says_what_it_hears(variables, mel) -> Posteriors:
        return Posteriors(mel.max(axis=1), mel)

    detector = make_detector(tmp_path, says_what_it_hears)
    waveforms = np.random.default_rng(0).normal(0, 0.1, (2, 20 * HOP)).astype(np.float32)
    found = make_listen(detector)(detector.variables, waveforms)
    expected = np.stack([log_mel(waveform, detector.front_end) for waveform in waveforms])
    np.testing.assert_allclose(found.frames, expected, atol=1e-4)
    np.testing.assert_allclose(found.clip, expected.max(axis=1), atol=1e-4)


def test_events_are_where_the_sounds_are(tmp_path):
    """Tones in a file of 22050 Hz for a front end of 24000 Hz, through five clips of 20 frames.

    A frame's window is centred on its first sample: tones that begin and end half a frame before a
    frame have it at more than half of their magnitude exactly in the frames of their run.
    """
    rate, runs = 22050, {"Cat": [(3, 9), (33, 41)], "Dog": [(14, 27), (50, 55)]}
    tones = dict(zip(CLASSES, (400, 1000), strict=True))
    times = np.arange(rate) / rate  # 60 frames
    waveform = np.zeros(rate)
    for label, hertz in tones.items():
        for start, stop in runs[label]:
            sounds = (times >= (start - 0.5) / 60) & (times < (stop - 0.5) / 60)
            waveform += sounds * 0.4 * np.sin(2 * np.pi * hertz * times)
    path = str(tmp_path / "tones.wav")
    soundfile.write(path, waveform, rate)

    spectra = dict(hop_length=400, win_length=960, n_fft=1024, fmax=12000.0)
    front = front_end(sample_rate=24000, clip_seconds=20 / 60, **spectra)
    seconds = np.arange(24000) / 24000
    bands, half = [], []
    for hertz in tones.values():
        steady = log_mel(np.float32(0.4 * np.sin(2 * np.pi * hertz * seconds)), front)[30]
        bands.append(steady.argmax())
        half.append(steady.max() - np.log(2))

    def hears(variables, mel) -> Posteriors:
        frames = np.float32(np.asarray(mel)[:, :, bands] > half)
        return Posteriors(frames.max(axis=1), frames)

    expected = [
        Event(path, start / 60, stop / 60, label)
        for label in CLASSES
        for start, stop in runs[label]
    ]
    detector = replace(make_detector(tmp_path, hears), front_end=front)
    assert detect(detector, path) == expected


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
