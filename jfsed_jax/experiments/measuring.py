"""How time and memory are measured: calls that take turns."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

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
