"""The layers of the models: convolution blocks, BGRU, the two attention poolings (figures 1 and 2).

Axis letters: ``B`` clips, ``T`` frames of the input, ``T'`` frames after temporal pooling, ``F``
mel bands, ``C`` event classes, ``D`` features, ``H`` hidden units of a GRU direction.

Parameters and batch statistics are float32; ``dtype`` is the type of the computation. Whatever a
loss sees is float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jfsed_jax.audio.front_end import NEPERS_PER_DB
from jfsed_jax.kernels.batch_norm import normalised_relu
from jfsed_jax.kernels.bigru import LOOPS, recurrence
from jfsed_jax.kernels.convolution import convolve
from jfsed_jax.kernels.dropout import Dropout
from jfsed_jax.kernels.pooling import (
    Window,
    fills,
    max_of_windows,
    max_pool,
    mean_of_windows,
    mean_pool,
    windows,
)
from jfsed_jax.seams import resolve


class Conv(nn.Module):
    """A "same" convolution, [B, T, F, I] -> [B, T, F, filters], and its bias [filters], not added.

    Batch norm takes it away again, all but what the running mean has of it.
    """

    filters: int
    kernel: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, x.shape[-1], self.filters)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.filters,))
        return convolve(x.astype(self.dtype), kernel.astype(self.dtype)), bias


class NormalisedRelu(nn.Module):
    """Batch norm and ReLU of a convolution, [..., C] -> [..., C].

    Parameters and statistics are those of `flax.linen.BatchNorm` of the convolution with its bias.
    """

    momentum: float
    epsilon: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, bias, train: bool):
        size = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, size)
        offset = self.param("bias", nn.initializers.zeros, size)
        mean = self.variable("batch_stats", "mean", jnp.zeros, size)
        variance = self.variable("batch_stats", "var", jnp.ones, size)
        if not train:
            factor = scale * jax.lax.rsqrt(variance.value + self.epsilon)
            return nn.relu(x * factor + ((bias - mean.value) * factor + offset)).astype(x.dtype)
        x, *found = normalised_relu(x, scale, offset, self.epsilon, self.axis_name)
        if not self.is_initializing():
            kept = self.momentum
            mean.value = kept * mean.value + (1 - kept) * (found[0] + bias)
            variance.value = kept * variance.value + (1 - kept) * found[1]
        return x


# What makes one of the values in a window; figure 2 ends before it.
POOLINGS = {"max": max_pool, "mean": mean_pool}
_OF_WINDOWS: dict[Any, Callable] = {max_pool: max_of_windows, mean_pool: mean_of_windows}


class ConvBlock(nn.Module):
    """``convs`` times convolution, batch norm, ReLU (figure 2); pooling; dropout."""

    filters: int
    kernel: int
    pool: Window
    convs: int
    dropout: float
    batch_norm: dict
    dtype: Any = jnp.float32
    pooling: str = "max"

    @nn.compact
    def __call__(self, x, train: bool):
        pool, by_windows = resolve(self.pooling, POOLINGS, "config: pooling"), False
        for i in range(self.convs):
            x, bias = Conv(self.filters, self.kernel, self.dtype)(x)
            if i == self.convs - 1 and pool in _OF_WINDOWS and fills(x, self.pool):
                # Before batch norm: after it, it would cost a pass over memory, and one back.
                x, by_windows = windows(x, self.pool), True
            x = NormalisedRelu(**self.batch_norm, name=f"BatchNorm_{i}")(x, bias, train)
        x = _OF_WINDOWS[pool](x) if by_windows else pool(x, self.pool)
        return Dropout(self.dropout, self.batch_norm.get("axis_name"))(x, train)


class BiGRU(nn.Module):
    """One bidirectional GRU layer, [B, T', D] -> [B, T', 2H], with torch's equations.

    Parameters of both directions are stacked, 0 forward in time; gates in the order reset, update,
    new. ``loop`` is a key of `jfsed_jax.kernels.bigru.LOOPS`.
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


def normalise(
    mel: jax.Array,
    train: bool,
    *,
    affine: bool = True,
    floor_db: float = 0.0,
    mel_heights: Sequence[float] = (1.0,),
    **batch_norm,
) -> jax.Array:
    """Batch norm per mel band, [B, T, F] float32; called within a module, its first layer.

    One mean and variance per mel band: the normalisation that travels with the weights. Before it
    a `floor_db` above 0 raises each clip's log-mel to at least that far below the clip's peak, both
    taken as of mel filters of height 1 [MT]; `mel_heights` are those of the filters, [F].
    """
    mel = mel.astype(jnp.float32)
    if floor_db:
        height = jnp.log(jnp.asarray(mel_heights, jnp.float32))
        peak = (mel - height).max((1, 2), keepdims=True)
        mel = jnp.maximum(mel, peak + height - floor_db * NEPERS_PER_DB)
    # A log-mel is far from 0, where the mean of squares less the square of the mean loses digits.
    return nn.BatchNorm(
        use_running_average=not train,
        use_fast_variance=False,
        use_scale=affine,
        use_bias=affine,
        name="input_norm",
        **batch_norm,
    )(mel)


class GatedBlock(nn.Module):
    """A block of the DCASE 2019 baseline: convolution, batch norm, gate, dropout, mean-pool.

    The gated linear unit is ``linear(x) * sigmoid(x)``, the linear map over channels.
    """

    filters: int
    kernel: int
    pool: Window
    dropout: float
    batch_norm: dict
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool):
        x, bias = Conv(self.filters, self.kernel, self.dtype)(x)
        x = x + bias.astype(self.dtype)
        x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype, **self.batch_norm)(x)
        x = nn.Dense(self.filters, dtype=self.dtype, name="linear")(x) * nn.sigmoid(x)
        x = Dropout(self.dropout, self.batch_norm.get("axis_name"))(x, train)
        return mean_pool(x, self.pool)
