"""Recordings in blocks, wherever they begin; and headers, whose promises are not believed."""

import os
import stat
import struct
import wave

import librosa
import numpy as np
import pytest
import soundfile
from defaults import front_end

from jfsed_jax.audio import decoding
from jfsed_jax.audio.decoding import open_audio
from jfsed_jax.audio.finding import find_recordings
from jfsed_jax.audio.host import framed, log_mel, mel_frames
from jfsed_jax.audio.reading import load_audio, read_audio, resampled
from jfsed_jax.datasets.preparation import prepare
from jfsed_jax.errors import InputError


def noise(samples, channels=None):
    shape = samples if channels is None else (samples, channels)
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def cut(waveform, *sizes):
    """Blocks of these sizes, then what is left."""
    return np.split(waveform, np.cumsum(sizes))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("samples", [4410, 7777])
def test_a_waveform_in_blocks_is_resampled_as_the_whole_is(rate, samples):
    waveform = noise(samples)
    expected = librosa.resample(waveform, orig_sr=rate, target_sr=44100)
    for sizes in ((), (1, 1, 997), (0, 4000)):
        found = np.concatenate(list(resampled(cut(waveform, *sizes), rate, 44100)))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sizes", [(), (1, 5000, 3), (700,) * 12])
@pytest.mark.parametrize("count", [1, 4, 100])
def test_log_mel_in_blocks_is_that_of_the_whole(sizes, count):
    """Also of frames beyond the end, the first of which still hear the sound."""
    front = front_end()
    waveform = noise(9001)  # 13 started frames
    waveform[:4000] = np.sin(np.arange(4000))  # of which some are transformed twice
    expected = log_mel(np.pad(waveform, (0, 7 * 735)), front)[:20]
    totals = []
    parts = framed(cut(waveform, *sizes), front, count, lambda frames: totals.append(frames) or 20)
    found = [mel_frames(samples, front) for samples in parts]
    assert totals == [13]
    assert {len(mel) for mel in found[:-1]} <= {count}
    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_a_file_in_blocks_is_the_file(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", noise(10_001, 3), 16000)
    whole = load_audio(tmp_path / "a.wav", 44100)
    monkeypatch.setattr(decoding, "_BLOCK", 1000)
    with open_audio(tmp_path / "a.wav") as source:
        blocks = list(source.blocks)
    assert [len(block) for block in blocks] == [333] * 30 + [11]
    np.testing.assert_array_equal(np.concatenate(list(resampled(blocks, 16000, 44100))), whole)
    assert len(read_audio(tmp_path / "a.wav", 16000, max_seconds=0.5).waveform) == 8000


def promise_flac(path, samples):
    """Writes into a FLAC's header that it has so many samples."""
    data = bytearray(path.read_bytes())
    data[21] = data[21] & 0xF0 | samples >> 32
    data[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    path.write_bytes(data)


def promise_ogg(path, samples):
    """Writes into the last page of an Ogg that it ends with that sample; with a right checksum."""
    data = bytearray(path.read_bytes())
    begin = data.rindex(b"OggS")
    data[begin + 6 : begin + 14] = struct.pack("<q", samples)
    data[begin + 22 : begin + 26] = bytes(4)
    remainder = 0
    for byte in data[begin:]:
        remainder ^= byte << 24
        for _ in range(8):
            top = remainder >> 31
            remainder = (remainder << 1 & 0xFFFFFFFF) ^ top * 0x04C11DB7
    data[begin + 22 : begin + 26] = struct.pack("<I", remainder)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("suffix", "promise", "samples"),
    [("flac", promise_flac, 2**36 - 1), ("ogg", promise_ogg, 2**45)],
)
def test_a_header_that_promises_terabytes_is_told_in_a_line(tmp_path, suffix, promise, samples):
    path = tmp_path / f"bomb.{suffix}"
    soundfile.write(path, noise(44100), 44100)
    promise(path, samples)
    assert soundfile.info(path).frames > 2**35
    with pytest.raises(
        InputError, match=rf"bomb.{suffix}: (cut short, its header|cannot be decoded)"
    ):
        load_audio(path, 44100)


@pytest.mark.parametrize("rate", [1, 2**31 - 1])
def test_an_absurd_sample_rate_is_told_in_a_line(tmp_path, rate):
    """From 1 Hz, a second's samples would become hours."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(InputError, match=f"a.wav: its header says {rate} samples a second"):
        load_audio(tmp_path / "a.wav", 44100)


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "ALAW", "FLOAT"])
def test_files_of_every_codec_are_whole(tmp_path, subtype):
    """Where a codec has blocks, the bytes a second of the header are rounded."""
    soundfile.write(tmp_path / "a.wav", noise(60 * 8000), 8000, subtype=subtype)
    assert len(load_audio(tmp_path / "a.wav", 8000)) >= 60 * 8000


def test_a_wav_of_more_than_its_header_can_say_is_refused(tmp_path):
    """libsndfile would read a part of it, and not say so."""
    soundfile.write(tmp_path / "a.wav", noise(8000), 8000)
    with open(tmp_path / "a.wav", "r+b") as file:
        file.truncate(5 * 2**30)  # a hole on the disk
    with pytest.raises(InputError, match="a.wav: larger than the 4 GB .*ffmpeg -ignore_length 1"):
        load_audio(tmp_path / "a.wav", 8000)


FFMPEG = """#!/usr/bin/env python3
import struct, sys
path = [word for word in sys.argv if word.startswith("file:")][0][5:]
what = open(path, "rb").read(3)
if what == b"bad":
    sys.exit("[in#0 @ 0x55] no stream\\nError opening input")
out = sys.stdout.buffer
out.write(b".snd" + struct.pack(">5I", 28, 0xFFFFFFFF, 6, 16000, 2) + bytes(4))
out.write(struct.pack(">32000f", *[0.25, 0.75] * 16000))
out.flush()
if what == b"cut":  # as of Matroska: it says so, with status 0
    sys.stderr.write("[in#0/matroska,webm @ 0x55] File ended prematurely\\n")
if what == b"rot":
    sys.exit(183 if "-xerror" in sys.argv else 0)
if what == b"dts":
    sys.stderr.write("[au @ 0x55] Application provided invalid dts to muxer in stream 0\\n")
"""


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """A folder alone on the PATH, with Python, where `ffmpeg` can be put."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(decoding.shutil, "which", lambda name: str(folder / name)
                        if (folder / name).exists() else None)  # fmt: skip
    return folder / "ffmpeg"


def test_what_libsndfile_cannot_read_ffmpeg_does(tmp_path, ffmpeg):
    (tmp_path / "a.m4a").write_bytes(b"\x00\x01 something else")
    (tmp_path / "b.webm").write_bytes(b"bad\x00")
    with pytest.raises(InputError, match=r"a.m4a: .*install ffmpeg, or .*ffmpeg -i a.m4a a.flac"):
        read_audio(tmp_path / "a.m4a", 16000)
    ffmpeg.write_text(FFMPEG)
    ffmpeg.chmod(stat.S_IRWXU)
    recording = read_audio(tmp_path / "a.m4a", 16000)
    assert (recording.sample_rate, recording.channels, recording.duration) == (16000, 2, 1.0)
    np.testing.assert_array_equal(recording.waveform, np.full(16000, 0.5))
    beginning = read_audio(tmp_path / "a.m4a", 16000, max_seconds=0.5)
    assert (len(beginning.waveform), beginning.duration) == (8000, 1.0)
    with pytest.raises(InputError, match=r"b.webm: cannot be decoded by ffmpeg \(no stream\)"):
        read_audio(tmp_path / "b.webm", 16000)


def test_what_ffmpeg_finds_damaged_is_not_read_in_part(tmp_path, ffmpeg):
    ffmpeg.write_text(FFMPEG)
    ffmpeg.chmod(stat.S_IRWXU)
    for what, reason in (("cut", "File ended prematurely"), ("rot", "status 183")):
        (tmp_path / "a.webm").write_bytes(what.encode() + b"\x00")
        with pytest.raises(InputError, match=rf"a.webm: cut short or damaged.*\({reason}\)"):
            read_audio(tmp_path / "a.webm", 16000)
    (tmp_path / "a.webm").write_bytes(b"dts\x00")  # of what it writes, not of what it reads
    assert read_audio(tmp_path / "a.webm", 16000).duration == 1.0


def test_a_clip_that_ffmpeg_reads_is_prepared(tmp_path, ffmpeg):
    """In the place of a wav that the table lists; without ffmpeg it is missed, with the reason."""
    weak = tmp_path / "data/audio/train/weak"
    weak.mkdir(parents=True)
    soundfile.write(weak / "a.wav", noise(16000), 16000)
    (weak / "b.m4a").write_bytes(b"\x00\x01 something else")
    (tmp_path / "data/metadata/train").mkdir(parents=True)
    table = "filename\tevent_labels\na.wav\tDog\nb.wav\tDog\n"
    (tmp_path / "data/metadata/train/weak.tsv").write_text(table)
    one_second = front_end(sample_rate=16000, fmax=8000.0, clip_seconds=1.0)
    options = dict(front_end=one_second, workers=1, progress=False)
    prepared = prepare(tmp_path / "data", features_dir=tmp_path / "without", **options)
    assert prepared.splits["weak"].filenames == ["a.wav"]
    assert "install ffmpeg" in (tmp_path / "without/problems.tsv").read_text()
    ffmpeg.write_text(FFMPEG)
    ffmpeg.chmod(stat.S_IRWXU)
    prepared = prepare(tmp_path / "data", features_dir=tmp_path / "with", **options)
    assert prepared.splits["weak"].filenames == ["a.wav", "b.wav"]


def test_folders_and_patterns_stand_for_the_recordings_in_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "d/b.FLAC",
        "d/a.wav",
        "d/e/c.m4a",
        "d/notes.txt",
        "d/.h.wav",
        "d/.g/i.wav",
        "x[1].wav",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    inside = ["d/a.wav", "d/b.FLAC", "d/e/c.m4a"]
    found = find_recordings(["d", "d/a.wav", "x[1].wav", "gone.wav"])
    assert found.paths == [*inside, "x[1].wav", "gone.wav"]
    assert found.others == 1 and not found.problems
    assert find_recordings(["d/*.wav", "d/**/*.m4a"]).paths == ["d/a.wav", "d/e/c.m4a"]
    assert find_recordings(["d*"]).paths == inside
    nothing = find_recordings(["empty", "y*.wav"])
    assert not nothing.paths
    assert nothing.problems["y*.wav"] == "matches nothing"
    assert nothing.problems["empty"].startswith("no recordings in this folder; looked for .wav")
