"""Configs that differ in numbers alone: which numbers, and a config that has traced values there.

A step that is built inside a traced function, from a config some of whose numbers are arguments of
that function, is one program for all of their values. Nothing that a config names has to know.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import jax
from ml_collections import ConfigDict

from jfsed_jax.errors import InputError

# What each run has for itself, outside of the program of the step.
_OWN = (
    "system",
    "seed",
    "postprocess",
    "evaluation.model",
    "evaluation.tags",
    "evaluation.average",
    "evaluation.select_by",
)
# What is worked out from the data, or says how many steps there are and what is done between two.
_COMMON = (
    "front_end",
    "batch",
    "data",
    "evaluation",
    "epochs",
    "epoch_unlabelled",
    "steps_per_epoch",
    "steps_per_dispatch",
    "num_seeds",
    "checkpoint_every_steps",
    "cpu_devices",
    "guided.disentangled_least",
)

_MODELS = ("teacher", "student", "batch_norm")  # whose numbers are mostly numbers of layers


def is_on(value: Any) -> bool:
    """Whether a number is other than 0: of one that is traced it is not known, so it may be."""
    return isinstance(value, jax.core.Tracer) or bool(value)


def flat(page: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value of a config by its key, as ``loss.tau``; an empty page is one."""
    found: dict[str, Any] = {}
    for name in page:
        value = page[name]
        if isinstance(value, Mapping | ConfigDict) and len(value):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def with_numbers(config: Any, numbers: Mapping[str, Any]) -> ConfigDict:
    """A copy of the config that has these values, which may be traced, at these keys."""
    changed = ConfigDict(config.to_dict())
    with changed.ignore_type():
        for key, value in numbers.items():
            *pages, name = key.split(".")
            page = changed
            for part in pages:
                page = page[part]
            page[name] = value
    return changed


def _within(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def member_configs(config: Any) -> list[ConfigDict]:
    """The config of each of a config's ``members``, without members of its own; none if there are
    none.

    Each member is a text of values in place of the config's, as ``loss.gamma=1 seed=3``; what
    follows from those values, as a schedule from ``epochs``, follows.

    Raises:
      InputError: a member names what is no value of the config, or not of its type.
    """
    found = []
    for number, text in enumerate(config.get("members", ())):
        own = deepcopy(config)  # which keeps its references
        own.members = ()
        where = f"config.members[{number}] is {text!r}: "
        if not isinstance(text, str):
            raise InputError(f"{where}expected a text of values, as 'loss.gamma=1 seed=3'")
        for part in text.split():
            key, equals, value = part.partition("=")
            table = flat(own)
            if not equals or key not in table or key == "members":
                raise InputError(f"{where}{part!r} is no KEY=VALUE of the config, as loss.gamma=1")
            *pages, name = key.split(".")
            page = own
            for step in pages:
                page = page[step]
            page[name] = _read(value, table[key], f"{where}{key}")
        found.append(own)
    return found


def _read(text: str, before: Any, what: str) -> Any:
    """The value that a text says, of the type of the one before."""
    kind = type(before)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
    except (KeyError, ValueError):
        pass
    raise InputError(f"{what} cannot be {text!r}: expected a value as {before!r}")


def apart(config: Any) -> dict[str, Any]:
    """What two configs must have in common to be trained as one program, as far as a look tells."""
    return {
        key: None if _is_number(value) and not _within(key, (*_COMMON, *_MODELS)) else value
        for key, value in flat(config.to_dict()).items()
        if not _within(key, _OWN)
    }


def differing(configs: Sequence[Any]) -> dict[str, tuple[float, ...]]:
    """The numbers of a step in which configs differ: by key the value of each.

    Raises:
      InputError: they differ in what is no number, or in a number that is not the step's.
    """
    tables = [flat(config.to_dict()) for config in configs]
    found = {}
    for key in dict.fromkeys(key for table in tables for key in table):
        values: tuple[Any, ...] = tuple(table.get(key) for table in tables)
        if _within(key, _OWN) or all(value == values[0] for value in values):
            continue
        shown = ", ".join(dict.fromkeys(map(str, values)))
        if _within(key, _COMMON):
            why = "it decides what the data are, or how long they are trained on"
        elif not all(map(_is_number, values)):
            why = "only numbers may"
        else:
            found[key] = values
            continue
        raise InputError(
            f"config.{key} is {shown} in runs that are to be trained as one program: {why}; train "
            "those apart"
        )
    return found
