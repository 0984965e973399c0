"""Why events are not hit: every error of one kind; and which classes are found in place of others.

Events are compared class by class and clip by clip. An estimate is *over* a reference if the two
overlap, or if Event-F1 matches them. Then each event is of the first of these kinds that fits:

    hit          matched, as Event-F1 matches
    missed       a reference that no estimate is over
    false_alarm  an estimate that is over no reference
    merged       of an estimate that is over several references: it and they
    split        of a reference that several estimates are over: it and they
    onset, offset, both
                 one over one, and what lies beyond the collar

So the counts of a class add up to those of Event-F1, and of each of the last three kinds there are
as many references as estimates.

Axis letters: `R` references, `E` estimates, `B` clips, `C` event classes, `K` kinds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.sed.events import Event
from jfsed_jax.sed.scoring import OFFSET_LENGTH_SHARE, ONSET_COLLAR

# In the order of their right: of an event that two kinds fit, the later one is its kind.
KINDS = ("missed", "false_alarm", "onset", "offset", "both", "split", "merged", "hit")
_MISSED, _FALSE_ALARM, _ONSET, _OFFSET, _BOTH, _SPLIT, _MERGED, _HIT = range(len(KINDS))


class ErrorKinds(NamedTuple):
    """The kind of each event, as places in `KINDS`: <int64>[R] and <int64>[E]."""

    reference: np.ndarray
    estimates: np.ndarray


def sort_errors(reference: Sequence[Event], estimates: Sequence[Event]) -> ErrorKinds:
    """Sorts the events of any clips and classes into `KINDS`, with the collars of Event-F1.

    Args:
      reference: R events in seconds, in any order.
      estimates: E events.
    """
    kinds = ErrorKinds(np.zeros(len(reference), np.int64), np.zeros(len(estimates), np.int64))
    for own, found in _parts(reference, estimates):
        spans = [
            np.array([events[i][1:3] for i in chosen], np.float64).reshape(-1, 2)
            for events, chosen in ((reference, own), (estimates, found))
        ]
        kinds.reference[own], kinds.estimates[found] = _kinds(*spans)
    return kinds


def count_kinds(events: Sequence[Event], kinds: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """How many of the events are of which class and kind: <int64>[C, K].

    Args:
      events: references or estimates, of these classes.
      kinds: one an event, of `sort_errors`.
      classes: C labels.
    """
    column = {label: c for c, label in enumerate(classes)}
    rows = np.array([column[event.event_label] for event in events], np.int64)
    counts = np.bincount(rows * len(KINDS) + kinds, minlength=len(classes) * len(KINDS))
    return counts.reshape(len(classes), len(KINDS))


def taken_for(reference: np.ndarray, tagged: np.ndarray) -> np.ndarray:
    """Of the clips of each class, those tagged with it and what the others were taken for.

    Args:
      reference, tagged: <bool>[B, C] tags.

    Returns:
      <int64>[C, C + 1] clips: on the diagonal those in which the class was found; beside it those
      in which it was missed and the other class was tagged where there is none, a clip in every
      such column; last those in which it was missed and nothing was tagged wrongly.
    """
    truth, tagged = np.asarray(reference, bool), np.asarray(tagged, bool)
    missed, wrong = (truth & ~tagged).astype(np.int64), tagged & ~truth
    clips = missed.T @ np.concatenate([wrong, ~wrong.any(axis=1, keepdims=True)], axis=1)
    np.fill_diagonal(clips, (truth & tagged).sum(axis=0))
    return clips


def _parts(
    reference: Sequence[Event], estimates: Sequence[Event]
) -> list[tuple[list[int], list[int]]]:
    """Positions of events of one clip and class, in parts of which none is over one of another."""
    groups: dict[tuple[str, str], list[tuple[float, float, int, int]]] = {}
    for side, events in enumerate((reference, estimates)):
        for i, event in enumerate(events):
            key = (event.filename, event.event_label)
            groups.setdefault(key, []).append((event.onset, event.offset, side, i))
    parts: list[tuple[list[int], list[int]]] = []
    for group in groups.values():
        reach = -np.inf
        for onset, offset, side, i in sorted(group):
            if onset > reach:
                parts.append(([], []))
            parts[-1][side].append(i)
            # Twice the collar: no rounding of a difference decides.
            reach = max(reach, offset, onset + 2 * ONSET_COLLAR)
    return parts


def _kinds(reference: np.ndarray, estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kinds <int64>[R] and <int64>[E] of onsets and offsets <float64>[R, 2] and <float64>[E, 2]."""
    if not len(reference) or not len(estimates):
        return np.full(len(reference), _MISSED), np.full(len(estimates), _FALSE_ALARM)
    own, found = reference[:, None], estimates[None]
    collar = np.maximum(ONSET_COLLAR, OFFSET_LENGTH_SHARE * (own[..., 1] - own[..., 0]))
    onset = np.abs(own[..., 0] - found[..., 0]) <= ONSET_COLLAR
    offset = np.abs(own[..., 1] - found[..., 1]) <= collar
    match = _matching(onset & offset)
    over = (own[..., 0] < found[..., 1]) & (found[..., 0] < own[..., 1])
    over[match] = True
    pairs = np.where(onset, _OFFSET, np.where(offset, _ONSET, _BOTH))
    pairs = np.where(over.sum(axis=1, keepdims=True) > 1, _SPLIT, pairs)
    pairs = np.where(over.sum(axis=0, keepdims=True) > 1, _MERGED, pairs)
    pairs[match] = _HIT
    return (
        np.where(over, pairs, _MISSED).max(axis=1),
        np.where(over, pairs, _FALSE_ALARM).max(axis=0),
    )


def _matching(fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a largest matching of what fits, <bool>[R, E]."""
    if not fits.any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    from scipy.sparse import csr_array  # late: it takes a tenth of a second
    from scipy.sparse.csgraph import maximum_bipartite_matching

    columns = maximum_bipartite_matching(csr_array(fits), perm_type="column")
    rows = np.flatnonzero(columns >= 0)
    return rows, columns[rows]
