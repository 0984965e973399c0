"""What a run knows of itself (``meta.json``, and the same in every checkpoint): whole, possible.

Digits have no checksum of their own: one bit makes a frame rate of 60 one of 20, and every event
is at another time. So what travels in a checkpoint is sealed, and what has no seal, as in older
runs, or was sealed with wrong values, has at least to be possible.
"""

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.errors import InputError

# Of a checkpoint: what a detector cannot do without; one may be None.
_NEEDED = ("config", "classes", "front_end", "frame_rate", "feature_shares")
_OPTIONAL = "feature_shares"

_SEAL = "sha256"
_LONGEST_WINDOW = 3600.0  # seconds; far above any that a rule gives, far below what fills a memory


def sealed(meta: Mapping[str, Any]) -> dict[str, Any]:
    """With a digest of all that is in it, as JSON."""
    return {**meta, _SEAL: _digest(meta)}


def unsealed(where: Path, saved: Any) -> dict[str, Any]:
    """What was sealed; what never was, as before there were seals, is given back as it is.

    Raises:
      InputError: it is not what was sealed.
    """
    if not isinstance(saved, dict):
        raise InputError(f"{where}: expected a JSON object, found {saved!s:.60}")
    meta = {key: value for key, value in saved.items() if key != _SEAL}
    if saved.get(_SEAL, digest := _digest(meta)) != digest:
        raise InputError(f"{where} is not what was written: its digest is another one")
    return meta


def _digest(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def check_meta(where: Path, meta: Mapping[str, Any]) -> None:
    """Refuses values that no training writes; of what is absent nothing is said.

    Raises:
      InputError: it names the value.
    """
    classes = meta.get("classes", [])
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in classes):
        _refuse(where, "classes", "a list of labels", classes)
    for name in ("front_end", "config", "windows", "durations", "init_from"):
        if not isinstance(page := meta.get(name, {}), dict):
            _refuse(where, name, "an object", page)
    numbers = {name: meta.get(name) for name in ("frame_rate", "steps_per_epoch")}
    for name in ("clip_seconds", "sample_rate", "hop_length"):
        numbers[name] = meta.get("front_end", {}).get(name)
    for name, value in numbers.items():
        if value is not None and not (is_number(value) and value > 0):
            _refuse(where, name, "a positive number", repr(value))


def check_checkpoint_meta(where: Path, meta: Mapping[str, Any]) -> None:
    """`check_meta` of a checkpoint, from which events are made: and each class has its own.

    Raises:
      InputError: it names the value.
    """
    given = {name for name, value in meta.items() if value is not None or name == _OPTIONAL}
    if absent := [name for name in _NEEDED if name not in given]:
        raise InputError(f"{where} lacks {', '.join(absent)}")
    check_meta(where, meta)
    try:
        FrontEnd(**meta["front_end"])
    except (TypeError, InputError) as error:
        raise InputError(f"{where}: 'front_end' cannot be used: {error}") from error
    count, longest = len(meta["classes"]), _LONGEST_WINDOW * meta["frame_rate"]
    for rule, windows in meta.get("windows", {}).items():
        if not _are_numbers(windows, 1, longest, count) or any(int(w) != w for w in windows):
            _refuse(where, f"windows.{rule}", "frames of each class, an hour at most", windows)
    for label, lengths in meta.get("durations", {}).items():
        if label not in meta["classes"] or not _are_numbers(lengths, 0, math.inf):
            _refuse(where, f"durations.{label}", "seconds of a class", lengths)
    shares = meta["feature_shares"]
    if shares is not None and not _are_numbers(shares, 0, math.inf, count):
        _refuse(where, "feature_shares", "a share of each class", shares)


def _refuse(where: Path, name: str, expected: str, found: Any) -> NoReturn:
    raise InputError(f"{where}: expected {name!r} to be {expected}, found {found!s:.60}")


def _are_numbers(values: Any, low: float, high: float, count: int | None = None) -> bool:
    return (
        isinstance(values, list)
        and (count is None or len(values) == count)
        and all(is_number(value) and low <= value <= high for value in values)
    )


def is_number(value: object) -> TypeGuard[float]:
    """A finite number, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max
