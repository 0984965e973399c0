"""A piece of work in a process of its own, with a limit of time: whatever befalls it stays there.

A kernel that fails can leave a GPU's context in ruins for the process that has it, and a compiler
can take longer than anyone wants to wait.
"""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from jfsed_jax.errors import InputError, one_line

_LONGEST_REASON = 300  # letters; an error of XLA can be pages


class Attempt(NamedTuple):
    """What became of it: what it returned, or in one line why it did not."""

    value: Any = None
    error: str | None = None


def run_alone(work: Callable[..., Any], *arguments: Any, seconds: float) -> Attempt:
    """Calls `work` in a process that ends with it, or after `seconds`.

    Args:
      work: a function of a module.
      arguments: that can be pickled, as what it returns.
    """
    context = multiprocessing.get_context("spawn")
    connection, to_parent = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(work, arguments, to_parent))
    process.start()
    to_parent.close()  # the child's alone now, so that its end is seen
    try:
        # What it returns may be more than a pipe holds, so it is taken before the process is over.
        if not connection.poll(seconds):
            process.kill()
            return Attempt(error=f"stopped after {seconds:.0f} s")
        return connection.recv()
    except EOFError:
        process.join()
        status = process.exitcode or 0
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Attempt(error=f"its process ended with {how}")
    finally:
        connection.close()
        process.join(timeout=5)  # what it returned is here; a backend may hang in closing
        process.kill()
        process.join()


def _work(work: Callable[..., Any], arguments: tuple[Any, ...], to_parent: Connection) -> None:
    try:
        attempt = Attempt(work(*arguments))
    except Exception as error:  # a row with a reason, whatever the reason is
        known = isinstance(error, InputError)
        said = one_line(str(error) if known else f"{type(error).__name__}: {error}")
        attempt = Attempt(error=said[:_LONGEST_REASON])
    to_parent.send(attempt)
