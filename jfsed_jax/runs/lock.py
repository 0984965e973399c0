"""One process at a time trains in a workdir.

The lock is the kernel's, on a file of the folder: it ends with its process, however that ends. What
the file says is for people who find the folder taken.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from io import FileIO
from tempfile import TemporaryFile

from absl import logging

from jfsed_jax.errors import InputError
from jfsed_jax.runs.workdir import Workdir


@contextmanager
def hold(workdir: Workdir) -> Iterator[None]:
    """Makes the folder, and keeps others from training in it.

    Where the file system has no locks, a warning says so.

    Raises:
      InputError: another trains there: who, and since when. Or the folder cannot be written.
    """
    try:
        workdir.path.mkdir(parents=True, exist_ok=True)
        file = _locked(workdir)
    except OSError as error:
        where = error.filename or workdir.path
        raise InputError(f"{where} cannot be written: {error.strerror}") from error
    # A forked process shares the lock, and would keep it after this one.
    os.register_at_fork(after_in_child=file.close)
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    with file:
        with suppress(OSError):  # on a full disk the lock holds all the same
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {since}\n".encode())
        try:
            yield
        finally:
            if not file.closed:  # as it is in a forked process
                with suppress(OSError):
                    workdir.lock.unlink()


def holder(workdir: Workdir) -> str:
    """What the lock says of who holds it; empty if there is none."""
    with suppress(OSError):
        return " ".join(workdir.lock.read_text(errors="replace").split())
    return ""


def check_shared(workdir: Workdir) -> None:
    """For the other processes of a run: whether they see its folder, and can write there.

    Raises:
      InputError: the lock that process 0 holds is not there, or nothing can be written beside it.
    """
    if not holder(workdir):
        raise InputError(
            f"{workdir.path} is not where process 0 has it: its lock file is not there; the "
            "workdir has to lie on a file system that all processes of a run share"
        )
    try:
        with TemporaryFile(dir=workdir.path):
            pass
    except OSError as error:
        raise InputError(f"{workdir.path} cannot be written: {error.strerror}") from error


def _locked(workdir: Workdir) -> FileIO:
    while True:
        # Not truncated yet: it may be another's.
        file = FileIO(os.open(workdir.lock, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one before may have removed the file between the two calls.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(workdir.lock)):
                return file
        except BlockingIOError:
            holder = " ".join(file.read(200).decode(errors="replace").split())
            file.close()
            raise InputError(
                f"{workdir.path} is taken: {holder or 'another process'} trains there; wait for "
                "it, or stop it, or choose another --workdir"
            ) from None
        except FileNotFoundError:  # removed, and not made again
            pass
        except OSError as error:
            logging.warning(
                "%s cannot be locked (%s): see to it that nothing else trains there",
                workdir.path,
                error.strerror,
            )
            return file
        file.close()
