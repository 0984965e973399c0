"""Audio files that are damaged, or whose header lies, are named; none is read in part silently."""

import os
import re
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from jfsed_jax.audio import containers
from jfsed_jax.audio.finding import SUFFIXES
from jfsed_jax.audio.reading import load_audio, read_audio
from jfsed_jax.errors import InputError

OLD = soundfile.__version__.startswith("0.12.")  # the oldest that is allowed
RATE = 8000
NOISE = np.random.default_rng(0).normal(0, 0.1, 5 * RATE).astype(np.float32)
# Of each container the format for soundfile, and where the size of its sound stands.
KINDS = {
    "wav": ({"format": "WAV"}, b"data", "<I"),
    "extensible wav": ({"format": "WAVEX"}, b"data", "<I"),
    "wav in blocks": ({"format": "WAV", "subtype": "IMA_ADPCM"}, b"data", "<I"),
    "big-endian wav": ({"format": "WAV", "endian": "BIG"}, b"data", ">I"),
    "aiff": ({"format": "AIFF"}, b"SSND", ">I"),
    "compressed aiff": ({"format": "AIFF", "subtype": "ULAW"}, b"SSND", ">I"),
    "w64": ({"format": "W64"}, b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", "<Q"),
    "au": ({"format": "AU"}, b".snd\x00\x00\x00\x18", ">I"),
    "little-endian au": ({"format": "AU", "endian": "LITTLE"}, b"dns.\x18\x00\x00\x00", "<I"),
    "caf": ({"format": "CAF"}, b"data", ">Q"),
    "rf64": ({"format": "RF64"}, b"ds64\x1c\x00\x00\x00" + bytes(8), "<Q"),
}


def written(path, kind="wav", samples=NOISE, rate=RATE):
    soundfile.write(path, samples, rate, **KINDS[kind][0])
    return path.read_bytes()


def announce(data, kind, size):
    """With this size of the sound in the header; None: leaves it."""
    _, mark, form = KINDS[kind]
    if kind == "rf64":  # the size of the whole stands before it
        mark = re.search(rb"ds64\x1c\x00\x00\x00.{8}", data, re.DOTALL)[0]
    at = data.index(mark) + len(mark)
    width = struct.calcsize(form)
    was = struct.unpack(form, data[at : at + width])[0]
    return data[:at] + struct.pack(form, was // 4 if size is None else size) + data[at + width :]


def refusal(path, data):
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        load_audio(path, RATE)
    return str(error.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_short_is_named(tmp_path, kind):
    path = tmp_path / "a.x"
    data = written(path, kind)
    assert len(load_audio(path, RATE)) >= len(NOISE)
    for kept in (0.5, 0.98):
        reason = refusal(path, data[: int(len(data) * kept)])
        assert re.match(r"cut short, its header announces \d+ bytes of sound and \d+ are", reason)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *(("wav", size) for size in (2**32 - 1, 0x7FFFF000, 0x7FFFEFFE, 0x7FFFFF00, 2**31)),
        ("aiff", 0),
        ("w64", 2**63 - 1),
        ("au", 2**32 - 1),
    ],
)
def test_what_was_written_to_a_pipe_is_read_to_its_end(tmp_path, kind, size):
    """Sizes as ffmpeg, SoX, arecord and others leave them."""
    path = tmp_path / "a.x"
    whole = written(path, kind)
    path.write_bytes(announce(whole, kind, size))
    assert len(load_audio(path, RATE)) == len(NOISE)


def test_what_libsndfile_does_not_read_to_its_end_is_refused(tmp_path):
    data = announce(written(tmp_path / "a.x", "caf"), "caf", 2**64 - 1)
    reason = refusal(tmp_path / "a.x", data)
    assert reason.startswith("its header leaves open how long it is, which libsndfile does not")
    assert reason.endswith("convert it: ffmpeg -i a.x a.flac")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wav in blocks"])
def test_sound_behind_the_end_that_a_header_names_is_not_left_out(tmp_path, kind):
    """As of a recorder that lost its battery before it wrote the last header."""
    option = "-ignore_length 1 " if "wav" in kind or kind == "rf64" else ""
    for size in (None, 0) if "aiff" not in kind else (None,):
        reason = refusal(tmp_path / "a.x", announce(written(tmp_path / "a.x", kind), kind, size))
        assert re.match(r"its header says that the sound ends \d{5} bytes before the fil", reason)
        assert reason.endswith(f"if they are sound, convert it: ffmpeg {option}-i a.x a.flac")


@pytest.mark.parametrize(
    "more",
    [
        b"LIST" + struct.pack("<I", 9001) + b"INFO" + b"\x07" * 8998,
        b"TAG" + b"\x20" * 3000,
        bytes(5000),
        b"\x01\x02\x03 a few bytes",
    ],
)
def test_what_is_no_sound_may_follow(tmp_path, more):
    path = tmp_path / "a.wav"
    path.write_bytes(written(path) + more)
    assert len(load_audio(path, RATE)) == len(NOISE)


def test_a_file_of_empty_chunks_does_not_take_hours(tmp_path, monkeypatch):
    """Each of eight bytes, in a gigabyte of zeros."""
    read, real = [], containers._read_chunk

    def read_chunk(*of):
        read.append(of[1])
        assert len(read) <= 10_000
        return real(*of)

    monkeypatch.setattr(containers, "_read_chunk", read_chunk)
    path = tmp_path / "a.wav"
    path.write_bytes(written(path)[:36])
    os.truncate(path, 2**30)
    with pytest.raises(InputError, match="damaged, no sound in its first 10000 chunks"):
        containers.check_whole(path)


def pages_of(data):
    """Of an Ogg; none of these has its mark within."""
    return [b"OggS" + rest for rest in data.split(b"OggS")[1:]]


def ogg(path, subtype, seed=0):
    samples = np.random.default_rng(seed).normal(0, 0.1, 10 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1, format="OGG", subtype=subtype) as file:
        file.comment = "long " * 2000  # more than libsndfile's log holds
        file.write(samples)
    return path.read_bytes()


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_with_pages_that_are_cut_damaged_or_lost_is_named(tmp_path, subtype):
    path = tmp_path / "a.ogg"
    data = ogg(path, subtype)
    pages = pages_of(data)
    assert len(pages) > 5
    assert len(load_audio(path, RATE)) == 10 * RATE
    spoilt = bytearray(data)
    spoilt[len(b"".join(pages[:4])) + 300] ^= 1
    for damaged, message in (
        (b"".join(pages[:-1]), "cut short, it ends before its last page"),
        (data[:-1], "cut short, it ends before its last page"),
        (data[: -len(pages[-1]) + 20], "cut short, it ends before its last page"),
        (bytes(spoilt), f"damaged at byte {len(b''.join(pages[:4]))}"),
        (b"".join(pages[:3] + pages[4:]), f"damaged at byte {len(b''.join(pages[:3]))}"),
        (b"".join(pages[:4]) + b"lost" + b"".join(pages[4:]), "damaged, no page of Ogg begins at"),
    ):
        assert refusal(path, damaged).startswith(message)
    path.write_bytes(data + b"TAG" + b"\x20" * 125)
    assert len(load_audio(path, RATE)) == 10 * RATE


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_of_recordings_in_one_ogg_not_only_the_first_is_read(tmp_path, subtype):
    data = ogg(tmp_path / "a.ogg", subtype) + ogg(tmp_path / "b.ogg", subtype, seed=1)
    reason = refusal(tmp_path / "a.ogg", data)
    assert reason.startswith("several recordings one after another, of which only the first")
    assert reason.endswith("convert it: ffmpeg -i a.ogg a.flac")


def flac(path, samples):
    """A FLAC whose header says that it has so many samples."""
    soundfile.write(path, NOISE, RATE, format="FLAC")
    data = path.read_bytes()
    return data[:21] + bytes([data[21] & 0xF0]) + struct.pack(">I", samples) + data[26:]


def test_a_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    """As it is written to a pipe."""
    path = tmp_path / "a.flac"
    path.write_bytes(data := flac(path, 0))
    recording = read_audio(path, RATE)
    np.testing.assert_allclose(recording.waveform, NOISE, atol=1e-4)
    assert recording.duration == 5
    assert read_audio(path, RATE, max_seconds=1.0).duration == 5
    if not OLD:  # whose libsndfile takes the cut for the end
        assert "decoded" in refusal(path, data[: len(data) // 2])


def test_a_flac_that_is_longer_than_it_says_is_named(tmp_path):
    path = tmp_path / "a.flac"
    reason = refusal(path, flac(path, RATE))
    assert reason.startswith("its header says that the sound ends")
    assert reason.endswith("ffmpeg -i a.flac a.wav")
    # Nor is one behind the other left out.
    soundfile.write(path, NOISE, RATE)
    assert refusal(path, path.read_bytes() * 2).startswith("its header says that the sound ends")


def mp3(path, samples, *, counted=True):
    """An MP3 of variable bit rate, with or without the frame that counts the others."""
    if OLD:
        pytest.skip("soundfile 0.12 writes no MP3 of variable bit rate")
    soundfile.write(path, samples, RATE, format="MP3", bitrate_mode="VARIABLE")
    data = path.read_bytes()
    return data if counted else data[data.index(data[:2], 4) :]


def test_an_mp3_is_read_as_far_as_it_goes(tmp_path):
    """libsndfile guesses the length of one without a count from its first frame."""
    path = tmp_path / "a.mp3"
    silence = np.zeros_like(NOISE)
    path.write_bytes(mp3(path, np.concatenate([silence, NOISE]), counted=False))
    guess = soundfile.info(path).duration
    recording = read_audio(path, RATE)
    assert guess > 11 and recording.duration == pytest.approx(10, abs=0.3)
    path.write_bytes(mp3(path, np.concatenate([NOISE, silence]), counted=False))
    assert soundfile.info(path).duration < 9
    reason = refusal(path, path.read_bytes())
    assert re.match(r"a guess from its beginning says that the sound ends \d+ bytes", reason)
    whole = mp3(path, NOISE)
    assert len(load_audio(path, RATE)) == len(NOISE)
    assert "cut short, its header announces 5.000 s" in refusal(path, whole[: len(whole) // 2])
    assert refusal(path, whole * 2).startswith("its header says that the sound ends")


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)])
def test_a_count_of_frames_in_an_mp3_is_found(tmp_path, tag):
    """Behind a tag, whose length has four times seven bits."""
    path = tmp_path / "a.mp3"
    for counted in (True, False):
        path.write_bytes(tag + mp3(path, NOISE, counted=counted))
        assert containers.announces_length(path) == counted
    empty = re.sub(rb"((?:Xing|Info)....)....", rb"\1" + bytes(4), mp3(path, NOISE), flags=re.S)
    path.write_bytes(empty)  # as ffmpeg writes to a pipe
    assert not containers.announces_length(path)


def test_text_is_told_what_is_read(tmp_path):
    """All that folders are searched for."""
    reason = refusal(tmp_path / "a.wav", b"filename\tevent_label\n")
    assert re.findall(r"[\w]+", reason.partition("one of ")[2]) == [s[1:] for s in SUFFIXES]


@pytest.mark.parametrize(
    "name",
    ["my dog's.m4a", "two\nlines.m4a", "a\t'b'\\$c.m4a", os.fsdecode(b"caf\xe9.m4a"), "ä.m4a"],
)
def test_the_command_in_a_message_is_one_line_that_a_shell_takes(tmp_path, name):
    command = containers.conversion(tmp_path / name)
    assert command.isprintable()
    script = f"ffmpeg() {{ printf '%s\\0' \"$@\"; }}; {command}"
    found = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    stem = name.removesuffix(".m4a")
    assert found.split(b"\0") == [b"-i", os.fsencode(name), os.fsencode(f"{stem}.flac"), b""]


def test_a_name_need_not_be_text(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.flac")
    soundfile.write(path, NOISE, RATE)
    assert len(load_audio(os.fsdecode(path), RATE)) == len(NOISE)
