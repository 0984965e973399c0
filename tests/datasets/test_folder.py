"""Data folders as people have them: every flaw named, nothing lost, nothing done twice."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import defaults
import numpy as np
import pytest
from data_folder import (
    BAD,
    STRONG,
    TINY,
    WEAK,
    contents,
    noise,
    prepare,
    rows,
    write_audio,
    write_text,
)

from jfsed_jax import datasets
from jfsed_jax.audio.reading import read_audio
from jfsed_jax.cli import main as cli
from jfsed_jax.datasets import extraction, features_folder, folder, shards, store
from jfsed_jax.errors import InputError
from jfsed_jax.report import inspection
from jfsed_jax.sed.events import DCASE2019_CLASSES, Event

SHARED = Path(__file__).parents[3] / "shared/data"
# Other processes find the package whether or not it is installed, and the tests' defaults.
PLACES = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(PLACES)}


def only_problem(prepared):
    (found,) = rows(prepared)
    return found


# What comes out ----------------------------------------------------------------------------------


def test_a_folder_becomes_clips(data):
    prepared = prepare(data)
    assert prepared.classes == ("Cat", "Dog")
    assert prepared.front_end == TINY
    assert {name: len(clips) for name, clips in prepared.splits.items()} == {
        "weak": 3,
        "unlabel_in_domain": 2,
        "synthetic": 3,
        "validation": 2,
    }
    assert rows(prepared) == rows(prepared, "missing") == []
    clip = prepared.splits["synthetic"][0]
    assert clip["filename"] == "s0.wav"
    assert clip["mel"].dtype == np.float16 and clip["mel"].shape == (100, 8)
    expected, _ = extraction.extract_clip(data / "audio/train/synthetic/s0.wav", TINY)
    np.testing.assert_array_equal(clip["mel"], expected)
    assert clip["clip_labels"].tolist() == [0, 1]
    assert (clip["onsets"].tolist(), clip["offsets"].tolist()) == ([0.1], [0.4])
    assert clip["labels"].tolist() == [1]
    weak = prepared.splits["weak"]
    assert [weak[i]["clip_labels"].tolist() for i in range(3)] == [[0, 1], [1, 1], [1, 0]]
    assert prepared.splits["unlabel_in_domain"][1]["clip_labels"].tolist() == [0, 0]
    validation = prepared.splits["validation"]
    assert validation.filenames == ["v0.wav", "v1.wav"]
    assert validation.reference == [Event("v0.wav", 0.25, 0.5, "Cat")]
    assert validation.durations == {"v0.wav": 1.0, "v1.wav": 1.0}
    assert prepared.summary["validation"]["without_events"] == 1


def test_clips_travel_to_other_processes_and_load_without_the_audio(data):
    import pickle

    prepared = prepare(data)
    copied = pickle.loads(pickle.dumps(prepared.splits["weak"]))
    np.testing.assert_array_equal(copied[2]["mel"], prepared.splits["weak"][2]["mel"])
    data.rename(data.with_name("elsewhere"))
    loaded = datasets.load(prepared.directory)
    assert loaded.splits["weak"].filenames == ["w0.wav", "w1.wav", "w2.wav"]
    assert loaded.classes == prepared.classes


def test_processes_and_one_process_agree(data, tmp_path):
    for i in range(extraction.FEW):
        write_audio(data / f"audio/train/unlabel_in_domain/more{i}.wav")
    (data / "metadata/train/unlabel_in_domain.tsv").unlink()
    one = prepare(data, features_dir=tmp_path / "one")
    two = prepare(data, features_dir=tmp_path / "two", workers=2)
    assert len(one.splits["unlabel_in_domain"]) == extraction.FEW + 2
    assert contents(one.directory) == contents(two.directory)


# The class list ----------------------------------------------------------------------------------


def test_class_list_of_a_file_decides(data):
    write_text(data / "classes.txt", "\ufeffDog\r\nCat\r\nBird\r\n")
    prepared = prepare(data)
    assert prepared.classes == ("Dog", "Cat", "Bird")
    assert prepared.splits["weak"][0]["clip_labels"].tolist() == [1, 0, 0]


def test_class_list_of_dcase_where_all_ten_occur(data):
    labels = ",".join(reversed(DCASE2019_CLASSES))
    write_text(data / "metadata/train/weak.tsv", WEAK + f"w0.wav\t{labels}\nw1.wav\tBird\n")
    prepared = prepare(data)
    assert prepared.classes == DCASE2019_CLASSES
    assert only_left_out(prepared)[:3] == ["metadata/train/weak.tsv", "3", "Bird"]


def only_left_out(prepared):
    (found,) = [row for row in rows(prepared) if row[4] == "yes"]
    return found


def test_class_list_of_a_trained_model(data):
    assert prepare(data, classes=["Dog", "Cat"]).classes == ("Dog", "Cat")


def test_a_class_that_occurs_once_may_be_a_misspelling(data):
    write_text(
        data / "metadata/train/weak.tsv", WEAK + "w0.wav\tDog\nw1.wav\tCta,Dog\nw2.wav\tCat\n"
    )
    assert only_problem(prepare(data))[:3] == ["metadata/train/weak.tsv", "3", "Cta"]


@pytest.mark.parametrize(
    "listed, where",
    [(True, "classes.txt"), (False, "metadata/train/synthetic.tsv, row 3")],
)
def test_a_class_with_a_comma_cannot_be_beside_a_weak_table(data, listed, where):
    """Its parts would be classes of their own there."""
    if listed:
        write_text(data / "classes.txt", "Cat\nDog, barking\n")
    path = data / "metadata/train/synthetic.tsv"
    path.write_text(path.read_text().replace("1.0\tCat", "1.0\tDog, barking"))
    with pytest.raises(InputError, match=rf"{where}: the class 'Dog, barking' has a comma"):
        prepare(data)
    (data / "metadata/train/weak.tsv").unlink()
    assert "Dog, barking" in prepare(data).classes


# Flawed labels -----------------------------------------------------------------------------------


def test_unknown_label_is_never_another_class(data):
    write_text(data / "classes.txt", "Dog\nCat\n")
    write_text(
        data / "metadata/train/weak.tsv", WEAK + "w0.wav\tDog\nw1.wav\tDog,Parrot\nw2.wav\tParrot\n"
    )
    write_text(
        data / "metadata/train/synthetic.tsv",
        STRONG + "s0.wav\t0.1\t0.4\tDog\ns0.wav\t0.5\t0.6\tParrot\ns1.wav\t0.0\t1.0\tCat\n",
    )
    prepared = prepare(data)
    assert prepared.splits["weak"].filenames == ["w0.wav", "w1.wav"]
    assert prepared.splits["weak"][1]["clip_labels"].tolist() == [1, 0]
    assert prepared.splits["synthetic"][0]["labels"].tolist() == [0]
    found = [row[:3] for row in rows(prepared) if row[4] == "yes"]
    assert found == [
        ["metadata/train/synthetic.tsv", "3", "Parrot"],
        ["metadata/train/weak.tsv", "3", "Parrot"],
        ["metadata/train/weak.tsv", "4", "Parrot"],
    ]


@pytest.mark.parametrize("typo", ["dog", "Dgo", "DOG"])
def test_a_misspelt_class_leaves_the_whole_training_clip_out(data, typo):
    """Its other labels would say that no dog is heard."""
    write_text(data / "classes.txt", "Dog\nCat\n")
    write_text(data / "metadata/train/weak.tsv", WEAK + f"w0.wav\tDog\nw1.wav\tCat,{typo}\n")
    write_text(
        data / "metadata/train/synthetic.tsv",
        STRONG + f"s0.wav\t0.1\t0.4\tCat\ns0.wav\t0.5\t0.6\t{typo}\ns1.wav\t0.0\t1.0\tCat\n",
    )
    write_text(
        data / "metadata/validation/validation.tsv",
        STRONG + f"v0.wav\t0.25\t0.5\tCat\nv0.wav\t0.5\t0.9\t{typo}\n",
    )
    prepared = prepare(data)
    assert prepared.splits["weak"].filenames == ["w0.wav"]
    assert prepared.splits["synthetic"].filenames == ["s1.wav"]
    assert prepared.splits["validation"].reference == [Event("v0.wav", 0.25, 0.5, "Cat")]
    found = [row for row in rows(prepared) if row[4] == "yes"]
    assert len(found) == 3 and all("did you mean 'Dog'?" in row[3] for row in found)
    assert prepared.summary["weak"]["left_out"] == 1


def test_flawed_events_are_cleaned_for_training_and_kept_for_scoring(data):
    text = STRONG + (
        "v0.wav\t0.1\t0.4\tDog\n"
        "v0.wav\t0.3\t0.6\tDog\n"  # overlaps
        "v0.wav\t0.9\t1.2\tCat\n"  # ends after the clip
        "v0.wav\t1.1\t1.2\tCat\n"  # begins after the clip
        "v0.wav\t0.1\t0.4\tDog\n"  # once more
        "v1.wav\t\t\t\n"
    )
    write_text(data / "metadata/validation/validation.tsv", text)
    prepared = prepare(data)
    validation = prepared.splits["validation"]
    assert validation.events == [Event("v0.wav", 0.1, 0.6, "Dog"), Event("v0.wav", 0.9, 1.0, "Cat")]
    assert validation.reference == [
        Event("v0.wav", 0.1, 0.4, "Dog"),
        Event("v0.wav", 0.3, 0.6, "Dog"),
        Event("v0.wav", 0.9, 1.2, "Cat"),
        Event("v0.wav", 1.1, 1.2, "Cat"),
    ]
    assert [row[1] for row in rows(prepared)] == ["3", "4", "5", "6"]
    counts = prepared.summary["validation"]
    wanted = {"events": 4, "merged": 1, "shortened": 1, "dropped": 1, "without_events": 1}
    assert {key: counts[key] for key in wanted} == wanted


def test_an_event_that_begins_where_the_clip_ends_is_dropped(data):
    text = STRONG + "v0.wav\t0.2\t0.4\tDog\nv0.wav\t1.0\t1.2\tCat\nv1.wav\t\t\t\n"
    write_text(data / "metadata/validation/validation.tsv", text)
    prepared = prepare(data)
    assert prepared.splits["validation"].events == [Event("v0.wav", 0.2, 0.4, "Dog")]
    assert prepared.summary["validation"]["dropped"] == 1
    assert only_problem(prepared)[1:3] == ["3", "1.0 1.2"]


@pytest.mark.parametrize(
    "row, reason",
    [
        ("v0.wav\t-0.1\t0.5\tDog", "negative"),
        ("v0.wav\t0.5\t0.5\tDog", "before the offset"),
        ("v0.wav\t0.6\t0.5\tDog", "before the offset"),
        ("v0.wav\tnan\tinf\tDog", "in seconds"),
        ("v0.wav\t0.1\tDog", "in seconds"),
        ("v0.wav\t0.1\t0.2\tDog\textra", "5 fields"),
        ("../v0.wav\t0.1\t0.2\tDog", "leaves the data folder"),
        ("/etc/passwd\t0.1\t0.2\tDog", "leaves the data folder"),
        ("..\\v0.wav\t0.1\t0.2\tDog", "leaves the data folder"),
    ],
)
def test_row_that_cannot_be_used_is_named_and_costs_that_row_only(data, row, reason):
    text = STRONG + f"v0.wav\t0.25\t0.5\tCat\n{row}\nv1.wav\t\t\t\n"
    write_text(data / "metadata/validation/validation.tsv", text)
    prepared = prepare(data)
    file, number, _, why, left_out = only_problem(prepared)
    assert (file, number, left_out) == ("metadata/validation/validation.tsv", "3", "yes")
    assert reason in why
    assert prepared.splits["validation"].reference == [Event("v0.wav", 0.25, 0.5, "Cat")]
    assert prepared.splits["validation"].filenames == ["v0.wav", "v1.wav"]


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda text: text.replace(b"\t", b" "), "spaces where tabs"),
        (lambda text: text.replace(b"\n", b"\r\n"), "line ends"),
        (lambda text: b"\xef\xbb\xbf" + text, "byte-order mark"),
        (lambda text: text.replace(b"w1.wav", b"w\xe9.wav"), "Latin-1"),
        (lambda text: text.split(b"\n", 1)[1], "no header"),
        (lambda text: text.replace(b"\tDog", b"\tDog,Dog", 1), "repeated"),
        (lambda text: text + b"w0.wav\tDog\n", "row 2"),
        (lambda text: text + b"w3.wav\t\n", "no class occurs"),
    ],
)
def test_table_in_another_dress_is_read_and_the_dress_named(data, change, reason):
    path = data / "metadata/train/weak.tsv"
    path.write_bytes(change(path.read_bytes()))
    (data / "audio/train/weak/w1.wav").rename(data / "audio/train/weak/wé.wav")
    write_audio(data / "audio/train/weak/w1.wav")
    write_audio(data / "audio/train/weak/w3.wav")
    prepared = prepare(data)
    weak = prepared.splits["weak"]
    assert [clip.labels for clip in weak.clips][:3] == [("Dog",), ("Cat", "Dog"), ("Cat",)] or (
        [clip.labels for clip in weak.clips] == [("Dog",), ("Cat",), ("Cat", "Dog")]
    )
    assert any(reason in row[3] and row[4] == "no" for row in rows(prepared))


def test_csv_is_as_good(data):
    path = data / "metadata/train/weak.tsv"
    path.unlink()
    write_text(path.with_suffix(".csv"), 'filename,event_labels\nw0.wav,Dog\nw1.wav,"Cat,Dog"\n')
    prepared = prepare(data)
    assert prepared.splits["weak"][1]["clip_labels"].tolist() == [1, 1]
    assert prepared.conventions == ["weak: commas, metadata/train/weak.csv"]


def test_missing_column_is_refused(data):
    write_text(
        data / "metadata/train/synthetic.tsv", "filename\tonset\tevent_label\ns0.wav\t0\tDog\n"
    )
    with pytest.raises(InputError, match=r"synthetic\.tsv, row 1: .* missing or repeated: offset"):
        prepare(data)


def test_one_recording_in_two_sets_is_reported(data):
    name = "Yabcdefghijk_30.000_40.000.wav"
    other = "abcdefghijk_50_60.wav"
    write_text(data / "metadata/train/weak.tsv", WEAK + f"{name}\tDog\nw1.wav\tCat\n")
    write_text(
        data / "metadata/eval/public.tsv", STRONG + f"{other}\t0\t1\tDog\nw1.wav\t0\t1\tCat\n"
    )
    write_audio(data / f"audio/train/weak/{name}")
    write_audio(data / f"audio/eval/public/{other}")
    same = (data / "audio/train/weak/w1.wav").read_bytes()
    (data / "audio/eval/public/w1.wav").write_bytes(same)
    found = [row[2:4] for row in rows(prepare(data)) if "same recording" in row[3]]
    assert found == [
        [other, f"the same recording as {name} of weak"],
        ["w1.wav", "the same recording as w1.wav of weak"],
    ]


def test_name_that_spans_another_length_is_reported(data):
    name = "Yabcdefghijk_30.000_34.000.wav"
    write_text(data / "metadata/train/weak.tsv", WEAK + f"{name}\tDog\nw1.wav\tCat\n")
    write_audio(data / f"audio/train/weak/{name}")
    prepared = prepare(data)
    assert [row[3] for row in rows(prepared) if row[2] == name] == [
        "the name spans 4 s where a clip has 1 s; the audio has 1.00 s"
    ]
    assert prepared.summary["weak"]["other_span"] == 1


# Flawed audio ------------------------------------------------------------------------------------


def spoil(path, kind):
    samples = noise()
    match kind:
        case "zero bytes":
            path.write_bytes(b"")
        case "text":
            path.write_text("not a recording\n" * 99)
        case "truncated":
            write_audio(path, samples)
            path.write_bytes(path.read_bytes()[:9000])
        case "nan" | "inf":
            samples[4000] = float(kind)
            write_audio(path, samples, subtype="FLOAT")
        case "silence":
            write_audio(path, samples * 0)
        case "0.05 s":
            write_audio(path, samples[:400])
        case "directory":
            path.unlink()
            path.mkdir()


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("zero bytes", "0 bytes"),
        ("text", "not audio but text"),
        ("truncated", "cut short"),
        ("nan", "the first at 0.500 s (nan)"),
        ("inf", "the first at 0.500 s (inf)"),
        ("silence", "digital silence, so its labels cannot be right"),
        ("0.05 s", "too short, 0.050 s"),
    ],
)
def test_audio_that_cannot_be_used_is_named_and_costs_that_clip_only(data, kind, reason):
    spoil(data / BAD, kind)
    prepared = prepare(data)
    file, _, _, why, left_out = only_problem(prepared)
    assert (file, left_out) == (BAD, "yes") and reason in why
    assert prepared.splits["weak"].filenames == ["w0.wav", "w2.wav"]
    with pytest.raises(InputError, match="--strict does not accept"):
        prepare(data, strict=True)


def test_silence_without_labels_is_kept(data):
    spoil(data / "audio/train/unlabel_in_domain/u0.wav", "silence")
    prepared = prepare(data)
    assert only_problem(prepared)[3:] == ["digital silence", "no"]
    assert len(prepared.splits["unlabel_in_domain"]) == 2


def test_audio_of_another_length_is_fitted_and_counted(data):
    """One that is longer: tests/datasets/test_long_recordings.py."""
    write_audio(data / "audio/train/synthetic/s1.wav", noise(0.3))
    prepared = prepare(data)
    assert prepared.summary["synthetic"]["short"] == 1
    assert any("padded" in row[3] and "synthetic/s1.wav" in row[0] for row in rows(prepared))
    clips = prepared.splits["synthetic"]
    assert clips[1]["mel"].shape == (100, 8)
    assert clips.durations["s1.wav"] == 0.3
    # Nothing is labelled in the silence that pads the clip.
    assert clips[1]["offsets"].tolist() == [0.3]


@pytest.mark.parametrize("rate", [11025, 22050, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_other_rates_and_channels_are_converted_and_noted(data, rate, channels):
    write_audio(data / BAD, noise(rate=rate, channels=channels), rate)
    prepared = prepare(data)
    found = {row[2]: row[3] for row in rows(prepared)}
    assert found[f"{rate} Hz"] == "1 clip: resampled to 8000 Hz"
    assert (f"{channels} channels" in found) == (channels > 1)
    assert len(prepared.splits["weak"]) == 3


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT"])
def test_other_encodings_are_noted(data, subtype):
    write_audio(data / BAD, subtype=subtype)
    found = only_problem(prepare(data))
    assert found[2:] == [subtype, "1 clip: most of the set is PCM_16", "no"]


@pytest.fixture
def in_seconds():
    """Ends a test that waits for ever."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "make, reason",
    [
        (os.mkfifo, "a FIFO (a named pipe); not used"),
        (lambda path: path.symlink_to("/dev/zero"), "a device; not used"),
        (lambda path: path.symlink_to(path), "a symbolic link that leads back to itself; not used"),
        (lambda path: path.symlink_to("gone"), "a symbolic link to what is not there; not used"),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_what_is_called_like_audio_and_is_no_file_is_named(
    data, make, reason, listed, in_seconds, tmp_path
):
    """Not taken for a folder without permission, and not opened: a FIFO would wait for ever."""
    (data / BAD).unlink()
    make(data / BAD)
    (data / "audio/train/weak/round").symlink_to(".")
    if not listed:
        (data / "metadata/train/unlabel_in_domain.tsv").unlink()
        (data / "audio/train/weak").rename(data / "audio/train/unlabel_in_domain/more")
        (data / "metadata/train/weak.tsv").unlink()
    prepared = prepare(data)
    place = "audio/train/weak" if listed else "audio/train/unlabel_in_domain/more"
    found = [row for row in rows(prepared) if row[0] == f"{place}/w1.wav"]
    if listed:
        assert found == [[BAD, "", "w1.wav", reason, "no"]]
        assert prepared.summary["weak"]["missing"] == 1
        why = f"{BAD}: {reason.removesuffix('; not used')}"
        assert rows(prepared, "missing") == [["weak", "w1.wav", "3", why]]
        assert prepared.splits["weak"].filenames == ["w0.wav", "w2.wav"]
    elif not reason.startswith("a symbolic link that"):  # it led to where it was
        assert found == [[f"{place}/w1.wav", "", "w1.wav", reason, "yes"]]
    if not listed:
        assert len(prepared.splits["unlabel_in_domain"]) == 4


def test_reading_a_fifo_does_not_wait_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    writer = os.open(tmp_path / "a.wav", os.O_RDWR)
    os.write(writer, bytes(50000))  # so that whoever reads it all the same does not wait here
    with pytest.raises(InputError, match=r"a\.wav: a FIFO \(a named pipe\), not a file"):
        read_audio(tmp_path / "a.wav", 8000)
    os.close(writer)


def test_a_socket_is_no_audio(data, tmp_path, monkeypatch):
    (data / BAD).unlink()
    monkeypatch.chdir((data / BAD).parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("w1.wav")
    assert only_problem(prepare(data))[3] == "a socket; not used"


@pytest.mark.parametrize("name", ["metadata/train/weak.tsv", "classes.txt"])
def test_a_table_that_is_no_file_is_refused(data, name, in_seconds):
    (data / name).unlink(missing_ok=True)
    os.mkfifo(data / name)
    with pytest.raises(InputError, match=rf"{name}: a FIFO \(a named pipe\), not a file"):
        prepare(data)


def test_a_table_that_is_a_link_to_nothing_is_not_an_absent_set(data):
    (data / "metadata/train/weak.tsv").unlink()
    (data / "metadata/train/weak.tsv").symlink_to("gone")
    with pytest.raises(InputError, match=r"weak\.tsv cannot be read: No such file"):
        prepare(data)


def test_missing_audio_is_listed_and_does_not_stop_a_run(data):
    (data / BAD).unlink()
    prepared = prepare(data)
    assert rows(prepared, "missing") == [
        ["weak", "w1.wav", "3", "no such file in audio/train/weak"]
    ]
    assert prepared.summary["weak"]["missing"] == 1
    with pytest.raises(InputError, match="1 clips have no audio"):
        prepare(data, strict=True)
    os.mkfifo(data / "audio/train/weak/w1.flac")  # found under another suffix, as audio is
    why = "audio/train/weak/w1.flac: a FIFO (a named pipe)"
    assert rows(prepare(data), "missing") == [["weak", "w1.wav", "3", why]]


def test_audio_that_no_row_lists_is_noted(data):
    write_audio(data / "audio/train/weak/stray.wav")
    assert "1 audio files are listed in no row" in only_problem(prepare(data))[3]


def test_folder_without_permission_is_refused_and_named(data):
    folder_path = data / "audio/train/weak"
    (data.parent / "features").mkdir(mode=0o777)
    for path in [data.parent, *data.parent.parents]:
        if path.stat().st_mode & 0o005 != 0o005:
            if path.owner() != "root" or not str(path).startswith("/tmp"):
                pytest.skip(f"{path} is closed to other users")
            path.chmod(0o755)
    (data.parent / "features").chmod(0o777)
    folder_path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # permissions do not bind root
    try:
        with pytest.raises(
            InputError, match="weak cannot be read: Permission denied; give yourself"
        ):
            prepare(data)
    finally:
        if root:
            os.seteuid(0)
        folder_path.chmod(0o755)
    text = (data.parent / "features/problems.tsv").read_text()
    assert "cannot be read: Permission denied" in text
    text = (data.parent / "features/missing.tsv").read_text()
    assert "no such file in audio/train/weak, of which not all can be read" in text


def test_full_disk_is_named_before_and_while_writing(data, monkeypatch):
    class Usage:
        free = 100

    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(InputError, match="no space left on the disk: .* 0.00 GB are free"):
        prepare(data)
    monkeypatch.undo()

    def full(*arguments):
        raise RuntimeError("write() failed: No space left on device; writing x; at byte 2")

    monkeypatch.setattr(shards, "write_shard", full)
    with pytest.raises(InputError, match="no space left on the disk; finished shards are kept"):
        prepare(data)
    assert "no space left" in (data.parent / "features/problems.tsv").read_text()
    monkeypatch.undo()
    assert len(prepare(data).splits["weak"]) == 3


def test_features_folder_that_cannot_be_written_is_named(data):
    (data.parent / "file").write_text("")
    with pytest.raises(InputError, match="file/features cannot be written: .* pass --features"):
        prepare(data, features_dir=data.parent / "file/features")
    prepared = prepare(data)
    (prepared.directory / "prepared.json").unlink()
    (prepared.directory / "prepared.json").mkdir()
    with pytest.raises(InputError, match="prepared.json cannot be written: Is a directory"):
        prepare(data)


def test_file_names_that_are_not_text(data):
    (data / "metadata/train/unlabel_in_domain.tsv").unlink()
    for name in (b"\xff\xfe.wav", b"tab\tand\nline.wav"):
        path = data / "audio/train/unlabel_in_domain" / os.fsdecode(name)
        path.write_bytes((data / BAD).read_bytes())
        (data / "audio/train/weak" / os.fsdecode(name)).write_bytes(b"")
    path.write_bytes(b"")
    prepared = prepare(data)
    assert len(prepared.splits["unlabel_in_domain"]) == 3
    assert any("tab\tand\\nline.wav" in row[0] for row in rows(prepared))
    assert inspection.write_page(prepared).exists()


# Layouts -----------------------------------------------------------------------------------------


def test_desed_layout(data):
    train = data / "audio/train"
    (train / "synthetic").rename(train / "soundscapes")
    (train / "synthetic21_train").mkdir()
    (train / "soundscapes").rename(train / "synthetic21_train/soundscapes")
    table = data / "metadata/train/synthetic21_train/soundscapes.tsv"
    table.parent.mkdir()
    (data / "metadata/train/synthetic.tsv").rename(table)
    (data / "audio/validation/inner").mkdir()
    for name in ("v0", "v1"):
        (data / f"audio/validation/{name}.wav").rename(data / f"audio/validation/inner/{name}.wav")
    (data / "metadata/train/unlabel_in_domain.tsv").unlink()
    prepared = prepare(data)
    assert {name: len(clips) for name, clips in prepared.splits.items()} == {
        "weak": 3,
        "unlabel_in_domain": 2,
        "synthetic": 3,
        "validation": 2,
    }
    assert prepared.conventions == [
        "synthetic: DESED soundscapes, metadata/train/synthetic21_train/soundscapes.tsv",
        "unlabel_in_domain: no metadata, every file of audio/train/unlabel_in_domain",
    ]


@pytest.mark.parametrize(
    "listed, there",
    [
        ("abcdefghijk_30_40.wav", "Yabcdefghijk_30.000_40.000.wav"),
        ("Yabcdefghijk_30.000_40.000.wav", "abcdefghijk_30_40.flac"),
        ("Y-bcd_fghijk_0.000_10.000", "Y-bcd_fghijk_0.000_10.000.ogg"),
    ],
)
def test_names_with_and_without_the_leading_letter(data, listed, there):
    write_text(data / "metadata/eval/public.tsv", STRONG + f"{listed}\t0\t1\tDog\n")
    write_audio(data / f"audio/eval/public/{there}")
    prepared = prepare(data)
    assert prepared.splits["eval"].filenames == [listed]
    assert any(line.startswith("eval: 1 clips found") for line in prepared.conventions)


def test_of_two_files_for_a_name_the_first_is_used(data):
    weak = data / "audio/train/weak"
    (weak / "w0.wav").unlink()
    for suffix in (".flac", ".ogg"):
        write_audio(weak / f"w0{suffix}")
    clip = folder.read_folder(data).splits["weak"].clips[0]
    assert (clip.filename, clip.audio.path) == ("w0.wav", "audio/train/weak/w0.flac")


@pytest.mark.parametrize("suffix", [".mp3", ".opus", ".aiff"])
def test_a_clip_may_be_in_any_format_that_can_be_labelled(data, suffix):
    weak = data / "audio/train/weak"
    (weak / "w0.wav").unlink()
    opus = dict(format="OGG", subtype="OPUS") if suffix == ".opus" else {}
    write_audio(weak / f"w0{suffix}", **opus)
    clip = folder.read_folder(data).splits["weak"].clips[0]
    assert (clip.filename, clip.audio.path) == ("w0.wav", f"audio/train/weak/w0{suffix}")
    assert "w0.wav" in prepare(data).splits["weak"].filenames


def test_two_names_for_one_file_are_one_clip(data):
    with (data / "metadata/train/weak.tsv").open("a") as file:
        file.write("w2.flac\tCat\n")
    split = folder.read_folder(data).splits["weak"]
    kept = {clip.filename: clip.audio is not None for clip in split.clips}
    # By name: the row for w2.flac comes before that for w2.wav.
    assert kept == {"w0.wav": True, "w1.wav": True, "w2.flac": True, "w2.wav": False}
    (problem,) = split.problems
    assert (problem.row, problem.found) == (4, "w2.wav")
    assert "which another row names too" in problem.reason


def test_a_clip_is_reported_at_its_first_row(data):
    with (data / "metadata/train/synthetic.tsv").open("a") as file:
        file.write("s0.wav\t0.6\t0.7\tCat\n")
    clips = folder.read_folder(data).splits["synthetic"].clips
    assert {clip.filename: clip.row for clip in clips} == {"s0.wav": 2, "s1.wav": 3, "s2.wav": 4}


def test_some_sets_may_be_absent(data):
    for name in ("train/weak", "train/unlabel_in_domain", "validation/validation"):
        (data / f"metadata/{name}.tsv").unlink()
    for path in (data / "audio/train/unlabel_in_domain").iterdir():
        path.unlink()
    (data / "audio/train/unlabel_in_domain").rmdir()
    assert list(prepare(data).splits) == ["synthetic"]


def test_wrong_folder_is_answered_with_the_right_one(data, capsys):
    assert cli.main(["prepare", f"--data={data.parent}"]) == 2
    assert f"did you mean --data {data}?" in capsys.readouterr().err
    assert cli.main(["prepare", f"--data={data / 'audio/train'}"]) == 2
    assert "metadata/train/weak.tsv" in capsys.readouterr().err
    assert cli.main(["prepare", "--data=nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["prepare"]) == 2
    assert "--data is missing" in capsys.readouterr().err


def test_all_audio_missing_is_refused(data):
    for path in data.rglob("*.wav"):
        path.unlink()
    with pytest.raises(InputError, match="none of the 10 clips .* w0.wav: no such file in audio/"):
        prepare(data)


# Done once, and only what is needed --------------------------------------------------------------


def test_nothing_is_done_twice_and_a_changed_file_is_done_alone(data, decoded):
    first = prepare(data)
    assert len(decoded) == 10
    before = contents(first.directory)
    unchanged = first.splits["weak"][2]["mel"]
    decoded.clear()
    assert contents(prepare(data).directory) == before and decoded == []
    del first  # it may be read as long as it is there
    write_audio(data / BAD, noise(seed=99))
    prepared = prepare(data)
    assert decoded == ["w1.wav"]
    expected, _ = extraction.extract_clip(data / BAD, TINY)
    np.testing.assert_array_equal(prepared.splits["weak"][1]["mel"], expected)
    np.testing.assert_array_equal(prepared.splits["weak"][2]["mel"], unchanged)
    assert len(list(prepared.directory.glob("weak/*.array_record"))) == 1


def test_labels_are_corrected_without_decoding(data, decoded):
    prepare(data)
    decoded.clear()
    write_text(data / "metadata/train/weak.tsv", WEAK + "w0.wav\tCat\nw1.wav\tDog\nw2.wav\tCat\n")
    assert prepare(data).splits["weak"][0]["clip_labels"].tolist() == [1, 0]
    assert decoded == []


def test_fixing_one_file_does_only_that_file(data, decoded):
    spoil(data / BAD, "text")
    assert len(prepare(data).splits["weak"]) == 2
    decoded.clear()
    write_audio(data / BAD)
    prepared = prepare(data)
    assert decoded == ["w1.wav"] and len(prepared.splits["weak"]) == 3
    assert rows(prepared) == []


def test_a_file_that_could_not_be_read_is_tried_again(data, monkeypatch):
    """Permission comes back without the file changing."""

    def refuse(path, front_end):
        raise InputError(f"{path}: cannot be read (Permission denied)")

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "extract_clip", refuse)
        prepared = prepare(data)
        assert len(prepared.splits["weak"]) == 0
        assert rows(prepared)[0][3] == "cannot be read (Permission denied)"
    assert len(prepare(data).splits["weak"]) == 3


def test_added_clips_cost_only_themselves(data, decoded, monkeypatch):
    monkeypatch.setattr(store, "SHARD_CLIPS", 2)
    prepare(data)
    decoded.clear()
    write_audio(data / "audio/train/weak/a.wav")
    with open(data / "metadata/train/weak.tsv", "a") as file:
        file.write("a.wav\tDog\n")
    prepared = prepare(data)
    assert decoded == ["a.wav"]
    for clip in map(prepared.splits["weak"].__getitem__, range(4)):
        expected, _ = extraction.extract_clip(data / "audio/train/weak" / clip["filename"], TINY)
        np.testing.assert_array_equal(clip["mel"], expected)


def test_half_a_shard_is_never_read(data, decoded):
    directory = prepare(data).directory
    before = contents(directory)
    (shard,) = directory.glob("weak/*.array_record")
    shard.write_bytes(shard.read_bytes()[:1000])
    for left in ("weak/00000-dead.tmp", ".prepared.json.1.tmp"):
        (directory / left).write_bytes(b"x")
    decoded.clear()
    assert contents(prepare(data).directory) == before
    assert sorted(decoded) == ["w0.wav", "w1.wav", "w2.wav"]


def test_features_of_something_else_are_never_mixed(data, tmp_path):
    prepare(data)
    with pytest.raises(InputError, match="holds features of n_mels 8"):
        prepare(data, dataclasses.replace(TINY, n_mels=16))
    other = data.with_name("other")
    shutil.copytree(data, other)
    with pytest.raises(InputError, match=f"holds features of data {data}"):
        prepare(other)
    with pytest.raises(InputError, match="is not a folder of features, it holds '"):
        prepare(other, features_dir=other)
    assert not (other / "features.json").exists()


def test_features_and_data_may_move_apart_and_together(data, decoded, tmp_path):
    """What is kept is held against the files of the data folder, wherever both are."""
    expected = contents(prepare(data).directory)
    del expected["features.json"]
    decoded.clear()
    local = tmp_path / "fast/disk/features"  # the data stay where they are
    shutil.copytree(data.parent / "features", local)
    together = tmp_path / "new/home"
    for name in (data.name, "features"):
        shutil.copytree(data.parent / name, together / name)
    found = [prepare(data, features_dir=local), prepare(together / data.name)]
    moved = data.with_name("moved")
    data.rename(moved)
    found.append(prepare(moved))
    for prepared in found:
        files = contents(prepared.directory)
        assert str(tmp_path) not in files.pop("features.json").decode()
        files["prepared.json"] = files["prepared.json"].replace(b'"moved"', b'"data"')
        assert files == expected
    assert not decoded


def test_default_place_is_the_cache_and_differs_by_front_end(data, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(data.parent / "cache"))
    prepared = prepare(data, features_dir=None)
    assert prepared.directory.parent == data.parent / "cache/jfsed_jax"
    assert prepared.directory != features_folder.features_home(data, defaults.front_end())


PREPARE = """
import sys
from pathlib import Path
import defaults
from jfsed_jax import datasets
from jfsed_jax.datasets import store
data, features, workers = sys.argv[1:]
store.SHARD_CLIPS = 8
front_end = defaults.front_end(clip_seconds=2.0)
datasets.prepare(data, front_end, features_dir=features, workers=int(workers))
"""


def test_killed_three_times_then_finished_equals_uninterrupted(data, tmp_path, monkeypatch):
    (data / "metadata/train/unlabel_in_domain.tsv").unlink()
    samples = noise(2.0, 44100)
    for i in range(120):
        path = data / f"audio/train/unlabel_in_domain/x{i}.wav"
        write_audio(path, np.roll(samples, 99 * i, axis=0), 44100)
    killed = tmp_path / "killed"
    random = np.random.default_rng()
    for finished, workers in ((2, 1), (6, 2), (11, 1)):
        command = [sys.executable, "-c", PREPARE, str(data), str(killed), str(workers)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
        while len(list(killed.glob("*/*.array_record"))) < finished:
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.03))
        decoders = children(process.pid)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (killed / "prepared.json").exists()
        for _ in range(100):
            if not any(map(alive, decoders)):
                break
            time.sleep(0.1)
        else:
            raise AssertionError("decoding processes outlive the process that started them")
    monkeypatch.setattr(store, "SHARD_CLIPS", 8)
    front_end = defaults.front_end(clip_seconds=2.0)
    whole = contents(prepare(data, front_end, features_dir=tmp_path / "whole").directory)
    assert sum(name.endswith(".array_record") for name in whole) == 19
    assert contents(prepare(data, front_end, features_dir=killed).directory) == whole


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    """Whether a process runs; one that has ended and was not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_two_at_once_wait_for_each_other(data, tmp_path):
    command = [sys.executable, "-c", PREPARE, str(data), str(tmp_path / "shared"), "1"]
    running = [
        subprocess.Popen(command, stderr=subprocess.DEVNULL, env=ENVIRONMENT) for _ in range(2)
    ]
    assert [process.wait() for process in running] == [0, 0]


def test_script_without_a_main_guard_ends_with_the_reason(data, tmp_path):
    (data / "metadata/train/unlabel_in_domain.tsv").unlink()
    for i in range(extraction.FEW):
        path = data / f"audio/train/unlabel_in_domain/more{i}.wav"
        path.write_bytes((data / BAD).read_bytes())
    script = tmp_path / "script.py"
    script.write_text(PREPARE)
    command = [sys.executable, str(script), str(data), str(tmp_path / "out"), "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert done.returncode != 0
    assert "InputError: a decoding process ended" in done.stderr


# The command, and the public metadata ------------------------------------------------------------


def test_command_prints_the_table(data, capsys):
    (data / BAD).unlink()
    arguments = [f"--data={data}", f"--features={data.parent / 'features'}", "--workers=1"]
    assert cli.main(["prepare", *arguments]) == 0
    out = capsys.readouterr().out
    header, weak, *_ = out.splitlines()
    assert dict(zip(header.split()[1:6], weak.split()[1:6], strict=True))["missing"] == "1"
    assert "2 classes: Cat, Dog\nfolders, names and tables as in DCASE 2019\n" in out
    assert cli.main(["prepare", *arguments, "--strict"]) == 2
    assert "missing.tsv" in capsys.readouterr().err
    summary = json.loads((data.parent / "features/prepared.json").read_text())["summary"]
    assert summary["weak"]["clips"] == 2


@pytest.mark.skipif(
    not (SHARED / "dcase2019").is_dir(), reason="the public metadata of ../shared are not here"
)
def test_public_metadata_of_dcase_2019(tmp_path):
    """All 19,895 names, read and matched but not decoded."""
    from dcase2019_tree import SPLITS, make_tree

    write_audio(tmp_path / "one.wav", noise(10.0))
    tree = tmp_path / "tree"
    links = make_tree(tree, SHARED / "dcase2019/metadata", [tmp_path / "one.wav"])
    for link in links[:1000]:
        link.unlink()
    found = folder.read_folder(tree)
    assert found.classes == DCASE2019_CLASSES
    assert len(found.missing) == 1000
    counts = {name: (len(split.clips), len(split.events)) for name, split in found.splits.items()}
    assert counts == {name: (clips, events) for name, (_, _, clips, events) in SPLITS.items()}
    reasons = [problem.reason for problem in found.problems]
    assert sum("repeated" in reason for reason in reasons) == 3
    assert sum("same recording" in reason for reason in reasons) == 5
    assert not any(problem.skipped for problem in found.problems)
