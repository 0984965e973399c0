"""Many recordings at once: shared batches, bad files among good ones, and the journal."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from stub_detector import CLASSES, constant, make_detector

from jfsed_jax.audio.host import log_mel
from jfsed_jax.errors import InputError
from jfsed_jax.inference import recordings as recordings_module
from jfsed_jax.inference.journal import Journal, Labelled
from jfsed_jax.inference.label_outputs import LabelOutputs
from jfsed_jax.inference.labelling import label_each, label_recordings, parse_thresholds
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.inference.recordings import hear, recording_posteriors
from jfsed_jax.sed import tables
from jfsed_jax.sed.change_points import ChangePoints
from jfsed_jax.sed.confidence import Confidence
from jfsed_jax.sed.decoder_files import TunedDecoder
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import median_decoder

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


class Pages:
    """Another file of each recording, which for two of them cannot be made."""

    place, paths = "pages", {}
    errors = ("1.wav", OSError(28, "No space left on device")), ("3.wav", MemoryError())

    def __init__(self):
        self.frames, self.forgotten = {}, []

    def add_mel(self, path, mel, frame_rate):
        assert frame_rate == 60
        self.frames[path] = self.frames.get(path, 0) + len(mel)

    def write(self, detector, heard, labelled, filters):
        assert labelled.path == heard.path and len(heard.frames) == self.frames[heard.path]
        np.testing.assert_array_equal(filters.windows, [1 / 60] * 2)  # of the config's rule
        np.testing.assert_array_equal(filters.thresholds, [0.4, 0.4])
        for name, error in self.errors:
            if heard.path.endswith(name):
                raise error

    def forget(self, path):
        self.forgotten.append(path)


def test_one_call_labels_what_can_be_and_names_the_rest(recordings, tmp_path, monkeypatch, caplog):
    """Of five recordings one cannot be read for want of memory; two others' pages fail."""
    detector, paths, _ = recordings
    opened = recordings_module.open_audio

    def open_audio(path):
        if path == paths[0]:
            raise MemoryError("of a header's lie")
        return opened(path)

    monkeypatch.setattr(recordings_module, "open_audio", open_audio)
    pages, heard, seconds = Pages(), [], []
    table = tmp_path / "events.csv"
    outputs = LabelOutputs(table, scores=tmp_path / "scores", pages=pages)
    found = label_recordings(
        detector,
        [tmp_path, tmp_path / "none*.wav"],
        outputs,
        threshold=0.4,
        on_labelled=heard.append,
        on_seconds=seconds.append,
    )
    assert [one.path for one in found.labelled] == [paths[2], paths[4]] and heard == found.labelled
    assert found.failures == {
        str(tmp_path / "none*.wav"): "matches nothing",
        paths[0]: 'MemoryError("of a header\'s lie")',
        paths[1]: "OSError(28, 'No space left on device')",
        paths[3]: "MemoryError()",
    }
    assert pages.forgotten == [paths[0], paths[1], paths[3]]
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [line.split(": ")[0] for line in told] == [paths[0], paths[1], paths[3]]
    assert not found.low_rates and sum(seconds) == pytest.approx((7 + 100 + 10 + 8) / 60)
    rows = table.read_text().splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == {paths[2], paths[4]}
    assert len(list((tmp_path / "scores").glob("*.tsv"))) == 4  # before their pages failed
    # What is done need not be heard again.
    pages.errors, pages.frames, again = (), {}, []
    monkeypatch.undo()
    kwargs = {"threshold": 0.4, "resume": True, "on_labelled": again.append}
    found = label_recordings(detector, [tmp_path], outputs, **kwargs)
    assert [one.path for one in again] == [paths[0], paths[1], paths[3]]
    assert [one.path for one in found.labelled] == paths and not found.failures
    assert not (tmp_path / "events.csv.journal").exists()


def test_what_stops_a_call_leaves_a_table(recordings, tmp_path):
    detector, paths, _ = recordings
    outputs = LabelOutputs(tmp_path / "events.tsv")

    def stop(labelled):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="1 of 5 recordings are labelled; .* --resume"):
        label_recordings(detector, paths, outputs, on_labelled=stop)
    assert (tmp_path / "events.tsv").read_text().count(paths[0]) > 0
    with pytest.raises(InputError, match="begun with overlap 0.5, now it is 0.25"):
        label_recordings(detector, paths, outputs, overlap=0.25, resume=True)


def test_a_decoder_file_decides_and_is_shown_and_a_resume_keeps_to_it(recordings, tmp_path):
    detector, paths, _ = recordings

    def ranked(variables, mel) -> Posteriors:
        heard = says_what_it_hears(variables, mel).frames
        return Posteriors(np.ones_like(heard[:, 0]), np.argsort(np.argsort(heard, 1), 1) / 10)

    detector = replace(detector, posteriors_of=ranked)
    settings = {"threshold": 0.25, "window": 3 / 60}
    tuned = TunedDecoder("median", 1, {"Dog": settings, "Cat": settings | {"threshold": 1.0}}, {})
    shown = []

    class Shown(Pages):
        def write(self, detector, heard, labelled, filters):
            shown.append(filters)
            raise KeyboardInterrupt

    outputs = LabelOutputs(tmp_path / "events.tsv", pages=Shown())
    with pytest.raises(KeyboardInterrupt):
        label_recordings(detector, paths, outputs, tuned=tuned)
    assert shown[0].windows.tolist() == [3 / 60] * 2 and shown[0].medians == 1
    assert shown[0].thresholds.tolist() == [1.0, 0.25]  # of Cat and Dog
    found = label_recordings(detector, paths, tuned=tuned).labelled
    decode = median_decoder([3], classes=["Dog"], frame_rate=60.0, threshold=0.25, medians=1)
    counts = [len(one.events) for one in found]
    heard = [one.frames[None, :, 1:] for one in hear(detector, paths)]
    assert counts == [len(decode(None, frames, ["a"])) for frames in heard]
    assert sum(counts) > 5
    with pytest.raises(InputError, match="begun with decoder file .*, now it is None"):
        label_recordings(detector, paths, outputs, resume=True)
    other = replace(tuned, classes=dict(tuned.classes) | {"Dog": settings | {"threshold": 0.5}})
    with pytest.raises(
        InputError, match="begun with decoder file classes Dog threshold 0.25, now it is 0.5"
    ):
        label_recordings(detector, paths, outputs, tuned=other, resume=True)


def test_a_file_of_change_points_has_no_medians_to_show_whatever_the_config_names(recordings):
    detector, paths, _ = recordings
    settings = {"threshold": 0.5, **ChangePoints()._asdict()}
    tuned = TunedDecoder("change_points", 0, dict.fromkeys(CLASSES, settings), {})
    shown = []

    class Shown(Pages):
        def write(self, detector, heard, labelled, filters):
            shown.append(filters)

    label_recordings(detector, paths[:1], LabelOutputs(pages=Shown()), tuned=tuned)
    assert shown == [None]


def test_the_confidence_is_of_the_whole_frames_that_decided(tmp_path):
    """Also of the last frame, in which the sound ends."""
    frames = np.zeros((12, 2), np.float32)
    frames[9:11, 1], frames[11, 1] = 0.9, 0.6
    detector = make_detector(tmp_path, constant([0.9, 0.9], frames), num_frames=12)
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.zeros(11 * HOP + HOP // 4), 44100)
    [(_, found)] = label_each(detector, [path], detector.decoder(), CLASSES)
    assert found.events[0].offset == pytest.approx(11.25 / 60, abs=1e-4)
    assert found.confidences == [Confidence(pytest.approx(0.8), pytest.approx(0.9))]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"classes": []}, "no classes are named: expected some of Cat, Dog, or all"),
        ({"classes": ["Cow", "Dog"]}, "no class Cow; expected some of Cat, Dog"),
        ({"resume": True}, "name it too"),
        ({"overlap": 1}, "overlap by 1 of a clip; expected 0 to below 1"),
        ({"outputs": LabelOutputs("events.xls")}, "expected a name that ends in .tsv"),
    ],
)
def test_what_a_call_refuses(recordings, arguments, reason):
    detector, paths, _ = recordings
    with pytest.raises(InputError, match=reason):
        label_recordings(detector, paths, **arguments)


def test_a_decoding_program_that_fails_costs_its_file_alone(recordings, tmp_path, monkeypatch):
    """In place of ffmpeg a program that gives half a second and is killed, fails, or is done."""
    detector, paths, _ = recordings
    soundfile.write(tmp_path / "half.au", np.full(22050, 0.1), 44100, "FLOAT", "BIG")
    script = (
        f'#!/bin/sh\ncat "{tmp_path}/half.au"\n'
        'case "$*" in *killed*) kill -9 $$;; *late*) echo "moov: invalid" >&2; exit 1;; esac\n'
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ffmpeg").write_text(script)
    (tmp_path / "bin/ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    names = [str(tmp_path / f"{name}.m4a") for name in ("killed", "late", "good")]
    for name in names:
        Path(name).write_bytes(b"\0\0\0\x20ftypM4A \xff")
    found = label_recordings(detector, [names[0], paths[0], names[1], *paths[1:], names[2]])
    assert [one.path for one in found.labelled] == [*paths, names[2]]
    assert list(found.failures) == names[:2]
    for reason in found.failures.values():
        assert "ffmpeg" in reason and "\n" not in reason
    assert "moov: invalid" in found.failures[names[1]]


@pytest.mark.parametrize("form", ["tsv", "csv", "jsonl"])
def test_a_recording_is_a_line_whatever_it_is_called(recordings, tmp_path, form):
    """In tables a name keeps its tab, quoted; what is no UTF-8 is escaped, as line ends are."""
    detector, paths, _ = recordings
    names = ["1\n2.wav", "1\r2.wav", "1\t2.wav", os.fsdecode(b"\xff.wav")]
    (tmp_path / "odd").mkdir()
    for name in names:
        os.rename(paths.pop(), tmp_path / "odd" / name)
    table = tmp_path / f"events.{form}"
    found = label_recordings(
        detector, [tmp_path / "odd"], LabelOutputs(table), threshold=1 - 1e-9, classes=["Dog"]
    )
    assert len(found.labelled) == 4 and not found.failures
    lines = table.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4 + (form != "jsonl")
    if form == "tsv":
        read = tables.read_events(table).filenames
        folder = str(tmp_path / "odd") + "/"
        assert read == [folder + n for n in ("1\t2.wav", "1\\n2.wav", "1\\r2.wav", "\\udcff.wav")]


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


def test_a_recording_is_on_the_disk_when_it_is_noted(tmp_path, monkeypatch):
    """Not in a buffer of this process, nor in one of the system alone."""
    journal_bytes, synced = [], []
    fsync = os.fsync

    def watched(descriptor):
        synced.append(journal.path.read_bytes())
        fsync(descriptor)

    with Journal(tmp_path / "events.tsv", MADE_BY, resume=False) as journal:
        monkeypatch.setattr(os, "fsync", watched)
        for path in "ab":
            journal.add(labelled(path))
            journal_bytes.append(journal.path.read_bytes())
        monkeypatch.undo()
    assert synced == journal_bytes and [b.count(b"\n") for b in journal_bytes] == [2, 3]


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
