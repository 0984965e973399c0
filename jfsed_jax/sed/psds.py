"""PSDS of operating points, through psds_eval (extra `psds`).

It computes PSDS from lists of events, one per threshold, as the DCASE baselines do;
`threshold_free` has PSDS from posteriors. PSDS are shares from 0 to 1, as they are published.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event, merge_overlaps
from jfsed_jax.sed.psds_libraries import check_events, library, with_reference
from jfsed_jax.sed.threshold_steps import Scenario

# The two scenarios of DCASE 2021 task 4: react fast, and do not confuse classes.
SCENARIOS = {
    "psds1": Scenario(dtc=0.7, gtc=0.7),
    "psds2": Scenario(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5),
}


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


def format_psds(result: Mapping[str, Any]) -> str:
    """PSDS of operating points as text lines."""
    lines = [
        f"{name.upper()}  {entry['value']:.6f}   from operating points"
        for name, entry in result.items()
    ]
    notes = [note for entry in result.values() for note in entry["notes"]]
    return "\n".join([*lines, *(f"note: {note}" for note in dict.fromkeys(notes))])


def _notes_on_absent(classes: Iterable[str], scored: Sequence[str], what: str) -> list[str]:
    absent = [label for label in classes if label not in scored]
    return [f"{what} is undefined for {', '.join(sorted(absent))} (no reference)"] if absent else []


def _table(events: Sequence[Event]) -> Any:
    """psds_eval's table of events; without any its times are numbers all the same."""
    table = library("pandas").DataFrame(list(events), columns=Event._fields)
    return table.astype({"onset": float, "offset": float})
