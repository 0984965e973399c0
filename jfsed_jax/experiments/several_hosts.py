"""What it costs a train step to be several processes' over a network: a row of the benchmark."""

import json
import multiprocessing
import os
import socket
import sys
import time
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jfsed_jax import hosts
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.errors import one_line
from jfsed_jax.experiments import our_side
from jfsed_jax.experiments.benchmark_data import make_batch
from jfsed_jax.experiments.measuring import time_call
from jfsed_jax.method import parallel
from jfsed_jax.method.state import initial_state

_PROCESSES = 2
_STEPS = 12  # that are timed, after two that are not
LIMIT = 300.0  # seconds for all that is measured here


def row(config, size: int, seconds: float = LIMIT) -> dict[str, Any]:
    """A train step of two processes on this machine, beside that of one with the same devices.

    They talk over loopback, which is faster than a network is; the difference is what exchanging
    gradients and statistics costs at least. Of an accelerator each process has half of the devices.

    Args:
      config: as ``configs/base.py`` lays it out.
      size: clips in a batch, of all processes.
      seconds: that one process and two may take together.

    Returns:
      A row as `benchmarking.benchmark` has them: ``times_one`` is the step's time over that of one
      process. Or one that says why there is none.
    """
    name, devices = {"name": "two hosts", "note": ""}, jax.device_count()
    if devices % _PROCESSES:
        return name | {"skipped": f"{_PROCESSES} processes cannot share {devices} devices equally"}
    until = time.monotonic() + seconds
    try:
        one = time_steps(config, size, devices, 1, seconds)
        two = time_steps(config, size, devices, _PROCESSES, until - time.monotonic())
    except Exception as error:  # a row with a reason, whatever the reason is
        return name | {"skipped": one_line(str(error))}
    times = two[0] / one[0]
    return name | {
        "ours": {"seconds": two[0], "cpu_seconds": two[1], "calls": _STEPS},
        "times_one": times,
        "note": f"processes here, over loopback: {times:.2f} times one ({one[0] * 1e3:.0f} ms)",
    }


def time_steps(
    config, size: int, devices: int, count: int, limit: float = LIMIT
) -> tuple[float, float]:
    """Median seconds of a step, of the wall and of the CPU time of all `count` processes.

    Args:
      config, size: see `row`.
      devices: of all processes.
      count: of processes.
      limit: seconds after which they are given up.

    Raises:
      RuntimeError: a process has failed, or they took too long.
    """
    context = multiprocessing.get_context("spawn")
    address = f"localhost:{_free_port()}"
    pipes, processes = [], []
    for index in range(count):
        ours, theirs = context.Pipe(duplex=False)
        work = (config.to_json(), size, devices // count, address, count, index, theirs)
        process = context.Process(target=_steps, args=work, daemon=True)
        process.start()
        theirs.close()  # the child's alone now, so that its end is seen
        pipes.append(ours)
        processes.append(process)
    try:
        until = time.monotonic() + limit
        found: dict[Any, Any] = {}
        while len(found) < count:
            left = [pipe for pipe in pipes if pipe not in found]
            # Any of them: of one that has failed, the others would wait in a step.
            ready: list[Any] = wait(left, max(until - time.monotonic(), 0))
            if not ready:
                raise RuntimeError(f"no figure within {max(limit, 0):.0f} s")
            try:
                found |= {pipe: pipe.recv() for pipe in ready}
            except EOFError:
                raise RuntimeError(f"one of {count} processes has failed") from None
    finally:
        # JAX's would wait for each other at their exit; without process 0 they would say so.
        for process in reversed(processes):
            process.kill()
            process.join()
    times = np.array([found[pipe] for pipe in pipes])  # [process, step, wall or CPU]
    wall, cpu = np.median(times[0, :, 0]), np.median(times[:, :, 1].sum(axis=0))
    return float(wall), float(cpu)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def _steps(
    config_json: str, size: int, devices: int, address: str, count: int, index: int, to: Connection
) -> None:
    """In a process of its own: joins the others, and times steps."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # of what gloo says nothing into the table
    config = ml_collections.ConfigDict(json.loads(config_json))
    own = range(index * devices, (index + 1) * devices)
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_cuda_visible_devices", ",".join(map(str, own)))
    if count > 1:
        hosts.start(address, count, index)
    front_end = FrontEnd(**config.front_end)
    mesh, system = parallel.make_mesh(), our_side.make_system(config)
    rows = parallel.own_rows_of_batch(mesh, size)
    split = NamedSharding(mesh, parallel.ONE_BATCH)
    batch = {
        name: jax.make_array_from_process_local_data(split, values[rows])
        for name, values in make_batch(config, front_end, size).items()
    }
    shape = front_end.num_frames, front_end.n_mels
    key = jax.random.key(0)
    init = partial(initial_state, system, input_shape=shape)
    everywhere = NamedSharding(mesh, PartitionSpec())
    options = parallel.once_options(mesh)
    state = jax.jit(init, out_shardings=everywhere, compiler_options=options)(key)
    step = our_side.make_programs(config, system, mesh)["train step"]

    def train() -> None:
        nonlocal state
        state, metrics = step(state, batch, key)
        jax.block_until_ready((state, metrics))

    times = [time_call(train) for _ in range(_STEPS + 2)][2:]
    to.send(times)
    to.close()
    time.sleep(LIMIT)  # until it is killed: the others may still be in a step
