"""One run on several processes, as on several hosts: the same run, and an end for all of them.

The processes are told of each other over loopback, or where it can be had over a network between
two namespaces, which share nothing else.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jfsed_jax import hosts
from jfsed_jax.cli import last_words
from jfsed_jax.datasets import clips
from jfsed_jax.errors import InputError
from jfsed_jax.runs.log_rows import SPEED
from jfsed_jax.training.feed import Feed
from jfsed_jax.training.interrupt import Stop
from jfsed_jax.training.log import NoLog
from jfsed_jax.training.plan import check_shared
from jfsed_jax.training.steps import Steps, run_steps

ROOT = Path(__file__).parents[2]
STEPS = 24
BATCH = {"weak": 4, "unlabelled": 8, "strong": 4}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Run:
    """The processes of a run."""

    def __init__(self, place, workdir, count, devices, *flags, own=None, address="127.0.0.1"):
        self.workdir, self.log = workdir, [workdir.with_suffix(f".{i}.log") for i in range(count)]
        join = [f"--coordinator={address}:{free_port()}", f"--num_processes={count}"]
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": str(devices),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            "JAX_PLATFORMS": "cpu",
        }
        self.processes = []
        for i in range(count):
            command = [
                sys.executable,
                "-m",
                "jfsed_jax",
                "train",
                f"--config={ROOT}/tests/narrow.py:random",
                f"--data={place / 'data'}",
                f"--features={place / 'features'}",
                f"--workdir={workdir}",
                "--config.epochs=2",
                f"--config.steps_per_epoch={STEPS // 2}",
                "--config.evaluation.every_epochs=1",
                *(f"--config.batch.{kind}={clips}" for kind, clips in BATCH.items()),
                *(join * (count > 1)),
                *([f"--process_id={i}"] * (count > 1)),
                *flags,
                *(own or {}).get(i, ()),
            ]
            heard = workdir.with_suffix(f".{i}.heard")
            environment["CLIPS_HEARD"] = str(heard)
            if address != "127.0.0.1":
                command = ["ip", "netns", "exec", f"{NAMESPACE}{i}", *command]
            with open(self.log[i], "a") as log:
                self.processes.append(
                    subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
                )

    def wait_for_step(self, step):
        """Until a row of the log, which is written every few steps, is of this step or later."""
        until = time.monotonic() + 120
        while time.monotonic() < until and any(p.poll() is None for p in self.processes):
            if any(row["step"] >= step for row in rows(self.workdir)):
                return
            time.sleep(0.02)
        raise AssertionError(self.said())

    def ends(self):
        """The statuses of all."""
        return [process.wait(timeout=120) for process in self.processes]

    def said(self):
        return [log.read_text() for log in self.log]


def rows(workdir):
    try:
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if k not in SPEED} for row in found]


def state(workdir):
    """The arrays of the newest checkpoint, by name, and its step."""
    folder = workdir / "checkpoints"
    step = max(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    with ocp.PyTreeCheckpointer() as reader:
        kept = reader.metadata(folder / str(step) / "state").item_metadata.tree
        wanted = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(restore_type=np.ndarray), kept)
        found = reader.restore(folder / str(step) / "state", restore_args=wanted)
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}, step


def heard(place, workdir, *processes):
    """Names of the clips of each step, sorted; `processes` are (how many, devices each) in turn."""
    prepared = clips.load(place / "features")
    names = {}
    for split, own in prepared.splits.items():
        for i in range(len(own)):
            first = np.asarray(own[i]["mel"], np.float64)[0, :3]
            names[tuple(first)] = f"{split}/{own.filenames[i]}"
    steps = []
    for count, devices in processes:
        files = [workdir.with_suffix(f".{i}.heard") for i in range(count)]
        lines = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
        for number in range(len(lines[0]) // devices):
            parts = [own[number * devices : (number + 1) * devices] for own in lines]
            steps.append(sorted(names[tuple(v)] for own in parts for part in own for v in part))
        for file in files:
            file.unlink()
    return steps


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo_set):
    place = tmp_path_factory.mktemp("hosts")
    for name in ("data", "features"):
        shutil.copytree(demo_set / name, place / name)
    return place


NAMESPACE = f"jfsed{os.getpid()}h"


@pytest.fixture(scope="module")
def network():
    """The first one's address in two network namespaces that share nothing but a pair of ends.

    Where there can be none, loopback's; and why.
    """
    ends = [f"{NAMESPACE[:12]}{i}" for i in range(2)]
    commands = [
        *(f"ip netns add {NAMESPACE}{i}" for i in range(2)),
        f"ip link add {ends[0]} type veth peer name {ends[1]}",
        *(f"ip link set {ends[i]} netns {NAMESPACE}{i}" for i in range(2)),
        *(f"ip -n {NAMESPACE}{i} addr add 10.77.0.{i + 1}/24 dev {ends[i]}" for i in range(2)),
        *(f"ip -n {NAMESPACE}{i} link set {ends[i]} up" for i in range(2)),
        *(f"ip -n {NAMESPACE}{i} link set lo up" for i in range(2)),
    ]
    reason = None
    try:
        for command in commands:
            try:
                done = subprocess.run(command.split(), capture_output=True, text=True)
                reason = f"{command}: {done.stderr.strip()}" if done.returncode else None
            except FileNotFoundError:
                reason = "iproute2's ip is not installed"
            if reason:
                break
        yield "127.0.0.1" if reason else "10.77.0.1", reason
    finally:
        for i in range(2):
            with suppress(FileNotFoundError):
                subprocess.run(["ip", "netns", "del", f"{NAMESPACE}{i}"], capture_output=True)


@pytest.fixture(scope="module")
def whole(place):
    """The run in one process with four devices, without a break."""
    run = Run(place, place / "whole", 1, 4)
    assert run.ends() == [0], run.said()
    assert "4 devices, 4 of 16 clips each" in run.said()[0]
    return run.workdir, heard(place, run.workdir, (1, 4))


def check_is(whole, workdir, *, same_bits=False):
    """Checkpoint, losses and scores are those of the whole run, to rounding or to the bit."""
    (expected, last), (found, step) = state(whole), state(workdir)
    assert step == last == STEPS and found.keys() == expected.keys()
    for name, value in expected.items():
        if same_bits:
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        else:
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    assert len(rows(workdir)) == len(rows(whole)) == STEPS + 2
    for before, after in zip(rows(whole), rows(workdir), strict=True):
        assert after.pop("kind") == before.pop("kind")
        assert after == (before if same_bits else pytest.approx(before, rel=1e-4))


def test_two_hosts_are_four_processes_to_the_bit_and_one_to_rounding(place, whole, network):
    """Gloo sums over four devices in one order, one process in another. The hosts share no
    loopback; they have the clips on their devices, four steps a dispatch, as `whole` has not."""
    address, reason = network
    flags = "--config.data.in_memory", "--config.steps_per_dispatch=4"
    two = Run(place, place / "two", 2, 2, *flags, address=address)
    assert two.ends() == [0, 0], two.said()
    assert "4 devices of 2 processes, 4 of 16 clips each; this is process 1" in two.said()[1]
    assert heard(place, two.workdir, (2, 2)) == whole[1]
    check_is(whole[0], two.workdir)
    four = Run(place, place / "four", 4, 1, *flags)
    assert four.ends() == [0] * 4, four.said()
    check_is(two.workdir, four.workdir, same_bits=True)
    assert [said.count("training:") > 0 for said in four.said()] == [True, False, False, False]
    assert len(list((four.workdir / "tensorboard").iterdir())) == 1
    if reason:
        pytest.skip(f"passed over loopback, without network namespaces: {reason}")


def test_a_signal_to_one_stops_all_and_any_number_goes_on(place, whole):
    """On four devices, then on two, then on eight: the same clips, the same weights."""
    workdir, steps = place / "elastic", []
    for count, devices, last in ((2, 2, 5), (2, 1, 15), (1, 8, None)):
        run = Run(place, workdir, count, devices)
        if last is None:
            assert run.ends() == [0], run.said()
        else:
            run.wait_for_step(last)
            run.processes[-1].send_signal(signal.SIGTERM)
            assert run.ends() == [143, 143], run.said()
            at = {said.rsplit("stopped and saved at step ", 1)[1] for said in run.said()}
            assert len(at) == 1, at
        steps += heard(place, workdir, (count, devices))
    assert steps == whole[1]
    check_is(whole[0], workdir)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other_and_the_run_goes_on(place, whole, lost):
    often = "--config.checkpoint_every_steps=3"
    run = Run(place, place / f"lost{lost}", 2, 2, often)
    run.wait_for_step(5)
    run.processes[lost].kill()
    statuses = run.ends()
    assert statuses[lost] == -signal.SIGKILL and statuses[1 - lost] == -signal.SIGABRT
    said = run.said()[1 - lost]
    assert said.count(f"process {lost} of the run was lost, and this one has ended with it") == 1
    assert "Check failure stack trace" not in said and "Traceback" not in said
    again = Run(place, run.workdir, 1, 4, often)
    assert again.ends() == [0], again.said()
    assert "resumed" in again.said()[0]
    check_is(whole[0], run.workdir)


def test_two_processes_start_from_the_weights_of_a_run(place, whole):
    """Reading them starts JAX's backend, for which all have to be there."""
    run = Run(place, place / "started", 2, 1, f"--init_from={whole[0]}", "--config.epochs=1")
    assert run.ends() == [0, 0], run.said()
    assert "starts from the weights of" in run.said()[0]


def other_label(place):
    """The data with one other strong label, in a folder of its own."""
    folder = place / "other" / "data"
    shutil.copytree(place / "data", folder)
    (path,) = (folder / "metadata" / "train").glob("synthetic.*")
    lines = path.read_text().splitlines()
    cells = lines[1].split("\t")
    cells[-1] = next(row.split("\t")[-1] for row in lines[2:] if row.split("\t")[-1] != cells[-1])
    path.write_text("\n".join([lines[0], "\t".join(cells), *lines[2:]]) + "\n")
    return folder


def without_weak(place):
    """The data without weak clips."""
    folder = place / "no_weak" / "data"
    shutil.copytree(place / "data", folder)
    for path in (folder / "metadata" / "train").glob("weak.*"):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    return folder


def test_what_one_process_refuses_all_refuse(place, tmp_path):
    """Each with a line of its own, and none waits for another."""
    (tmp_path / "file").write_text("")
    cases = {
        "values": (
            [
                f"--data={other_label(place)}",
                f"--features={tmp_path}/features",
                "--config.optimiser.learning_rate=0.1",
            ],
            "process 1 (.*) has another .*: config.optimiser.learning_rate is 0.05 there and 0.1 "
            "here; digests.synthetic is",
        ),
        "workdir": ([f"--workdir={tmp_path}/elsewhere"],
                    "elsewhere is not where process 0 has it: its lock file is not there"),
        "clips": ([f"--data={without_weak(place)}", f"--features={tmp_path}/w"], "0 weak training"),
        "weights": ([f"--init_from={tmp_path}/elsewhere"], "init_from given is false there and tr"),
        "unwritable": ([f"--workdir={tmp_path}/file/run"], "file/run"),
    }  # fmt: skip
    for name, (flags, message) in cases.items():
        run = Run(place, tmp_path / name, 2, 1, own={1: flags})
        assert run.ends() == [2, 2], (name, run.said())
        for said in run.said():
            (line,) = [text for text in said.splitlines() if "jfsed-jax train: " in text
                       or "has ended: " in text]  # fmt: skip
            assert re.search(message, line), (name, line)
        assert not list(tmp_path.glob(f"{name}/checkpoints/*"))


def test_a_batch_that_devices_cannot_share_names_the_nearest():
    check_shared({"weak": 4, "strong": 4}, 8)
    with pytest.raises(InputError, match="64 clips, which 6 .*holds 66, as with .*unlabelled=53"):
        check_shared({"weak": 6, "unlabelled": 51, "strong": 7}, 6)
    with pytest.raises(InputError, match="9 clips, which 8 .*holds 8, as with .*strong=4"):
        check_shared({"weak": 4, "strong": 5}, 8)
    with pytest.raises(InputError, match="3 clips, which 8 .*holds 8, as with .*strong=7"):
        check_shared({"weak": 1, "strong": 2}, 8)


class Two(hosts.Hosts):
    """Process 0 of two, of which the other says `other`."""

    other = "null"

    def gather(self, text):
        return [text, self.other]


def test_an_action_that_fails_in_one_process_fails_in_all():
    two = Two(0, 2)
    assert two.agree(lambda: 5) == 5
    with pytest.raises(InputError, match="^its own$"):
        two.agree(lambda: (_ for _ in ()).throw(InputError("its own")))
    Two.other = json.dumps("host1: it cannot")
    try:
        with pytest.raises(InputError, match="process 1 has refused, and so do all: host1: it can"):
            two.agree(lambda: 5)
    finally:
        Two.other = "null"


def test_values_that_only_another_has_differ_too():
    class Other(hosts.Hosts):
        def gather(self, text):
            return [text, json.dumps(["host1", {"a": 1, "b": 2}])]

    with pytest.raises(
        InputError, match=r"process 1 \(host1\) has another .*: b is null there and 2"
    ):
        Other(0, 2).check_same({"a": 1})


def test_a_signal_that_comes_while_others_are_asked_is_heard_the_next_time(tmp_path):
    """Not lost: a second one would kill the process without a save."""
    stop, asked = Stop(), []

    class Asked(hosts.Hosts):
        def gather(self, text):
            asked.append(text)
            if len(asked) == 2:
                stop.signum = signal.SIGTERM
            return [text, "0"]

    steps = Steps(
        feed=Feed(int, int),
        step_fns={1: lambda state, batch: (state, {"loss": jnp.asarray(1.0)})},
        validate=lambda state: [{"selection": 0.0}],
        where_it_began=lambda *_: "",
        save=lambda *_, **__: None,
        log=NoLog(),
        total_steps=40,
        steps_per_epoch=40,
        evaluate_every=40,
        checkpoint_every=40,
        batch_size=1,
        num_seeds=1,
        where=tmp_path,
        hosts=Asked(0, 2),
    )
    assert run_steps({"step": 0}, 0, steps, stop) == 10
    assert asked == ["0", "0", "15"] and stop.signum == signal.SIGTERM


def test_devices_are_as_many_in_every_process():
    def devices(*processes):
        found = [
            SimpleNamespace(process_index=i, platform="cpu", device_kind="x") for i in processes
        ]
        return hosts.Hosts(0, 2).split_of(8, found)

    assert devices(0, 0, 1, 1).startswith("cpu (x): 4 devices of 2 processes, 2 of 8 clips each")
    with pytest.raises(InputError, match="different numbers of devices .1 of process 0, 2 of proc"):
        devices(0, 1, 1)
    with pytest.raises(InputError, match="devices of 1 processes, and the run knows of 2"):
        devices(0, 0)


def test_what_may_come_of_a_loss_waits_for_its_reason(monkeypatch):
    """A save that fails, or anything that no one has refused; not what all refuse alike."""
    waited = []
    monkeypatch.setattr(hosts.time, "sleep", waited.append)

    class Failed(InputError):
        pass

    cases = [(2, Failed, True), (2, RuntimeError, True), (2, InputError, False)]
    for count, error, waits in [*cases, (1, Failed, False), (1, RuntimeError, False)]:
        waited.clear()
        with pytest.raises(error), hosts.Hosts(0, count).waits_for_reason(Failed):
            raise error("a reason")
        assert (sum(waited) > hosts.LOST_AFTER) == waits, (count, error)


def test_launchers_are_known_by_their_signs():
    several = {
        "SLURM_STEP_NUM_TASKS": "2",
        "OMPI_COMM_WORLD_SIZE": "8",
        "TPU_WORKER_HOSTNAMES": "a,b",
    }
    for name, value in several.items():
        assert hosts.sign_of_several({name: value}) == name
    alone = {"SLURM_STEP_NUM_TASKS": "1", "TPU_WORKER_HOSTNAMES": "a", "SLURM_NTASKS": "4"}
    assert hosts.sign_of_several(alone) is None


def test_the_end_of_a_process_is_one_line(tmp_path):
    """From what JAX writes of a lost worker, of a lost process 0, and where one does not come; the
    rest is passed on."""
    worker = (
        "E1 coordination_service.cc:1] [5] Use error polling to propagate the following error to "
        "all tasks: UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n"
        "1\n3\nThe tasks have crashed.\nF1 client.h:80] Terminating process\n  @ 0x7f\n"
    )
    leader = (
        "E1 agent.cc:289] Polled an error from coordination service (this can be one).\nF1 "
        "client.h:80] Terminating process because the JAX distributed service detected fatal "
        "errors. absl::Status: UNAVAILABLE: Either the leader task was preempted\n*** stack\n"
    )
    alone = (
        "F1 client.h:80] Terminating process because the JAX distributed service detected fatal "
        "errors. absl::Status: DEADLINE_EXCEEDED: Deadline Exceeded\n\nRPC: /xla.coordination."
        "CoordinationService/RegisterTask\n*** Check failure stack trace: ***\n"
    )
    for told, expected in (
        (worker, "process 1, 3 of the run was lost"),
        (leader, "process 0 of the run was lost"),
        (alone, "the processes of the run have not met within five minutes"),
    ):
        with open(tmp_path / "said", "w+") as out:
            lines = ["a warning\n", "[Gloo] Rank 0 is connected\n", *told.splitlines(True)]
            last_words.relay(lines, out)
            out.seek(0)
            first, *rest = out.read().splitlines()
        assert first == "a warning"
        (line,) = rest
        assert expected in line
