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

from jfsed_jax.errors import InputError

# Of a checkpoint: what a detector cannot do without.
NEEDED = ("config", "classes", "front_end", "frame_rate", "feature_shares")

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

    def refuse(name: str, expected: str, found: Any) -> NoReturn:
        raise InputError(f"{where}: expected {name!r} to be {expected}, found {found!s:.60}")

    def positive(name: str, value: Any) -> None:
        if value is not None and not (is_number(value) and value > 0):
            refuse(name, "a positive number", repr(value))

    classes = meta.get("classes", [])
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in classes):
        refuse("classes", "a list of labels", classes)
    pages = {name: meta.get(name, {}) for name in ("front_end", "windows", "durations")}
    for name, page in {**pages, "config": meta.get("config", {})}.items():
        if not isinstance(page, dict):
            refuse(name, "an object", page)
    for name in ("clip_seconds", "sample_rate", "hop_length"):
        positive(name, pages["front_end"].get(name))
    for name in ("frame_rate", "steps_per_epoch"):
        positive(name, meta.get(name))
    longest = _LONGEST_WINDOW * (meta.get("frame_rate") or math.inf)
    for rule, windows in pages["windows"].items():
        if not _are_numbers(windows, 1, longest, len(classes)) or not all(
            isinstance(window, int) for window in windows
        ):
            refuse(f"windows.{rule}", "frames of each class, an hour at most", windows)
    for label, lengths in pages["durations"].items():
        if label not in classes or not _are_numbers(lengths, 0, math.inf):
            refuse(f"durations.{label}", "seconds of a class", lengths)
    if (shares := meta.get("feature_shares")) is not None and not _are_numbers(
        shares, 0, math.inf, len(classes)
    ):
        refuse("feature_shares", "a share of each class", shares)


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
