"""A save that fails, at whatever point it tells: one line, and the checkpoint before it is there.

A limit on the size of files is, to who writes them, a disk that is full.
"""

import errno
import os
import resource
from contextlib import contextmanager

import numpy as np
import pytest
from test_checkpoints import META

from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import NotWritten, Workdir

# Arrays that are written beside one that fails end without the loop that they were begun in.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MESSAGE = "checkpoints cannot be written: (File too large|No space left on device)$"


@contextmanager
def full_disk():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def save(manager, step):
    noise = np.random.default_rng(step).bytes(1 << 22)  # nothing that gets smaller
    checkpoints.save(manager, step, {"x": np.frombuffer(noise, np.uint8)}, META, 1.0)


@pytest.fixture
def workdir(tmp_path):
    """With a good checkpoint of step 1."""
    with checkpoints.open_manager(Workdir(tmp_path), training=True) as manager:
        save(manager, 1)
    return Workdir(tmp_path)


def expect_room_again(workdir):
    assert checkpoints.newest_on_disk(workdir) == 1
    with checkpoints.open_manager(workdir, training=True) as manager:
        assert checkpoints.choose_step(manager, "latest") == 1
        save(manager, 2)
    assert sorted(path.name for path in workdir.checkpoints.iterdir()) == ["1", "2"]


def test_it_is_told_at_the_end(workdir):
    with (
        pytest.raises(NotWritten, match=MESSAGE),
        full_disk(),
        checkpoints.open_manager(workdir, training=True) as manager,
    ):
        save(manager, 2)
    expect_room_again(workdir)


def test_it_is_told_at_the_next_save(workdir):
    with (
        full_disk(),
        checkpoints.open_manager(workdir, training=True) as manager,
    ):
        save(manager, 2)
        with pytest.raises(NotWritten, match=MESSAGE):
            save(manager, 3)
    expect_room_again(workdir)


def test_it_does_not_hide_what_ended_the_run(workdir, caplog):
    with (
        pytest.raises(RuntimeError, match="something else"),
        full_disk(),
        checkpoints.open_manager(workdir, training=True) as manager,
    ):
        save(manager, 2)
        raise RuntimeError("something else")
    assert any("File too large" in message for message in caplog.messages)
    expect_room_again(workdir)


def test_it_is_told_at_once(workdir, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/file")

    with (
        pytest.raises(NotWritten, match=MESSAGE),
        checkpoints.open_manager(workdir, training=True) as manager,
    ):
        monkeypatch.setattr(manager, "save", full)
        save(manager, 2)
    expect_room_again(workdir)
