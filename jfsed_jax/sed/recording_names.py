"""Recordings by the names of their files: their own, and those of the label files beside them."""

import re
from pathlib import Path, PurePath

from jfsed_jax.audio.finding import SUFFIXES

LABEL_FILES = (".txt", ".tsv", ".csv")  # suffixes of the files of a folder that are read
# What programs put between a recording's name and .txt.
_ENDING = re.compile(
    r"((\.table\.?\d+)?\.selections|(\.birdnet)?\.selection\.table|\.birdnet\.results|\.labels?)\Z",
    re.IGNORECASE,
)


def recording_stem(name: str) -> str:
    """A recording's name without the suffix of an audio file, with its folders."""
    suffix = PurePath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in SUFFIXES else name


def recording_of(path: str | Path) -> str:
    """The recording that a label file is called after, without folders.

    ``a.txt``, ``a.labels.txt``, ``a.selections.txt``, ``a.Table.1.selections.txt`` and
    ``a.BirdNET.selection.table.txt`` are of ``a``; ``a.wav.txt`` is of ``a.wav``.
    """
    name = PurePath(path).name
    suffix = PurePath(name).suffix
    stem = name[: -len(suffix)] if suffix.lower() in LABEL_FILES else name
    ending = _ENDING.search(stem)
    return stem[: ending.start()] if ending and ending.start() else stem
