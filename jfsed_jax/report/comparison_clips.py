"""The clips on which systems differ most: the reference and each run's events, lane under lane.

Axis letters: ``B`` clips, ``C`` event classes, ``S`` systems.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.report.charts import Key
from jfsed_jax.report.clip_pictures import ClipPicture, DrawnLane, Lane, clip_keys, clip_picture
from jfsed_jax.report.comparison import FEW, Comparison
from jfsed_jax.report.formatting import label_text, number
from jfsed_jax.report.run_clips import clip_sound
from jfsed_jax.report.spectrograms import Contrast, known_bands, shared_contrast
from jfsed_jax.runs.meta import is_number
from jfsed_jax.runs.scored_runs import ScoredRun
from jfsed_jax.sed.error_kinds import KINDS, sort_errors
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.scoring import Counts
from jfsed_jax.sed.tables import EventTable


class DifferingClips(NamedTuple):
    """Pictures, and what their bars and colours are."""

    pictures: list[ClipPicture]
    keys: list[Key]


def differing_clips(compared: Comparison, most: int) -> DifferingClips:
    """At most that many clips with other errors, those that differ most first."""
    errors = clip_errors(compared.counts, "event_f1")
    chosen = most_different(errors, clip_errors(compared.counts, "segment_f1"))[:most]
    names = [compared.filenames[b] for b in chosen]
    runs = [run for system in compared.systems for run in system.runs]
    kept = [_kept(runs, name) for name in names]
    contrast = shared_contrast(own.mel for own in kept if own.mel is not None)
    lists = _event_lists(compared, set(names))
    seconds = max(map(_clip_seconds, runs))
    pictures = [
        _picture(
            name,
            lists,
            classes=compared.classes,
            seconds=seconds,
            note=_note(compared, errors[:, b]),
            kept=own,
            contrast=contrast,
        )
        for b, name, own in zip(chosen, names, kept, strict=True)
    ]
    keys = clip_keys(predicted=False, posterior=False, contrast=contrast)
    keys[1:1] = [Key("predicted, a hit", "predicted"), Key("predicted, no hit", "predicted wrong")]
    return DifferingClips(pictures, keys)


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


def most_different(events: np.ndarray, seconds: np.ndarray) -> list[int]:
    """Clips on which another system's events have other errors than the first's, most first.

    By the largest difference of event errors, then of those in seconds, then in the given order.

    Args:
      events, seconds: <float64>[S, B] errors, see `clip_errors`.
    """
    by_events, by_seconds = (np.abs(own[1:] - own[0]).max(axis=0) for own in (events, seconds))
    order = np.lexsort([-by_seconds, -by_events])
    return [int(b) for b in order if by_events[b] > 1e-9]


class _Found(NamedTuple):
    """An event, and whether it is matched; of the reference always."""

    event: Event
    hit: bool


class _Lists(NamedTuple):
    """Events of the seeds of a system; without a name, of the reference."""

    name: str
    found: list[_Found]
    several: bool

    def of(self, clip: str, label: str) -> list[_Found]:
        """Those of a clip and class."""
        wanted = (clip, label)
        return [f for f in self.found if (f.event.filename, f.event.event_label) == wanted]


def _event_lists(compared: Comparison, clips: Collection[str]) -> list[_Lists]:
    """The reference of these clips and then every system's."""

    def chosen(table: EventTable | None) -> list[Event]:
        return [event for event in (table.events if table else ()) if event.filename in clips]

    reference = chosen(compared.systems[0].first.split.reference)
    lists = [_Lists("", [_Found(event, True) for event in reference], False)]
    for system in compared.systems:
        found = []
        for run in system.runs:
            events = chosen(run.split.estimates)
            kinds = sort_errors(reference, events).estimates
            found += [_Found(e, KINDS[k] == "hit") for e, k in zip(events, kinds, strict=True)]
        lists.append(_Lists(system.label, found, len(system.runs) > 1))
    return lists


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
    every = [own.event for of in lists for own in of.found if own.event.filename == name]
    heard = {event.event_label for event in every}
    shown = [
        (label, of, found)
        for label in classes
        if label in heard
        for of in lists
        # Of many systems only those with something to show.
        if (found := of.of(name, label)) or not of.name or len(lists) <= FEW + 1
    ]
    lanes = []
    for label, of, found in shown:
        spans = [(own.event.onset, own.event.offset) for own in found]
        lanes.append(Lane(label, (), spans) if of.name else Lane(label, spans))
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
        lanes=[_named(drawn, *own) for drawn, own in zip(picture.lanes, shown, strict=True)]
    )


def _named(drawn: DrawnLane, label: str, of: _Lists, found: Sequence[_Found]) -> DrawnLane:
    """A lane that shows one list alone: called and described so, the bars of seeds pale."""
    described = f"{label}, {of.name or 'reference'}"
    pale = " of-seeds" if of.several else ""
    tips, events = [], []
    for bar, own in zip(drawn.events, found, strict=True):
        tips.append(bar.tip.partition(": ")[2] + ("" if own.hit else " (no hit)"))
        kind = f"{bar.kind}{'' if own.hit else ' wrong'}{pale}"
        events.append(bar._replace(kind=kind, tip=f"{bar.kind}: {tips[-1]}"))
    return drawn._replace(
        name=of.name or label_text(label),
        label=described,
        events=events,
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
