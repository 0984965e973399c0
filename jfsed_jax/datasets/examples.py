"""Which clips to show: few that together hold many classes, and the worst; and their sound."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from absl import logging

from jfsed_jax.audio.encoding import opus
from jfsed_jax.datasets.folder import read_folder
from jfsed_jax.errors import InputError
from jfsed_jax.sed.error_kinds import KINDS, ErrorKinds
from jfsed_jax.sed.events import Event

ClipSpan = tuple[str, float, float]  # recording, start and end in seconds


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


def errors_by_clip(
    events: Sequence[Sequence[Event]],
    kinds: ErrorKinds,
    names: Sequence[str],
    spans: Sequence[ClipSpan],
) -> dict[tuple[str, str], Counter[int]]:
    """How many errors of each class and kind (`error_kinds.KINDS`) are in each clip.

    An error is in every clip that it overlaps. A clip that is called as its recording is all of it,
    and has what ends behind it too, as of a system that pads its clips.

    Args:
      events: of recordings, in seconds: reference, then estimates.
      kinds: of both, see `sort_errors`.
      names, spans: of the clips.

    Returns:
      By label and kind, for positions of clips.
    """
    places: dict[str, list[int]] = {}
    for i, (recording, _, _) in enumerate(spans):
        places.setdefault(recording, []).append(i)
    found: dict[tuple[str, str], Counter[int]] = {}
    for own, of_own in zip(events, kinds, strict=True):
        for event, kind in zip(own, of_own.tolist(), strict=True):
            if KINDS[kind] == "hit":
                continue
            for i in places.get(event.filename, ()):
                _, start, end = spans[i]
                if names[i] == event.filename or (event.onset < end and event.offset > start):
                    found.setdefault((event.event_label, KINDS[kind]), Counter())[i] += 1
    return found


def worst_clips(
    errors: Mapping[tuple[str, str], Counter[int]], shown: Collection[int], most: int
) -> list[int]:
    """Positions of at most `most` clips beside those `shown`: of classes and kinds the worst ones.

    The worst clip of a class and kind is one with most such errors. Each clip is the one that is
    worst where most errors are that no clip before it was worst for; of equals the first.

    Args:
      errors: see `errors_by_clip`.
      shown: clips that are shown anyway.
      most: how many clips.
    """
    left: dict[tuple[str, str], set[int]] = {}
    gain = Counter[int]()
    for key, clips in errors.items():
        largest = max(clips.values())
        left[key] = {i for i, number in clips.items() if number == largest}
        gain.update(dict.fromkeys(left[key], clips.total()))

    def show(clip: int) -> None:
        for key in [key for key, worst in left.items() if clip in worst]:
            gain.subtract(dict.fromkeys(left.pop(key), errors[key].total()))

    for clip in shown:
        show(clip)
    added: list[int] = []
    while left and len(added) < most:
        added.append(max(gain, key=lambda i: (gain[i], -i)))
        show(added[-1])
    return added


def example_sounds(
    data_dir: str | Path | None,
    split: str,
    classes: Sequence[str],
    spans: Sequence[ClipSpan],
    rates: Sequence[int],
) -> list[bytes]:
    """The sound of some clips as Ogg Opus; b"" of those whose audio is not in the folder any more.

    Args:
      data_dir: of audio and metadata; None, or not there, if the features came without it.
      split: whose clips they are.
      classes: of the set.
      spans: file name, start and end in seconds of each.
      rates: of each in Hz, see `opus`.
    """
    files: dict[str, Path] = {}
    if data_dir is not None and Path(data_dir).is_dir():
        listed = read_folder(data_dir, classes).splits.get(split)
        for clip in listed.clips if listed else ():
            if clip.audio is not None:
                files[clip.filename] = Path(data_dir) / clip.audio.path
    sounds = []
    for (name, start, end), rate in zip(spans, rates, strict=True):
        try:
            known = name in files
            sounds.append(opus(files[name], start=start, end=end, rate=rate) if known else b"")
        except InputError as error:
            logging.warning("no sound on the page: %s", error)
            sounds.append(b"")
    return sounds
