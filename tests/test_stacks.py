"""The same numbers on every stack: values that one stored, compared on the others.

``stacks/expected.npz`` was written by the packages of ``launch/constraints/oldest.txt``
(``python tests/test_stacks.py``). Each stage begins from what is here or stored, so that a
difference is seen where it arises. Nothing is drawn: NumPy may change its generators.
"""

import tarfile
from pathlib import Path

import defaults
import numpy as np
import pytest
import soundfile

import jfsed_jax as jf
from jfsed_jax.audio.host import log_mel
from jfsed_jax.audio.reading import load_audio
from jfsed_jax.sed import scoring, uncertainty, window_rules
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import detect_events

EXPECTED = Path(__file__).parent / "stacks/expected.npz"
CHECKPOINT = Path(__file__).parent / "runs/format_1/run.tar.xz"
CLASSES = ("Cat", "Dog", "Speech")
CLIPS = ("a.wav", "b.wav", "c.wav", "d.wav")
FRAME_RATE = 60.0
# Whole seconds at the rates that recordings come in; 44100 is not resampled.
SAMPLE_RATES = (16000, 44100, 48000)


def noise(length, seed):
    """<float64>[length] in [-1, 1), the same everywhere: a linear congruential generator."""
    values = np.empty(length)
    state = seed
    for i in range(length):
        state = (1664525 * state + 1013904223) % 2**32
        values[i] = state / 2**31 - 1
    return values


def features(folder):
    """Log-mels of a recording at each of `SAMPLE_RATES`: read, resampled, every tenth frame."""
    found = {}
    for rate in SAMPLE_RATES:
        time = np.arange(2 * rate) / rate
        waveform = 0.3 * np.sin(2 * np.pi * (200 + 1500 * time) * time) + 0.01 * noise(2 * rate, 1)
        soundfile.write(folder / f"{rate}.wav", waveform, rate, subtype="PCM_16")
        front_end = defaults.front_end()
        samples = load_audio(folder / f"{rate}.wav", front_end.sample_rate)
        found[f"features_{rate}"] = log_mel(samples, front_end)[::10]
    return found


def posteriors(folder):
    """Of a stored checkpoint, for two clips of 100 frames."""
    with tarfile.open(CHECKPOINT) as archive:
        archive.extractall(folder / "run", filter="data")
    mels = (6 * noise(2 * 100 * 64, 2) - 5).reshape(2, 100, 64).astype(np.float32)
    found = {}
    for model in ("student", "teacher"):
        of_model = jf.load(folder / "run", model=model).posteriors(list(mels))
        found |= {f"clip_{model}": of_model.clip, f"frames_{model}": of_model.frames}
    return found


def durations():
    """Of 40 events per class: most are short, a class has a few that are much longer."""
    short = 0.25 + 0.5 * (noise(40, 3) + 1)
    return {
        "Cat": short,
        "Dog": np.concatenate([short[:30], short[30:] + 6]),
        "Speech": 1 + 2 * short**2,
    }


def windows():
    """Every rule's windows, knee and its height."""
    options = defaults.rule_options(clear_knee=0.3)  # as when they were stored
    found = window_rules.class_windows(durations(), frame_rate=FRAME_RATE, options=options)
    return {
        "windows": np.array([[w.fixed, w.avg, w.esp, w.knee_index] for w in found]),
        "knees": np.array([[w.knee, w.height, w.mean] for w in found]),
    }


def events():
    """Of smooth posteriors that cross the threshold: clip, class, onset and offset of each."""
    time = np.arange(600) / FRAME_RATE
    frames = np.empty((len(CLIPS), len(time), len(CLASSES)), np.float32)
    for b in range(len(CLIPS)):
        for c in range(len(CLASSES)):
            wave = np.sin(2 * np.pi * (0.1 * (c + 1) * time + 0.13 * b))
            frames[b, :, c] = 0.5 + 0.4 * wave + 0.15 * noise(len(time), 10 * b + c)
    clip = np.array([[0.9, 0.2, 0.7], [0.6, 0.8, 0.1], [0.51, 0.9, 0.9], [0.3, 0.6, 0.8]])
    return detect_events(
        clip,
        frames,
        np.array([7, 27, 41]),
        filenames=CLIPS,
        classes=CLASSES,
        frame_rate=FRAME_RATE,
    )


def scores():
    """Of those events against themselves moved, shortened and thinned out."""
    found = events()
    reference = [
        Event(e.filename, e.onset + 0.07 * (i % 5), e.offset + 0.1 * (i % 3), e.event_label)
        for i, e in enumerate(found)
        if i % 7
    ]
    tags = np.array([[1, 0, 1], [1, 1, 1], [0, 1, 1], [1, 1, 0]], bool)
    names = ("event_f1", "segment_f1", "at_f1")
    of_all, counts = scoring.score_clips(
        reference, found, filenames=CLIPS, classes=CLASSES, tags=tags
    )
    twice = {name: np.concatenate([count, count]) for name, count in counts.items()}
    intervals = uncertainty.intervals([twice], num_resamples=200)  # of four clips there are none
    return {
        "scores": np.array([[of_all[name][mean] for mean in ("macro", "micro")] for name in names]),
        "intervals": np.array([intervals[f"{name}/macro"] for name in names]),
    }


def computed(folder):
    """All that is stored."""
    rows = [(CLIPS.index(e[0]), CLASSES.index(e[3]), e[1], e[2]) for e in events()]
    return features(folder) | posteriors(folder) | windows() | {"events": np.array(rows)} | scores()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return computed(tmp_path_factory.mktemp("stacks"))


@pytest.fixture(scope="module")
def expected():
    with np.load(EXPECTED) as archive:
        return dict(archive)


def compare(found, expected, prefixes, **tolerances):
    names = [name for name in expected if name.startswith(prefixes)]
    assert names and sorted(found) == sorted(expected)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], **tolerances, err_msg=name)


def test_features(found, expected):
    """Natural logarithms, a resampled recording's too."""
    compare(found, expected, "features_", rtol=0, atol=1e-5)


def test_posteriors(found, expected):
    compare(found, expected, ("clip_", "frames_"), rtol=0, atol=1e-6)


def test_windows(found, expected):
    compare(found, expected, "windows", rtol=0, atol=0)
    compare(found, expected, "knees", rtol=1e-12, atol=0)


def test_events(found, expected):
    assert len(expected["events"]) > 10
    compare(found, expected, "events", rtol=0, atol=0)


def test_scores(found, expected):
    """The intervals depend on NumPy's generator: it has to be the same as well."""
    assert (expected["scores"] > 0).all() and (expected["scores"] < 100).all()
    compare(found, expected, ("scores", "intervals"), rtol=0, atol=1e-9)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(EXPECTED, **computed(Path(folder)))
