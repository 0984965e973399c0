"""A workdir has one process that trains; a dead one, or its children, never keep it."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.runs import lock
from jfsed_jax.runs.workdir import Workdir

HOLD = """
import os, pathlib, sys, time
from jfsed_jax.runs import lock
from jfsed_jax.runs.workdir import Workdir

with lock.hold(Workdir(pathlib.Path(sys.argv[1]))):
    child = os.fork() if len(sys.argv) > 2 else 0
    if not child:  # a forked one says so when its copy of the lock is closed
        print(os.getpid(), flush=True)
    time.sleep(600)
"""

FORKED = """
import os, pathlib, sys
from jfsed_jax.errors import InputError
from jfsed_jax.runs import lock
from jfsed_jax.runs.workdir import Workdir

workdir = Workdir(pathlib.Path(sys.argv[1]))
with lock.hold(workdir):
    if (child := os.fork()) == 0:
        raise KeyboardInterrupt
    os.waitpid(child, 0)
    try:
        with lock.hold(workdir):
            pass
    except InputError as error:
        print(error)
"""


def start(folder, *flags):
    """A process that holds the folder, and the number of its forked child, or its own."""
    command = [sys.executable, "-c", HOLD, str(folder), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def kill(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_is_told_who_holds_it_and_a_killed_one_does_not(tmp_path):
    process, _ = start(tmp_path / "run")
    workdir = Workdir(tmp_path / "run")
    try:
        expected = rf"run is taken: process {process.pid} on {socket.gethostname()}, since \d{{4}}-"
        for _ in range(2):  # being refused takes nothing from the one that holds it
            with pytest.raises(InputError, match=expected) as refused, lock.hold(workdir):
                pass
        assert "\n" not in str(refused.value)
    finally:
        kill(process)
    assert workdir.lock.exists()
    with lock.hold(workdir):
        assert f"process {os.getpid()} on" in workdir.lock.read_text()
        with pytest.raises(InputError, match="is taken"), lock.hold(workdir):
            pass
    assert not workdir.lock.exists()
    with lock.hold(workdir):
        pass


def test_a_forked_process_neither_keeps_nor_ends_it(tmp_path):
    """Of one that was killed as the holder, a worker may live on."""
    workdir = Workdir(tmp_path)
    process, child = start(tmp_path, "fork")
    try:
        kill(process)
        os.kill(child, 0)  # it is there
        with lock.hold(workdir):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
    # Nor does one that leaves the folder by an error of its own.
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "is taken" in done.stdout


def test_the_file_of_another_that_ended_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """Between opening and locking it, its holder removes it, and a third makes a new one."""
    workdir, real, first = Workdir(tmp_path), lock.fcntl.flock, []

    def flock(file, operation):
        if not first:
            first.append(workdir.lock.stat().st_ino)
            workdir.lock.rename(tmp_path / "removed")
        real(file, operation)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with lock.hold(workdir):
        assert workdir.lock.stat().st_ino != first[0]
        with pytest.raises(InputError, match="is taken"), lock.hold(workdir):
            pass


def test_without_locks_of_the_file_system_it_goes_on_with_a_warning(tmp_path, monkeypatch, caplog):
    def flock(file, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with lock.hold(Workdir(tmp_path)):
        pass
    assert "cannot be locked (Operation not supported)" in caplog.text


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/run cannot be written: Not a directory"):
        lock.hold(Workdir(tmp_path / "file/run")).__enter__()


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(InputError, match="lock cannot be written: Is a directory"):
        lock.hold(Workdir(tmp_path)).__enter__()
