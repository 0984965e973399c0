"""Runs of other numbers as one program: each is its single run; what is no number is refused."""

from functools import partial
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.config_files import load_config
from jfsed_jax.errors import InputError
from jfsed_jax.method import parallel
from jfsed_jax.method import system as systems
from jfsed_jax.method.models import Output
from jfsed_jax.method.numbers import member_configs
from jfsed_jax.method.state import initial_state, run_keys
from jfsed_jax.training.program import (
    Program,
    check_program,
    initial_states,
    jitted_steps,
    step_fns,
)

FRAMES, BANDS, CLASSES, CLIPS = 6, 64, 3, 8
LONGER = 100  # frames that the paper's teacher can pool


class Linear(nn.Module):
    """Probabilities of the mean of a clip and of its frames."""

    @nn.compact
    def __call__(self, mel, train=False):
        features = nn.Dense(5, name="hidden")(mel)
        frames = nn.sigmoid(nn.Dense(CLASSES, name="out")(features))
        return Output(frames.mean(1), frames, features)


def base_config(**changes):
    config = load_config("pts_tfd_afl:tiny")
    config.augmentation.gain_db = 1.0
    config.loss.beta_rampup = 1.0
    config.guided.alpha_start = 0.0
    config.optimiser.ema_decay = 0.9
    for key, value in changes.items():
        config[key] = value
    return config


def plans_of(config, **models):
    """A plan of each member, with as much as a program asks for."""
    make = partial(systems.from_config, classes=CLASSES, steps_per_epoch=2)
    make = partial(make, **(models or {"teacher": Linear(), "student": Linear()}))
    return [
        SimpleNamespace(
            config=own,
            data=[None] * own.num_seeds,
            system=make(own, axis_name=parallel.AXIS),
            make_system=make,
            input_shape=(FRAMES, BANDS),
            prepared=SimpleNamespace(classes="abc"),
        )
        for own in member_configs(config)
    ]


def batches(count, frames=FRAMES):
    """What `count` seeds draw: [B, ...], of several [count, B, ...]."""
    rng = np.random.default_rng(1)
    lead = (count,) if count > 1 else ()
    weak = np.arange(CLIPS) < 3
    return {
        "mel": rng.normal(size=(*lead, CLIPS, frames, BANDS)).astype(np.float16),
        "clip_labels": (rng.random((*lead, CLIPS, CLASSES)) < 0.4).astype(np.float32),
        "frame_labels": (rng.random((*lead, CLIPS, frames, CLASSES)) < 0.4).astype(np.uint8),
        "is_weak": np.broadcast_to(weak, (*lead, CLIPS)).astype(np.float32),
        "is_strong": np.broadcast_to(~weak, (*lead, CLIPS)).astype(np.float32),
    }


def trained(plans, *, stacked, batch, steps=4):
    """The metrics of each step [K], and the last state, of each run."""
    mesh = parallel.make_mesh(1)
    program = Program(tuple(plans), stacked)
    state = program.joined(initial_states(program, mesh))
    (step,) = step_fns(program, mesh).values()
    rows = []
    for _ in range(steps):
        state, metrics = step(state, batch)
        rows.append(jax.device_get(metrics))
    return rows, [jax.device_get(program.of_run(state, m)) for m in range(len(plans))]


MEMBERS = (
    "loss.gamma=1 loss.tau=1 optimiser.learning_rate=0.01",
    "loss.tau=-1 guided.alpha_base=0.5 loss.distillation.dfd_d=0.3",
    "loss.tau=0 augmentation.gain_db=0 loss.beta_max=0.5 loss.beta_rampup=0 loss.beta_end=1 "
    "guided.consistency=0.25 guided.consistency_rampup=0 optimiser.decay=0.1",
)


@pytest.fixture(scope="module")
def singles():
    """Each of `MEMBERS` trained alone."""
    plans = plans_of(base_config(members=MEMBERS))
    return plans, [trained([plan], stacked=False, batch=batches(1)) for plan in plans]


@pytest.mark.parametrize("stacked", [True, False])
def test_each_run_is_its_single_run(singles, stacked):
    """To rounding: with the neighbour's numbers, or those of the config, it is another."""
    plans, alone = singles
    rows, states = trained(plans, stacked=stacked, batch=batches(1))
    for m, (single, (state,)) in enumerate(alone):
        for found, expected in zip(rows, single, strict=True):
            for name, value in expected.items():
                np.testing.assert_allclose(
                    found[name][m], value, rtol=2e-5, atol=1e-6, err_msg=name
                )
        for a, b in zip(*map(jax.tree.leaves, (states[m], state)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for m in range(len(plans)):  # what the tolerances have to tell apart
        others = [row for other, row in enumerate(rows[-1]["loss"]) if other != m]
        assert min(abs(rows[-1]["loss"][m] - other) for other in others) > 1e-3


@pytest.mark.parametrize(("num_seeds", "stacked"), [(1, False), (2, True)])
def test_runs_of_one_seed_share_its_batch(num_seeds, stacked):
    """Seeds 1, 0 and 1 of one, or those and the next: each model sees what its single run sees."""
    config = base_config(members=("seed=1", "seed=0", "seed=1 loss.gamma=1"))
    config.num_seeds = num_seeds
    plans = plans_of(config)
    program = Program(tuple(plans), stacked)
    drawn = len(program.drawers)
    assert drawn == num_seeds + 1
    batch = batches(drawn)
    rows, _ = trained(plans, stacked=stacked, batch=batch, steps=2)
    for m, plan in enumerate(plans):
        # Those who draw: seeds 1 and 0, or 1, 2 and 0.
        seen = np.array([[0], [1]] if num_seeds == 1 else [[0, 1], [2, 0]])[m % 2]
        own = jax.tree.map(lambda x, seen=seen: x[seen] if len(seen) > 1 else x[seen[0]], batch)
        _, alone = program.alone(m, (None,) * 3 if not stacked else jnp.zeros(3), batch)
        np.testing.assert_array_equal(alone["mel"], own["mel"])
        single, _ = trained([plan], stacked=False, batch=own, steps=2)
        for found, expected in zip(rows, single, strict=True):
            models = np.reshape(found["loss"], (3, num_seeds))[m]
            np.testing.assert_allclose(models, np.ravel(expected["loss"]), rtol=1e-5)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (("loss.gamma=1", "student.gru_layers=1"), None),
        (("augmentation.time_shift=0.1", "augmentation.time_shift=0.2"),
         r"config.augmentation.time_shift is 0.1, 0.2 in runs .* decides how the step is made"),
        (("optimiser.ema_decay=0", "optimiser.ema_decay=0.5"),
         "config.optimiser.ema_decay is 0, 0.5 in runs .* train other arrays"),
        (("guided.disentangled_least=0.1", "loss.gamma=3"),
         "config.guided.disentangled_least is .* it decides what the data are"),
        (("epochs=3", "epochs=4"), "config.epochs is 3, 4 .* how long they are trained on"),
        (("guided.soft=true", "guided.soft=false"), "config.guided.soft is True, False .* only nu"),
        (("teacher_noise=1", "teacher_noise=2"), "config.teacher_noise is 1, 2 in runs"),
        (("loss.gama=1",), r"config.members\[0\] is 'loss.gama=1': 'loss.gama=1' is no KEY="),
        ((("seed", 1),), r"config.members\[0\] is \('seed', 1\): expected a text of values"),
        (("loss.gamma=big",), r"loss.gamma cannot be 'big': expected a value as 2.0"),
    ],
)  # fmt: skip
def test_what_is_no_number_of_the_step_is_refused(members, message):
    if message is None:  # the models are handed in here, so that nothing reads the config's
        message = "config.student.gru_layers is 2, 1 in runs .* nothing in the step .* reads it"
    with pytest.raises(InputError, match=message):
        check_program(plans_of(base_config(members=members)))


def test_numbers_that_can_be_traced_are_accepted():
    check_program(plans_of(base_config(members=(*MEMBERS, "seed=4 postprocess.threshold=0.4"))))


def test_table_2_lowers_for_accelerators():
    """Its six rows as one program, on a machine that has neither device."""
    rows = ((1, 2), (2, 2), (3, 2), (2, 1), (2, 3))
    members = ("loss.tau=-1", *(f"loss.tau={tau} loss.gamma={gamma}" for tau, gamma in rows))
    config = base_config(members=members)
    program = Program(tuple(plans_of(config, teacher=None)), stacked=True)
    compiled, (arguments,) = jitted_steps(program, parallel.make_mesh(1))
    plan = program.plans[0]
    init = partial(initial_state, plan.system, input_shape=(LONGER, BANDS))
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((6, *leaf.shape), leaf.dtype),
        jax.eval_shape(init, run_keys(0)),
    )
    traced = compiled[1].trace(state, batches(1, LONGER), arguments)
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert f"tensor<6x{CLIPS}x{LONGER}x{CLASSES}xf32>" in text  # frames of all six
