"""Recordings by name: files, folders and patterns."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jfsed_jax.audio.decoding import BY_FFMPEG, BY_LIBSNDFILE

# What in a folder is taken for a recording; a file that is named may be called anything.
SUFFIXES = (*BY_LIBSNDFILE, *BY_FFMPEG)


class Found(NamedTuple):
    """Recordings to be read.

    Attributes:
      paths: each once, in order; those of a folder by name.
      problems: by name, why there is nothing to read.
      others: how many files of folders are called like no recording.
    """

    paths: list[str]
    problems: dict[str, str]
    others: int


def find_recordings(names: Iterable[str]) -> Found:
    """What names on a command line stand for.

    A folder stands for the recordings in it and below, but not for what is hidden or behind
    a link to a folder; ``*``, ``?``, ``[a-z]`` and ``**`` stand for what they match, unless a file
    is called so. A file that is not there is left for the reader to name.
    """
    paths: dict[str, None] = {}
    problems: dict[str, str] = {}
    others = 0
    for name in names:
        matched = [name]
        if not os.path.lexists(name) and glob.has_magic(name):
            matched = sorted(glob.glob(name, recursive=True))
            if not matched:
                problems[name] = "matches nothing"
        for path in matched:
            if not os.path.isdir(path):
                paths[path] = None
                continue
            inside, denied = _files_below(path)
            problems.update(denied)
            found = [file for file in inside if Path(file).suffix.lower() in SUFFIXES]
            others += len(inside) - len(found)
            paths.update(dict.fromkeys(found))
            if not found and not denied:
                problems[path] = f"no recordings in this folder; looked for {' '.join(SUFFIXES)}"
    return Found(list(paths), problems, others)


def _files_below(folder: str) -> tuple[list[str], dict[str, str]]:
    files: list[str] = []
    denied: dict[str, str] = {}

    def note(error: OSError) -> None:
        denied[str(error.filename)] = f"this folder cannot be read ({error.strerror})"

    for parent, folders, names in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = (name for name in sorted(names) if not name.startswith("."))
        files += (os.path.join(parent, name) for name in shown)
    return files, denied
