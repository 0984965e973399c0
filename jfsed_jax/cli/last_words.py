"""What compiled code writes to stderr, in one line where it is a page.

When JAX loses a process of a run it ends the others at once, from a thread of its own, with a stack
of C++. No code of theirs runs any more, so the line is a small program's, which has their stderr.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import TextIO

# What JAX writes once it knows of a loss; whatever follows is part of it.
_ENDS = (
    "Use error polling to propagate the following error",
    "Polled an error from coordination service",
    "Terminating process because the JAX distributed service detected fatal errors",
)
_CHATTER = ("[Gloo] Rank",)


def hand_over() -> None:
    """From now on `relay`, in a program of its own, writes what this process's libraries say.

    Python's own stdout and stderr stay what they were, a terminal for example.
    """
    out, err = os.dup(1), os.dup(2)
    command = [sys.executable, "-P", "-c", _PROGRAM]
    reader = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=err, stderr=err, start_new_session=True
    )
    assert reader.stdin is not None
    for number in (1, 2):
        os.dup2(reader.stdin.fileno(), number)
    reader.stdin.close()
    sys.stdout = os.fdopen(out, "w", buffering=1)
    sys.stderr = os.fdopen(err, "w", buffering=1, errors="backslashreplace")


_PROGRAM = (
    "import sys; from jfsed_jax.cli.last_words import relay; "
    "sys.stdin.reconfigure(errors='replace'); relay(sys.stdin, sys.stderr)"
)


def relay(lines: Iterable[str], out: TextIO) -> None:
    """Copies lines; of those from the end of a process on it makes one."""
    lines = iter(lines)
    for line in lines:
        if any(end in line for end in _ENDS):
            told = line + "".join(lines)
            out.write(f"jfsed-jax train: {_in_a_line(told)}\n")
        elif not line.startswith(_CHATTER):
            out.write(line)
        out.flush()


def _in_a_line(told: str) -> str:
    """What JAX's last words mean."""
    if "RegisterTask" in told:
        return (
            "the processes of the run have not met within five minutes: start all of them, with "
            "the same --coordinator, which is process 0's address and open to the others"
        )
    lost = re.search(r"stopped sending heartbeats\):\n((?:\d+\n)+)", told)
    which = ", ".join(lost[1].split()) if lost else "0"  # which JAX calls the leader
    return (
        f"process {which} of the run was lost, and this one has ended with it; the same command on "
        "all goes on from the last checkpoint"
    )
