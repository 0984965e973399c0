"""What the commands share: their parser, their kinds of flags, errors in one line.

The flags of a command are argparse's, added to a parser of ``absl.flags.argparse_flags``, whose
program takes absl's own flags too (``--verbosity``, ``--flagfile``). They are not absl flags, of
which a help page tells neither the required ones nor choices nor defaults. Those that change a
value of a config exist only once its file is read; the parser leaves them to `config_file`.
"""

import argparse
import difflib
import errno
import math
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from absl import flags
from absl.flags import argparse_flags

from jfsed_jax.errors import InputError

FEWEST_RESAMPLES = 100  # of which 95 of 100 can be told
_AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aif", ".aiff")


class CommandParser(argparse_flags.ArgumentParser):
    """The parser of a command; errors are raised, and its help marks what is required.

    Attributes:
      needed: the required flags.
      positional: the name of the positional arguments, or None.
      config: whether there is a ``--config``, whose values can be changed.
      flags: the group of flags that are not required.
    """

    def __init__(self, *, example: str | None = None, **kwargs: Any) -> None:
        super().__init__(
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=example and f"example:\n  {example}",
            **kwargs,
        )
        self.needed: list[str] = []
        self.positional: str | None = None
        self.config = False
        self._names = ["--help"]
        self._required = self.add_argument_group("required")
        self.flags = self.add_argument_group("flags")
        self.flags.add_argument("-h", "--help", action="help", help="Show this help.")

    def error(self, message: str) -> Any:
        raise InputError(message)

    def require(self, flag: str, meaning: str, **kwargs: Any) -> None:
        """Adds a flag that must have a value; `check` says so when it has none."""
        action = self._required.add_argument(flag, help=meaning, **kwargs)
        self._names.append(flag)
        shown = action.metavar or "|".join(map(str, action.choices or ()))
        self.needed.append(f"{flag}={shown}")

    def take(self, name: str, meaning: str) -> None:
        """Adds positional arguments, one or more."""
        # None of them is no error here: `check` names misspelt flags first.
        self._required.add_argument(name.lower(), metavar=name, nargs="*", help=meaning)
        self.positional = name

    def add(self, flag: str, meaning: str, **kwargs: Any) -> None:
        """Adds a flag with a value, see ``argparse.ArgumentParser.add_argument``."""
        self._names.append(flag)
        self.flags.add_argument(flag, help=meaning, **kwargs)

    def switch(self, name: str, meaning: str) -> None:
        """Adds the boolean flags ``--name`` and ``--noname``."""
        self._names.append(f"--{name}")
        self.flags.add_argument(f"--{name}", action="store_true", help=meaning)
        self.flags.add_argument(
            f"--no{name}", dest=name, action="store_false", help=argparse.SUPPRESS
        )

    def format_help(self) -> str:
        parts = ["%(prog)s", *self.needed, "[--flag=value ...]"]
        if self.config:
            parts.append("[--config.key=value ...]")
        if self.positional:
            parts.append(f"{self.positional} ...")
        self.usage = self.usage or " ".join(parts)
        return super().format_help()

    def check(self, args: argparse.Namespace, rest: Sequence[str]) -> list[str]:
        """Refuses flags that do not exist and asks for those that are missing.

        Args:
          args: what was parsed; positional arguments among `rest` are added to it.
          rest: what the parser did not know.

        Returns:
          What changes the config.
        """
        for text in rest:
            flag = text.partition("=")[0]
            if re.match("--?[A-Za-z]", flag) and not (self.config and is_override(flag)):
                nearest = difflib.get_close_matches(flag, self._names, n=1)
                raise InputError(
                    f"no flag {flag}; "
                    + (f"did you mean {nearest[0]}?" if nearest else "see --help")
                )
        if missing := [f for f in map(_flag_name, self.needed) if not getattr(args, f[2:])]:
            verb = "is" if len(missing) == 1 else "are"
            raise InputError(f"{', '.join(missing)} {verb} missing; see --help")
        if self.config:
            return list(rest)
        if self.positional:
            getattr(args, self.positional.lower()).extend(rest)
        else:
            refuse_positional(rest)
        return []


def add_bootstrap(parser: CommandParser) -> None:
    """Adds `--bootstrap`, how many resamples 95 % intervals are of."""
    parser.add(
        "--bootstrap",
        f"Number of resamples of the clips for 95 %% intervals: 0 for none, or {FEWEST_RESAMPLES} "
        "or more; default: %(default)s.",
        type=_resamples,
        metavar="N",
        default=1000,
    )


def _resamples(text: str) -> int:
    found = number(int, 0)(text)
    if 0 < found < FEWEST_RESAMPLES:
        raise argparse.ArgumentTypeError(
            f"{text} resamples make no interval of 95 %; expected 0 for none, or "
            f"{FEWEST_RESAMPLES} or more"
        )
    return found


def refuse_positional(arguments: Sequence[str]) -> None:
    """For a command that takes flags only."""
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; expected flags only, see --help")


def is_override(flag: str) -> bool:
    """Whether a flag changes a value of the config: ``--config.key``, ``--noconfig.key``."""
    return bool(re.match(r"--?(no)?config\.", flag))


def number(
    kind: type[int] | type[float], lowest: float | None = None, highest: float | None = None
) -> Callable[[str], Any]:
    """The type of a flag whose value is a finite number from `lowest` to `highest`."""
    parser = flags.IntegerParser if kind is int else flags.FloatParser
    parse = _parse_with(parser(lowest, highest))  # type: ignore[arg-type]

    def finite(text: str) -> Any:
        value = parse(text)
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text} is not a finite number")
        return value

    return finite


def names() -> Callable[[str], list[str]]:
    """The type of a flag whose value is a list, ``a,b``."""
    return _parse_with(flags.ListParser())


def output_file() -> Callable[[str], str]:
    """The type of a flag that names a file to write: refused where that could not be written.

    Else hours of work could end without a result. What is there stays as it is. What is called like
    audio is refused too: in ``--output a.wav b.wav`` the flag has lost its value to a recording.
    """
    return _writable(_refuse_file)


def output_folder() -> Callable[[str], str]:
    """The type of a flag that names a folder to write to, which need not be there; see above."""
    return _writable(_refuse_folder)


def refuse_overwriting(flag: str, output: str | None, inputs: Iterable[str | Path | None]) -> None:
    """InputError if the value of a flag is one of the files that the command reads.

    Of `inputs` a folder stands for the .tsv files in it, None for nothing.
    """
    for path in [Path(name) for name in inputs if name and output]:
        for read in path.glob("*.tsv") if path.is_dir() else (path,):
            with suppress(OSError):  # one of the two is not there
                if os.path.samefile(output or "", read):
                    raise InputError(f"--{flag}={output} is a file to be read; name another one")


def _writable(refuse: Callable[[Path], None]) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            if text:
                refuse(Path(text))
        except OSError as error:
            reason = error.strerror or error
            raise argparse.ArgumentTypeError(f"{text} cannot be written: {reason}") from error
        return text

    return check


def _refuse_file(path: Path) -> None:
    """OSError if `atomic.write_whole` could not write `path`, or would write over a recording."""
    if path.suffix.lower() in _AUDIO:
        raise OSError("that is the name of a recording; name the file to write")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            _make_file_in(Path(os.path.realpath(path)).parent)
        else:
            _refuse_folder(path.parent)
        return
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISREG(mode) and not path.is_symlink():
        _make_file_in(path.parent)  # as the new file, before it takes the place of the old one
    elif not os.access(path, os.W_OK):  # to open a pipe could block
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _refuse_folder(path: Path) -> None:
    """OSError if no file could be made in `path`, which may have to be made too."""
    while not path.exists():
        path = path.parent
    _make_file_in(path)


def _make_file_in(folder: Path) -> None:
    """Tries it, since permissions do not tell all, with a file that leaves no trace."""
    tempfile.TemporaryFile(dir=folder).close()


def _parse_with(parser: flags.ArgumentParser) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return parser.parse(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def _flag_name(shown: str) -> str:
    return shown.partition("=")[0]
