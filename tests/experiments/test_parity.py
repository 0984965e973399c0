"""Our models, losses and steps against plain PyTorch: the same weights, the same batch, float32.

The architectures of table 1 with fewer filters and frames, without dropout, in training mode: batch
norms use the batch's own statistics, except where a test says otherwise. A mean teacher's input has
no noise.

Max-pooling hands a gradient to the largest value of a window. Where two are equal up to rounding,
the two sides may hand it to different ones, or share it: both are right and percents apart. The
weights' seed is one of those for which no window is that close, in any step of these tests.
"""

from dataclasses import replace
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from jfsed_jax.configs import base, guided_learning, mean_teacher, pts_tfd_afl_esp
from jfsed_jax.errors import InputError
from jfsed_jax.experiments.torch_weights import from_torch, to_torch
from jfsed_jax.method.models import Output
from jfsed_jax.method.objectives import OBJECTIVES
from jfsed_jax.method.optimisers import parameter_ema
from jfsed_jax.method.state import TrainState, initial_state, teacher_params
from jfsed_jax.method.step import train_step, weighted_sum
from jfsed_jax.method.system import from_config

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")
from jfsed_jax.experiments import torch_models, torch_reference  # noqa: E402

torch.set_num_threads(1)  # several wait for each other where the machine is busy

SEED = 109
CLIPS, FRAMES, BANDS, CLASSES = 8, 300, 64, 10
RATE, STEPS = 0.003, 5
# (system, epoch) with one step an epoch; of the paper's schedules tau is 15, alpha starts at 30 or,
# in Guided Learning, at 5, and the ramp of the mean teacher ends at 50.
RUNS = [
    ("mean_teacher", 30),
    ("guided_learning", 60),
    ("pts_tfd_afl_esp", 8),
    ("pts_tfd_afl_esp", 60),
]
# Of system 1: from a quarter of the features to all.
SHARES = np.linspace(0.25, 1, CLASSES).tolist()


def ablations():
    """All that is not in system 9: other distances, the other focal loss, the small size's own."""
    config = base.get_config()
    config.guided.consistency_rampup = 0.5
    config.student.update(aed_recurrent=True, pooling="mean")
    config.loss.distillation.update(tfd=1.0, dfd_d=0.5, dfd_d_weak_unlabelled=0.7, dfd_mse=2.0)
    config.loss.update(tau=15.0, gamma=3.0, focal_form="lin")
    return config


SYSTEMS = {
    "mean_teacher": mean_teacher.get_config,
    "guided_learning": guided_learning.get_config,
    "pts": base.get_config,
    "pts_tfd_afl_esp": pts_tfd_afl_esp.get_config,
    "ablations": ablations,
}


def narrow(config):
    """Seconds instead of minutes; the student's third block is wide enough to go by tiles."""
    config.student.update(filters=(8, 64, 64), dropout=0.0)
    config.teacher_log_noise = 0.0
    config.guided.alpha_inside = False  # alpha is a float32 in ours; see the test of its own
    if config.scheme == "mean_teacher":
        config.teacher_noise = 0.0
        config.student.gru_hidden = 12
        config.optimiser.ema_decay = 0.7  # the third update is the first to be limited by it
        return config
    config.teacher.update(filters=(4, 8, 8, 16, 16), dropout=0.0)
    if config.scheme == "joint":
        for model in (config.teacher, config.student):
            model.update(gru_hidden=12, at_width=16, aed_width=24)
    config.loss.distillation_dims = 20
    return config


def sgd_with_gradients(rate):
    """SGD whose state is the gradients of the last step."""

    def update(gradients, state, params=None):
        return jax.tree.map(lambda g: -rate * g, gradients), gradients

    return optax.GradientTransformation(lambda params: params, update)


class BothSides:
    """One system on both sides, with one set of random weights and running statistics."""

    def __init__(self, config):
        self.config = narrow(config)
        system = from_config(self.config, classes=CLASSES, steps_per_epoch=1, shares=SHARES)
        self.average = parameter_ema(config.optimiser.ema_decay)
        optimiser = optax.chain(sgd_with_gradients(RATE), self.average)
        self.system = replace(system, optimiser=optimiser)
        initial = partial(initial_state, self.system, input_shape=(FRAMES, BANDS))
        state = jax.eval_shape(initial, jax.random.key(0))
        self.trained = state.params
        # A mean teacher's parameters are in the optimiser's state.
        params = state.params | {"teacher": teacher_params(state.params, state.opt_state)}
        self.like = {"params": params, "batch_stats": state.batch_stats}

    def reference(self):
        """A new PyTorch system, the same at every call."""
        torch.manual_seed(SEED)
        reference = torch_models.TorchSystem(self.config, CLASSES, BANDS, SHARES)
        if self.config.scheme == "mean_teacher":
            # A copy: its distance from the student would be the square of next to nothing.
            other = torch_models.TorchSystem(self.config, CLASSES, BANDS).student
            reference.teacher.load_state_dict(other.state_dict())
        for module in reference.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                for value in (module.weight, module.running_var):
                    if value is not None:
                        value.data.uniform_(0.5, 1.5)
                for value in (module.bias, module.running_mean):
                    if value is not None:
                        value.data.uniform_(-0.5, 0.5)
            if isinstance(module, torch_models.TorchAttentionPooling):
                for value in module.parameters():
                    value.data *= 2  # attention that prefers some frames, as after training
        return reference

    def variables(self, reference):
        return from_torch(reference.state_dict(), self.like)

    def state(self, variables, step):
        """Ours before training; the teacher of a mean teacher is where its average begins."""
        params = {name: variables["params"][name] for name in self.trained}
        averaged = params if "teacher" in params else {"student": variables["params"]["teacher"]}
        return TrainState(
            step=jnp.int32(step),
            params=params,
            batch_stats=variables["batch_stats"],
            opt_state=(params, self.average.init(averaged)),
        )

    @cached_property
    def step(self):
        """Compiled once for both stages, which the step number chooses."""
        key = jax.random.key(0)
        return jax.jit(partial(train_step, key=key, system=self.system))


@pytest.fixture(scope="module")
def systems():
    return {name: BothSides(get_config()) for name, get_config in SYSTEMS.items()}


@pytest.fixture(scope="module")
def batch():
    """Three weak, two unlabelled, three strong clips, events of a second here and there."""
    rng = np.random.default_rng(0)
    tones = rng.normal(size=(CLIPS, FRAMES, 1)) * rng.normal(size=BANDS)
    mel = -5 + tones + rng.normal(size=(CLIPS, FRAMES, BANDS))
    frame_labels = np.zeros((CLIPS, FRAMES, CLASSES))
    for clip, start, event in [(5, 20, 1), (5, 50, 3), (6, 0, 1), (6, 240, 9), (7, 110, 4)]:
        frame_labels[clip, start : start + 60, event] = 1
    clip_labels = frame_labels.max(1)
    clip_labels[:3] = rng.random((3, CLASSES)) < 0.3
    arrays = {
        "mel": mel,
        "clip_labels": clip_labels,
        "frame_labels": frame_labels,
        "is_weak": [1, 1, 1, 0, 0, 0, 0, 0],
        "is_strong": [0, 0, 0, 0, 0, 1, 1, 1],
    }
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


@pytest.fixture(scope="module")
def torch_batch(batch):
    return {name: torch.from_numpy(value) for name, value in batch.items()}


@pytest.mark.parametrize("system", ["mean_teacher", "guided_learning", "pts"])
def test_round_trip_is_exact(system, systems):
    sides = systems[system]
    reference = sides.reference()
    state_dict, variables = reference.state_dict(), sides.variables(reference)
    back = to_torch(variables)
    assert back.keys() == state_dict.keys()
    for name, value in state_dict.items():
        np.testing.assert_array_equal(back[name], value.numpy(), err_msg=name)
    again = from_torch(back, sides.like)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, variables))
    reference.load_state_dict({name: torch.from_numpy(value) for name, value in back.items()})


def test_weights_of_another_config_are_refused(systems):
    state_dict = systems["pts"].reference().state_dict()
    weight = "student.gru.weight_hh_l1_reverse"
    for wrong, message in [
        ({name: value for name, value in state_dict.items() if name != weight}, f"no '{weight}'"),
        (state_dict | {"student.extra": state_dict[weight]}, "1 names of no use here"),
        (state_dict | {"teacher.at_linear.bias": torch.zeros(3)}, r"\(3,\).*expected \(16,\)"),
    ]:
        with pytest.raises(InputError, match=message):
            from_torch(wrong, systems["pts"].like)


@pytest.mark.parametrize("train", [False, True], ids=["running statistics", "batch statistics"])
@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("mean_teacher", "teacher"),
        ("mean_teacher", "student"),
        ("guided_learning", "teacher"),
        ("guided_learning", "student"),
        ("pts", "teacher"),
        ("pts", "student"),
        ("ablations", "student"),
    ],
)
def test_outputs(system, name, train, systems, batch, torch_batch):
    sides = systems[system]
    reference = sides.reference().train(train)
    variables = {kind: tree[name] for kind, tree in sides.variables(reference).items()}
    with torch.no_grad():
        expected = getattr(reference, name)(torch_batch["mel"])
    model = sides.system.models.named()[name]
    found, _ = model.apply(variables, batch["mel"], train=train, mutable=["batch_stats"])
    np.testing.assert_allclose(found.clip, expected.clip, atol=1e-5, rtol=0)
    np.testing.assert_allclose(found.frames, expected.frames, atol=1e-5, rtol=0)
    # Features are not probabilities: to their scale.
    largest = float(expected.features.max())
    np.testing.assert_allclose(found.features, expected.features, atol=1e-5 * largest, rtol=0)


def reference_outputs(reference, torch_batch):
    """PyTorch's outputs of teacher and student, as ours."""
    return [
        Output(*(jnp.asarray(value.detach()) for value in model(torch_batch["mel"])))
        for model in (reference.teacher, reference.student)
    ]


@pytest.mark.parametrize("stage", [8, 60])
def test_loss_terms_of_the_ablations(stage, systems, batch, torch_batch):
    sides = systems["ablations"]
    reference = sides.reference()
    variables = sides.variables(reference)
    expected = torch_reference.loss_terms(
        reference, torch_batch, stage, steps_per_epoch=1, config=sides.config
    )
    outputs = reference_outputs(reference, torch_batch)
    params, step = variables["params"], jnp.int32(stage)
    found = sides.system.objective.terms(*outputs, params, batch, step)
    _, values = weighted_sum(found, None)
    assert found.keys() == expected.keys()
    for term, (weight, value) in expected.items():
        np.testing.assert_allclose(found[term][0], weight, atol=1e-6, err_msg=term)
        np.testing.assert_allclose(values[term], value.item(), rtol=1e-6, err_msg=term)


@pytest.mark.parametrize("alignment", ["repeat", "interpolate", "pool"])
def test_what_distillation_moves(alignment, systems, batch, torch_batch):
    """Values and gradients of a target that stands still, from which the student alone learns."""
    sides = systems["ablations"]
    config = sides.config.copy_and_resolve_references()
    config.loss.update(
        alignment=alignment,
        distillation_gradient="student",
        distillation_teacher_map="fixed",
        distillation_scale="standardised",
        beta_start=3.0,
    )
    config.guided.update(soft=True, clips="unlabelled")
    config.loss.clip_labels = "labelled"
    reference = sides.reference()
    arguments = {"steps_per_epoch": 1, "config": config}
    expected = torch_reference.loss_terms(reference, torch_batch, 8, **arguments)
    outputs = reference_outputs(reference, torch_batch)
    terms = OBJECTIVES["joint"](config, 1).terms
    params = sides.variables(reference)["params"]

    def distilled(params):
        found = terms(*outputs, params, batch, jnp.int32(8), axis_name=None)
        total, values = weighted_sum(found, None)
        chosen = {name: term for name, term in found.items() if name.startswith("distillation")}
        return weighted_sum(chosen, None)[0], (found, values)

    gradients, (found, values) = jax.grad(distilled, has_aux=True)(params)
    assert found.keys() == expected.keys()
    for term, (weight, value) in expected.items():
        np.testing.assert_allclose(found[term][0], weight, atol=1e-6, err_msg=term)
        np.testing.assert_allclose(values[term], value.item(), rtol=1e-5, err_msg=term)
    sum(w * v for name, (w, v) in expected.items() if name.startswith("distillation")).backward()
    maps = reference.distillation
    assert not gradients["distillation"]["teacher"].any()
    assert maps["teacher"].weight.grad is None
    assert all(parameter.grad is None for parameter in reference.teacher.parameters())
    wanted = maps["student"].weight.grad.T.numpy()
    found = gradients["distillation"]["student"]
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_alpha_within_the_bce(systems, batch, torch_batch):
    """As in the released system 1; to what a float32 knows of 1 - 0.996^55."""
    sides = systems["guided_learning"]
    config = sides.config.copy_and_resolve_references()
    config.guided.alpha_inside = True
    reference = sides.reference()
    arguments = {"steps_per_epoch": 1, "config": config}
    expected = torch_reference.loss_terms(reference, torch_batch, 60, **arguments)
    outputs = reference_outputs(reference, torch_batch)
    objective = OBJECTIVES["guided_learning"](config, 1)
    found = objective.terms(*outputs, {}, batch, jnp.int32(60))
    _, values = weighted_sum(found, None)
    for term, (weight, value) in expected.items():
        assert float(found[term][0]) == pytest.approx(weight, abs=1e-6)
        assert float(values[term]) == pytest.approx(value.item(), rel=1e-5)


@pytest.mark.parametrize(("name", "start"), RUNS)
def test_training(name, start, systems, batch, torch_batch):
    sides = systems[name]
    reference = sides.reference()
    variables = sides.variables(reference)
    state = sides.state(variables, start)
    optimiser = torch.optim.SGD(reference.parameters(), lr=RATE)
    losses = []
    for step in range(start, start + STEPS):
        state, metrics = sides.step(state, batch)
        values = torch_reference.train_step(
            reference, optimiser, torch_batch, step, steps_per_epoch=1, config=sides.config
        )
        if step == start:
            beside = {"gradient_norm", "alpha", "beta", "consistency", "learning_rate"}
            beside |= {name for name in metrics if name.startswith("measures/")}
            assert metrics.keys() - beside == values.keys()
            for term, value in values.items():
                np.testing.assert_allclose(metrics[term], value, rtol=1e-6, err_msg=term)
            compare_gradients(state.opt_state[0], reference, sides.trained)
        losses.append([float(metrics["loss"]), float(values["loss"])])
    ours, theirs = np.transpose(losses)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    compare_variables(state, variables, reference, sides)


def compare_gradients(found, reference, trained):
    gradients = {
        name: torch.zeros_like(value) if value.grad is None else value.grad
        for name, value in reference.named_parameters()
        if value.requires_grad
    }
    expected = from_torch(gradients, {"params": trained})["params"]
    found, expected = flatten_dict(found), flatten_dict(expected)
    everything = np.sqrt(sum(np.square(value).sum() for value in expected.values()))
    for path, value in expected.items():
        error, scale = np.linalg.norm(found[path] - value), np.linalg.norm(value)
        if path[-2].startswith("Conv") and path[-1] == "bias":
            # The batch norm that follows takes any constant away: the true gradient is 0, and both
            # sides hold nothing but rounding.
            scale = everything
        # The second term is float32's: a gradient whose terms cancel is as exact as they were.
        assert error <= 1e-4 * scale + 1e-7 * everything, (path, error, scale)


def compare_variables(state, before, reference, sides):
    theirs = sides.variables(reference)
    found = flatten_dict(state.params | {"teacher": teacher_params(state.params, state.opt_state)})
    for path, value in flatten_dict(theirs["params"]).items():
        np.testing.assert_allclose(found[path], value, atol=1e-4, rtol=0, err_msg=str(path))
    # The running variances differ by design: of n values PyTorch adds n / (n - 1) times what we
    # add. What both keep of the variance before training is the same.
    found, before = flatten_dict(state.batch_stats), flatten_dict(before["batch_stats"])
    for path, value in flatten_dict(theirs["batch_stats"]).items():
        if path[-1] == "var":
            kept = momentum(sides.config, path) ** STEPS
            n = values_per_channel(sides.config, path)
            value = kept * before[path] + (value - kept * before[path]) * (n - 1) / n
        np.testing.assert_allclose(found[path], value, atol=1e-4, rtol=1e-5, err_msg=str(path))


def momentum(config, path):
    """Share of the old statistics that a step keeps; the DCASE 2019 baseline has two."""
    own = {"input_norm": config.student.get("input_momentum")}
    return own.get(path[1]) or config.batch_norm.momentum


def values_per_channel(config, path):
    """What a batch norm averages over: clips times frames, and mel bands inside a block."""
    model, layer = path[:2]
    if layer == "input_norm":
        return CLIPS * FRAMES
    frames, bands = FRAMES, BANDS
    for time, mel in config.get(model, config.student).pools[: int(layer.removeprefix("block_"))]:
        frames, bands = frames // time, bands // mel
    return CLIPS * frames * bands
