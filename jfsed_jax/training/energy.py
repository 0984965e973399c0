"""The energy that a machine says it uses: RAPL of Intel and AMD CPUs, NVML of NVIDIA GPUs.

Either counts all that the machine does, and not this process alone. Linux lets root alone read RAPL
by default (``chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj``); NVML needs the package
nvidia-ml-py. Where nothing tells, nothing is counted.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from absl import logging

POWERCAP = Path("/sys/class/powercap")


@dataclass
class Counter:
    """A counter of energy that goes up, and begins anew where it overflows.

    Attributes:
      read: what it shows now, in its own unit.
      joules_per_unit: of that unit.
      overflow: the span after which it begins anew, None for never.
    """

    read: Callable[[], int]
    joules_per_unit: float
    overflow: int | None = None

    def __post_init__(self) -> None:
        self._last = self.read()

    def used(self) -> float:
        """Joules since the last call, at first since this was made.

        An overflow between two calls is seen, two are taken for one: of a CPU's package one takes
        minutes at least.
        """
        now = self.read()
        units, self._last = now - self._last, now
        if units < 0 and self.overflow is not None:
            units += self.overflow
        return max(units, 0) * self.joules_per_unit


class Energy:
    """All counters of this machine that can be read."""

    def __init__(self, powercap: Path = POWERCAP):
        self._counters = [*_rapl(powercap), *_nvml()]

    def used(self) -> float | None:
        """Joules since the last call, at first since this was made; None where nothing tells."""
        if not self._counters:
            return None
        try:
            return sum(counter.used() for counter in self._counters)
        except Exception as error:  # of sysfs or NVML: a driver that is gone, a right taken away
            logging.warning("the energy cannot be read any more (%s): none is told", error)
            self._counters = []
            return None


def _rapl(powercap: Path) -> list[Counter]:
    """Of each package, and of its memory where that is told apart.

    ``intel-rapl:0`` is a zone and ``intel-rapl:0:1`` a part of it, on AMD too. A package has its
    cores in it and not its memory; ``psys`` has all of it, and ``intel-rapl-mmio`` is a second
    way to the same.
    """
    counters = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        with suppress(OSError, ValueError):
            name = (zone / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                overflow = int((zone / "max_energy_range_uj").read_text())
                counters.append(Counter(partial(_number, zone / "energy_uj"), 1e-6, overflow))
    return counters


def _number(path: Path) -> int:
    return int(path.read_text())


def _nvml() -> list[Counter]:
    """Of each GPU that this process may use: ``CUDA_VISIBLE_DEVICES`` or all."""
    try:
        import pynvml

        pynvml.nvmlInit()
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        if named is None:
            named = ",".join(map(str, range(pynvml.nvmlDeviceGetCount())))
        handles = [_gpu(pynvml, name.strip()) for name in named.split(",") if name.strip()]
        total: Any = pynvml.nvmlDeviceGetTotalEnergyConsumption
        return [Counter(partial(total, handle), 1e-3) for handle in handles]
    except Exception:  # not installed, no driver, a card before Volta
        return []


def _gpu(pynvml: Any, name: str) -> Any:
    """The GPU of a number, or of an identifier as ``GPU-...``."""
    if name.isdecimal():
        return pynvml.nvmlDeviceGetHandleByIndex(int(name))
    return pynvml.nvmlDeviceGetHandleByUUID(name)
