"""What the jobs of test_side_by_side.py do, in their own processes; as a program, two at once."""

import os
import signal
import sys
import time
from pathlib import Path

from absl import logging

from jfsed_jax.errors import InputError
from jfsed_jax.experiments.job_processes import Share, own_cores, run_jobs
from jfsed_jax.training.interrupt import Interrupted, stop_on_signals


def describe(share, folder, number):
    """Where it runs, and from when to when."""
    since = time.time()
    print(f"job {number} <on> stdout")
    print(f"job {number} on stderr", file=sys.stderr, flush=True)
    sys.stdout.flush()
    time.sleep(0.3)
    # Where a process has no affinity, XLA is told how many threads to start.
    cores = own_cores() if sys.platform == "linux" else os.environ["PJRT_NPROC"]
    return cores, os.environ.get("CUDA_VISIBLE_DEVICES"), since, time.time()


def end_as_told(share, how):
    """Fails, breaks, dies or does well."""
    if how == "fails":
        raise InputError("a loss is not finite")
    if how == "breaks":
        raise ZeroDivisionError(how)
    if how == "stops":
        logging.use_absl_handler()
        logging.set_verbosity(logging.INFO)
        os.kill(os.getpid(), signal.SIGINT)
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return how


def large(share):
    """More than a pipe holds."""
    return b"x" * 10_000_000


def until_signalled(share, folder, name):
    """As `fit` does: on a signal it saves, which takes a moment, and says that it was stopped."""
    with stop_on_signals() as stop:
        (Path(folder) / f"{name}.begun").write_text(str(os.getpid()))
        while not stop.is_set():
            time.sleep(0.05)
        print("saving", file=sys.stderr, flush=True)
        time.sleep(1)
        (Path(folder) / f"{name}.saved").touch()
    raise Interrupted("saved", stop.signum)


if __name__ == "__main__":
    place = sys.argv[1]
    jobs = {name: (place, name) for name in ("a", "b", "c")}
    try:
        print(list(run_jobs(jobs, until_signalled, [Share(), Share()])))
    except Interrupted as stop:
        print(f"interrupted by {stop.signum}")
        sys.exit(128 + stop.signum)
