"""Many recordings at once: shared batches, bad files among good ones, and the journal."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from stub_detector import CLASSES, constant, make_detector

from jfsed_jax.audio.host import log_mel
from jfsed_jax.errors import InputError
from jfsed_jax.inference import recordings as recordings_module
from jfsed_jax.inference.journal import Journal, Labelled
from jfsed_jax.inference.labelling import label_each, parse_thresholds
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.inference.recordings import hear, recording_posteriors
from jfsed_jax.sed.confidence import Confidence
from jfsed_jax.sed.events import Event

HOP = 735  # samples of a frame


def says_what_it_hears(variables, mel) -> Posteriors:
    heard = np.asarray(mel[:, :, :2], np.float32)
    return Posteriors(np.ones_like(heard[:, 0]), heard)


@pytest.fixture
def recordings(tmp_path):
    """Five files of 3 to 100 frames, whose clips have 8, and what is said of each alone."""
    detector = make_detector(tmp_path, says_what_it_hears, num_frames=8)
    rng = np.random.default_rng(0)
    paths, expected = [], []
    for i, frames in enumerate((30, 7, 100, 10, 8)):
        waveform = rng.normal(0, 0.1, frames * HOP).astype(np.float32)
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, waveform, 44100, subtype="FLOAT")
        paths.append(str(path))
        expected.append(recording_posteriors(detector, waveform))
    return detector, paths, expected


def test_clips_of_all_recordings_fill_the_same_batches(recordings):
    """7 + 1 + 24 + 2 + 1 clips are three batches of 16; what is heard in each file is its own."""
    detector, paths, expected = recordings
    sizes = []

    def counting(variables, mel):
        sizes.append(len(mel))
        return says_what_it_hears(variables, mel)

    found = list(hear(replace(detector, posteriors_of=counting), paths))
    assert sizes == [16, 16, 16]
    assert [heard.path for heard in found] == paths
    for heard, frames in zip(found, expected, strict=True):
        np.testing.assert_array_equal(heard.frames, frames)
        assert heard.seconds == pytest.approx(len(frames) / 60)


def test_a_bad_file_costs_none_of_the_others(recordings, tmp_path):
    """Wherever it turns out to be one: at once, or after half of its clips were heard."""
    detector, paths, expected = recordings
    late = np.zeros(60 * HOP, np.float32)
    late[-1] = np.nan
    soundfile.write(tmp_path / "late.wav", late, 44100, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("hello")
    mixed = [str(tmp_path / "gone.wav"), paths[0], str(tmp_path / "late.wav"), *paths[1:3],
             str(tmp_path / "text.wav"), *paths[3:]]  # fmt: skip
    found = {heard.path: heard for heard in hear(detector, mixed)}
    assert list(found) == mixed
    for path, frames in zip(paths, expected, strict=True):
        assert found[path].failure is None
        np.testing.assert_array_equal(found[path].frames, frames)
    reasons = {path.rpartition("/")[2]: found[path].failure for path in mixed if path not in paths}
    assert reasons.keys() == {"gone.wav", "late.wav", "text.wav"}
    assert "No such file" in reasons["gone.wav"] and "NaN" in reasons["late.wav"]
    assert all(found[path].frames is None for path in mixed if path not in paths)


def test_who_asks_gets_the_log_mel_and_the_seconds(recordings):
    detector, paths, _ = recordings
    mels: dict[str, list] = {}
    seconds = []
    hearing = hear(
        detector,
        paths,
        on_mel=lambda path, mel: mels.setdefault(path, []).append(mel),
        on_seconds=seconds.append,
    )
    for heard in hearing:
        waveform, _ = soundfile.read(heard.path, dtype="float32")
        # None is given of the silence behind the end.
        found = np.concatenate(mels[heard.path])
        np.testing.assert_array_equal(found, log_mel(waveform, detector.front_end))
    assert sum(seconds) == pytest.approx((30 + 7 + 100 + 10 + 8) / 60)


def test_only_the_classes_that_are_wanted_and_how_sure(tmp_path):
    frames = np.zeros((6, 2), np.float32)
    frames[1:3, 0], frames[2:6, 1] = [0.6, 0.8], 0.9
    detector = make_detector(tmp_path, constant([0.9, 0.9], frames), num_frames=6)
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.zeros(6 * HOP), 44100)
    dog = Event(path, 2 / 60, 6 / 60, "Dog"), Confidence(pytest.approx(0.9), pytest.approx(0.9))
    cat = Event(path, 1 / 60, 3 / 60, "Cat"), Confidence(pytest.approx(0.7), pytest.approx(0.8))
    for classes, expected in ((CLASSES, [cat, dog]), (["Dog"], [dog])):
        [(_, found)] = label_each(detector, [path], detector.decoder(), classes)
        assert list(zip(found.events, found.confidences, strict=True)) == expected


def test_a_decoder_that_refuses_a_recording_costs_no_other(recordings):
    detector, paths, _ = recordings

    def decode(clip, frames, filenames):
        if filenames == paths[1:2]:
            raise InputError("too short for me")
        return []

    found = list(label_each(detector, paths, decode, CLASSES))
    assert [labelled is None for _, labelled in found] == [False, True, False, False, False]
    assert found[1][0].failure == f"{paths[1]}: too short for me"


def test_thresholds_as_a_command_line_has_them(tmp_path):
    assert parse_thresholds("0.4", CLASSES, 0.5) == 0.4
    assert parse_thresholds("Dog=0.3", CLASSES, 0.5).tolist() == [0.5, 0.3]
    assert parse_thresholds("Dog=0.3,Cat=1", CLASSES, 0.5).tolist() == [1.0, 0.3]
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"info": {"thresholds": [0.2, 0.7], "classes": list(CLASSES)}}))
    assert parse_thresholds(str(path), CLASSES, 0.5).tolist() == [0.2, 0.7]
    with pytest.raises(
        InputError, match="thresholds of 2 classes, Cat, Dog; this system has Dog, "
    ):
        parse_thresholds(str(path), ("Dog", "Cat"), 0.5)
    path.write_text(json.dumps({"info": {"thresholds": None}}))
    with pytest.raises(InputError, match=r"scores.json: .*expected a scores.json of evaluate"):
        parse_thresholds(str(path), CLASSES, 0.5)
    for text in ("half", "Dog=", "1.5", "Dog=-1", "nan"):
        with pytest.raises(InputError, match="--threshold"):
            parse_thresholds(text, CLASSES, 0.5)
    with pytest.raises(InputError, match="no class 'Cow'; expected Cat, Dog"):
        parse_thresholds("Cow=0.5", CLASSES, 0.5)


def test_two_at_once_do_not_share_a_journal(tmp_path):
    with (
        Journal(tmp_path / "events.tsv", MADE_BY, resume=False),
        pytest.raises(InputError, match="another process labels into .*events.tsv now"),
    ):
        Journal(tmp_path / "events.tsv", MADE_BY, resume=True)


def test_a_full_temporary_folder_costs_one_recording(recordings, monkeypatch):
    detector, paths, _ = recordings
    files = iter([None, OSError(28, "No space left on device"), None, None, None])

    def temporary():
        if error := next(files):
            raise error
        return open_temporary()

    open_temporary = recordings_module.tempfile.TemporaryFile
    monkeypatch.setattr(recordings_module.tempfile, "TemporaryFile", temporary)
    found = list(hear(detector, paths))
    assert [heard.failure is None for heard in found] == [True, False, True, True, True]
    assert "cannot keep its posteriors" in found[1].failure


def labelled(path):
    return Labelled(path, 2.0, [Event(path, 0.1, 1 / 3, "Cat")], [Confidence(0.7, 0.8)])


MADE_BY = {"step": 3, "threshold": None}


def test_a_journal_keeps_what_is_done_and_drops_a_line_that_was_cut(tmp_path):
    table = tmp_path / "new" / "events.tsv"
    with Journal(table, MADE_BY, resume=True) as journal:
        for path in "ab":
            journal.add(labelled(path))
    content = journal.path.read_bytes()
    for lost in (1, 30):  # of the last line, as after a crash
        journal.path.write_bytes(content[:-lost])
        with Journal(table, MADE_BY, resume=True) as again:
            assert again.done == {"a": labelled("a")}
            again.add(labelled("b"))
        assert journal.path.read_bytes() == content
    with Journal(table, MADE_BY, resume=True) as again:
        assert list(again.done.values()) == [labelled("a"), labelled("b")]
        again.finish(whole=True)
    assert not journal.path.exists()


def test_a_journal_is_neither_lost_nor_gone_on_with_by_something_else(tmp_path):
    table = tmp_path / "events.tsv"
    with Journal(table, MADE_BY, resume=False) as journal:
        journal.add(labelled("a"))
    with pytest.raises(InputError, match="events.tsv.journal holds what .*--resume, or delete it"):
        Journal(table, MADE_BY, resume=False)
    with pytest.raises(InputError, match="begun with step 3, now it is 4"):
        Journal(table, MADE_BY | {"step": 4}, resume=True)
    # All was tried, and one file was bad: with --resume it is tried again, without all are.
    with Journal(table, MADE_BY, resume=True) as journal:
        journal.finish(whole=False)
    with Journal(table, MADE_BY, resume=True) as journal:
        assert list(journal.done) == ["a"]
        journal.finish(whole=False)
    with Journal(table, MADE_BY | {"step": 4}, resume=False) as journal:
        assert not journal.done
    journal.path.write_text(journal.path.read_text() + '{"path": "a"}\n')
    with pytest.raises(InputError, match=re.escape("events.tsv.journal, row 2: damaged")):
        Journal(table, MADE_BY | {"step": 4}, resume=True)
