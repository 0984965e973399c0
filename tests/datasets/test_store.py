"""The feature store: what the data are, and what becomes of damage to it."""

import json
import os
import shutil

import numpy as np
import pytest
from data_folder import BAD, WEAK, prepare, write_audio, write_text

from jfsed_jax import datasets
from jfsed_jax.datasets import store


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
    import hashlib

    info = prepare(data).splits["weak"].clips[1].info
    assert info.digest == hashlib.sha256((data / BAD).read_bytes()).hexdigest()


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files whose bytes were hashed since the fixture was last cleared."""
    names = []
    original = store._digest

    def spy(path):
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(store, "_digest", spy)
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
