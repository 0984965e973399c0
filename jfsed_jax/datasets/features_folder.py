"""A folder of features: where it is, whose it is, who prepares into it and who reads it."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import weakref
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import logging

from jfsed_jax.atomic import write_whole
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets import shards
from jfsed_jax.errors import InputError

PREPARED = "prepared.json"
_OWNER = "features.json"
_PREPARING, _READING = ".lock", ".in-use"
_VERSION = 2  # of what a features folder holds; two are never mixed


def features_home(data_dir: Path, front_end: FrontEnd) -> Path:
    """The folder of the user's cache for the features of a data folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = json.dumps([str(data_dir.resolve()), asdict(front_end), _VERSION])
    name = re.sub(r"\W+", "-", data_dir.resolve().name)
    return cache / "jfsed_jax" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Waits for any other process that prepares into this folder; a killed one never blocks.

    Where the file system has no locks, a warning says so.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / _PREPARING, "w")  # noqa: SIM115
    except OSError as error:
        raise InputError(
            f"{directory} cannot be written: {error.strerror}; pass --features with another folder"
        ) from error
    with file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logging.info("waiting for another process that prepares %s", directory)
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            logging.warning(
                "%s cannot be locked (%s): see to it that nothing else prepares it, or pass "
                "--features with a folder elsewhere",
                directory,
                error.strerror,
            )
        yield


class Reader:
    """As long as this object lives, `prepare` deletes no shard of the folder that it reads.

    A shared lock on a file that `prepare` has put there. It ends with the process, however that
    ends. A folder that nobody prepared with this version has no such file, and no lock.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        with contextlib.suppress(OSError):  # some file systems have no locks
            descriptor = os.open(directory / _READING, os.O_RDONLY)
            weakref.finalize(self, os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)

    def __reduce__(self):
        return Reader, (self.directory,)


def remove(directory: Path, paths: list[Path]) -> None:
    """Deletes files of a features folder, or leaves them to the next `prepare` if it is in use."""
    with open(directory / _READING, "w") as file:
        if not paths:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info(
                "%s is being read, as by a training: %d files that are of no use any more stay "
                "there until jfsed-jax prepare runs again",
                directory,
                len(paths),
            )
            return
        except OSError as error:
            logging.info(
                "%s cannot be locked (%s), and a training may be reading it: %d files that are of "
                "no use any more stay there",
                directory,
                error.strerror,
                len(paths),
            )
            return
        for path in paths:
            path.unlink(missing_ok=True)


def front_end_of(directory: str | Path) -> FrontEnd | None:
    """Of the features that a folder holds; None if there are none, or nothing tells."""
    for name in (_OWNER, PREPARED):
        found = _read(Path(directory) / name, {"front_end": dict})
        with contextlib.suppress(TypeError):  # no such fields: damaged, or another version's
            if found is not None:
                return FrontEnd(**found["front_end"])
    return None


def check_owner(directory: Path, data_dir: Path, front_end: FrontEnd) -> None:
    """A features folder belongs to one data folder and one front end; nothing is ever mixed."""
    path = directory / _OWNER
    owner: dict[str, Any] = {
        "data": str(data_dir.resolve()),
        "front_end": asdict(front_end),
        "version": _VERSION,
    }
    prepared = _read(directory / PREPARED, {"front_end": dict})
    if not path.exists() and prepared is None:
        _refuse_strangers(directory)
        _write_owner(path, owner)
        return
    found = _read(path, {"data": str, "front_end": dict, "version": int})
    if found is None:
        found = _mended(directory, owner, prepared)
    else:
        found["data"] = os.path.normpath(directory.resolve() / found["data"])
    if found == owner:
        return
    if not os.path.exists(found["data"]) and found | {"data": owner["data"]} == owner:
        # Moved or copied, one of the two; each feature is still held against its own file.
        _write_owner(path, owner)
        return
    differs = [
        f"{key} {value}"
        for key, value in (found | found["front_end"]).items()
        if key != "front_end" and (owner | owner["front_end"]).get(key) != value
    ]
    raise InputError(
        f"{directory} holds features of {', '.join(differs)}, which is not what is asked for now; "
        "pass --features with another folder, or delete this one"
    )


def _refuse_strangers(directory: Path) -> None:
    entries = (entry.name for entry in directory.iterdir())
    strangers = [n for n in entries if n != _PREPARING and not re.fullmatch(r"\..*\.tmp", n)]
    if strangers:
        raise InputError(
            f"{directory} is not a folder of features, it holds {strangers[0]!r}; "
            "pass --features with an empty folder or a new one"
        )


def _mended(
    directory: Path, owner: dict[str, Any], prepared: dict[str, Any] | None
) -> dict[str, Any]:
    """What a damaged ``features.json`` must have said; `owner` if nothing tells, and no features.

    What was prepared last names the front end. The data folder need not be known: each feature is
    held against its own file.
    """
    path = directory / _OWNER
    if prepared is not None:
        logging.warning("%s is damaged or missing; written anew, from %s", path, PREPARED)
        owner = owner | {"front_end": prepared["front_end"]}
    else:
        logging.warning("%s is damaged; all features are made anew", path)
        for shard in directory.glob("*/*.array_record"):
            if re.fullmatch(shards.NAMES, shard.name):
                shards.manifest_path(shard).unlink(missing_ok=True)
    _write_owner(path, owner)
    return owner


def _read(path: Path, kinds: dict[str, type]) -> dict[str, Any] | None:
    """A JSON object with values of these types; None if it is not there or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    right = all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    return found if right else None


def _write_owner(path: Path, owner: dict[str, Any]) -> None:
    """``features.json``; the data folder relative to it, so that both can be copied together."""
    beside = os.path.relpath(owner["data"], path.parent.resolve())
    write_whole(path, json.dumps(owner | {"data": beside}, indent=1) + "\n")
