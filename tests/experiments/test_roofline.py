"""Work of layers and least times, worked out by hand; totals as they are counted elsewhere."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jfsed_jax.cli import experiments as commands
from jfsed_jax.configs import (
    guided_learning,
    mean_teacher,
    pts_tfd_afl_esp,
    pts_without_bgru,
    supervised,
)
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import cards, roofline
from jfsed_jax.experiments.cards import Card
from jfsed_jax.experiments.layer_work import LayerWork, layer_works
from jfsed_jax.experiments.our_side import make_system
from jfsed_jax.method.models import CRNN, GuidedCNN, num_parameters
from jfsed_jax.method.operations import forward_flops, train_flops

CONFIGS = {
    "system 9": pts_tfd_afl_esp.get_config(),
    "small": pts_tfd_afl_esp.get_config("small"),
    "without BGRUs": pts_without_bgru.get_config(),
    "system 0": mean_teacher.get_config(),
    "system 1": guided_learning.get_config(),
}
BLOCKS = dict(filters=(3,), kernels=(3,), pools=((1, 2),), convs=(2,), dropout=0.0, classes=10)
NORM = dict(batch_norm_momentum=0.9, batch_norm_epsilon=1e-5)


def test_the_work_of_layers_by_hand():
    """A clip of 6 frames and 4 bands; 24 positions, 12 behind the pooling of two bands."""
    rest = dict(gru_hidden=2, gru_layers=1, at_width=4, aed_width=5, aed_recurrent=False)
    found = {work.name: work for work in layer_works(CRNN(**BLOCKS, **NORM, **rest), 6, 4)}
    expected = [
        # name, parameters, operations; numbers: forward, for statistics, backward; turns
        LayerWork("input norm", 8, 0, 24 + 24, 24, 24 + 24),
        LayerWork("block 0 conv 0", 9 * 3 + 3, 2 * 24 * 9 * 3, 24 + 72, 0, 2 * 72 + 24 + 24),
        # Read for statistics, read, written; back: twice cotangent and input, once the gradient.
        LayerWork("block 0 conv 0 norm", 6, 0, 72 + 72, 72, 2 * (72 + 72) + 72),
        LayerWork("block 0 conv 1", 27 * 3 + 3, 2 * 24 * 27 * 3, 72 + 72, 0, 2 * 72 + 2 * 72),
        LayerWork("block 0 conv 1 norm", 6, 0, 72 + 36, 72, 2 * (72 + 36) + 72),
        # 6 features of a frame; two directions of three gates of two units.
        LayerWork("gru 0 input", 6 * 12 + 12, 2 * 6 * 6 * 12, 36 + 72, 0, 2 * 72 + 2 * 36),
        LayerWork("gru 0 loop", 2 * (2 * 6 + 6), 2 * 6 * 2 * 2 * 6, 72 + 24, 0, 144 + 48, 6),
        LayerWork("tagging linear", 10 * 4 + 4, 2 * 6 * 10 * 4, 60 + 24, 0, 2 * (60 + 24)),
        LayerWork("tagging pooling", 4 * 20 + 20, 2 * 6 * 4 * 20, 24 + 120, 0, 2 * (24 + 120)),
        LayerWork("detection linear", 6 * 5 + 5, 2 * 6 * 6 * 5, 36 + 30, 0, 2 * (36 + 30)),
        LayerWork("detection classes", 5 * 10 + 10, 2 * 6 * 5 * 10, 30 + 60, 0, 2 * (30 + 60)),
    ]
    assert list(found) == [work.name for work in expected]
    for work in expected:
        assert found[work.name] == work


def test_the_pooling_of_system_1_by_hand():
    """6 features of 6 frames are read for the logits, and again to be summed up."""
    *_, pooling = layer_works(GuidedCNN(**BLOCKS, **NORM, shares=(1.0,) * 10), 6, 4)
    assert pooling[:4] == ("pooling", 2 * (6 * 10 + 10), 2 * 10 * 6 * 13, 36 + 36 + 60)


@pytest.mark.parametrize("name", CONFIGS)
def test_totals_are_the_operations_and_parameters_of_the_models(name):
    for model in set(make_system(CONFIGS[name]).models.named().values()):
        works = layer_works(model, 600, 64)
        assert sum(work.flops for work in works) == forward_flops(model, 600, 64)
        mel = jax.ShapeDtypeStruct((1, 600, 64), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), mel)
        assert sum(work.parameters for work in works) == num_parameters(variables["params"])


# 1000 operations and 100 bytes a second.
CARD = Card(
    "a card", {"float32": 1e3, "bfloat16": 2e3}, 100.0, "hand", {"kernel": 1.0, "scan": 5.0}
)
WORK = LayerWork("a layer", 10, 1000, 20, 5, 30, turns=3)


@pytest.mark.parametrize(
    ("which", "dtype", "turn", "expected"),
    [
        # 2 clips; 4 bytes a number.
        ("inference", "float32", 0.1, (2000, 4 * (40 + 10), 2.0, "flops")),
        ("forward", "float32", 0.1, (2000, 4 * (50 + 10), 2.4, "memory")),
        ("backward", "float32", 0.1, (4000, 4 * (60 + 20), 4.0, "flops")),
        ("forward", "bfloat16", 0.1, (2000, 2 * (50 + 10), 1.2, "memory")),
        ("backward", "float32", 2.0, (4000, 4 * (60 + 20), 6.0, "turns")),
    ],
)
def test_a_bound_is_the_longest_of_three(which, dtype, turn, expected):
    found = roofline.bound_of(WORK, which, 2, dtype, CARD, turn)
    assert found == pytest.approx(expected)


def test_a_step_is_all_passes_and_the_update():
    config = CONFIGS["system 9"]
    found = roofline.step_roofline(config, CARD, 2)
    passes = [one for layer in found["layers"].values() for one in layer.values()]
    models = make_system(config).models
    assert sum(one["flops"] for one in passes) == 2 * train_flops(models, 600, 64)
    assert found["step_seconds"]["kernel"] == pytest.approx(sum(one["seconds"] for one in passes))
    # Two layers of two models, both ways, whose turns take longest once they take long enough.
    slow = CARD._replace(flops={"float32": 1e30}, bandwidth=1e30)
    found = roofline.step_roofline(config, slow, 2)
    turns = 2 * 2 * (600 + 6)
    assert found["step_seconds"] == pytest.approx({"kernel": turns, "scan": 5 * turns})
    assert found["inference_seconds"] == pytest.approx({"kernel": 1200, "scan": 6000})
    parameters = sum(
        work.parameters for model in models.named().values() for work in layer_works(model, 600, 64)
    )
    assert found["layers"]["Adam"]["forward"]["bytes"] == 28 * parameters


@pytest.mark.parametrize(("page", "teacher"), [(mean_teacher, True), (supervised, False)])
def test_what_is_not_trained_has_no_backward_pass(page, teacher):
    config = page.get_config()
    layers = roofline.step_roofline(config, CARD, 2)["layers"]
    own = {name: passes for name, passes in layers.items() if name.startswith("teacher: ")}
    assert bool(own) == teacher
    assert all(list(passes) == ["forward"] for passes in own.values())
    operations = sum(one["flops"] for passes in layers.values() for one in passes.values())
    models = make_system(config).models
    shape = (864, 64) if page is mean_teacher else (600, 64)
    assert operations == 2 * train_flops(models, *shape)


def test_the_command_knows_the_cards():
    assert [*cards.CARDS, cards.HERE] == commands.ROOFLINES


def test_the_text_says_what_is_computed_and_assumed():
    config = CONFIGS["system 9"].copy_and_resolve_references()
    config.compute_dtype = "bfloat16"
    text = roofline.format_roofline(roofline.step_roofline(config, cards.CARDS["h200"]))
    first, card, turns, *_ = text.splitlines()
    assert first.startswith("pts_tfd_afl_esp:paper, batch 64, bfloat16: the least time")
    assert "computed and not measured" in first
    assert card == "H200: 989 TFLOP/s, 4800 GB/s (NVIDIA's data sheet of the H200 SXM)"
    assert turns.endswith("1 us (one kernel), 3 us (a launch a turn), assumed")


def test_another_model_is_refused():
    with pytest.raises(InputError, match="the layers of Dense are not known"):
        layer_works(nn.Dense(3), 600, 64)


def test_a_pass_over_memory_reads_and_writes(monkeypatch):
    """2**26 numbers of four bytes, in a second."""
    monkeypatch.setattr(cards.jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(cards, "_best", lambda call: 1.0)
    assert cards._bandwidth() == 2 * 4 * 2**26
