"""A file that is written is whole or not there, whatever stops the writing."""

import os
import threading

import pytest

from jfsed_jax.atomic import write_whole
from jfsed_jax.errors import InputError


def test_text_and_bytes_and_a_folder_that_is_not_there_yet(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    write_whole(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    write_whole(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("stopped_by", [OSError("full"), KeyboardInterrupt()])
def test_what_was_there_stays_when_writing_fails(tmp_path, monkeypatch, step, stopped_by):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(*arguments):
        # Until here nothing may have touched the old file.
        assert path.read_text() == "old"
        raise stopped_by

    monkeypatch.setattr(os, step, fail)
    raised = InputError if isinstance(stopped_by, OSError) else type(stopped_by)
    with pytest.raises(raised, match="cannot be written: full" if raised is InputError else None):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_in_the_way_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} cannot be written"):
        write_whole(tmp_path, "text")
    (tmp_path / "file").write_text("old")
    with pytest.raises(InputError, match="below cannot be written: "):
        write_whole(tmp_path / "file" / "below", "text")
    assert (tmp_path / "file").read_text() == "old"


def test_a_pipe_is_written_into_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_whole(pipe, "text")
    reader.join(10)
    assert read == ["text"] and pipe.is_fifo()


def test_a_link_is_written_through_and_a_files_mode_stays(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_whole(link, "through")
    assert link.is_symlink() and real.read_text() == "through"
    write_whole(real, "again")
    assert real.stat().st_mode & 0o777 == 0o640 and link.read_text() == "again"
