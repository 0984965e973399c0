"""The examples scale.py and scale_start.py: arithmetic, and a start that is the package's own."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import jfsed_jax as jf
from jfsed_jax.datasets import pipeline
from jfsed_jax.datasets.clips import load
from jfsed_jax.datasets.selection import KINDS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from examples import scale, scale_start  # noqa: E402

CLIPS = 300  # a whole shard and a part of one, of each set but the smallest


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders of made-up clips; `prepare` has looked at them."""
    place = tmp_path_factory.mktemp("scale")
    scale_start.make_folders(place, CLIPS)
    rows = scale_start.run_stage("preparing", place, CLIPS)
    assert [row[0] for row in rows] == ["prepare, nothing new"]
    return place


def test_what_a_set_takes_by_hand():
    rates = scale.Rates(
        audio_bytes=1000, decode_seconds=0.01, mel_seconds=0.02, record_bytes=100, index_bytes=10,
        clips_read=50, step_seconds=0.5, batch=10, state_bytes=7, log_bytes=3,
    )  # fmt: skip
    found = scale.needs(1009, 4, rates, workers=5, passes=3, frames=6, bands=2, held=0.1)
    assert found == pytest.approx(
        {
            "audio": 1_009_000,
            "features": 100_900,
            "index": 10_090,
            "shards": 8,  # 7 of 128 and one of 113
            "prepare hours": 1009 * 0.03 / 5 / 3600,
            "steps": 300,  # 9 clips of a pass fill no batch
            "train hours": 150 / 3600,
            "clips wanted a second": 20,
            "hosts": 0.4,
            "bytes read a second": 2000,
            # 6 x 2 float16, 6 x 4 bytes, 4 float32 and two more
            "in memory": 1009 * (24 + 24 + 16 + 8),
            "checkpoints": 28,
            "log": 900,
            "held posteriors, strong": 100.9 * (6 + 1) * 4 * 4,
            "held posteriors, weak": 100.9 * 4 * 4,
        }
    )


def test_clips_in_memory_take_what_the_arithmetic_says(place):
    prepared = load(place / "features")
    clips, classes = prepared.splits["weak"], len(prepared.classes)
    labels = {"num_classes": classes, "frame_rate": prepared.front_end.frame_rate}
    arrays = pipeline.all_clips({"weak": clips}, {"weak": 1}, **labels)
    found = scale.needs(len(clips), classes, scale.Rates(), workers=1, passes=1, frames=1, bands=1)
    assert found["in memory"] == sum(array.nbytes for array in arrays.values())


def test_the_page_has_the_table_that_the_script_prints(capsys):
    scale.print_table(scale.SETS, scale.Rates(), scale.CORES, scale.PASSES)
    assert capsys.readouterr().out in (ROOT / "docs/scale.md").read_text(encoding="utf-8")


def test_made_up_folders_are_what_prepare_finds_and_leaves(place):
    """It decodes nothing, misses nothing and finds no flaw; the names of the shards stay."""
    features = place / "features"
    prepared = load(features)
    sizes = scale_start.sizes(CLIPS)
    assert sizes == {"weak": 150, "unlabelled": 120, "strong": 30}
    assert {kind: len(prepared.splits[KINDS[kind]]) for kind in sizes} == sizes
    assert len(prepared.splits["synthetic"].events) == 3 * 30
    for name in ("missing.tsv", "problems.tsv"):
        rows = (features / name).read_text().splitlines()[1:]
        assert [row for row in rows if "44100 Hz" not in row] == []
    saved = json.loads((features / "prepared.json").read_text())["splits"]
    listed = {shard for split in saved.values() for shard in split["shards"]}
    assert listed == {str(path.relative_to(features)) for path in features.glob("*/*.array_record")}
    assert [len(split["shards"]) for split in saved.values()] == [2, 1, 1]


STAGES = {"listing": 1, "opening": 4, "order": 4, "log": 2, "sharing": 2}  # their parts


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_runs(place, stage):
    # Of few clips grain's order is slow.
    rows = scale_start.run_stage(stage, place, 20_000 if stage == "order" else CLIPS)
    assert len(rows) == STAGES[stage]
    assert all(wall > 0 for _, wall, _, _ in rows)


def test_the_order_of_the_simulation_is_that_of_the_pipeline(place):
    """Of made-up sources and of opened clips, gone on to and resumed at."""
    prepared = load(place / "features")
    made_up = {kind: scale_start.Unread(count) for kind, count in scale_start.sizes(CLIPS).items()}
    opened = {kind: prepared.splits[name] for kind, name in KINDS.items()}
    batch, late = {"weak": 2, "unlabelled": 3, "strong": 1}, 40  # the strong ones' second pass
    whole = pipeline.positions(opened, batch, seed=0)
    expected = list(itertools.islice(whole, late, late + 5))
    found = pipeline.positions(made_up, batch, seed=0, start=late)
    np.testing.assert_array_equal(list(itertools.islice(found, 5)), expected)


def test_a_shard_that_cannot_be_opened_is_told_and_not_raised(place, monkeypatch):
    """As where a process may open fewer files than there are shards."""

    def refused(self, i):
        raise jf.InputError("too many open files")

    monkeypatch.setattr("jfsed_jax.datasets.clips.ClipSet.__getitem__", refused)
    *_, (told, *_) = scale_start.run_stage("opening", place, CLIPS)
    assert "a clip of 0 shards, then: too many open files" in told


def test_measured_rates_are_rates():
    config = jf.load_config("pts_tfd_afl_esp:tiny")
    found = scale.measured(config, 10, clips=2, batches=1)
    frame = config.front_end.n_mels * 2
    clip = scale.FrontEnd(**config.front_end).num_frames * frame
    assert clip < found["record_bytes"] < 1.5 * clip
    assert all(value > 0 for value in found.values())
    assert scale.Rates(**found).audio_bytes == scale.Rates().audio_bytes
