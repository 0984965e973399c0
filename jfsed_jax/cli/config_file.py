"""The flags that change a config's values, ``--config.loss.gamma=3``."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jfsed_jax.cli.arguments import is_override
from jfsed_jax.errors import InputError


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
