"""Which clips to show: few that together hold many classes; and their sound."""

from collections.abc import Collection, Sequence
from pathlib import Path

from absl import logging

from jfsed_jax.audio.encoding import opus
from jfsed_jax.datasets.folder import read_folder
from jfsed_jax.errors import InputError


def example_clips(labels: Sequence[Collection[str]], most: int) -> list[int]:
    """Positions of at most `most` clips, each the one that adds most classes to those before it.

    Of equals the one with more classes comes first, then the earlier one.

    Args:
      labels: of each clip, the classes that it holds.
      most: how many clips.
    """
    chosen: list[int] = []
    seen: set[str] = set()
    for _ in range(min(most, len(labels))):
        rest = [i for i in range(len(labels)) if i not in chosen]
        best = max(rest, key=lambda i: (len(set(labels[i]) - seen), len(set(labels[i])), -i))
        chosen.append(best)
        seen |= set(labels[best])
    return chosen


def example_sounds(
    data_dir: str | Path | None,
    split: str,
    classes: Sequence[str],
    spans: Sequence[tuple[str, float, float]],
) -> list[bytes]:
    """The sound of some clips as Ogg Opus; b"" of those whose audio is not in the folder any more.

    Args:
      data_dir: of audio and metadata; None, or not there, if the features came without it.
      split: whose clips they are.
      classes: of the set.
      spans: file name, start and end in seconds of each.
    """
    files: dict[str, Path] = {}
    if data_dir is not None and Path(data_dir).is_dir():
        listed = read_folder(data_dir, classes).splits.get(split)
        for clip in listed.clips if listed else ():
            if clip.audio is not None:
                files[clip.filename] = Path(data_dir) / clip.audio.path
    sounds = []
    for name, start, end in spans:
        try:
            sounds.append(opus(files[name], start=start, end=end) if name in files else b"")
        except InputError as error:
            logging.warning("no sound on the page: %s", error)
            sounds.append(b"")
    return sounds
