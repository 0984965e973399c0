"""A trained system restored: its windows, its decoder, and what a checkpoint gives back."""

import json
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from defaults import front_end
from stub_detector import CLASSES, make_detector

from jfsed_jax.config_files import load_config
from jfsed_jax.errors import InputError
from jfsed_jax.inference.detector import load
from jfsed_jax.method.optimisers import ParameterEmaState
from jfsed_jax.method.state import TrainState
from jfsed_jax.method.system import models_from_config
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import FORMAT, Workdir
from jfsed_jax.sed.decoder_files import TunedDecoder
from jfsed_jax.sed.events import Event


def one_window(lengths, *, frame_rate, options):
    """A rule of one's own: the longest event, in frames."""
    return int(lengths.max() * frame_rate)


def test_windows_are_those_of_the_rule(tmp_path):
    detector = make_detector(tmp_path)
    assert detector.windows().tolist() == [1, 1]  # the config's rule is avg
    assert detector.windows("fixed").tolist() == [5, 5]
    own = f"{__name__}:one_window"
    assert detector.windows(own).tolist() == [60, 60]
    assert make_detector(tmp_path, stride=2).windows(own).tolist() == [30, 30]


@pytest.mark.parametrize(
    ("num_frames", "stride", "overlap", "hop"),
    [(20, 1, [], 10), (22, 4, [], 2), (21, 2, [0.5], 5), (20, 2, [0], 10), (20, 1, [0.75], 5),
     (6, 6, [], 1)],
)  # fmt: skip
def test_clips_lie_a_whole_number_of_frames_apart(tmp_path, num_frames, stride, overlap, hop):
    """By half a clip, for a recording and for who exports, unless told otherwise; never by none."""
    detector = make_detector(tmp_path, num_frames=num_frames, stride=stride)
    assert detector.clip_hop(*overlap) == hop


def test_the_decoder_has_the_windows_of_the_rule(tmp_path):
    frames = np.zeros((1, 20, 2))
    frames[0, 4:6, 1] = 0.9
    detector = make_detector(tmp_path, stride=2)
    assert detector.decoder()(None, frames, ["a"]) == [Event("a", 4 / 30, 6 / 30, "Dog")]
    assert detector.decoder("fixed")(None, frames, ["a"]) == []


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [(None, []), (0.2, ["Cat", "Dog"]), (np.array([0.4, 0.2]), ["Dog"]), (0.3, [])],
)
def test_the_decoder_has_the_threshold(tmp_path, threshold, labels):
    decode = make_detector(tmp_path).decoder(threshold=threshold)
    events = decode(None, np.full((1, 12, 2), 0.3), ["a"])
    assert events == [Event("a", 0.0, 0.2, label) for label in labels]


def test_the_decoder_gates_filters_and_decides_as_the_config_says(tmp_path):
    frames = np.zeros((1, 20, 2))
    # Two runs of three, two frames apart: a median of 5 joins them, a second one changes nothing;
    # what remains of the dogs' runs of two after one median of 3 is gone after none.
    frames[0, [4, 5, 6, 9, 10, 11], 0] = 0.6
    frames[0, [2, 4, 6, 8], 1] = 0.6  # every other frame: each median of 3 eats two of them
    clip = np.array([[0.4, 0.9]])

    def found(**changes):
        changes = {f"postprocess.{key}": value for key, value in changes.items()}
        changes = {"postprocess.rule": "esp"} | changes  # windows of 3
        events = make_detector(tmp_path, **changes).decoder()(clip, frames, ["a"])
        return [(e.event_label, round(e.onset * 60), round(e.offset * 60)) for e in events]

    cats = [("Cat", 4, 7), ("Cat", 9, 12)]
    assert found(medians=0) == [("Dog", t, t + 1) for t in (2, 4, 6, 8)]
    assert found(medians=1) == [("Dog", t, t + 1) for t in (3, 5, 7)]
    assert found() == [("Dog", t, t + 1) for t in (4, 6)]
    assert found(gate=False) == [*cats, ("Dog", 4, 5), ("Dog", 6, 7)]
    assert found(threshold=0.7, gate=False) == []


@pytest.mark.parametrize("stride", [1, 4])
def test_the_time_stride_is_front_end_frames_to_a_posterior(tmp_path, stride):
    detector = make_detector(tmp_path, stride=stride)
    assert (detector.frame_rate, detector.time_stride) == (60 / stride, stride)


SHARES = [0.25, 1.0]


def save_run(path, *, frame_rate=None, **changes):
    """A run of Guided Learning with two seeds: parameters are 1 and 2, their averages 3 and 4."""
    config = load_config("guided_learning:tiny")
    config.front_end.clip_seconds = 2.0  # 100 frames, the least that the teacher pools
    config.num_seeds = 2
    config.update_from_flattened_dict(changes)
    front = front_end(**config.front_end)
    models = models_from_config(config, classes=2, shares=SHARES).named()
    mel = jax.ShapeDtypeStruct((1, front.num_frames, front.n_mels), "float32")
    shapes = {
        name: jax.eval_shape(model.init, jax.random.key(0), mel) for name, model in models.items()
    }

    def filled(collection, first):
        values = jnp.array([first, first + 1], jnp.float32)
        return {
            name: jax.tree.map(
                lambda leaf: jnp.broadcast_to(
                    values.reshape(2, *[1] * len(leaf.shape)), (2, *leaf.shape)
                ),
                found[collection],
            )
            for name, found in shapes.items()
        }

    state = TrainState(
        step=jnp.full(2, 3, jnp.int32),
        params=filled("params", 1),
        batch_stats=filled("batch_stats", 5),
        opt_state=(ParameterEmaState(filled("params", 3)),),
    )
    meta = {
        "format": FORMAT,
        "config": json.loads(config.to_json()),
        "classes": list(CLASSES),
        "front_end": asdict(front),
        "frame_rate": frame_rate or front.frame_rate,
        "feature_shares": SHARES,
    }
    with checkpoints.open_manager(Workdir(path)) as manager:
        checkpoints.save(manager, 3, state, meta, selection=1.0)
        manager.wait_until_finished()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    save_run(path)
    return path


def test_a_restored_model_has_the_feature_shares_of_its_training(run):
    detector = load(run)
    assert list(detector.models.student.shares) == SHARES
    assert list(detector.models.teacher.shares) == SHARES
    assert (detector.step, detector.seed, detector.classes) == (3, 0, CLASSES)
    assert (detector.model, detector.time_stride) == ("student", 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_restored_are_the_averages_of_the_seed_where_the_config_says_so(run, seed):
    variables = load(run, seed=seed, model="teacher").variables
    for name in ("teacher", "student"):
        for leaf in jax.tree.leaves(variables[name]["params"]):
            np.testing.assert_array_equal(leaf, 3 + seed)
        for leaf in jax.tree.leaves(variables[name]["batch_stats"]):
            np.testing.assert_array_equal(leaf, 5 + seed)


def test_a_frame_rate_of_another_model_is_refused(tmp_path):
    """Every event would be at another time."""
    save_run(tmp_path, frame_rate=20.0)
    with pytest.raises(InputError, match="step 3 in .* has frame_rate 20.0, its student 50"):
        load(tmp_path)


def test_restored_are_the_parameters_themselves_where_the_config_says_so(tmp_path):
    save_run(tmp_path, **{"evaluation.average": False})
    leaves = jax.tree.leaves(load(tmp_path, seed=1).variables["student"]["params"])
    assert leaves and all(np.all(np.asarray(leaf) == 2) for leaf in leaves)


def test_a_seed_that_was_not_trained_is_refused(run):
    with pytest.raises(InputError, match="num_seeds = 2; expected 0 to 1"):
        load(run, seed=2)


def test_whose_tags_gate_is_the_configs_unless_another_is_asked_for(tmp_path):
    save_run(tmp_path, **{"evaluation.tags": "mean"})
    assert [load(tmp_path, tags=tags).tags for tags in (None, "teacher")] == ["mean", "teacher"]
    assert load(tmp_path, model="teacher").tags == "teacher"
    with pytest.raises(InputError, match="tags of the student beside the outputs of the mean"):
        load(tmp_path, model="mean", tags="student")


def test_a_folder_without_checkpoints_is_no_run(tmp_path):
    with pytest.raises(InputError, match=r"holds no checkpoints: .* training run\?$"):
        load(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match=r"training run\? Those of reproduce are in its runs/\.$"):
        load(tmp_path)


def test_change_points_are_a_decoder_that_a_config_can_name(tmp_path):
    """With the config's threshold and gate, and without its medians."""
    frames = np.zeros((1, 60, 2))
    frames[0, 20:40] = np.linspace(0.1, 0.9, 20)[:, None]
    changes = {"postprocess.decoder": "change_points", "postprocess.threshold": 0.65}
    decode = make_detector(tmp_path, **changes).decoder()
    assert decode(np.ones((1, 2)), frames, ["a"]) == []
    decode = make_detector(tmp_path, **changes | {"postprocess.threshold": 0.6}).decoder()
    [event] = decode(np.array([[0.0, 1.0]]), frames, ["a"])
    assert event.event_label == "Dog" and event.offset == 40 / 60


@pytest.mark.parametrize(("gate", "events"), [(True, 0), (False, 2)])
def test_a_decoder_file_is_gated_as_the_config_says(tmp_path, gate, events):
    tuned = TunedDecoder("median", 2, dict.fromkeys(CLASSES, {"threshold": 0.5, "window": 0.1}), {})
    decode = make_detector(tmp_path, **{"postprocess.gate": gate}).decoder(tuned=tuned)
    assert len(decode(np.zeros((1, 2)), np.full((1, 20, 2), 0.9), ["a"])) == events
