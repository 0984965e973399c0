"""The feature store: what the data are, and what becomes of damage to it."""

import dataclasses
import errno
import hashlib
import json
import logging
import os
import pickle
import re
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import defaults
import numpy as np
import pytest
from data_folder import BAD, TINY, WEAK, contents, prepare, rows, write_audio, write_text

from jfsed_jax import datasets
from jfsed_jax.cli import main as cli
from jfsed_jax.datasets import extraction, features_folder, pipeline, shards, store
from jfsed_jax.errors import InputError


def manifests(directory):
    return sorted(path for path in directory.glob("*/*.json"))


def edit(path, change):
    """Rewrites a JSON file as `change` leaves its value."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value) + "\n")


def of_an_earlier_version(directory):
    """Takes the digests of audio files out of a features folder, as if none had been kept."""

    def forget(manifest):
        for *_, info in manifest["files"]:
            del info["digest"]

    def forget_all(prepared):
        for split in prepared["splits"].values():
            for clip in split["clips"]:
                clip[2].pop()

    for path in manifests(directory):
        edit(path, forget)
    edit(directory / "prepared.json", forget_all)


# What the data are -------------------------------------------------------------------------------


def rotate_weak_labels(data):
    write_text(
        data / "metadata/train/weak.tsv", WEAK + "w0.wav\tCat\nw1.wav\tDog\nw2.wav\tCat,Dog\n"
    )


def move_an_event(data):
    path = data / "metadata/train/synthetic.tsv"
    path.write_text(path.read_text().replace("s2.wav\t0.2", "s2.wav\t0.25"))


def replace_audio(data):
    """Other samples in as many bytes."""
    write_audio(data / BAD, np.full(8000, 0.1))


def rename_a_clip(data):
    (data / "audio/validation/v1.wav").rename(data / "audio/validation/v2.wav")
    path = data / "metadata/validation/validation.tsv"
    path.write_text(path.read_text().replace("v1", "v2"))


def name_sources(data):
    """By which clips are held out together."""
    write_text(data / "sources.tsv", "filename\tsource\nw0.wav\ta\nw1.wav\ta\n")


@pytest.mark.parametrize(
    "change, split",
    [
        (rotate_weak_labels, "weak"),
        (move_an_event, "synthetic"),
        (replace_audio, "weak"),
        (rename_a_clip, "validation"),
        (name_sources, "weak"),
    ],
)
def test_other_data_have_another_digest(data, change, split):
    before = prepare(data).digests()
    change(data)
    after = prepare(data).digests()
    assert {name for name in before if before[name] != after[name]} == {split}


def test_digests_depend_on_the_data_alone(data, tmp_path, monkeypatch):
    """Not on where they are, when their files were written, the order of rows or the storage."""
    expected = prepare(data).digests()
    assert set(expected) == {"weak", "unlabel_in_domain", "synthetic", "validation"}
    moved = tmp_path / "moved/elsewhere"
    shutil.copytree(data, moved)
    for path in moved.rglob("*.wav"):
        os.utime(path, (1, 1))
    write_text(
        moved / "metadata/train/weak.tsv", WEAK + "w2.wav\tCat\nw1.wav\tDog,Cat\nw0.wav\tDog\n"
    )
    monkeypatch.setattr(store, "SHARD_CLIPS", 2)
    prepared = prepare(moved)
    assert prepared.digests() == expected
    assert datasets.load(prepared.directory).digests() == expected


def test_a_digest_is_that_of_a_file_s_bytes(data):
    info = prepare(data).splits["weak"].clips[1].info
    assert info.digest == hashlib.sha256((data / BAD).read_bytes()).hexdigest()


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files whose bytes were hashed since the fixture was last cleared."""
    names = []
    original = extraction.digest_of

    def spy(path):
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(extraction, "digest_of", spy)
    return names


def test_features_without_digests_get_them_once_and_are_not_made_again(data, decoded, hashed):
    prepared = prepare(data)
    expected = prepared.digests()
    of_an_earlier_version(prepared.directory)
    for names in (decoded, hashed):
        names.clear()
    assert datasets.load(prepared.directory).digests().keys() == expected.keys()
    assert prepare(data).digests() == expected
    assert decoded == [] and len(hashed) == 10
    assert prepare(data).digests() == expected
    assert decoded == [] and len(hashed) == 10


def test_only_what_changed_is_hashed_again(data, hashed):
    prepare(data)
    assert len(hashed) == 10
    hashed.clear()
    write_audio(data / BAD, np.full(8000, 0.1))
    os.utime(data / BAD, (1, 1))
    prepare(data)
    assert hashed == ["w1.wav"]


# Shards ------------------------------------------------------------------------------------------


@pytest.fixture
def extract(tmp_path, monkeypatch):
    """`Store.extract` of files called ``CLIPS-...``, none of which is there; and what it did."""
    done, write_shard = [], shards.write_shard

    def decode(path, front_end):
        done.append(path.name)
        clips = int(path.name.split("-")[0])
        if not clips:
            return "no audio"
        seed = int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16)
        records = np.random.default_rng(seed).bytes(clips * 1600)
        return records, extraction.AudioInfo(
            float(clips), 8000, 1, "PCM_16", None, None, "d", clips
        )

    def write(path, records, files):
        done.append(f"shard {path.name[:5]}")
        write_shard(path, records, files)

    monkeypatch.setattr(extraction, "decode", decode)
    monkeypatch.setattr(shards, "write_shard", write)

    def run(names, folder="features"):
        done.clear()
        (tmp_path / folder).mkdir(exist_ok=True)
        made = store.Store(tmp_path / folder, tmp_path, TINY)
        files = [extraction.AudioFile(name, 1, 2) for name in names]
        return made.extract({"weak": files}, workers=1, progress=lambda done, total: None)["weak"]

    run.done, run.write_shard, run.decode = done, write_shard, decode
    return run


@pytest.mark.parametrize("limit", [store.SHARD_BYTES, 1])
def test_clips_are_128_a_shard_however_large_they_are(extract, tmp_path, monkeypatch, limit):
    """So are those of earlier features, which nothing makes anew; a bad file has its place too."""
    monkeypatch.setattr(store, "SHARD_BYTES", limit)
    names = [f"{int(i not in (5, 200))}-{i}.wav" for i in range(300)]
    extracted = extract(names)
    assert list(extracted.errors) == [extraction.AudioFile(names[i], 1, 2) for i in (5, 200)]
    for number, shard in enumerate(extracted.shards):
        group = [name for name in names[128 * number : 128 * number + 128] if name[0] != "0"]
        decoded = {extraction.AudioFile(n, 1, 2): extract.decode(tmp_path / n, TINY) for n in group}
        infos = {file: info for file, (_, info) in decoded.items()}
        expected = shards.shard_path(tmp_path / "expected", number, infos)
        expected.parent.mkdir(exist_ok=True)
        extract.write_shard(expected, [record for record, _ in decoded.values()], infos)
        assert shard.name == expected.name
        assert shard.read_bytes() == expected.read_bytes()
    # Recorded before there was a limit in bytes.
    names = ["00000-12c8d4d38ae3af28", "00001-2dc826221b095f05", "00002-4ced893becc10d75"]
    assert [shard.stem for shard in extracted.shards] == names


def test_a_shard_of_long_recordings_is_written_before_much_is_in_memory(extract, monkeypatch):
    """Of two of 160 kB the limit of 204.8 kB is full; each is taken as a whole."""
    monkeypatch.setattr(store, "SHARD_BYTES", 1)
    extracted = extract([f"100-{i}" for i in range(5)])
    order = "100-0 100-1 shard 00000 100-2 100-3 shard 00001 100-4 shard 00002"
    assert " ".join(extract.done) == order
    assert list(extracted.positions.values()) == [0, 100, 200, 300, 400]
    assert extracted.num_records == 500


def test_shards_of_long_recordings_go_on_where_they_stopped(extract, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 1)
    names = ["100-0", "1-1", "0-2", "60-3", "100-4", "100-5"]
    whole = extract(names)
    stopped = extraction.decode

    def stop(path, front_end):
        if path.name == "100-5":
            raise KeyboardInterrupt
        return stopped(path, front_end)

    monkeypatch.setattr(extraction, "decode", stop)
    with pytest.raises(KeyboardInterrupt):
        extract(names, "again")
    monkeypatch.setattr(extraction, "decode", stopped)
    extract(names, "again")
    assert extract.done == ["0-2", "100-4", "100-5", "shard 00001"]
    assert contents(tmp_path / "again") == contents(tmp_path / "features")
    assert extract(names).shards == whole.shards and extract.done == ["0-2"]


def test_shards_of_another_size_are_copied_and_not_decoded(extract, tmp_path, monkeypatch):
    names = [f"100-{i}" for i in range(5)]
    assert len(extract(names).shards) == 1
    monkeypatch.setattr(store, "SHARD_BYTES", 1)
    moved = extract(names)
    assert extract.done == ["shard 00000", "shard 00001", "shard 00002"]
    anew = extract(names, "anew")
    assert [path.name for path in moved.shards] == [path.name for path in anew.shards]
    for one, other in zip(moved.shards, anew.shards, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert list(moved.positions.values()) == list(anew.positions.values())


# Damage ------------------------------------------------------------------------------------------


def only_shard(directory, split="weak"):
    (shard,) = directory.glob(f"{split}/*.array_record")
    return shard


def flip(path, at):
    """Changes one bit of a file."""
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 1
    path.write_bytes(damaged)


def flip_record(directory, record):
    """Changes one bit of a stored clip of the weak set; in a shard of its own is each 0."""
    shard = only_shard(directory)
    mel = datasets.load(directory).splits["weak"][record]["mel"]
    flip(shard, shard.read_bytes().index(mel.tobytes()) + 700)
    return shard


def flip_end(directory):
    """Changes one bit of what is read when a shard is opened."""
    shard = only_shard(directory)
    flip(shard, len(shard.read_bytes()) // 65536 * 65536 - 65536 + 3)
    return shard


def test_a_damaged_clip_is_refused_and_names_shard_and_remedy(data):
    directory = prepare(data).directory
    shard = flip_record(directory, 1)
    prepared = prepare(data)  # it does not read what is there
    weak = prepared.splits["weak"]
    message = rf"{shard}: damaged \(.*\); jfsed-jax prepare --verify .* --features {directory} "
    with pytest.raises(InputError, match=message):
        weak[1]
    assert weak[0]["filename"] == "w0.wav" and weak[2]["filename"] == "w2.wav"
    batches = pipeline.batches({"weak": weak}, {"weak": 3}, seed=0, num_classes=2, frame_rate=100.0)
    with pytest.raises(InputError, match=message) as error:
        next(batches)
    assert "\n" not in str(error.value)


def test_the_command_that_the_message_names_mends(data):
    """Of features of another front end than the default one."""
    directory = prepare(data).directory
    flip_record(directory, 1)
    weak = datasets.load(directory).splits["weak"]
    with pytest.raises(InputError) as error:
        weak[1]
    command = re.search(r"; jfsed-jax (prepare .*) makes it anew", str(error.value))[1]
    assert cli.main(command.replace("DIR", str(data)).split()) == 0
    assert len(datasets.load(directory).splits["weak"][1]["mel"]) == 100


def test_the_front_end_is_the_configs_or_that_of_the_features(data, tmp_path):
    def made(*flags):
        features = f"--features={tmp_path / 'features'}"
        assert cli.main(["prepare", f"--data={data}", features, *flags]) == 0
        return datasets.load(tmp_path / "features").front_end

    config = ["--config=configs/base.py:tiny", "--config.front_end.hop_length=882"]
    assert made(*config).hop_length == made().hop_length == 882
    (tmp_path / "features" / "features.json").write_text("{")
    assert made().hop_length == 882


def test_of_several_shards_the_damaged_one_is_named(data, monkeypatch):
    monkeypatch.setattr(store, "SHARD_CLIPS", 1)
    directory = prepare(data).directory
    shard = sorted(directory.glob("weak/*.array_record"))[1]
    mel = datasets.load(directory).splits["weak"][1]["mel"]
    flip(shard, shard.read_bytes().index(mel.tobytes()))
    with pytest.raises(InputError, match=str(shard)):
        datasets.load(directory).splits["weak"][1]


def test_a_shard_that_cannot_be_opened_is_refused_and_named(data):
    directory = prepare(data).directory
    shard = flip_end(directory)
    with pytest.raises(InputError, match=rf"{shard}: damaged"):
        prepare(data)
    shard.unlink()
    with pytest.raises(InputError, match=rf"{shard}: missing"):
        datasets.load(directory)


@contextmanager
def no_more_files():
    """The process can open none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as lowest_free:
        most = lowest_free.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_few_shards_stay_open_and_all_can_be_read(data, monkeypatch):
    """One by one, in any order, by several threads and in another process's copy."""
    monkeypatch.setattr(store, "SHARD_CLIPS", 1)
    monkeypatch.setattr(shards.resource, "getrlimit", lambda _: (16, 16))
    for i in range(3, 9):
        write_audio(data / f"audio/train/weak/w{i}.wav", np.full(8000, 0.01 * i))
    (data / "metadata/train/weak.tsv").write_text(
        WEAK + "".join(f"w{i}.wav\tDog\n" for i in range(9))
    )
    weak = prepare(data).splits["weak"]
    paths = [data / "audio/train/weak" / name for name in weak.filenames]
    expected = [extraction.extract_clip(path, TINY)[0] for path in paths]
    assert len(expected) == 9
    before = len(os.listdir("/dev/fd"))
    for clips in weak, pickle.loads(pickle.dumps(weak)):
        order = [*range(9), *reversed(range(9)), 0, 4, 0, 8]
        with ThreadPoolExecutor(4) as pool:
            for i, clip in zip(order, pool.map(clips.__getitem__, order), strict=True):
                np.testing.assert_array_equal(clip["mel"], expected[i])
        assert len(os.listdir("/dev/fd")) - before <= 2 * (1 + (clips is not weak)) + 1  # a lock


def test_that_no_more_files_can_be_opened_is_not_taken_for_damage(data):
    """Neither where clips are read nor where a shard is copied; once there is room, they go on."""
    prepared = prepare(data)
    shard = only_shard(prepared.directory)
    message = rf"^{shard} cannot be opened: too many open files.* ulimit -n"
    stored = shards.StoredClip(shard, 0, prepared.splits["weak"].clips[0].info)
    for read in lambda: prepared.splits["weak"][0], stored.read, lambda: shards.Records([shard]):
        with no_more_files(), pytest.raises(InputError, match=message):
            read()
    assert prepared.splits["weak"][0]["filename"] == "w0.wav"
    assert stored.read()


def made_elsewhere(directory):
    """A shard that is whole, with a clip of which one value is none."""
    shard = next(directory.glob("weak/*.array_record"))
    mels = [clip["mel"].copy() for clip in datasets.load(directory).splits["weak"]]
    mels[2][50, 3] = np.nan
    files = shards.read_manifest(shard)
    shards.write_shard(shard, [mel.tobytes() for mel in mels], files)


@pytest.mark.parametrize(
    "damage, again",
    [
        (lambda directory: flip_record(directory, 1), ["w1.wav"]),
        (made_elsewhere, ["w2.wav"]),
        (flip_end, ["w0.wav", "w1.wav", "w2.wav"]),
    ],
)
def test_verify_makes_anew_what_is_damaged_and_nothing_else(data, decoded, damage, again):
    directory = prepare(data).directory
    before = contents(directory)
    damage(directory)
    decoded.clear()
    prepared = prepare(data, verify=True)
    assert decoded == again
    assert contents(directory) == before
    assert len(prepared.splits["weak"][1]["mel"]) == 100
    decoded.clear()
    assert contents(prepare(data, verify=True).directory) == before and decoded == []


def test_damage_in_a_shard_that_is_replaced_is_mended_without_being_asked(data, decoded):
    flip_record(prepare(data).directory, 1)
    write_audio(data / "audio/train/weak/a.wav")
    with open(data / "metadata/train/weak.tsv", "a") as file:
        file.write("a.wav\tDog\n")
    decoded.clear()
    weak = prepare(data).splits["weak"]
    assert decoded == ["a.wav", "w1.wav"]
    for clip in map(weak.__getitem__, range(4)):
        expected, _ = extraction.extract_clip(data / "audio/train/weak" / clip["filename"], TINY)
        np.testing.assert_array_equal(clip["mel"], expected)


@pytest.mark.parametrize("asked", [True, False])
def test_damage_beside_audio_that_became_unusable_costs_that_clip_only(data, asked):
    """Whether the damage is looked for, or found where a shard is replaced."""
    flip_record(prepare(data).directory, 1)
    status = (data / BAD).stat()
    (data / BAD).write_bytes(b"x" * status.st_size)
    os.utime(data / BAD, ns=(status.st_atime_ns, status.st_mtime_ns))
    write_audio(data / "audio/train/weak/a.wav")
    with open(data / "metadata/train/weak.tsv", "a") as file:
        file.write("a.wav\tDog\n")
    prepared = prepare(data, verify=asked)
    (problem,) = rows(prepared)
    assert problem[0] == BAD and "not audio but text" in problem[3]
    weak = prepared.splits["weak"]
    assert weak.filenames == ["a.wav", "w0.wav", "w2.wav"]
    expected, _ = extraction.extract_clip(data / "audio/train/weak/w2.wav", TINY)
    np.testing.assert_array_equal(weak[2]["mel"], expected)


DAMAGED = [b"", b"half", b"[]", b"null", b"{}", b"\xff\x00"]
OF_ANOTHER_KIND = b'"duration": "x", "'


def spoil(path, content):
    """Makes of a file what is given, half of what it is, or changes the kind of a duration."""
    whole = path.read_bytes()
    if content is OF_ANOTHER_KIND:
        content = re.sub(rb'"duration": [^,]*, "', content, whole, count=1)
        assert content != whole
    path.write_bytes(whole[: len(whole) // 2] if content == b"half" else content)


@pytest.mark.parametrize("content", [*DAMAGED, OF_ANOTHER_KIND])
def test_a_damaged_manifest_is_made_anew_with_its_shard_alone(data, decoded, caplog, content):
    directory = prepare(data).directory
    before = contents(directory)
    manifest = shards.manifest_path(only_shard(directory))
    spoil(manifest, content)
    decoded.clear()
    assert contents(prepare(data).directory) == before
    assert decoded == ["w0.wav", "w1.wav", "w2.wav"]
    assert f"{manifest}: damaged" in caplog.text


def test_a_start_does_not_grow_with_the_square_of_what_is_stored(data, monkeypatch):
    """Nothing is counted through all shards for each, nor asked of a type for each file."""
    monkeypatch.setattr(store, "SHARD_CLIPS", 1)
    before = prepare(data)
    expected = [[clip.record for clip in split.clips] for split in before.splits.values()]
    assert [0, 1, 2] in expected

    def refused(*_):
        raise AssertionError

    monkeypatch.setattr(store.Extracted, "num_records", property(refused))
    monkeypatch.setattr(shards, "get_type_hints", refused)
    splits = prepare(data).splits.values()
    assert [[clip.record for clip in split.clips] for split in splits] == expected


@pytest.mark.parametrize("content", [*DAMAGED, None])
def test_a_damaged_owner_is_written_anew_and_costs_nothing(data, decoded, caplog, content):
    directory = prepare(data).directory
    before = contents(directory)
    owner = directory / "features.json"
    if content is None:
        owner.unlink()
    else:
        spoil(owner, content)
    decoded.clear()
    assert contents(prepare(data).directory) == before
    assert decoded == []
    assert f"{owner} is damaged" in caplog.text


def test_features_of_another_front_end_are_never_taken_for_these(data, decoded):
    """Neither where one file says what they were made with, nor where none does any more."""
    directory = prepare(data).directory
    other = dataclasses.replace(TINY, fmax=3000.0)  # records of the same size
    (directory / "features.json").write_bytes(b"")
    with pytest.raises(InputError, match="holds features of fmax 4000"):
        prepare(data, other)
    for name in ("features.json", "prepared.json"):
        (directory / name).write_bytes(b"")
    decoded.clear()
    prepared = prepare(data, other)
    assert len(decoded) == 10
    expected, _ = extraction.extract_clip(data / BAD, other)
    np.testing.assert_array_equal(prepared.splits["weak"][1]["mel"], expected)


@pytest.mark.parametrize("content", DAMAGED)
def test_what_was_prepared_is_written_anew_when_it_is_damaged(data, decoded, content):
    directory = prepare(data).directory
    before = contents(directory)
    spoil(directory / "prepared.json", content)
    with pytest.raises(InputError, match=r"prepared\.json is damaged .* run jfsed-jax prepare"):
        datasets.load(directory)
    decoded.clear()
    assert contents(prepare(data).directory) == before and decoded == []


# In use ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("travelled", [False, True])
def test_shards_stay_while_somebody_may_read_them(data, travelled):
    """A training opens a shard when it first needs a clip of it."""
    reading = prepare(data).splits["weak"]
    if travelled:
        reading = pickle.loads(pickle.dumps(reading))
    old = only_shard(data.parent / "features")
    expected, _ = extraction.extract_clip(data / BAD, TINY)
    write_audio(data / BAD, np.full(8000, 0.1))
    directory = prepare(data).directory
    np.testing.assert_array_equal(reading[1]["mel"], expected)
    del reading
    prepare(data)
    assert not old.exists() and only_shard(directory).exists()
    assert not shards.manifest_path(old).exists()


def test_features_that_cannot_be_written_can_be_read(data, tmp_path):
    """As those of somebody else, or of a version that kept no note of who reads."""
    directory = prepare(data).directory
    (directory / ".in-use").unlink()
    assert len(datasets.load(directory).splits["weak"]) == 3
    assert not (directory / ".in-use").exists()


def test_without_locks_of_the_file_system_preparing_goes_on_and_says_so(data, monkeypatch, caplog):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(features_folder.fcntl, "flock", flock)
    directory = prepare(data).directory
    warning = f"{directory} cannot be locked (No locks available): see to it that nothing else"
    assert warning in caplog.text
    old = only_shard(directory)
    write_audio(data / BAD, np.full(8000, 0.1))
    with caplog.at_level(logging.INFO):
        assert len(prepare(data).splits["weak"]) == 3
    assert old.exists()  # nothing tells whether a training reads it
    assert "a training may be reading it: 2 files" in caplog.text
    assert "is being read" not in caplog.text


@pytest.mark.parametrize("workers, files", [(2, 7), (2, 400), (64, 100)])
def test_processes_are_given_several_files_at_a_time_and_long_ones_alone(workers, files):
    sizes = [2**40 if number == 3 else 2**20 for number in range(files)]
    found = [extraction.AudioFile(f"{n}.wav", size, 0) for n, size in enumerate(sizes)]
    decoder = extraction.Decoder(Path("data"), defaults.front_end(), found, 1)
    decoder.workers = workers
    handed = list(decoder._handed())
    assert [path.name for paths in handed for path in paths] == [file.path for file in found]
    assert all(3 not in [int(path.stem) for path in paths] or len(paths) == 1 for paths in handed)
    assert max(map(len, handed)) == min(16, -(-files // (4 * workers)))


@pytest.mark.parametrize("seconds", [1, 5])  # a clip, and a recording of several
def test_the_levels_of_a_recording_are_those_of_its_samples(tmp_path, seconds):
    """Half of full scale below zero, and a quarter above: -6.02 dBFS at most, -8.06 on average."""
    samples = np.tile(np.float32([-0.5, 0.25]), 4000 * seconds)
    write_audio(tmp_path / "a.wav", samples)
    _, info = extraction.extract_clips(tmp_path / "a.wav", TINY)
    assert (info.peak, info.rms) == (-6.02, -8.06)
    assert (info.clips > 1) == (seconds > 1)
