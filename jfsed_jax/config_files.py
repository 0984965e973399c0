"""Configs by name or file."""

import importlib.util
import sys
import traceback
from pathlib import Path

from ml_collections import ConfigDict

from jfsed_jax.configs import base
from jfsed_jax.errors import InputError

_PACKAGED = Path(base.__file__).parent


def load_config(name: str | Path) -> ConfigDict:
    """A config: one of the package's by its name, or anyone's file with a ``get_config(size)``.

    Args:
      name: ``NAME[:size]`` or ``FILE.py[:size]``, as ``pts_tfd:small`` or ``mine/config.py``. Sizes
        of the package's are ``paper`` (the default), ``small`` and ``tiny``; ``configs/NAME.py`` is
        the package's where there is no such file.

    Raises:
      InputError: there is no such config, or it cannot be loaded.
    """
    text = str(name)
    stem, colon, size = text.partition(":")
    path = Path(stem)
    if not path.is_file() and str(path.parent) in (".", "configs"):
        path = _PACKAGED / f"{path.name.removesuffix('.py')}.py"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in _PACKAGED.glob("[!_]*.py")))
        raise InputError(f"{text} is no config file; there are configs/NAME.py[:size] of: {known}")
    try:
        spec = importlib.util.spec_from_file_location("jfsed_jax_config_file", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses of the file look themselves up
        spec.loader.exec_module(module)
        config = module.get_config(*[size] if colon else [])
    except (Exception, SystemExit) as error:  # anyone's file may raise anything
        own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = f", line {own[-1].lineno}" if own else ""
        raise InputError(
            f"{text} cannot be loaded: {type(error).__name__}{line}: {error}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"{text}: get_config returns {type(config).__name__}; expected a ConfigDict"
        )
    return config
