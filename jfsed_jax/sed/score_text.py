"""Scores and how sure they are, as text tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.scoring import Scores
from jfsed_jax.sed.uncertainty import Difference


def format_scores(
    scores: Scores, intervals: Mapping[str, Sequence[float] | None] | None = None
) -> str:
    """Scores as a text table: averages with their intervals, then one line per class."""
    lines = []
    for name in (name for name in TITLES if name in scores):
        entry = scores[name]
        for average in ("macro", "micro"):
            line = f"{TITLES[name].text:18} {average}  {cell_text(entry[average], 8, 4)}"
            line += f"   precision {cell_text(entry['precision'][average], 6, 2)}"
            line += f"   recall {cell_text(entry['recall'][average], 6, 2)}"
            if "error_rate" in entry:
                line += f"   error rate {cell_text(entry['error_rate'][average], 5, 3)}"
            lines.append(line + _interval_text(intervals, f"{name}/{average}"))
    event, segment = scores["event_f1"], scores["segment_f1"]
    width = max(map(len, event["classwise"]))
    lines += ["", f"{'':{width}}  {'-- events (200 ms) ' + '-' * 31}  -- 1 s segments --     AT"]
    lines += [
        f"{'class':{width}}      F1   prec    rec    err    ref    est      F1   prec    rec     F1"
    ]
    for label in event["classwise"]:
        cells = [cell_text(event[key]["classwise"][label], 6, 2) for key in ("precision", "recall")]
        cells = [cell_text(event["classwise"][label], 6, 2), *cells]
        cells += [cell_text(event["error_rate"]["classwise"][label], 6, 2)]
        cells += [f"{event['counts'][label][key]:6d}" for key in ("reference", "estimated")]
        cells += [" " + cell_text(segment["classwise"][label], 6, 2)]
        cells += [
            cell_text(segment[key]["classwise"][label], 6, 2) for key in ("precision", "recall")
        ]
        cells += [cell_text(scores["at_f1_events"]["classwise"][label], 6, 2)]
        lines.append(f"{label:{width}}  " + " ".join(cells))
    notes = [note for name in TITLES if name in scores for note in scores[name]["notes"]]
    return "\n".join(lines + ([""] + [f"note: {note}" for note in notes] if notes else []))


def format_seeds(summary: Mapping[str, Any]) -> str:
    """`evaluation.summarise_seeds` as a text table, macro means only."""
    lines = []
    for name in (name for name in TITLES if name in summary):
        entry = summary[name]["macro"]
        values = ", ".join(cell_text(value, 0, 2) for value in entry["values"])
        line = f"{TITLES[name].text:18} macro  mean {cell_text(entry['mean'], 6, 2)}"
        line += f"   deviation {cell_text(entry['std'], 5, 2)}   of {values}"
        lines.append(line + _interval_text(summary.get("intervals"), f"{name}/macro"))
    return "\n".join(lines)


def format_differences(differences: Mapping[str, Difference | None]) -> str:
    """Macro and micro differences of two systems, by key, as a text table."""
    lines = []
    for key, found in differences.items():
        name, average, *label = key.split("/")
        if label:
            continue
        lines.append(f"{TITLES[name].text:18} {average}{difference_text(found, 8, 4, 2)}")
    return "\n".join(lines)


def _interval_text(intervals: Mapping[str, Sequence[float] | None] | None, key: str) -> str:
    """As the end of a line; empty without one."""
    low_high = (intervals or {}).get(key)
    return f"   95 % interval {low_high[0]:.2f} to {low_high[1]:.2f}" if low_high else ""


def difference_text(
    found: Difference | None, width: int, decimals: int, interval_decimals: int
) -> str:
    """A difference, its interval, and whether that is told from noise, as the end of a line."""
    if found is None or found.difference is None:
        text = "  undefined"
    else:
        text = f"  {found.difference:+{width}.{decimals}f}"
    if found is not None and found.interval:
        low, high = found.interval
        text += f"   95 % interval {low:+.{interval_decimals}f} to {high:+.{interval_decimals}f}"
        if found.share_better is not None:
            text += f", ahead in {100 * found.share_better:.1f} % of resamples"
        text += ": not told from noise" if low <= 0 <= high else ": told from noise"
    elif found is not None and found.difference is not None:
        text += "   no interval"
    return text


def cell_text(value: float | None, width: int, decimals: int) -> str:
    """A number of a table; a dash where it is undefined."""
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{decimals}f}"
