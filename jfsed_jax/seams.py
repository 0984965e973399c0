"""What a config names: a value of this package by its name, anyone's as ``package.module:name``."""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from jfsed_jax.errors import InputError


def resolve(name: str, known: Mapping[str, Any] | ModuleType, what: str) -> Any:
    """The value that a config's `name` stands for.

    Args:
      name: a key of `known`, or ``package.module:name`` of a module that Python finds.
      known: values by name, or a module whose attributes they are.
      what: the config's value, for the message of an error, such as ``config.scheme``.

    Raises:
      InputError: there is no such value, or its module cannot be imported.
    """
    module_name, colon, attribute = name.partition(":")
    if colon:
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # a user's module may raise anything
            raise InputError(
                f"{what} is {name!r}, but importing {module_name} failed "
                f"({type(error).__name__}: {error}); expected package.module:name of a module on "
                "Python's path, which holds the folder that the command is run in"
            ) from error
        try:
            return getattr(module, attribute)
        except AttributeError as error:
            raise InputError(
                f"{what} is {name!r}, but {module.__file__} defines no {attribute!r}"
            ) from error
    values = vars(known) if isinstance(known, ModuleType) else known
    if name not in values or name.startswith("_"):
        listed = f"; there are {', '.join(values)}" if isinstance(known, Mapping) else ""
        raise InputError(
            f"{what} is {name!r}: expected a name of {getattr(known, '__name__', 'this list')}"
            f"{listed}, or package.module:name"
        )
    return values[name]
