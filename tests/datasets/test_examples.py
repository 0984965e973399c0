"""The choice of example clips, worked out by hand, and their sound."""

import io

import numpy as np
import pytest
import soundfile

from jfsed_jax.datasets.examples import example_clips, example_sounds


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
    *sounds, text, gone = example_sounds(tmp_path, "validation", ["Dog"], spans)
    assert text == gone == b""
    loud = []
    for sound in sounds:
        waveform, rate = soundfile.read(io.BytesIO(sound))
        assert rate == 48000 and len(waveform) == 24000
        loud.append(np.sqrt(np.mean(waveform[2000:-2000] ** 2)))
    assert loud[0] < 0.01 and loud[1] == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert example_sounds(None, "validation", ["Dog"], spans) == [b""] * 4
    assert example_sounds(tmp_path / "gone", "validation", ["Dog"], spans) == [b""] * 4
