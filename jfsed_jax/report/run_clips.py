"""The clips that a run kept for its page: log-mel, events, posteriors and sound.

Axis letters: ``T`` frames, ``F`` mel bands, ``C`` event classes.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.audio.encoding import MIME
from jfsed_jax.report.clip_pictures import ClipPicture, Lane, clip_picture
from jfsed_jax.report.operating_points import thresholds_used
from jfsed_jax.report.spectrograms import Contrast, known_bands, shared_contrast
from jfsed_jax.runs.saved_run import SavedRun, SavedSplit, is_number
from jfsed_jax.sed.events import Event, cut_events

SHOWN_CLIPS = 4


class KeptClip(NamedTuple):
    """A clip: of which recording, from when to when in seconds; its place on the page.

    `worst`: it was kept for its errors.
    """

    recording: str
    start: float
    end: float
    anchor: str
    worst: bool
    picture: ClipPicture


class SplitClips(NamedTuple):
    """Typical clips of a split, the `rest` folded away; `title` is "" where there is one split."""

    title: str
    shown: list[KeptClip]
    rest: list[KeptClip]


def kept_clips(run: SavedRun, contrast: Contrast | None) -> list[list[KeptClip]]:
    """Of each of the run's `own_splits` the clips that were kept, drawn."""
    return [
        [
            _clip(run, split, i, contrast, f"clip-{place}-{i}")
            for i in range(len(split.examples["filenames"]))
        ]
        if split.examples is not None
        else []
        for place, split in enumerate(run.own_splits)
    ]


def typical_clips(run: SavedRun, kept: Sequence[Sequence[KeptClip]]) -> list[SplitClips]:
    """Those that were not kept for their errors, split by split."""
    found = []
    for split, clips in zip(run.own_splits, kept, strict=True):
        if typical := [clip for clip in clips if not clip.worst]:
            title = split.title if len(run.splits) > 1 else ""
            found.append(SplitClips(title, typical[:SHOWN_CLIPS], typical[SHOWN_CLIPS:]))
    return found


def example_contrast(run: SavedRun) -> Contrast | None:
    """Of the log-mel of all clips that were kept."""
    examples = [split.examples for split in run.own_splits if split.examples is not None]
    return shared_contrast(found["mel"] for found in examples)


def any_posteriors(run: SavedRun) -> bool:
    """Whether the posteriors of some clip that was kept are known."""
    return any(
        split.examples is not None and split.posteriors is not None and "frames" in split.posteriors
        for split in run.own_splits
    )


def _clip(
    run: SavedRun, split: SavedSplit, index: int, contrast: Contrast | None, anchor: str
) -> KeptClip:
    assert split.examples is not None
    name = str(split.examples["filenames"][index])
    mel = split.examples["mel"][index]
    # Of a recording that was cut, a clip of it.
    recording, begin = name, 0.0
    if "starts" in split.examples:
        recording = str(split.examples["recordings"][index])
        begin = float(split.examples["starts"][index])
    frames = None
    posteriors = split.posteriors
    if posteriors is not None and "frames" in posteriors:
        found = np.flatnonzero(posteriors["filenames"] == name)
        frames = posteriors["frames"][found[0]] if found.size else None
    front_end = run.meta.get("front_end") or {}
    seconds = front_end.get("clip_seconds")
    if not is_number(seconds):
        seconds = len(mel) / float(run.meta.get("frame_rate") or 60.0)
    # What is not cut may end after its clip.
    start, end = (begin, begin + seconds) if name != recording else (-np.inf, np.inf)
    reference, estimates = (
        [event for event in (table.events if table else []) if event.filename == recording]
        for table in (split.reference, split.estimates)
    )
    if name != recording:
        reference, estimates = (cut_events(events, start, end) for events in (reference, estimates))
    heard = [e.event_label for e in [*reference, *estimates]]
    order = [label for label in run.classes if label in heard]
    order += [label for label in dict.fromkeys(heard) if label not in order]

    def spans(events: Sequence[Event], label: str) -> list[tuple[float, float]]:
        return [(e.onset, e.offset) for e in events if e.event_label == label]

    thresholds = thresholds_used(run, split)
    lanes = [
        Lane(
            label,
            spans(reference, label),
            spans(estimates, label),
            frames[:, run.classes.index(label)]
            if frames is not None and label in run.classes
            else None,
            thresholds.get(label),
        )
        for label in order
    ]
    picture = clip_picture(
        name,
        mel,
        lanes,
        seconds=float(seconds),
        note="" if lanes else "no events, and none predicted",
        sound=clip_sound(split.examples, index),
        contrast=contrast,
        band_hz=known_bands(front_end),
    )
    worst = bool(split.examples["worst"][index]) if "worst" in split.examples else False
    return KeptClip(recording, start, end, anchor, worst, picture)


def clip_sound(examples: Mapping[str, np.ndarray], index: int) -> str:
    """A clip's audio as a data URI; "" where none was kept."""
    if not {"sound", "sound_ends"} <= examples.keys():
        return ""
    start, stop = [0, *examples["sound_ends"].tolist()][index : index + 2]
    content = examples["sound"][start:stop].tobytes()
    return f"data:{MIME};base64,{base64.b64encode(content).decode()}" if content else ""
