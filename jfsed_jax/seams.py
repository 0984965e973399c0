"""Functions and classes that a config names, anyone's as ``package.module:name``."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

from jfsed_jax.errors import InputError

T = TypeVar("T")


def resolve(name: str, known: Mapping[str, Any] | ModuleType, what: str) -> Any:
    """The function or class that a config's `name` stands for.

    Args:
      name: a key of `known`, or ``package.module:name`` of a module that Python finds.
      known: functions by name, or a module that has them.
      what: where the name stands, such as ``config.scheme``, for the message of an error.

    Raises:
      InputError: there is no such function, or its module cannot be imported.
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
        value = getattr(module, attribute, None)
        if not callable(value):
            raise InputError(
                f"{what} is {name!r}, but {attribute!r} is no function or class of {module_name}"
            )
        return value
    values = vars(known) if isinstance(known, ModuleType) else known
    value = None if name.startswith("_") else values.get(name)
    if not callable(value):
        expected = (
            f"one of {', '.join(known)}"
            if isinstance(known, Mapping)
            else f"a function of {known.__name__}"
        )
        raise InputError(f"{what} is {name!r}: expected {expected}, or package.module:name")
    return value


def call(function: Callable[..., T], what: str, **arguments: Any) -> T:
    """What a function that a config names makes of its arguments, which the config has too.

    Raises:
      InputError: they do not fit. `what` names them in the config.
    """
    try:
        return function(**arguments)
    except (TypeError, ValueError) as error:
        shown = function.func if isinstance(function, partial) else function
        raise InputError(f"{what}: {getattr(shown, '__name__', shown)}: {error}") from error
