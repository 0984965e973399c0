"""What a log says beside a run's clips per second: operations, share of the ceiling, energy."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import jax
from absl import logging

from jfsed_jax.hosts import Hosts
from jfsed_jax.method.operations import matmul_flops, train_flops
from jfsed_jax.method.system import Models
from jfsed_jax.training.energy import Energy


@dataclass
class Speed:
    """Operations and energy of steps.

    Attributes:
      flops_per_clip: floating-point operations of a clip in a train step, None if unknown.
      measure: the operations a second that all devices could do; called once, at the first `of`,
        between two steps, and so at no cost to the start. What fails is a warning.
      energy: what the machine uses, None if it is not to be told.
    """

    flops_per_clip: int | None = None
    measure: Callable[[], float] = partial(float, "inf")
    energy: Energy | None = field(default=None)

    @cached_property
    def _ceiling(self) -> float | None:
        try:
            return self.measure()
        except Exception as error:  # such as a device without room for it: it costs no run
            said = str(error).strip().splitlines() or [type(error).__name__]
            logging.warning("no share_of_ceiling: the ceiling cannot be measured (%s)", said[0])
            return None

    def restart(self) -> None:
        """What went before, such as an evaluation, does not count into the energy."""
        if self.energy is not None:
            self.energy.used()

    def of(self, clips: int, seconds: float) -> dict[str, float]:
        """Values of the log, of `clips` that took so long; without those that nothing tells.

        ``flops_per_second`` (of all devices), ``share_of_ceiling``, and ``joules_per_clip`` since
        the last call or `restart`.
        """
        found = {}
        joules = None if self.energy is None else self.energy.used()
        if self.flops_per_clip is not None:
            found["flops_per_second"] = self.flops_per_clip * clips / seconds
            if self._ceiling is not None:
                found["share_of_ceiling"] = found["flops_per_second"] / self._ceiling
        if joules is not None:
            found["joules_per_clip"] = joules / clips
        return found


def make_speed(models: Models, frames: int, bands: int, dtype: str, hosts: Hosts) -> Speed:
    """The `Speed` of a run.

    Args:
      models: that are trained, on clips of `frames` and mel `bands`.
      dtype: that they compute in.
      hosts: the processes that take the steps. Of several, which may share a machine, none tells
        the energy.
    """
    return Speed(
        train_flops(models, frames, bands),
        partial(_ceiling, dtype, hosts.count),
        None if hosts.several else Energy(),
    )


def _ceiling(dtype: str, processes: int) -> float:
    """Operations a second of all devices: one's, measured, times their number.

    A CPU's devices share its cores, so there it is a process's times that of the processes.
    """
    cpu = jax.default_backend() == "cpu"
    with jax.default_device(jax.local_devices()[0]):
        one = matmul_flops(dtype, size=1024 if cpu else None, repeats=5)
    return one * (processes if cpu else jax.device_count())
