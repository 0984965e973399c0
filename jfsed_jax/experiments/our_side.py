"""The benchmark's own side: step, inference and log-mel, compiled as training compiles them."""

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jfsed_jax.audio.device import log_mel_jax
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.experiments.benchmark_data import CLASSES, STEPS_PER_EPOCH
from jfsed_jax.experiments.measuring import Call
from jfsed_jax.method import parallel
from jfsed_jax.method.state import initial_state, teacher_params
from jfsed_jax.method.step import train_step
from jfsed_jax.method.system import System, from_config, models_from_config
from jfsed_jax.training.memory import release_freed_memory

_IN_FLIGHT = 2  # steps that may be waiting for the device while the next batch goes to it


def make_system(config) -> System:
    """What a config trains, without augmentation, on devices along `parallel.AXIS`."""
    described = from_config(
        config, classes=CLASSES, steps_per_epoch=STEPS_PER_EPOCH, axis_name=parallel.AXIS
    )
    return replace(described, augment=None)


def make_programs(config, system: System, mesh, seeds: int = 1) -> dict[str, Any]:
    """The jitted functions that are measured.

    Returns:
      ``train step``, ``(state, batch, key) -> (state, metrics)``; ``inference``, ``(variables of
      the student, mel) -> posteriors``; of `seeds` > 1 ``seeds``, the step of so many states.
    """
    one_step = partial(train_step, system=system, axis_name=parallel.AXIS)
    alone = models_from_config(config, classes=CLASSES).student
    programs = {
        "train step": parallel.data_parallel(one_step, mesh),
        "inference": jax.jit(lambda variables, mel: alone.apply(variables, mel)[:2]),
    }
    if seeds > 1:
        several = parallel.several_seeds(one_step, share_batch=True)
        programs["seeds"] = parallel.data_parallel(several, mesh)
    return programs


class OurSide:
    """The step, without augmentation, and the student's inference.

    With `seeds` > 1 also the step of that many models at once, on the same batch. A `deterministic`
    one is compiled as ``config.deterministic`` asks for, whatever the process has.

    Attributes:
      models: teacher and student.
      state: what the next step starts from.
      variables: ``params`` and ``batch_stats`` of teacher, student and maps before any step, on the
        host, for `torch_weights.to_torch`.
      compile_seconds: by program of `make_programs`.
    """

    def __init__(
        self, config, batch: dict[str, np.ndarray], seeds: int = 1, *, deterministic: bool = False
    ):
        front_end = FrontEnd(**config.front_end)
        system = make_system(config)
        self.models = system.models
        mesh = parallel.make_mesh()
        self._everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        self._split = jax.sharding.NamedSharding(mesh, parallel.ONE_BATCH)
        shape = front_end.num_frames, front_end.n_mels
        create = jax.jit(partial(initial_state, system, input_shape=shape))
        self.state = jax.device_put(create(jax.random.key(0)), self._everywhere)
        params = dict(self.state.params)
        if "teacher" in self.models.named():
            params["teacher"] = teacher_params(self.state.params, self.state.opt_state)
        params, stats = jax.device_get((params, self.state.batch_stats))
        self.variables = {"params": params, "batch_stats": stats}
        student = {"params": params["student"], "batch_stats": stats["student"]}
        self._student = jax.device_put(student, self._everywhere)
        self._batch = jax.device_put(batch, self._split)
        self._mel = jax.device_put(batch["mel"].astype(np.float32), self._split)
        self._key = jax.random.key(0)
        release_freed_memory()  # as training does

        programs = make_programs(config, system, mesh, seeds)
        self._options = {"xla_gpu_deterministic_ops": True} if deterministic else None
        self.compile_seconds: dict[str, float] = {}
        arguments: dict[str, Any] = {
            "train step": (self.state, self._batch, self._key),
            "inference": (self._student, self._mel),
        }
        if seeds > 1:
            self._keys = jax.random.split(self._key, seeds)
            self._states = jax.device_put(create(self._keys), self._everywhere)
            arguments["seeds"] = self._states, self._batch, self._keys
        compiled = {
            name: self._compile(name, program, *arguments[name])
            for name, program in programs.items()
        }
        self._step, self._infer = compiled["train step"], compiled["inference"]
        self._together: Any = compiled.get("seeds")
        release_freed_memory()  # training does after the first step, which it compiles by calling

    def _compile(self, name: str, function, *arguments) -> Any:
        since = time.perf_counter()
        compiled = function.lower(*arguments).compile(compiler_options=self._options)
        self.compile_seconds[name] = time.perf_counter() - since
        return compiled

    def train(self) -> None:
        """One step of both models."""
        self.state, metrics = self._step(self.state, self._batch, self._key)
        jax.block_until_ready((self.state, metrics))

    def train_seeds(self) -> None:
        """One step of every seed's models."""
        self._states, metrics = self._together(self._states, self._batch, self._keys)
        jax.block_until_ready((self._states, metrics))

    def train_on(self, batches: Iterable[dict[str, np.ndarray]]) -> None:
        """A step for each batch of the host, which is ahead of the device, as in training."""
        waiting: list[Any] = []
        for batch in batches:
            batch = jax.device_put(batch, self._split)
            self.state, metrics = self._step(self.state, batch, self._key)
            waiting.append(metrics)
            if len(waiting) > _IN_FLIGHT:
                jax.block_until_ready(waiting.pop(0))
        jax.block_until_ready((self.state, waiting))

    def saved(self) -> Any:
        """The state on the host, as a checkpoint has it."""
        return jax.device_get(self.state)

    def restore(self, saved: Any) -> None:
        """Goes on from what `saved` gave."""
        self.state = jax.device_put(saved, self._everywhere)

    def infer(self) -> list[np.ndarray]:
        """The student's clip and frame posteriors, <float32>[B, C] and [B, T', C]."""
        return [np.asarray(value) for value in self._infer(self._student, self._mel)]

    def peak_on_device(self) -> int:
        """Bytes, 0 on the host."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def log_mel_call(front_end: FrontEnd, waveforms: np.ndarray) -> Call:
    """The log-mel of <float32>[B, N] on the device."""
    on_device = jax.device_put(waveforms, jax.devices()[0])
    compiled = jax.jit(partial(log_mel_jax, front_end=front_end))
    return lambda: compiled(on_device).block_until_ready()
