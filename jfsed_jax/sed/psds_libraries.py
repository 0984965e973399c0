"""The door to the libraries of the extra `psds`: how they are loaded, what they take.

Axis letters: `T` segments, `C` event classes.
"""

import importlib
import os
import shutil
import sysconfig
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.scoring import load_sed_eval


def library(name: str) -> Any:
    """A library of the extra `psds`; InputError tells how to install it."""
    load_sed_eval()  # which sed_scores_eval imports too, without the care that it needs
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes in docstrings, once compiled
            return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        compiler = (os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++").split()[0]
        first = ""
        if package == "sed_scores_eval" and not shutil.which(compiler):
            first = (
                f" (which compiles it, and there is no {compiler}: install a C++ compiler first)"
            )
        raise InputError(
            f"PSDS and intersection F1 need {package}; install it with "
            f"pip install 'jfsed_jax[psds]'{first}"
        ) from error


def frame(edges: np.ndarray, scores: np.ndarray) -> Any:
    """sed_scores_eval's table of one clip: edges <float>[T + 1], scores <float>[T, C].

    Its classes are named by their places, since it cannot take every label.
    """
    return library("pandas").DataFrame(
        np.column_stack([edges[:-1], edges[1:], scores]),
        columns=["onset", "offset", *map(str, range(scores.shape[1]))],
    )


def check_events(
    events: Iterable[Event], durations: Mapping[str, float], classes: Sequence[str] | None = None
) -> None:
    """Raises InputError for an event of a clip without a duration, or of no class."""
    for event in events:
        if event.filename not in durations:
            raise InputError(f"the clip {event.filename!r} has events but no duration")
        if classes is not None and event.event_label not in classes:
            raise InputError(f"the label {event.event_label!r} is not one of {' '.join(classes)}")


def with_reference(reference: Iterable[Event], classes: Iterable[str]) -> list[str]:
    """Those of the classes that have reference events; InputError if none has."""
    labels = {event.event_label for event in reference}
    scored = [label for label in classes if label in labels]
    if not scored:
        raise InputError("no reference events: PSDS and intersection F1 are undefined")
    return scored
