"""The command ``jfsed-jax COMMAND [--flag=value ...] [ARG ...]``.

A command is two functions of a module beside this one: one defines its flags, the other runs it.
They import what they need when they run, so that ``--help`` and the commands that need NumPy only
start without JAX.
"""

import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import flags

from jfsed_jax import __version__
from jfsed_jax.cli import (
    comparing,
    data,
    detection,
    experiments,
    exporting,
    labelling,
    postprocessing,
    process,
    scores,
    training,
    tuning,
)
from jfsed_jax.cli.arguments import CommandParser, refuse_positional
from jfsed_jax.errors import InputError, one_line


class Command(NamedTuple):
    """What it does, in a line; an example of its use; its flags; its body, which returns a status.

    The status is 0 only if all was done.
    """

    summary: str
    example: str
    define: Callable[[CommandParser], None]
    run: Callable[..., int]


_CONFIG = "configs/pts_tfd_afl_esp.py:small"

COMMANDS = {
    "demo": Command(
        "Render a data set, train on it, evaluate, report: minutes.",
        "--workdir=runs/demo",
        training.define_demo,
        training.run_demo,
    ),
    "prepare": Command(
        "Check a data folder and extract its features, once.",
        f"--config={_CONFIG} --data=DIR",
        data.define_prepare,
        data.run_prepare,
    ),
    "inspect": Command(
        "Write a page about a data folder: classes, durations, levels, problems, clips.",
        "--data=DIR --output=page.html",
        data.define_inspect,
        data.run_inspect,
    ),
    "openmix": Command(
        "Mix real recordings, which are public, into an open benchmark: minutes.",
        "--esc10=ESC-10 --fsdd=free-spoken-digit-dataset --out=openmix",
        data.define_openmix,
        data.run_openmix,
    ),
    "train": Command(
        "Train a system, or go on training it.",
        f"--config={_CONFIG} --data=DIR --workdir=W --config.epochs=20",
        training.define_train,
        training.run_train,
    ),
    "evaluate": Command(
        "Score a trained system on labelled clips.",
        "--workdir=W --split=eval",
        detection.define_evaluate,
        detection.run_evaluate,
    ),
    "predict": Command(
        "Label recordings with a trained system.",
        "--workdir=W --output=events.tsv first.wav second.flac",
        labelling.define_predict,
        labelling.run_predict,
    ),
    "export": Command(
        "Write a trained system for programs without this package.",
        "--workdir=W --output=detector.stablehlo",
        exporting.define_export,
        exporting.run_export,
    ),
    "score": Command(
        "Score anyone's events by the DCASE 2019 protocol.",
        "--reference=truth.tsv --estimates=events.tsv --page=scores.html",
        scores.define_score,
        scores.run_score,
    ),
    "postprocess": Command(
        "Turn anyone's score files into events.",
        "--scores=DIR --strong=strong.tsv --output=events.tsv",
        postprocessing.define_postprocess,
        postprocessing.run_postprocess,
    ),
    "tune": Command(
        "Find each class's threshold and median window for anyone's score files.",
        "--scores=DIR --reference=truth.tsv --output=decoder.json",
        tuning.define_tune,
        tuning.run_tune,
    ),
    "windows": Command(
        "Print the median windows of every class from strong labels.",
        "--strong=strong.tsv --bootstrap=1000",
        postprocessing.define_windows,
        postprocessing.run_windows,
    ),
    "reproduce": Command(
        "Train, evaluate and tabulate the paper's experiments beside its figures.",
        "--table=1 --systems=3,9 --size=small --data=DIR --workdir=W",
        experiments.define_reproduce,
        experiments.run_reproduce,
    ),
    "benchmark": Command(
        "Measure train step, inference, features, input and memory, beside PyTorch if asked.",
        f"--reference=torch --config={_CONFIG}",
        experiments.define_benchmark,
        experiments.run_benchmark,
    ),
    "report": Command(
        "Write report.html, scores and figures of a run, from its saved files.",
        "--workdir=W",
        detection.define_report,
        detection.run_report,
    ),
    "compare": Command(
        "Compare runs: what differs, which is better and how sure that is, on a page.",
        "--split=eval W1 W2",
        comparing.define_compare,
        comparing.run_compare,
    ),
}


def command_line() -> CommandParser:
    """The parser of the program, with those of all commands."""
    # absl's own flags stand before the command; one that another package defines gives way.
    program = CommandParser(
        prog="jfsed-jax",
        usage="jfsed-jax COMMAND [--flag=value ...]",
        conflict_handler="resolve",
        inherited_absl_flags=flags.FLAGS,
    )
    version = f"jfsed-jax {__version__}"
    program.flags.add_argument(
        "-V", "--version", action="version", version=version, help="Show the version."
    )
    commands = program.add_subparsers(
        title="commands, each with its own --help", metavar="COMMAND", prog="jfsed-jax"
    )
    for name, command in COMMANDS.items():
        parser = commands.add_parser(
            name,
            help=command.summary,
            description=command.summary,
            example=f"jfsed-jax {name} {command.example}",
            inherited_absl_flags=None,
        )
        command.define(parser)
        parser.set_defaults(parser=parser, run=command.run)
    return program


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
      0 only if all was done; 2 on bad input, with one line on stderr; 130 after Ctrl-C and 143
      after SIGTERM, on which training saves first; 141 if the reader of the output has gone.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    name = f"jfsed-jax {argv[0]}" if argv and argv[0] in COMMANDS else "jfsed-jax"
    try:
        status = _run(argv)
        sys.stdout.flush()  # here, where a pipe that is closed can be told
        return status
    except KeyboardInterrupt as stop:
        said = str(stop) or "interrupted"
        _say(f"{name}: {said}")
        if not hasattr(stop, "signum"):  # of `training.interrupt.Interrupted`, which all have had
            process.leave(argv, 128 + signal.SIGINT, said)
        return 128 + getattr(stop, "signum", signal.SIGINT)
    except BrokenPipeError:
        process.close_stdout()
        return process.PIPE_CLOSED
    except (InputError, flags.Error, OSError) as error:
        # An error of stdout, as on a full disk, does not name it; a line more tells.
        nameless = isinstance(error, OSError) and error.filename is None
        said = one_line(" ".join(line.strip(" ") for line in str(error).split("\n")))
        _say(f"{name}: {said}", probe="\n" if nameless else "")
        process.leave(argv, 2, said)
        return 2
    except Exception as error:
        if process.is_one_of_several(argv):  # else Python tells
            traceback.print_exc()
            process.leave(argv, 1, f"{type(error).__name__}: {error}")
        raise


def _say(text: str, *, probe: str = "") -> None:
    """One line on stderr, after what is buffered for stdout and `probe`."""
    try:
        print(end=probe, flush=True)
    except OSError as error:
        process.close_stdout()
        if not isinstance(error, BrokenPipeError):
            text += "; the output, which is not whole, cannot be written"
    print(text, file=sys.stderr)


def _run(argv: list[str]) -> int:
    program = command_line()
    if not argv or argv == ["help"]:
        program.print_help()
        return 0 if argv else 2
    if argv[0] == "help":
        argv = [*argv[1:], "--help"]
    try:
        args, rest = program.parse_known_args(argv)
    except SystemExit:  # --help and --version have printed
        return 0
    if "run" not in args:
        raise InputError(f"no command; there are: {', '.join(COMMANDS)}")
    overrides = args.parser.check(args, rest)
    process.log_to_stderr()
    process.say_errors_once()
    process.import_from_here()
    if args.parser.config:
        from jfsed_jax.cli.config_file import change_config
        from jfsed_jax.config_files import load_config

        if args.config is not None or overrides:  # of prepare and inspect it may be left out
            args.config = load_config(args.config or "configs/base.py")
            refuse_positional(change_config(args.config, overrides))
    return args.run(args)
