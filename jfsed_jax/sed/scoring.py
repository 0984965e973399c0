"""Scores by the DCASE 2019 task 4 protocol (section 3.2), for any system's events.

Event-F1: sed_eval, collar 200 ms on onsets and max(200 ms, 20 % of the length) on offsets, optimal
matching, an empty output scores zero. Segment-F1: sed_eval, 1 s. AT-F1: clip tags, per class
2TP / (2TP + FP + FN), 0 where there is nothing to count. Scores are in percent. sed_eval computes
its scores itself, from counts that `long_clips` makes it reach sooner; beside them every clip's
counts are kept, from which `uncertainty` follows.

Axis letters: `B` clips, `C` event classes.
"""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.long_clips import count_segments, stretches
from jfsed_jax.sed.score_titles import TITLES

ONSET_COLLAR = 0.2  # seconds
OFFSET_LENGTH_SHARE = 0.2  # of the reference event's length
SEGMENT = 1.0  # seconds

Scores = dict[str, dict[str, Any]]
Counts = dict[str, np.ndarray]


def score(
    reference: Iterable[Event],
    estimates: Iterable[Event],
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    tags: np.ndarray | Mapping[str, Iterable[str]] | None = None,
) -> Scores:
    """All scores of a set of clips; see `score_clips`."""
    scores, _ = score_clips(reference, estimates, filenames=filenames, classes=classes, tags=tags)
    return scores


def score_clips(
    reference: Iterable[Event],
    estimates: Iterable[Event],
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    tags: np.ndarray | Mapping[str, Iterable[str]] | None = None,
) -> tuple[Scores, Counts]:
    """All scores of a set of clips, and the counts behind them.

    Args:
      reference, estimates: events in seconds.
      filenames: the B clips that are scored, those without events included.
      classes: C labels.
      tags: the clip head's decisions, <bool>[B, C] or labels per file name; None if it has none.

    Returns:
      scores: JSON-able; keys `event_f1`, `segment_f1`, `at_f1` (only with tags), `at_f1_events`;
        each holds `macro`, `micro`, `classwise` (percent; None where undefined), `precision` and
        `recall` (each again macro, micro, classwise), `counts` per class, `notes`, and for the
        two of sed_eval `error_rate` (a ratio, not percent).
      counts: for the same keys <int64>[B, C, 3]: reference, estimated and matched items.

    Raises:
      InputError: an event of a clip that is not scored, or of a label that is no class.
    """
    reference, estimates = list(reference), list(estimates)
    check_events(reference, filenames, classes, "reference event")
    check_events(estimates, filenames, classes, "estimated event")
    names = ("event_f1", "segment_f1")
    scores, counts = sed_eval_scores(names, reference, estimates, filenames, classes)
    present = clip_tags(reference, filenames, classes)
    estimated = {"at_f1_events": clip_tags(estimates, filenames, classes)}
    if tags is not None:
        estimated["at_f1"] = tag_matrix(tags, filenames, classes)
    for name, found in estimated.items():
        scores[name] = tagging_scores(present, found, classes)
        counts[name] = _tag_counts(present, found)
    return scores, counts


def check_events(
    events: Sequence[Event],
    filenames: Iterable[str],
    classes: Sequence[str],
    what: str,
    rows: Sequence[int] | None = None,
) -> None:
    """Raises InputError for the first event of an unknown clip or class.

    Args:
      what: names the events in the message: a path or "estimated event".
      rows: the row of each event in that file.
    """
    known = set(filenames)
    for i, event in enumerate(events):
        where = what if rows is None else f"{what}, row {rows[i]}"
        if event.filename not in known:
            raise InputError(
                f"{where}: the clip {event.filename!r} is not among the {len(known)} that are "
                "scored; add it to the reference list or remove the event"
            )
        if event.event_label not in classes:
            raise InputError(
                f"{where}: the label {event.event_label!r} is not one of {', '.join(classes)}"
            )


def clip_tags(
    events: Iterable[Event], filenames: Sequence[str], classes: Sequence[str]
) -> np.ndarray:
    """Which classes have an event in which clip: <bool>[B, C]."""
    row = {name: b for b, name in enumerate(filenames)}
    column = {label: c for c, label in enumerate(classes)}
    tags = np.zeros((len(row), len(column)), bool)
    for event in events:
        tags[row[event.filename], column[event.event_label]] = True
    return tags


def tag_matrix(
    tags: np.ndarray | Mapping[str, Iterable[str]],
    filenames: Sequence[str],
    classes: Sequence[str],
) -> np.ndarray:
    """Clip tags as <bool>[B, C], from such a matrix or from labels per file name."""
    if not isinstance(tags, Mapping):
        return np.asarray(tags, bool).reshape(len(filenames), len(classes))
    missing = [name for name in filenames if name not in tags]
    if missing:
        raise InputError(f"no tags for the clip {missing[0]!r} and {len(missing) - 1} others")
    column = {label: c for c, label in enumerate(classes)}
    matrix = np.zeros((len(filenames), len(classes)), bool)
    for b, name in enumerate(filenames):
        for label in tags[name]:
            if label not in column:
                raise InputError(f"tag {label!r} of {name!r} is not one of {', '.join(classes)}")
            matrix[b, column[label]] = True
    return matrix


def tagging_scores(
    reference: np.ndarray, estimated: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """AT-F1 of clip tags, also for clips that have weak labels only.

    Args:
      reference, estimated: <bool>[B, C].
      classes: C labels.

    Returns:
      One entry of `score`.
    """
    total = _tag_counts(reference, estimated).sum(0)
    overall = total.sum(0)

    def matched_share(of: int) -> dict[str, Any]:
        classwise, micro = (100 * n[..., 2] / np.maximum(n[..., of], 1) for n in (total, overall))
        return _by_average(classwise, micro, classes)

    return {
        **_by_average(
            100 * f1_of_counts("at_f1", total), 100 * f1_of_counts("at_f1", overall), classes
        ),
        "precision": matched_share(1),
        "recall": matched_share(0),
        "counts": _named_counts(total, classes),
        "notes": [],
    }


def f1_of_counts(name: str, counts: np.ndarray) -> np.ndarray:
    """F1 <float64>[...] of <float>[..., 3] reference, estimated and matched items, 0 to 1.

    `name` is a key of `score`'s result; it decides what is undefined.
    As sed_eval computes its two, NaN where undefined; tags are 2TP / (2TP + FP + FN), or 0. Of
    intersections the estimated are those that are matched and the false ones together.
    """
    reference, estimated, matched = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    if name.startswith("at_f1"):
        return 2 * matched / np.maximum(reference + estimated, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = matched / estimated
        recall = matched / reference
        if name != "segment_f1":  # empty_system_output_handling="zero_score"
            precision = np.where(estimated == 0, 0.0, precision)
        f1 = 2 * precision * recall / (precision + recall)
    return np.where((precision == 0) & (recall == 0), 0.0, f1)


def entry_of_counts(name: str, total: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """An entry of `score` from counts <int64>[C, 3]; without reference events undefined."""
    reference, estimated, matched = np.moveaxis(np.vstack([total, total.sum(axis=0)]), -1, 0)
    values = {
        "f1": f1_of_counts(name, np.vstack([total, total.sum(axis=0)])),
        "precision": np.where(reference > 0, matched / np.maximum(estimated, 1), np.nan),
        "recall": np.where(reference > 0, matched / np.maximum(reference, 1), np.nan),
    }
    known = total[:, 0] > 0

    def averages(of: np.ndarray) -> dict[str, Any]:
        return {
            "macro": _percent(np.mean(of[:-1][known]) if known.any() else np.nan),
            "micro": _percent(of[-1]),
            "classwise": dict(zip(classes, map(_percent, of[:-1]), strict=True)),
        }

    absent = [label for label, has in zip(classes, known, strict=True) if not has]
    why = f"{TITLES[name].text} is undefined for {', '.join(absent)} (no reference)"
    return {
        **averages(values["f1"]),
        "precision": averages(values["precision"]),
        "recall": averages(values["recall"]),
        "counts": _named_counts(total, classes),
        "notes": [f"{why}: not in the mean"] if absent else [],
    }


def sed_eval_scores(
    names: Sequence[str],
    reference: Iterable[Event],
    estimates: Iterable[Event],
    filenames: Sequence[str],
    classes: Sequence[str],
) -> tuple[Scores, Counts]:
    """The entries and counts of `score_clips` that sed_eval computes: of those that are named."""
    sound_event, container = load_sed_eval()
    # dcase_util reads a label "none" as no label, so sed_eval is given numbers for labels.
    labels = [str(c) for c in range(len(classes))]
    both = {
        "event_f1": sound_event.EventBasedMetrics(
            event_label_list=labels,
            t_collar=ONSET_COLLAR,
            percentage_of_length=OFFSET_LENGTH_SHARE,
            empty_system_output_handling="zero_score",
        ),
        "segment_f1": sound_event.SegmentBasedMetrics(
            event_label_list=labels, time_resolution=SEGMENT
        ),
    }
    metrics = {name: both[name] for name in names}
    lists = [_by_clip(events, filenames, classes) for events in (reference, estimates)]
    totals = {name: np.zeros((len(filenames) + 1, len(classes), 3)) for name in metrics}
    for b, (own, found) in enumerate(zip(*lists, strict=True)):
        for name, metric in metrics.items():
            if name == "segment_f1":
                count_segments(metric, own, found)
            else:
                for part in stretches(own, found, collar=ONSET_COLLAR):
                    metric.evaluate(*map(container, part))
            totals[name][b + 1] = _class_counts(metric)
    scores = {name: _sed_eval_entry(name, metric, classes) for name, metric in metrics.items()}
    counts = {name: np.diff(total, axis=0).astype(np.int64) for name, total in totals.items()}
    return scores, counts


def load_sed_eval() -> tuple[ModuleType, type]:
    """sed_eval's metrics and its event list; imported late because it takes a second."""
    with warnings.catch_warnings(action="ignore"), _pkg_resources():
        import dcase_util
        from sed_eval import sound_event
    return sound_event, dcase_util.containers.MetaDataContainer


@contextlib.contextmanager
def _pkg_resources() -> Iterator[None]:
    """Within, `pkg_resources` can be imported.

    dcase_util imports it for functions that nothing here calls; setuptools 81 dropped it. Where it
    is gone an empty module stands in, so that no environment has to keep an old setuptools.
    """
    name = "pkg_resources"
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        sys.modules[name] = ModuleType(name)
        try:
            yield
        finally:
            del sys.modules[name]
    else:
        yield


def _class_counts(metric: Any) -> list[tuple[float, float, float]]:
    """Reference, estimated and matched items so far, per class."""
    return [(n["Nref"], n["Nsys"], n["Ntp"]) for n in metric.class_wise.values()]


def _by_clip(
    events: Iterable[Event], filenames: Sequence[str], classes: Sequence[str]
) -> list[list[dict[str, Any]]]:
    """Per clip its events as sed_eval wants them, labels replaced by class numbers."""
    row = {name: b for b, name in enumerate(filenames)}
    column = {label: str(c) for c, label in enumerate(classes)}
    lists: list[list[dict[str, Any]]] = [[] for _ in filenames]
    for event in events:
        item = {"onset": event.onset, "offset": event.offset}
        lists[row[event.filename]].append({**item, "event_label": column[event.event_label]})
    return lists


def _sed_eval_entry(name: str, metric: Any, classes: Sequence[str]) -> dict[str, Any]:
    """One entry of `score` from a sed_eval metric."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        results = metric.results()
    overall, average = results["overall"], results["class_wise_average"]
    per_class = list(results["class_wise"].values())
    counts = np.array(_class_counts(metric))

    def averages(key: str) -> dict[str, Any]:
        return {
            "macro": _percent(average["f_measure"][key]),
            "micro": _percent(overall["f_measure"][key]),
            "classwise": {
                label: _percent(result["f_measure"][key])
                for label, result in zip(classes, per_class, strict=True)
            },
        }

    # Without reference events an error rate is a division by zero; sed_eval prints 1e16.
    has_reference = counts[:, 0] > 0
    error_rates = [result["error_rate"]["error_rate"] for result in per_class]
    known = [rate for rate, has in zip(error_rates, has_reference, strict=True) if has]
    error_rate = {
        "macro": float(np.mean(known)) if known else None,
        "micro": overall["error_rate"]["error_rate"] if known else None,
        "classwise": {
            label: rate if has else None
            for label, rate, has in zip(classes, error_rates, has_reference, strict=True)
        },
        **{
            kind: overall["error_rate"][f"{kind}_rate"] if known else None
            for kind in ("substitution", "deletion", "insertion")
        },
    }
    entry = averages("f_measure")
    absent = [label for label, value in entry["classwise"].items() if value is None]
    notes = []
    if absent:
        why = "no reference" if name == "event_f1" else "no reference or no estimate"
        notes = [
            f"{TITLES[name].text} is undefined for {', '.join(absent)} ({why}): not in the mean"
        ]
    return {
        **entry,
        "precision": averages("precision"),
        "recall": averages("recall"),
        "error_rate": error_rate,
        "counts": _named_counts(counts, classes),
        "notes": notes,
    }


def _tag_counts(reference: np.ndarray, estimated: np.ndarray) -> np.ndarray:
    """<int64>[B, C, 3] of two <bool>[B, C]."""
    reference, estimated = np.asarray(reference, bool), np.asarray(estimated, bool)
    return np.stack([reference, estimated, reference & estimated], axis=-1).astype(np.int64)


def _by_average(classwise: np.ndarray, micro: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "macro": float(np.mean(classwise)),
        "micro": float(micro),
        "classwise": dict(zip(classes, map(float, classwise), strict=True)),
    }


def _named_counts(total: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    names = ("reference", "estimated", "matched")
    return {
        label: dict(zip(names, map(int, row), strict=True))
        for label, row in zip(classes, total, strict=True)
    }


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else 100 * float(value)
