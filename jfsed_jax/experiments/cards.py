"""Published figures of accelerators, and the same of this machine, measured.

Rates are those of dense matrix products, without the sparsity that data sheets double them by.
float32 is what JAX makes of it by default: TF32 on these GPUs, and on a TPU products of bfloat16.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jfsed_jax.experiments.measuring import Call, time_call
from jfsed_jax.method.operations import matmul_flops


class Card(NamedTuple):
    """A device, as a roofline sees it.

    Attributes:
      name: of the device.
      flops: operations a second by the type of the computation.
      bandwidth: bytes a second from and to its memory.
      source: where the figures are from.
      turns: seconds that a turn of the recurrence takes at least, by how it is run.
    """

    name: str
    flops: Mapping[str, float]
    bandwidth: float
    source: str
    turns: Mapping[str, float]


# Assumed, not measured: some kernel of a turn is launched after another, or a thousand cycles
# and more for a product, two barriers and the gates within one kernel.
_GPU_TURNS = {"one kernel": 1e-6, "a launch a turn": 3e-6}
_TPU_TURNS = {"one program": 1e-6}


def _nvidia(name: str, bfloat16: float, tf32: float, bandwidth: float, sheet: str) -> Card:
    flops = {"bfloat16": bfloat16 * 1e12, "float32": tf32 * 1e12}
    return Card(name, flops, bandwidth * 1e9, f"NVIDIA's data sheet of the {sheet}", _GPU_TURNS)


CARDS = {
    "a100": _nvidia("A100", 312, 156, 2039, "A100 80 GB SXM"),
    "h100": _nvidia("H100", 989, 494.5, 3350, "H100 SXM"),
    "h200": _nvidia("H200", 989, 494.5, 4800, "H200 SXM"),
    "l4": _nvidia("L4", 121, 60, 300, "L4"),
    "v5e": Card(
        "TPU v5e",
        {"bfloat16": 197e12, "float32": 197e12},
        819e9,
        "Google Cloud's page of TPU v5e, one chip",
        _TPU_TURNS,
    ),
}
HERE = "here"  # the name of this machine among them


def choose_card(name: str, dtype: str) -> Card:
    """One of `CARDS`, or for `HERE` this machine's device as it measures itself."""
    return measured_card(dtype) if name == HERE else CARDS[name]


def measured_card(dtype: str) -> Card:
    """One of this machine's devices: a matrix product, a pass over memory, a turn of a scan."""
    device = jax.devices()[0]
    return Card(
        name=f"this machine, {device.device_kind}",
        flops={dtype: matmul_flops(dtype)},
        bandwidth=_bandwidth(),
        source="measured",
        turns={"a scan": _scan_turn()},
    )


def _bandwidth() -> float:
    """Bytes a second that one pass reads and writes, the best of ten."""
    size = 2**26 if jax.default_backend() == "cpu" else 2**30  # float32, larger than any cache
    values = jnp.zeros(size, jnp.float32)
    # In place: new pages would be faulted in on a CPU.
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def call() -> None:
        nonlocal values
        values = add(values).block_until_ready()

    return 2 * values.nbytes / _best(call)


def _scan_turn() -> float:
    """Seconds a turn of a scan that does next to nothing."""
    turns = 1000
    scan = jax.jit(lambda x: lax.scan(lambda x, _: (x * 0.5, x[0]), x, length=turns))
    start = jnp.ones(64)
    return _best(lambda: jax.block_until_ready(scan(start))) / turns


def _best(call: Call) -> float:
    call()
    return min(time_call(call)[0] for _ in range(10))
