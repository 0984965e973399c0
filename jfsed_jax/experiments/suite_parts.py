"""The parts of `suite`, each for a process of its own; they start JAX and return plain values.

All take the config as JSON, ``config.to_json()``, the clips of a batch and about how many seconds
one row's repeats may take. Nothing here needs librosa, sed_eval, tfds or grain, nor PyTorch but
for the parts that measure it.
"""

import hashlib
import itertools
import json
import time
import warnings
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import our_side
from jfsed_jax.experiments.benchmark_data import CLASSES, make_batch, make_waveforms
from jfsed_jax.experiments.benchmarking import load_reference, machine_name, prepare_process
from jfsed_jax.experiments.cards import measured_card
from jfsed_jax.experiments.measuring import Call, peak_host_memory, take_turns
from jfsed_jax.experiments.our_side import OurSide
from jfsed_jax.experiments.roofline import step_roofline
from jfsed_jax.method.layers import BiGRU
from jfsed_jax.method.system import models_from_config
from jfsed_jax.training.energy import Energy

Part = dict[str, Any]
STEPS_BETWEEN = 5  # of a run before and after its state is saved
_MOST_STEPS = 500
_BACKENDS = ("triton", "mosaic_gpu")  # of Pallas, in the names of their kernels' calls


def measure_ours(config_json: str, size: int, seconds: float, loop: str) -> Part:
    """Train step, the student's inference and its BGRUs alone, with the recurrence run by `loop`.

    Returns:
      Seconds of ``train step``, ``inference`` and ``recurrence``, where there is one;
      ``compile_seconds``; ``peak_memory``, bytes of two steps; ``posteriors`` before any step;
      ``variables``, see `OurSide`; ``machine``, ``devices``, ``versions``.

    Raises:
      InputError: `loop` is a kernel, and there is none for this device or this model.
    """
    config, front_end = _start(config_json)
    config.gru_loop = loop
    jax.devices()
    if loop != "scan":
        _check_kernels(config, front_end)
    before = peak_host_memory()
    ours = OurSide(config, make_batch(config, front_end, size))
    posteriors = ours.infer()
    for _ in range(2):
        ours.train()
    peak = ours.peak_on_device() or peak_host_memory() - before
    calls: dict[str, Call] = {"train step": ours.train, "inference": ours.infer}
    if layers := _recurrent_layers(config, front_end):
        calls["recurrence"] = _recurrence_call(config, size, layers)
    return _seconds(calls, seconds) | {
        "compile_seconds": ours.compile_seconds["train step"],
        "peak_memory": peak,
        "posteriors": posteriors,
        "variables": ours.variables,
        "machine": machine_name(),
        "devices": jax.device_count(),
        "versions": {"jax": jax.__version__},
    }


def measure_torch(
    config_json: str, size: int, seconds: float, compiled: bool, variables: dict[str, Any] | None
) -> Part:
    """As `measure_ours` of PyTorch, eager or compiled; it chooses by trying.

    On a GPU cuDNN its kernels, on a CPU between all threads and one.
    """
    config, front_end = _start(config_json)
    torch_side = load_reference()
    torch_side.try_all_kernels()
    jax.devices()
    before = peak_host_memory()
    batch = make_batch(config, front_end, size)
    since = time.perf_counter()
    theirs = torch_side.TorchSide(config, front_end, batch, variables, compiled)
    posteriors = theirs.infer()
    theirs.train()
    first = time.perf_counter() - since
    theirs.train()
    peak = theirs.peak_on_device() or peak_host_memory() - before
    if theirs.device.type == "cpu":
        theirs.choose_threads()
    calls: dict[str, Call] = {"train step": theirs.train, "inference": theirs.infer}
    if layers := _recurrent_layers(config, front_end):
        calls["recurrence"] = theirs.recurrence_call(size, *layers)
    return _seconds(calls, seconds) | {
        "compile_seconds": first,
        "peak_memory": peak,
        "posteriors": posteriors,
        "versions": {"torch": torch_side.torch.__version__},
    }


def measure_seeds(config_json: str, size: int, seconds: float, seeds: int) -> Part:
    """A step of one model and of several as one program, taking turns: ``one`` and ``several``."""
    config, front_end = _start(config_json)
    ours = OurSide(config, make_batch(config, front_end, size), seeds)
    timings = take_turns({"one": ours.train, "several": ours.train_seeds}, seconds)
    return {name: timing.seconds for name, timing in timings.items()} | {
        "compile_seconds": ours.compile_seconds["seeds"]
    }


def train_many(config_json: str, size: int, seconds: float) -> Part:
    """``steps``, 500 or as many as there is time for, ``seconds`` and ``joules`` of all of them.

    Joules are those of the whole machine, None where it does not tell. Each step has a batch of its
    own, which goes from the host to the device, and no step is waited for.
    """
    config, front_end = _start(config_json)
    batch = make_batch(config, front_end, size)
    ours = OurSide(config, batch)
    order = [np.random.default_rng(i).permutation(size) for i in range(8)]
    batches = [{name: values[own] for name, values in batch.items()} for own in order]

    def run(steps: int) -> float:
        since = time.perf_counter()
        ours.train_on(itertools.islice(itertools.cycle(batches), steps))
        return time.perf_counter() - since

    run(3)
    # A row of many repeats: it may take three times as long.
    steps = min(_MOST_STEPS, max(int(9 * seconds / run(3)), 3))
    energy = Energy()
    taken = run(steps)
    return {"steps": steps, "seconds": taken, "joules": energy.used()}


def train_and_save(config_json: str, size: int, seconds: float) -> Part:
    """Steps with deterministic kernels, a state saved half-way; what the kernels cost.

    Returns:
      ``saved``, the state after `STEPS_BETWEEN` steps; ``digest`` of that after twice as many;
      ``deterministic`` and ``default``, seconds of a step of either kind, taking turns;
      ``default_repeats``, whether the second half done again without them gave the same bits.
    """
    config, front_end = _start(config_json)
    batch = make_batch(config, front_end, size)
    ours = OurSide(config, batch, deterministic=True)
    _steps(ours)
    saved = ours.saved()
    digest = _steps(ours)
    default = OurSide(config, batch)
    found = []
    for _ in range(2):
        default.restore(saved)
        found.append(_steps(default))
    sides: dict[str, Call] = {"deterministic": ours.train, "default": default.train}
    timings = take_turns(sides, seconds)
    return {name: timing.seconds for name, timing in timings.items()} | {
        "saved": saved,
        "digest": digest,
        "default_repeats": found[0] == found[1],
    }


def resume(config_json: str, size: int, seconds: float, saved: Any) -> Part:
    """``digest`` of the state after `STEPS_BETWEEN` steps from one of another process."""
    config, front_end = _start(config_json)
    ours = OurSide(config, make_batch(config, front_end, size), deterministic=True)
    ours.restore(saved)
    return {"digest": _steps(ours)}


def measure_ceiling(config_json: str, size: int, seconds: float) -> Part:
    """The roofline of one device by its own measured figures, see `roofline.step_roofline`."""
    config, _ = _start(config_json)
    return step_roofline(config, measured_card(config.compute_dtype), size)


def measure_log_mel(config_json: str, size: int, seconds: float) -> Part:
    """Seconds of the log-mel of a batch on the device: ``ours`` and, if installed, ``torch``."""
    _, front_end = _start(config_json)
    waveforms = make_waveforms(front_end, size)
    sides = {"ours": our_side.log_mel_call(front_end, waveforms)}
    try:
        torch_side = load_reference()
    except InputError:
        pass
    else:
        sides["torch"] = torch_side.log_mel_call(front_end, waveforms, torch_side.choose_device())
    return {name: timing.seconds for name, timing in take_turns(sides, seconds).items()}


def _start(config_json: str) -> tuple[Any, FrontEnd]:
    config = ml_collections.ConfigDict(json.loads(config_json))
    prepare_process(config.cpu_devices)
    return config, FrontEnd(**config.front_end)


def _check_kernels(config, front_end: FrontEnd) -> None:
    """Raises an `InputError` where ``config.gru_loop`` would be the scan all the same."""
    model = models_from_config(config, classes=CLASSES).student
    mel = jax.ShapeDtypeStruct((1, front_end.num_frames, front_end.n_mels), jnp.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated")
        # JAX lacks what the kernels need.
        warnings.filterwarnings("error", "The GRU runs as a scan")
        try:
            variables = jax.eval_shape(model.init, jax.random.key(0), mel)
            text = jax.jit(model.apply).lower(variables, mel).as_text()
        except UserWarning as warning:
            raise InputError(str(warning)) from warning
    if not any(backend in text for backend in _BACKENDS):
        raise InputError("no kernel: there are for CUDA devices and 16, 32 or 64 hidden units")


def _seconds(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """Medians, one after the other."""
    return {name: take_turns({name: call}, seconds)[name].seconds for name, call in calls.items()}


def _steps(side: OurSide) -> str:
    """Takes `STEPS_BETWEEN` steps; the digest of the state after them."""
    for _ in range(STEPS_BETWEEN):
        side.train()
    return digest_of(side.saved())


def digest_of(state: Any) -> str:
    """Of every bit of a tree of arrays."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _recurrent_layers(config, front_end: FrontEnd) -> tuple[int, int, int, int] | None:
    """(frames, features, hidden units, layers) of the student's BGRUs; None if it has none."""
    student = config.student
    if not student.get("gru_layers"):
        return None
    model = models_from_config(config, classes=CLASSES).student
    mel = jax.ShapeDtypeStruct((1, front_end.num_frames, front_end.n_mels), jnp.float32)
    output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), mel)
    return (*output.features.shape[1:], student.gru_hidden, student.gru_layers)


def _recurrence_call(config, size: int, layers: tuple[int, int, int, int]) -> Call:
    """Forward and backward of BGRU layers of the computation's type, by input and parameters."""
    frames, features, hidden, count = layers

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(count):
                x = BiGRU(hidden, jnp.dtype(config.compute_dtype), config.gru_loop)(x)
            return x

    noise = np.random.default_rng(0).normal(size=(size, frames, features))
    x = jnp.asarray(noise, config.compute_dtype)
    module: Any = Layers()
    params = jax.jit(module.init)(jax.random.key(0), x)

    @jax.jit
    def gradient(params, x):
        return jax.grad(
            lambda params, x: jnp.mean(module.apply(params, x).astype(jnp.float32) ** 2), (0, 1)
        )(params, x)

    return lambda: jax.block_until_ready(gradient(params, x))
