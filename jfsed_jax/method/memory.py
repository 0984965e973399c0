"""Memory of a training step on a CPU: XLA's plan, and what glibc does with what XLA frees."""

import ctypes
from contextlib import suppress

import jax
from jax.sharding import Mesh

# By default XLA's CPU backend orders a program for concurrency and keeps more alive; the step has
# none to lose. Its newer emitters take twice the memory to compile it and give the same speed.
_FRUGAL: dict[str, bool | str] = {
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_cpu_use_fusion_emitters": False,
}


def frugal_options(mesh: Mesh) -> dict[str, bool | str]:
    """``compiler_options`` with which a step needs less memory; none but for a CPU.

    An option that this version of XLA does not know is left out.
    """
    if mesh.devices.flat[0].platform != "cpu":
        return {}
    known: dict[str, bool | str] = {}
    for name, value in _FRUGAL.items():
        with suppress(jax.errors.JaxRuntimeError):
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
            known[name] = value
    return known


def keep_freed_memory() -> None:
    """Asks glibc to keep what XLA frees.

    Every step allocates and frees gigabytes of activations. By default each of them goes back to
    the kernel and is faulted in again page by page, which can take as long as the arithmetic.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for parameter, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1), (-2, 2**28)):
            mallopt(parameter, value)  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD


def release_freed_memory() -> None:
    """Gives what is free now back to the system, once.

    Compilation takes hundreds of megabytes that no step needs.
    """
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
