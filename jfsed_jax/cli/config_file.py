"""``--config=FILE[:size]`` and the flags that change its values, ``--config.loss.gamma=3``."""

import difflib
import importlib.util
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jfsed_jax import configs
from jfsed_jax.cli.arguments import is_override
from jfsed_jax.errors import InputError

_PACKAGED = Path(configs.__file__).parent


def read_config(text: str) -> ConfigDict:
    """The config ``FILE[:size]``; ``configs/NAME.py`` away from a clone is the package's.

    Raises:
      InputError: there is no such file, or it cannot be loaded.
    """
    name, colon, size = text.partition(":")
    path = Path(name)
    if not path.exists():
        path = _PACKAGED / path.name
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in _PACKAGED.glob("[!_]*.py")))
        raise InputError(
            f"--config={text} is no config file; there are configs/NAME.py[:size] of: {known}"
        )
    try:
        spec = importlib.util.spec_from_file_location("config_file", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(*[size] if colon else [])
    except Exception as error:  # anyone's file may raise anything
        own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = f", line {own[-1].lineno}" if own else ""
        raise InputError(
            f"--config={text} cannot be loaded: {type(error).__name__}{line}: {error}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"--config={text}: get_config returns {type(config).__name__}; expected a ConfigDict"
        )
    return config


def change_config(config: ConfigDict, arguments: Sequence[str]) -> list[str]:
    """Sets what ``--config.key=value`` flags say and locks the config.

    Returns:
      The arguments that are no such flags.

    Raises:
      InputError: the config has no such key, or not of that type.
    """
    known = list(_keys(config))
    for flag in (text.partition("=")[0] for text in arguments if is_override(text)):
        key = flag.partition(".")[2]
        if key.partition("[")[0] not in known:
            # The same name on another page, or one that is spelt alike.
            near = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
            near += difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean --config.{near[0]}?" if near else "configs/base.py has its names"
            raise InputError(f"the config has no {key}; {hint}")
    values = flags.FlagValues()
    command_line = ["jfsed-jax", *arguments]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=command_line)
        return values(command_line)[1:]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(str(error)) from error


def _keys(page: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of a config, those of its pages as ``page.key``."""
    for name in page:
        yield prefix + name
        value = page[name]
        if isinstance(value, Mapping | ConfigDict):
            yield from _keys(value, f"{prefix}{name}.")
