"""The command line: ``jfsed-jax COMMAND [--flag=value ...] [ARG ...]``.

A command is a pair of functions: one defines its absl flags, the other runs it. Imports happen
inside the functions, so that ``--help`` and the NumPy-only commands start without JAX.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags, logging

from jfsed_jax.errors import InputError


class Command(NamedTuple):
    """One subcommand: what it does in a line, its positional arguments, its flags, its body."""

    summary: str
    arguments: str
    define_flags: Callable[[flags.FlagValues], None]
    run: Callable[[flags.FlagValues, list[str]], None]


def _report_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)


def _report(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.report import write_report

    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; expected only --workdir=DIR")
    if not values.workdir:
        raise InputError("--workdir is missing; expected the folder of a run, --workdir=DIR")
    print(write_report(Path(values.workdir)))


COMMANDS: dict[str, Command] = {
    "report": Command(
        "Write report.html, scores and figures of a run, from its saved files.",
        "",
        _report_flags,
        _report,
    ),
}


def _overview() -> str:
    width = max(map(len, COMMANDS), default=0)
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: jfsed-jax COMMAND [--flag=value ...]", "", *lines, ""]
        + ["'jfsed-jax COMMAND --help' shows a command's flags."]
    )


def _help(name: str, command: Command, values: flags.FlagValues) -> str:
    usage = f"usage: jfsed-jax {name} [--flag=value ...] {command.arguments}".rstrip()
    return f"{usage}\n\n{command.summary}\n{values.get_help()}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; 0 on success, 2 on bad input (one line on stderr), 130 on Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else 2
    name, *rest = argv
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"jfsed-jax: no command {name!r}; there are: {known}", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    command.define_flags(values)
    if any(argument in ("-h", "--help") for argument in rest):
        print(_help(name, command, values))
        return 0
    # absl's logger refuses to work before the global flags are parsed; ours are per command.
    flags.FLAGS(["jfsed-jax"])
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    try:
        positional = values(["jfsed-jax", *rest])[1:]
        command.run(values, positional)
    except (flags.Error, InputError) as error:
        message = " ".join(str(error).split())
        print(f"jfsed-jax {name}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"jfsed-jax {name}: interrupted", file=sys.stderr)
        return 130
    return 0
