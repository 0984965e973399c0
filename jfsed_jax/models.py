"""The models of table 1: the two-branch CRNNs of figure 1 and the systems they are compared with.

`CRNN` is the paper's teacher or student (section 2.1), `GuidedCNN` those of Guided Learning (system
1), `BaselineCRNN` the DCASE 2019 baseline's student (system 0). All take log-mel clips and give an
`Output`, so the step, checkpoints and prediction do not tell them apart.

Axis letters: ``B`` clips, ``T`` frames of the input (600), ``T'`` frames after the model's
temporal pooling (teacher 6, student 600), ``F`` mel bands (64), ``C`` event classes (10), ``D``
features (teacher 512, student 160), ``H`` hidden units of a GRU direction.

Parameters and batch statistics are float32; ``dtype`` is the type of the computation. Whatever a
loss sees is float32.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jfsed_jax.convolution import convolve
from jfsed_jax.errors import InputError
from jfsed_jax.recurrence import LOOPS, recurrence

Pair = tuple[int, int]


class Output(NamedTuple):
    """What either model says about a batch of clips.

    Attributes:
      clip: <float32>[B, C] probability that the class occurs in the clip (tagging branch).
      frames: <float32>[B, T', C] posterior of the class in the frame (detection branch).
      features: <float32>[B, T', D] output of the CNN blocks, which distillation compares.
    """

    clip: jax.Array
    frames: jax.Array
    features: jax.Array


class Conv(nn.Module):
    """A "same" convolution with bias, [B, T, F, I] -> [B, T, F, filters]."""

    filters: int
    kernel: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, x.shape[-1], self.filters)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.filters,))
        return convolve(x.astype(self.dtype), kernel.astype(self.dtype)) + bias.astype(self.dtype)


def max_pool(x: jax.Array, window: Pair) -> jax.Array:
    """Maximum over windows of (frames, mel bands); what does not fill a window is dropped.

    On CPU its gradient is many times faster than that of a window reduction.
    """
    return x if window == (1, 1) else _largest(_windows(x, window))


def mean_pool(x: jax.Array, window: Pair) -> jax.Array:
    """As `max_pool`, the mean."""
    return _windows(x, window).mean((2, 4))


def _windows(x, window):
    time, mel = window
    batch, frames, bands, channels = x.shape
    frames, bands = frames // time, bands // mel
    x = x[:, : frames * time, : bands * mel]
    return x.reshape(batch, frames, time, bands, mel, channels)


@jax.custom_vjp
def _largest(x):
    """Maximum over axes 2 and 4 of six; the gradient goes to the first of equal values.

    ``x.max((2, 4))`` hands its gradient to the places where x equals the maximum. XLA may compute x
    anew for that comparison, round differently and find no such place: the gradient is lost, and
    nothing tells. Here the place is found once, with the maximum.
    """
    return _largest_and_place(x)[0]


def _largest_and_place(x):
    window = [(i, j) for i in range(x.shape[2]) for j in range(x.shape[4])]
    largest = x[:, :, 0, :, 0]
    place = jnp.zeros(largest.shape, jnp.uint8)
    for number, (i, j) in enumerate(window[1:], start=1):
        candidate = x[:, :, i, :, j]
        place = jnp.where(candidate > largest, jnp.uint8(number), place)
        largest = jnp.maximum(candidate, largest)
    return largest, (place, jnp.arange(len(window), dtype=jnp.uint8).reshape(x.shape[2:5:2]))


def _gradient_to_place(residuals, cotangent):
    place, numbers = residuals
    here = place[:, :, None, :, None] == numbers[:, None, :, None]
    return (jnp.where(here, cotangent[:, :, None, :, None], 0),)


_largest.defvjp(_largest_and_place, _gradient_to_place)


class Dropout(nn.Module):
    """`flax.linen.Dropout` at half its cost: two draws of 16 bits from each random number.

    The first half of the clips has the lower bits, the second half the upper ones. A rate is met to
    1/131072.
    """

    rate: float

    @nn.compact
    def __call__(self, x, train: bool):
        if not train or not self.rate:
            return x
        clips = x.shape[0]
        bits = jax.random.bits(self.make_rng("dropout"), (-(-clips // 2), *x.shape[1:]), jnp.uint32)
        draws = jnp.concatenate([bits & 0xFFFF, bits >> 16])[:clips]
        return jnp.where(draws >= round(self.rate * 2**16), x / (1 - self.rate), 0)


class ConvBlock(nn.Module):
    """``convs`` times convolution, batch norm, ReLU (figure 2); max-pool; dropout."""

    filters: int
    kernel: int
    pool: Pair
    convs: int
    dropout: float
    batch_norm: dict
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool):
        for _ in range(self.convs):
            x = Conv(self.filters, self.kernel, self.dtype)(x)
            x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype, **self.batch_norm)(x)
            x = nn.relu(x)
        x = max_pool(x, self.pool)
        return Dropout(self.dropout)(x, train)


class BiGRU(nn.Module):
    """One bidirectional GRU layer, [B, T', D] -> [B, T', 2H], with torch's equations.

    Parameters of both directions are stacked, 0 forward in time; gates in the order reset, update,
    new. ``loop`` is a key of `jfsed_jax.recurrence.LOOPS`.
    """

    hidden: int
    dtype: Any = jnp.float32
    loop: str = "scan"

    @nn.compact
    def __call__(self, x):
        hidden = self.hidden
        uniform = nn.initializers.uniform(2 * hidden**-0.5)

        def param(name, shape):
            init = lambda key, shape: uniform(key, shape) - hidden**-0.5  # noqa: E731
            return self.param(name, init, shape).astype(self.dtype)

        kernel = param("input_kernel", (2, x.shape[-1], 3 * hidden))
        bias = param("input_bias", (2, 3 * hidden))
        recurrent = param("recurrent_kernel", (2, hidden, 3 * hidden))
        recurrent_bias = param("recurrent_bias", (2, 3 * hidden))

        frames_first = x.astype(self.dtype).swapaxes(0, 1)
        forward, backward = (frames_first @ kernel[i] + bias[i] for i in (0, 1))
        states = recurrence(forward, backward, recurrent, recurrent_bias, LOOPS[self.loop])
        return jnp.concatenate(states, axis=-1).swapaxes(0, 1)


class AttentionPooling(nn.Module):
    """Attention pooling of reference [30]: [B, T', D] -> clip [B, C] and frames p [B, T', C].

    ``p = sigmoid(h W_p)``, ``a = softmax_c(h W_a)`` clipped to [1e-7, 1], both [B, T', C];
    ``clip = sum_t a p / sum_t a``.
    """

    classes: int

    @nn.compact
    def __call__(self, x):
        x = x.astype(jnp.float32)
        posterior = nn.sigmoid(nn.Dense(self.classes, name="posterior")(x))
        attention = nn.softmax(nn.Dense(self.classes, name="attention")(x), axis=-1)
        attention = jnp.clip(attention, 1e-7, 1.0)
        return (attention * posterior).sum(1) / attention.sum(1), posterior


class DisentangledAttention(nn.Module):
    """Guided Learning's pooling (arXiv 1906.02517): [B, T', D] -> clip [B, C], frames [B, T', C].

    Class c sees its disentangled feature, the first ``k_c = D shares[c]`` features. With ``x``
    those of a frame, ``l_t = w_c x_t + b_c`` and ``a_t = softmax_t(l_t / k_c)``, the posterior of
    the frame is ``sigmoid(l_t)`` and that of the clip ``sigmoid(v_c . sum_t a_t x_t + d_c)``.
    """

    classes: int
    shares: Sequence[float]

    @nn.compact
    def __call__(self, x):
        x = x.astype(jnp.float32)
        dims = x.shape[-1]
        widths = jnp.array([max(int(dims * share), 1) for share in self.shares])
        own = jnp.arange(dims)[:, None] < widths
        shape = (dims, self.classes)
        # Zeros, as the original: attention starts uniform.
        kernel = self.param("frame_kernel", nn.initializers.zeros, shape) * own
        bias = self.param("frame_bias", nn.initializers.zeros, (self.classes,))
        logits = x @ kernel + bias
        attention = nn.softmax(logits / widths, axis=1)
        pooled = jnp.einsum("btc,btd->bdc", attention, x)
        # Glorot's, of a layer of each class from its own features.
        bound = jnp.sqrt(6 / (widths + 1))
        init = lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)  # noqa: E731
        kernel = self.param("clip_kernel", init, shape) * own
        bias = self.param("clip_bias", nn.initializers.zeros, (self.classes,))
        return nn.sigmoid((pooled * kernel).sum(1) + bias), nn.sigmoid(logits)


def normalise(mel: jax.Array, train: bool, *, affine: bool = True, **batch_norm) -> jax.Array:
    """Batch norm per mel band, [B, T, F] float32; called within a module, its first layer.

    One mean and variance per mel band: the normalisation that travels with the weights.
    """
    # A log-mel is far from 0, where the mean of squares less the square of the mean loses digits.
    return nn.BatchNorm(
        use_running_average=not train,
        use_fast_variance=False,
        use_scale=affine,
        use_bias=affine,
        name="input_norm",
        **batch_norm,
    )(mel.astype(jnp.float32))


class CNN(nn.Module):
    """What the models of the paper and of Guided Learning share: normalisation and CNN blocks.

    The i-th block has ``filters[i]`` filters of ``kernels[i] x kernels[i]``, ``convs[i]`` times,
    and pools by ``pools[i]`` = (frames, mel bands).

    Attributes:
      classes: C.
      batch_norm_momentum: share of the old running statistics that a step keeps.
      axis_name: the mapped axis over which batch statistics are averaged, or None.
      dtype: the type of the computation.
    """

    classes: int
    filters: Sequence[int]
    kernels: Sequence[int]
    pools: Sequence[Pair]
    convs: Sequence[int]
    dropout: float
    batch_norm_momentum: float
    batch_norm_epsilon: float
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def features(self, mel: jax.Array, train: bool) -> jax.Array:
        """[B, T, F] -> [B, T', D]; called by the compact ``__call__`` of a subclass."""
        batch_norm: dict[str, Any] = {
            "momentum": self.batch_norm_momentum,
            "epsilon": self.batch_norm_epsilon,
            "axis_name": self.axis_name if train else None,
        }
        x = normalise(mel, train, **batch_norm).astype(self.dtype)[..., None]
        blocks = zip(self.filters, self.kernels, self.pools, self.convs, strict=True)
        for i, (filters, kernel, pool, convs) in enumerate(blocks):
            x = ConvBlock(
                filters, kernel, pool, convs, self.dropout, batch_norm, self.dtype,
                name=f"block_{i}",
            )(x, train)  # fmt: skip
        return x.reshape(*x.shape[:2], -1)


class CRNN(CNN):
    """A teacher or a student, according to its numbers (figure 1, a and b).

    Attributes, beside those of `CNN`:
      gru_hidden, gru_layers: the BGRUs of the tagging branch; no layers is "PTS w/o BGRUs".
      at_width, aed_width: the "Linear" layers of the tagging and the detection branch.
      aed_recurrent: whether the detection branch sees the BGRUs too; in the paper it does not.
      gru_loop: see `BiGRU`.
    """

    gru_hidden: int = 64
    gru_layers: int = 2
    at_width: int = 128
    aed_width: int = 256
    aed_recurrent: bool = False
    gru_loop: str = "scan"

    @nn.compact
    def __call__(self, mel: jax.Array, train: bool = False) -> Output:
        """Posteriors of log-mel clips.

        Args:
          mel: <float>[B, T, F] log-mel.
          train: batch statistics of this batch, dropout on (needs the ``dropout`` key).
        """
        features = self.features(mel, train)
        recurrent = features
        for i in range(self.gru_layers):
            recurrent = BiGRU(self.gru_hidden, self.dtype, self.gru_loop, name=f"gru_{i}")(
                recurrent
            )
        both = jnp.concatenate([features, recurrent], axis=-1) if self.gru_layers else features
        tagging = nn.relu(nn.Dense(self.at_width, dtype=self.dtype, name="at_linear")(both))
        clip, _ = AttentionPooling(self.classes, name="at_pooling")(tagging)

        detection = both if self.aed_recurrent else features
        detection = nn.relu(
            nn.Dense(self.aed_width, dtype=self.dtype, name="aed_linear")(detection)
        )
        # The paper's ten separate fully connected layers, one column of the kernel each.
        logits = nn.Dense(self.classes, name="aed_classes")(detection.astype(jnp.float32))
        return Output(clip, nn.sigmoid(logits), features.astype(jnp.float32))


class GuidedCNN(CNN):
    """The teacher or the student of Guided Learning (arXiv 1906.02517), system 1 of table 1.

    Attributes, beside those of `CNN`:
      shares: per class the share of the features that are its disentangled feature, see
        `feature_shares`.
    """

    shares: Sequence[float] = ()

    @nn.compact
    def __call__(self, mel: jax.Array, train: bool = False) -> Output:
        """As `CRNN`."""
        features = self.features(mel, train)
        clip, frames = DisentangledAttention(self.classes, self.shares, name="pooling")(features)
        return Output(clip, frames, features.astype(jnp.float32))


class GatedBlock(nn.Module):
    """A block of the DCASE 2019 baseline: convolution, batch norm, gate, dropout, mean-pool.

    The gated linear unit is ``linear(x) * sigmoid(x)``, the linear map over channels.
    """

    filters: int
    kernel: int
    pool: Pair
    dropout: float
    batch_norm: dict
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool):
        x = Conv(self.filters, self.kernel, self.dtype)(x)
        x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype, **self.batch_norm)(x)
        x = nn.Dense(self.filters, dtype=self.dtype, name="linear")(x) * nn.sigmoid(x)
        x = Dropout(self.dropout)(x, train)
        return mean_pool(x, self.pool)


class BaselineCRNN(nn.Module):
    """The DCASE 2019 Task 4 baseline, system 0 of table 1: gated blocks, BGRUs, attention pooling.

    Its frame posteriors are those that attention pooling averages. Fields as in `CNN` and `CRNN`;
    the input is normalised without trained parameters, as its scaler does.

    Attributes:
      input_momentum: of the input's statistics. Those of the other layers move fast in the
        original (0.01 of the old value is kept), its scaler does not move at all.
    """

    classes: int
    filters: Sequence[int]
    kernels: Sequence[int]
    pools: Sequence[Pair]
    dropout: float
    gru_hidden: int
    gru_layers: int
    batch_norm_momentum: float
    batch_norm_epsilon: float
    input_momentum: float
    axis_name: str | None = None
    dtype: Any = jnp.float32
    gru_loop: str = "scan"

    @nn.compact
    def __call__(self, mel: jax.Array, train: bool = False) -> Output:
        """As `CRNN`; ``features`` are those of the CNN."""
        options: dict[str, Any] = {"axis_name": self.axis_name if train else None}
        options["epsilon"] = self.batch_norm_epsilon
        x = normalise(mel, train, affine=False, momentum=self.input_momentum, **options)
        x = x.astype(self.dtype)[..., None]
        options["momentum"] = self.batch_norm_momentum
        for i, block in enumerate(zip(self.filters, self.kernels, self.pools, strict=True)):
            x = GatedBlock(*block, self.dropout, options, self.dtype, name=f"block_{i}")(x, train)
        features = recurrent = x.reshape(*x.shape[:2], -1)
        for i in range(self.gru_layers):
            recurrent = BiGRU(self.gru_hidden, self.dtype, self.gru_loop, name=f"gru_{i}")(
                recurrent
            )
        recurrent = Dropout(self.dropout)(recurrent, train)
        clip, frames = AttentionPooling(self.classes, name="pooling")(recurrent)
        return Output(clip, frames, features.astype(jnp.float32))


def num_parameters(params) -> int:
    """The number of scalars in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def output_frames(pools: Sequence[Pair], frames: int) -> int:
    """T' of a model with these pools for an input of T frames."""
    for time, _ in pools:
        frames //= time
    return frames


def time_pooling(pools: Sequence[Pair]) -> int:
    """How many frames of the input one frame of a model with these pools lasts."""
    return math.prod(time for time, _ in pools)


def feature_shares(clip_labels: np.ndarray, least: float) -> tuple[float, ...]:
    """Per class ``(1 - m) n_c / max n + m``: how many features its disentangled feature has [GL].

    Args:
      clip_labels: <float>[N, C] tags of the weak training clips; n_c counts those with class c
        alone.
      least: m.
    """
    tags = np.asarray(clip_labels) > 0
    alone = tags[tags.sum(1) == 1].sum(0)
    if not alone.any():  # nothing to tell the classes apart by
        return (1.0,) * tags.shape[1]
    return tuple(((1 - least) * alone / alone.max() + least).tolist())


def from_config(
    options,
    batch_norm,
    *,
    classes: int,
    dtype: str,
    axis_name: str | None,
    shares: Sequence[float] | None = None,
    gru_loop: str = "scan",
) -> nn.Module:
    """The model that a config's ``teacher`` or ``student`` page describes.

    Args:
      options: mapping with ``architecture``, the name of a class here, and its fields.
      batch_norm: mapping with ``momentum`` and ``epsilon``.
      classes: C.
      dtype: name of the computation's type, ``float32`` or ``bfloat16``.
      axis_name: see `CNN`.
      shares: per class, for `GuidedCNN`; all features where None.
      gru_loop: for the models with BGRUs, see `BiGRU`.
    """
    options = {name: value for name, value in options.items() if value is not None}
    architecture = options.pop("architecture")
    known = {"CRNN": CRNN, "GuidedCNN": GuidedCNN, "BaselineCRNN": BaselineCRNN}
    if architecture not in known:
        raise InputError(f"architecture {architecture!r}: expected one of {', '.join(known)}")
    if architecture == "GuidedCNN":
        options["shares"] = tuple(shares or (1.0,) * classes)
    else:
        options["gru_loop"] = gru_loop
    for name in ("filters", "kernels", "convs"):
        if name in options:
            options[name] = tuple(options[name])
    return known[architecture](
        classes=classes,
        pools=tuple(map(tuple, options.pop("pools"))),
        batch_norm_momentum=batch_norm["momentum"],
        batch_norm_epsilon=batch_norm["epsilon"],
        axis_name=axis_name,
        dtype=jnp.dtype(dtype),
        **options,
    )
