"""What the libraries of the extra `psds` define: intersection F1, and PSDS of operating points.

psds_eval computes PSDS from lists of events, one per threshold, as the DCASE baselines do;
`threshold_free` has PSDS from posteriors. PSDS are shares from 0 to 1, as they are published; F1 is
in percent.

Axis letters: `B` clips, `C` event classes.
"""

import importlib
import os
import shutil
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event, merge_overlaps
from jfsed_jax.sed.score_files import clip_name, clip_names, steps_of_events
from jfsed_jax.sed.scoring import entry_of_counts, load_sed_eval
from jfsed_jax.sed.threshold_steps import Scenario, counts_above, steps_of

# The two scenarios of DCASE 2021 task 4: react fast, and do not confuse classes.
SCENARIOS = {
    "psds1": Scenario(dtc=0.7, gtc=0.7),
    "psds2": Scenario(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5),
}
INTERSECTION = 0.5  # both criteria of intersection F1


def psds_of_operating_points(
    points: Sequence[Iterable[Event]], reference: Iterable[Event], durations: Mapping[str, float]
) -> dict[str, Any]:
    """PSDS 1 and 2 of lists of events, one per threshold.

    Events of one class that overlap or touch are joined, in reference and lists: psds_eval refuses
    overlaps, and DESED corrected those of DCASE 2019's validation labels in the same way.

    Returns:
      For "psds1" and "psds2" their "value", 0 to 1, and "notes". A class without reference events
      is not in it.

    Raises:
      InputError: an event in a clip without a duration; reference events of fewer than two classes.
    """
    truth = merge_overlaps(reference)
    # A list that repeats another adds nothing.
    lists = list(dict.fromkeys(tuple(merge_overlaps(events)) for events in points))
    for events in (truth, *lists):
        check_events(events, durations)
    said = {event.event_label for events in lists for event in events}
    classes = with_reference(truth, sorted({event.event_label for event in truth}))
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
            scenario.dtc,
            scenario.gtc,
            scenario.cttc,
            ground_truth=_table(truth),
            metadata=clips,
        )
        for events in lists:
            psds.add_operating_point(_table(events))
        with warnings.catch_warnings():
            # Once per class and curve, from inside psds_eval 0.5.3, of what pandas 3 no longer has;
            # the extra psds holds pandas below 3.
            warnings.filterwarnings("ignore", "DataFrame.fillna with 'method'", FutureWarning)
            value = psds.psds(scenario.alpha_ct, scenario.alpha_st, scenario.max_efpr).value
        result[name] = {"value": float(value), "notes": _notes_on_absent(said, classes, "PSDS")}
    return result


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


def format_psds(result: Mapping[str, Any]) -> str:
    """PSDS of operating points as text lines."""
    lines = [
        f"{name.upper()}  {entry['value']:.6f}   from operating points"
        for name, entry in result.items()
    ]
    notes = [note for entry in result.values() for note in entry["notes"]]
    return "\n".join([*lines, *(f"note: {note}" for note in dict.fromkeys(notes))])


def library(name: str) -> Any:
    """A library of the extra `psds`; InputError tells how to install it."""
    load_sed_eval()  # which sed_scores_eval imports too, without the care that it needs
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes in docstrings, once compiled
            return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        compiler = (os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++").split()[0]
        first = ""
        if package == "sed_scores_eval" and not shutil.which(compiler):
            first = (
                f" (which compiles it, and there is no {compiler}: install a C++ compiler first)"
            )
        raise InputError(
            f"PSDS and intersection F1 need {package}; install it with "
            f"pip install 'jfsed_jax[psds]'{first}"
        ) from error


def check_events(
    events: Iterable[Event], durations: Mapping[str, float], classes: Sequence[str] | None = None
) -> None:
    """Raises InputError for an event of a clip without a duration, or of no class."""
    for event in events:
        if event.filename not in durations:
            raise InputError(f"the clip {event.filename!r} has events but no duration")
        if classes is not None and event.event_label not in classes:
            raise InputError(f"the label {event.event_label!r} is not one of {' '.join(classes)}")


def with_reference(reference: Iterable[Event], classes: Iterable[str]) -> list[str]:
    """Those of the classes that have reference events; InputError if none has."""
    labels = {event.event_label for event in reference}
    scored = [label for label in classes if label in labels]
    if not scored:
        raise InputError("no reference events: PSDS and intersection F1 are undefined")
    return scored


def frame(edges: np.ndarray, scores: np.ndarray) -> Any:
    """sed_scores_eval's table of one clip: edges <float>[T + 1], scores <float>[T, C].

    Its classes are named by their places, since it cannot take every label.
    """
    return library("pandas").DataFrame(
        np.column_stack([edges[:-1], edges[1:], scores]),
        columns=["onset", "offset", *map(str, range(scores.shape[1]))],
    )


def _notes_on_absent(classes: Iterable[str], scored: Sequence[str], what: str) -> list[str]:
    absent = [label for label in classes if label not in scored]
    return [f"{what} is undefined for {', '.join(sorted(absent))} (no reference)"] if absent else []


def _table(events: Sequence[Event]) -> Any:
    """psds_eval's table of events; without any its times are numbers all the same."""
    table = library("pandas").DataFrame(list(events), columns=Event._fields)
    return table.astype({"onset": float, "offset": float})
