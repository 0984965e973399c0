"""How time, memory and operations are measured: calls that take turns, and counts.

Floating-point operations are those of convolutions (padding included), matrix products and GRUs as
the layers' sizes give them, two a multiply-add.
"""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jfsed_jax.method.models import CRNN, BaselineCRNN, GuidedCNN

_SECONDS = 20.0  # that a row's repeats may take

Call = Callable[[], Any]


class Timing(NamedTuple):
    """Medians of wall time and of the process's CPU time, and of how many calls."""

    seconds: float
    cpu_seconds: float
    calls: int


def take_turns(sides: dict[str, Call], seconds: float = _SECONDS) -> dict[str, Timing]:
    """Calls each side in turn, after one call of each that is not counted.

    A machine that is busy for a while is busy for all sides.
    """
    first = sum(time_call(call)[0] for call in sides.values())
    repeats = min(max(int(seconds / max(first, 1e-3)), 3), 50)
    taken: dict[str, list] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, call in sides.items():
            taken[name].append(time_call(call))
    medians = {name: np.median(times, axis=0) for name, times in taken.items()}
    return {name: Timing(float(m[0]), float(m[1]), repeats) for name, m in medians.items()}


def time_call(call: Call) -> tuple[float, float]:
    """Seconds of wall time and of CPU time that one call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def peak_host_memory() -> int:
    """The most bytes that this process has had in memory so far."""
    import resource  # POSIX only

    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a child starts with that of the process it was forked from.
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return 1024 * int(found[1]) if found else 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def matmul_flops(dtype: str) -> float:
    """The device's ceiling: operations a second of one large matrix product, the best of ten."""
    n = 2048 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((n, n), dtype)
    product = jax.jit(jnp.matmul)
    call = lambda: product(square, square).block_until_ready()  # noqa: E731
    call()
    return 2 * n**3 / min(time_call(call)[0] for _ in range(10))


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
