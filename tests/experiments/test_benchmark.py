"""The benchmark: operations counted, taking turns, the table, what it needs; PyTorch's log-mel."""

import json
import subprocess
import sys
import time
from functools import partial

import defaults
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jfsed_jax import experiments
from jfsed_jax.audio.front_end import FrontEnd, mel_basis
from jfsed_jax.audio.host import log_mel
from jfsed_jax.cli import main as cli
from jfsed_jax.configs import base, guided_learning, mean_teacher, pts_tfd_afl_esp
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import benchmark_data, benchmarking, measuring
from jfsed_jax.experiments.our_side import OurSide
from jfsed_jax.method import models
from jfsed_jax.method.operations import forward_flops

NO_TORCH = "PyTorch is not installed (extra [torch])"


def make(name, get_config=base.get_config, **options):
    config = get_config()
    config[name].update(options)
    return models.from_config(
        config[name], config.batch_norm, classes=10, dtype="float32", axis_name=None
    )


def test_operations_are_those_of_the_layers():
    convolutions = 600 * (64 * 25 * 160 + 16 * 25 * 160 * 160 + 4 * 9 * 160 * 160)
    dense = 600 * (160 * 128 + 128 * 20 + 160 * 256 + 256 * 10)
    without = make("student", gru_layers=0)
    assert forward_flops(without, 600, 64) == 2 * (convolutions + dense)
    gates = 600 * 2 * 3 * 64 * ((160 + 64) + (128 + 64)) + 600 * 128 * 128
    assert forward_flops(make("student"), 600, 64) == 2 * (convolutions + dense + gates)
    recurrent = forward_flops(make("student", aed_recurrent=True), 600, 64)
    assert recurrent == 2 * (convolutions + dense + gates + 600 * 128 * 256)


def test_operations_of_systems_0_and_1():
    blocks = 864 * 64 * (9 * 64 + 64 * 64) + 432 * 16 * 10 * 64 * 64 + 216 * 4 * 10 * 64 * 64
    gates = 108 * 2 * 3 * 64 * ((64 + 64) + (128 + 64))
    baseline = make("student", mean_teacher.get_config)
    found = forward_flops(baseline, 864, 64)
    assert found == 2 * (blocks + gates + 108 * 128 * 20)
    convolutions = 500 * (64 * 25 * 160 + 16 * 25 * 160 * 160 + 4 * 9 * 160 * 160)
    guided = make("student", guided_learning.get_config)
    found = forward_flops(guided, 500, 64)
    assert found == 2 * (convolutions + 500 * 160 * 20 + 160 * 10)


@pytest.mark.parametrize(
    "model",
    [
        make("teacher", gru_layers=0),
        make("student", gru_layers=0),
        make("student", mean_teacher.get_config, gru_layers=0),
        make("teacher", guided_learning.get_config),
    ],
    ids=["teacher", "student", "system 0", "system 1"],
)
def test_operations_are_those_that_xla_counts(model):
    """XLA leaves out what meets padding, counts batch norms, and of a loop counts one turn.

    Of an accelerator's program, which has the layers as they are; a CPU's has tiles for some.
    """
    mel = jax.ShapeDtypeStruct((1, 600, 64), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), mel)
    lowered = jax.jit(model.apply).trace(variables, mel).lower(lowering_platforms=("cuda",))
    counted = lowered.cost_analysis()["flops"]
    assert forward_flops(model, 600, 64) == pytest.approx(counted, rel=0.1)


def test_sides_take_turns():
    called = []

    def side(name, seconds):
        called.append(name)
        time.sleep(seconds)

    sides = {"a": lambda: side("a", 0.02), "b": lambda: side("b", 0.04)}
    found = measuring.take_turns(sides, seconds=0.25)
    assert called == ["a", "b"] * (len(called) // 2)
    assert found["a"].calls == found["b"].calls == len(called) // 2 - 1
    assert 1.5 < found["b"].seconds / found["a"].seconds < 2.5
    assert found["b"].cpu_seconds < 0.02  # sleep is not work


def quick(monkeypatch):
    """The complete system with two blocks, and few repeats."""
    config = pts_tfd_afl_esp.get_config("tiny")
    few = dict(filters=(4, 4), kernels=(3, 3), convs=(1, 1), gru_layers=1, dropout=0.0)
    config.teacher.update(few, pools=((10, 8), (10, 4)), pooling="mean")
    config.student.update(few, pools=((1, 8), (1, 8)))
    config.front_end.update(clip_seconds=100 / 60)
    few = partial(measuring.take_turns, seconds=0.1)
    monkeypatch.setattr(benchmarking, "take_turns", few)
    return config


def check_table(result, sides):
    json.dumps(result, allow_nan=False)
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["train step", "inference", "features", "input", "peak memory"]
    for name in ("train step", "inference"):
        row = rows[name]
        assert row["compile_seconds"] > 0 and row["ours"]["calls"] >= 3
        expected = row["flops"] / row["ours"]["seconds"] / result["ceiling_flops"]
        assert row["share_of_ceiling"] == pytest.approx(expected)
    for row in (row for row in rows.values() if "skipped" not in row):
        assert [side for side in ("ours", "torch") if side in row] == sides
        assert ("ratio" in row) == (len(sides) == 2)
    lines = benchmarking.format_table(result).splitlines()
    assert [line.split("  ")[0] for line in lines[-5:]] == list(rows)
    return rows


def test_without_a_reference_and_without_grain(monkeypatch):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'grain'", name="grain")

    monkeypatch.setattr(benchmarking, "_input_sides", missing)
    config = quick(monkeypatch)
    config.num_seeds = 2
    result = benchmarking.benchmark(config, size=4)
    seeds = result["rows"].pop(1)
    train = result["rows"][0]
    assert seeds["name"] == "seeds" and seeds["flops"] == 2 * train["flops"]
    assert seeds["times_one"] == seeds["ours"]["seconds"] / train["ours"]["seconds"]
    assert seeds["note"].startswith("2 as one program: ")
    rows = check_table(result, ["ours"])
    assert rows["input"] == {"name": "input", "skipped": "grain is not installed"}
    assert "skipped: grain is not installed" in benchmarking.format_table(result)
    assert rows["peak memory"]["ours"]["host"] > 1e6


def test_against_torch(monkeypatch):
    pytest.importorskip("torch", reason=NO_TORCH)
    memory = {"host": 5 << 20, "device": 0}
    monkeypatch.setattr(benchmarking, "peak_memory", lambda *_: memory)
    config = quick(monkeypatch)
    result = benchmarking.benchmark(config, size=4, reference="torch")
    rows = check_table(result, ["ours", "torch"])
    assert result["largest_difference"] < 1e-5
    seconds = [rows["train step"][side]["seconds"] for side in ("torch", "ours")]
    assert rows["train step"]["ratio"] == seconds[0] / seconds[1]


@pytest.mark.parametrize("system", [mean_teacher, guided_learning])
def test_both_sides_train_systems_0_and_1(system, monkeypatch):
    pytest.importorskip("torch", reason=NO_TORCH)
    config = system.get_config("tiny")
    config.teacher_noise = 0.0
    few = dict(filters=(4, 4), kernels=(3, 3), dropout=0.0)
    if system is mean_teacher:
        config.student.update(few, pools=((2, 8), (2, 8)), gru_layers=1)
    else:
        config.teacher.update(few, pools=((10, 8), (10, 4)), convs=(1, 1))
        config.student.update(few, pools=((1, 8), (1, 8)), convs=(1, 1))
    config.front_end.update(clip_seconds=2.0)
    front_end = FrontEnd(**config.front_end)
    batch = benchmark_data.make_batch(config, front_end, 4)
    # Another choice of kernels on a GPU alone.
    ours = OurSide(config, batch, deterministic=True)
    theirs = benchmarking.load_reference().TorchSide(config, front_end, batch, ours.variables)
    for found, expected in zip(ours.infer(), theirs.infer(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    before = theirs.infer()
    for side in (ours, theirs):
        side.train()
        side.train()
    assert int(ours.state.step) == 2
    saved = ours.saved()
    ours.train_on([batch] * 4)
    found = ours.saved()
    assert found.step == 6
    ours.restore(saved)
    ours.train_on([batch] * 4)
    for first, again in zip(*map(jax.tree.leaves, (found, ours.saved())), strict=True):
        np.testing.assert_array_equal(first, again)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ours.state))
    for old, new in zip(before, theirs.infer(), strict=True):
        assert np.isfinite(new).all() and not np.array_equal(old, new)


def test_without_torch_the_extra_is_named(monkeypatch, capsys):
    for name in ("torch_side", "torch_reference", "torch_models"):
        monkeypatch.delitem(sys.modules, f"jfsed_jax.experiments.{name}", raising=False)
        monkeypatch.delattr(experiments, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"not installed.*jfsed_jax\[torch\]"):
        benchmarking.load_reference()


def test_another_reference_is_refused(capsys):
    assert cli.main(["benchmark", "--reference=keras"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_model_that_torch_lacks_is_refused():
    pytest.importorskip("torch", reason=NO_TORCH)
    config = base.get_config("tiny")
    config.student.architecture = "mine:Conformer"
    side = benchmarking.load_reference().TorchSide
    with pytest.raises(InputError, match="no mine:Conformer.*config.student.architecture"):
        side(config, FrontEnd(**config.front_end), {})
    config = base.get_config("tiny")
    config.scheme = "mine:cosine"
    with pytest.raises(InputError, match="config.scheme mine:cosine"):
        side(config, FrontEnd(**config.front_end), {})


def test_a_model_of_someone_else_has_no_count_of_operations():
    assert forward_flops(nn.Dense(3), 600, 64) is None


@pytest.mark.parametrize("reference", [False, True], ids=["alone", "beside torch"])
def test_needs_none_of_the_libraries_for_audio_data_and_scores(reference):
    """What runs where only JAX, and PyTorch, are installed, as on many a machine with a GPU."""
    if reference:
        pytest.importorskip("torch", reason=NO_TORCH)
    program = f"""
import sys
absent = "librosa soundfile sed_eval dcase_util pandas numba tensorflow_datasets grain"
sys.modules.update(dict.fromkeys(absent.split()))
from jfsed_jax.experiments import benchmark_layers, benchmarking, our_side, roofline, suite
from jfsed_jax.method import losses, models, step
from jfsed_jax.configs import pts_tfd_afl_esp
if {reference}:
    from jfsed_jax.experiments import torch_reference, torch_weights
    benchmarking.load_reference()
config = pts_tfd_afl_esp.get_config("tiny")
try:
    benchmarking._input_sides(config, benchmarking.FrontEnd(**config.front_end), None)
except ImportError as error:
    print(error.name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "grain\n"


def test_batch_has_each_kind_in_the_configs_proportion():
    config = ConfigDict({"batch": {"weak": 16, "unlabelled": 32, "strong": 16}})
    batch = benchmark_data.make_batch(config, defaults.front_end(), 8)
    assert batch["is_weak"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert batch["is_strong"].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert (batch["frame_labels"].any((1, 2)) == batch["is_strong"]).all()


def test_the_references_log_mel_is_ours():
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    front_end = defaults.front_end(clip_seconds=2.0)
    noise = np.random.default_rng(0).normal(0, 0.1, front_end.num_samples).astype(np.float32)
    reference = pytest.importorskip("jfsed_jax.experiments.torch_reference", reason=NO_TORCH)
    found = reference.log_mel(
        torch.from_numpy(noise)[None], torch.from_numpy(mel_basis(front_end)), front_end
    )
    np.testing.assert_allclose(found[0], log_mel(noise, front_end), atol=1e-4)
