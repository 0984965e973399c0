"""Recordings that were cut for training, scored whole: what `predict` hears, with every label."""

import numpy as np
import pytest
from defaults import front_end
from stub_detector import CLASSES, StubClips, active, by_mel, make_detector, make_prepared

from jfsed_jax.audio.host import log_mel
from jfsed_jax.datasets.clips import Clip
from jfsed_jax.datasets.extraction import AudioInfo, clip_start
from jfsed_jax.datasets.selection import Subset, TrainingData
from jfsed_jax.inference.evaluation import evaluate
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.inference.recordings import recording_posteriors
from jfsed_jax.inference.whole_recordings import WholeRecordings, each_clip
from jfsed_jax.report import run_clips
from jfsed_jax.runs.saved_run import read_run
from jfsed_jax.runs.workdir import write_json
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import median_decoder
from jfsed_jax.sed.score_files import read_score_files
from jfsed_jax.sed.tables import read_events
from jfsed_jax.training.validation import validate

HOP = 735  # samples of a frame, of which there are 60 a second
SILENCE = np.log(np.float32(1e-4))


class Recordings(StubClips):
    """Log-mels of any length, cut into clips of `size` frames as `prepare` cuts them."""

    def __init__(self, mels, reference=(), *, size=20, num_frames=None):
        cut, self.clips, names = [], [], []
        self.front_end = front_end(clip_seconds=size / 60)
        for number, mel in enumerate(mels):
            parts = -(-len(mel) // size)
            seconds = (num_frames or len(mel)) / 60
            info = AudioInfo(seconds, 44100, 1, "PCM_16", -3.0, -9.0, "1f", parts)
            for k in range(parts):
                part = mel[k * size : (k + 1) * size]
                padding = ((0, size - len(part)), (0, 0))
                cut.append(np.pad(part, padding, constant_values=SILENCE))
                names.append(f"{number}.wav")
                start = clip_start(k, self.front_end)
                self.clips.append(Clip(names[-1], len(cut) - 1, info, (), (), start))
        super().__init__(cut, reference)
        self.filenames = names


def sounds(frames, *runs):
    """A log-mel of two bands in which each run ``(start, stop, class)`` has 0.9."""
    mel = np.zeros((frames, 2))
    for start, stop, label in runs:
        mel[start:stop, label] = 0.9
    return mel


def event(name, start, stop, label="Cat"):
    return Event(name, start / 60, stop / 60, label)


# 70 frames in four clips of 20, 20 frames in one, 40 frames in two.
MELS = [
    sounds(70, (5, 9, 0), (18, 43, 1), (60, 70, 0)),
    sounds(20, (3, 8, 0)),
    sounds(40, (15, 25, 1)) + 0.3 * sounds(40, (30, 35, 0)),  # which is below every threshold
]
EVENTS = [
    event("0.wav", 5, 9),
    event("0.wav", 18, 43, "Dog"),
    event("0.wav", 60, 70),
    event("1.wav", 3, 8),
    event("2.wav", 15, 25, "Dog"),
]


def approx(events):
    return [(e.filename, round(e.onset, 6), round(e.offset, 6), e.event_label) for e in events]


def test_events_of_recordings_are_whole_and_none_is_a_miss(tmp_path):
    """Of clips one by one the dogs would be two events, or three, and the last cat out of reach."""
    detector = make_detector(tmp_path)
    clips = Recordings(MELS, EVENTS)
    prepared = make_prepared(validation=clips)
    scores = evaluate(detector, prepared, detector.workdir, score_files=tmp_path / "files")
    folder = detector.workdir.split("validation")
    assert approx(sorted(read_events(folder.events).events)) == approx(EVENTS)
    assert read_events(folder.reference).events == EVENTS
    assert scores["event_f1"]["counts"] == {
        "Cat": {"reference": 3, "estimated": 3, "matched": 3},
        "Dog": {"reference": 2, "estimated": 2, "matched": 2},
    }
    assert scores["at_f1"]["counts"] == {
        "Cat": {"reference": 2, "estimated": 2, "matched": 2},
        "Dog": {"reference": 2, "estimated": 2, "matched": 2},
    }
    assert scores["info"]["num_clips"] == 3
    files = read_score_files(tmp_path / "files")
    assert [len(values) for values in files.scores] == [70, 20, 40]
    for found, expected in zip(files.scores, MELS, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)
    with np.load(folder.posteriors) as saved:
        # Seven halves of a clip in 70 frames, four in 40.
        assert saved["filenames"].tolist() == [
            *(f"0.wav@{start / 60:g}" for start in range(0, 51, 10)),
            "1.wav",
            *(f"2.wav@{start / 60:g}" for start in range(0, 21, 10)),
        ]
        expected = [[1, 1], [0, 1], [0, 1], [0, 1], [0, 1], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1]]
        np.testing.assert_array_equal(saved["clip_reference"], expected)
        known = Posteriors(saved["clip"], saved["frames"])
    again = evaluate(detector, prepared, detector.workdir, output=known)
    assert again["event_f1"] == scores["event_f1"]


@pytest.mark.parametrize(("size", "stride"), [(8, 2), (12, 4), (7, 1)])
@pytest.mark.parametrize("frames", [9, 16, 20, 31])
def test_what_is_scored_is_what_predict_hears(tmp_path, size, stride, frames):
    """Of clips that lie end to end in a recording's log-mel, to the rounding of float16."""

    def says_what_it_hears(variables, mel) -> Posteriors:
        # And where in its clip, and in which: so it matters where clips begin and end.
        mel = np.asarray(mel, np.float32)
        frames = mel[:, ::stride, :2] + mel.mean(axis=(1, 2), keepdims=True)
        frames = frames + np.arange(frames.shape[1])[:, None]
        return Posteriors(np.ones_like(frames[:, 0]), frames)

    detector = make_detector(tmp_path, says_what_it_hears, num_frames=size, stride=stride)
    noise = np.random.default_rng(0).normal(0, 0.1, frames * HOP - 700).astype(np.float32)
    stored = -(-frames // size) * size
    mel = log_mel(np.pad(noise, (0, stored * HOP - len(noise))), detector.front_end)
    whole = WholeRecordings(Recordings([mel], size=size, num_frames=frames), stride)
    (stretch,) = whole.stretches
    found = whole.frames(detector.posteriors(whole), stretch, True)
    np.testing.assert_allclose(found, recording_posteriors(detector, noise), atol=5e-3)


def test_each_clip_is_gated_by_its_own_tags_before_the_fade(tmp_path):
    """As in tests/inference/test_recordings.py: 0.4 0.9 / 1.2 and 0.8 0.9 / 1.2 in the middle."""
    clips = Recordings([np.zeros((16, 2))], size=8)
    whole = WholeRecordings(clips, 2)
    assert len(whole) == 3
    frames = np.tile(np.float32([0.9, 0.9, 0.9])[:, None, None], (1, 4, 2))
    output = Posteriors(np.float32([[0.4, 0.4], [0.6, 0.6], [0.6, 0.6]]), frames)
    found = whole.frames(output, whole.stretches[0], True)
    np.testing.assert_allclose(found[:, 1], [0, 0, 0.3, 0.6, 0.9, 0.9, 0.9, 0.9], rtol=1e-6)
    found = whole.frames(output, whole.stretches[0], False)
    np.testing.assert_allclose(found, 0.9, rtol=1e-6)


def decoder():
    return median_decoder(np.array([1, 1]), classes=CLASSES, frame_rate=60)


def test_a_page_shows_a_clip_of_a_recording_with_the_events_of_its_time(tmp_path, monkeypatch):
    drawn = {}

    def picture(name, mel, lanes, *, note, **options):
        drawn[name] = {lane.label: (lane.reference, lane.predicted) for lane in lanes}, note

    monkeypatch.setattr(run_clips, "clip_picture", picture)
    detector = make_detector(tmp_path, meta={"front_end": {"clip_seconds": 20 / 60}})
    evaluate(detector, make_prepared(validation=Recordings(MELS, EVENTS)), detector.workdir)
    write_json(detector.workdir.config, {})
    write_json(detector.workdir.meta, detector.meta | {"classes": list(CLASSES)})
    run_clips.kept_clips(read_run(tmp_path), None)
    lanes, _ = drawn["0.wav@0"]
    np.testing.assert_allclose(lanes["Dog"], [[[18 / 60, 20 / 60]]] * 2, atol=1e-6)
    np.testing.assert_allclose(lanes["Cat"], [[[5 / 60, 9 / 60]]] * 2, atol=1e-6)
    lanes, note = drawn[f"0.wav@{10 / 60:g}"]
    np.testing.assert_allclose(lanes["Dog"], [[[8 / 60, 20 / 60]]] * 2, atol=1e-6)
    assert not note and list(lanes) == ["Dog"]


def test_held_out_recordings_select_whole():
    clips = Recordings(MELS, EVENTS)
    data = TrainingData({}, {"strong": Subset(clips, [0, 1, 2, 3, 5, 6])})  # 0.wav and 2.wav
    scores = validate(by_mel, {}, data, make_prepared(synthetic=clips), decoder())
    assert scores["event_f1"] == pytest.approx(100)
    data = TrainingData({}, {}, clips)
    scores = validate(by_mel, {}, data, make_prepared(validation=clips), decoder())
    assert (scores["event_f1"], scores["at_f1"]) == (pytest.approx(100), pytest.approx(100))


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([1, 2], [event("0.wav", 20, 43, "Dog")]),
        ([0, 3], [event("0.wav", 5, 9), event("0.wav", 18, 20, "Dog"), event("0.wav", 60, 70)]),
        ([3], [event("0.wav", 60, 70)]),
        ([0], [event("0.wav", 5, 9), event("0.wav", 18, 20, "Dog")]),
    ],
)
def test_of_a_recording_that_is_held_out_in_part_that_part_counts(held, expected):
    """As where there is one recording alone: its clips are held out one by one."""
    clips = Recordings(MELS[:1], EVENTS[:3])
    whole = WholeRecordings(Subset(clips, held), 1)
    assert approx(sorted(whole.reference(clips.reference))) == approx(expected)
    output = by_mel({}, np.stack([whole[i] for i in range(len(whole))]))
    assert approx(sorted(whole.events(output, decoder(), True))) == approx(expected)


def test_clip_by_clip_every_label_is_there_and_each_clip_has_a_name():
    clips = Recordings(MELS, EVENTS)
    names, events = each_clip(Subset(clips, [0, 1, 4]), clips.reference)
    assert names == ["0.wav@0", f"0.wav@{20 / 60:g}", "1.wav"]
    assert approx(events) == approx(
        [
            event(names[0], 5, 9),
            event(names[0], 18, 20, "Dog"),
            event(names[1], 0, 20, "Dog"),
            event("1.wav", 3, 8),
        ]
    )


def test_sources_that_know_nothing_of_recordings_are_their_clips():
    clips = StubClips([active(20, (3, 9))] * 2, [event("0.wav", 3, 9)])
    for source in (clips, Subset(clips, [0, 1])):
        whole = WholeRecordings(source, 1)
        assert whole.filenames == whole.recordings == ["0.wav", "1.wav"] and len(whole) == 2
        assert whole.reference(clips.reference) == clips.reference
        assert each_clip(source, clips.reference) == (whole.recordings, clips.reference)
