"""Independent jobs as processes of their own, so many at a time, each with its share of a machine.

XLA's CPU client starts as many threads as the process may use cores, so a share of the cores is an
affinity that is set before JAX starts; where a system has none, XLA reads ``PJRT_NPROC``. A GPU is
given by ``CUDA_VISIBLE_DEVICES``.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from absl import logging

from jfsed_jax.errors import InputError
from jfsed_jax.training.interrupt import Interrupted, Stop, stop_on_signals

_POLL_SECONDS = 0.2  # between two looks whether a signal has come


class Share(NamedTuple):
    """What one job may use.

    Attributes:
      cores: numbers of CPU cores; empty for all of them.
      gpu: as CUDA_VISIBLE_DEVICES names it, or None.
    """

    cores: tuple[int, ...] = ()
    gpu: str | None = None


class Ended(NamedTuple):
    """A job that is over: what it returned, or why it failed."""

    name: str
    result: Any = None
    error: str | None = None


def machine_shares(jobs: int) -> list[Share]:
    """The equal shares of this machine for so many jobs at a time.

    Raises:
      InputError: there are not so many cores, or GPUs.
    """
    backend, count = jax_devices()
    if backend == "gpu":
        if jobs > count:
            there = "is 1 GPU" if count == 1 else f"are {count} GPUs"
            raise InputError(
                f"--jobs={jobs}, but there {there}: runs on one GPU would share its memory and its "
                "time; at most one job for each"
            )
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = named.split(",") if named else [str(i) for i in range(count)]
        return [Share(gpu=gpu) for gpu in gpus[:jobs]]
    if backend != "cpu":
        raise InputError(
            f"--jobs={jobs}: on a {backend} one process holds all devices; leave --jobs out"
        )
    cores = own_cores()
    if jobs > len(cores):
        there = "is 1 core" if len(cores) == 1 else f"are {len(cores)} cores"
        raise InputError(f"--jobs={jobs}, but there {there}: at most one job for each")
    each = len(cores) // jobs  # the same for all, so that all have as many devices
    return [Share(tuple(cores[i * each : (i + 1) * each])) for i in range(jobs)]


def own_cores() -> list[int]:
    """The CPU cores that this process may use."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def jax_devices() -> tuple[str, int]:
    """JAX's backend and number of devices, asked in a process that ends: here JAX keeps them."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_devices).result()


def _devices() -> tuple[str, int]:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax

    return jax.default_backend(), jax.local_device_count()


@dataclass
class _Running:
    """A job on its way; `message` is its last word, as soon as it has come."""

    name: str
    share: Share
    process: Any
    connection: Connection
    log: threading.Thread
    message: tuple[str, Any] | None = None


def run_jobs(
    jobs: Mapping[str, tuple[Any, ...]], work: Callable[..., Any], shares: list[Share]
) -> Iterator[Ended]:
    """Runs all jobs, one at a time on each share, and yields each as it ends.

    What a job prints and logs comes out on stderr, each line with the name of the job. On the first
    Ctrl-C or SIGTERM no other job begins, and every job gets a SIGINT, once, and the time to save.
    Jobs that lose this process get a SIGTERM.

    Args:
      jobs: by name the arguments of `work`; in this order.
      work: ``(share, *arguments) -> result``, a function of a module. An `InputError` is a job that
        failed, and so is a process that ends without a result; the others go on.
      shares: see `machine_shares`.

    Raises:
      Interrupted: by a signal; all jobs have ended.
    """
    waiting, free = list(jobs.items()), list(shares)
    running: list[_Running] = []
    told = False
    with stop_on_signals() as stop:
        try:
            while running or (waiting and not stop.is_set()):
                while waiting and free and not stop.is_set():
                    name, arguments = waiting.pop(0)
                    number = len(jobs) - len(waiting)
                    logging.info("run %d of %d: %s", number, len(jobs), name)
                    running.append(_start(name, work, arguments, free.pop(0)))
                if stop.is_set() and not told:
                    told = True
                    _tell(running)
                for job in _over(running):
                    running.remove(job)
                    free.append(job.share)
                    ended = _ended(job, stop)
                    if ended is not None:
                        yield ended
        finally:
            for job in running:  # only where this loop is left by an error
                job.process.terminate()
            for job in running:
                job.process.join()
    if stop.signum is not None:
        raise Interrupted("stopped and saved: the same command goes on", stop.signum)


def _start(name: str, work: Callable, arguments: tuple, share: Share) -> _Running:
    context = multiprocessing.get_context("spawn")
    connection, to_parent = context.Pipe(duplex=False)
    lines, to_log = context.Pipe(duplex=False)
    process = context.Process(
        target=_job, args=(work, arguments, share, to_parent, to_log), name=name
    )
    process.start()
    to_parent.close()  # the job's alone now, so that its end is seen
    to_log.close()
    log = threading.Thread(target=_pass_on, args=(name, lines), daemon=True)
    log.start()
    return _Running(name, share, process, connection, log)


def _pass_on(name: str, lines: Connection) -> None:
    """Each line that a job writes to stderr, with its name."""
    with lines, os.fdopen(os.dup(lines.fileno()), errors="replace") as file:
        for line in file:
            with suppress(OSError, ValueError):  # whoever read stderr has gone; the job goes on
                sys.stderr.write(f"[{name}] {line.rstrip()}\n")


def _tell(running: list[_Running]) -> None:
    """SIGINT to every job that is still there.

    Not the signal that came: a scheduler sends SIGTERM to all processes of a job, and of one signal
    the second ends a run at once.
    """
    for job in running:
        with suppress(ProcessLookupError):
            os.kill(job.process.pid, signal.SIGINT)


def _over(running: list[_Running]) -> list[_Running]:
    """Waits a moment; the jobs whose process has ended. Their last words are taken as they come."""
    talking = [job.connection for job in running if job.message is None]
    wait([*talking, *(job.process.sentinel for job in running)], _POLL_SECONDS)
    # Before the words: one that ends while they are taken has said more than was heard.
    over = [job for job in running if not job.process.is_alive()]
    for job in running:
        if job.message is None and job.connection.poll():
            with suppress(EOFError, OSError):
                job.message = job.connection.recv()
    return over


def _ended(job: _Running, stop: Stop) -> Ended | None:
    """What became of a job; None where it was stopped."""
    job.process.join()
    job.log.join(timeout=5)
    job.connection.close()
    kind, value = job.message or ("lost", None)
    if kind == "done":
        return Ended(job.name, value)
    if kind == "failed":
        return Ended(job.name, error=value)
    if stop.is_set():
        return None
    if kind == "stopped":
        return Ended(job.name, error="a signal to it alone stopped it; the same command goes on")
    status = job.process.exitcode
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return Ended(
        job.name,
        error=f"its process ended with {how}: see its lines of the log; signal 9 without any is "
        "mostly for want of memory, so give fewer --jobs",
    )


def _job(
    work: Callable, arguments: tuple, share: Share, to_parent: Connection, to_log: Connection
) -> None:
    """What runs in the process of a job."""
    os.setsid()  # Ctrl-C in a terminal goes to all of a group; here the parent passes it on, once
    for descriptor in (1, 2):
        os.dup2(to_log.fileno(), descriptor)
    to_log.close()
    if share.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = share.gpu
    if share.cores and sys.platform == "linux":
        os.sched_setaffinity(0, share.cores)
    elif share.cores:
        os.environ["PJRT_NPROC"] = str(len(share.cores))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        message = ("done", work(share, *arguments))
    except InputError as error:
        message = ("failed", str(error))
    except KeyboardInterrupt as error:
        logging.info("%s", str(error) or "stopped")
        message = ("stopped", None)
    to_parent.send(message)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # The reader of its lines has gone: an error on one would keep the job from saving.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        os.kill(os.getpid(), signal.SIGTERM)
