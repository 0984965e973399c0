"""How fast this is: train step, inference, features, input; beside PyTorch, in one run.

Both sides have the same weights and the same batch, and take turns, so that a machine that is
busy for a while is busy for both. Medians are given, and compilation apart. Neither side augments,
adds noise or averages parameters, but for the average that is the teacher of system 0. Peak memory
is that of a process that does two steps of one side, PyTorch's eager.

Floating-point operations are those of convolutions (padding included), matrix products and GRUs
as the layers' sizes give them, two a multiply-add; a train step counts three forward passes of each
model that it trains, and one of a teacher that is an average.
"""

import importlib.util
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from tqdm import tqdm

import jfsed_jax
from jfsed_jax.audio.device import log_mel_jax
from jfsed_jax.audio.front_end import FrontEnd, mel_basis
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import torch_weights as from_torch
from jfsed_jax.method import step as train_step
from jfsed_jax.method.memory import release_freed_memory
from jfsed_jax.method.models import CRNN, BaselineCRNN, GuidedCNN
from jfsed_jax.method.state import teacher_params

CLASSES = 10
_STEPS_PER_EPOCH = 450
_SECONDS = 20.0  # that a row's repeats may take
_REFERENCE = Path(__file__).parents[1] / "tests" / "torch_reference.py"

Call = Callable[[], Any]


class Timing(NamedTuple):
    """Medians of wall time and of the process's CPU time, and of how many calls."""

    seconds: float
    cpu_seconds: float
    calls: int


def take_turns(sides: dict[str, Call], seconds: float = _SECONDS) -> dict[str, Timing]:
    """Calls each side in turn, after one call of each that is not counted."""
    first = sum(_timed(call)[0] for call in sides.values())
    repeats = min(max(int(seconds / max(first, 1e-3)), 3), 50)
    taken: dict[str, list] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, call in sides.items():
            taken[name].append(_timed(call))
    medians = {name: np.median(times, axis=0) for name, times in taken.items()}
    return {name: Timing(float(m[0]), float(m[1]), repeats) for name, m in medians.items()}


def _timed(call: Call) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def forward_flops(model: CRNN | GuidedCNN | BaselineCRNN, frames: int, bands: int) -> int:
    """Floating-point operations of one clip through a model."""
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


def make_batch(config, front_end: FrontEnd, size: int) -> dict[str, np.ndarray]:
    """Noise with the level of a log-mel, of each kind the config's share, and some labels."""
    rng = np.random.default_rng(0)
    shares = np.cumsum([config.batch.weak, config.batch.unlabelled, config.batch.strong])
    kind = np.searchsorted(shares / shares[-1], (np.arange(size) + 0.5) / size)
    frames = front_end.num_frames
    frame_labels = np.zeros((size, frames, CLASSES), np.uint8)
    frame_labels[kind == 2, frames // 4 : frames // 2, 1] = 1
    return {
        "mel": rng.normal(-5, 2, (size, frames, front_end.n_mels)).astype(np.float16),
        "clip_labels": (rng.random((size, CLASSES)) < 0.2).astype(np.float32),
        "frame_labels": frame_labels,
        "is_weak": (kind == 0).astype(np.float32),
        "is_strong": (kind == 2).astype(np.float32),
    }


class Ours:
    """The step and the student's inference, compiled as training and prediction compile them.

    With `seeds` > 1 also the step of that many models at once, on the same batch.
    """

    def __init__(self, config, batch: dict[str, np.ndarray], seeds: int = 1):
        make = partial(
            train_step.make_system,
            config,
            num_classes=CLASSES,
            steps_per_epoch=_STEPS_PER_EPOCH,
        )
        self.system = make(axis_name=train_step.AXIS)
        mesh = train_step.make_mesh()
        spec = jax.sharding.PartitionSpec
        everywhere = jax.sharding.NamedSharding(mesh, spec())
        split = jax.sharding.NamedSharding(mesh, spec(train_step.AXIS))
        create = jax.jit(partial(train_step.initial_state, self.system, config))
        self.state = jax.device_put(create(jax.random.key(0)), everywhere)
        params = self.state.params | {"teacher": teacher_params(self.state)}
        params, stats = jax.device_get((params, self.state.batch_stats))
        self.variables = {"params": params, "batch_stats": stats}
        student = {"params": params["student"], "batch_stats": stats["student"]}
        self._student = jax.device_put(student, everywhere)
        self._batch = jax.device_put(batch, split)
        self._mel = jax.device_put(batch["mel"].astype(np.float32), split)
        self._key = jax.random.key(0)
        release_freed_memory()  # as training does

        one_step = partial(train_step.train_step, system=self.system, axis_name=train_step.AXIS)
        step = train_step.data_parallel(one_step, mesh)
        student_alone = make(axis_name=None).student
        infer = jax.jit(lambda variables, mel: student_alone.apply(variables, mel)[:2])
        self.compile_seconds, compiled = {}, {}
        programs: list[tuple[str, Any, tuple]] = [
            ("train step", step, (self.state, self._batch, self._key)),
            ("inference", infer, (self._student, self._mel)),
        ]
        if seeds > 1:
            self._keys = jax.random.split(self._key, seeds)
            self._states = jax.device_put(create(self._keys), everywhere)
            several = train_step.several_seeds(one_step, share_batch=True)
            together = train_step.data_parallel(several, mesh)
            programs.append(("seeds", together, (self._states, self._batch, self._keys)))
        for name, function, arguments in programs:
            since = time.perf_counter()
            compiled[name] = function.lower(*arguments).compile()
            self.compile_seconds[name] = time.perf_counter() - since
        self._step, self._infer = compiled["train step"], compiled["inference"]
        self._together = compiled.get("seeds")
        release_freed_memory()  # training does after the first step, which it compiles by calling

    def train(self) -> None:
        self.state, metrics = self._step(self.state, self._batch, self._key)
        jax.block_until_ready((self.state, metrics))

    def train_seeds(self) -> None:
        assert self._together is not None
        self._states, metrics = self._together(self._states, self._batch, self._keys)
        jax.block_until_ready((self._states, metrics))

    def infer(self) -> list[np.ndarray]:
        return [np.asarray(value) for value in self._infer(self._student, self._mel)]


class Torch:
    """The same of ``tests/torch_reference.py``, eager, or with its models compiled."""

    def __init__(
        self, module: ModuleType, config, front_end: FrontEnd, batch, variables=None, compiled=False
    ):
        import torch

        self._torch, self._module, self._config = torch, module, config
        on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self._system = module.System(config, CLASSES, front_end.n_mels).to(self.device)
        if variables is not None:
            state = from_torch.to_torch(variables)
            self._system.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
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
        self._system.train()
        with self._cast():
            self._module.train_step(
                self._system,
                self._optimiser,
                self._batch,
                self._steps,
                steps_per_epoch=_STEPS_PER_EPOCH,
                config=self._config,
            )
        self._steps += 1
        if self.device.type == "cuda":
            self._torch.cuda.synchronize()

    def infer(self) -> list[np.ndarray]:
        self._system.eval()
        with self._torch.inference_mode(), self._cast():
            output = self._system.student(self._batch["mel"])
        return [value.float().cpu().numpy() for value in output[:2]]

    def choose_threads(self) -> int:
        """Uses one thread instead of all where that is faster, as on a busy machine."""
        taken = {}
        for threads in {self._torch.get_num_threads(), 1}:
            self._torch.set_num_threads(threads)
            self.train()
            taken[threads] = _timed(self.train)[0]
        fastest = min(taken, key=taken.__getitem__)
        self._torch.set_num_threads(fastest)
        return fastest

    def peak_on_device(self) -> int:
        """Bytes, 0 on the host."""
        return self._torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0


def load_reference() -> ModuleType:
    """``tests/torch_reference.py`` of this clone.

    Raises:
      InputError: there is none, or no PyTorch.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("--reference needs PyTorch, which is not installed: the extra torch")
    if not _REFERENCE.exists():
        raise InputError(f"--reference needs {_REFERENCE}: run the command from a clone")
    spec = importlib.util.spec_from_file_location("torch_reference", _REFERENCE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _use_devices(config) -> None:
    train_step.use_cpu_devices(config.cpu_devices)
    # What is measured is compilation, not the reading of a cache.
    jax.config.update("jax_enable_compilation_cache", False)
    # Two frameworks share an accelerator: neither takes it all.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def _peak_memory(side: str, config_json: str, size: int) -> dict[str, int]:
    """Bytes this process takes, beyond imports, for two steps; and on an accelerator."""
    import resource

    def peak() -> int:
        status = Path("/proc/self/status")
        if status.exists():
            # Not ru_maxrss: on Linux a child starts with that of the process it was forked from.
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
            return 1024 * int(found[1]) if found else 0
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    config = ml_collections.ConfigDict(json.loads(config_json))
    _use_devices(config)
    front_end = FrontEnd(**config.front_end)
    batch = make_batch(config, front_end, size)
    jax.devices()
    if side == "ours":
        before = peak()
        ours = Ours(config, batch)
        for _ in range(2):
            ours.train()
        on_device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    else:
        module = load_reference()
        before = peak()
        theirs = Torch(module, config, front_end, batch)
        for _ in range(2):
            theirs.train()
        on_device = theirs.peak_on_device()
    return {"host": peak() - before, "device": on_device}


def peak_memory(side: str, config, size: int) -> dict[str, int]:
    """`_peak_memory` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_memory, side, config.to_json(), size).result()


class _Sources:
    """As many clips as DCASE 2019 has weak ones, for the input pipeline: 16, over and over."""

    def __init__(self, front_end: FrontEnd):
        rng = np.random.default_rng(0)
        shape = (front_end.num_frames, front_end.n_mels)
        self._mels = [rng.normal(-5, 2, shape).astype(np.float16) for _ in range(16)]
        self.filenames = [f"{i}.wav" for i in range(1578)]

    def __len__(self) -> int:
        return len(self.filenames)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {
            "mel": self._mels[i % len(self._mels)],
            "clip_labels": np.zeros(CLASSES, np.float32),
            "onsets": np.array([0.5, 3.0, 8.0]),
            "offsets": np.array([2.0, 9.5, 8.4]),
            "labels": np.array([1, 4, 9], np.int32),
        }


def _input_sides(config, front_end: FrontEnd, module: ModuleType | None) -> dict[str, Call]:
    """Twenty batches of the config's composition, from clips in memory."""
    from jfsed_jax.datasets import pipeline

    arguments: dict[str, Any] = {"num_classes": CLASSES, "frame_rate": front_end.frame_rate}
    source = _Sources(front_end)
    kinds = {kind: count for kind, count in config.batch.items() if count}
    ours = pipeline.batches(dict.fromkeys(kinds, source), kinds, seed=0, **arguments)
    sides = {"ours": ours}
    if module is not None:

        class Arrays:
            def __init__(self, kind: str):
                self.kind = kind

            def __len__(self) -> int:
                return len(source)

            def __getitem__(self, i: int):
                return pipeline.to_arrays(source[i], kind=self.kind, **arguments)

        sides["torch"] = module.batches([Arrays(kind) for kind in kinds], kinds.values())

    def twenty(iterator):
        for _ in range(20):
            next(iterator)

    return {name: partial(twenty, iterator) for name, iterator in sides.items()}


def _feature_sides(
    front_end: FrontEnd, size: int, module: ModuleType | None, theirs: Torch | None
) -> dict[str, Call]:
    """Log-mel of a batch of clips on the device."""
    noise = np.random.default_rng(0).normal(0, 0.1, (size, front_end.num_samples))
    waveforms = jax.device_put(noise.astype(np.float32), jax.devices()[0])
    ours = jax.jit(partial(log_mel_jax, front_end=front_end))
    sides: dict[str, Call] = {"ours": lambda: ours(waveforms).block_until_ready()}
    if module is not None and theirs is not None:
        import torch

        tensor = torch.from_numpy(noise.astype(np.float32)).to(theirs.device)
        basis = torch.from_numpy(mel_basis(front_end)).to(theirs.device)
        sides["torch"] = lambda: module.log_mel(tensor, basis, front_end).cpu()
    return sides


def matmul_flops(dtype: str) -> float:
    """The device's ceiling: operations a second of one large matrix product, the best of ten."""
    n = 2048 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((n, n), dtype)
    product = jax.jit(jnp.matmul)
    call = lambda: product(square, square).block_until_ready()  # noqa: E731
    call()
    return 2 * n**3 / min(_timed(call)[0] for _ in range(10))


def _rows(
    config, size: int, module: ModuleType | None, compiled: bool
) -> tuple[list[dict], dict[str, Any]]:
    """The rows of the table, and what was found beside them."""
    front_end = FrontEnd(**config.front_end)
    batch = make_batch(config, front_end, size)
    names = ["ours"] if module is None else ["ours", "torch"]
    bar = tqdm(
        total=6 + (config.num_seeds > 1),
        desc="benchmark",
        dynamic_ncols=True,
        leave=False,
        disable=None,
    )
    memory = {name: peak_memory(name, config, size) for name in names}
    bar.update()
    ours = Ours(config, batch, config.num_seeds)
    theirs = None
    if module is not None:
        theirs = Torch(module, config, front_end, batch, ours.variables, compiled)
    bar.update()
    found: dict[str, Any] = {"ceiling_flops": matmul_flops(config.compute_dtype)}
    if theirs is not None:
        pairs = zip(ours.infer(), theirs.infer(), strict=True)
        found["largest_difference"] = max(float(np.abs(a - b).max()) for a, b in pairs)
        found["torch_threads"] = theirs.choose_threads()

    forward = {
        name: forward_flops(getattr(ours.system, name), front_end.num_frames, front_end.n_mels)
        for name in ("teacher", "student")
    }
    rows = []

    def row(name: str, sides: dict[str, Call], flops: int | None = None, per: int = 1, note=""):
        timings = take_turns(sides)
        entry: dict[str, Any] = {"name": name, "note": note}
        for side, timing in timings.items():
            entry[side] = timing._asdict()
            entry[side]["seconds"] /= per
            entry[side]["cpu_seconds"] /= per
        if len(timings) == 2:
            entry["ratio"] = entry["torch"]["seconds"] / entry["ours"]["seconds"]
        if flops:
            entry["flops"] = flops
            entry["flops_per_second"] = flops / entry["ours"]["seconds"]
            entry["share_of_ceiling"] = entry["flops_per_second"] / found["ceiling_flops"]
        if name in ours.compile_seconds:
            entry["compile_seconds"] = ours.compile_seconds[name]
        rows.append(entry)
        bar.update()

    def both(method: str) -> dict[str, Call]:
        sides = {"ours": getattr(ours, method)}
        return sides if theirs is None else sides | {"torch": getattr(theirs, method)}

    trained = sum(forward[name] for name in ("teacher", "student") if name in ours.state.params)
    passes = sum(forward.values()) + 2 * trained  # a gradient costs two
    row("train step", both("train"), size * passes)
    if (seeds := config.num_seeds) > 1:
        row("seeds", {"ours": ours.train_seeds}, seeds * size * passes)
        times = rows[-1]["ours"]["seconds"] / rows[-2]["ours"]["seconds"]
        rows[-1] |= {"times_one": times, "note": f"{seeds} as one program: {times:.2f} times one"}
    row("inference", both("infer"), size * forward["student"], note="student")
    row("features", _feature_sides(front_end, size, module, theirs), note="on the device")
    try:
        sides = _input_sides(config, front_end, module)
    except ImportError as error:
        rows.append({"name": "input", "skipped": f"{error.name} is not installed"})
        bar.update()
    else:
        row("input", sides, per=20, note=f"a batch of {sum(config.batch.values())} from memory")
    bar.close()
    entry: dict[str, Any] = {"name": "peak memory", **memory}
    where = "device" if memory["ours"]["device"] else "host"
    if len(names) == 2:
        entry["ratio"] = memory["torch"][where] / memory["ours"][where]
    rows.append(entry | {"where": where, "note": f"{where}, with compilation"})
    return rows, found


def _machine() -> str:
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((li.split(": ")[1] for li in lines if li.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"{cores} cores, {name}"


def benchmark(config, *, size: int | None = None, reference: str | None = None) -> dict[str, Any]:
    """Measures; the result is JSON-able and `format_table` prints it.

    Args:
      config: as ``configs/base.py`` lays it out; augmentation, noise and averaging are turned off.
      size: clips in a batch; by default the config's.
      reference: measure PyTorch beside it: ``torch``, eager, or ``torch.compile``.

    Raises:
      InputError: no reference, or the batch cannot be shared by the devices.
    """
    config = config.copy_and_resolve_references()
    config.augmentation = dict.fromkeys(config.augmentation, 0.0)
    config.teacher_noise = 0.0
    if config.scheme != "mean_teacher":
        config.optimiser.ema_decay = 0.0
    size = size or sum(config.batch.values())
    module = load_reference() if reference else None
    _use_devices(config)
    if size % jax.device_count():
        raise InputError(f"--batch={size}: make it a multiple of the {jax.device_count()} devices")
    rows, found = _rows(config, size, module, reference == "torch.compile")
    versions = {"jfsed_jax": jfsed_jax.__version__, "jax": jax.__version__}
    if module is not None:
        import torch

        versions["torch"] = torch.__version__
    return {
        "config": f"{config.system}:{config.size}",
        "batch": size,
        "dtype": config.compute_dtype,
        "reference": reference,
        "machine": _machine(),
        "devices": jax.device_count(),
        "load_average": os.getloadavg()[0],
        "versions": versions,
        "rows": rows,
        **found,
    }


def format_table(result: dict[str, Any]) -> str:
    """The result for a person."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    how = " (torch.compile)" if result["reference"] == "torch.compile" else ""
    lines = [
        f"{result['config']}, batch {result['batch']}, {result['dtype']}; {versions}",
        f"{result['machine']}; {result['devices']} JAX devices, "
        + (f"{result['torch_threads']} PyTorch threads{how}, " if "torch_threads" in result else "")
        + f"load {result['load_average']:.1f}",
        f"one matrix product: {result['ceiling_flops'] / 1e9:.0f} GFLOP/s",
    ]
    if "largest_difference" in result:
        lines.append(f"posteriors differ by {result['largest_difference']:.1e} at most")
    header = ["", "this", "cpu", "PyTorch", "cpu", "ratio", "GFLOP/s", "ceiling", "compiled in", ""]
    table = [header] + [_format_row(row) for row in result["rows"]]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines.append("")
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def _format_row(row: dict[str, Any]) -> list[str]:
    if "skipped" in row:
        return [row["name"], *[""] * 8, f"skipped: {row['skipped']}"]
    cells = [row["name"]]
    for side in ("ours", "torch"):
        if side not in row:
            cells += ["", ""]
        elif "where" in row:
            cells += [f"{row[side][row['where']] / 2**20:.0f} MiB", ""]
        else:
            cells += [_duration(row[side]["seconds"]), _duration(row[side]["cpu_seconds"])]
    cells.append(f"{row['ratio']:.2f}" if "ratio" in row else "")
    cells.append(f"{row['flops_per_second'] / 1e9:.1f}" if "flops" in row else "")
    cells.append(f"{row['share_of_ceiling']:.0%}" if "flops" in row else "")
    cells.append(_duration(row["compile_seconds"]) if "compile_seconds" in row else "")
    return [*cells, row["note"]]


def _duration(seconds: float) -> str:
    """Three digits."""
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e3)
    value = seconds * scale
    return f"{value:.{max(2 - int(math.log10(max(value, 1))), 0)}f} {unit}"
