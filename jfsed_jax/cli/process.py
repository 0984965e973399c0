"""What belongs to the process and not to a library: devices, memory, caches, the log."""

import ctypes
import gc
import json
import logging as standard_logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags, logging

from jfsed_jax.cli import last_words
from jfsed_jax.errors import InputError

PIPE_CLOSED = 128 + signal.SIGPIPE  # the status that a shell sees of a program before `head`

_PACKAGE = str(Path(__file__).parents[1])


def log_to_stderr() -> None:
    """absl's log with everything that this package says and the warnings of others."""
    logging.use_absl_handler()
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(_is_wanted)  # once, however often it is called


def _is_wanted(record: standard_logging.LogRecord) -> bool:
    """Libraries log each file they touch; orbax also, with a traceback, each error that it raises.

    Of several that its tasks raise at once asyncio logs those that nobody asks for.
    """
    if record.pathname.startswith(_PACKAGE):
        return True
    raised = record.exc_info and (record.name == "asyncio" or "orbax" in record.pathname)
    return record.levelno > standard_logging.INFO and not raised


def say_errors_once() -> None:
    """No traceback of what is raised where the command waits for it, and comes as one line there.

    Of a save that fails, as on a full disk, these are thousands of lines.
    """
    hooks = (threading, "excepthook", _thread_failed), (sys, "unraisablehook", _unraisable)
    for module, name, hook in hooks:
        before = getattr(module, name)
        if getattr(before, "func", None) is not hook:  # once, however often it is called
            setattr(module, name, partial(hook, before))


def _thread_failed(before: Callable[[Any], object], failed: Any) -> None:
    """All but an error that its thread keeps for others, as TensorBoard's does."""
    if failed.exc_value is None or getattr(failed.thread, "exception", 0) is not failed.exc_value:
        before(failed)


def _unraisable(before: Callable[[Any], object], failed: Any) -> None:
    """All but what tensorstore says, array by array, after one of them has failed."""
    if failed.exc_type is not RuntimeError or str(failed.exc_value) != "Event loop is closed":
        before(failed)


def import_from_here() -> None:
    """Lets a config name ``package.module:name`` of the folder that the command is run in."""
    if not {"", os.getcwd()} & set(sys.path):  # as `python -m` has it already
        sys.path.append(os.getcwd())


def close_stdout() -> None:
    """After a broken pipe: what is still buffered goes nowhere, without an error at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def start_jax(cpu_devices: int | None = None) -> None:
    """Keeps compiled programs on disk; a CPU has `cpu_devices` devices.

    XLA takes half a minute to compile a training step; the second start reuses the result. The
    devices are as they are once JAX has started its backend, or on another platform.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "jfsed_jax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if cpu_devices is not None:
        use_cpu_devices(cpu_devices)


def start_training(cpu_devices: int, *, deterministic: bool = False) -> None:
    """`start_jax`, with memory and, if asked, kernels as training needs them."""
    if deterministic:
        use_deterministic_kernels()
    # JAX makes millions of objects that stay while it traces a step; by default Python looks
    # through all there are again and again, a fifth of the time of tracing.
    gc.set_threshold(50_000)
    _keep_freed_memory()
    start_jax(cpu_devices)


def start_jax_as_trained(workdir: str) -> None:
    """`start_jax` with as many devices of a CPU as the workdir was trained on, to share clips."""
    from jfsed_jax.runs.workdir import Workdir

    start_jax()
    with suppress(OSError, ValueError, KeyError, TypeError):  # who loads the run says what is wrong
        use_cpu_devices(json.loads(Workdir(Path(workdir)).config.read_text())["cpu_devices"])


def use_cpu_devices(count: int) -> None:
    """Makes that many devices of the CPU, see ``config.cpu_devices``.

    If the environment says how many, it counts, and a line says so.
    """
    import jax

    flag = "xla_force_host_platform_device_count"
    said = re.findall(rf"--{flag}=(\d+)", os.environ.get("XLA_FLAGS", ""))
    if said or (by_jax := os.environ.get("JAX_NUM_CPU_DEVICES")):
        name, given = (f"XLA_FLAGS ({flag})", said[-1]) if said else ("JAX_NUM_CPU_DEVICES", by_jax)
        if given != str(count):
            logging.info("%s devices of the CPU, as %s says", given, name)
        return
    with suppress(RuntimeError):  # the backend has started
        jax.config.update("jax_num_cpu_devices", count)


def join_processes(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Joins the processes of a run, if flags or a launcher say that there are several.

    Args:
      coordinator: HOST:PORT of process 0, or ``auto``: as JAX finds out from the launcher.
      count, index: how many there are, and which of them this one is.

    Raises:
      InputError: one of the flags is missing, or the processes could not be joined.
    """
    from jfsed_jax import hosts

    if coordinator not in (None, "auto") and None in (count, index):
        raise InputError(
            "--coordinator needs --num_processes and --process_id too, or is auto where the "
            "launcher tells JAX"
        )
    if coordinator is None and (count, index) != (None, None):
        raise InputError("--num_processes and --process_id need --coordinator=HOST:PORT")
    alone = coordinator is None and hosts.sign_of_several(os.environ) is None
    if alone or hosts.joined():
        return
    last_words.hand_over()
    hosts.start(None if coordinator == "auto" else coordinator, count, index)


def is_one_of_several(argv: Sequence[str]) -> bool:
    """Whether flags or a launcher say that this process is one of several that train."""
    if list(argv[:1]) != ["train"]:
        return False
    from jfsed_jax import hosts

    flagged = any(argument.startswith("--coordinator") for argument in argv)
    return flagged or hosts.sign_of_several(os.environ) is not None


def leave(argv: Sequence[str], status: int, line: str) -> None:
    """Ends a process that is one of several, after it has told the others; else does nothing.

    One that refuses its flags joins the others for it: they would wait.
    """
    if not is_one_of_several(argv):
        return
    from jfsed_jax import hosts

    given = dict(re.findall(r"--(\w+)[= ](\S+)", " ".join(argv)))
    with suppress(InputError, ValueError):
        index, count = (
            int(given[key]) if key in given else None for key in ("process_id", "num_processes")
        )
        join_processes(given.get("coordinator"), count, index)
    hosts.leave(status, line)


def use_deterministic_kernels() -> None:
    """Has XLA take GPU kernels that repeat themselves, see ``config.deterministic``.

    XLA reads ``XLA_FLAGS`` once, when JAX starts its backend. What the user's say stays.

    Raises:
      InputError: they say the opposite, or are in a file that does not say it.
    """
    flag = "--xla_gpu_deterministic_ops"
    given = os.environ.get("XLA_FLAGS", "").strip()
    text, in_file = given, bool(given) and not given.startswith("-")
    if in_file:
        with suppress(OSError):  # XLA goes on without a file that it cannot read
            text = Path(given).read_text(errors="replace")
    said = re.findall(rf"(?<!\S){flag}(?:=(\S*))?(?!\S)", text)
    if said and said[-1].lower() in ("false", "0"):  # of several the last one counts
        raise InputError(
            f"config.deterministic needs {flag}=true and XLA_FLAGS has {flag}={said[-1]}: leave "
            "out one of the two"
        )
    if in_file and not said:
        raise InputError(
            f"config.deterministic needs {flag}=true and XLA_FLAGS names the file {given}, which "
            "does not have it: write it there"
        )
    if not said:
        os.environ["XLA_FLAGS"] = f"{given} {flag}=true".lstrip()


def _keep_freed_memory() -> None:
    """Asks glibc to keep what XLA frees.

    Every step allocates and frees gigabytes of activations. By default each of them goes back to
    the kernel and is faulted in again page by page, which can take as long as the arithmetic.
    """
    with suppress(OSError, AttributeError):  # not glibc
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for parameter, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1), (-2, 2**28)):
            mallopt(parameter, value)  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
