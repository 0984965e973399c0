"""What test_suite.py does in processes of their own; it imports little, so that they start soon."""

import os
import signal
import time

from jfsed_jax.errors import InputError


def end_as_told(how):
    """Does well, fails, breaks, dies, leaves or waits."""
    if how == "does well":
        return b"x" * 10_000_000  # more than a pipe holds
    if how == "fails":
        raise InputError("no such kernel")
    if how == "breaks":
        raise ZeroDivisionError("by\nzero" + 1000 * "!")
    if how == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "leaves":
        os._exit(3)
    time.sleep(60)
