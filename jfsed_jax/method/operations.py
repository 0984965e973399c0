"""Floating-point operations: how many a model takes, and how many a second a device can do.

Counted are those of convolutions (padding included), matrix products and GRUs as the layers' sizes
give them, two a multiply-add. Wide convolutions on a CPU take fewer, see `kernels.convolution`: the
share of the ceiling that is reckoned from these may be above one there.
"""

import time

import flax.linen as nn
import jax
import jax.numpy as jnp

from jfsed_jax.method.models import CRNN, BaselineCRNN, GuidedCNN
from jfsed_jax.method.system import Models


def matmul_flops(dtype: str, *, size: int | None = None, repeats: int = 10) -> float:
    """A device's ceiling: operations a second of one large matrix product, the best of some.

    On a CPU one product uses all cores that the process may use.

    Args:
      dtype: of the factors.
      size: of the square matrices; by default 2048 on a CPU, else 8192.
      repeats: products that are timed.
    """
    n = size or (2048 if jax.default_backend() == "cpu" else 8192)
    square = jnp.ones((n, n), dtype)
    product = jax.jit(jnp.matmul)
    product(square, square).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        since = time.perf_counter()
        product(square, square).block_until_ready()
        best = min(best, time.perf_counter() - since)
    return 2 * n**3 / best


def train_flops(models: Models, frames: int, bands: int) -> int | None:
    """Operations of one clip in a train step; None if a model is unknown to `forward_flops`.

    Three forward passes of each model that is trained, since a gradient costs two, and one of a
    teacher that is an average.
    """
    clip = {name: forward_flops(model, frames, bands) for name, model in models.named().items()}
    averaged = {"teacher"} if models.teacher is None else set()
    total = 0
    for name, operations in clip.items():
        if operations is None:
            return None
        total += operations * (1 if name in averaged else 3)
    return total


def forward_flops(model: nn.Module, frames: int, bands: int) -> int | None:
    """Floating-point operations of one clip of `frames` and mel `bands` through a model.

    None if the model is not of `jfsed_jax.method.models`.
    """
    if not isinstance(model, CRNN | GuidedCNN | BaselineCRNN):
        return None
    macs, inputs = 0, 1
    convs = (1,) * len(model.filters) if isinstance(model, BaselineCRNN) else model.convs
    for filters, kernel, pool, repeats in zip(
        model.filters, model.kernels, model.pools, convs, strict=True
    ):
        for _ in range(repeats):
            macs += kernel**2 * inputs * filters * frames * bands
            inputs = filters
        if isinstance(model, BaselineCRNN):  # the gate's linear map
            macs += filters**2 * frames * bands
        frames, bands = frames // pool[0], bands // pool[1]
    features = inputs * bands
    if isinstance(model, GuidedCNN):
        # Of every class: logits and weighted sum of all frames, then the clip.
        return 2 * (macs + model.classes * features * (2 * frames + 1))
    width = features
    for _ in range(model.gru_layers):
        macs += 2 * frames * 3 * model.gru_hidden * (width + model.gru_hidden)
        width = 2 * model.gru_hidden
    if isinstance(model, BaselineCRNN):
        return 2 * (macs + frames * width * 2 * model.classes)
    both = features + (width if model.gru_layers else 0)
    detection = both if model.aed_recurrent else features
    macs += frames * model.at_width * (both + 2 * model.classes)
    macs += frames * model.aed_width * (detection + model.classes)
    return 2 * macs
