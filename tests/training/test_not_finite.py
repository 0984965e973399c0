"""Where a loss that is not finite began: clips, layers and terms that overflow where a test says.

Runs on all devices there are; batches are of 8 clips.
"""

from functools import partial
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jfsed_jax.datasets import pipeline
from jfsed_jax.datasets.selection import Subset, TrainingData
from jfsed_jax.method.models import Output
from jfsed_jax.method.objectives import Objective, Term
from jfsed_jax.method.parallel import make_mesh
from jfsed_jax.method.state import initial_state, run_keys
from jfsed_jax.method.system import Models, System
from jfsed_jax.training.feed import Feed
from jfsed_jax.training.not_finite import checked, where_it_began


class Gain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x * self.param("gain", nn.initializers.ones, ())


class Logarithm(nn.Module):
    """``second * log(first * x)`` of a clip's mean: the logarithm is in no layer."""

    @nn.compact
    def __call__(self, mel, train=False):
        x = jnp.log(Gain(name="first")(mel.mean((1, 2))))
        said = jnp.tile(Gain(name="second")(x)[:, None], 2)
        return Output(said, said[:, None], said[:, None])


class Clips:
    """Clips of 3.0 everywhere, but for the first values of some."""

    def __init__(self, count, first=()):
        self.filenames = [f"{i}.wav" for i in range(count)]
        self.first = dict(first)

    def __len__(self):
        return len(self.filenames)

    def __getitem__(self, i):
        mel = np.full((3, 2), 3.0, np.float16)
        mel[0, 0] = self.first.get(i, 3.0)
        nothing = np.array([])
        return {
            "mel": mel,
            "clip_labels": np.array([i, 0], np.float32),
            "onsets": nothing,
            "offsets": nothing,
            "labels": nothing.astype(int),
        }


def make_plan(*weak, augment=None, share_batch=False):
    """A run of one seed for each of the sets of weak clips; all have the same unlabelled ones."""
    unlabelled = Clips(20)
    data = [
        TrainingData({"weak": Subset(own, range(len(own))), "unlabelled": unlabelled}, {})
        for own in weak
    ]
    objective = Objective(
        lambda teacher, student, params, batch, step: {
            "heard": Term(1.0, teacher.clip[:, 0] + student.clip[:, 0]),
            "root": Term(1.0, jnp.sqrt(params["map"]["weight"])),
        },
        init=lambda key, teacher, student: {"map": {"weight": jnp.ones(())}},
    )
    models = Models(Logarithm(), Logarithm())
    return SimpleNamespace(
        config=SimpleNamespace(
            batch={"weak": 2, "strong": 0, "unlabelled": 6},
            seed=5,
            num_seeds=len(weak),
            seeds_share_batch=share_batch,
        ),
        data=data,
        system=System(models, objective, optax.sgd(0.5), augment=augment),
    )


def state_of(plan, *changed, k=0):
    """The state in which it starts, with values of the parameters changed in seed `k`."""
    seeds = plan.config.num_seeds
    init = partial(initial_state, plan.system, input_shape=(3, 2))
    state = init(run_keys(plan.config.seed, seeds))
    params = jax.tree.map(np.array, state.params)
    for path, value in changed:
        *folders, name = path.split("/")
        leaves = params
        for folder in folders:
            leaves = leaves[folder]
        leaves[name][(k,) if seeds > 1 else ()] = value
    return state.replace(params=jax.tree.map(jnp.asarray, params))


def batch_of(plan, number=1):
    """Those of the step, of all seeds; <float>[B, ...] where there is one or they share it."""
    config = plan.config
    found = [
        next(
            pipeline.batches(
                own.train, config.batch, num_classes=2, frame_rate=1.0, seed=config.seed + k,
                start=number - 1,
            )
        )
        for k, own in enumerate(plan.data)
    ]  # fmt: skip
    if config.seeds_share_batch or len(found) == 1:
        return found[0]
    return jax.tree.map(lambda *x: np.stack(x), *found)


def told(plan, *changed, k=0, number=1):
    before = state_of(plan, *changed, k=k), batch_of(plan, number)
    return where_it_began(plan, make_mesh(), number, k, lambda: before)


def louder(key, batch):
    return batch | {"mel": batch["mel"].at[-1].set(jnp.inf)}


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        (("student/second/gain", 3.3e38), "in what leaves student/second;"),
        (("teacher/second/gain", 3.3e38), "in what leaves teacher/second;"),
        (("student/first/gain", -1.0), "in what enters student/second;"),
        (("student/first/gain", np.nan), "before this step, in params/student/first/gain;"),
        (("map/weight", -1.0), "in root, where all layers are finite;"),
        (("map/weight", 0.0), "in the gradient of params/map/weight;"),
        (("map/weight", 1.0), "in what does not repeat itself: taken once more"),
    ],
)
def test_the_layer_or_the_term_is_named(changed, place):
    assert told(make_plan(Clips(4)), changed).startswith(f"it began {place}")


def test_what_an_augmentation_made_is_no_layers_fault():
    assert "it began in what enters teacher;" in told(make_plan(Clips(4), augment=louder))


@pytest.mark.parametrize("share_batch", [False, True])
def test_of_several_seeds_the_one_is_looked_at(share_batch):
    plan = make_plan(Clips(4), Clips(4), share_batch=share_batch)
    changed = "student/second/gain", 3.3e38
    assert "in what leaves student/second;" in told(plan, changed, k=1)
    plan = make_plan(Clips(4), Clips(4, {2: 0.5}), share_batch=share_batch)
    before = state_of(plan, changed, k=0), batch_of(plan)
    found = where_it_began(plan, make_mesh(), 1, 1, lambda: before)
    assert found.startswith("it began in what does not repeat itself")


@pytest.mark.parametrize("share_batch", [False, True])
def test_clips_of_the_step_and_the_seed_are_named(share_batch):
    """All weak clips are bad, two a step; the first of their labels is a clip's number."""
    sets = [Clips(count, dict.fromkeys(range(count), np.nan)) for count in (9, 11)]
    plan = make_plan(*sets, share_batch=share_batch)
    for number in (1, 2, 3):
        batch = batch_of(plan, number)
        numbers = batch["clip_labels"] if share_batch else batch["clip_labels"][1]
        first, second = (f"{value:.0f}.wav (weak)" for value in numbers[:2, 0])
        found = told(plan, k=1, number=number)
        assert found.startswith(f"it began in the log-mel of {first}, {second}: make ")


def test_no_step_is_taken_again_for_clips():
    def before():
        raise AssertionError("taken again")

    plan = make_plan(Clips(2, {0: np.nan}))
    found = where_it_began(plan, make_mesh(), 1, 0, before)
    assert found == (
        "it began in the log-mel of 0.wav (weak): make their features anew, or leave them out"
    )


def test_what_cannot_be_told_does_not_hide_the_rest():
    def before():
        raise RuntimeError("out of memory\nat length")

    found = where_it_began(make_plan(Clips(2)), make_mesh(), 1, 0, before)
    assert found.startswith("where it began is not known (RuntimeError: out of memory); lower")
    assert "\n" not in found


@pytest.mark.parametrize("number", [6, 7, 8, 9, 10, 11])
def test_the_step_in_question_is_reached_from_the_last_look(number):
    """After step 5 a dispatch of 1, one of 4 and one of 1; a step gives its state away."""
    state = {"step": jnp.asarray(5)}
    last = checked(5, state)
    state["step"].delete()
    last.drawn.extend([(1, np.array(6)), (4, np.arange(7, 11)), (1, np.array(11))])
    taken = []

    def step(state, batch):
        taken.extend(np.ravel(batch).tolist())
        return {"step": state["step"] + np.size(batch)}, {}

    feed = Feed(draw=pytest.fail, place=lambda drawn: drawn)
    before, batch = last.before(number, {1: step, 4: step}, feed)
    assert (before["step"], batch) == (number - 1, number)
    assert taken == list(range(6, number))
