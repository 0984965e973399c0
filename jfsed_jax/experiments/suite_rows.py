"""What the parts of `suite` found, as the rows of one table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jfsed_jax.experiments.benchmark_data import FULL_SET, full_epoch
from jfsed_jax.experiments.lone_process import Attempt

SCAN, EAGER, COMPILED = "scan", "PyTorch eager", "torch.compile"

_WORTH = 0.97  # of the scan's time: a kernel that takes less is chosen
_WIDEST_NOTE = 200  # letters of the text; JSON has it all
_SAME = 0.05  # how far from the scan's its posteriors may be; in bfloat16 they round differently


class Goal(NamedTuple):
    """A figure to reach: at the paper's size, 64 clips in bfloat16, on a GPU."""

    value: float
    at_most: bool


STEP_GOAL = Goal(0.012, at_most=True)
RATIO_GOALS = {EAGER: Goal(2.0, at_most=False), COMPILED: Goal(1.3, at_most=False)}
SEEDS_GOAL = Goal(2.5, at_most=True)


class SuiteRow(NamedTuple):
    """A line of the table.

    Attributes:
      name: of what was measured.
      value: in `unit`; None where there is none, as `note` says.
      unit: ``s``, ``h``, ``bytes``, ``times``, ``FLOP/s``, ``B/s``, ``J``.
      note: with what it was measured, or why it was not.
      goal: the figure beside it.
    """

    name: str
    value: float | None = None
    unit: str = "s"
    note: str = ""
    goal: Goal | None = None


def seconds_of_step(side: Attempt | None) -> float | None:
    """Of a part that measures one side, None where it failed."""
    return side.value["train step"] if side is not None and side.error is None else None


def largest_difference(side: Attempt, other: Attempt | None) -> float | None:
    """Between the posteriors of two sides from the same weights, where both are there."""
    if other is None or side.error is not None or other.error is not None:
        return None
    pairs = zip(side.value["posteriors"], other.value["posteriors"], strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def chosen_loop(sides: Mapping[str, Attempt]) -> tuple[str, str]:
    """Which ``config.gru_loop`` the figures choose as the default, and why, in words.

    A kernel is taken if it is measurably faster than the scan and says the same.

    Args:
      sides: by the name of the loop what `suite_parts.measure_ours` found; others are left out.
    """
    scan = seconds_of_step(sides.get(SCAN))
    best, taken, reasons = SCAN, scan, []
    for name, side in sides.items():
        if name in (SCAN, EAGER, COMPILED):
            continue
        seconds = seconds_of_step(side)
        far = largest_difference(side, sides.get(SCAN))
        if seconds is None:
            reasons.append(f"{name} has no figure")
        elif far is not None and far > _SAME:
            reasons.append(f"{name}'s posteriors are {far:.2g} from the scan's")
        else:
            if scan is not None:
                reasons.append(f"{name} takes {seconds / scan:.2f} of the scan's time")
            if taken is None or seconds < (_WORTH * taken if best == SCAN else taken):
                best, taken = name, seconds
    if taken is None:
        return SCAN, "no loop of the recurrence has a figure: scan stays the default"
    if scan is None:
        reasons.append("scan has no figure")
    how = "stays" if best == SCAN else "is to be"
    return best, f"{best} {how} the default: {', '.join(reasons)}"


def side_rows(sides: Mapping[str, Attempt], loop: str, clip_seconds: float) -> list[SuiteRow]:
    """Train steps, ratios, inference, the recurrence alone and memory, of every side.

    Args:
      sides: see `chosen_loop`, with PyTorch's.
      loop: the one that PyTorch is held against.
      clip_seconds: of a batch.
    """
    rows = [_step_row(name, side, sides.get(SCAN)) for name, side in sides.items()]
    own = seconds_of_step(sides.get(loop))
    for name, goal in RATIO_GOALS.items():
        theirs = seconds_of_step(sides.get(name))
        if own is not None and theirs is not None:
            rows.append(SuiteRow(f"{name} / {loop}", theirs / own, "times", "train step", goal))
    found = {name: side.value for name, side in sides.items() if side.error is None}
    for name, side in found.items():
        times = f"{clip_seconds / side['inference']:,.0f} times real time"
        rows.append(SuiteRow(f"student's inference, {name}", side["inference"], note=times))
    for name, side in found.items():
        if "recurrence" in side:
            note = "forward and backward"
            rows.append(SuiteRow(f"student's BGRUs, {name}", side["recurrence"], note=note))
    for name, side in found.items():
        where = "two steps with compilation"
        rows.append(SuiteRow(f"peak memory, {name}", side["peak_memory"], "bytes", where))
    return rows


def _step_row(name: str, side: Attempt, scan: Attempt | None) -> SuiteRow:
    title = f"train step, {name}"
    if side.error is not None:
        return SuiteRow(title, note=side.error)
    note = f"compiled in {side.value['compile_seconds']:.1f} s"
    difference = largest_difference(side, scan)
    if difference is not None and side is not scan:
        note += f"; posteriors {difference:.1e} from the scan's"
    goal = None if name in RATIO_GOALS else STEP_GOAL
    return SuiteRow(title, side.value["train step"], note=note, goal=goal)


def seeds_row(found: Attempt, seeds: int) -> SuiteRow:
    """Several models as one program against one."""
    name = f"{seeds} seeds in one program / one"
    if found.error is not None:
        return SuiteRow(name, unit="times", note=found.error)
    several, one = found.value["several"], found.value["one"]
    note = f"{1e3 * several:.1f} ms a step, compiled in {found.value['compile_seconds']:.1f} s"
    return SuiteRow(name, several / one, "times", note, SEEDS_GOAL)


def training_rows(found: Attempt, config) -> list[SuiteRow]:
    """A step of many, and what it makes of a whole training on the paper's data."""
    epoch = full_epoch(config)
    name = f"{config.epochs} epochs of the full set"
    if found.error is not None:
        return [SuiteRow(name, unit="h", note=found.error)]
    steps, step = found.value["steps"], found.value["seconds"] / found.value["steps"]
    clips = " + ".join(f"{count:,} {kind}" for kind, count in FULL_SET.items())
    assumed = (
        f"extrapolated: {config.epochs} x {epoch} steps ({clips} clips, batches of "
        f"{sum(config.batch.values())}); no evaluation, no checkpoint, no reading from disk"
    )
    note = f"of {steps}, none waited for, each batch from the host"
    hours = config.epochs * epoch * step / 3600
    joules = found.value["joules"]
    energy = SuiteRow("energy of a step", note="neither RAPL nor NVML can be read")
    if joules is not None:
        energy = SuiteRow("energy of a step", joules / steps, "J", "of all the machine's counters")
    return [
        SuiteRow("a step of many", step, note=note),
        SuiteRow(name, hours, "h", assumed),
        energy,
    ]


def resume_rows(saved: Attempt, resumed: Attempt, steps: int) -> list[SuiteRow]:
    """Whether a resumed run repeats the uninterrupted one, and what that costs.

    Args:
      saved, resumed: of `suite_parts.train_and_save` and `resume`.
      steps: before and after the state is saved.
    """
    name = "resumed by another process"
    if saved.error is not None:
        return [SuiteRow(name, note=saved.error)]
    if resumed.error is not None:
        rows = [SuiteRow(name, note=resumed.error)]
    else:
        same = "the same bits" if saved.value["digest"] == resumed.value["digest"] else "OTHER BITS"
        rows = [SuiteRow(name, note=f"{same} after {steps} + {steps} deterministic steps")]
    again = "repeat" if saved.value["default_repeats"] else "do not repeat"
    note = f"train step; the default ones {again} themselves, {steps} steps twice in one process"
    cost = saved.value["deterministic"] / saved.value["default"]
    return [*rows, SuiteRow("deterministic kernels / default", cost, "times", note)]


def feature_rows(found: Attempt, clip_seconds: float) -> list[SuiteRow]:
    """The log-mel of a batch on the device."""
    if found.error is not None:
        return [SuiteRow("log-mel", note=found.error)]
    return [
        SuiteRow(f"log-mel, {name}", seconds, note=f"{clip_seconds / seconds:,.0f} times real time")
        for name, seconds in found.value.items()
    ]


def ceiling_rows(found: Attempt, step: float | None) -> list[SuiteRow]:
    """What one device does at most, and the roofline of that.

    Args:
      found: of `suite_parts.measure_ceiling`.
      step: seconds of a train step, to be held against it.
    """
    name = "train step by the roofline"
    if found.error is not None:
        return [SuiteRow(name, note=found.error)]
    (kind, least), *_ = found.value["step_seconds"].items()
    card, dtype = found.value["card"], found.value["dtype"]
    note = f"computed: at least, on one device, of the three above; turns of {kind}"
    if step is not None:
        note += f"; measured is {step / least:.2f} times that"
    return [
        SuiteRow("one matrix product", card["flops"][dtype], "FLOP/s", dtype),
        SuiteRow("one pass over memory", card["bandwidth"], "B/s", "read and write"),
        SuiteRow("a turn of an empty scan", card["turns"][kind]),
        SuiteRow(name, least, note=note),
    ]


def format_row(row: SuiteRow) -> list[str]:
    """Name, value, goal, note."""
    goal = ""
    if row.goal is not None:
        bound = "at most" if row.goal.at_most else "at least"
        goal = f"{bound} {_value(row.goal.value, row.unit)}"
    value = "" if row.value is None else _value(row.value, row.unit)
    note = row.note if len(row.note) <= _WIDEST_NOTE else f"{row.note[: _WIDEST_NOTE - 3]}..."
    return [row.name, value, goal, note]


def _value(value: float, unit: str) -> str:
    if unit == "times":
        return f"{value:.2f}"
    if unit == "bytes":
        return f"{value / 2**20:,.0f} MiB"
    scale, prefix = 1.0, ""
    if unit in ("FLOP/s", "B/s"):
        scale, prefix = (1e12, "T") if value >= 1e12 else (1e9, "G")
    elif unit == "s" and value < 1:
        scale, prefix = (1e-3, "m") if value >= 1e-4 else (1e-6, "u")
    digits = max(2 - int(math.log10(max(value / scale, 1))), 0)
    return f"{value / scale:,.{digits}f} {prefix}{unit}"


def format_rows(rows: Sequence[SuiteRow]) -> str:
    """The table."""
    table = [["", "measured", "to reach", ""], *map(format_row, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(3)]
    lines = []
    for name, value, goal, note in table:
        cells = [name.ljust(widths[0]), value.rjust(widths[1]), goal.ljust(widths[2]), note]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def row_of(entry: Mapping[str, Any]) -> SuiteRow:
    """A row from what JSON has of it."""
    goal = entry["goal"]
    return SuiteRow(**{**entry, "goal": None if goal is None else Goal(**goal)})
