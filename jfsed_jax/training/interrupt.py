"""Ctrl-C and SIGTERM: the step under way ends, the state is saved, then the run stops."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal after its state was saved; the same call goes on.

    Attributes:
      signum: the signal.
    """

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


class Stop:
    """Whether a signal has come, and which."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.signum is not None


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Yields a `Stop` that the first Ctrl-C (or SIGTERM) sets; the second one ends at once."""
    stop = Stop()

    def handle(signum, frame):
        stop.signum = signum
        signal.signal(signum, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
