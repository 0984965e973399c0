"""Runs side by side: shares of the machine, failures, signals, and the same numbers as in turn."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import job_work
import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.experiments import job_processes, reproduction
from jfsed_jax.experiments.job_processes import Ended, Share, machine_shares, own_cores, run_jobs
from jfsed_jax.experiments.reproduction import reproduce
from jfsed_jax.experiments.result_table import RunScores
from jfsed_jax.runs.log_rows import SPEED
from jfsed_jax.training.interrupt import Stop

HERE = Path(__file__).parent


# A share of the machine --------------------------------------------------------------------------


def test_cores_are_shared_equally(monkeypatch):
    monkeypatch.setattr(job_processes, "jax_devices", lambda: ("cpu", 1))
    monkeypatch.setattr(job_processes, "own_cores", lambda: [1, 2, 5, 6, 7])
    assert machine_shares(2) == [Share((1, 2)), Share((5, 6))]
    assert [share.cores for share in machine_shares(5)] == [(1,), (2,), (5,), (6,), (7,)]
    with pytest.raises(InputError, match="--jobs=6, but there are 5 cores"):
        machine_shares(6)


def test_each_job_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(job_processes, "jax_devices", lambda: ("gpu", 2))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine_shares(2) == [Share(gpu="0"), Share(gpu="1")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    assert machine_shares(2) == [Share(gpu="3"), Share(gpu="GPU-5")]
    with pytest.raises(InputError, match="--jobs=3, but there are 2 GPUs: .*share its memory"):
        machine_shares(3)
    monkeypatch.setattr(job_processes, "jax_devices", lambda: ("gpu", 1))
    with pytest.raises(InputError, match="there is 1 GPU"):
        machine_shares(2)
    monkeypatch.setattr(job_processes, "jax_devices", lambda: ("tpu", 4))
    with pytest.raises(InputError, match="one process holds all devices"):
        machine_shares(2)


def test_jobs_run_one_at_a_time_on_each_share_and_their_lines_are_told_apart(tmp_path, capfd):
    first, *_, last = own_cores()[:1] + own_cores()[-1:]
    shares = [Share((first,)), Share((last,), gpu="7")]
    jobs = {str(number): (tmp_path, number) for number in range(4)}
    ended = list(run_jobs(jobs, job_work.describe, shares))
    assert sorted(job.name for job in ended) == list("0123")
    found = [job.result for job in ended]
    one = {first: (first,), last: (last,)} if sys.platform == "linux" else {first: "1", last: "1"}
    assert {(tuple(cores), gpu) for cores, gpu, _, _ in found} == {
        (tuple(one[first]), os.environ.get("CUDA_VISIBLE_DEVICES")),
        (tuple(one[last]), "7"),
    }
    for _, gpu, since, until in found:
        others = [other for other in found if other[1] == gpu and other[2] != since]
        assert all(other[3] <= since or until <= other[2] for other in others)
    lines = capfd.readouterr().err.splitlines()
    for number in range(4):
        assert f"[{number}] job {number} on stderr" in lines
        assert f"[{number}] job {number} <on> stdout" in lines


# What goes wrong ---------------------------------------------------------------------------------


def test_a_job_that_fails_or_dies_stops_no_other(capfd):
    jobs = {how: (how,) for how in ("fails", "breaks", "stops", "dies", "does well")}
    ended = {job.name: job for job in run_jobs(jobs, job_work.end_as_told, [Share(), Share()])}
    assert ended.keys() == jobs.keys()
    assert ended["fails"].error == "a loss is not finite"
    assert "ended with status 1" in ended["breaks"].error
    assert "a signal to it alone" in ended["stops"].error
    assert "ended with signal 9" in ended["dies"].error
    assert ended["does well"] == Ended("does well", "does well")
    lines = capfd.readouterr().err.splitlines()
    assert "[breaks] ZeroDivisionError: breaks" in lines
    assert any(line.startswith("[stops] ") and line.endswith("] stopped") for line in lines)


def test_what_a_job_says_as_it_ends_is_heard():
    """However late: here its last word comes while it is asked whether it still runs."""
    hears, says = multiprocessing.Pipe(duplex=False)
    ends, runs = multiprocessing.Pipe(duplex=False)

    class Ending:
        sentinel = ends
        exitcode = 0

        def is_alive(self):
            says.send(("done", 7))
            return False

        def join(self):
            pass

    job = job_processes._Running("a", Share(), Ending(), hears, threading.Thread())
    job.log.start()
    [over] = job_processes._over([job])
    assert job_processes._ended(over, Stop()) == Ended("a", 7)
    for connection in (says, ends, runs):
        connection.close()


def test_a_result_may_be_larger_than_a_pipe():
    [ended] = run_jobs({"a": ()}, job_work.large, [Share()])
    assert len(ended.result) == 10_000_000


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def pid_of(folder, name):
    begun = folder / f"{name}.begun"
    return int(begun.read_text() or 0) if begun.exists() else 0


@pytest.fixture
def two_at_once(tmp_path):
    """The program of job_work.py in a group of its own, when two of its three jobs have begun."""
    command = [sys.executable, str(HERE / "job_work.py"), str(tmp_path)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: all(pid_of(tmp_path, name) for name in "ab"))
    yield process
    process.kill()
    process.stdout.close()
    process.wait()


@pytest.mark.parametrize(
    ("signum", "to_all"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)]
)
def test_a_signal_lets_every_job_save(tmp_path, two_at_once, signum, to_all):
    """Which one that comes twice would not: it ends a job at once."""
    if to_all:  # as a scheduler does
        for name in "ab":
            os.kill(pid_of(tmp_path, name), signum)
    os.killpg(two_at_once.pid, signum)  # as a terminal does on Ctrl-C: to the whole group
    output, _ = two_at_once.communicate(timeout=120)
    assert output == f"interrupted by {signum:d}\n"
    assert two_at_once.returncode == 128 + signum
    assert all((tmp_path / f"{name}.saved").exists() for name in "ab")
    assert not (tmp_path / "c.begun").exists()


@pytest.mark.parametrize("twice", [False, True])
def test_jobs_that_lose_their_parent_save_and_end(tmp_path, two_at_once, twice):
    if twice:  # the second Ctrl-C ends the parent alone
        two_at_once.send_signal(signal.SIGINT)
        time.sleep(0.5)  # of the second that a job takes to save
        two_at_once.send_signal(signal.SIGINT)
    else:
        two_at_once.kill()
    two_at_once.wait()
    wait_for(lambda: all((tmp_path / f"{name}.saved").exists() for name in "ab"), 30)


# Tables ------------------------------------------------------------------------------------------


def test_features_come_first_and_a_failed_run_is_a_row(tmp_path, monkeypatch):
    """The features of each front end once, then the jobs; the table after each."""
    seen = []

    def prepare(data_dir, front_end, features_dir):
        seen.append(("features", front_end.hop_length, features_dir.name))
        raise InputError("as every run will say")

    def jobs_in_turn(jobs, work, shares):
        for name, (run, *_) in jobs.items():
            seen.append((name, run.rules, (tmp_path / "table1.md").exists()))
            if name == "pts-seed1":
                yield Ended(name, error="its process ended with signal 9")
            else:
                yield Ended(name, RunScores({"weak": 1}, ["Dog"], {"avg": {}}))

    monkeypatch.setattr(reproduction, "prepare", prepare)
    monkeypatch.setattr(reproduction, "run_jobs", jobs_in_turn)
    monkeypatch.setattr(reproduction, "machine_shares", lambda jobs: [Share()] * jobs)
    outcome = reproduce(
        1, Path("d"), tmp_path, size="tiny", seeds=2, systems=["control", 0, 3],
        features_dir=tmp_path / "f", jobs=2,
    )  # fmt: skip
    assert seen == [
        ("features", 735, "hop735-window1764"),
        ("features", 511, "hop511-window2048"),
        ("supervised-seed0", ("avg",), False),
        ("mean_teacher-seed0", ("fixed",), True),
        ("pts-seed0", ("avg",), True),
        ("supervised-seed1", ("avg",), True),
        ("mean_teacher-seed1", ("fixed",), True),
        ("pts-seed1", ("avg",), True),
    ]
    assert outcome.failures == {"pts-seed1": "its process ended with signal 9"}
    assert "1 of 2; seed 1 failed: its process ended with signal 9" in outcome.markdown.read_text()


IN_TURN = """
import os, sys
from pathlib import Path
import jax
from jfsed_jax.experiments.reproduction import reproduce

cores, data, workdir, features = int(sys.argv[1]), *map(Path, sys.argv[2:])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
else:
    os.environ["PJRT_NPROC"] = str(cores)
jax.config.update("jax_num_cpu_devices", min(2, cores))
options = {"size": "tiny", "seeds": 2, "epochs": 3, "features_dir": features}
reproduce(1, data, workdir, systems=["control"], **options)
"""


@pytest.mark.skipif(len(own_cores()) < 2, reason="two jobs need two cores")
def test_two_runs_side_by_side_interrupted_and_resumed_are_those_in_turn(
    tmp_path, demo_set, features_of_tables
):
    """To the bit, on as many cores and devices each; also the first run without a teacher."""
    data, features = demo_set / "data", features_of_tables
    beside, in_turn = tmp_path / "beside", tmp_path / "in_turn"
    command = [
        *(sys.executable, "-m", "jfsed_jax", "reproduce", "--table=1", "--systems=control"),
        *(f"--data={data}", f"--workdir={beside}", f"--features={features}"),
        *("--size=tiny", "--seeds=2", "--epochs=3", "--jobs=2"),
    ]
    names = ("supervised-seed0", "supervised-seed1")
    # First, so that what two others would compile at the same time is there.
    cores = str(len(own_cores()) // 2)
    paths = map(str, (data, in_turn, features))
    alone = [sys.executable, "-c", IN_TURN, cores, *paths]
    done = subprocess.run(alone, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr

    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    logs = [beside / "runs" / name / "metrics.jsonl" for name in names]
    wait_for(lambda: any(log.exists() and log.stat().st_size for log in logs), 600)
    started.send_signal(signal.SIGINT)
    _, error = started.communicate(timeout=600)
    assert started.returncode == 130, error
    assert "the same command goes on" in error.splitlines()[-1]
    assert all(f"[{name}] " in error for name in names)
    assert (beside / "table1.md").exists()

    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr

    for name in names:
        rows = [metrics(workdir / "runs" / name) for workdir in (beside, in_turn)]
        assert rows[0] == rows[1]
    for name in ("table1.md", "table1.tsv"):
        assert (beside / name).read_text() == (in_turn / name).read_text()
    page = (beside / "runs" / names[0] / "report.html").read_text()
    assert "Labels: the student" in page and "Labels: the teacher" not in page


def metrics(run):
    """What a run logged for each step, without what its speed was."""
    rows = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        kept = {key: row[key] for key in row if key not in SPEED}
        rows[row["kind"], row["step"]] = kept
    return rows
