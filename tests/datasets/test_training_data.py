"""What a run trains on, selects by and counts: of stub clips, each known by its log-mel.

Nothing is trained, no model is compiled.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from defaults import front_end
from stub_detector import CLASSES, ByMel, StubClips, active, make_prepared

from jfsed_jax.audio.host import fit_length
from jfsed_jax.config_files import load_config
from jfsed_jax.datasets.selection import Subset, TrainingData, split_data
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.method import parallel
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import median_decoder
from jfsed_jax.training.feed import make_feed
from jfsed_jax.training.plan import make_plan
from jfsed_jax.training.validation import validate


class Numbered(StubClips):
    """`count` clips; every value of clip i's log-mel is ``first + i``."""

    def __init__(self, count, first):
        super().__init__([np.full((3, 2), first + i) for i in range(count)])

    def __getitem__(self, i):
        return super().__getitem__(i) | {
            "onsets": np.array([]),
            "offsets": np.array([]),
            "labels": np.array([], int),
        }


def numbered_data(**front: Any) -> Any:
    splits = {
        "weak": Numbered(10, 0),
        "unlabel_in_domain": Numbered(10, 100),
        "synthetic": Numbered(10, 200),
        "validation": Numbered(5, 300),
        "eval": Numbered(5, 400),
    }
    return SimpleNamespace(splits=splits, classes=CLASSES, front_end=front_end(**front))


def numbers(clips):
    return {int(clips[i]["mel"][0, 0]) for i in range(len(clips))}


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(("num_seeds", "share"), [(1, False), (2, False), (2, True)])
def test_training_sees_all_of_its_clips_and_none_that_it_holds_out(num_seeds, share, in_memory):
    config = load_config("pts:tiny")
    config.evaluation.holdout = 0.3
    config.data.in_memory = in_memory
    config.update(num_seeds=num_seeds, seeds_share_batch=share)
    prepared = numbered_data()
    data = [split_data(prepared, config, k) for k in range(num_seeds)]
    plan: Any = SimpleNamespace(config=config, prepared=prepared, data=data)
    feed = make_feed(plan, parallel.make_mesh(1), 0)
    # Fifteen steps of 2 weak, 4 unlabelled and 2 strong clips: four passes or more.
    drawn = [np.asarray(feed.place(feed.draw(1))["mel"])[..., 0, 0] for _ in range(15)]
    again = make_feed(plan, parallel.make_mesh(1), 6)
    for expected in drawn[6:9]:  # a run that goes on draws what it would have drawn
        found = np.asarray(again.place(again.draw(1))["mel"])[..., 0, 0]
        np.testing.assert_array_equal(found, expected)
    drawn = np.stack(drawn, axis=-1)
    for k in range(num_seeds):
        own = data[0 if share else k]
        seen = set((drawn if drawn.ndim == 2 else drawn[k]).ravel().astype(int).tolist())
        held = {kind: numbers(clips) for kind, clips in own.held.items()}
        assert {kind: len(clips) for kind, clips in held.items()} == {"weak": 3, "strong": 3}
        everything = {*range(10), *range(100, 110), *range(200, 210)}
        assert seen == everything - held["weak"] - held["strong"]


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(
    ("floor", "active", "hop"), [(0, (1, 2), 735), (2, (0, 2), 735), (0, (1, 2), 1470)]
)
def test_labels_are_floored_in_training_as_the_config_says(in_memory, floor, active, hop):
    """Frame 1 of three: floored to pairs of frames, what begins in it begins in 0."""
    rate = 44100 / hop

    class Events(Numbered):
        def __getitem__(self, i):
            edges = {"onsets": np.array([1 / rate]), "offsets": np.array([2 / rate])}
            return super().__getitem__(i) | edges | {"labels": np.array([1])}

    config, prepared = load_config("pts:tiny"), numbered_data(hop_length=hop)
    prepared.splits["synthetic"] = Events(10, 200)
    config.data.update(in_memory=in_memory, floor_labels=floor)
    plan: Any = SimpleNamespace(
        config=config, prepared=prepared, data=[split_data(prepared, config)]
    )
    feed = make_feed(plan, parallel.make_mesh(1), 0)
    batch = feed.place(feed.draw(1))
    labels = np.asarray(batch["frame_labels"])[np.asarray(batch["is_strong"]) > 0]
    expected = np.zeros((2, 3, 2))
    expected[:, slice(*active), 1] = 1
    np.testing.assert_array_equal(labels, expected)


def test_selection_sees_what_is_held_out_and_nothing_else():
    config, prepared = load_config("pts:tiny"), numbered_data()
    config.evaluation.holdout = 0.3
    data, seen = split_data(prepared, config), []

    def posteriors(variables, mel) -> Posteriors:
        seen.extend(np.asarray(mel)[:, 0, 0].astype(int).tolist())
        return Posteriors(np.zeros((len(mel), 2)), np.zeros((len(mel), 3, 2)))

    decode = median_decoder(np.array([1, 1]), classes=CLASSES, frame_rate=10)
    validate(posteriors, {}, data, prepared, decode)
    assert set(seen) == numbers(data.held["weak"]) | numbers(data.held["strong"])
    seen.clear()
    config.evaluation.select_on = "validation"
    data = split_data(prepared, config)
    validate(posteriors, {}, data, prepared, decode)
    assert set(seen) == set(range(300, 305))
    assert {kind: len(clips) for kind, clips in data.train.items()} == {
        "weak": 10, "unlabelled": 10, "strong": 10
    }  # fmt: skip


# Two cats that overlap, of which a model can find one; of training they are one long cat.
PUBLISHED = [Event("0.wav", 0.2, 1.0, "Cat"), Event("0.wav", 0.9, 4.0, "Cat")]
OVERLAPPING = StubClips([active(60, (2, 10))], PUBLISHED, events=[Event("0.wav", 0.2, 4.0, "Cat")])


def says_the_mel(variables, mel) -> Posteriors:
    frames = np.asarray(mel, np.float32)
    return Posteriors(frames.max(axis=1), frames)


@pytest.mark.parametrize("development", [False, True])
def test_selection_is_by_references_as_they_were_published(development):
    """One of two cats is found, and nothing else: 2 / (1 + 2) of F1."""
    data = TrainingData({}, {"strong": Subset(OVERLAPPING, [0])})
    if development:
        data = TrainingData({}, {}, OVERLAPPING)
    prepared = make_prepared(synthetic=OVERLAPPING, validation=OVERLAPPING)
    decode = median_decoder(np.array([1, 1]), classes=CLASSES, frame_rate=10)
    scores = validate(says_the_mel, {}, data, prepared, decode)
    assert scores["event_f1"] == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize("development", [False, True])
def test_a_tag_of_a_half_is_absent_where_checkpoints_are_selected(development):
    """Cats of two clips, of which the first is tagged by exactly a half: 2 / (1 + 2) again."""
    reference = [Event("0.wav", 0.0, 1.0, "Cat"), Event("1.wav", 0.0, 1.0, "Cat")]
    clips = StubClips(
        [active(20, (0, 10), level=0.5), active(20, (0, 10), level=0.75)],
        reference,
        labels=[[1, 0], [1, 0]],
    )
    data = TrainingData({}, {"weak": Subset(clips, [0, 1])})
    if development:
        data = TrainingData({}, {}, clips)
    decode = median_decoder(np.array([1, 1]), classes=CLASSES, frame_rate=10)
    scores = validate(says_the_mel, {}, data, make_prepared(validation=clips), decode)
    # Of dogs there are none: 0 in the mean over both classes.
    assert scores["at_f1"] == pytest.approx(100 * 2 / 3 / 2)


def test_a_short_clip_is_padded_at_its_end_and_a_long_one_cut_there():
    """Labels count from the beginning of the file."""
    front = front_end(clip_seconds=0.5)
    short, long = np.arange(1.0, 101.0), np.arange(44100.0)
    found = fit_length(short, front)
    np.testing.assert_array_equal(found[:100], short)
    assert len(found) == 22050 and not found[100:].any()
    np.testing.assert_array_equal(fit_length(long, front), long[:22050])


def plan_of(config, **splits):
    prepared: Any = make_prepared(**splits)
    prepared.front_end, prepared.directory = front_end(), Path("features")
    prepared.digests = dict
    return make_plan(
        config, prepared, Path("data"), Workdir(Path("run")), teacher=ByMel(10), student=ByMel(4)
    )


def test_a_student_that_pools_has_longer_frames_and_shorter_windows():
    """Four frames of the input to one of its own, of the teacher's ten: 15 a second, not 60 or 6.

    Windows are a third of 2 s.
    """
    config = load_config("pts:tiny")
    labels = [Event("0.wav", 0.0, 2.0, label) for label in CLASSES]
    strong = StubClips([active(4)] * 4, labels)
    others = StubClips([active(4)] * 4)
    plan = plan_of(config, weak=others, unlabel_in_domain=others, synthetic=strong)
    assert plan.meta["frame_rate"] == 15
    assert plan.meta["windows"]["avg"] == [9, 9]  # int(30 * 0.333)
    frames = np.zeros((1, 150, 2))
    frames[0, 30:60, 1] = 1.0
    found = plan.decoder()(None, frames, ["a.wav"])
    assert found == [Event("a.wav", 2.0, 4.0, "Dog")]


@pytest.mark.parametrize(("rule", "heard"), [("avg", False), ("esp", True)])
def test_what_is_selected_is_decoded_with_the_windows_of_the_configs_rule(rule, heard):
    """Ten cats of 0.4 s and one of 8 s, of which the ESP rule knows the ten.

    A cat of 2 frames is less than half of 5.
    """
    config = load_config("pts:tiny")
    config.postprocess.update(rule=rule, medians=1)
    lengths = [0.4] * 10 + [8.0]
    cats = [Event("0.wav", 0.0, length, "Cat") for length in lengths]
    # As published one is longer: no window comes of that.
    published = [*cats[:-1], Event("0.wav", 0.0, 80.0, "Cat")]
    dog = Event("1.wav", 0.0, 2.0, "Dog")
    others = StubClips([active(4)] * 4)
    strong = StubClips([active(4)] * 4, [*published, dog], events=[*cats, dog])
    plan = plan_of(config, weak=others, unlabel_in_domain=others, synthetic=strong)
    windows = plan.meta["windows"]
    assert (windows["avg"][0], windows["esp"][0]) == (5, 1)
    frames = np.zeros((1, 150, 2))
    frames[0, 30:32, 0] = 1.0
    expected = [Event("a.wav", 2.0, 32 / 15, "Cat")] if heard else []
    assert plan.decoder()(None, frames, ["a.wav"]) == expected


@pytest.mark.parametrize(("epoch", "steps"), [("unlabelled", 5), ("shortest", 4)])
def test_an_epoch_is_as_long_as_the_clips_that_are_left_to_train_on(epoch, steps):
    """20 unlabelled clips at 4 a step; of 10 strong ones at 2 a step a fifth is held out."""
    config = load_config("pts:tiny")
    config.update(epoch=epoch, steps_per_epoch=0, epochs=7)
    labels = [Event("0.wav", 0.0, 2.0, label) for label in CLASSES]
    plan = plan_of(
        config,
        weak=StubClips([active(4)] * 20),
        unlabel_in_domain=StubClips([active(4)] * 20),
        synthetic=StubClips([active(4)] * 10, labels),
    )
    assert plan.meta["clips"] == {"weak": 16, "unlabelled": 20, "strong": 8}
    assert (plan.steps_per_epoch, plan.total_steps) == (steps, 7 * steps)
    assert plan.meta["steps_per_epoch"] == steps
