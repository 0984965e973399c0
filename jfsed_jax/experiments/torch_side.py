"""The benchmark's PyTorch side, of `torch_reference`: eager, or with its models compiled."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import torch

from jfsed_jax.audio.front_end import FrontEnd, mel_basis
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import torch_reference
from jfsed_jax.experiments.benchmark_data import CLASSES, STEPS_PER_EPOCH
from jfsed_jax.experiments.measuring import Call, time_call
from jfsed_jax.experiments.torch_models import MODELS, TorchSystem
from jfsed_jax.experiments.torch_weights import to_torch


def choose_device() -> torch.device:
    """A GPU where JAX uses one."""
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def try_all_kernels() -> None:
    """Has cuDNN time its convolutions and keep the fastest, as who trains at one shape would."""
    torch.backends.cudnn.benchmark = True


class TorchSide:
    """The step and the student's inference, on a GPU where JAX uses one.

    Args:
      config, front_end: of the benchmark.
      batch: see `benchmark_data.make_batch`.
      variables: `OurSide.variables` to start from; random ones if None.
      compiled: run both models through ``torch.compile``.

    Raises:
      InputError: the config names a model or a scheme that `torch_reference` does not have.
    """

    def __init__(
        self,
        config,
        front_end: FrontEnd,
        batch: Mapping[str, np.ndarray],
        variables: Mapping[str, Any] | None = None,
        compiled: bool = False,
    ):
        _check(config)
        self._config = config
        self.device = choose_device()
        system = TorchSystem(config, CLASSES, front_end.n_mels)
        self._system = system.to(self.device)
        if variables is not None:
            state = {name: torch.from_numpy(value) for name, value in to_torch(variables).items()}
            self._system.load_state_dict(state)
        if compiled:
            self._system.teacher.compile()
            self._system.student.compile()
        self._batch = {
            name: torch.from_numpy(value.astype(np.float32)).to(self.device)
            for name, value in batch.items()
        }
        self._optimiser = torch.optim.Adam(
            self._system.parameters(), lr=config.optimiser.learning_rate
        )
        self._cast = partial(
            torch.autocast,
            self.device.type,
            torch.bfloat16,
            enabled=config.compute_dtype == "bfloat16",
        )
        self._steps = 0

    def train(self) -> None:
        """One step of both models."""
        self._system.train()
        with self._cast():
            torch_reference.train_step(
                self._system,
                self._optimiser,
                self._batch,
                self._steps,
                steps_per_epoch=STEPS_PER_EPOCH,
                config=self._config,
            )
        self._steps += 1
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def infer(self) -> list[np.ndarray]:
        """The student's clip and frame posteriors, <float32>[B, C] and [B, T', C]."""
        self._system.eval()
        with torch.inference_mode(), self._cast():
            output = self._system.student(self._batch["mel"])
        return [value.float().cpu().numpy() for value in output[:2]]

    def recurrence_call(
        self, size: int, frames: int, features: int, hidden: int, layers: int
    ) -> Call:
        """Forward and backward of BGRU layers, by input and parameters: cuDNN's on a GPU."""
        gru = torch.nn.GRU(features, hidden, layers, batch_first=True, bidirectional=True)
        gru.to(self.device)
        noise = np.random.default_rng(0).normal(size=(size, frames, features))
        x = torch.from_numpy(noise.astype(np.float32)).to(self.device).requires_grad_()

        def call() -> None:
            gru.zero_grad()
            x.grad = None
            with self._cast():
                states = gru(x)[0]
            states.float().square().mean().backward()
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return call

    def choose_threads(self) -> int:
        """Uses one thread instead of all where that is faster, as on a busy machine."""
        taken = {}
        for threads in {torch.get_num_threads(), 1}:
            torch.set_num_threads(threads)
            self.train()
            taken[threads] = time_call(self.train)[0]
        fastest = min(taken, key=taken.__getitem__)
        torch.set_num_threads(fastest)
        return fastest

    def peak_on_device(self) -> int:
        """Bytes, 0 on the host."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0


def _check(config) -> None:
    named = {f"config.{name}.architecture": config[name].architecture
             for name in ("teacher", "student") if name in config}  # fmt: skip
    for name, architecture in named.items():
        if architecture not in MODELS:
            raise InputError(f"--reference: PyTorch has no {architecture}, which is {name}")
    if config.loss.normalisation == "labelled":
        raise InputError("--reference: PyTorch has no config.loss.normalisation labelled")
    if config.scheme not in torch_reference.SCHEMES:
        raise InputError(f"--reference: PyTorch has no config.scheme {config.scheme}")


def log_mel_call(front_end: FrontEnd, waveforms: np.ndarray, device: torch.device) -> Call:
    """The log-mel of <float32>[B, N] on a device, brought to the host."""
    on_device = torch.from_numpy(waveforms).to(device)
    basis = torch.from_numpy(mel_basis(front_end)).to(device)
    return lambda: torch_reference.log_mel(on_device, basis, front_end).cpu()


class _Arrays:
    """Clips as a data set of PyTorch."""

    def __init__(self, clips: Sequence[Any], to_arrays: Callable[[Any], dict[str, np.ndarray]]):
        self._clips, self._to_arrays = clips, to_arrays

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return self._to_arrays(self._clips[i])


def loader_batches(
    clips: Sequence[Any],
    to_arrays: Iterable[Callable[[Any], dict[str, np.ndarray]]],
    composition: Iterable[int],
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of PyTorch's loader.

    Args:
      clips: of every kind.
      to_arrays: of each kind, what makes a clip the arrays of a batch.
      composition: how many clips of each kind a batch has.
    """
    return torch_reference.batches([_Arrays(clips, make) for make in to_arrays], composition)
