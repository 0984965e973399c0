"""System 0 against the released DCASE 2019 Task 4 baseline itself.

    git clone https://github.com/turpaultn/DCASE2019_task4 DIR
    JFSED_DCASE2019_TASK4=DIR pytest tests/experiments/test_released_baseline.py

Its own modules run: model, first values, scaler, transforms, one step of ``train``. Nothing of them
is changed; what is not installed and not needed here (YouTube's downloader) has a stand-in, and the
meters that ``train`` makes are kept. Without a clone only what moves the weights is tested.
"""

import copy
import importlib.util
import os
import re
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from jfsed_jax.audio.front_end import FrontEnd, filter_peaks
from jfsed_jax.configs import mean_teacher
from jfsed_jax.errors import InputError
from jfsed_jax.experiments.released_baseline import from_released, to_released
from jfsed_jax.method.optimisers import ParameterEmaState, averaged
from jfsed_jax.method.schedules import Schedules
from jfsed_jax.method.state import TrainState, initial_state
from jfsed_jax.method.step import train_step
from jfsed_jax.method.system import from_config

CLONE = "JFSED_DCASE2019_TASK4"
CLASSES, BANDS, FRAMES, POOLED = 10, 64, 864, 108
WEAK, STRONG, CLIPS = slice(0, 2), slice(4, 6), 6  # the order of a batch there
STEP = 30  # of 50 in which the consistency weight grows, one step an epoch


def configured():
    """The config at the paper's size; with dropout and noise nothing could be compared."""
    config = mean_teacher.get_config()
    config.student.dropout = 0.0
    config.teacher_noise = 0.0
    return config


@pytest.fixture(scope="module")
def ours():
    config = configured()
    system = from_config(config, classes=CLASSES, steps_per_epoch=1)
    keep = optax.GradientTransformation(
        lambda params: params, lambda gradients, state, params=None: (gradients, gradients)
    )
    step = replace(system, optimiser=optax.chain(keep, system.optimiser))
    state = jax.eval_shape(
        partial(initial_state, system, input_shape=(FRAMES, BANDS)), jax.random.key(0)
    )
    student = state.params["student"]
    like = {
        "params": {"teacher": student, "student": student},
        "batch_stats": state.batch_stats,
    }
    return SimpleNamespace(config=config, system=system, step=step, like=like)


@pytest.fixture(scope="module")
def random_variables(ours):
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f"), ours.like)
    stats = variables["batch_stats"]
    for name in ("mean", "var"):  # there is one scaler there
        stats["teacher"]["input_norm"][name] = stats["student"]["input_norm"][name]
    return variables


def test_back_and_forth(ours, random_variables):
    checkpoint = to_released(random_variables, ours.config)
    assert checkpoint.keys() == {"model", "model_ema", "scaler"}
    layers = checkpoint["model"]["state_dict"]
    assert layers["cnn"]["conv1.weight"].shape == (64, 64, 3, 3)
    assert layers["cnn"]["glu2.linear.bias"].shape == (64,)
    assert layers["rnn"]["rnn.weight_hh_l1_reverse"].shape == (192, 64)
    assert layers["dense_softmax"]["weight"].shape == (10, 128)
    again = from_released(checkpoint, ours.like, ours.config)
    # Through decibels and back: the input's statistics are rounded.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), again, random_variables)
    exact = [again["params"], random_variables["params"]]
    assert jax.tree.all(jax.tree.map(np.array_equal, *exact))


def test_one_model_alone(ours, random_variables):
    checkpoint = to_released(random_variables, ours.config)
    del checkpoint["model_ema"]
    like = {name: {"student": tree["student"]} for name, tree in ours.like.items()}
    found = from_released(checkpoint, like, ours.config)
    assert found["params"].keys() == {"student"}


def test_input_norm_is_the_scaler(ours, random_variables):
    """(dB - mean) / deviation of filters of height 1, by the definition of decibels."""
    rng = np.random.default_rng(1)
    mean, deviation = rng.uniform(-40, 0, BANDS), rng.uniform(10, 20, BANDS)
    checkpoint = to_released(random_variables, ours.config)
    checkpoint["scaler"] = {"mean_": mean, "mean_of_square_": deviation**2 + mean**2}
    variables = from_released(checkpoint, ours.like, ours.config)
    mel = np.exp(rng.normal(size=(5, BANDS)))
    expected = (20 * np.log10(mel) - mean) / deviation
    norm = variables["batch_stats"]["student"]["input_norm"]
    log_mel = np.log(mel * filter_peaks(FrontEnd(**ours.config.front_end)))
    found = (log_mel - norm["mean"]) / np.sqrt(norm["var"] + ours.config.batch_norm.epsilon)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def _without(checkpoint):
    del checkpoint["model"]["state_dict"]["rnn"]["rnn.bias_hh_l0"]


def _more(checkpoint):
    checkpoint["model_ema"]["state_dict"]["cnn"]["conv3.bias"] = np.zeros(64)


def _otherwise(checkpoint):
    checkpoint["model"]["state_dict"]["dense"]["bias"] = np.zeros(11)


def _as_saved(checkpoint):
    del checkpoint["model"]["state_dict"]["dense_softmax"]


def _no_scaler(checkpoint):
    del checkpoint["scaler"]


def _other_bands(checkpoint):
    checkpoint["scaler"]["mean_"] = np.zeros(128)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without, "no 'model.rnn.rnn.bias_hh_l0'"),
        (_more, "'model_ema.cnn.conv3.bias'"),
        (_otherwise, r"'model.dense.bias' has shape \(11,\).*expected \(10,\)"),
        (_as_saved, "model: state_dict has no 'dense_softmax'.*does not save"),
        (_no_scaler, "the checkpoint has no 'scaler', but 'model_ema', 'model'"),
        (_other_bands, r"\(128,\).*expected \(64,\)"),
    ],
)
def test_another_checkpoint_is_refused(spoil, message, ours, random_variables):
    checkpoint = to_released(random_variables, ours.config)
    spoil(checkpoint)
    with pytest.raises(InputError, match=message):
        from_released(checkpoint, ours.like, ours.config)


# What follows needs the clone.


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Its modules, imported from the clone as its own scripts do, and forgotten afterwards."""
    folder = os.environ.get(CLONE)
    if not folder:
        pytest.skip(f"{CLONE} does not name a clone of github.com/turpaultn/DCASE2019_task4")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")
    torch.set_num_threads(1)
    baseline = Path(folder).resolve() / "baseline"
    if not (baseline / "models" / "CRNN.py").is_file():
        raise FileNotFoundError(f"{CLONE}={folder}: no baseline/models/CRNN.py there")
    before = set(sys.modules)
    state = torch.get_rng_state()  # an import there sets the seed
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.6's ways
        patch.chdir(tmp_path_factory.mktemp("released"))  # an import opens its log
        patch.setattr(sys, "path", [str(baseline), *sys.path])
        patch.setattr(sys, "dont_write_bytecode", True)
        for name in ("youtube_dl", "dcase_util", "tqdm"):
            if importlib.util.find_spec(name) is None:
                for part in (name, f"{name}.utils", f"{name}.data", f"{name}.containers"):
                    patch.setitem(sys.modules, part, MagicMock())
        names = ("main", "config", "models.CRNN", "utils.utils", "utils.ramps", "utils.Scaler")
        modules = {name.split(".")[-1]: importlib.import_module(name) for name in names}
        patch.setattr(modules["main"], "LOG", MagicMock())
        torch.set_rng_state(state)
        yield SimpleNamespace(torch=torch, patch=patch, **modules)
        log = importlib.import_module("utils.Logger").LOG
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    for name in set(sys.modules) - before:
        if str(baseline) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def clips():
    """<float32>[B, T, F] mel magnitudes of filters of height 1, over 100 dB: the floor matters."""
    rng = np.random.default_rng(0)
    tones = rng.normal(size=(CLIPS, FRAMES // 8, BANDS)).repeat(8, axis=1)
    decibels = np.clip(-40 + 25 * tones + 10 * rng.normal(size=(CLIPS, FRAMES, BANDS)), -95, 5)
    return (10 ** (decibels / 20)).astype(np.float32)


@pytest.fixture(scope="module")
def log_mel(clips, ours):
    """What our front end makes of them, but for its floor."""
    height = filter_peaks(FrontEnd(**ours.config.front_end))
    return np.log(clips * height).astype(np.float32)


@pytest.fixture(scope="module")
def theirs(released, clips):
    """Two models with its first values and random statistics, and its scaler of the clips."""
    torch = released.torch
    torch.manual_seed(3)
    kwargs = released.config.crnn_kwargs | {"dropout": 0.0}
    models = []
    for _ in range(2):
        crnn = released.CRNN.CRNN(**kwargs)
        crnn.apply(released.utils.weights_init)
        for module in crnn.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for value in (module.weight, module.running_var):
                    value.data.uniform_(0.5, 1.5)
                for value in (module.bias, module.running_mean):
                    value.data.uniform_(-0.5, 0.5)
            if isinstance(module, torch.nn.Linear):
                # Its 0.01 leaves every probability at a half; training does not.
                module.weight.data *= 40 if module.out_features == CLASSES else 15
                module.bias.data.uniform_(-0.5, 0.5)
            if isinstance(module, torch.nn.Conv2d):
                module.bias.data.uniform_(-0.2, 0.2)
        models.append(crnn)
    transform = released.utils.get_transforms(FRAMES)
    scaler = released.Scaler.Scaler()
    scaler.calculate_scaler([tuple(transform((clip, np.zeros(1)))) for clip in clips])
    return SimpleNamespace(student=models[0], teacher=models[1], scaler=scaler, kwargs=kwargs)


@pytest.fixture(scope="module")
def checkpoint(released, theirs, tmp_path_factory):
    """Written and read as there; with the layer that it forgets."""
    torch = released.torch
    state = {"scaler": theirs.scaler.state_dict(), "epoch": 1}
    for name, crnn in (("model", theirs.student), ("model_ema", theirs.teacher)):
        assert "dense_softmax" not in crnn.state_dict()
        layers = crnn.state_dict() | {"dense_softmax": crnn.dense_softmax.state_dict()}
        state[name] = {"name": "CRNN", "args": "", "kwargs": theirs.kwargs, "state_dict": layers}
    path = tmp_path_factory.mktemp("checkpoint") / "baseline_best"
    torch.save(state, path)
    return torch.load(path)


@pytest.fixture(scope="module")
def variables(checkpoint, ours):
    return from_released(checkpoint, ours.like, ours.config)


def test_a_new_model_takes_the_weights_back(released, theirs, variables, ours):
    torch = released.torch
    layers = to_released(variables, ours.config)["model_ema"]["state_dict"]
    layers = {
        layer: {name: torch.from_numpy(np.array(value)) for name, value in entries.items()}
        for layer, entries in layers.items()
    }
    crnn = released.CRNN.CRNN(**theirs.kwargs)
    crnn.load(parameters=layers)
    crnn.dense_softmax.load_state_dict(layers["dense_softmax"])
    for (name, value), expected in zip(
        crnn.named_parameters(), theirs.teacher.parameters(), strict=True
    ):
        assert torch.equal(value, expected), name
    for value, expected in zip(crnn.buffers(), theirs.teacher.buffers(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_outputs_from_the_mel_on(name, released, theirs, variables, ours, clips, log_mel):
    """Evaluation: its decibels, scaler and running statistics, our logarithm and ours."""
    transform = released.utils.get_transforms(FRAMES, theirs.scaler)
    inputs = [transform((clip, np.zeros(1)))[0] for clip in clips]
    crnn = getattr(theirs, name).eval()
    with released.torch.no_grad():
        strong, weak = crnn(released.torch.stack(inputs))
    assert strong.std() > 0.1 and weak.std() > 0.05
    model = ours.system.models.named()[name]
    found = model.apply({kind: tree[name] for kind, tree in variables.items()}, log_mel)
    expected = {"clip": weak, "frames": strong}
    close(f"{name}, evaluation", {"clip": found.clip, "frames": found.frames}, expected)


@pytest.fixture(scope="module")
def inputs(released, variables, ours, log_mel):
    """<float32>[B, 1, T, F] what our first layer makes of the clips in training."""
    found = {}
    for name, model in ours.system.models.named().items():
        own = {kind: tree[name] for kind, tree in variables.items()}
        _, changed = model.apply(
            own, log_mel, train=True, mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: module.name == "input_norm",
        )  # fmt: skip
        normalised = changed["intermediates"]["input_norm"]["__call__"][0]
        found[name] = released.torch.from_numpy(np.array(normalised))[:, None]
    return found


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_outputs_in_training(name, released, theirs, variables, ours, log_mel, inputs):
    crnn = getattr(theirs, name).train()
    before = [value.clone() for value in crnn.buffers()]
    with released.torch.no_grad():
        strong, weak = crnn(inputs[name])
        for value, old in zip(crnn.buffers(), before, strict=True):
            value.copy_(old)
    model = ours.system.models.named()[name]
    own = {kind: tree[name] for kind, tree in variables.items()}
    found, _ = model.apply(own, log_mel, train=True, mutable=["batch_stats"])
    expected = {"clip": weak, "frames": strong}
    close(f"{name}, training", {"clip": found.clip, "frames": found.frames}, expected)


@pytest.fixture(scope="module")
def labels():
    """<float32>[B, T', C] of its 108 frames: weak clips throughout, unlabelled ones -1."""
    rng = np.random.default_rng(2)
    target = np.zeros((CLIPS, POOLED, CLASSES), np.float32)
    target[WEAK] = rng.random((2, 1, CLASSES)) < 0.3
    target[2:4] = -1
    for clip, start, event in [(4, 10, 1), (4, 30, 3), (5, 0, 1), (5, 90, 9)]:
        target[clip, start : start + 25, event] = 1
    return target


@pytest.fixture(scope="module")
def both_after_a_step(released, theirs, variables, ours, log_mel, inputs, labels):
    """One step of its ``train``, and one of ours from the same weights."""
    torch, main = released.torch, released.main
    meters = []

    class Kept(main.AverageMeterSet):
        def __init__(self):
            super().__init__()
            meters.append(self)

    released.patch.setattr(main, "AverageMeterSet", Kept)
    # As its main script makes it.
    student, teacher = (copy.deepcopy(crnn).train() for crnn in (theirs.student, theirs.teacher))
    optimiser = torch.optim.Adam(student.parameters(), lr=0.001, betas=(0.9, 0.999))
    loader = [(inputs["student"], inputs["teacher"], torch.from_numpy(labels))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's old ways
        main.train(loader, student, optimiser, STEP, teacher, weak_mask=WEAK, strong_mask=STRONG)
    kinds = np.zeros((2, CLIPS), np.float32)
    kinds[0, WEAK] = kinds[1, STRONG] = 1
    known = np.maximum(labels, 0)
    batch = {
        "mel": log_mel,
        "clip_labels": known.max(1),
        "frame_labels": known.repeat(FRAMES // POOLED, axis=1),
        "is_weak": kinds[0],
        "is_strong": kinds[1],
    }
    params = {"student": variables["params"]["student"]}
    average = ParameterEmaState({"student": variables["params"]["teacher"]})
    adam, _ = ours.system.optimiser.init(params)
    opt_state = (adam, (jnp.int32(STEP), average))
    state = TrainState(jnp.int32(STEP), params, variables["batch_stats"], (params, opt_state))
    step = jax.jit(partial(train_step, key=jax.random.key(0), system=ours.step))
    after, metrics = step(state, batch)
    gradients = {"model": {"state_dict": by_layer(student, lambda value: value.grad)}}
    like = {"params": {"student": ours.like["params"]["student"]}}
    return SimpleNamespace(
        meters=meters[0].values(),
        metrics=metrics,
        after=after,
        before=(params, opt_state),
        gradients=from_released(gradients, like, ours.config)["params"],
        student=from_released(after_of(student), like, ours.config)["params"],
        average=from_released(after_of(teacher), like, ours.config)["params"],
    )


def by_layer(crnn, value_of):
    """Its parameters as its ``state_dict`` arranges them."""
    layers = {}
    for name, value in crnn.named_parameters():
        layer, entry = name.split(".", 1)
        layers.setdefault(layer, {})[re.sub("^cnn[.]", "", entry)] = value_of(value)
    return layers


def after_of(crnn):
    return {"model": {"state_dict": by_layer(crnn, lambda value: value.detach())}}


def test_loss_terms(both_after_a_step):
    meters, metrics = both_after_a_step.meters, both_after_a_step.metrics
    weight = float(metrics["consistency"])
    found = {
        "Consistency weight": weight,
        "weak_class_loss": metrics["student/weak"],
        "Strong loss": metrics["student/strong"],
        "Consistency weak": weight * metrics["consistency/clip"],
        "Consistency strong": weight * metrics["consistency/frames"],
        "Loss": metrics["loss"],
    }
    expected = {name: meters[name] for name in found}
    assert min(expected.values()) > 1e-3
    close("losses", found, expected)


@pytest.mark.parametrize("step", [0, 1, 5_000, 10_499, 10_500, 20_999])
def test_ramp(step, released, ours):
    """100 epochs of 210 steps; there the ramp is cut off after its last step."""
    length = 210 * released.config.n_epoch // 2
    ramp = released.ramps.sigmoid_rampup(step, length) if step < length else 1.0
    found = Schedules.of(ours.config, 210).consistency(step)
    np.testing.assert_allclose(found, released.config.max_consistency_cost * ramp, atol=1e-6)


# Any constant before a batch norm is taken away: the gradient of that bias is 0, and what both
# sides have for it is rounding.
NOTHING = ("Conv_0", "bias")


def test_gradients(both_after_a_step):
    found = flatten_dict(both_after_a_step.after.opt_state[0])
    expected = flatten_dict(both_after_a_step.gradients)
    everything = np.sqrt(sum(np.square(value).sum() for value in expected.values()))
    errors = {}
    for path, value in expected.items():
        scale = everything if path[-2:] == NOTHING else np.linalg.norm(value)
        errors["/".join(path)] = np.linalg.norm(found[path] - value) / scale
    print("gradients, relative", max(errors.values()), max(errors, key=errors.get))
    assert max(errors.values()) < 5e-4, errors


def test_optimiser_and_average(both_after_a_step, ours):
    """From its own gradients, and so to the last digits.

    Adam's first step has the size of the rate however small a gradient is, so that of one near 0
    rounding alone decides where it goes.
    """
    both = both_after_a_step
    params, opt_state = both.before
    gradients = jax.tree.map(jnp.asarray, both.gradients)
    updates, opt_state = ours.system.optimiser.update(gradients, opt_state, params)
    close("student", optax.apply_updates(params, updates), both.student, atol=1e-6)
    close("average", averaged(opt_state), both.average, atol=1e-6)


def test_whole_step(both_after_a_step):
    """Wherever a gradient is more than rounding, of at least a thousandth of the largest one."""
    both = both_after_a_step
    gradients = flatten_dict(both.gradients)
    clear = {
        path: np.abs(value) > 1e-3 * np.abs(value).max()
        for path, value in gradients.items()
        if path[-2:] != NOTHING
    }
    before = flatten_dict(both.before[0])
    for name, tree, expected in (
        ("student", both.after.params, both.student),
        ("average", averaged(both.after.opt_state), both.average),
    ):
        found, expected = flatten_dict(jax.device_get(tree)), flatten_dict(expected)
        close(
            f"whole step, {name}",
            {path: found[path][chosen] for path, chosen in clear.items()},
            {path: expected[path][chosen] for path, chosen in clear.items()},
        )
        for path in clear:
            assert np.abs(expected[path] - before[path]).max() > 5e-4, path


def close(title, found, expected, atol=1e-5):
    """Compares trees of arrays leaf by leaf, and prints the largest difference (``pytest -s``)."""
    found, expected = (
        {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (found, expected))
    )
    assert found.keys() == expected.keys()
    errors = {name: np.abs(found[name] - value).max() for name, value in expected.items()}
    worst = max(errors, key=errors.get)
    print(f"{title}: {errors[worst]:.1e} at {worst}")
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=atol, rtol=0, err_msg=name)
