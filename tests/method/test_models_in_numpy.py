"""The models layer by layer in NumPy, in evaluation mode; PyTorch is not needed for it.

The equations are those of the papers and of torch's documentation, in float64. Parameters and
running statistics are random: of first values many are 0 or 1, and hide what is left out.
"""

from functools import partial

import jax
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from jfsed_jax.method import layers, models

EPSILON = 1e-3  # of the batch norms: large enough to be seen
NORM = {"momentum": 0.9, "epsilon": EPSILON}


def random_variables(module, *arguments):
    """Variables of the module's shapes, all of them random, variances above 0."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "var":
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return rng.normal(0, 0.5, leaf.shape).astype(np.float32)

    shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def dense(x, params):
    return x @ params["kernel"].astype(float) + params["bias"]


def convolution(x, params):
    """[B, T, F, I] with zeros beyond the edges; the kernel is not mirrored."""
    kernel = params["kernel"].astype(float)
    half = len(kernel) // 2
    padded = np.pad(x, [(0, 0), (half, half), (half, half), (0, 0)])
    windows = sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    return np.einsum("btfiuv,uvio->btfo", windows, kernel) + params["bias"]


def norm(x, params, statistics):
    """Of the last axis; without parameters where there are none."""
    x = (x - statistics["mean"]) / np.sqrt(statistics["var"].astype(float) + EPSILON)
    return x * params["scale"] + params["bias"] if params else x


def pool(x, window, reduce):
    batch, frames, bands, channels = x.shape
    time, band = window
    return reduce(x.reshape(batch, frames // time, time, bands // band, band, channels), (2, 4))


def conv_block(x, params, statistics, window, convs):
    """Convolution, batch norm and ReLU; max-pooling at the end."""
    for i in range(convs):
        x = convolution(x, params[f"Conv_{i}"])
        x = relu(norm(x, params[f"BatchNorm_{i}"], statistics[f"BatchNorm_{i}"]))
    return pool(x, window, np.max)


def gated_block(x, params, statistics, window):
    x = norm(convolution(x, params["Conv_0"]), params["BatchNorm_0"], statistics["BatchNorm_0"])
    return pool(dense(x, params["linear"]) * sigmoid(x), window, np.mean)


def gru(x, params):
    """Both directions of `torch.nn.GRU`, the backward one from the last frame to the first."""
    directions = []
    for i, order in enumerate((1, -1)):
        state, states = np.zeros((len(x), params["recurrent_kernel"].shape[1])), []
        for now in x[:, ::order].swapaxes(0, 1):
            gates = [
                np.split(values @ params[f"{name}_kernel"][i].astype(float) + bias[i], 3, axis=-1)
                for name, values, bias in (
                    ("input", now, params["input_bias"]),
                    ("recurrent", state, params["recurrent_bias"]),
                )
            ]
            (reset, update, new), (own_reset, own_update, own_new) = gates
            z = sigmoid(update + own_update)
            n = np.tanh(new + sigmoid(reset + own_reset) * own_new)
            state = (1 - z) * n + z * state
            states.append(state)
        directions.append(np.stack(states, axis=1)[:, ::order])
    return np.concatenate(directions, axis=-1)


def attention_pooling(x, params):
    """Each frame shares its attention out among the classes."""
    posterior, attention = sigmoid(dense(x, params["posterior"])), dense(x, params["attention"])
    attention = np.exp(attention) / np.exp(attention).sum(-1, keepdims=True)
    return (attention * posterior).sum(1) / attention.sum(1), posterior


def flattened(x):
    """[B, T', F', filters] -> [B, T', F' filters], the filters next to each other."""
    return x.reshape(*x.shape[:2], -1)


def close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5 * np.abs(theirs).max())


def mel(frames=8, bands=16):
    return np.random.default_rng(1).normal(-5, 2, (2, frames, bands)).astype(np.float32)


def test_the_bgru():
    x = np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32)
    layer = layers.BiGRU(hidden=4)
    variables = random_variables(layer, x)
    close([jax.jit(layer.apply)(variables, x)], [gru(x, variables["params"])])


def test_no_frame_has_less_than_a_ten_millionth_of_a_classs_attention():
    """Of e^-30 and e^-20 as much, so that the class has both frames' mean; e^-7 stays."""
    # Of each frame what decides its posterior, and the logits of the two classes' attention.
    x = np.array([[[1.0, 30.0, 0.0], [3.0, 20.0, 0.0]], [[2.0, 7.0, 0.0], [0.0, 0.0, 0.0]]])
    params = {
        "attention": {"kernel": np.eye(3, 2, -1), "bias": np.zeros(2)},
        "posterior": {"kernel": np.array([[1.0, 1], [0, 0], [0, 0]]), "bias": np.zeros(2)},
    }
    small = sigmoid(-7.0)
    shares = np.array([[[1, 1e-7], [1, 1e-7]], [[1 - small, small], [0.5, 0.5]]])
    posterior = sigmoid(x[:, :, :1].repeat(2, axis=-1))
    expected = (shares * posterior).sum(1) / shares.sum(1)
    close(layers.AttentionPooling(classes=2).apply({"params": params}, x), (expected, posterior))


@pytest.mark.parametrize("aed_recurrent", [False, True])
def test_a_teacher_or_student(aed_recurrent):
    """The detection branch sees the CNN alone, or as an ablation the BGRUs beside it."""
    pools, convs = ((2, 4), (1, 2)), (2, 1)
    model = models.CRNN(
        classes=3, filters=(3, 4), kernels=(5, 3), pools=pools, convs=convs, dropout=0.5,
        batch_norm_momentum=0.9, batch_norm_epsilon=EPSILON, gru_hidden=3, gru_layers=2,
        at_width=6, aed_width=7, aed_recurrent=aed_recurrent,
    )  # fmt: skip
    variables = random_variables(model, mel())
    params, statistics = variables["params"], variables["batch_stats"]
    x = norm(mel(), params["input_norm"], statistics["input_norm"])[..., None]
    for i in range(2):
        x = conv_block(x, params[f"block_{i}"], statistics[f"block_{i}"], pools[i], convs[i])
    features = flattened(x)
    recurrent = gru(gru(features, params["gru_0"]), params["gru_1"])
    both = np.concatenate([features, recurrent], axis=-1)
    clip, _ = attention_pooling(relu(dense(both, params["at_linear"])), params["at_pooling"])
    detection = relu(dense(both if aed_recurrent else features, params["aed_linear"]))
    frames = sigmoid(dense(detection, params["aed_classes"]))
    assert frames.shape == (2, 4, 3) and features.shape == (2, 4, 8)
    close(jax.jit(model.apply)(variables, mel()), (clip, frames, features))


def test_the_baselines_student():
    """Its frame posteriors are those that its attention averages; its scaler has no parameters."""
    pools = ((2, 4), (1, 2))
    model = models.BaselineCRNN(
        classes=3, filters=(3, 4), kernels=(3, 3), pools=pools, dropout=0.5, gru_hidden=3,
        gru_layers=2, batch_norm_momentum=0.01, batch_norm_epsilon=EPSILON, input_momentum=0.9,
    )  # fmt: skip
    variables = random_variables(model, mel())
    params, statistics = variables["params"], variables["batch_stats"]
    assert "input_norm" not in params
    x = norm(mel(), None, statistics["input_norm"])[..., None]
    for i, window in enumerate(pools):
        x = gated_block(x, params[f"block_{i}"], statistics[f"block_{i}"], window)
    recurrent = gru(gru(flattened(x), params["gru_0"]), params["gru_1"])
    expected = (*attention_pooling(recurrent, params["pooling"]), flattened(x))
    close(jax.jit(model.apply)(variables, mel()), expected)


def one_block(**changes):
    """A student of system 0 without BGRUs."""
    arguments = dict(
        classes=3, filters=(2,), kernels=(1,), pools=((8, 16),), dropout=0.0, gru_hidden=1,
        gru_layers=0, batch_norm_momentum=0.9, batch_norm_epsilon=EPSILON, input_momentum=0.9,
    )  # fmt: skip
    return models.BaselineCRNN(**arguments | changes)


def test_the_baselines_scaler_has_a_momentum_of_its_own():
    """The original's other layers forget nearly all of what they saw before."""
    model = one_block(batch_norm_momentum=0.01)
    variables = random_variables(model, mel())
    run = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    updated = run(variables, mel())[1]["batch_stats"]
    before = variables["batch_stats"]
    expected = 0.9 * before["input_norm"]["mean"] + 0.1 * mel().mean((0, 1))
    np.testing.assert_allclose(updated["input_norm"]["mean"], expected, rtol=1e-5, atol=1e-6)
    # What is normalised has mean 0, so a convolution of single values has that of its bias.
    bias = variables["params"]["block_0"]["Conv_0"]["bias"]
    expected = 0.01 * before["block_0"]["BatchNorm_0"]["mean"] + 0.99 * bias
    found = updated["block_0"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("block", "share"),
    [
        (partial(layers.ConvBlock, 8, 1, (2, 4), 1), 0.5),
        (partial(layers.GatedBlock, 8, 1, (2, 4)), 2**-8),
    ],
)
def test_blocks_drop_what_is_pooled_and_the_baselines_before_they_pool(block, share):
    """The mean of a window of eight is 0 where all eight are dropped."""
    block, x = block(0.5, NORM), np.random.default_rng(1).normal(size=(4, 16, 16, 3))
    params = jax.jit(partial(block.init, train=False))(jax.random.key(0), x)["params"]

    @jax.jit
    def train(key):
        return block.apply(
            {"params": params}, x, True, mutable=["batch_stats"], rngs={"dropout": key}
        )[0]

    found, other = (np.asarray(train(jax.random.key(key))) for key in (0, 1))
    assert found.shape == (4, 8, 4, 8) and (found != other).any()
    np.testing.assert_allclose((found == 0).mean(), share, atol=0.05)


def test_the_baselines_statistics_are_those_of_all_devices():
    model = one_block(batch_norm_momentum=0.5)
    variables = random_variables(model, mel())

    def statistics(model, mel):
        return model.apply(variables, mel, train=True, mutable=["batch_stats"])[1]

    shared = partial(statistics, model.clone(axis_name="data"))
    found = jax.jit(jax.vmap(shared, axis_name="data"))(mel()[:, None])  # one clip each
    expected = jax.jit(partial(statistics, model))(mel())
    for device in range(2):
        own = jax.tree.map(lambda leaf, k=device: leaf[k], found)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), own, expected)


def test_the_baseline_drops_what_its_attention_sees():
    """Without BGRUs and with a posterior of one feature each: twice that, or nothing."""
    model = one_block(classes=4, filters=(4,), pools=((1, 16),), dropout=0.5)
    variables = random_variables(model, mel())
    variables["params"]["pooling"]["posterior"] = {"kernel": np.eye(4), "bias": np.zeros(4)}
    run = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    output, _ = run(variables, mel(), rngs={"dropout": jax.random.key(0)})
    seen = np.log(output.frames / (1 - output.frames))
    dropped = np.abs(seen) < 1e-6
    assert 0.3 < dropped.mean() < 0.7
    expected = np.where(dropped, 0, 2 * output.features)
    np.testing.assert_allclose(seen, expected, rtol=1e-3, atol=1e-5)
