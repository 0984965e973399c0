"""Which steps are traced, that a trace ends with its steps, and that it never costs a run."""

from argparse import ArgumentTypeError
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jfsed_jax.cli.training import steps_to_trace
from jfsed_jax.errors import InputError
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.training import profiling
from jfsed_jax.training.feed import Feed
from jfsed_jax.training.interrupt import Stop
from jfsed_jax.training.log import NoLog
from jfsed_jax.training.profiling import Profile, Traced, make_profile
from jfsed_jax.training.steps import Steps, run_steps


@pytest.mark.parametrize(
    ("traced", "start", "expected"),
    [
        (Traced(100, 110), 0, (100, 110)),
        (Traced(100, 110), 104, (105, 110)),  # resumed within
        (Traced(100, 110), 110, None),  # resumed behind them
        (Traced(195, 300), 0, (195, 200)),
        (Traced(201, 300), 0, None),
        (Traced(1, 1), 0, (1, 1)),
        (Traced(None, 5), 0, (11, 15)),  # the first ten are left out
        (Traced(None, 5), 150, (161, 165)),  # counted from where this process begins
        (Traced(None, 5), 190, (196, 200)),  # or fewer, where fewer are left
        (Traced(None, 5), 197, (198, 200)),
        (Traced(None, 300), 0, (1, 200)),
    ],
)
def test_steps_of_a_run_of_200(traced, start, expected):
    assert traced.steps(start, 200) == expected


def test_what_the_flag_takes():
    assert Traced(*steps_to_trace("100:110")) == Traced(100, 110)
    assert Traced(*steps_to_trace("5")) == Traced(None, 5)
    assert steps_to_trace("7:7") == (7, 7)
    for text in ("", "5:", ":5", "-3", "a:b", "1:2:3", "2.5"):
        with pytest.raises(ArgumentTypeError, match="expected FIRST:LAST, as 100:110, or a number"):
            steps_to_trace(text)
    for text in ("0", "0:5", "110:100"):
        with pytest.raises(ArgumentTypeError, match="expected steps from 1, the first one first"):
            steps_to_trace(text)


@pytest.fixture
def profiler(monkeypatch, caplog):
    """JAX's profiler as a stub: what happened, in order."""
    caplog.set_level("INFO")
    happened = []

    def call(name, *_, **__):
        happened.append(name)
        if name in stub.fails:
            raise RuntimeError(f"no {name}\nand a traceback")

    class Annotation:
        def __init__(self, name, step_num):
            happened.append(f"step {step_num}")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    stub = SimpleNamespace(
        fails=(),
        happened=happened,
        ProfileOptions=SimpleNamespace,
        StepTraceAnnotation=Annotation,
        start_trace=lambda folder, profiler_options: call("start"),
        stop_trace=lambda: call("stop"),
    )
    monkeypatch.setattr(profiling, "profiler", stub)
    return stub


def take_steps(profile, happened, *, total=12, dispatch=1, start=0, stop=None, fail_at=None):
    """`run_steps` without a model; each dispatch is noted with the step that it reaches."""

    def step_of(count):
        def step(state, batch):
            state += count
            happened.append(int(state))
            if stop is not None and state == stop.at:
                stop.signum = 2
            if state == fail_at:
                raise InputError("a clip cannot be read")
            return state, {"loss": jnp.ones(count)}

        return step

    saved = []
    steps = Steps(
        feed=Feed(int, int),
        step_fns={count: step_of(count) for count in (1, dispatch)},
        validate=lambda state: [{"selection": 0.0}],
        where_it_began=lambda *_: "",
        save=lambda step, *_, **__: saved.append(step),
        log=NoLog(),
        total_steps=total,
        steps_per_epoch=total,
        evaluate_every=total,
        checkpoint_every=500,
        batch_size=1,
        num_seeds=1,
        where=profile.folder,
        profile=profile,
    )
    reached = run_steps(jnp.asarray(start), start, steps, stop or Stop())
    assert saved[-1] == reached
    return reached


def test_a_trace_begins_and_ends_with_its_steps(tmp_path, profiler, caplog):
    take_steps(Profile((3, 4), tmp_path), profiler.happened, total=6)
    traced = ["start", "step 3", 3, "step 4", 4, "stop"]
    assert profiler.happened == [1, 2, *traced, 5, 6]
    assert "steps 3 to 4 are traced: open" in caplog.text and "xprof --logdir" in caplog.text


def test_devices_are_waited_for_before_a_trace_and_within_it(tmp_path, profiler, monkeypatch):
    """Else it has the end of the steps before, and not that of its own."""
    happened = profiler.happened
    monkeypatch.setattr(profiling.jax, "block_until_ready", lambda state: happened.append("wait"))
    profile = Profile((1, 1), tmp_path)
    profile.before(0, 1, None)
    profile.after(1, None)
    assert happened == ["wait", "start", "wait", "stop"]


def test_steps_of_one_dispatch_are_traced_together(tmp_path, profiler, caplog):
    take_steps(Profile((7, 8), tmp_path), profiler.happened, dispatch=5)
    assert profiler.happened == [5, "start", "step 6", 10, "stop", 11, 12]
    assert "steps 6 to 10 are traced" in caplog.text


def test_without_wanted_steps_nothing_is_started(tmp_path, profiler):
    take_steps(Profile(None, tmp_path), profiler.happened, total=2)
    assert profiler.happened == [1, 2]


def test_ctrl_c_within_the_steps_closes_the_trace(tmp_path, profiler, caplog):
    stop = Stop()
    stop.at = 3
    assert take_steps(Profile((2, 9), tmp_path), profiler.happened, stop=stop) == 3
    assert profiler.happened == [1, "start", "step 2", 2, "step 3", 3, "stop"]
    assert "steps 2 to 3 are traced" in caplog.text


def test_an_error_within_the_steps_closes_the_trace(tmp_path, profiler):
    with pytest.raises(InputError, match="cannot be read"):
        take_steps(Profile((2, 9), tmp_path), profiler.happened, fail_at=3)
    assert profiler.happened[-1] == "stop" and profiler.happened.count("stop") == 1


@pytest.mark.parametrize(("fails", "what"), [("start", "begun"), ("stop", "written")])
def test_a_profiler_that_fails_costs_a_warning(tmp_path, profiler, caplog, fails, what):
    profiler.fails = (fails,)
    assert take_steps(Profile((2, 3), tmp_path), profiler.happened, total=5) == 5
    assert profiler.happened.count(fails) == 1  # and is not tried again
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    said = record.getMessage()
    assert f"could not be {what} (no {fails}); training goes on" in said and "\n" not in said


def test_steps_that_a_process_does_not_take_are_told(tmp_path, caplog):
    assert make_profile(Traced(5, 9), tmp_path, 9, 20).wanted is None
    assert "this process takes steps 10 to 20, and asked for were 5 to 9" in caplog.text
    # Of several processes one traces, and speaks.
    caplog.clear()
    assert make_profile(Traced(5, 9), tmp_path, 0, 20, writes=False).wanted is None
    assert make_profile(None, tmp_path, 0, 20).wanted is None and not caplog.text


def test_a_trace_is_a_file_for_perfetto(tmp_path, caplog):
    """JAX's own profiler: the file that the line names is there."""
    caplog.set_level("INFO")
    profile = Profile((1, 1), Workdir(tmp_path).profile)
    profile.before(0, 1, None)
    with profile.around(0):
        state = jax.jit(lambda x: x + 1)(jnp.zeros(3))
    profile.after(1, state)
    (found,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    assert str(found) in caplog.text and list((tmp_path / "profile").rglob("*.xplane.pb"))
