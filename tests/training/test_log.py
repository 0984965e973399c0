"""What a run has logged survives a kill, a damaged row and a full disk, or a line says what not."""

import errno
import json
import os
import tracemalloc

import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.runs.workdir import NotWritten, Workdir
from jfsed_jax.training.log import MetricsLog, RunLog, open_log


def row(step, **values):
    return json.dumps({"kind": "train", "step": step, **values}).encode() + b"\n"


def steps_in(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_metrics_after_the_resumed_step_are_dropped(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(row(1) + row(2) + row(3) + b'{"kind": "tr')
    log = MetricsLog(Workdir(tmp_path), 2)
    log.write("train", 3, {"loss": 0.5})
    log.close()
    assert steps_in(path) == [1, 2, 3]
    assert json.loads(path.read_text().splitlines()[-1])["loss"] == 0.5
    # A kill cuts the last row: nothing is damaged.
    assert not caplog.records and [p.name for p in tmp_path.glob("*.jsonl")] == [path.name]


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"kind": "train", "loss": 1.0}\n',
        b'{"kind": "train", "step": "2"}\n',
        b'{"kind": "train", "step": NaN}\n',
        b'{"step": 2}\n',
        b"[2]\n",
        b'{"kind": "train", "st\n',
        b'{"kind": "train", "step": 2, "note": "\xff"}\n',
    ],
)
def test_a_damaged_row_costs_no_other_and_is_kept(tmp_path, caplog, damaged):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(before := row(1) + damaged + row(3) + row(4))
    MetricsLog(Workdir(tmp_path), 3).close()
    assert steps_in(path) == [1, 3]
    (copy,) = tmp_path.glob("metrics-damaged-*.jsonl")
    assert copy.read_bytes() == before
    (record,) = caplog.records
    assert f"{path}, row 2: expected" in record.getMessage() and copy.name in record.getMessage()


def test_a_log_behind_a_link_is_copied_and_stays_behind_it(tmp_path):
    """Where a link leads is written in place, and so cannot be read while it is written."""
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_bytes(row(1) + b"[2]\n" + row(3) + row(4))
    (workdir := tmp_path / "run").mkdir()
    (workdir / "metrics.jsonl").symlink_to(elsewhere)
    MetricsLog(Workdir(workdir), 3).close()
    assert (workdir / "metrics.jsonl").is_symlink() and steps_in(elsewhere) == [1, 3]
    assert [path.name[:16] for path in workdir.glob("*-damaged-*")] == ["metrics-damaged-"]


def test_rows_of_a_long_log_are_not_all_in_memory(tmp_path):
    """A run of 200 passes over two million clips has 6.25 million of them."""
    path = tmp_path / "metrics.jsonl"
    MetricsLog(Workdir(tmp_path), 0).close()  # what is loaded once
    values = {f"term_{i}": 1 / (i + 3) for i in range(20)}
    path.write_bytes(b"".join(row(step, **values) for step in range(2000)))
    tracemalloc.start()
    MetricsLog(Workdir(tmp_path), 1000).close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert steps_in(path) == list(range(1001))
    assert peak < path.stat().st_size / 2


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_on_a_full_disk_the_file_is_named_and_all_are_closed(tmp_path, monkeypatch):
    log = RunLog(Workdir(tmp_path), 0, num_seeds=2)
    parts = [log._run, *log._seeds]
    monkeypatch.setattr(log._run, "_file", Full(log._run._file))
    message = "metrics.jsonl cannot be written: No space left on device"
    with pytest.raises(NotWritten, match=message):
        log.write("train", 1, [{"loss": 1.0}] * 2, {})
    with pytest.raises(NotWritten, match="No space left on device"):
        log.close()
    assert all(part._file.closed for part in parts)


def test_what_ended_a_run_is_told_and_not_what_followed(tmp_path, monkeypatch):
    with (
        pytest.raises(InputError, match="loss not finite"),
        open_log(Workdir(tmp_path), 0, 1) as log,
    ):
        monkeypatch.setattr(log._run, "_file", Full(log._run._file))
        raise InputError("loss not finite")
    with (
        pytest.raises(NotWritten, match="No space left on device"),
        open_log(Workdir(tmp_path), 0, 1) as log,
    ):
        monkeypatch.setattr(log._run, "_file", Full(log._run._file))


class Full:
    """A file on a disk that is full."""

    def __init__(self, file):
        self._file = file
        self.write, self.flush = full, full

    @property
    def closed(self):
        return self._file.closed

    def close(self):
        self._file.close()
        full()


def test_tensorboards_error_is_one_of_the_log(tmp_path, monkeypatch):
    """It writes in a thread, and tells of a failure at a later point."""
    log = MetricsLog(Workdir(tmp_path), 0)
    monkeypatch.setattr(log._board, "add_scalar", full)
    with pytest.raises(NotWritten, match="tensorboard cannot be written: No space left"):
        log.write("train", 1, {"loss": 1.0})
    log.close()
