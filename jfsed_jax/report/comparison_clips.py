"""The clips on which systems differ most: the reference and each run's events, lane under lane.

Axis letters: ``B`` clips, ``C`` event classes, ``S`` systems.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.report.clip_pictures import ClipPicture, DrawnLane, Lane, clip_picture
from jfsed_jax.report.comparison import Comparison
from jfsed_jax.report.formatting import label_text, number
from jfsed_jax.report.run_clips import clip_sound
from jfsed_jax.report.spectrograms import Contrast, known_bands, shared_contrast
from jfsed_jax.runs.saved_run import is_number
from jfsed_jax.runs.scored_runs import ScoredRun
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.scoring import Counts


class DifferingClips(NamedTuple):
    """Pictures, and the contrast of the log-mel in them; None if there is none."""

    pictures: list[ClipPicture]
    contrast: Contrast | None


def differing_clips(compared: Comparison, most: int) -> DifferingClips:
    """At most that many clips with other errors, those that differ most first."""
    chosen = most_different(compared.counts)[:most]
    errors = clip_errors(compared.counts, "event_f1")
    runs = [run for system in compared.systems for run in system.runs]
    kept = [_kept(runs, compared.filenames[b]) for b in chosen]
    contrast = shared_contrast(own.mel for own in kept if own.mel is not None)
    lists = _event_lists(compared)
    seconds = max(map(_clip_seconds, runs))
    return DifferingClips(
        [
            _picture(
                compared.filenames[b],
                lists,
                classes=compared.classes,
                seconds=seconds,
                note=_note(compared, errors[:, b]),
                kept=own,
                contrast=contrast,
            )
            for b, own in zip(chosen, kept, strict=True)
        ],
        contrast,
    )


def clip_errors(counts: Sequence[Sequence[Counts]], score: str) -> np.ndarray:
    """Items that are missed and items that are made up, of each clip in the mean over the seeds.

    With r reference, e estimated and m matched items these are r + e - 2m, so that F1 is
    1 - errors / (r + e).

    Args:
      counts: of each system and seed <int64>[B, C, 3] by score.
      score: ``event_f1`` counts events, ``segment_f1`` seconds.

    Returns:
      <float64>[S, B].
    """
    weights = np.array([1, 1, -2])
    return np.stack(
        [np.mean([(own[score] @ weights).sum(-1) for own in runs], axis=0) for runs in counts]
    )


def most_different(counts: Sequence[Sequence[Counts]]) -> list[int]:
    """Clips on which another system's events have other errors than the first's, most first.

    By the largest difference of event errors, then of those in seconds, then in the given order.
    """
    differences = [
        np.abs(errors[1:] - errors[0]).max(axis=0)
        for errors in (clip_errors(counts, score) for score in ("event_f1", "segment_f1"))
    ]
    order = np.lexsort([-differences[1], -differences[0]])
    return [int(b) for b in order if differences[0][b] > 1e-9]


class _Lists(NamedTuple):
    """Events by clip, of each seed of a system; without a name, of the reference."""

    name: str
    of_seeds: list[dict[str, list[Event]]]

    def events(self, clip: str, label: str | None = None) -> list[Event]:
        """Of a clip, of one class or of all."""
        found = [event for by_clip in self.of_seeds for event in by_clip.get(clip, ())]
        return [event for event in found if label in (None, event.event_label)]


def _event_lists(compared: Comparison) -> list[_Lists]:
    """The reference and then every system's."""
    lists = [("", [compared.systems[0].first.split.reference])]
    lists += [(own.label, [run.split.estimates for run in own.runs]) for own in compared.systems]
    return [
        _Lists(name, [_by_clip(table.events if table else ()) for table in of_seeds])
        for name, of_seeds in lists
    ]


def _by_clip(events: Iterable[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.filename, []).append(event)
    return found


class _Kept(NamedTuple):
    """What `evaluate` kept of a clip: log-mel <float>[T, F], centres of its bands, sound."""

    mel: np.ndarray | None = None
    band_hz: Sequence[float] = ()
    sound: str = ""


def _kept(runs: Sequence[ScoredRun], name: str) -> _Kept:
    """Of the first run that kept the clip; of none that was cut out of a recording."""
    for run in runs:
        examples = run.split.examples
        if examples is None:
            continue
        whole = examples.get("recordings", examples["filenames"])
        for i in np.flatnonzero((examples["filenames"] == name) & (whole == name)):
            bands = known_bands(run.saved.meta.get("front_end") or {})
            return _Kept(examples["mel"][i], bands, clip_sound(examples, int(i)))
    return _Kept()


def _picture(
    name: str,
    lists: Sequence[_Lists],
    *,
    classes: Sequence[str],
    seconds: float,
    note: str,
    kept: _Kept,
    contrast: Contrast | None,
) -> ClipPicture:
    every = [event for own in lists for event in own.events(name)]
    heard = {event.event_label for event in every}
    shown = [(label, own) for label in classes if label in heard for own in lists]
    lanes = []
    for label, own in shown:
        spans = [(event.onset, event.offset) for event in own.events(name, label)]
        lanes.append(Lane(label, (), spans) if own.name else Lane(label, spans))
    picture = clip_picture(
        name,
        kept.mel,
        lanes,
        seconds=max([seconds, *(event.offset for event in every)]),
        note=note,
        sound=kept.sound,
        contrast=contrast,
        band_hz=kept.band_hz,
    )
    return picture._replace(
        lanes=[
            _named(drawn, label, own)
            for drawn, (label, own) in zip(picture.lanes, shown, strict=True)
        ]
    )


def _named(drawn: DrawnLane, label: str, own: _Lists) -> DrawnLane:
    """A lane that shows one list alone: called and described so, the bars of seeds pale."""
    described = f"{label}, {own.name or 'reference'}"
    tips = [event.tip.partition(": ")[2] for event in drawn.events]
    pale = " of-seeds" if len(own.of_seeds) > 1 else ""
    return drawn._replace(
        name=own.name or label_text(label),
        label=described,
        events=[event._replace(kind=f"{event.kind}{pale}") for event in drawn.events],
        described=f"{described}: {', '.join(tips) or 'none'}",
    )


def _note(compared: Comparison, errors: np.ndarray) -> str:
    """``events missed or made up: 5 of A, 1 of B``."""
    texts = [
        f"{number(count, 0 if float(count).is_integer() else 1)} of {label}"
        for label, count in zip(compared.labels, errors, strict=True)
    ]
    return f"events missed or made up: {', '.join(texts)}"


def _clip_seconds(run: ScoredRun) -> float:
    seconds = (run.saved.meta.get("front_end") or {}).get("clip_seconds")
    return float(seconds) if is_number(seconds) else 1.0
