"""The choice of example clips, worked out by hand, and their sound."""

import io
from collections import Counter

import numpy as np
import pytest
import soundfile

from jfsed_jax.datasets.examples import (
    errors_by_clip,
    example_clips,
    example_sounds,
    worst_clips,
)
from jfsed_jax.sed.error_kinds import sort_errors
from jfsed_jax.sed.events import Event


@pytest.mark.parametrize(
    ("labels", "most", "expected"),
    [
        # C has three classes, D adds two to them, then A one; B adds nothing.
        (["f", "ab", "abc", "de", "d"], 3, [2, 3, 0]),
        # Both add one class: the one that holds more of them first.
        (["ab", "c", "ad"], 3, [0, 2, 1]),
        # Nothing is left to add: more classes first, then the earlier one.
        (["a", "ab", "b", "ab"], 4, [1, 3, 0, 2]),
        # Equals keep their order, a clip without classes comes last, and repeats count once.
        ([["x"], [], ["y"], ["z", "z"]], 4, [0, 2, 3, 1]),
        (["a", "b"], 5, [0, 1]),
        (["a", "b"], 0, []),
        ([], 3, []),
    ],
)
def test_each_adds_most_classes_to_those_before_it(labels, most, expected):
    assert example_clips(labels, most) == expected


def test_an_error_is_in_every_clip_that_it_overlaps():
    """Hits are none, and recordings without a clip are left out; b is whole, whatever its end."""
    names = ["a.wav@0", "a.wav@5", "b.wav"]
    spans = [("a.wav", 0.0, 10.0), ("a.wav", 5.0, 15.0), ("b.wav", 0.0, 10.0)]
    reference = [
        Event("a.wav", 1, 2, "Dog"), Event("a.wav", 7, 9, "Dog"), Event("a.wav", 4, 5, "Cat"),
        Event("a.wav", 15, 16, "Cat"), Event("b.wav", 1, 2, "Dog"), Event("c.wav", 1, 2, "Dog"),
    ]  # fmt: skip
    estimates = [Event("b.wav", 1, 2.1, "Dog"), Event("b.wav", 10.1, 11, "Dog")]
    both = (reference, estimates)
    assert errors_by_clip(both, sort_errors(*both), names, spans) == {
        ("Dog", "missed"): {0: 2, 1: 1}, ("Cat", "missed"): {0: 1}, ("Dog", "false_alarm"): {2: 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("errors", "shown", "most", "expected"),
    [
        # Clip 5 is the worst of two kinds, of six errors; then clip 1 of five.
        ({"am": {5: 2, 2: 1}, "af": {5: 1, 7: 1, 8: 1}, "bm": {1: 3, 5: 2}}, [], 9, [5, 1]),
        # What is shown is the worst of one kind already; of equals the first.
        ({"am": {5: 2, 2: 1}, "af": {5: 1, 8: 1, 7: 1}}, [5], 9, []),
        ({"am": {5: 2, 2: 1}, "af": {8: 1, 7: 1}}, [5], 9, [7]),
        # A clip that is shown and is not the worst changes nothing.
        ({"am": {5: 2, 2: 1}}, [2], 9, [5]),
        # Most errors first, where there is no room for all.
        ({"am": {0: 1, 1: 1}, "bm": {2: 2, 3: 1}}, [], 1, [2]),
        ({"am": {0: 1}}, [], 0, []),
        ({}, [], 3, []),
    ],
)
def test_the_worst_clips_are_of_every_class_and_kind(errors, shown, most, expected):
    errors = {(key[0], key[1]): Counter(clips) for key, clips in errors.items()}
    assert worst_clips(errors, shown, most) == expected


def test_the_sound_of_a_clip_is_that_of_its_time(tmp_path):
    """A tone in the second half; of a file that is gone, or is none, there is no sound."""
    audio = tmp_path / "audio" / "validation"
    audio.mkdir(parents=True)
    times = np.arange(16000) / 16000
    tone = 0.5 * np.sin(2 * np.pi * 1000 * times) * (times >= 0.5)
    soundfile.write(audio / "a.wav", tone, 16000)
    (audio / "b.wav").write_text("text")
    (tmp_path / "metadata" / "validation").mkdir(parents=True)
    rows = ["filename\tonset\toffset\tevent_label"] + [f"{n}.wav\t0\t1\tDog" for n in "abc"]
    (tmp_path / "metadata" / "validation" / "validation.tsv").write_text("\n".join(rows) + "\n")
    spans = [("a.wav", 0.0, 0.5), ("a.wav", 0.5, 1.0), ("b.wav", 0.0, 1.0), ("c.wav", 0.0, 1.0)]
    *sounds, text, gone = example_sounds(
        tmp_path, "validation", ["Dog"], spans, [48000, 24000, 48000, 48000]
    )
    assert text == gone == b""
    loud = []
    for sound, expected in zip(sounds, (48000, 24000), strict=True):
        waveform, rate = soundfile.read(io.BytesIO(sound))
        assert rate == expected and len(waveform) == rate / 2
        loud.append(np.sqrt(np.mean(waveform[2000:-2000] ** 2)))
    assert loud[0] < 0.01 and loud[1] == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert example_sounds(None, "validation", ["Dog"], spans, [48000] * 4) == [b""] * 4
    assert example_sounds(tmp_path / "gone", "validation", ["Dog"], spans, [48000] * 4) == [b""] * 4
