"""The suite of a device: which loop it chooses, what it says of failures and of time, its parts."""

import json
import time
from functools import partial
from types import SimpleNamespace

import jax
import lone_work
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.configs import base, mean_teacher, pts_tfd_afl_esp, supervised
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import suite, suite_parts, suite_rows
from jfsed_jax.experiments.benchmark_data import full_epoch, make_batch
from jfsed_jax.experiments.lone_process import Attempt, run_alone
from jfsed_jax.experiments.our_side import make_programs, make_system
from jfsed_jax.method import parallel
from jfsed_jax.method.state import initial_state, run_keys

VERSION = tuple(map(int, jax.__version__.split(".")[:2]))
# Mosaic GPU has what the kernels need from JAX 0.12 on.
BACKENDS = {"pallas": "triton"} | ({"mosaic": "mosaic"} if VERSION >= (0, 12) else {})

# A process of its own ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("fails", "no such kernel"),
        ("breaks", "ZeroDivisionError: by\\nzero!!"),
        ("dies", "its process ended with SIGSEGV"),
        ("leaves", "its process ended with status 3"),
    ],
)
def test_what_goes_wrong_alone_is_a_line(how, reason):
    found = run_alone(lone_work.end_as_told, how, seconds=60)
    assert found.value is None
    assert found.error.startswith(reason) and len(found.error) <= 300


def test_what_is_returned_may_be_large_and_what_hangs_is_ended():
    assert len(run_alone(lone_work.end_as_told, "does well", seconds=60).value) == 10_000_000
    since = time.monotonic()
    assert run_alone(lone_work.end_as_told, "waits", seconds=1.0) == (None, "stopped after 1 s")
    assert time.monotonic() - since < 30  # and not the minute that it waits


# The choice --------------------------------------------------------------------------------------


def side(seconds, posterior=0.5, **more):
    """What `measure_ours` or `measure_torch` finds."""
    return Attempt(
        {
            "train step": seconds,
            "inference": seconds / 4,
            "compile_seconds": 3.0,
            "peak_memory": 2**30,
            "posteriors": [np.full((2, 10), 0.5), np.full((2, 6, 10), posterior)],
            "versions": {"jax": "1"},
        }
        | more
    )


FAILED = Attempt(error="no kernel")


@pytest.mark.parametrize(
    ("sides", "chosen", "words"),
    [
        (dict(scan=side(1.0), pallas=side(0.5)), "pallas", "pallas takes 0.50 of the scan's"),
        # Not measurably faster.
        (dict(scan=side(1.0), pallas=side(0.98)), "scan", "scan stays the default: pallas takes"),
        (dict(scan=side(1.0), pallas=side(0.5), mosaic=side(0.4)), "mosaic", "mosaic takes 0.40"),
        (dict(scan=side(1.0), pallas=side(0.4), mosaic=side(0.5)), "pallas", "mosaic takes 0.50"),
        (dict(scan=side(1.0), pallas=side(0.5, 0.6)), "scan", "posteriors are 0.1 from the scan's"),
        (dict(scan=side(1.0), pallas=FAILED), "scan", "pallas has no figure"),
        (dict(scan=FAILED, pallas=side(0.5)), "pallas", "scan has no figure"),
        (dict(scan=FAILED, pallas=FAILED), "scan", "no loop of the recurrence has a figure"),
        # PyTorch is no loop.
        ({"scan": side(1.0), "PyTorch eager": side(0.1)}, "scan", "scan stays the default"),
    ],
)
def test_the_loop_that_the_figures_choose(sides, chosen, words):
    found, said = suite_rows.chosen_loop(sides)
    assert found == chosen
    assert words in said


# The whole, of made-up parts ---------------------------------------------------------------------

FOUND = {
    "measure_ours": side(0.02, variables={"w": 1}, machine="1 x H200", devices=1, recurrence=0.01),
    "measure_torch": side(0.05, versions={"torch": "2"}),
    "measure_seeds": Attempt({"one": 0.02, "several": 0.06, "compile_seconds": 9.0}),
    "train_many": Attempt({"steps": 500, "seconds": 9.0, "joules": 5000.0}),
    "train_and_save": Attempt(
        {
            "saved": "state",
            "digest": "abc",
            "deterministic": 0.03,
            "default": 0.02,
            "default_repeats": False,
        }
    ),
    "resume": Attempt({"digest": "abc"}),
    "measure_log_mel": Attempt({"ours": 0.001}),
    "measure_ceiling": Attempt(
        {
            "dtype": "float32",
            "card": {"flops": {"float32": 4e14}, "bandwidth": 4e12, "turns": {"a scan": 5e-6}},
            "step_seconds": {"a scan": 0.005},
        }
    ),
}


class Script:
    """Calls no part; answers with what is made up, and keeps with what it was called."""

    def __init__(self, **changed):
        self.found, self.calls = FOUND | changed, []

    def __call__(self, part, config_json, size, row, *arguments, seconds):
        self.calls.append((part.__name__, json.loads(config_json), arguments, seconds))
        found = self.found[part.__name__]
        return found(*arguments) if callable(found) else found


def run_made_up(**changed):
    """The result of the paper's complete system, its rows by name, and the script."""
    script = Script(**changed)
    result = suite.run_suite(pts_tfd_afl_esp.get_config(), run=script)
    json.dumps(result, allow_nan=False)
    return result, {row["name"]: row for row in result["rows"]}, script


def test_rows_of_what_was_measured():
    result, rows, _ = run_made_up()
    assert result["batch"] == 64 and result["machine"] == "1 x H200"
    assert result["versions"].keys() == {"jfsed_jax", "jax", "torch"}
    value = {name: row["value"] for name, row in rows.items()}
    assert value["train step, scan"] == 0.02 and value["train step, PyTorch eager"] == 0.05
    assert value["PyTorch eager / scan"] == pytest.approx(2.5)
    assert value["4 seeds in one program / one"] == pytest.approx(3.0)
    assert value["energy of a step"] == 10.0
    # 282 steps of 0.018 s, 200 times.
    assert value["200 epochs of the full set"] == pytest.approx(200 * 282 * 0.018 / 3600)
    assert value["deterministic kernels / default"] == pytest.approx(1.5)
    assert "do not repeat" in rows["deterministic kernels / default"]["note"]
    # 64 clips of 10 s in 5 ms.
    assert rows["student's inference, scan"]["note"] == "128,000 times real time"
    assert rows["resumed by another process"]["note"].startswith("the same bits")
    assert "4.00 times that" in rows["train step by the roofline"]["note"]


def test_goals_stand_beside_what_they_are_of():
    _, rows, _ = run_made_up()
    found = {name: row["goal"] for name, row in rows.items() if row["goal"]}
    assert {name: goal["value"] for name, goal in found.items()} == {
        "train step, scan": 0.012,
        "train step, pallas": 0.012,
        "train step, mosaic": 0.012,
        "PyTorch eager / scan": 2.0,
        "torch.compile / scan": 1.3,
        "4 seeds in one program / one": 2.5,
    }
    assert {name for name, goal in found.items() if not goal["at_most"]} == {
        "PyTorch eager / scan",
        "torch.compile / scan",
    }


def test_other_bits_are_said_loudly():
    _, rows, _ = run_made_up(resume=Attempt({"digest": "abd"}))
    assert rows["resumed by another process"]["note"].startswith("OTHER BITS")


def test_a_part_that_fails_is_a_row_and_ends_nothing():
    result, rows, script = run_made_up(**dict.fromkeys(FOUND, Attempt(error="out of memory")))
    assert {row["note"] for row in rows.values()} == {"out of memory"}
    assert "train step, mosaic" in rows and "log-mel" in rows
    # A state that was never saved is not resumed.
    assert "resume" not in [name for name, *_ in script.calls]
    assert "no loop of the recurrence has a figure" in suite.format_suite(result)


def test_what_follows_the_choice_runs_with_it():
    def ours(loop):
        return side(0.01 if loop == "pallas" else 0.02, variables={"w": loop})

    _, rows, script = run_made_up(measure_ours=ours)
    loops = [config["gru_loop"] for name, config, *_ in script.calls if name != "measure_ours"]
    assert loops == ["scan", "scan"] + 6 * ["pallas"]
    assert rows["PyTorch eager / pallas"]["value"] == pytest.approx(5.0)
    # PyTorch starts from the scan's weights; a resumed run from what was saved.
    given = [arguments for name, _, arguments, _ in script.calls if name == "measure_torch"]
    assert given == [(False, {"w": "scan"}), (True, {"w": "scan"})]
    assert script.calls[-3][0] == "resume" and script.calls[-3][2] == ("state",)


def test_no_part_begins_when_the_time_is_up(monkeypatch):
    """A minute, of which each part takes 18 s: a part may take three tenths, or what is left."""
    now = [0.0]
    monkeypatch.setattr(suite.time, "monotonic", lambda: now[0])

    def part(*arguments, seconds):
        now[0] += 18
        limits.append(seconds)
        return FAILED

    limits = []
    result = suite.run_suite(base.get_config("tiny"), minutes=1.0, run=part)
    assert limits == [18, 18, 18]
    late = [row for row in result["rows"] if row["note"] == "not measured: no time was left"]
    assert {row["name"] for row in late} >= {"train step, torch.compile", "log-mel"}


def test_the_text_is_a_table_with_the_device_and_the_choice():
    result, *_ = run_made_up(measure_seeds=Attempt(error="x" * 300))
    lines = suite.format_suite(result).splitlines()
    assert lines[0].startswith("pts_tfd_afl_esp:paper, batch 64, float32; jfsed_jax ")
    assert lines[1].startswith("1 x H200; 1 JAX devices; measured in 0.0 of 10 minutes")
    table = {line.split("  ")[0]: line for line in lines}
    assert table["train step, scan"].split("  ", 1)[1].split() == (
        ["20.0", "ms", "at", "most", "12.0", "ms", "compiled", "in", "3.0", "s"]
    )
    assert "400 TFLOP/s" in table["one matrix product"]
    assert "5.00 us" in table["a turn of an empty scan"]
    assert "1,024 MiB" in table["peak memory, scan"]
    assert table["4 seeds in one program / one"].endswith("xxx...")
    assert lines[-1] == f"config.gru_loop: {result['default']}"


def test_a_config_that_is_deterministic_is_refused():
    config = base.get_config("tiny")
    config.deterministic = True
    with pytest.raises(InputError, match="leave out --config.deterministic"):
        suite.run_suite(config, run=Script())


@pytest.mark.parametrize(
    ("page", "changes", "steps"),
    [
        (base, {}, 282),  # 14412 // 51
        (mean_teacher, {}, 210),  # round(0.8 * 1578) // 6
        (mean_teacher, {"evaluation.select_on": "validation"}, 263),  # 1578 // 6
        (supervised, {}, 282),
        (base, {"steps_per_epoch": 7}, 7),
    ],
)
def test_an_epoch_of_the_full_set_is_as_training_counts_it(page, changes, steps):
    config = page.get_config()
    config.update_from_flattened_dict(changes)
    assert full_epoch(config) == steps


# The parts ---------------------------------------------------------------------------------------


class FakeSide:
    """In place of `OurSide`, which test_benchmark.py compiles; its state is the steps it took."""

    compile_seconds = {"train step": 1.0, "seeds": 2.0}
    variables = {"w": 1}

    def __init__(self, config, batch, seeds=1, *, deterministic=False):
        self.seeds, self.deterministic = seeds, deterministic
        self.clips, self.steps = [], 0
        FakeSide.made.append(self)

    def train(self):
        self.steps += 1

    def train_seeds(self):
        time.sleep(0.002)

    def train_on(self, batches):
        self.clips += [batch["mel"] for batch in batches]

    def infer(self):
        return [np.zeros((4, 10)), np.zeros((4, 20, 10))]

    def saved(self):
        return {"steps": np.array(self.steps)}

    def restore(self, saved):
        self.steps = int(saved["steps"])

    def peak_on_device(self):
        return 77


@pytest.fixture
def here(monkeypatch):
    """What every part is given; it runs in this process, which stays as it is."""
    monkeypatch.setattr(suite_parts, "prepare_process", lambda devices: None)
    monkeypatch.setattr(suite_parts, "OurSide", FakeSide)
    FakeSide.made = []
    config = base.get_config("tiny")
    config.student.pools = ((1, 4), (1, 4), (1, 4))
    config.front_end.update(clip_seconds=20 / 60)
    return config.to_json(), 4, 0.05


def test_one_side(here):
    found = suite_parts.measure_ours(*here, "scan")
    assert {"train step", "inference", "recurrence"} <= found.keys()
    assert found["peak_memory"] == 77 and found["compile_seconds"] == 1.0
    assert found["recurrence"] > found["train step"] > 0  # that of the fake is none
    with pytest.raises(InputError, match="no kernel"):
        suite_parts.measure_ours(*here, "pallas")


def test_pytorch_chooses_its_threads_on_a_cpu_alone(here, monkeypatch):
    happened = []

    class Theirs(FakeSide):
        def __init__(self, config, front_end, batch, variables, compiled):
            super().__init__(config, batch)
            happened.append((variables, compiled))

        def choose_threads(self):
            happened.append("threads")

        def recurrence_call(self, *layers):
            return lambda: None

    reference = SimpleNamespace(
        TorchSide=Theirs, torch=SimpleNamespace(__version__="2"), try_all_kernels=lambda: None
    )
    monkeypatch.setattr(suite_parts, "load_reference", lambda: reference)
    for device in ("cpu", "cuda"):
        Theirs.device = SimpleNamespace(type=device)
        found = suite_parts.measure_torch(*here, True, {"w": 1})
        assert found["peak_memory"] == 77 and found["recurrence"] >= 0
    assert happened == [({"w": 1}, True), "threads", ({"w": 1}, True)]


def test_several_seeds_are_held_against_one(here):
    found = suite_parts.measure_seeds(*here, 3)
    assert FakeSide.made[0].seeds == 3
    assert found["several"] > 0.002 > found["one"] and found["compile_seconds"] == 2.0


def test_many_steps_have_batches_of_their_own(here):
    found = suite_parts.train_many(*here)
    (side,) = FakeSide.made
    # Three to begin with, three to count on, and the measured ones.
    assert found["steps"] == 500 and len(side.clips) == 506
    one, next_one = side.clips[:2]
    assert not np.array_equal(one, next_one)
    assert sorted(one.sum((1, 2))) == sorted(next_one.sum((1, 2)))  # the same clips


def test_a_resumed_run_is_compared_with_the_uninterrupted_one(here):
    found = suite_parts.train_and_save(*here)
    assert [side.deterministic for side in FakeSide.made] == [True, False]
    assert found["saved"] == {"steps": suite_parts.STEPS_BETWEEN}
    assert found["default_repeats"]
    assert suite_parts.resume(*here, found["saved"])["digest"] == found["digest"]
    assert FakeSide.made[-1].deterministic
    later = {"steps": found["saved"]["steps"] + 1}
    assert suite_parts.resume(*here, later)["digest"] != found["digest"]


def test_one_bit_changes_a_digest():
    state = {"a": np.ones(3, np.float32), "b": np.zeros((), np.int32)}
    changed = state | {"a": np.array([1, 1, np.nextafter(np.float32(1), 2)], np.float32)}
    digests = [suite_parts.digest_of(tree) for tree in (state, dict(state), changed)]
    assert digests[0] == digests[1] != digests[2]


def smallest(**changes):
    """The complete system in bfloat16 with one block and one BGRU each, of a size with kernels."""
    config = pts_tfd_afl_esp.get_config("tiny")
    few = dict(filters=(4,), kernels=(3,), convs=(1,), gru_layers=1, gru_hidden=16)
    config.teacher.update(few, pools=((10, 16),))
    config.student.update(few, pools=((1, 32),))
    config.front_end.update(clip_seconds=20 / 60)
    config.compute_dtype = "bfloat16"
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def shapes():
    """Arguments of the suite's programs of `smallest`, by name."""
    config = smallest()
    front_end = FrontEnd(**config.front_end)
    shape = front_end.num_frames, front_end.n_mels
    init = partial(initial_state, make_system(config), input_shape=shape)
    one = jax.eval_shape(init, run_keys(0))
    two = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), one)
    batch = make_batch(config, front_end, 4)
    student = {"params": one.params["student"], "batch_stats": one.batch_stats["student"]}
    return {"inference": (student, batch["mel"]), "seeds": (two, batch, run_keys(0, 2))}


def test_what_is_measured_lowers_for_cuda_and_tpu(shapes):
    """Of the seeds, whose program is the step's under `jax.vmap`."""
    config = smallest()
    made = make_programs(config, make_system(config), parallel.make_mesh(1), seeds=2)
    for name, arguments in shapes.items():
        exported = jax.export.export(made[name], platforms=["cuda", "tpu"])(*arguments)
        assert exported.platforms == ("cuda", "tpu")
        text = exported.mlir_module()
        assert "callback" not in text and "f64" not in text and "bf16" in text, name


@pytest.mark.parametrize(("loop", "backend"), BACKENDS.items())
def test_seeds_as_one_program_have_the_kernels_of_one(
    loop, backend, shapes, kernels_for_cuda, h100, monkeypatch
):
    # They are asked of a device that compiles; here nothing is compiled.
    monkeypatch.setattr(parallel, "frugal_options", lambda mesh: {})
    mesh = AbstractMesh((1,), (parallel.AXIS,), (AxisType.Auto,), abstract_device=h100)
    config = smallest(gru_loop=loop)
    made = make_programs(config, make_system(config), mesh, seeds=2)
    # One layer of two models, forward and backward.
    assert kernels_for_cuda(made["seeds"], *shapes["seeds"], backend=backend) == 4
