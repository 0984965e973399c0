"""The clips on which systems differ most: the reference and each run's events, lane under lane.

Axis letters: ``B`` clips, ``C`` event classes, ``S`` systems.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.report.clip_pictures import ClipPicture, DrawnLane, Lane, clip_picture
from jfsed_jax.report.comparison import Comparison
from jfsed_jax.report.formatting import label_text, number
from jfsed_jax.report.run_figures import clip_sound
from jfsed_jax.runs.saved_run import is_number
from jfsed_jax.runs.scored_runs import ScoredRun
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.scoring import Counts


def differing_clips(compared: Comparison, most: int) -> list[ClipPicture]:
    """Pictures of at most that many clips with other errors, those that differ most first."""
    lists = _event_lists(compared)
    errors = clip_errors(compared.counts, "event_f1")
    return [
        _picture(compared, compared.filenames[b], errors[:, b], lists)
        for b in most_different(compared.counts)[:most]
    ]


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


class _EventList(NamedTuple):
    """Events by clip: of a run whose name it has, or, without a name, of the reference."""

    name: str
    by_clip: Mapping[str, list[Event]]


def _event_lists(compared: Comparison) -> list[_EventList]:
    """The reference and then every run's."""
    reference = compared.systems[0].first.split.reference
    lists = [("", reference)]
    for system in compared.systems:
        for run in system.runs:
            seed = f", seed {run.seed}" if len(system.runs) > 1 else ""
            lists.append((f"{system.label}{seed}", run.split.estimates))
    return [_EventList(name, _by_clip(table.events if table else ())) for name, table in lists]


def _by_clip(events: Iterable[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.filename, []).append(event)
    return found


def _picture(
    compared: Comparison, name: str, errors: np.ndarray, lists: Sequence[_EventList]
) -> ClipPicture:
    every = [event for own in lists for event in own.by_clip.get(name, ())]
    heard = {event.event_label for event in every}
    runs = [run for system in compared.systems for run in system.runs]
    seconds = max([*map(_clip_seconds, runs), *(event.offset for event in every)])
    names: list[tuple[str, str]] = []
    lanes: list[Lane] = []
    for label in (label for label in compared.classes if label in heard):
        for own in lists:
            events = [e for e in own.by_clip.get(name, ()) if e.event_label == label]
            spans = [(event.onset, event.offset) for event in events]
            lanes.append(Lane(label, *(((), spans) if own.name else (spans, ()))))
            names.append((own.name or label_text(label), f"{label}, {own.name or 'reference'}"))
    mel, sound = _example(runs, name)
    note = _note(compared, errors)
    picture = clip_picture(name, mel, lanes, seconds=seconds, note=note, sound=sound)
    return picture._replace(
        lanes=[_named(drawn, *texts) for drawn, texts in zip(picture.lanes, names, strict=True)]
    )


def _named(drawn: DrawnLane, name: str, described: str) -> DrawnLane:
    """A lane that shows the events of one list: it is called so, and described so."""
    tips = [event.tip.partition(": ")[2] for event in drawn.events]
    return drawn._replace(
        name=name, label=described, described=f"{described}: {', '.join(tips) or 'none'}"
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


def _example(runs: Sequence[ScoredRun], name: str) -> tuple[np.ndarray | None, str]:
    """The log-mel and the sound of a clip, where a run kept them; of no clip that was cut."""
    for run in runs:
        examples = run.split.examples
        if examples is None:
            continue
        whole = examples.get("recordings", examples["filenames"])
        for i in np.flatnonzero((examples["filenames"] == name) & (whole == name)):
            return examples["mel"][i], clip_sound(examples, int(i))
    return None, ""
