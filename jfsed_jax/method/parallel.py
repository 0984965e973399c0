"""A step over many devices, several seeds, several batches.

`data_parallel` maps `step.train_step` over a mesh with ``jax.shard_map`` under ``jit``;
``jax.pmap`` maps the very same function.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "data"
ONE_BATCH = PartitionSpec(AXIS)  # of arrays [B, ...]
SEVERAL_BATCHES = PartitionSpec(None, AXIS)  # of arrays [K, B, ...]

# LLVM's first level compiles in less than half the time of its full one, what runs as fast.
_SOON: dict[str, bool | int | str] = {"xla_backend_optimization_level": 1}
# By default XLA's CPU backend orders a program for concurrency and keeps more alive; the step has
# none to lose. Its newer emitters take twice the memory to compile it and give the same speed.
_FRUGAL: dict[str, bool | int | str] = {
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_cpu_use_fusion_emitters": False,
    **_SOON,
}


def data_parallel(step: Callable, mesh: Mesh, split: PartitionSpec = ONE_BATCH) -> Callable:
    """A jitted ``(state, batch, key) -> (state, metrics)`` over all devices of the mesh.

    The batch is split along its clips (`split` says which axis they are, `ONE_BATCH` or
    `SEVERAL_BATCHES`), the state is on every device and is donated.
    """
    everywhere = PartitionSpec()
    # With check_vma=True gradients of replicated parameters arrive already summed.
    mapped = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(everywhere, split, everywhere),
        out_specs=(everywhere, everywhere),
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=0, compiler_options=frugal_options(mesh))


def several_seeds(step: Callable, *, share_batch: bool) -> Callable:
    """`step` for K independent runs at once: of states [K, ...], keys [K], to metrics [K].

    The batch is [K, B, ...], or one [B, ...] for all. To go inside `data_parallel` and `scanned`.
    """
    return jax.vmap(step, in_axes=(0, None if share_batch else 0, 0))


def scanned(step: Callable) -> Callable:
    """``(state, batches, key) -> (state, metrics)``: one step for each of K batches.

    ``batches`` are the arrays of a batch as [K, B, ...]; metrics are <float32>[K].
    """

    def steps(state, batches, key):
        return lax.scan(lambda state, batch: step(state, batch, key), state, batches)

    return steps


def data_parallel_gather(mesh: Mesh, split: PartitionSpec = ONE_BATCH) -> Callable:
    """A jitted ``(clips, positions) -> batch``; each device picks its share of the batch.

    ``clips`` are the arrays of a batch with all N clips for B, on every device; ``positions``
    <int32>[B] or, for `SEVERAL_BATCHES`, [K, B].
    """
    # A program of its own: as a part of the step's it would be fused with it, and the same clips
    # would give other roundings than when they come from the host.
    mapped = jax.shard_map(
        lambda clips, positions: {name: values[positions] for name, values in clips.items()},
        mesh=mesh,
        in_specs=(PartitionSpec(), split),
        out_specs=split,
        check_vma=False,
    )
    return jax.jit(mapped)


def make_mesh(devices: int | Sequence[jax.Device] | None = None) -> Mesh:
    """The first `devices` devices, these, or all of all processes, along one axis, `AXIS`."""
    auto = jax.sharding.AxisType.Auto  # linen's Dropout cannot work with explicit axes
    chosen = jax.devices()[:devices] if not isinstance(devices, Sequence) else devices
    return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(auto,), devices=chosen)


def own_rows_of_batch(mesh: Mesh, size: int) -> np.ndarray:
    """<int>[B]: which rows of a batch of `size` clips the devices of this process have."""
    sharding = NamedSharding(mesh, ONE_BATCH)
    slices = sharding.addressable_devices_indices_map((size,)).values()
    return np.unique(np.concatenate([np.arange(size)[own] for own in slices]))


def once_options(mesh: Mesh) -> dict[str, bool | int | str]:
    """``compiler_options`` for a program that runs once: on a CPU with less of LLVM's work.

    The first state of `:small`, forty arrays of random numbers, has the same bits.
    """
    return _for_cpu(mesh, _SOON)


def frugal_options(mesh: Mesh) -> dict[str, bool | int | str]:
    """``compiler_options`` with which a step needs less memory, and its compilation less time.

    None but for a CPU. An option that ``XLA_FLAGS`` sets is left to it, and one that this version
    of XLA does not know is left out.
    """
    return _for_cpu(mesh, _FRUGAL)


def _for_cpu(mesh: Mesh, options: Mapping[str, bool | int | str]) -> dict[str, bool | int | str]:
    if mesh.devices.flat[0].platform != "cpu":
        return {}
    known: dict[str, bool | int | str] = {}
    for name, value in options.items():
        if name in os.environ.get("XLA_FLAGS", ""):
            continue
        with suppress(jax.errors.JaxRuntimeError):
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
            known[name] = value
    return known
