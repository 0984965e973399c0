"""Batches: composition, order as a function of (seed, step), sharing between processes."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from jfsed_jax.datasets import pipeline
from jfsed_jax.datasets.selection import holdout_split, split_data
from jfsed_jax.errors import InputError

CLASSES, RATE = 3, 10.0
COMPOSITION = {"weak": 2, "unlabelled": 4, "strong": 3}


class Clips:
    """`count` clips; every value of clip i's log-mel is i."""

    def __init__(self, count):
        self.filenames = [f"{i}.wav" for i in range(count)]

    def __len__(self):
        return len(self.filenames)

    def __getitem__(self, i):
        return {
            "mel": np.full((6, 2), i, np.float16),
            "clip_labels": np.eye(CLASSES, dtype=np.float32)[i % CLASSES],
            "onsets": np.array([0.1]),
            "offsets": np.array([0.32]),
            "labels": np.array([i % CLASSES]),
        }


def read(count, seed=1, composition=COMPOSITION, **options):
    sources = {"weak": Clips(5), "unlabelled": Clips(9), "strong": Clips(7)}
    stream = pipeline.batches(
        sources, composition, num_classes=CLASSES, frame_rate=RATE, seed=seed, **options
    )
    return list(itertools.islice(stream, count))


def clips_of(batch):
    return batch["mel"][:, 0, 0].astype(int).tolist()


def test_composition_and_labels_of_a_batch():
    batch = read(1)[0]
    assert batch["is_weak"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert batch["is_strong"].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    for clip, frames, tags in zip(
        clips_of(batch), batch["frame_labels"], batch["clip_labels"], strict=True
    ):
        # 0.1 s to 0.32 s at 10 frames a second: frames 1 and 2.
        expected = np.zeros((6, CLASSES))
        expected[1:3, clip % CLASSES] = 1
        np.testing.assert_array_equal(frames, expected)
        assert tags.argmax() == clip % CLASSES


@pytest.mark.parametrize(
    ("onset", "offset", "active"),
    [
        (0.0, 0.8, range(8)),
        (0.31, 0.79, range(4)),  # frame 3 lies in the first four, frame 7 in the second
        (0.4, 1.2, range(4, 12)),  # on the grid
        (0.41, 0.79, ()),  # within one
    ],
)
def test_edges_are_floored_to_longer_frames_where_asked(onset, offset, active):
    """To frames of 4, at 10 a second; then the maximum over them loses and adds nothing."""
    item = {"mel": np.zeros((12, 2), np.float16), "clip_labels": np.zeros(CLASSES)}
    item |= {"onsets": np.array([onset]), "offsets": np.array([offset]), "labels": np.array([1])}
    labels = {"num_classes": CLASSES, "frame_rate": RATE, "kind": "strong"}
    found = pipeline.to_arrays(item, floor_labels=4, **labels)["frame_labels"]
    assert np.flatnonzero(found[:, 1]).tolist() == list(active) and not found[:, [0, 2]].any()
    rounded = pipeline.to_arrays(item, **labels)["frame_labels"]
    expected = range(int(onset * RATE + 0.5), int(offset * RATE + 0.5))
    assert np.flatnonzero(rounded[:, 1]).tolist() == list(expected)


def test_labels_are_floored_in_batches_and_in_memory():
    sources = {"strong": Clips(5)}
    labels = {"num_classes": CLASSES, "frame_rate": RATE, "floor_labels": 3}
    batch = next(pipeline.batches(sources, {"strong": 3}, seed=0, **labels))
    clips = pipeline.all_clips(sources, {"strong": 3}, **labels)
    for arrays in (batch, clips):  # 0.1 s to 0.32 s is frames 1 and 2, and floored 0 to 2
        assert (arrays["frame_labels"].sum(2) == [1, 1, 1, 0, 0, 0]).all()


def test_any_step_can_be_the_first():
    whole = [clips_of(batch) for batch in read(12)]
    for start in (1, 5, 11):
        assert [clips_of(batch) for batch in read(12 - start, start=start)] == whole[start:]


@pytest.mark.parametrize(
    "options",
    [{}, {"start": 5}, {"composition": {"weak": 0, "strong": 16}}],
)
def test_positions_pick_the_clips_of_the_batches(options):
    sources = {"weak": Clips(5), "unlabelled": Clips(9), "strong": Clips(7)}
    composition = {"weak": 2, "unlabelled": 4, "strong": 2}
    composition = options.pop("composition", composition)
    labels = {"num_classes": CLASSES, "frame_rate": RATE}
    clips = pipeline.all_clips(sources, composition, **labels)
    positions = pipeline.positions(sources, composition, seed=1, **options)
    batches = pipeline.batches(sources, composition, seed=1, **labels, **options)
    for chosen, batch in itertools.islice(zip(positions, batches, strict=True), 12):
        assert batch.keys() == clips.keys()
        for name, value in batch.items():
            np.testing.assert_array_equal(clips[name][chosen], value, err_msg=name)
            assert clips[name].dtype == value.dtype


def test_another_seed_is_another_order():
    assert [clips_of(b) for b in read(6)] != [clips_of(b) for b in read(6, seed=2)]


def test_a_pass_sees_every_clip_once_and_the_next_in_another_order():
    # 9 unlabelled clips, 3 a batch: a pass is 3 batches.
    composition = {"weak": 0, "unlabelled": 3, "strong": 0}
    passes = [clips_of(batch) for batch in read(6, composition=composition)]
    first, second = sum(passes[:3], []), sum(passes[3:], [])
    assert sorted(first) == sorted(second) == list(range(9))
    assert first != second


def test_kinds_of_equal_size_have_their_own_orders():
    # 9 clips of each kind, 3 a batch: a pass is 3 batches.
    sources = {kind: Clips(9) for kind in COMPOSITION}
    stream = pipeline.positions(sources, dict.fromkeys(COMPOSITION, 3), seed=1)
    batches = np.stack(list(itertools.islice(stream, 3))).reshape(3, 3, 3)
    orders = [(batches[:, i] - 9 * i).ravel().tolist() for i in range(3)]
    assert [sorted(order) for order in orders] == [list(range(9))] * 3
    assert len(set(map(tuple, orders))) == 3


@pytest.mark.parametrize("rows", [[0, 1, 2], [5, 2], [8]])
def test_a_process_reads_its_rows_of_the_batches_of_all(rows):
    """So that clips and their order do not depend on how many processes read them."""
    whole = read(4)
    for batch, own in zip(whole, read(4, rows=np.array(rows)), strict=True):
        for name, value in batch.items():
            np.testing.assert_array_equal(own[name], value[rows], err_msg=name)


def test_a_set_smaller_than_its_share_repeats():
    batch = read(1, composition={"weak": 12, "unlabelled": 0, "strong": 0})[0]
    assert set(clips_of(batch)) == set(range(5))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"weak": Clips(3)}, "0 unlabelled training clips.*config.batch.unlabelled=0"),
        (
            {"weak": Clips(3)},
            "0 unlabelled training clips and 0 strong training clips with audio, but "
            "config.batch.unlabelled = 4 and config.batch.strong = 3: add such clips, or leave "
            "them out with --config.batch.unlabelled=0 --config.batch.strong=0",
        ),
        ({}, "0 weak .*config.batch.strong = 3: add such clips$"),
    ],
)
def test_too_few_clips_are_named(sources, message):
    stream = pipeline.batches(sources, COMPOSITION, num_classes=CLASSES, frame_rate=RATE, seed=0)
    with pytest.raises(InputError, match=message):
        next(stream)


def test_holdout_is_disjoint_and_seeded():
    clips = Clips(20)
    train, held = holdout_split(clips, 0.2, seed=3)
    assert len(held) == 4
    assert sorted(train.filenames + held.filenames) == sorted(clips.filenames)
    assert held.filenames == holdout_split(clips, 0.2, seed=3)[1].filenames
    assert held.filenames != holdout_split(clips, 0.2, seed=4)[1].filenames
    assert len(holdout_split(Clips(1), 0.2, seed=0)[0]) == 1
    assert len(holdout_split(clips, 0.0, seed=0)[1]) == 0


def test_nothing_is_held_out_where_the_development_set_selects():
    sets = {"weak": Clips(10), "unlabel_in_domain": Clips(20), "synthetic": Clips(10)}
    sets["validation"] = Clips(4)
    page = SimpleNamespace(holdout=0.2, select_on="validation")
    config = SimpleNamespace(evaluation=page, seed=3, seeds_share_batch=False)
    data = split_data(SimpleNamespace(splits=sets), config)
    assert {kind: len(clips) for kind, clips in data.train.items()} == {
        "weak": 10, "unlabelled": 20, "strong": 10,
    }  # fmt: skip
    assert data.held == {} and data.development is sets["validation"]
    page.select_on = "holdout"
    data = split_data(SimpleNamespace(splits=sets), config)
    assert {kind: len(clips) for kind, clips in data.held.items()} == {"weak": 2, "strong": 2}
    assert data.development is None
