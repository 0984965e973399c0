"""The command line: help, flags, errors in one line, exit statuses; not what commands do."""

import errno
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import absl.logging
import jax
import pytest

from jfsed_jax import __version__, datasets
from jfsed_jax.cli import config_file, process
from jfsed_jax.cli import main as cli
from jfsed_jax.config_files import load_config
from jfsed_jax.datasets import preparation
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import benchmarking, suite
from jfsed_jax.training import loop
from jfsed_jax.training.interrupt import Interrupted
from jfsed_jax.training.profiling import Traced

ROOT = Path(__file__).parents[2]
PTS = f"--config={ROOT}/configs/pts.py:tiny"
TRAIN = ["train", PTS, "--data=x", "--workdir=w"]

# Flags of every command; those with a star are required.
FLAGS = {
    "demo": "workdir",
    "prepare": "data* config features strict verify workers",
    "inspect": "data* config features strict workers output",
    "openmix": "esc10* fsdd* out* rehearsal workers",
    "train": (
        "config* data* workdir* features strict init_from profile coordinator num_processes "
        "process_id"
    ),
    "evaluate": (
        "workdir* checkpoint model tags postprocess data features seed split tune_thresholds "
        "decoder score_files bootstrap"
    ),
    "predict": "workdir* checkpoint model tags postprocess seed output resume threshold classes "
    "decoder overlap overwrite audacity raven save_scores page embed_audio",
    "export": "workdir* output* input checkpoint model tags postprocess threshold seed",
    "score": (
        "reference* estimates scores durations match classes json page compare compare_scores psds "
        "operating_points scenario collar offset_share segment filters processed bootstrap seed"
    ),
    "postprocess": "scores* output* strong knee postprocess decoder fixed tags threshold extension",
    "tune": "scores* reference* output* durations metric decoder windows filters folds seed tags",
    "windows": "strong* knee frame_rate bootstrap",
    "reproduce": "table* data* workdir* size seeds systems epochs features jobs together",
    "benchmark": "config batch reference processes json layers suite minutes roofline",
    "report": "workdir*",
    "compare": "split output bootstrap seed",
}


def run(*arguments, **kwargs):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "jfsed_jax", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        **kwargs,
    )


def error_of(arguments, capsys):
    """The one line that a command prints when it refuses its arguments."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


# Help --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLAGS)
def test_help_has_every_flag_what_is_required_and_an_example(name, capsys):
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    usage, _, rest = text.partition("\n\n")
    assert usage.startswith(f"usage: jfsed-jax {name}")
    flags, required = (rest.partition(title)[2] for title in ("flags:\n", "required:\n"))
    required = required.partition("\n\n")[0]
    found = set(re.findall(r"^  --(\w+)", rest, re.MULTILINE))
    assert found == {flag.rstrip("*") for flag in FLAGS[name].split()}
    for flag in FLAGS[name].split():
        marked = f"--{flag.rstrip('*')} "
        assert (marked in required) == flag.endswith("*")
        assert (marked.replace(" ", "=") in usage) == flag.endswith("*")
    assert "-h, --help" in flags
    assert f"example:\n  jfsed-jax {name} " in text


@pytest.mark.parametrize("name", FLAGS)
def test_the_example_parses(name):
    example = shlex.split(f"{name} {cli.COMMANDS[name].example}")
    args, rest = cli.command_line().parse_known_args(example)
    rest = args.parser.check(args, rest)
    if args.parser.config and args.config is not None:
        config = load_config(args.config)
        assert config_file.change_config(config, rest) == []


def test_defaults_are_shown_and_taken(capsys):
    assert cli.main(["windows", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "{chord,mode}" in text and "default: chord" in text and "default: 60." in text
    args = cli.command_line().parse_args(["windows", "--strong=x"])
    assert (args.frame_rate, args.bootstrap) == (60.0, 0)


def test_the_overview_names_every_command(capsys):
    for arguments, status in ([], 2), (["help"], 0), (["--help"], 0), (["-h"], 0):
        assert cli.main(arguments) == status
        text = capsys.readouterr().out
        assert set(re.findall(r"^    (\w+) ", text, re.MULTILINE)) == set(FLAGS)


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jfsed-jax {__version__}\n"


def test_help_loads_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "jfsed_jax", "windows", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "jfsed_jax.cli.scores" in loaded
    assert not loaded & {"jax", "flax", "numba", "pandas", "numpy", "librosa", "matplotlib"}


def test_a_reader_that_leaves_gets_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "jfsed_jax", "demo", "--help"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # else argparse does not tell
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_cannot_be_written_is_one_line(unbuffered, tmp_path):
    """Beside what else went wrong."""
    (tmp_path / "labels.tsv").write_text("filename\tonset\toffset\tevent_label\na.wav\t0\t1\tCat\n")
    cut = "; the output, which is not whole, cannot be written"
    cases = [
        ("labels.tsv", f"jfsed-jax windows: [Errno 28] No space left on device{cut}"),
        ("none.tsv", "jfsed-jax windows: none.tsv cannot be read: No such file or directory"),
    ]
    for name, expected in cases[: 1 if unbuffered else 2]:
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "jfsed_jax", "windows", f"--strong={name}"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            )
        assert done.returncode == 2
        assert done.stderr.removesuffix("\n").removesuffix(cut) == expected.removesuffix(cut)


def test_a_full_disk_under_an_output_without_a_buffer_is_told_by_a_line_more(monkeypatch, capsys):
    """Nothing is left to flush there, and to write nothing succeeds."""

    class Full:
        def write(self, text):
            if text:
                raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(process, "close_stdout", lambda: None)
    monkeypatch.setattr(cli, "_run", lambda argv: print("scores"))
    assert cli.main(["windows"]) == 2
    cut = "No space left on device; the output, which is not whole, cannot be written\n"
    assert capsys.readouterr().err.endswith(cut)


# Spellings ---------------------------------------------------------------------------------------


def parse(*arguments):
    """The parsed flags, with the config's values."""
    args, rest = cli.command_line().parse_known_args(arguments)
    rest = args.parser.check(args, rest)
    if args.parser.config and args.config is not None:
        args.config = load_config(args.config)
        assert config_file.change_config(args.config, rest) == []
    return args


def test_flags_are_spelt_with_or_without_an_equals_sign():
    path = PTS.partition("=")[2]
    changes = ["--config.loss.gamma", "3", "--config.data.in_memory", "--config.loss.tau", "-2"]
    args = parse(
        "train", *changes, "--config", path, "--data", "d", "--strict", "--workdir=w=1",
        "--config.batch.weak=5", "--config.evaluation.average=false", "--nostrict",
    )  # fmt: skip
    assert (args.data, args.workdir, args.strict, args.features) == ("d", "w=1", False, None)
    assert args.config.loss.gamma == 3.0 and args.config.loss.tau == -2.0
    assert args.config.data.in_memory is True and args.config.batch.weak == 5
    assert args.config.evaluation.average is False
    assert parse("prepare", "--data=d", "--strict").strict is True
    assert parse("train", PTS, "--data=d", "--workdir=w", "--noconfig.evaluation.average")
    assert parse("score", "--reference=r", "--estimates=e", "--classes=a, b").classes == ["a", "b"]


def test_the_config_stays_as_its_file_defines_it():
    config = parse(*TRAIN, "--config.epochs=7").config
    # In proportion to the epochs, as base.py says.
    assert config.optimiser.decay_epochs == pytest.approx(0.7)
    with pytest.raises(AttributeError):
        config.nonsense = 1
    assert parse("benchmark").config.system == "pts_tfd_afl_esp"


def test_audio_stands_anywhere():
    args = parse("predict", "a.wav", "--workdir=w", "b.wav", "--seed", "1", "c.wav")
    assert args.audio == ["a.wav", "b.wav", "c.wav"]


def test_a_packaged_config_is_found_away_from_a_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/pts.py:tiny").size == "tiny"
    (tmp_path / "configs").mkdir()
    own = tmp_path / "configs/pts.py"
    own.write_text("from jfsed_jax.configs import base\nget_config = base.get_config\n")
    assert load_config("configs/pts.py").system == "pts"


def test_flags_come_from_a_file_too(tmp_path):
    (tmp_path / "flags").write_text("--data=d\n--strict\n")
    args = parse("prepare", f"--flagfile={tmp_path / 'flags'}")
    assert (args.data, args.strict) == ("d", True)


@pytest.mark.parametrize(
    ("flags", "workers", "verify"),
    [([], None, False), (["--workers=3"], 3, False), (["--verify"], None, True)],
)
def test_prepare_does_what_its_flags_ask_for(flags, workers, verify, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets, "prepare", lambda *args, **kwargs: asked.append(kwargs))
    monkeypatch.setattr(preparation, "format_summary", str)
    assert cli.main(["prepare", "--data=d", *flags]) == 0
    assert [(kwargs["workers"], kwargs["verify"]) for kwargs in asked] == [(workers, verify)]


@pytest.mark.parametrize(("rate", "window"), [(60, 19), (30, 9)])
def test_windows_are_in_frames_of_the_rate(rate, window, tmp_path, capsys):
    # One second is 60 or 30 frames; 0.333 of that is 19.98 or 9.99, cut.
    strong = tmp_path / "strong.tsv"
    strong.write_text("filename\tonset\toffset\tevent_label\na.wav\t1\t2\tDog\n")
    assert cli.main(["windows", f"--strong={strong}", f"--frame_rate={rate}"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"Windows in frames of 1/{rate} s")
    assert last.split()[-3:] == ["5", str(window), str(window)]  # fixed, avg, esp


def test_a_thousand_resamples_unless_a_number_is_asked_for(tmp_path):
    events, out = tmp_path / "events.tsv", tmp_path / "scores.json"
    events.write_text("filename\tonset\toffset\tevent_label\na.wav\t1\t2\tDog\n")
    command = ["score", f"--reference={events}", f"--estimates={events}", f"--json={out}"]
    for flags, expected in ([], 1000), (["--bootstrap=100", f"--compare={events}"], 100):
        assert cli.main([*command, *flags]) == 0
        assert json.loads(out.read_text())["info"]["num_resamples"] == expected


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "invalid choice: 'fly' (choose from"),
        (["fly"], "windows"),
        (["--verbosity=1"], "no command; there are: demo, prepare"),
        (["train", "--nonsense=1"], "train: no flag --nonsense; see --help"),
        *(
            ([command, "--bootstrap=99"], "99 resamples make no interval of 95 %; expected 0 for")
            for command in ("score", "evaluate", "compare")
        ),
        (["train", "--wokrdir=1"], "no flag --wokrdir; did you mean --workdir?"),
        (["train", "--work=1"], "no flag --work; did you mean --workdir?"),
        (["train", "--data=/nowhere", "--workdir=w"], "--config is missing"),
        (["train"], "--config, --data, --workdir are missing; see --help"),
        (["train", "--data"], "argument --data: expected one argument"),
        ([*TRAIN, "stray"], "unexpected argument 'stray'"),
        ([*TRAIN, "--config.epohcs=3"], "has no epohcs; did you mean --config.epochs?"),
        ([*TRAIN, "--config.eta", "3"], "has no eta; did you mean --config.postprocess.eta?"),
        ([*TRAIN, "--config.loss.gama=3"], "has no loss.gama; did you mean --config.loss.gamma?"),
        ([*TRAIN, "--noconfig.data.memory"], "did you mean --config.data.in_memory?"),
        ([*TRAIN, "--config.zzz=3"], "has no zzz; configs/base.py has its names"),
        ([*TRAIN, "--config.epochs=many"], "--config.epochs=many"),
        (["train", PTS.replace("tiny", "huge"), *TRAIN[2:]], "size 'huge': expected one of paper"),
        (["train", "--config=configs/none.py", *TRAIN[2:]], "none.py is no config file; there are"),
        (["train", "--config=configs/none.py", *TRAIN[2:]], "base, demo, guided_learning"),
        (["train", "--config=configs", *TRAIN[2:]], "configs is no config file"),
        (["evaluate", "--workdir=/nowhere"], "/nowhere"),
        (["evaluate", "--workdir=w", "--split=test"], "argument --split: invalid choice: 'test'"),
        (["predict", "--workdir=/nowhere"], "no audio files"),
        (["report", "--workdir=/nowhere"], "/nowhere"),
        (["prepare", "--data=/nowhere"], "/nowhere"),
        (["prepare", "--data=d", "--workers=0"], "argument --workers: 0 is not"),
        (["prepare", "--data="], "--data is missing"),
        (["prepare", "--flagfile=/nowhere"], "/nowhere"),
        (["windows", "--strong=s", "--frame_rate=x"], "argument --frame_rate"),
        (["score", "--reference=r", "--estimates=e", "--psds"], "--durations is missing"),
        (["postprocess", "--scores=s", "--output=o"], "--strong is missing"),
        (["reproduce", "--table=4", "--data=d", "--workdir=w"], "argument --table"),
        (["benchmark", "--config.batch.weak=x"], "--config.batch.weak=x"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, capsys):
    error = error_of(arguments, capsys)
    assert message in error
    assert error.startswith("jfsed-jax")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nraise KeyError('y\\nz')\n", r"KeyError, line 2: 'y\nz'"),
        ("import nonsense\n", "ModuleNotFoundError, line 1: No module named 'nonsense'"),
        ("def get_config(:\n", "SyntaxError"),
        ("x = 1\n", "no attribute 'get_config'"),
        ("def get_config():\n    return {}\n", "returns dict; expected a ConfigDict"),
        ("def get_config():\n    raise ValueError('two\\nlines')\n", "line 2: two lines"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(tmp_path, text, message, capsys):
    path = tmp_path / "own.py"
    path.write_text(text)
    error = error_of(["train", f"--config={path}", *TRAIN[2:]], capsys)
    assert f"{path}" in error and message in error


# Exit statuses -----------------------------------------------------------------------------------


def test_statuses_of_the_process():
    assert run("windows", "--help").returncode == 0
    done = run("windows", "--strong=/nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "jfsed-jax windows: /nowhere cannot be read: No such file or directory\n"


def replace(monkeypatch, name, body):
    """Gives a command another body."""
    monkeypatch.setitem(cli.COMMANDS, name, cli.COMMANDS[name]._replace(run=body))


def test_ctrl_c_is_130_anywhere(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    replace(monkeypatch, "prepare", interrupted)
    assert cli.main(["prepare", "--data=d"]) == 130
    assert capsys.readouterr().err == "jfsed-jax prepare: interrupted\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_training_that_a_signal_stopped_has_its_status(signum, monkeypatch, capsys):
    def stopped(*args, **kwargs):
        raise Interrupted("stopped and saved at step 1 of 9", signum)

    monkeypatch.setattr(process, "start_training", lambda *args, **kwargs: None)
    monkeypatch.setattr(loop, "fit", stopped)
    assert cli.main(TRAIN) == 128 + signum
    assert capsys.readouterr().err == "jfsed-jax train: stopped and saved at step 1 of 9\n"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (InputError("a\nb"), "jfsed-jax prepare: a b\n"),
        (PermissionError(13, "Permission denied", "f"), "Permission denied: 'f'\n"),
    ],
)
def test_what_a_command_raises_is_one_line(monkeypatch, capsys, raised, expected):
    def refuses(args):
        raise raised

    replace(monkeypatch, "prepare", refuses)
    assert error_of(["prepare", "--data=d"], capsys).endswith(expected)


def test_a_mistake_in_the_code_is_not_hidden(monkeypatch):
    def broken(args):
        raise ZeroDivisionError

    replace(monkeypatch, "prepare", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["prepare", "--data=d"])


# The process ------------------------------------------------------------------------------------


def test_the_log_has_all_of_this_package_and_the_warnings_of_others():
    handler = absl.logging.get_absl_handler()
    for _ in range(2):
        process.log_to_stderr()
    (wanted,) = handler.filters

    def record(level, path):
        return logging.LogRecord("absl", level, path, 1, "text", None, None)

    ours, others = process.__file__, logging.__file__
    assert wanted(record(logging.INFO, ours)) and wanted(record(logging.WARNING, others))
    assert not wanted(record(logging.INFO, others))


def test_a_module_of_the_folder_can_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = [path for path in sys.path if path]
    monkeypatch.setattr(sys, "path", list(before))
    for _ in range(2):
        process.import_from_here()
    assert sys.path == [*before, str(tmp_path)]  # last: it hides no other module


def test_devices_are_those_of_training(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(process, "start_jax", lambda: None)
    monkeypatch.setattr(process, "use_cpu_devices", asked.append)
    process.start_jax_as_trained(str(tmp_path))  # no run: who loads it says so
    (tmp_path / "config.json").write_text('{"cpu_devices": 3}')
    process.start_jax_as_trained(str(tmp_path))
    assert asked == [3]


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        ("XLA_FLAGS", "--xla_a=1 --xla_force_host_platform_device_count=8"),
        ("JAX_NUM_CPU_DEVICES", "8"),
        (None, None),
    ],
)
def test_the_environment_says_how_many_devices_a_cpu_has(variable, given, monkeypatch, caplog):
    """Eight that were forced are not turned into two, and a line tells."""
    asked = []
    for name in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, given)
    monkeypatch.setattr(jax.config, "update", lambda *pair: asked.append(pair))
    with caplog.at_level(logging.INFO):
        process.use_cpu_devices(2)
    assert asked == ([] if variable else [("jax_num_cpu_devices", 2)])
    assert (f"8 devices of the CPU, as {variable}" in caplog.text) == bool(variable)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_processes=2"], "--num_processes and --process_id need --coordinator=HOST:PORT"),
        (["--coordinator=a:1", "--process_id=0"], "--coordinator needs --num_processes and"),
    ],
)
def test_processes_are_joined_by_all_flags_or_none(flags, message, monkeypatch):
    started = []
    monkeypatch.setattr("jfsed_jax.hosts.start", lambda *given: started.append(given))
    given = dict(flag.removeprefix("--").split("=") for flag in flags)
    index, count = given.get("process_id"), given.get("num_processes")
    with pytest.raises(InputError, match=message):
        process.join_processes(given.get("coordinator"), count, index)
    process.join_processes(None, None, None)
    assert started == []


FLAG = "--xla_gpu_deterministic_ops"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", f"{FLAG}=true"),
        ("--xla_dump_to=/d", f"--xla_dump_to=/d {FLAG}=true"),
        (f"{FLAG}=false {FLAG}", f"{FLAG}=false {FLAG}"),  # the last one counts
        (f"{FLAG}=1", f"{FLAG}=1"),
        (f"{FLAG}_x=0", f"{FLAG}_x=0 {FLAG}=true"),  # another flag
    ],
)
def test_deterministic_kernels_are_asked_for_before_jax_starts(given, expected, monkeypatch):
    found = []
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(process, "_keep_freed_memory", lambda: None)
    monkeypatch.setattr(process, "start_jax", lambda n: found.append(os.environ["XLA_FLAGS"]))
    monkeypatch.setattr(loop, "fit", lambda *args, **kwargs: None)
    assert cli.main(TRAIN) == cli.main([*TRAIN, "--config.deterministic"]) == 0
    assert found == [given, expected]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--layers --suite", "--suite is not for --layers: leave one out"),
        ("--suite --roofline=h200", "--roofline is not for --suite: leave one out"),
        ("--layers --json=x.json", "--json is not for --layers: leave one out"),
        ("--suite --reference=torch", "--reference is not for --suite: leave one out"),
        ("--roofline=l4 --processes", "--processes is not for --roofline: leave one out"),
        ("--minutes=3", "--minutes is for --suite"),
    ],
)
def test_a_flag_that_would_change_nothing_is_refused(given, message, capsys):
    assert message in error_of(["benchmark", PTS, *given.split()], capsys)


def test_what_benchmark_is_asked_for_is_handed_on(monkeypatch):
    found = []

    def measure(config, **options):
        found.append(options)
        raise InputError("enough")

    monkeypatch.setattr(benchmarking, "prepare_process", lambda devices: None)
    monkeypatch.setattr(benchmarking, "benchmark", measure)
    monkeypatch.setattr(suite, "run_suite", measure)
    for flags in ([], ["--processes", "--batch=8"], ["--suite"], ["--suite", "--minutes=3"]):
        assert cli.main(["benchmark", PTS, *flags]) == 2
    assert found == [
        {"size": None, "reference": None, "processes": False},
        {"size": 8, "reference": None, "processes": True},
        {"size": None, "minutes": 10},
        {"size": None, "minutes": 3.0},
    ]


def test_steps_to_trace_are_handed_on(monkeypatch):
    found = []
    monkeypatch.setattr(process, "start_training", lambda *_, **__: None)
    monkeypatch.setattr(loop, "fit", lambda *args, profile, **_: found.append(profile))
    for flags in ([], ["--profile=7:9"], ["--profile=5"]):
        assert cli.main([*TRAIN, *flags]) == 0
    assert found == [None, Traced(7, 9), Traced(None, 5)]


def test_a_benchmark_measures_what_deterministic_kernels_cost(monkeypatch):
    found = []
    monkeypatch.setenv("XLA_FLAGS", "")

    def measured(*args, **kwargs):
        found.append(os.environ["XLA_FLAGS"])
        raise InputError("enough")

    monkeypatch.setattr(benchmarking, "prepare_process", measured)
    for flags in [], ["--config.deterministic"]:
        assert cli.main(["benchmark", PTS, *flags]) == 2
    assert found == ["", f"{FLAG}=true"]


def test_what_xla_flags_say_against_deterministic_kernels_is_not_overridden(
    tmp_path, monkeypatch, capsys
):
    file = tmp_path / "flags"
    cases = [
        (f"--xla_dump_to=/d {FLAG}=False", f"XLA_FLAGS has {FLAG}=False: leave out one of the two"),
        (str(file), f"XLA_FLAGS names the file {file}, which does not have it: write it there"),
    ]
    for given, reason in cases:
        monkeypatch.setenv("XLA_FLAGS", given)
        assert reason in error_of([*TRAIN, "--config.deterministic"], capsys)
        assert os.environ["XLA_FLAGS"] == given
    file.write_text(f"--xla_dump_to=/d\n{FLAG}=true\n")
    process.use_deterministic_kernels()
    assert os.environ["XLA_FLAGS"] == str(file)
