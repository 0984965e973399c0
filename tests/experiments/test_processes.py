"""Rows of the benchmark that start processes: they are timed, ended, and never hang."""

import os
import sys
import time

import pytest
from process_work import ends_at_once, gives_times

from jfsed_jax.configs import pts
from jfsed_jax.experiments import benchmarking, several_hosts, start_up

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
    monkeypatch.setattr(start_up, "time_start", lambda command, folder, limit: next(times))
    warm, cold = start_up.rows(None)
    expected = {"seconds": 8.0, "cpu_seconds": 7.0, "calls": 3}
    assert (warm["name"], warm["ours"]) == ("start, warm", expected)
    assert (cold["name"], cold["ours"]["seconds"]) == ("start, cold", 30.0)


def test_starts_share_one_limit_and_what_was_timed_stays(monkeypatch):
    now, limits = [0.0], []
    monkeypatch.setattr(start_up.time, "monotonic", lambda: now[0])

    def start(command, folder, limit):
        limits.append(limit)
        if limit < 60:
            raise RuntimeError(f"no first step within {limit:.0f} s")
        now[0] += 60
        return 60.0, 50.0

    monkeypatch.setattr(start_up, "_prepared", lambda config, folder: ["train"])
    monkeypatch.setattr(start_up, "time_start", start)
    warm, cold = start_up.rows(None, seconds=100.0)
    assert limits == [100, 40]
    assert warm == {"name": "start, warm", "skipped": "no first step within 40 s"}
    assert cold["ours"]["seconds"] == 60.0


def test_a_start_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(RuntimeError, match="no first step within 1 s"):
        start_up.time_start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, 1.0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("No module named 'librosa'", name="librosa"), "librosa is not instal"),
        (RuntimeError("no first step: the process said x"), "no first step"),
        (OSError("no space\nleft"), "no space\\nleft"),
    ],
)
def test_where_nothing_can_be_started_a_row_says_why(monkeypatch, error, reason):
    def fails(*_):
        raise error

    monkeypatch.setattr(start_up, "_prepared", fails)
    (row,) = start_up.rows(None)
    assert row["skipped"].startswith(reason) and row["name"] == "start, warm"


def test_two_processes_beside_one(monkeypatch):
    monkeypatch.setattr(several_hosts.jax, "device_count", lambda: 4)
    found = {1: (0.5, 0.9), 2: (0.75, 1.4)}

    def steps(config, size, devices, count, limit):
        assert limit <= 60
        return found[count]

    monkeypatch.setattr(several_hosts, "time_steps", steps)
    row = several_hosts.row(None, 16, 60.0)
    assert row["times_one"] == 1.5 and row["ours"]["seconds"] == 0.75
    assert row["note"] == "processes here, over loopback: 1.50 times one (500 ms)"
    del found[2]  # a KeyError, as anything else
    assert several_hosts.row(None, 16, 60.0) == {"name": "two hosts", "note": "", "skipped": "2"}
    monkeypatch.setattr(several_hosts.jax, "device_count", lambda: 1)
    skipped = several_hosts.row(None, 16)["skipped"]
    assert skipped == "2 processes cannot share 1 devices equally"


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
    assert time.monotonic() - since < several_hosts.LIMIT / 2


def test_processes_that_take_too_long_are_ended(monkeypatch):
    monkeypatch.setattr(several_hosts, "_steps", ends_at_once)
    with pytest.raises(RuntimeError, match="no figure within 1 s"):
        several_hosts.time_steps(pts.get_config("tiny"), 16, 4, 1, 1.0)  # the first one waits


def test_a_benchmark_starts_processes_if_asked_and_keeps_its_table(monkeypatch):
    one = {"seconds": 0.5, "cpu_seconds": 0.9, "calls": 3}
    row = {"name": "train step", "ours": one, "note": ""}
    monkeypatch.setattr(benchmarking, "_measure", lambda *_: ([dict(row)], {"ceiling_flops": 1e9}))

    def fails(*_):
        raise OSError("no room")

    monkeypatch.setattr(start_up, "_prepared", fails)
    monkeypatch.setattr(several_hosts, "time_steps", fails)
    config = pts.get_config("tiny")
    assert benchmarking.benchmark(config)["rows"] == [row]
    lines = benchmarking.format_table(benchmarking.benchmark(config, processes=True)).splitlines()
    names = [line.split("  ")[0] for line in lines[-3:]]
    assert names == ["train step", "start, warm", "two hosts"]
    assert lines[-2].endswith("skipped: no room") and "skipped: " in lines[-1]
