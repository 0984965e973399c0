"""Polyphonic sound detection scores and intersection F1, by the libraries that define them.

Needs the extra `psds`. From score files, sed_scores_eval computes PSDS exactly, over all
thresholds; from operating points (one list of events per threshold), psds_eval computes it as the
DCASE baselines do. PSDS are shares from 0 to 1, as they are published; F1 is in percent.
"""

import importlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event, merge_overlaps
from jfsed_jax.sed.score_files import ScoreFiles, clip_name, steps_of_events
from jfsed_jax.sed.scoring import load_sed_eval

# The two scenarios of DCASE 2021 task 4: react fast, and do not confuse classes.
SCENARIOS: dict[str, dict[str, Any]] = {
    "psds1": {"dtc": 0.7, "gtc": 0.7, "cttc": None, "alpha_ct": 0.0, "alpha_st": 1.0},
    "psds2": {"dtc": 0.1, "gtc": 0.1, "cttc": 0.3, "alpha_ct": 0.5, "alpha_st": 1.0},
}
MAX_FALSE_POSITIVES = 100.0  # per hour
INTERSECTION = 0.5  # both criteria of intersection F1


def psds_of_scores(
    files: ScoreFiles, reference: Iterable[Event], durations: Mapping[str, float]
) -> dict[str, Any]:
    """PSDS 1 and 2 of score files, and of every class.

    Args:
      files: one score file for each clip of `durations`.
      reference: events in seconds; those of one class that overlap or touch are joined.
      durations: length in seconds of every clip that is scored, by file name.

    Returns:
      For "psds1" and "psds2": "value" and "classwise", 0 to 1.
    """
    psds = _library("sed_scores_eval").intersection_based.psds
    _same_clips(files.clips, durations)
    truth = _ground_truth(reference, durations, files.classes)
    scores = {
        clip: _frame(edges, values, files.classes)
        for clip, edges, values in zip(files.clips, files.times, files.scores, strict=True)
    }
    seconds = {clip_name(name): duration for name, duration in durations.items()}
    result = {}
    for name, scenario in SCENARIOS.items():
        value, classwise, *_ = psds(
            scores=scores,
            ground_truth=truth,
            audio_durations=seconds,
            dtc_threshold=scenario["dtc"],
            gtc_threshold=scenario["gtc"],
            cttc_threshold=scenario["cttc"],
            alpha_ct=scenario["alpha_ct"],
            alpha_st=scenario["alpha_st"],
            max_efpr=MAX_FALSE_POSITIVES,
        )
        classes = {label: float(classwise[label]) for label in files.classes if label in classwise}
        result[name] = {"value": float(value), "classwise": classes}
    return result


def psds_of_operating_points(
    points: Sequence[Iterable[Event]], reference: Iterable[Event], durations: Mapping[str, float]
) -> dict[str, Any]:
    """PSDS 1 and 2 of lists of events, one per threshold; see `psds_of_scores`."""
    evaluator, pd = _library("psds_eval").PSDSEval, _library("pandas")
    # psds_eval's own constructor asks for a cross-trigger tolerance even where none counts.
    truth = pd.DataFrame(reference, columns=Event._fields)
    clips = pd.DataFrame({"filename": list(durations), "duration": list(durations.values())})
    tables = [pd.DataFrame(events, columns=Event._fields) for events in points]
    result = {}
    for name, scenario in SCENARIOS.items():
        psds = evaluator(
            scenario["dtc"],
            scenario["gtc"],
            scenario["cttc"] or 0.3,
            ground_truth=truth,
            metadata=clips,
        )
        for table in tables:
            psds.add_operating_point(table)
        value = psds.psds(scenario["alpha_ct"], scenario["alpha_st"], MAX_FALSE_POSITIVES).value
        result[name] = {"value": float(value)}
    return result


def intersection_f1(
    reference: Iterable[Event],
    estimates: Iterable[Event],
    *,
    durations: Mapping[str, float],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Intersection F1: an event is found if detections cover half of it, and are half covered.

    Args:
      reference, estimates: events in seconds; those of one class that overlap or touch are joined.
      durations: length in seconds of every clip that is scored, by file name.

    Returns:
      "macro", "micro" and "classwise" in percent.
    """
    fscore = _library("sed_scores_eval").intersection_based.fscore
    by_clip = defaultdict(list)
    for event in estimates:
        by_clip[event.filename].append(event)
    scores = {
        clip_name(name): _frame(
            *steps_of_events(by_clip[name], classes, duration=duration), classes
        )
        for name, duration in durations.items()
    }
    f1, *_ = fscore(
        scores=scores,
        ground_truth=_ground_truth(reference, durations, classes),
        threshold=0.5,
        dtc_threshold=INTERSECTION,
        gtc_threshold=INTERSECTION,
    )
    return {
        "macro": 100 * float(f1["macro_average"]),
        "micro": 100 * float(f1["micro_average"]),
        "classwise": {label: 100 * float(f1[label]) for label in classes},
    }


def format_psds(result: Mapping[str, Any]) -> str:
    """Whatever of the three was computed, as text lines."""
    lines = []
    if "intersection_f1" in result:
        entry = result["intersection_f1"]
        lines.append(
            f"Intersection-F1    macro  {entry['macro']:8.4f}   micro {entry['micro']:.4f}"
        )
    for key, source in (("psds", "score files"), ("psds_operating_points", "operating points")):
        for name, entry in result.get(key, {}).items():
            lines.append(f"{name.upper()}  {entry['value']:.6f}   from {source}")
    return "\n".join(lines)


def _library(name: str) -> Any:
    load_sed_eval()  # which sed_scores_eval imports too, without the care that it needs
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"PSDS and intersection F1 need {name}; install it with pip install 'jfsed_jax[psds]'"
        ) from error


def _same_clips(clips: Sequence[str], durations: Mapping[str, float]) -> None:
    expected = {clip_name(name) for name in durations}
    for some, others, what in (
        (expected, set(clips), "has no score file"),
        (set(clips), expected, "has a score file but no duration"),
    ):
        if some - others:
            raise InputError(f"the clip {min(some - others)!r} {what}")


def _ground_truth(
    reference: Iterable[Event], durations: Mapping[str, float], classes: Sequence[str]
) -> dict[str, list[tuple[float, float, str]]]:
    """Per clip its events as sed_scores_eval takes them: none of a class overlap or touch."""
    truth: dict[str, list[tuple[float, float, str]]] = {clip_name(name): [] for name in durations}
    for event in merge_overlaps(reference):
        clip = clip_name(event.filename)
        if clip not in truth:
            raise InputError(f"the clip {event.filename!r} has events but no duration")
        if event.event_label not in classes:
            raise InputError(f"the label {event.event_label!r} is not one of {' '.join(classes)}")
        truth[clip].append((event.onset, event.offset, event.event_label))
    return truth


def _frame(edges: Any, scores: Any, classes: Sequence[str]) -> Any:
    """sed_scores_eval's table of one clip."""
    table = _library("pandas").DataFrame(scores, columns=list(classes))
    table.insert(0, "onset", edges[:-1])
    table.insert(1, "offset", edges[1:])
    return table
