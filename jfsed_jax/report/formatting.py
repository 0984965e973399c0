"""Names and numbers as a page shows them."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator


def label_text(label: str) -> str:
    """A class label as it is shown: ``Alarm_bell_ringing`` reads ``Alarm bell ringing``."""
    return label.replace("_", " ").strip() or label


def number(value: float | None, digits: int = 1) -> str:
    """A number for reading: a true minus sign, no-break thin thousands, an en dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.{digits}f}".replace(",", "\u202f").replace("-", "−")


def significant(value: float) -> str:
    """A number of any size in about three figures, as axes and end points show it."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    if 1e-3 <= abs(value) < 1e5:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{digits}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return text.replace(",", "\u202f").replace("-", "−")
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "−")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round positions from `low` to `high`, both ends kept inside."""
    values = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    slack = 1e-9 * max(abs(low), abs(high), 1e-300)
    return [float(v) for v in values if low - slack <= v <= high + slack]


def tick_labels(values: Sequence[float]) -> tuple[list[str], str]:
    """Labels with equal decimals, and the power of ten they share ("" where that is 1)."""
    largest = max((abs(v) for v in values), default=0.0)
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    power = power if power < -2 or power > 5 else 0
    scaled = [v / 10.0**power for v in values]
    decimals = next((d for d in range(5) if all(abs(v - round(v, d)) < 1e-6 for v in scaled)), 5)
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return [number(v, decimals) for v in scaled], f"×10{raised}" if power else ""


def dotted(page: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A config's dotted keys and their values as JSON."""
    rows: list[tuple[str, str]] = []
    for key, value in page.items():
        if isinstance(value, dict) and value:
            rows += dotted(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", json.dumps(value, ensure_ascii=False)))
    return rows
