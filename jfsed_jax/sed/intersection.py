"""Intersection F1, through sed_scores_eval (extra `psds`).

Axis letters: `B` clips, `C` event classes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jfsed_jax.sed.events import Event, merge_overlaps
from jfsed_jax.sed.psds_libraries import check_events, frame, library, with_reference
from jfsed_jax.sed.score_files import clip_name, clip_names, steps_of_events
from jfsed_jax.sed.scoring import entry_of_counts
from jfsed_jax.sed.threshold_steps import counts_above, steps_of

INTERSECTION = 0.5  # both criteria


def intersection_f1(
    reference: Iterable[Event],
    estimates: Iterable[Event],
    *,
    durations: Mapping[str, float],
    classes: Sequence[str],
) -> tuple[dict[str, Any], np.ndarray]:
    """Intersection F1: an event is found if detections cover half of it, and are half covered.

    Args:
      reference, estimates: events in seconds; those of one class that overlap or touch are joined.
      durations: length in seconds of every clip that is scored, by file name.

    Returns:
      An entry as those of `scoring.score`, in percent: a class without reference events is None and
      not in the macro mean, what is detected of it counts as false in the micro mean. And the
      counts <int64>[B, C, 3] of each clip: reference, found and false together, found.

    Raises:
      InputError: an event in a clip without a duration or of no class; no reference events.
    """
    truth, found = merge_overlaps(reference), merge_overlaps(estimates)
    for events in (truth, found):
        check_events(events, durations, classes)
    scored = with_reference(truth, classes)
    names = clip_names(durations)
    row = {name: b for b, name in enumerate(names)}
    counts = np.zeros((len(names), len(classes), 3), np.int64)
    by_clip = defaultdict(list)
    for event in found:
        if event.event_label in scored:
            by_clip[event.filename].append(event)
        else:
            place = row[clip_name(event.filename)], classes.index(event.event_label)
            counts[(*place, 1)] += 1
    of_clips: dict[str, list[tuple[float, float, str]]] = {name: [] for name in names}
    references = np.zeros((len(names), len(scored)), np.int64)
    for event in truth:
        name, c = clip_name(event.filename), scored.index(event.event_label)
        of_clips[name].append((event.onset, event.offset, str(c)))
        references[row[name], c] += 1
    deltas = library("sed_scores_eval").intersection_based.intermediate_statistics_deltas(
        {
            clip: frame(*steps_of_events(by_clip[name], scored, duration=duration))
            for clip, (name, duration) in zip(names, durations.items(), strict=True)
        },
        of_clips,
        dtc_threshold=INTERSECTION,
        gtc_threshold=INTERSECTION,
    )
    steps = [steps_of(deltas, names, str(c)) for c in range(len(scored))]
    columns = [classes.index(label) for label in scored]
    counts[:, columns] = counts_above(steps, [0.5] * len(scored), references)
    return entry_of_counts("intersection_f1", counts.sum(axis=0), classes), counts
