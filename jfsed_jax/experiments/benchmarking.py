"""How fast this is: train step, inference, features, input; beside PyTorch, in one run.

Both sides have the same weights and the same batch, and take turns. Medians are given, and
compilation apart. Neither side augments, adds noise or averages parameters, but for the average
that is the teacher of system 0. Peak memory is that of a process that does two steps of one side,
PyTorch's eager.

A train step counts the operations of three forward passes of each model that it trains, and of one
of a teacher that is an average.
"""

import json
import math
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import ml_collections
import numpy as np

import jfsed_jax
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import our_side, several_hosts, start_up
from jfsed_jax.experiments.benchmark_data import (
    CLASSES,
    ClipsInMemory,
    make_batch,
    make_waveforms,
)
from jfsed_jax.experiments.measuring import Call, peak_host_memory, take_turns
from jfsed_jax.experiments.our_side import OurSide
from jfsed_jax.method.operations import forward_flops, matmul_flops, train_flops
from jfsed_jax.progress import progress_bar

_INPUT_BATCHES = 20  # that a measured call of the input pipeline makes


def load_reference() -> ModuleType:
    """PyTorch's side of the benchmark, `jfsed_jax.experiments.torch_side`.

    Raises:
      InputError: PyTorch is not installed.
    """
    try:
        from jfsed_jax.experiments import torch_side
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError(
            "--reference needs PyTorch, which is not installed: the extra torch, as in "
            "pip install 'jfsed_jax[torch]'"
        ) from error
    return torch_side


def prepare_process(cpu_devices: int) -> None:
    """Sets this process up for measuring; it should do nothing else.

    Before JAX starts: the devices of a CPU, see ``config.cpu_devices``; no cache of compiled
    programs, since compilation is measured; an accelerator's memory is taken as it is needed, since
    two frameworks share it.
    """
    with suppress(RuntimeError):  # JAX has started
        jax.config.update("jax_num_cpu_devices", cpu_devices)
    jax.config.update("jax_enable_compilation_cache", False)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def peak_memory(side: str, config, size: int) -> dict[str, int]:
    """The most bytes that two steps of a side take, beyond imports, in a process of their own.

    Args:
      side: ``ours`` or ``torch``.
      config: see `benchmark`.
      size: clips in a batch.

    Returns:
      ``host``, and ``device``: of an accelerator, else 0.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_memory, side, config.to_json(), size).result()


def _peak_memory(side: str, config_json: str, size: int) -> dict[str, int]:
    config = ml_collections.ConfigDict(json.loads(config_json))
    prepare_process(config.cpu_devices)
    front_end = FrontEnd(**config.front_end)
    batch = make_batch(config, front_end, size)
    jax.devices()
    torch_side = load_reference() if side == "torch" else None
    before = peak_host_memory()
    measured = (
        OurSide(config, batch)
        if torch_side is None
        else torch_side.TorchSide(config, front_end, batch)
    )
    for _ in range(2):
        measured.train()
    return {"host": peak_host_memory() - before, "device": measured.peak_on_device()}


def _input_sides(config, front_end: FrontEnd, torch_side: ModuleType | None) -> dict[str, Call]:
    """Batches of the config's composition, from clips in memory."""
    from jfsed_jax.datasets import pipeline  # needs grain

    arguments: dict[str, Any] = {"num_classes": CLASSES, "frame_rate": front_end.frame_rate}
    clips = ClipsInMemory(front_end)
    kinds = {kind: count for kind, count in config.batch.items() if count}
    sides = {"ours": pipeline.batches(dict.fromkeys(kinds, clips), kinds, seed=0, **arguments)}
    if torch_side is not None:
        to_arrays = [partial(pipeline.to_arrays, kind=kind, **arguments) for kind in kinds]
        sides["torch"] = torch_side.loader_batches(clips, to_arrays, kinds.values())

    def some(batches):
        for _ in range(_INPUT_BATCHES):
            next(batches)

    return {name: partial(some, batches) for name, batches in sides.items()}


class _Rows:
    """The rows of the result, as they are measured."""

    def __init__(self, ceiling: float, compile_seconds: dict[str, float], bar):
        self.rows: list[dict[str, Any]] = []
        self._ceiling, self._compile_seconds, self._bar = ceiling, compile_seconds, bar

    def add(self, entry: dict[str, Any]) -> dict[str, Any]:
        self.rows.append(entry)
        self._bar.update()
        return entry

    def measure(
        self, name: str, sides: dict[str, Call], flops: int | None = None, per: int = 1, note=""
    ) -> dict[str, Any]:
        """Times the sides of a row; a call does its work `per` times, of `flops` operations."""
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
            entry["share_of_ceiling"] = entry["flops_per_second"] / self._ceiling
        if name in self._compile_seconds:
            entry["compile_seconds"] = self._compile_seconds[name]
        return self.add(entry)


def _measure(
    config, size: int, torch_side: ModuleType | None, compiled: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of the table, and what was found beside them."""
    front_end = FrontEnd(**config.front_end)
    batch = make_batch(config, front_end, size)
    seeds = config.num_seeds
    bar = progress_bar(total=6 + (seeds > 1), desc="benchmark", unit="row", leave=False)
    names = ["ours"] if torch_side is None else ["ours", "torch"]
    memory = {name: peak_memory(name, config, size) for name in names}
    bar.update()
    ours, theirs = OurSide(config, batch, seeds), None
    if torch_side is not None:
        theirs = torch_side.TorchSide(config, front_end, batch, ours.variables, compiled)
    bar.update()
    found: dict[str, Any] = {"ceiling_flops": matmul_flops(config.compute_dtype)}
    if theirs is not None:
        pairs = zip(ours.infer(), theirs.infer(), strict=True)
        found["largest_difference"] = max(float(np.abs(a - b).max()) for a, b in pairs)
        found["torch_threads"] = theirs.choose_threads()
    table = _Rows(found["ceiling_flops"], ours.compile_seconds, bar)

    def both(method: str) -> dict[str, Call]:
        sides = {"ours": getattr(ours, method)}
        return sides if theirs is None else sides | {"torch": getattr(theirs, method)}

    train_flops, student_flops = _operations(ours, front_end, size)
    one = table.measure("train step", both("train"), train_flops)
    if seeds > 1:
        all_flops = None if train_flops is None else seeds * train_flops
        several = table.measure("seeds", {"ours": ours.train_seeds}, all_flops)
        times = several["ours"]["seconds"] / one["ours"]["seconds"]
        several |= {"times_one": times, "note": f"{seeds} as one program: {times:.2f} times one"}
    table.measure("inference", both("infer"), student_flops, note="student")

    waveforms = make_waveforms(front_end, size)
    features = {"ours": our_side.log_mel_call(front_end, waveforms)}
    if torch_side is not None and theirs is not None:
        features["torch"] = torch_side.log_mel_call(front_end, waveforms, theirs.device)
    table.measure("features", features, note="on the device")
    try:
        sides = _input_sides(config, front_end, torch_side)
    except ImportError as error:
        table.add({"name": "input", "skipped": f"{error.name} is not installed"})
    else:
        note = f"a batch of {sum(config.batch.values())} from memory"
        table.measure("input", sides, per=_INPUT_BATCHES, note=note)
    bar.close()
    return [*table.rows, _memory_row(memory)], found


def _operations(ours: OurSide, front_end: FrontEnd, size: int) -> tuple[int | None, int | None]:
    """Floating-point operations of a train step and of the student's inference, where known."""
    shape = front_end.num_frames, front_end.n_mels
    step, student = train_flops(ours.models, *shape), forward_flops(ours.models.student, *shape)
    return (
        None if step is None else size * step,
        None if student is None else size * student,
    )


def _memory_row(memory: dict[str, dict[str, int]]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": "peak memory", **memory}
    where = "device" if memory["ours"]["device"] else "host"
    if len(memory) == 2:
        entry["ratio"] = memory["torch"][where] / memory["ours"][where]
    return entry | {"where": where, "note": f"{where}, with compilation"}


def machine_name() -> str:
    """The accelerators, or the cores and the CPU's name."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((li.split(": ")[1] for li in lines if li.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"{cores} cores, {name}"


def without_extras(config):
    """A config without noise, and without an average that is no teacher: PyTorch's has neither."""
    config = config.copy_and_resolve_references()
    config.teacher_noise = 0.0
    if config.scheme != "mean_teacher":
        config.optimiser.ema_decay = 0.0
    return config


def benchmark(
    config, *, size: int | None = None, reference: str | None = None, processes: bool = False
) -> dict[str, Any]:
    """Measures; the result is JSON-able and `format_table` prints it.

    This process is left as it is: `prepare_process` is for the caller whose own it is.

    Args:
      config: as ``configs/base.py`` lays it out; without its augmentation, noise and averaging.
      size: clips in a batch; by default the config's.
      reference: measure PyTorch beside it: ``torch``, eager, or ``torch.compile``.
      processes: measure what takes processes of its own too, see `start_up` and `several_hosts`:
        minutes more, and no longer than their limits.

    Raises:
      InputError: no reference, or the batch cannot be shared by the devices.
    """
    trained, config = config, without_extras(config)
    size = size or sum(config.batch.values())
    torch_side = load_reference() if reference else None
    if size % jax.device_count():
        raise InputError(f"--batch={size}: make it a multiple of the {jax.device_count()} devices")
    rows, found = _measure(config, size, torch_side, reference == "torch.compile")
    load = os.getloadavg()[0]
    if processes:
        with progress_bar(total=2, desc="processes", unit="part", leave=False) as bar:
            rows += start_up.rows(trained)
            bar.update()
            rows.append(several_hosts.row(config, size))
    versions = {"jfsed_jax": jfsed_jax.__version__, "jax": jax.__version__}
    if torch_side is not None:
        versions["torch"] = torch_side.torch.__version__
    return {
        "config": f"{config.system}:{config.size}",
        "batch": size,
        "dtype": config.compute_dtype,
        "reference": reference,
        "machine": machine_name(),
        "devices": jax.device_count(),
        "load_average": load,
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
