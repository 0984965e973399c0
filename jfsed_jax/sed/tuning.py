"""A decoder's settings, class by class, with the best F1 on labelled clips; all thresholds count.

For each setting of a decoder (a median window) a class has heights (`heights`), and between two
neighbouring values of these every threshold decides alike. So the search over thresholds is exact;
a threshold is chosen in the middle of its two neighbours. Of equally good ones, the setting that
comes first (the smallest window), then the interval that holds 0.5 or is nearest to it. The macro
F1 is a mean over classes, so the best of each class is the best of all.

Tuned scores are too good on the clips they were tuned on. How much, is estimated by
cross-validation: each part of the clips is scored with what is best on all others.

Axis letters: `B` clips, `T` frames, `C` classes, `P` parts (folds), `R` rows: all clips, then all
but each part, `I` intervals of thresholds.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event, merge_overlaps
from jfsed_jax.sed.heights import Spans, Track, median_heights, track_of
from jfsed_jax.sed.scoring import f1_of_counts
from jfsed_jax.sed.threshold_counts import COUNTS, SpanCounts, Truth

LONGEST_WINDOW = 3.0  # seconds, of those tried by default
WINDOW_RATIO = 1.5  # from one to the next

Settings = dict[str, float]
# The settings of a class that are tried, each with the heights that it gives.
Candidates = Callable[[Track], Iterable[tuple[Settings, Track]]]


@dataclass(frozen=True)
class TunedClass:
    """What is best for one class.

    Attributes:
      settings: those of the decoder, without the threshold.
      threshold: of the heights, from 0 to 1.
      counts: <int64>[3] reference, estimated and matched items with them, on all clips.
      held_out: likewise, each part with what is best on the others; None without parts.
    """

    settings: Settings
    threshold: float
    counts: np.ndarray
    held_out: np.ndarray | None


def windows_of(frame_rate: float) -> list[int]:
    """Odd windows in frames up to `LONGEST_WINDOW`, each about `WINDOW_RATIO` times the last."""
    count = int(np.log(max(LONGEST_WINDOW * frame_rate, 1)) / np.log(WINDOW_RATIO)) + 1
    return np.unique(2 * (WINDOW_RATIO ** np.arange(count) // 2).astype(int) + 1).tolist()


def median_candidates(
    windows: Sequence[int], *, medians: int = 2, frame_rate: float = 1.0
) -> Candidates:
    """The paper's decoder with each window, in frames; among the settings it is in seconds."""

    def tried(track: Track) -> Iterator[tuple[Settings, Track]]:
        for window in sorted(windows):
            yield {"window": window / frame_rate}, median_heights(track, window, medians)

    return tried


def tune_classes(
    clips: Sequence[np.ndarray],
    times: Sequence[np.ndarray],
    reference: Iterable[Event],
    candidates: Mapping[str, Candidates],
    *,
    filenames: Sequence[str],
    metric: str = "event_f1",
    folds: int = 0,
    seed: int = 0,
) -> dict[str, TunedClass]:
    """The best settings and threshold of each class.

    Args:
      clips: of each of B clips the frame posteriors <float>[T, C], gated.
      times: of each the edges of its frames <float64>[T + 1] in seconds.
      reference: events of these clips; of `intersection_f1` those of a class that overlap are
        joined.
      candidates: what is tried, for each of C labels.
      filenames: B names.
      metric: a key of `threshold_counts.COUNTS`.
      folds: P parts of the clips, drawn by `seed`, for the cross-validation; 0: none.

    Returns:
      For each label; without reference events the first settings and 0.5.

    Raises:
      InputError: no such metric, or fewer clips than parts.
    """
    if metric not in COUNTS:
        raise InputError(f"metric is {metric!r}; expected one of {', '.join(COUNTS)}")
    if folds and not 2 <= folds <= len(clips):
        raise InputError(
            f"{folds} folds of {len(clips)} clips; expected 0, or 2 to as many as clips"
        )
    events = merge_overlaps(reference) if metric == "intersection_f1" else list(reference)
    truths = truths_of(events, np.concatenate([np.zeros(0), *times]), filenames, list(candidates))
    part = np.random.default_rng(seed).permutation(len(clips)) % max(folds, 1)
    return {
        label: _tune_class(
            track_of([np.asarray(frames)[:, c] for frames in clips]),
            truths[label],
            tried,
            COUNTS[metric],
            part,
            folds,
        )
        for c, (label, tried) in enumerate(candidates.items())
    }


def truths_of(
    events: Sequence[Event], edges: np.ndarray, filenames: Sequence[str], labels: Sequence[str]
) -> dict[str, Truth]:
    """Reference events of each of the labels, of clips with these names; edges: see `Truth`."""
    clip = {name: b for b, name in enumerate(filenames)}
    own: dict[str, list[tuple[int, float, float]]] = {label: [] for label in labels}
    for event in events:
        if event.event_label in own:
            own[event.event_label].append((clip[event.filename], event.onset, event.offset))
    found = {}
    for label, rows in own.items():
        table = np.array(sorted(rows), np.float64).reshape(-1, 3)
        found[label] = Truth(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], edges)
    return found


def summary(
    counts: Sequence[np.ndarray | None], metric: str, classes: Sequence[str]
) -> dict[str, Any] | None:
    """F1 in percent as JSON: macro, micro and classwise, None where undefined, as in `scoring`.

    Args:
      counts: of each of C classes <int64>[3]; None: there is nothing to tell.
    """
    known = [own for own in counts if own is not None]
    if len(known) < len(classes):
        return None
    # Intersection F1 has the formula of Event-F1, from its own counts.
    name = "event_f1" if metric == "intersection_f1" else metric
    total = np.stack(known)
    *classwise, micro = (100 * f1_of_counts(name, np.vstack([total, total.sum(axis=0)]))).tolist()
    defined = [value for value in classwise if not np.isnan(value)]
    return {
        "macro": float(np.mean(defined)) if defined else None,
        "micro": _defined(micro),
        "classwise": dict(zip(classes, map(_defined, classwise), strict=True)),
    }


def format_tuned(
    tuned: Mapping[str, TunedClass],
    f1: Mapping[str, Any] | None,
    held_out: Mapping[str, Any] | None,
) -> str:
    """What was reached, as a text table.

    Args:
      tuned: the classes.
      f1, held_out: `summary` of all clips, and of the cross-validation if there was one.
    """
    width = max(map(len, tuned))
    lines = [f"{'class':{width}}     ref    est  found      F1  cross-validated"]

    def cells(part: str, label: str) -> str:
        shown = []
        for scores in (f1, held_out):
            value = None if scores is None else scores[part]
            value = value[label] if value is not None and label else value
            shown.append("-" if value is None else f"{value:.2f}")
        return f"  {shown[0]:>6}  {shown[1]:>15}"

    for label, one in tuned.items():
        numbers = "".join(f"{count:7d}" for count in one.counts.tolist())
        lines.append(f"{label:{width}} {numbers}{cells('classwise', label)}")
    for average in ("macro", "micro"):
        lines.append(f"{average:{width}} {'':21}{cells(average, '')}")
    return "\n".join(lines)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value


def _tune_class(
    track: Track,
    truth: Truth,
    tried: Candidates,
    count: Callable[[Track, Truth], SpanCounts],
    part: np.ndarray,
    folds: int,
) -> TunedClass:
    rows = range(folds + 1)  # all clips, then all but those of a part
    uses = np.vstack([np.ones(len(part), bool)] + [part != k for k in range(folds)])
    frames_of = np.repeat(np.arange(len(part)), np.diff(track.starts))
    best: list[Any] = [None] * len(rows)
    for settings, heights in tried(track):
        spans = count(heights, truth)
        levels, totals = _totals(spans, part, folds)
        reference = uses @ spans.reference
        f1 = 2 * totals[..., 1] / np.maximum(totals[..., 0] + reference[:, None], 1)
        for row in rows:
            i = _nearest_half(levels, f1[row])
            if best[row] is not None and f1[row, i] <= best[row][0]:
                continue
            values = heights.values if not row else heights.values[uses[row][frames_of]]
            threshold = _between(values, levels[i], levels[i + 1]) if reference[row] else 0.5
            # All clips are scored themselves, of the others the part that was left out.
            scored = uses[0] if not row else ~uses[row]
            best[row] = f1[row, i], settings, threshold, _counts_at(spans, threshold, scored)
    _, settings, threshold, counts = best[0]
    held_out = sum(entry[3] for entry in best[1:]) if folds else None
    return TunedClass(settings, threshold, counts, held_out)


def _totals(spans: SpanCounts, part: np.ndarray, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of each interval of thresholds.

    Returns:
      levels: <float64>[I + 1], from 0 to 1: interval i is from its level to below the next.
      totals: <float64>[R, I, 2] estimated and matched items.
    """
    kinds = (spans.estimated, spans.matched)
    ends = [values for kind in kinds for values in (kind.low, kind.high)]
    levels, place = np.unique(np.concatenate([*ends, [0.0, 1.0]]), return_inverse=True)
    places = np.split(place, np.cumsum([len(values) for values in ends]))
    size, parts = len(levels), max(folds, 1)
    own = np.zeros((parts, size, 2))
    for k, kind in enumerate(kinds):
        row = part[kind.clip] * size
        for at, sign in ((places[2 * k], 1), (places[2 * k + 1], -1)):
            own[..., k] += sign * np.bincount(row + at, minlength=parts * size).reshape(parts, -1)
    own = np.cumsum(own, axis=1)[:, :-1]
    total = own.sum(axis=0)
    return levels, np.stack([total, *(total - own if folds else [])])


def _nearest_half(levels: np.ndarray, f1: np.ndarray) -> int:
    """Of the intervals with the best F1 <float64>[I] the one that holds 0.5, or is nearest."""
    best = np.flatnonzero(f1 == f1.max())
    low, high = levels[best], levels[best + 1]
    away = np.maximum(low - 0.5, 0.5 - high).clip(0)  # 0 also where 0.5 ends it: then the next one
    return int(best[np.lexsort((high == 0.5, away))[0]])


def _between(values: np.ndarray, low: float, high: float) -> float:
    """The middle of two neighbouring values within the interval, those nearest 0.5."""
    if high <= 0.5:
        upper = high
        lower = values[values < high].max(initial=0.0)
    else:
        upper_of = max(low, 0.5)
        lower = values[values <= upper_of].max(initial=0.0)
        upper = values[values > upper_of].min(initial=1.0)
    middle = float(lower + (upper - lower) / 2)
    return middle if middle < upper else float(lower)


def _counts_at(spans: SpanCounts, threshold: float, clips: np.ndarray) -> np.ndarray:
    """<int64>[3] reference, estimated and matched items of the chosen clips <bool>[B]."""

    def there(kind: Spans) -> int:
        return int(np.sum((kind.low <= threshold) & (threshold < kind.high) & clips[kind.clip]))

    own = int(spans.reference[clips].sum())
    return np.array([own, there(spans.estimated), there(spans.matched)])
