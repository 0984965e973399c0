"""Strong labels of a data folder as label files, one a recording, in the place of the table."""

import pytest
from data_folder import STRONG, make_folder, prepare, rows, write_audio, write_text

from jfsed_jax.errors import InputError
from jfsed_jax.sed import predictions, tables

FOLDER = "metadata/train/synthetic"


@pytest.fixture
def data(tmp_path):
    make_folder(tmp_path / "data")
    return tmp_path / "data"


def as_label_files(data, form, split="train/synthetic"):
    """The strong labels of a set as label files; the table is gone."""
    path = data / f"metadata/{split}.tsv"
    table = tables.read_events(path)
    path.unlink()
    folder = data / "metadata" / split
    return predictions.write_label_files(folder, table.events, form=form, filenames=table.filenames)


def labels(prepared, split="synthetic"):
    """Of each clip: name without suffix, onsets, offsets and classes."""
    clips = prepared.splits[split]
    return {
        name.removesuffix(".wav"): [
            clips[i][key].tolist() for key in ("onsets", "offsets", "labels")
        ]
        for i, name in enumerate(clips.filenames)
    }


@pytest.mark.parametrize("form", ["audacity", "raven"])
def test_label_files_are_the_table(data, form):
    expected = prepare(data)
    for split in ("train/synthetic", "validation/validation"):
        as_label_files(data, form, split)
    prepared = prepare(data)
    for split in ("synthetic", "validation"):
        assert labels(prepared, split) == labels(expected, split)
    assert rows(prepared) == []
    assert rows(prepared, "missing") == []


def test_recordings_in_folders_below(data):
    write_audio(data / "audio/train/synthetic/in/s0.wav")
    as_label_files(data, "audacity")
    write_text(data / FOLDER / "in/s0.txt", "0.5\t0.75\tCat\n")
    found = labels(prepare(data))
    assert found["s0"] == [[0.1], [0.4], [1]]
    assert found["in/s0"] == [[0.5], [0.75], [0]]


def test_flaws_of_every_kind_are_named_by_file_and_row(data):
    write_text(data / "classes.txt", "Cat\nDog\n")
    paths = as_label_files(data, "audacity")
    for name in ("s3", "s4"):
        write_audio(data / f"audio/train/synthetic/{name}.wav")
    with paths["s0.wav"].open("a") as file:
        file.write("0.5\t0.5\tDog\n0.6\t0.7\tParrot\n0.1\t0.4\tDog\n")
    write_text(paths["s1.wav"], "0.0\t1.0\tcat\n")
    write_text(data / FOLDER / "s3.txt", b"\0\1")
    write_text(data / FOLDER / "s4.txt", "")
    write_text(data / FOLDER / "s2.selections.txt", "0\t1\tDog\n")
    write_text(data / FOLDER / "gone.txt", "0\t1\tDog\n")
    prepared = prepare(data)
    found = [row[:3] + row[4:] for row in rows(prepared) if row[0].startswith(FOLDER)]
    assert found == [
        [f"{FOLDER}/s0.txt", "2", "0.5\t0.5\tDog", "yes"],
        [f"{FOLDER}/s0.txt", "3", "Parrot", "yes"],
        [f"{FOLDER}/s0.txt", "4", "s0 0.1 0.4 Dog", "no"],
        [f"{FOLDER}/s1.txt", "1", "cat", "yes"],
        [f"{FOLDER}/s2.selections.txt", "", "s2", "yes"],
        [f"{FOLDER}/s2.txt", "", "s2", "yes"],
        [f"{FOLDER}/s3.txt", "", "s3.txt", "yes"],
    ]
    twice = [row[3] for row in rows(prepared) if row[0].endswith("s2.txt")]
    assert twice[0].startswith("s2.selections.txt has labels of this recording too")
    assert [row[:2] for row in rows(prepared, "missing")] == [["synthetic", "gone"]]
    assert labels(prepared) == {"s0": [[0.1], [0.4], [1]], "s4": [[], [], []]}


def test_a_class_with_a_comma_or_of_one_row_is_named_with_its_file(data):
    paths = as_label_files(data, "audacity")
    write_text(paths["s2.wav"], "0.2\t0.3\tDog, barking\n")
    with pytest.raises(InputError, match=rf"{FOLDER}/s2.txt, row 1: the class 'Dog, barking'"):
        prepare(data)
    write_text(paths["s2.wav"], "0.2\t0.3\tBird\n")
    assert [row[:3] for row in rows(prepare(data))] == [[f"{FOLDER}/s2.txt", "1", "Bird"]]


def test_the_table_goes_before_the_folder(data):
    write_text(data / FOLDER / "s0.txt", "0\t1\tCat\n")
    prepared = prepare(data)
    assert labels(prepared)["s0"] == [[0.1], [0.4], [1]]
    text = (prepared.directory / "prepared.json").read_text()
    assert f"synthetic: uses {FOLDER}.tsv, not {FOLDER}" in text


def test_a_folder_of_other_things_is_no_folder_of_labels(data):
    table = data / f"{FOLDER}.tsv"
    write_text(data / FOLDER / "s0.jams", "{}")
    table.unlink()
    assert "synthetic" not in prepare(data).splits
    write_text(data / FOLDER / "soundscapes.tsv", STRONG + "s0.wav\t0.1\t0.4\tDog\n")
    prepared = prepare(data)
    assert prepared.splits["synthetic"].filenames == ["s0.wav"]
    assert "not metadata" not in (prepared.directory / "prepared.json").read_text()
