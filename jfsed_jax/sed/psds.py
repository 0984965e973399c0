"""Polyphonic sound detection scores and intersection F1, by the libraries that define them.

Needs the extra `psds`. From score files, sed_scores_eval computes PSDS exactly, over all
thresholds; from operating points (one list of events per threshold), psds_eval computes it as the
DCASE baselines do. PSDS are shares from 0 to 1, as they are published; F1 is in percent.
"""

import importlib
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event, merge_overlaps
from jfsed_jax.sed.score_files import ScoreFiles, clip_name, clip_names, steps_of_events
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
      For "psds1" and "psds2": "value" and "classwise", 0 to 1, and "notes". A class without
      reference events is None and not in the value, as psds_eval does.

    Raises:
      InputError: clips of files, reference and durations differ; no reference events.
    """
    _same_clips(files.clips, durations)
    events = merge_overlaps(reference)
    truth = _ground_truth(events, durations, files.classes)
    classes = _with_reference(events, files.classes)
    psds = library("sed_scores_eval").intersection_based.psds
    columns = [files.classes.index(label) for label in classes]
    scores = {
        clip: _frame(edges, values[:, columns], classes)
        for clip, edges, values in zip(files.clips, files.times, files.scores, strict=True)
    }
    seconds = dict(zip(clip_names(durations), durations.values(), strict=True))
    result = {}
    for name, scenario in SCENARIOS.items():
        # Of one class there are no cross triggers; sed_scores_eval cannot count none.
        crossed = len(classes) > 1
        value, classwise, *_ = psds(
            scores=scores,
            ground_truth=truth,
            audio_durations=seconds,
            dtc_threshold=scenario["dtc"],
            gtc_threshold=scenario["gtc"],
            cttc_threshold=scenario["cttc"] if crossed else None,
            alpha_ct=scenario["alpha_ct"] if crossed else 0.0,
            alpha_st=scenario["alpha_st"],
            max_efpr=MAX_FALSE_POSITIVES,
        )
        result[name] = {
            "value": float(value),
            "classwise": {
                label: float(classwise[label]) if label in classes else None
                for label in files.classes
            },
            "notes": _notes_on_absent(files.classes, classes, "PSDS"),
        }
    return result


def psds_of_operating_points(
    points: Sequence[Iterable[Event]], reference: Iterable[Event], durations: Mapping[str, float]
) -> dict[str, Any]:
    """PSDS 1 and 2 of lists of events, one per threshold; see `psds_of_scores`.

    Events of one class that overlap or touch are joined, in reference and lists: psds_eval refuses
    overlaps, and DESED corrected those of DCASE 2019's validation labels in the same way.
    """
    truth = merge_overlaps(reference)
    # A list that repeats another adds nothing.
    lists = list(dict.fromkeys(tuple(merge_overlaps(events)) for events in points))
    for events in (truth, *lists):
        _check(events, durations)
    said = {event.event_label for events in lists for event in events}
    classes = _with_reference(truth, sorted({event.event_label for event in truth}))
    if len(classes) < 2:
        raise InputError(
            f"psds_eval needs reference events of two classes; found those of {classes[0]} alone: "
            "give score files instead"
        )
    evaluator, pd = library("psds_eval").PSDSEval, library("pandas")
    clips = pd.DataFrame({"filename": list(durations), "duration": list(durations.values())})
    result = {}
    for name, scenario in SCENARIOS.items():
        # psds_eval's own constructor asks for a cross-trigger tolerance even where none counts.
        psds = evaluator(
            scenario["dtc"],
            scenario["gtc"],
            scenario["cttc"] or 0.3,
            ground_truth=_table(truth),
            metadata=clips,
        )
        for events in lists:
            psds.add_operating_point(_table(events))
        with warnings.catch_warnings():
            # Once per class and curve, from inside psds_eval 0.5.3, of what pandas 3 no longer has;
            # the extra psds holds pandas below 3.
            warnings.filterwarnings("ignore", "DataFrame.fillna with 'method'", FutureWarning)
            value = psds.psds(scenario["alpha_ct"], scenario["alpha_st"], MAX_FALSE_POSITIVES).value
        result[name] = {"value": float(value), "notes": _notes_on_absent(said, classes, "PSDS")}
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
      "macro", "micro" and "classwise" in percent, and "notes". A class without reference events is
      None and not in the macro mean; what is detected of it counts as false in the micro mean.

    Raises:
      InputError: an event in a clip without a duration or of no class; no reference events.
    """
    truth, found = merge_overlaps(reference), merge_overlaps(estimates)
    _check(found, durations, classes)
    of_clips = _ground_truth(truth, durations, classes)
    scored = _with_reference(truth, classes)
    fscore = library("sed_scores_eval").intersection_based.fscore
    by_clip = defaultdict(list)
    for event in found:
        if event.event_label in scored:
            by_clip[event.filename].append(event)
    scores = {
        clip: _frame(*steps_of_events(by_clip[name], scored, duration=duration), scored)
        for clip, (name, duration) in zip(clip_names(durations), durations.items(), strict=True)
    }
    f1, _, _, counts = fscore(
        scores=scores,
        ground_truth=of_clips,
        threshold=0.5,
        dtc_threshold=INTERSECTION,
        gtc_threshold=INTERSECTION,
    )
    matched, false, wanted = (
        sum(int(counts[label][key]) for label in scored) for key in ("tps", "fps", "n_ref")
    )
    false += sum(event.event_label not in scored for event in found)
    return {
        "macro": 100 * float(f1["macro_average"]),
        "micro": 100 * 2 * matched / (matched + false + wanted),
        "classwise": {
            label: 100 * float(f1[label]) if label in scored else None for label in classes
        },
        "notes": _notes_on_absent(classes, scored, "Intersection-F1"),
    }


def format_psds(result: Mapping[str, Any]) -> str:
    """Whatever of the three was computed, as text lines."""
    lines, notes = [], []
    if "intersection_f1" in result:
        entry = result["intersection_f1"]
        lines.append(
            f"Intersection-F1    macro  {entry['macro']:8.4f}   micro {entry['micro']:.4f}"
        )
        notes += entry["notes"]
    for key, source in (("psds", "score files"), ("psds_operating_points", "operating points")):
        for name, entry in result.get(key, {}).items():
            lines.append(f"{name.upper()}  {entry['value']:.6f}   from {source}")
            notes += entry["notes"]
    return "\n".join([*lines, *(f"note: {note}" for note in dict.fromkeys(notes))])


def library(name: str) -> Any:
    """A library of the extra `psds`; InputError tells how to install it."""
    load_sed_eval()  # which sed_scores_eval imports too, without the care that it needs
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"PSDS and intersection F1 need {name}; install it with pip install 'jfsed_jax[psds]'"
        ) from error


def _same_clips(clips: Sequence[str], durations: Mapping[str, float]) -> None:
    expected = set(clip_names(durations))
    for some, others, what in (
        (expected, set(clips), "has no score file"),
        (set(clips), expected, "has a score file but no duration"),
    ):
        if some - others:
            raise InputError(f"the clip {min(some - others)!r} {what}")


def _check(
    events: Iterable[Event], durations: Mapping[str, float], classes: Sequence[str] | None = None
) -> None:
    for event in events:
        if event.filename not in durations:
            raise InputError(f"the clip {event.filename!r} has events but no duration")
        if classes is not None and event.event_label not in classes:
            raise InputError(f"the label {event.event_label!r} is not one of {' '.join(classes)}")


def _with_reference(reference: Iterable[Event], classes: Iterable[str]) -> list[str]:
    """Those of the classes that have reference events; InputError if none has."""
    labels = {event.event_label for event in reference}
    scored = [label for label in classes if label in labels]
    if not scored:
        raise InputError("no reference events: PSDS and intersection F1 are undefined")
    return scored


def _notes_on_absent(classes: Iterable[str], scored: Sequence[str], what: str) -> list[str]:
    absent = [label for label in classes if label not in scored]
    return [f"{what} is undefined for {', '.join(sorted(absent))} (no reference)"] if absent else []


def _ground_truth(
    events: Sequence[Event], durations: Mapping[str, float], classes: Sequence[str]
) -> dict[str, list[tuple[float, float, str]]]:
    """Per clip its events as sed_scores_eval takes them."""
    _check(events, durations, classes)
    truth: dict[str, list[tuple[float, float, str]]] = {name: [] for name in clip_names(durations)}
    for event in events:
        truth[clip_name(event.filename)].append((event.onset, event.offset, event.event_label))
    return truth


def _table(events: Sequence[Event]) -> Any:
    """psds_eval's table of events; without any its times are numbers all the same."""
    table = library("pandas").DataFrame(list(events), columns=Event._fields)
    return table.astype({"onset": float, "offset": float})


def _frame(edges: Any, scores: Any, classes: Sequence[str]) -> Any:
    """sed_scores_eval's table of one clip."""
    table = library("pandas").DataFrame(scores, columns=list(classes))
    table.insert(0, "onset", edges[:-1])
    table.insert(1, "offset", edges[1:])
    return table
