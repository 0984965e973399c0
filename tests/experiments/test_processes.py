"""Rows of the benchmark that start processes: they are timed, ended, and never hang."""

import os
import sys
import time

import pytest
from process_work import ends_at_once, gives_times

from jfsed_jax.configs import pts
from jfsed_jax.experiments import several_hosts, start_up

STARTS = """
import os, sys, time
assert sys.argv[1].startswith("--workdir=") and not os.path.exists(sys.argv[1][10:])
open(os.environ["JAX_COMPILATION_CACHE_DIR"] + ".pid", "w").write(str(os.getpid()))
print("the first thing to say", file=sys.stderr, flush=True)
time.sleep(0.3)
print("I1130 the first step took 0.3 s, with compilation", file=sys.stderr, flush=True)
time.sleep(600)
"""


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_start_is_timed_to_its_first_step_and_ended(tmp_path):
    seconds, cpu_seconds = start_up.time_start([sys.executable, "-c", STARTS], tmp_path)
    assert 0.3 <= seconds < 60 and 0 < cpu_seconds < 60
    assert not is_running(int((tmp_path / "programs.pid").read_text()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["programs.pid"]  # no workdir


def test_a_start_that_ends_before_its_first_step_is_told(tmp_path):
    fails = "import sys; sys.exit('train: no clips')"
    with pytest.raises(RuntimeError, match='no first step: the process said "train: no clips"'):
        start_up.time_start([sys.executable, "-c", fails], tmp_path)


def test_rows_of_starts(monkeypatch):
    """The first is cold, the median of the others warm."""
    times = iter([(30.0, 40.0), (9.0, 8.0), (7.0, 6.0), (8.0, 7.0)])
    monkeypatch.setattr(start_up, "_prepared", lambda config, folder: ["train"])
    monkeypatch.setattr(start_up, "time_start", lambda command, folder: next(times))
    warm, cold = start_up.rows(None)
    assert (warm["name"], warm["ours"]["seconds"]) == ("start, warm", 8.0)
    assert (cold["name"], cold["ours"]["seconds"]) == ("start, cold", 30.0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("No module named 'librosa'", name="librosa"), "librosa is not instal"),
        (RuntimeError("no first step: the process said x"), "no first step"),
    ],
)
def test_where_nothing_can_be_started_a_row_says_why(monkeypatch, error, reason):
    def fails(*_):
        raise error

    monkeypatch.setattr(start_up, "_prepared", fails)
    (row,) = start_up.rows(None)
    assert row["skipped"].startswith(reason) and row["name"] == "start-up"


def test_two_processes_beside_one(monkeypatch):
    monkeypatch.setattr(several_hosts.jax, "device_count", lambda: 4)
    found = {1: (0.5, 0.9), 2: (0.75, 1.4)}
    monkeypatch.setattr(
        several_hosts, "time_steps", lambda config, size, devices, count: found[count]
    )
    row = several_hosts.row(None, 16)
    assert row["times_one"] == 1.5 and row["ours"]["seconds"] == 0.75
    assert row["note"] == "processes here, over loopback: 1.50 times one (500 ms)"
    monkeypatch.setattr(several_hosts.jax, "device_count", lambda: 1)
    assert several_hosts.row(None, 16)["skipped"] == "1 devices are not to be shared by 2"


def test_wall_time_is_of_the_first_and_cpu_time_of_all(monkeypatch):
    """Both wait for each other in each step, and stay until they are ended."""
    monkeypatch.setattr(several_hosts, "_steps", gives_times)
    config = pts.get_config("tiny")
    assert several_hosts.time_steps(config, 16, 4, 2) == pytest.approx((0.2, 0.5))


def test_a_process_that_fails_ends_the_others(monkeypatch):
    monkeypatch.setattr(several_hosts, "_steps", ends_at_once)
    since = time.monotonic()
    with pytest.raises(RuntimeError, match="one of 2 processes has failed"):
        several_hosts.time_steps(pts.get_config("tiny"), 16, 4, 2)
    assert time.monotonic() - since < several_hosts._LIMIT / 2
