"""What one class's heights score at every threshold: estimated and matched items, as spans.

An item counts for thresholds from a low value to below a high one, see `heights`. So the counts of
a score at all thresholds are sums over such spans. The idea of following every change of the counts
is that of J. Ebbers, R. Haeb-Umbach and R. Serizel, "Threshold independent evaluation of sound
event detection scores", ICASSP 2022; the counts are those of `scoring` and of `intersection`.

Axis letters: `B` clips, `R` reference events of the class, `K` events, `M` spans.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jfsed_jax.sed.heights import Boxes, Spans, Track, boxes, onsets
from jfsed_jax.sed.intersection import INTERSECTION
from jfsed_jax.sed.scoring import OFFSET_LENGTH_SHARE, ONSET_COLLAR, SEGMENT

_SLACK = 1e-5  # seconds around what is compared exactly afterwards


class Truth(NamedTuple):
    """One class's reference events, by clip and onset, and the clips' frames.

    Attributes:
      clip: <int64>[R].
      onset, offset: <float64>[R] seconds.
      edges: <float64>[N + B], the edges of each clip's frames in seconds, clip after clip.
    """

    clip: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    edges: np.ndarray


class SpanCounts(NamedTuple):
    """What is counted: items in the reference <int64>[B]; estimated and matched, as spans."""

    reference: np.ndarray
    estimated: Spans
    matched: Spans


def event_counts(heights: Track, truth: Truth) -> SpanCounts:
    """Event-F1's: sed_eval's collars and optimal matching."""
    found = _in_clips(boxes(heights), heights, truth)
    onset, offset = _seconds(found, heights, truth)
    order = np.lexsort((onset, found.clip))
    span = max(truth.edges.max(initial=0), truth.offset.max(initial=0)) + 1
    place = found.clip[order] * span + onset[order]
    wanted = truth.clip * span + truth.onset
    event, box = _ranges(
        np.searchsorted(place, wanted - ONSET_COLLAR - _SLACK),
        np.searchsorted(place, wanted + ONSET_COLLAR + _SLACK),
    )
    box = order[box]
    length = truth.offset[event] - truth.onset[event]
    hit = (
        (found.clip[box] == truth.clip[event])
        & (np.abs(truth.onset[event] - onset[box]) <= ONSET_COLLAR)
        & (
            np.abs(truth.offset[event] - offset[box])
            <= np.maximum(ONSET_COLLAR, OFFSET_LENGTH_SHARE * length)
        )
    )
    event, box = event[hit], box[hit]
    # Most reference events share no candidate with another: one is matched as long as one is there.
    shared = np.bincount(box, minlength=len(found.clip)) > 1
    crowded = np.zeros(len(truth.clip), bool)
    crowded[event[shared[box]]] = True
    alone = ~crowded[event]
    owner, low, high = _unions(event[alone], found.low[box[alone]], found.high[box[alone]])
    matched = (
        Spans(truth.clip[owner], low, high),
        _matchings(event[~alone], box[~alone], truth, found),
    )
    return SpanCounts(
        _per_clip(truth.clip, heights),
        onsets(heights),
        Spans(*(np.concatenate(part) for part in zip(*matched, strict=True))),
    )


def segment_counts(heights: Track, truth: Truth) -> SpanCounts:
    """Segment-F1's: a segment is active where one of the frames that touch it is."""
    num_clips, lengths = len(heights.starts) - 1, np.diff(heights.starts)
    clip = np.repeat(np.arange(num_clips), lengths)
    first = np.floor(truth.edges[np.arange(len(clip)) + clip] / SEGMENT)
    last = np.ceil(truth.edges[np.arange(len(clip)) + clip + 1] / SEGMENT)
    begin, end = np.floor(truth.onset / SEGMENT), np.ceil(truth.offset / SEGMENT)
    span = int(max(last.max(initial=0), end.max(initial=0))) + 1
    frame, segment = _ranges(clip * span + first.astype(int), clip * span + last.astype(int))
    _, active = _ranges(truth.clip * span + begin.astype(int), truth.clip * span + end.astype(int))
    active = np.unique(active)
    segments, where = np.unique(segment, return_index=True)
    values = heights.values[frame]
    highest = np.maximum.reduceat(values, where) if len(where) else values
    estimated = Spans(segments // span, np.zeros(len(segments)), highest)
    return _of_presence(_per_clip(active // span, heights), estimated, np.isin(segments, active))


def clip_counts(heights: Track, truth: Truth) -> SpanCounts:
    """AT-F1's, of the tags that events give."""
    filled = np.flatnonzero(np.diff(heights.starts))
    highest = heights.values
    if len(filled):
        highest = np.maximum.reduceat(highest, heights.starts[filled])
    estimated = Spans(filled, np.zeros(len(filled)), highest)
    tagged = np.unique(truth.clip)
    return _of_presence(_per_clip(tagged, heights), estimated, np.isin(filled, tagged))


def _of_presence(reference: np.ndarray, estimated: Spans, true: np.ndarray) -> SpanCounts:
    return SpanCounts(reference, estimated, Spans(*(part[true] for part in estimated)))


def intersection_counts(heights: Track, truth: Truth) -> SpanCounts:
    """Intersection F1's: estimated are the matched ones and the false alarms.

    The reference events of `truth` must not overlap. Times are compared in microseconds.
    """
    found = _in_clips(boxes(heights), heights, truth)
    onset, offset = (np.rint(1e6 * t).astype(np.int64) for t in _seconds(found, heights, truth))
    begin, end = (np.rint(1e6 * t).astype(np.int64) for t in (truth.onset, truth.offset))
    span = int(max(offset.max(initial=0), end.max(initial=0))) + 1
    onset, offset = onset + found.clip * span, offset + found.clip * span
    begin, end = begin + truth.clip * span, end + truth.clip * span
    covered = np.append(0, np.cumsum(end - begin))

    def covered_before(time: np.ndarray) -> np.ndarray:
        i = np.searchsorted(begin, time, side="right")
        last = np.maximum(i - 1, 0)
        return covered[i] - np.where(i, np.maximum(end[last] - time, 0), 0)

    relevant = covered_before(offset) - covered_before(onset) >= INTERSECTION * (offset - onset)
    false = Spans(*(part[~relevant] for part in (found.clip, found.low, found.high)))
    box, event = _ranges(
        np.searchsorted(end, onset[relevant], side="right"),
        np.searchsorted(begin, offset[relevant], side="left"),
    )
    box = np.flatnonzero(relevant)[box]
    overlap = np.minimum(offset[box], end[event]) - np.maximum(onset[box], begin[event])
    # Going up through the thresholds, what is covered of each reference event.
    event, value = np.tile(event, 2), np.concatenate([found.low[box], found.high[box]])
    order = np.lexsort((value, event))
    event, value = event[order], value[order]
    total = np.cumsum(np.concatenate([overlap, -overlap])[order])
    last = np.append((np.diff(event) != 0) | (np.diff(value) != 0), True)[: len(event)]
    event, value, total = event[last], value[last], total[last]  # each sums to 0 in the end
    enough = (total > 0) & (total >= INTERSECTION * (end - begin)[event])
    upper = np.append(value[1:], 0.0)[: len(value)]
    matched = Spans(truth.clip[event[enough]], value[enough], upper[enough])
    return SpanCounts(
        _per_clip(truth.clip, heights),
        Spans(*(np.concatenate(p) for p in zip(false, matched, _outside(heights, truth),
                                               strict=True))),
        matched,
    )  # fmt: skip


COUNTS: dict[str, Callable[[Track, Truth], SpanCounts]] = {
    "event_f1": event_counts,
    "segment_f1": segment_counts,
    "at_f1_events": clip_counts,
    "intersection_f1": intersection_counts,
}


def _per_clip(clips: np.ndarray, heights: Track) -> np.ndarray:
    return np.bincount(clips, minlength=len(heights.starts) - 1)


def _in_clips(found: Boxes, heights: Track, truth: Truth) -> Boxes:
    """Those in clips that have reference events: no other can be matched."""
    own = _per_clip(truth.clip, heights)[found.clip] > 0
    return Boxes(*(part[own] for part in found))


def _outside(heights: Track, truth: Truth) -> Spans:
    """The onsets of events in all other clips."""
    every = onsets(heights)
    other = _per_clip(truth.clip, heights)[every.clip] == 0
    return Spans(*(part[other] for part in every))


def _seconds(found: Boxes, heights: Track, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    first = heights.starts[found.clip] + found.clip
    return truth.edges[first + found.start], truth.edges[first + found.stop]


def _ranges(first: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All integers of each range, and which range each is of."""
    counts = np.maximum(stop - first, 0)
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) + np.repeat(first - (np.cumsum(counts) - counts), counts)


def _unions(
    owner: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each owner the spans in which one of its own is there, as disjoint spans."""
    if not len(owner):
        return owner, low, high
    levels, rank = np.unique(np.concatenate([low, high]), return_inverse=True)
    order = np.lexsort((rank[: len(low)], owner))
    owner, bottom, top = owner[order], rank[: len(low)][order], rank[len(low) :][order]
    reach = np.maximum.accumulate(owner * len(levels) + top)  # of this owner, so far
    begins = np.append(True, owner[1:] * len(levels) + bottom[1:] > reach[:-1])
    ends = np.append(begins[1:], True)
    return owner[begins], levels[bottom[begins]], levels[reach[ends] % len(levels)]


def _matchings(event: np.ndarray, box: np.ndarray, truth: Truth, found: Boxes) -> Spans:
    """Spans of matched events where candidates are shared.

    Going up through the thresholds a largest matching is kept: a candidate that comes, and an event
    whose candidate goes, is matched along an augmenting path, if there is one.
    """
    fits: dict[int, list[int]] = {}  # by candidate; its node is ~box
    for e, b in zip(event.tolist(), box.tolist(), strict=True):
        fits.setdefault(~b, []).append(e)
    links: dict[int, set[int]] = {e: set() for e in event.tolist()}  # of what is there
    partner: dict[int, int] = {}
    since: dict[int, float] = {}  # an event is matched
    rows: list[tuple[int, float, float]] = []
    changes = [(float(found.low[~b]), True, b) for b in fits]
    changes += [(float(found.high[~b]), False, b) for b in fits]
    for value, comes, b in sorted(changes):
        if comes:
            links[b] = set(fits[b])
            for e in fits[b]:
                links[e].add(b)
            if (matched := _augment(b, links, partner)) is not None:
                since[matched] = value
            continue
        for e in links.pop(b):
            links[e].remove(b)
        if (left := partner.pop(b, None)) is not None:
            del partner[left]
            if _augment(left, links, partner) is None:
                rows.append((int(truth.clip[left]), since.pop(left), value))
    clip, low, high = np.array(rows, np.float64).reshape(-1, 3).T
    return Spans(clip.astype(np.int64), low, high)


def _augment(node: int, links: Mapping[int, Iterable[int]], partner: dict[int, int]) -> int | None:
    """Matches one node more of either side if that can be, and says which on the other side."""
    came: dict[int, int] = {}
    queue = [node]
    for here in queue:
        for there in links[here]:
            if there in came:
                continue
            came[there] = here
            if there in partner:
                queue.append(partner[there])
                continue
            turn: int | None = there
            while turn is not None:
                back = came[turn]
                before = partner.get(back)
                partner[turn], partner[back], turn = back, turn, before
            return there
    return None
