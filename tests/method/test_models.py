"""The models: shapes, parameters counted by hand, their parts against torch, flax and XLA."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.config_files import load_config
from jfsed_jax.configs import base, guided_learning, mean_teacher
from jfsed_jax.errors import InputError
from jfsed_jax.kernels.dropout import Dropout
from jfsed_jax.kernels.pooling import max_pool
from jfsed_jax.method import layers, models
from jfsed_jax.method import system as systems

NO_TORCH = "PyTorch is not installed (extra [torch])"


def make(name, size="paper", *, get_config=base.get_config, dtype="float32", **options):
    config = get_config(size)
    config[name].update(options)
    return models.from_config(
        config[name], config.batch_norm, classes=10, dtype=dtype, axis_name=None
    )


def shapes(model, clips=2, frames=600):
    """Abstract (variables, output): nothing is computed."""
    mel = jax.ShapeDtypeStruct((clips, frames, 64), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), mel)
    return variables, jax.eval_shape(model.apply, variables, mel)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_outputs_have_the_shapes_of_the_paper():
    for name, frames, features in (("teacher", 6, 512), ("student", 600, 160)):
        _, output = shapes(make(name))
        assert output.clip.shape == (2, 10)
        assert output.frames.shape == (2, frames, 10)
        assert output.features.shape == (2, frames, features)
        assert {leaf.dtype for leaf in output} == {jnp.dtype("float32")}


def conv(kernel, inputs, filters):
    """Weights and bias, and scale and bias of the batch norm."""
    return kernel * kernel * inputs * filters + filters + 2 * filters


def dense(inputs, outputs):
    return inputs * outputs + outputs


def gru(inputs, hidden):
    """Two directions, three gates, two biases each."""
    return 2 * (3 * hidden * inputs + 3 * hidden * hidden + 2 * 3 * hidden)


def heads(features, gru_width):
    tagging = dense(features + gru_width, 128) + 2 * dense(128, 10)
    return tagging + dense(features, 256) + dense(256, 10)


def test_parameters_are_those_of_the_layers():
    teacher = 2 * 64  # scale and bias of the input's batch norm
    inputs = 1
    for filters, kernel in zip((16, 32, 64, 128, 256), (3, 3, 3, 3, 1), strict=True):
        teacher += conv(kernel, inputs, filters) + conv(kernel, filters, filters)
        inputs = filters
    teacher += gru(512, 64) + gru(128, 64) + heads(512, 128)
    student = 2 * 64 + conv(5, 1, 160) + conv(5, 160, 160) + conv(3, 160, 160)
    student += gru(160, 64) + gru(128, 64) + heads(160, 128)
    without = student - gru(160, 64) - gru(128, 64) - 128 * 128
    for model, expected in (
        (make("teacher"), teacher),
        (make("student"), student),
        (make("student", gru_layers=0), without),
    ):
        variables, _ = shapes(model)
        assert models.num_parameters(variables["params"]) == expected
    assert (teacher, student) == (909_134, 1_120_606)


def test_the_baseline_has_the_parameters_of_the_original():
    """Without those of an input norm: the original's scaler has none."""

    def block(inputs):
        return conv(3, inputs, 64) + dense(64, 64)

    expected = block(1) + 2 * block(64) + gru(64, 64) + gru(128, 64) + 2 * dense(128, 10)
    assert expected == 4_928 + 2 * 41_216 + 49_920 + 74_496 + 2 * 1_290 == 214_356
    variables, output = shapes(make("student", get_config=mean_teacher.get_config), frames=864)
    assert models.num_parameters(variables["params"]) == expected
    assert output.frames.shape == (2, 108, 10) and output.features.shape == (2, 108, 64)


def test_guided_models_have_the_parameters_of_their_layers():
    """Of each class a frame and a clip layer. Both are as wide as the features, and what lies
    outside a class's own feature is of no effect.
    """
    teacher, inputs = 2 * 64, 1
    for filters, kernel, convs in zip(
        (16, 32, 64, 128, 256), (3, 3, 3, 3, 1), (2, 2, 2, 2, 1), strict=True
    ):
        for _ in range(convs):
            teacher += conv(kernel, inputs, filters)
            inputs = filters
    teacher += 2 * dense(512, 10)
    student = 2 * 64 + conv(5, 1, 160) + conv(5, 160, 160) + conv(3, 160, 160) + 2 * dense(160, 10)
    for name, expected, frames in (("teacher", teacher, 5), ("student", student, 500)):
        model = make(name, get_config=guided_learning.get_config)
        variables, output = shapes(model, frames=500)
        assert models.num_parameters(variables["params"]) == expected
        assert output.clip.shape == (2, 10) and output.frames.shape == (2, frames, 10)
    assert (teacher, student) == (338_116, 879_188)


@pytest.mark.parametrize(
    ("config", "name", "frames", "stride"),
    [(base, "teacher", 600, 100), (base, "student", 600, 1), (mean_teacher, "student", 864, 8)],
)
def test_how_long_a_frame_of_the_output_lasts(config, name, frames, stride):
    page = config.get_config()
    model = models.from_config(
        page[name], page.batch_norm, classes=10, dtype="float32", axis_name=None
    )
    assert models.time_stride(model, frames, 64) == stride
    mel = jax.ShapeDtypeStruct((1, frames, 64), jnp.float32)
    output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), mel)
    assert output.frames.shape[1] == frames // stride


class Silent(nn.Module):
    """A model that does not say how long its frames last; `own` frames."""

    own: int

    @nn.compact
    def __call__(self, mel, train=False):
        frames = nn.Dense(3)(mel[:, : self.own])
        return models.Output(frames[:, 0], frames, frames)


def test_a_model_that_does_not_say_how_long_its_frames_last_is_asked_by_its_output():
    assert models.time_stride(Silent(150), 600, 64) == 4
    with pytest.raises(InputError, match="Silent makes 7 frames of 600.*time_stride"):
        models.time_stride(Silent(7), 600, 64)


class Boasting(Silent):
    """One that says how long its frames last."""

    time_stride: int = 1


def test_what_a_model_says_of_its_frames_is_held_against_its_output():
    assert models.time_stride(Boasting(85, 7), 600, 64) == 7  # 600 / 7 is 85.7
    assert models.time_stride(Boasting(86, 7), 600, 64) == 7
    with pytest.raises(InputError, match="Boasting says that a frame lasts 14 .* makes 85 frames"):
        models.time_stride(Boasting(85, 14), 600, 64)


def test_a_model_gets_the_values_that_it_has_fields_for():
    page = {"architecture": "test_models:Silent", "own": 5}
    norm = {"momentum": 0.8, "epsilon": 1e-3}
    model = models.from_config(page, norm, classes=3, dtype="float32", axis_name="data")
    assert type(model).__name__ == "Silent" and model.own == 5
    page = {"architecture": "test_models:Listed", "widths": [[1, 2], [3]]}
    model = models.from_config(page, norm, classes=3, dtype="bfloat16", axis_name="data")
    assert model.widths == ((1, 2), (3,))  # a module's fields must not change
    assert (model.classes, model.dtype, model.axis_name) == (3, jnp.dtype("bfloat16"), "data")
    assert (model.batch_norm_momentum, model.batch_norm_epsilon) == (0.8, 1e-3)


class Listed(Silent, kw_only=True):
    """One with a field for everything that is offered."""

    own: int = 1
    widths: tuple
    classes: int
    dtype: type
    axis_name: str
    batch_norm_momentum: float
    batch_norm_epsilon: float


def test_without_gru_layers_the_tagging_branch_sees_the_cnn_alone():
    variables, output = shapes(make("teacher", gru_layers=0))
    assert not [name for name in variables["params"] if "gru" in name]
    assert variables["params"]["at_linear"]["kernel"].shape == (512, 128)
    assert output.clip.shape == (2, 10)


def test_bfloat16_computes_and_keeps_float32():
    mel = random(2, 100, 64)
    wide, narrow = make("student", "tiny"), make("student", "tiny", dtype="bfloat16")
    variables = jax.jit(narrow.init)(jax.random.key(0), mel)
    _, updates = jax.eval_shape(
        lambda: narrow.apply(variables, mel, train=True, mutable=["batch_stats"])
    )
    compiled = jax.jit(narrow.apply).lower(variables, mel)
    found = compiled.compile()(variables, mel)
    leaves = jax.tree.leaves((variables, updates, found))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    lines = [line for line in compiled.as_text().splitlines() if "stablehlo.convolution" in line]
    assert len(lines) == 3 and all("bf16" in line for line in lines)
    for ours, exact in zip(found, jax.jit(wide.apply)(variables, mel), strict=True):
        np.testing.assert_allclose(ours, exact, atol=0.02 * np.abs(exact).max())


def test_running_statistics_keep_the_share_of_the_momentum():
    mel = 2 * random(4, 100, 64) - 5
    model = make("student", "tiny", gru_layers=0).clone(batch_norm_momentum=0.75)
    variables = jax.jit(model.init)(jax.random.key(0), mel)
    run = jax.jit(partial(model.apply, mutable=["batch_stats"]), static_argnames="train")
    _, updates = run(variables, mel, train=True)
    found = updates["batch_stats"]["input_norm"]
    np.testing.assert_allclose(found["mean"], 0.25 * mel.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(found["var"], 0.75 + 0.25 * mel.var((0, 1)), rtol=1e-5)
    # Outside training they are used, and stay.
    _, updates = run(variables, mel, train=False)
    same = jax.tree.map(np.array_equal, updates["batch_stats"], variables["batch_stats"])
    assert jax.tree.all(same)


def test_blocks_pool_by_the_maximum_or_the_mean():
    """Against NumPy, from the values that a block without pooling gives; the fifth band is lost."""
    options = {"convs": 1, "dropout": 0.0, "batch_norm": {"momentum": 0.9, "epsilon": 1e-5}}
    whole = layers.ConvBlock(3, 3, (1, 1), **options)
    x = random(2, 6, 5, 1)
    variables = whole.init(jax.random.key(0), x, False)
    values = np.asarray(whole.apply(variables, x, False))
    windows = values[:, :, :4].reshape(2, 2, 3, 2, 2, 3)  # of 3 frames and 2 bands
    for name, expected in (("max", windows.max((2, 4))), ("mean", windows.mean((2, 4)))):
        block = layers.ConvBlock(3, 3, (3, 2), pooling=name, **options)
        np.testing.assert_allclose(block.apply(variables, x, False), expected, rtol=1e-5)
    with pytest.raises(InputError, match="pooling is 'median': expected one of max, mean"):
        layers.ConvBlock(3, 3, (3, 2), pooling="median", **options).apply(variables, x, False)


@pytest.mark.parametrize("model", ["teacher", "student"])
def test_a_config_says_what_pools(model):
    config = load_config("pts:tiny")
    config[model].pooling = "mean"
    made = systems.from_config(config, classes=2, steps_per_epoch=1).models
    expected = {"teacher": "max", "student": "max"} | {model: "mean"}
    assert {"teacher": made.teacher.pooling, "student": made.student.pooling} == expected


def test_dropout_is_drawn_from_its_key_and_only_in_training():
    norm = {"momentum": 0.9, "epsilon": 1e-5}
    block = layers.ConvBlock(8, 3, (2, 2), convs=1, dropout=0.3, batch_norm=norm)
    x = random(4, 20, 20, 1)
    variables = block.init(jax.random.key(0), x, False)

    def train(key):
        rngs = {"dropout": jax.random.key(key)}
        return block.apply(variables, x, True, mutable=["batch_stats"], rngs=rngs)[0]

    assert np.array_equal(train(0), train(0)) and not np.array_equal(train(0), train(1))
    whole = layers.ConvBlock(8, 3, (2, 2), convs=1, dropout=0.0, batch_norm=norm)
    expected = whole.apply(variables, x, True, mutable=["batch_stats"])[0]
    kept = np.asarray(train(0)) != 0
    np.testing.assert_allclose(train(0)[kept], expected[kept] / 0.7, rtol=1e-5)
    assert abs(kept.mean() / (expected != 0).mean() - 0.7) < 0.03
    still = [model.apply(variables, x, False) for model in (block, whole)]
    np.testing.assert_array_equal(*still)


def test_dropout_meets_its_rate_and_halves_and_clips_share_nothing():
    dropout = Dropout(0.3)
    x = np.full((6, 100, 1000), 0.7, np.float32)
    assert dropout.apply({}, x, False) is x
    found = np.asarray(dropout.apply({}, x, True, rngs={"dropout": jax.random.key(0)}))
    kept = found > 0
    np.testing.assert_allclose(found[kept], 1.0, rtol=1e-6)
    # The standard deviation of such a mean over 300,000 values is 0.0008.
    halves = kept[:, :50], kept[:, 50:]  # the lower and the upper bits of the same numbers
    for first, second in (halves, (kept[:3], kept[3:])):
        for part in (first, second):
            assert abs(part.mean() - 0.7) < 0.004
        assert abs((first & second).mean() - 0.49) < 0.005
    # A frame that has no partner: an odd number.
    odd = dropout.apply({}, x[:, :99], True, rngs={"dropout": jax.random.key(0)})
    assert odd.shape == x[:, :99].shape and abs((odd > 0).mean() - 0.7) < 0.004


def test_gated_block_is_that_of_torch():
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    x = random(2, 9, 8, 3)
    norm = {"momentum": 0.01, "epsilon": 1e-3}
    block = layers.GatedBlock(5, 3, (2, 4), dropout=0.5, batch_norm=norm)
    variables = block.init(jax.random.key(0), x, False)
    params = jax.tree.map(lambda p: p + 0.1 * random(*p.shape), variables["params"])
    variables |= {"params": params}

    def tensor(value, *axes):
        return torch.from_numpy(np.array(value)).permute(*axes or range(value.ndim))

    conv, linear = params["Conv_0"], params["linear"]
    scale, bias = (tensor(params["BatchNorm_0"][name]) for name in ("scale", "bias"))
    y = torch.conv2d(
        tensor(x, 0, 3, 1, 2), tensor(conv["kernel"], 3, 2, 0, 1), tensor(conv["bias"]), padding=1
    )
    mean, variance = torch.zeros(5), torch.ones(5)
    y = torch.nn.functional.batch_norm(y, mean, variance, scale, bias, eps=1e-3)
    y = y.permute(0, 2, 3, 1)
    y = (y @ tensor(linear["kernel"]) + tensor(linear["bias"])) * torch.sigmoid(y)
    expected = torch.nn.functional.avg_pool2d(y.permute(0, 3, 1, 2), (2, 4))
    found = block.apply(variables, x, False)
    assert found.shape == (2, 4, 2, 5)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), atol=1e-5)


def test_bidirectional_gru_is_that_of_torch():
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    x = random(3, 21, 5)
    layer = layers.BiGRU(hidden=4)
    params = layer.init(jax.random.key(1), x)["params"]
    reference = torch.nn.GRU(5, 4, batch_first=True, bidirectional=True)
    names = {"weight_ih": "input_kernel", "weight_hh": "recurrent_kernel"}
    names |= {"bias_ih": "input_bias", "bias_hh": "recurrent_bias"}
    for name, value in reference.named_parameters():
        ours = params[names[name.split("_l0")[0]]][int(name.endswith("reverse"))]
        value.data = torch.from_numpy(np.array(ours.T))
    tensor = torch.from_numpy(x).requires_grad_()
    expected, _ = reference(tensor)
    expected.square().sum().backward()

    def loss(x):
        return (layer.apply({"params": params}, x) ** 2).sum()

    found = layer.apply({"params": params}, x)
    np.testing.assert_allclose(found, expected.detach(), atol=1e-6)
    np.testing.assert_allclose(jax.grad(loss)(x), tensor.grad, atol=1e-5)


def test_convolutions_start_so_that_relus_keep_the_variance():
    """He et al.: of kernels for 9 x 16 inputs it is 2 / 144."""
    init = jax.jit(layers.Conv(64, 3).init)
    params = init(jax.random.key(0), jnp.zeros((1, 4, 4, 16)))["params"]
    np.testing.assert_allclose(np.var(params["kernel"]), 2 / 144, rtol=0.05)
    assert not params["bias"].any()


def test_gru_weights_start_as_those_of_torch():
    params = layers.BiGRU(hidden=16).init(jax.random.key(0), random(1, 2, 200))["params"]
    for value in jax.tree.leaves(params):
        assert 0.2 < np.abs(value).max() <= 0.25  # uniform within 1 / sqrt(hidden)
        assert abs(value.mean()) < 0.05


def test_attention_pooling_is_that_of_torch():
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    x = 3 * random(2, 9, 6)
    pooling = layers.AttentionPooling(classes=4)
    params = pooling.init(jax.random.key(0), x)["params"]
    logits = {
        name: torch.from_numpy(np.array(x @ layer["kernel"] + layer["bias"]))
        for name, layer in params.items()
    }
    weights = torch.softmax(logits["attention"], -1)
    expected = (weights * torch.sigmoid(logits["posterior"])).sum(1) / weights.sum(1)
    clip, frames = pooling.apply({"params": params}, x)
    np.testing.assert_allclose(clip, expected, rtol=1e-5)
    np.testing.assert_allclose(frames, torch.sigmoid(logits["posterior"]), rtol=1e-5)


def test_disentangled_attention_class_by_class():
    x = 2 * random(2, 9, 8)
    pooling = layers.DisentangledAttention(classes=3, shares=(1.0, 0.5, 0.01))
    params = pooling.init(jax.random.key(0), x)["params"]
    assert not params["frame_kernel"].any()  # attention starts uniform
    # Glorot's bound of a layer from k_c features to one.
    bounds = np.sqrt(6 / (np.array([8, 4, 1]) + 1))
    assert (np.abs(params["clip_kernel"]) < bounds).all() and params["clip_kernel"].any(0).all()
    params = {name: random(*p.shape, seed=i) for i, (name, p) in enumerate(params.items())}
    clip, frames = pooling.apply({"params": params}, x)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for c, k in enumerate((8, 4, 1)):
        own = x[:, :, :k]
        logits = own @ params["frame_kernel"][:k, c] + params["frame_bias"][c]
        attention = np.exp(logits / k) / np.exp(logits / k).sum(1, keepdims=True)
        pooled = np.einsum("bt,btd->bd", attention, own)
        expected = sigmoid(pooled @ params["clip_kernel"][:k, c] + params["clip_bias"][c])
        np.testing.assert_allclose(clip[:, c], expected, rtol=1e-5)
        np.testing.assert_allclose(frames[:, :, c], sigmoid(logits), rtol=1e-5)


def test_disentangled_attention_starts_even_over_time_and_with_glorots_kernel():
    """Of 200 features a class's kernel has its own: all, or a quarter."""
    layer = layers.DisentangledAttention(classes=2, shares=(1.0, 0.25))
    params = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 2, 200)))["params"]
    assert not params["frame_kernel"].any()
    for kernel, features in zip(params["clip_kernel"].T, (200, 50), strict=True):
        bound = np.sqrt(6 / (features + 1))
        assert 0.9 * bound < kernel.max() <= bound and -bound <= kernel.min() < -0.9 * bound


def test_feature_shares_are_of_clips_with_one_class():
    #  Alone: class 0 four times, class 1 once, class 2 never; clips with two do not count.
    tags = [[1, 0, 0]] * 4 + [[0, 1, 0], [0, 1, 1], [1, 0, 1], [0, 0, 0]]
    found = models.feature_shares(np.array(tags, np.float32), least=0.04)
    np.testing.assert_allclose(found, [1.0, 0.96 / 4 + 0.04, 0.04])
    assert models.feature_shares(np.ones((5, 3)), least=0.04) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("window", [(1, 1), (1, 4), (5, 4), (2, 3)])
def test_max_pool_is_that_of_flax(window):
    x = random(2, 11, 9, 3).round(1)  # with ties; and leftovers that fill no window

    def loss(pool, x):
        pooled = pool(x)
        return (pooled * random(*pooled.shape, seed=1)).sum(), pooled

    def flax(x):
        return nn.max_pool(x, window, strides=window)

    def ours(x):
        return max_pool(x, window)

    gradient, pooled = jax.grad(lambda x: loss(ours, x), has_aux=True)(x)
    expected_gradient, expected = jax.grad(lambda x: loss(flax, x), has_aux=True)(x)
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(gradient, expected_gradient)


@pytest.mark.parametrize("level", ["0", "3"])
def test_max_pool_loses_no_gradient_however_xla_compiles_it(level):
    """On CPU at level 0 what precedes is computed twice, with different rounding."""
    norm = {"momentum": 0.9, "epsilon": 1e-5}
    x = random(16, 100, 8, 4)
    block = layers.ConvBlock(4, 3, (1, 8), convs=1, dropout=0.0, batch_norm=norm)
    variables = block.init(jax.random.key(0), x, False)

    def loss(params):
        tree = variables | {"params": params}
        pooled = block.apply(tree, x, True, mutable=["batch_stats"])[0]
        return pooled.sum(), (pooled > 0).sum((0, 1, 2))

    lowered = jax.jit(jax.grad(loss, has_aux=True)).lower(variables["params"])
    compiled = lowered.compile({"xla_backend_optimization_level": level})
    # Every window with a positive value hands on a gradient of 1.
    gradient, positive = compiled(variables["params"])
    np.testing.assert_array_equal(gradient["BatchNorm_0"]["bias"], positive)


@pytest.mark.parametrize("page", [base, mean_teacher])
def test_models_hand_the_loop_on_to_their_layers(page, kernels_for_cuda):
    config = page.get_config("tiny")
    config.student.gru_hidden = 16
    options = dict(classes=10, dtype="float32", axis_name=None, gru_loop="pallas")
    model = models.from_config(config.student, config.batch_norm, **options)
    mel = jax.ShapeDtypeStruct((2, 40, 64), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), mel)
    found = kernels_for_cuda(jax.jit(model.apply), variables, mel)
    assert found == config.student.gru_layers == 2


def test_the_largest_class_has_all_features_whatever_rounds():
    for count in range(1, 600):
        assert models.feature_shares(np.ones((count, 1)), least=0.04) == (1.0,)


def test_a_clips_floor_lies_below_its_own_peak():
    """40 dB below a peak of 0 is ln(0.01)."""
    mel = np.full((2, 100, 64), -10.0, np.float32)
    mel[0, 3, 5], mel[1, 7, 9] = 0.0, -8.0
    floored = np.maximum(mel, np.array([np.log(0.01), -8 + np.log(0.01)])[:, None, None])
    few = dict(filters=(4,), kernels=(3,), pools=((2, 16),), gru_layers=1)
    baseline = make("student", "tiny", get_config=mean_teacher.get_config, **few)
    for model in (baseline, make("student", "tiny", filters=(4, 4, 4), gru_layers=0)):
        variables = model.init(jax.random.key(0), mel)
        found = model.clone(clip_floor_db=40.0).apply(variables, mel)
        expected = model.apply(variables, floored)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found, expected)
        assert not np.allclose(found.features, model.apply(variables, mel).features)
        # Of a band whose filters are twice as high, peak and floor are half of what they seem.
        high = np.where(np.arange(64) < 32, 2.0, 1.0)
        raised = model.clone(clip_floor_db=40.0, mel_heights=tuple(high.tolist()))
        found = raised.apply(variables, mel + np.log(high, dtype=np.float32))
        expected = model.apply(variables, floored + np.log(high, dtype=np.float32))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found, expected)


def test_features_are_those_before_the_last_dropout_where_asked():
    # One block: no other dropout is before the branches.
    few = dict(filters=(8,), kernels=(3,), convs=(1,), pools=((5, 4),), gru_layers=0)
    after = make("teacher", "tiny", dropout=0.5, **few)
    before = after.clone(before_dropout=True)
    mel = random(4, 100, 64)
    variables = after.init(jax.random.key(0), mel)

    def train(model, key):
        rngs = {"dropout": jax.random.key(key)}
        return model.apply(variables, mel, train=True, mutable=["batch_stats"], rngs=rngs)[0]

    # Before that dropout hardly one maximum of ReLUs over 20 places is 0; after it half are.
    zeros = [np.mean(np.asarray(train(model, 0).features) == 0) for model in (after, before)]
    assert zeros[0] > 0.4 and zeros[1] < 0.1
    # The branches see it in both; without training there is none.
    assert not np.array_equal(train(before, 0).clip, train(before, 1).clip)
    still = [model.apply(variables, mel) for model in (after, before)]
    jax.tree.map(np.testing.assert_array_equal, *still)
