"""A page about a prepared data set: what is in it, and what is wrong with it.

Axis letters: ``N`` clips, ``C`` event classes, ``T`` frames, ``F`` mel bands.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jfsed_jax.audio.front_end import band_centres
from jfsed_jax.datasets.clips import ClipSet, Prepared
from jfsed_jax.datasets.examples import example_clips
from jfsed_jax.datasets.preparation import SUMMARY_COLUMNS
from jfsed_jax.report.charts import Chart, Key, Series, line_chart
from jfsed_jax.report.clip_pictures import ClipPicture, Lane, clip_keys, clip_picture
from jfsed_jax.report.formatting import label_text, number
from jfsed_jax.report.heat_maps import HeatMap, heat_map
from jfsed_jax.report.listings import Bar, Listing
from jfsed_jax.report.rendering import render_template, save_page
from jfsed_jax.report.spectrograms import Contrast, shared_contrast
from jfsed_jax.sed.events import cut_events

TITLES = {
    "weak": "Weak",
    "unlabel_in_domain": "Unlabelled",
    "synthetic": "Strong",
    "validation": "Validation",
    "eval": "Evaluation",
}
HEADINGS = {
    "splits": "What was found",
    "problems": "Problems",
    "classes": "Classes",
    "together": "What occurs together",
    "durations": "How long events are",
    "audio": "Levels and formats",
    "clips": "A few clips",
}
_STRONG = ("synthetic", "validation", "eval")
_EXAMPLES = 3  # clips shown of each split
_SHOWN = 12  # charts of durations, the others folded away
_LISTED = 300  # lines shown of missing.tsv and problems.tsv
_FULL_SCALE = -0.1  # dBFS; a peak above is most likely clipped


class Problems(NamedTuple):
    """What is wrong: by kind, and line by line as (summary, lines)."""

    kinds: Listing
    lists: list[tuple[str, Listing]]


class ShownClips(NamedTuple):
    """A few clips of each split, in one contrast, and what is drawn."""

    keys: list[Key]
    splits: list[tuple[str, list[ClipPicture]]]


class Charted(NamedTuple):
    """Charts and the table of their numbers."""

    charts: list[Chart]
    listing: Listing


def write_page(prepared: Prepared, path: str | Path | None = None) -> Path:
    """Writes the page, by default ``inspect.html`` beside the features; returns its path."""
    path = Path(path) if path is not None else prepared.directory / "inspect.html"
    return save_page(path, render_inspection(prepared))


def render_inspection(prepared: Prepared) -> str:
    """The page as HTML that needs nothing else."""
    seconds = sum(sum(clips.durations.values()) for clips in prepared.splits.values())
    front_end = prepared.front_end
    parts = {
        "splits": _splits(prepared),
        "problems": _problems(prepared),
        "classes": _classes(prepared),
        "together": _together(prepared),
        "durations": _durations(prepared),
        "audio": _audio(prepared),
        "clips": _clips(prepared),
    }
    left_out = {key for key in ("together", "durations", "audio", "clips") if not parts[key]}
    return render_template(
        "inspection.html",
        title=f"{prepared.data}: data set",
        description="",
        data=prepared.data,
        facts=[
            ("Clips", number(sum(map(len, prepared.splits.values())), 0)),
            ("Hours of audio", number(seconds / 3600, 1)),
            ("Classes", len(prepared.classes)),
            ("Features", f"{front_end.num_frames} × {front_end.n_mels} log-mel"),
        ],
        links=[(key, heading) for key, heading in HEADINGS.items() if key not in left_out],
        headings=HEADINGS,
        conventions=prepared.conventions,
        shown=_SHOWN,
        **parts,
    )


def _splits(prepared: Prepared) -> Listing:
    counts = {
        name: [number(found.get(key, 0), 0) for key in SUMMARY_COLUMNS]
        for name, found in prepared.summary.items()
    }
    return Listing(
        caption="Clips and events of each split",
        columns=["Split", *(title.capitalize() for title in SUMMARY_COLUMNS.values())],
        rows=[[TITLES[name], *cells] for name, cells in counts.items()],
    )


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _problems(prepared: Prepared) -> Problems | None:
    missing = _read(prepared.directory / "missing.tsv")
    problems = _read(prepared.directory / "problems.tsv")
    if not missing and not problems:
        return None
    kinds: Counter[str] = Counter("no audio" for _ in missing)
    lost: Counter[str] = Counter("no audio" for _ in missing)
    for row in problems:
        # What differs from line to line stands in quotes or is a number.
        kind = re.sub(r"'[^']*'|\b\d[\d.]*\b", "…", row["reason"])
        kinds[kind] += 1
        lost[kind] += row["left_out"] == "yes"
    by_kind = Listing(
        caption="By kind, the most frequent first",
        columns=["What", "Lines", "Cost a clip or a label"],
        rows=[
            [kind, Bar(count, max(kinds.values()), 0), lost[kind]]
            for kind, count in kinds.most_common()
        ],
    )
    lists = []
    for rows, name in ((problems, "problems"), (missing, "missing")):
        if rows:
            more = f", the first {_LISTED} of them" if len(rows) > _LISTED else ""
            listing = Listing(
                caption=f"{name}.tsv",
                columns=[column.replace("_", " ").capitalize() for column in rows[0]],
                rows=[list(row.values()) for row in rows[:_LISTED]],
                class_="text",
            )
            lists.append((f"The {len(rows)} lines of {name}.tsv{more}", listing))
    return Problems(by_kind, lists)


def _labelled(prepared: Prepared) -> dict[str, ClipSet]:
    return {
        name: clips
        for name, clips in prepared.splits.items()
        if name != "unlabel_in_domain" and len(clips)
    }


def _tags(clips: ClipSet, classes: Sequence[str]) -> np.ndarray:
    """Which classes each clip holds: <bool>[N, C]."""
    return np.array([[label in clip.labels for label in classes] for clip in clips.clips])


def _classes(prepared: Prepared) -> Listing:
    columns: list[str] = ["Class"]
    counts: list[np.ndarray] = []
    for name, clips in _labelled(prepared).items():
        columns.append(f"{TITLES[name]}: clips")
        counts.append(_tags(clips, prepared.classes).sum(axis=0))
        if name in _STRONG:
            columns.append("events")
            found = Counter(event.event_label for event in clips.reference)
            counts.append(np.array([found[label] for label in prepared.classes]))
    rows = [
        [label_text(label), *(Bar(int(column[i]), int(column.max()), 0) for column in counts)]
        for i, label in enumerate(prepared.classes)
    ]
    footer = [["All", *(number(int(column.sum()), 0) for column in counts)]]
    return Listing("Clips and events of each class", columns, rows, footer)


def _together(prepared: Prepared) -> list[HeatMap]:
    maps = []
    for name, clips in _labelled(prepared).items():
        tags = _tags(clips, prepared.classes).astype(np.float64)
        counts = tags.sum(axis=0).astype(int)
        shares = tags.T @ tags
        np.fill_diagonal(shares, tags[tags.sum(axis=1) == 1].sum(axis=0))
        names = [label_text(label) for label in prepared.classes]
        maps.append(
            heat_map(
                names,
                names,
                shares / np.maximum(counts, 1)[:, None],
                caption=TITLES[name],
                counts=counts.tolist(),
            )
        )
    return maps


def _durations(prepared: Prepared) -> Charted | None:
    by_split = {
        name: {
            label: np.sort([e.offset - e.onset for e in clips.reference if e.event_label == label])
            for label in prepared.classes
        }
        for name, clips in _labelled(prepared).items()
        if name in _STRONG
    }
    charts, rows = [], []
    for label in prepared.classes:
        found = {name: durations[label] for name, durations in by_split.items()}
        if not any(len(durations) for durations in found.values()):
            continue
        rows.append(
            [label_text(label)]
            + [
                number(float(value), 2)
                for durations in found.values()
                for value in (
                    (np.median(durations), durations.mean()) if len(durations) else (np.nan, np.nan)
                )
            ]
        )
        charts.append(
            line_chart(
                label_text(label),
                [
                    _cumulative(TITLES[name], durations)
                    for name, durations in found.items()
                    if len(durations)
                ],
                x_label="duration, seconds",
                y_label="share of events",
                x_range=(0.0, prepared.front_end.clip_seconds),
                y_range=(0.0, 1.0),
                step=True,
            )
        )
    if not charts:
        return None
    columns = ["Class"]
    for name in by_split:
        columns += [f"{TITLES[name]}: median", "mean"]
    return Charted(charts, Listing("Seconds", columns, rows))


def _cumulative(name: str, values: np.ndarray) -> Series:
    """The cumulative distribution of sorted values, at most 200 points of it."""
    picks = np.unique(np.linspace(0, len(values) - 1, 200).astype(int))
    x = np.concatenate([[0.0, values[0]], values[picks]])
    return Series(name, x, np.concatenate([[0.0, 0.0], (picks + 1) / len(values)]))


def _audio(prepared: Prepared) -> Charted | None:
    levels_of: dict[str, list[Series]] = {"RMS of each clip": [], "Peak of each clip": []}
    rows = []
    for name, clips in prepared.splits.items():
        infos = [clip.info for clip in clips.clips]
        rms = np.array([info.rms for info in infos if info.rms is not None])
        peak = np.array([info.peak for info in infos if info.peak is not None])
        if not rms.size:
            continue
        for chart, levels in zip(levels_of.values(), (rms, peak), strict=True):
            chart.append(_histogram(TITLES[name], levels))
        low, high = (number(float(value)) for value in np.quantile(rms, [0.05, 0.95]))
        rows.append(
            [
                TITLES[name],
                number(float(np.median(rms)), 1),
                f"{low} to {high}",
                int((peak > _FULL_SCALE).sum()),
                len(infos) - len(rms),
                _most_common(f"{info.sample_rate} Hz" for info in infos),
                _most_common(info.channels for info in infos),
                _most_common(info.encoding for info in infos),
            ]
        )
    if not rows:
        return None
    return Charted(
        charts=[
            line_chart(title, curves, x_label="level, dBFS", y_label="clips, %")
            for title, curves in levels_of.items()
        ],
        listing=Listing(
            caption=f"Levels in dBFS; a clip counts as clipped if its peak is above {_FULL_SCALE}",
            columns=[
                *("Split", "Median RMS", "5 to 95 %", "Clipped", "Silent"),
                *("Sample rates", "Channels", "Encodings"),
            ],
            rows=rows,
        ),
    )


def _histogram(name: str, levels: np.ndarray) -> Series:
    edges = np.arange(-75.0, 1.0, 3.0)
    counts = np.histogram(np.clip(levels, edges[0], edges[-1]), edges)[0]
    return Series(name, (edges[:-1] + edges[1:]) / 2, 100 * counts / len(levels))


def _most_common(values: Iterable[object]) -> str:
    counts = Counter(str(value) for value in values).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return ", ".join(f"{value} ({count})" for value, count in counts[:4]) + (
        ", …" if len(counts) > 4 else ""
    )


def _clips(prepared: Prepared) -> ShownClips | None:
    """Of each split with clips, a few that hold many classes."""
    chosen = {
        name: example_clips([clip.labels for clip in clips.clips], _EXAMPLES)
        for name, clips in prepared.splits.items()
    }
    contrast = shared_contrast(
        prepared.splits[name][i]["mel"] for name, indices in chosen.items() for i in indices
    )
    if contrast is None:
        return None
    return ShownClips(
        clip_keys(predicted=False, posterior=False, contrast=contrast),
        [
            (TITLES[name], [_clip(prepared, prepared.splits[name], i, contrast) for i in indices])
            for name, indices in chosen.items()
            if indices
        ],
    )


def _clip(prepared: Prepared, clips: ClipSet, index: int, contrast: Contrast) -> ClipPicture:
    clip = clips.clips[index]
    events = [event for event in clips.reference if event.filename == clip.filename]
    if clip.info.clips > 1:
        events = cut_events(events, clip.start, clip.start + prepared.front_end.clip_seconds)
    lanes = [
        Lane(label, [(e.onset, e.offset) for e in events if e.event_label == label])
        for label in prepared.classes
        if any(e.event_label == label for e in events)
    ]
    note = "" if events else ", ".join(map(label_text, clip.labels)) or "no labels"
    begins = f", from {clip.start:g} s" if clip.info.clips > 1 else ""
    return clip_picture(
        clip.filename + begins,
        clips[index]["mel"].astype(np.float32),
        lanes,
        seconds=prepared.front_end.clip_seconds,
        note=note,
        contrast=contrast,
        band_hz=band_centres(prepared.front_end).tolist(),
    )
