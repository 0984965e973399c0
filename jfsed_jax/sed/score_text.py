"""Scores and how sure they are, as text tables for a terminal."""

from collections.abc import Mapping
from typing import Any

from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.scoring import Scores
from jfsed_jax.sed.uncertainty import Difference


def format_scores(
    scores: Scores, intervals: Mapping[str, tuple[float, float] | None] | None = None
) -> str:
    """Scores as a text table: averages with their intervals, then one line per class."""
    lines = []
    for name in (name for name in TITLES if name in scores):
        entry = scores[name]
        for average in ("macro", "micro"):
            line = f"{TITLES[name].text:18} {average}  {_text(entry[average], 8, 4)}"
            line += f"   precision {_text(entry['precision'][average], 6, 2)}"
            line += f"   recall {_text(entry['recall'][average], 6, 2)}"
            if "error_rate" in entry:
                line += f"   error rate {_text(entry['error_rate'][average], 5, 3)}"
            interval = (intervals or {}).get(f"{name}/{average}")
            if interval:
                low, high = interval
                line += f"   95 % interval {low:.2f} to {high:.2f}"
            lines.append(line)
    event, segment = scores["event_f1"], scores["segment_f1"]
    width = max(map(len, event["classwise"]))
    lines += ["", f"{'':{width}}  {'-- events (200 ms) ' + '-' * 31}  -- 1 s segments --     AT"]
    lines += [
        f"{'class':{width}}      F1   prec    rec    err    ref    est      F1   prec    rec     F1"
    ]
    for label in event["classwise"]:
        cells = [_text(event[key]["classwise"][label], 6, 2) for key in ("precision", "recall")]
        cells = [_text(event["classwise"][label], 6, 2), *cells]
        cells += [_text(event["error_rate"]["classwise"][label], 6, 2)]
        cells += [f"{event['counts'][label][key]:6d}" for key in ("reference", "estimated")]
        cells += [" " + _text(segment["classwise"][label], 6, 2)]
        cells += [_text(segment[key]["classwise"][label], 6, 2) for key in ("precision", "recall")]
        cells += [_text(scores["at_f1_events"]["classwise"][label], 6, 2)]
        lines.append(f"{label:{width}}  " + " ".join(cells))
    notes = [note for entry in scores.values() for note in entry["notes"]]
    return "\n".join(lines + ([""] + [f"note: {note}" for note in notes] if notes else []))


def format_seeds(summary: Mapping[str, Any]) -> str:
    """`evaluation.summarise_seeds` as a text table, macro means only."""
    lines = []
    for name in (name for name in TITLES if name in summary):
        entry = summary[name]["macro"]
        values = ", ".join(_text(value, 0, 2) for value in entry["values"])
        line = f"{TITLES[name].text:18} macro  mean {_text(entry['mean'], 6, 2)}"
        lines.append(f"{line}   deviation {_text(entry['std'], 5, 2)}   of {values}")
    return "\n".join(lines)


def format_differences(differences: Mapping[str, Difference | None]) -> str:
    """Macro and micro differences of two systems, by key, as a text table."""
    lines = []
    for key, found in differences.items():
        name, average, *label = key.split("/")
        if label:
            continue
        line = f"{TITLES[name].text:18} {average}"
        if found is None or found.difference is None:
            line += "  undefined"
        else:
            line += f"  {found.difference:+8.4f}"
        if found is not None and found.interval and found.share_better is not None:
            low, high = found.interval
            line += f"   95 % interval {low:+.2f} to {high:+.2f}"
            line += f", ahead in {100 * found.share_better:.1f} % of resamples: "
            line += "not told from noise" if low <= 0 <= high else "told from noise"
        lines.append(line)
    return "\n".join(lines)


def _text(value: float | None, width: int, decimals: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{decimals}f}"
