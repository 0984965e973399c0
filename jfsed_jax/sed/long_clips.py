"""sed_eval's counts of long recordings and of many events: the same numbers for less work.

sed_eval walks every segment of a clip and compares every reference event of it with every estimated
one. Both are cut short here where nothing can change; its formulas stay its own.

Axis letters: `R` runs of segments that are alike, `C` event classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Item = dict[str, Any]  # an event as sed_eval takes it: onset, offset, event_label

STRETCH = 50  # events that are worth a call of sed_eval


def count_segments(metric: Any, reference: Sequence[Item], estimated: Sequence[Item]) -> None:
    """What `SegmentBasedMetrics.evaluate` counts in one clip, however long it is.

    Segments between which no event begins or ends are alike: one of them counts for all.
    """
    labels = list(metric.class_wise)
    resolution = metric.time_resolution
    lists = [
        [
            (
                math.floor(item["onset"] / resolution),
                math.ceil(item["offset"] / resolution),
                labels.index(item["event_label"]),
            )
            for item in items
        ]
        for items in (reference, estimated)
    ]
    edges = np.unique([0, *(edge for spans in lists for span in spans for edge in span[:2])])
    lengths = np.diff(edges)  # <int64>[R] segments
    active = np.zeros((2, len(lengths), len(labels)), bool)
    for cells, spans in zip(active, lists, strict=True):
        for start, stop, c in spans:
            cells[np.searchsorted(edges, start) : np.searchsorted(edges, stop), c] = True
    true, said = active
    kinds = {
        "Nref": true,
        "Nsys": said,
        "Ntp": true & said,
        "Ntn": ~(true | said),
        "Nfp": said & ~true,
        "Nfn": true & ~said,
    }
    for key, cells in kinds.items():
        counts = (lengths @ cells).astype(float).tolist()
        metric.overall[key] += sum(counts)
        for entry, count in zip(metric.class_wise.values(), counts, strict=True):
            entry[key] += count
    # In a segment, an insertion and a deletion of two classes are one substitution.
    missed, invented = (kinds[key].sum(axis=1) for key in ("Nfn", "Nfp"))
    substituted = np.minimum(missed, invented)
    for key, number in (
        ("S", substituted),
        ("D", missed - substituted),
        ("I", invented - substituted),
    ):
        metric.overall[key] += float(lengths @ number)


def stretches(
    reference: Sequence[Item], estimated: Sequence[Item], collar: float
) -> list[tuple[list[Item], list[Item]]]:
    """A clip's events in parts of about `STRETCH`, none of which matches one of another part.

    Events match only if their onsets are at most `collar` seconds apart.
    """
    onsets = np.sort([item["onset"] for items in (reference, estimated) for item in items])
    cuts: list[float] = []
    begun = 0
    # Twice the collar: no rounding of a difference decides.
    for i in (np.flatnonzero(np.diff(onsets) > 2 * collar) + 1).tolist():
        if i - begun >= STRETCH:
            cuts.append(onsets[i])
            begun = i
    parts: list[tuple[list[Item], list[Item]]] = [([], []) for _ in range(len(cuts) + 1)]
    for k, items in enumerate((reference, estimated)):
        for item in items:
            parts[np.searchsorted(cuts, item["onset"], side="right")][k].append(item)
    return parts
