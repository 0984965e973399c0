"""The teacher and the student: CRNNs with a tagging and a detection branch (section 2.1, figure 1).

Axis letters: ``B`` clips, ``T`` frames of the input (600), ``T'`` frames after the model's
temporal pooling (teacher 6, student 600), ``F`` mel bands (64), ``C`` event classes (10), ``D``
features (teacher 512, student 160), ``H`` hidden units of a GRU direction.

Parameters and batch statistics are float32; ``dtype`` is the type of the computation. Whatever a
loss sees is float32.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jfsed_jax.convolution import convolve
from jfsed_jax.recurrence import recurrence

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
    time, mel = window
    if window == (1, 1):
        return x
    batch, frames, bands, channels = x.shape
    frames, bands = frames // time, bands // mel
    x = x[:, : frames * time, : bands * mel]
    return _largest(x.reshape(batch, frames, time, bands, mel, channels))


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
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class BiGRU(nn.Module):
    """One bidirectional GRU layer, [B, T', D] -> [B, T', 2H], with torch's equations.

    Parameters of both directions are stacked, 0 forward in time; gates in the order reset, update,
    new.
    """

    hidden: int
    dtype: Any = jnp.float32

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
        states = recurrence(forward, backward, recurrent, recurrent_bias)
        return jnp.concatenate(states, axis=-1).swapaxes(0, 1)


class AttentionPooling(nn.Module):
    """Attention pooling of reference [30]: frames [B, T', D] -> clip [B, C].

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
        return (attention * posterior).sum(1) / attention.sum(1)


class CRNN(nn.Module):
    """A teacher or a student, according to its numbers (figure 1, a and b).

    The i-th CNN block has ``filters[i]`` filters of ``kernels[i] x kernels[i]``, ``convs[i]``
    times, and pools by ``pools[i]`` = (frames, mel bands).

    Attributes:
      classes: C.
      gru_hidden, gru_layers: the BGRUs of the tagging branch; no layers is "PTS w/o BGRUs".
      at_width, aed_width: the "Linear" layers of the tagging and the detection branch.
      aed_recurrent: whether the detection branch sees the BGRUs too; in the paper it does not.
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
    gru_hidden: int
    gru_layers: int
    at_width: int
    aed_width: int
    batch_norm_momentum: float
    batch_norm_epsilon: float
    aed_recurrent: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, mel: jax.Array, train: bool = False) -> Output:
        """Posteriors of log-mel clips.

        Args:
          mel: <float>[B, T, F] log-mel.
          train: batch statistics of this batch, dropout on (needs the ``dropout`` key).
        """
        batch_norm: dict[str, Any] = {
            "momentum": self.batch_norm_momentum,
            "epsilon": self.batch_norm_epsilon,
            "axis_name": self.axis_name if train else None,
        }
        x = mel.astype(jnp.float32)
        # One mean and variance per mel band: the normalisation that travels with the weights. A
        # log-mel is far from 0, where the mean of squares less the square of the mean loses digits.
        x = nn.BatchNorm(
            use_running_average=not train, use_fast_variance=False, name="input_norm", **batch_norm
        )(x)
        x = x.astype(self.dtype)[..., None]
        blocks = zip(self.filters, self.kernels, self.pools, self.convs, strict=True)
        for i, (filters, kernel, pool, convs) in enumerate(blocks):
            x = ConvBlock(
                filters, kernel, pool, convs, self.dropout, batch_norm, self.dtype,
                name=f"block_{i}",
            )(x, train)  # fmt: skip
        features = x.reshape(*x.shape[:2], -1)

        recurrent = features
        for i in range(self.gru_layers):
            recurrent = BiGRU(self.gru_hidden, self.dtype, name=f"gru_{i}")(recurrent)
        both = jnp.concatenate([features, recurrent], axis=-1) if self.gru_layers else features
        tagging = nn.relu(nn.Dense(self.at_width, dtype=self.dtype, name="at_linear")(both))
        clip = AttentionPooling(self.classes, name="at_pooling")(tagging)

        detection = both if self.aed_recurrent else features
        detection = nn.relu(
            nn.Dense(self.aed_width, dtype=self.dtype, name="aed_linear")(detection)
        )
        # The paper's ten separate fully connected layers, one column of the kernel each.
        logits = nn.Dense(self.classes, name="aed_classes")(detection.astype(jnp.float32))
        return Output(clip, nn.sigmoid(logits), features.astype(jnp.float32))


def num_parameters(params) -> int:
    """The number of scalars in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def from_config(options, batch_norm, *, classes: int, dtype: str, axis_name: str | None) -> CRNN:
    """The model that a config's ``teacher`` or ``student`` page describes.

    Args:
      options: mapping with the fields of `CRNN` that differ between the two.
      batch_norm: mapping with ``momentum`` and ``epsilon``.
      classes: C.
      dtype: name of the computation's type, ``float32`` or ``bfloat16``.
      axis_name: see `CRNN`.
    """
    options = dict(options)
    return CRNN(
        classes=classes,
        filters=tuple(options.pop("filters")),
        kernels=tuple(options.pop("kernels")),
        pools=tuple(map(tuple, options.pop("pools"))),
        convs=tuple(options.pop("convs")),
        batch_norm_momentum=batch_norm["momentum"],
        batch_norm_epsilon=batch_norm["epsilon"],
        axis_name=axis_name,
        dtype=jnp.dtype(dtype),
        **options,
    )
