"""The TFDS builder: the items of the folder it was built from, on one machine and through Beam."""

import defaults
import numpy as np
import pytest
import soundfile
from dcase2019_tree import make_tree

from jfsed_jax import datasets
from jfsed_jax.datasets import folder
from jfsed_jax.sed.events import DCASE2019_CLASSES

tfds = pytest.importorskip("tensorflow_datasets")
dcase2019 = pytest.importorskip("jfsed_jax.datasets.dcase2019")

STRONG = "filename\tonset\toffset\tevent_label\n"
TABLES = {
    "train/weak.tsv": "filename\tevent_labels\nYabcdefghijk_30.000_40.000.wav\tCat,Dog\n"
    "Yabcdefghijl_30.000_40.000.wav\tSpeech,Speech\n",
    "train/unlabel_in_domain.tsv": "filename\nYabcdefghijm_30.000_40.000.wav\n"
    "Yabcdefghijn_30.000_40.000.wav\n",
    "train/synthetic.tsv": STRONG + "1.wav\t0.5\t2.0\tDog\n1.wav\t1.5\t3.0\tDog\n"
    "1.wav\t9.0\t11.0\tCat\n2.wav\t0.1\t0.2\tFrying\n",
    "validation/validation.tsv": STRONG + "Yabcdefghijo_30.000_40.000.wav\t\t\t\n",
    "eval/public.tsv": STRONG + "abcdefghijp_30_40.wav\t0.0\t10.0\tBlender\n",
}
NAMES = ("weak", "unlabel_in_domain", "synthetic", "validation", "eval")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder of eight clips with flawed labels, two audio files of them spoilt."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, text in TABLES.items():
        path = tmp_path / "metadata" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    recordings = []
    for i in range(3):
        recordings.append(tmp_path / f"recording{i}.wav")
        samples = np.random.default_rng(i).uniform(-0.1, 0.1, 441000).astype(np.float32)
        soundfile.write(recordings[-1], samples, 44100)
    links = make_tree(tmp_path / "tree", tmp_path / "metadata", recordings)
    links[2].unlink()
    links[5].unlink()
    links[5].write_text("not found")
    return tmp_path / "tree"


def build(tree, name, **options):
    builder = dcase2019.Dcase2019Task4(data_dir=tree.parent / name, **options)
    config = tfds.download.DownloadConfig(
        manual_dir=str(tree), beam_runner="DirectRunner" if options.get("beam") else None
    )
    builder.download_and_prepare(download_config=config)
    return builder


def by_filename(source):
    items = [source[i] for i in range(len(source))]
    for item in items:
        if isinstance(item["filename"], bytes):
            item["filename"] = item["filename"].decode()
    return {item["filename"]: item for item in items}


def assert_equals_folder(builder, tree):
    prepared = datasets.prepare(
        tree, defaults.front_end(), classes=DCASE2019_CLASSES, workers=1, progress=False
    )
    assert set(builder.info.splits) == set(NAMES)
    for name in NAMES:
        expected = by_filename(prepared.splits[name])
        found = by_filename(builder.as_data_source(name))
        assert set(found) == set(expected)
        for filename, item in expected.items():
            assert set(found[filename]) == set(item)
            for key, value in item.items():
                np.testing.assert_array_equal(found[filename][key], value, err_msg=key)
                if key != "filename":
                    assert found[filename][key].dtype == value.dtype
    return prepared


def test_builder_equals_folder(tree):
    builder = build(tree, "tfds")
    assert builder.info.full_name == "dcase2019_task4/pts/1.0.0"
    prepared = assert_equals_folder(builder, tree)
    assert [len(prepared.splits[name]) for name in NAMES] == [2, 1, 1, 1, 1]
    (clip,) = by_filename(builder.as_data_source("synthetic")).values()
    assert clip["onsets"].tolist() == [0.5, 9.0] and clip["offsets"].tolist() == [3.0, 10.0]
    assert clip["labels"].tolist() == [DCASE2019_CLASSES.index(label) for label in ("Dog", "Cat")]


def test_beam_equals_folder(tree):
    pytest.importorskip("apache_beam", reason="the extra [beam] is not installed")
    assert_equals_folder(build(tree, "beam", beam=True), tree)


def test_configs_are_the_front_ends_of_the_systems(tmp_path):
    shapes = {
        name: dcase2019.Dcase2019Task4(data_dir=tmp_path, config=name).info.features["mel"].shape
        for name in dcase2019.Dcase2019Task4.builder_configs
    }
    assert shapes == {"pts": (600, 64), "guided_learning": (500, 64), "mean_teacher": (864, 64)}


def test_without_audio_the_expected_tree_is_shown(tmp_path):
    assert folder.TREE in dcase2019.Dcase2019Task4.MANUAL_DOWNLOAD_INSTRUCTIONS
    builder = dcase2019.Dcase2019Task4(data_dir=tmp_path / "tfds")
    config = tfds.download.DownloadConfig(manual_dir=str(tmp_path / "nowhere"))
    with pytest.raises(AssertionError, match="metadata/train/weak.tsv"):
        builder.download_and_prepare(download_config=config)
