"""Scores over all thresholds as entries of a JSON file and as text for a terminal."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jfsed_jax.sed.score_text import cell_text, difference_text
from jfsed_jax.sed.threshold_free import TITLES, FreeScore
from jfsed_jax.sed.uncertainty import (
    Difference,
    Interval,
    Sampled,
    confidence_interval,
    difference,
)

Free = Mapping[str, FreeScore]


def free_entries(scores: Free) -> dict[str, dict[str, Any]]:
    """For each score its `value`, `interval`, the same `classwise`, and `thresholds` if it has any.

    None where undefined, and intervals without resamples.
    """
    return {
        name: {
            "value": known(score.overall),
            "interval": interval_of(score.overall),
            "classwise": {label: known(of) for label, of in score.classwise.items()},
            "classwise_intervals": {
                label: interval_of(of) for label, of in score.classwise.items()
            },
            **({} if score.thresholds is None else {"thresholds": score.thresholds}),
        }
        for name, score in scores.items()
    }


def free_differences(first: Free, other: Free) -> dict[str, Difference]:
    """How much better the other system is, of the same draws, by the scores that both have."""
    return {
        name: difference(score.overall, other[name].overall)
        for name, score in first.items()
        if name in other
    }


def format_free(scores: Free) -> str:
    """A line per score with its interval, then a line per class."""
    lines = []
    for name, score in scores.items():
        digits = _digits(name)
        line = f"{TITLES[name].text:22}{cell_text(known(score.overall), 10, digits)}"
        interval = interval_of(score.overall)
        if interval:
            line += "   95 % interval " + " to ".join(
                f"{end:.{min(digits, 4)}f}" for end in interval
            )
        lines.append(line)
    labels = next(iter(scores.values())).classwise
    width = max(map(len, ("class", *labels)))
    columns = [TITLES[name].short for name in scores]
    lines += ["", "  ".join([f"{'class':{width}}", *(f"{column:>9}" for column in columns)])]
    for label in labels:
        cells = [
            cell_text(known(score.classwise[label]), max(9, len(column)), min(_digits(name), 4))
            for (name, score), column in zip(scores.items(), columns, strict=True)
        ]
        lines.append("  ".join([f"{label:{width}}", *cells]))
    return "\n".join(lines + [f"note: {note}" for note in free_notes(scores)])


def free_notes(scores: Free) -> list[str]:
    """What is undefined of which classes."""
    absent: dict[tuple[str, ...], list[str]] = {}
    for name, score in scores.items():
        labels = tuple(label for label, of in score.classwise.items() if of is None)
        if labels:
            absent.setdefault(labels, []).append(TITLES[name].text)
    return [
        f"undefined for {', '.join(labels)} (no reference): {', '.join(names)}"
        for labels, names in absent.items()
    ]


def format_free_differences(differences: Mapping[str, Difference]) -> str:
    """A line per score: the difference, its interval, and whether that is told from noise."""
    return "\n".join(
        f"{TITLES[name].text:20}{difference_text(found, 10, _digits(name), min(_digits(name), 4))}"
        for name, found in differences.items()
    )


def known(score: Sampled | None) -> float | None:
    """The value of a score; None where it is undefined."""
    return None if score is None or np.isnan(score.value) else score.value


def interval_of(score: Sampled | None) -> Interval | None:
    """The 95 % interval of a score; None where undefined, and without resamples."""
    return None if score is None else confidence_interval(score)


def _digits(name: str) -> int:
    """Of a share, or of percent."""
    return 4 if name.endswith("_f1") else 6
