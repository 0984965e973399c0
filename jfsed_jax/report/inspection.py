"""A page about a prepared data set: what is in it, and what is wrong with it.

Axis letters: ``N`` clips, ``C`` event classes, ``T`` frames, ``F`` mel bands.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jfsed_jax.datasets.clips import ClipSet, Prepared
from jfsed_jax.datasets.preparation import SUMMARY_COLUMNS
from jfsed_jax.errors import InputError
from jfsed_jax.report import page
from jfsed_jax.report.page import Bar, Html, Lane, Series, element, label_text

TITLES = {
    "weak": "Weak",
    "unlabel_in_domain": "Unlabelled",
    "synthetic": "Strong",
    "validation": "Validation",
    "eval": "Evaluation",
}
_STRONG = ("synthetic", "validation", "eval")
_EXAMPLES = 3  # clips shown of each split
_LISTED = 300  # lines shown of missing.tsv and problems.tsv
_FULL_SCALE = -0.1  # dBFS; a peak above is most likely clipped


def write_page(prepared: Prepared, path: str | Path | None = None) -> Path:
    """Writes the page, by default ``inspect.html`` beside the features; returns its path."""
    path = Path(path) if path is not None else prepared.directory / "inspect.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(render(prepared).encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    return path


def render(prepared: Prepared) -> str:
    """The page as HTML that needs nothing else."""
    sections = [
        ("splits", "What was found", _splits(prepared)),
        ("problems", "Problems", _problems(prepared)),
        ("classes", "Classes", _classes(prepared)),
        ("together", "What occurs together", _together(prepared)),
        ("durations", "How long events are", _durations(prepared)),
        ("audio", "Levels and formats", _audio(prepared)),
        ("clips", "A few clips", _clips(prepared)),
    ]
    shown = [(key, title, body) for key, title, body in sections if body]
    seconds = sum(sum(clips.durations.values()) for clips in prepared.splits.values())
    front_end = prepared.front_end
    header = element(
        "header",
        element("p", "Data set", class_="kicker"),
        element("h1", prepared.data),
        page.facts(
            [
                ("Clips", page.number(sum(map(len, prepared.splits.values())), 0)),
                ("Hours of audio", page.number(seconds / 3600, 1)),
                ("Classes", len(prepared.classes)),
                ("Features", f"{front_end.num_frames} × {front_end.n_mels} log-mel"),
            ]
        ),
        page.navigation([(key, title) for key, title, _ in shown]),
    )
    body = [page.section(key, title, *parts) for key, title, parts in shown]
    return page.page(f"{prepared.data}: data set", header, *body)


def _splits(prepared: Prepared) -> list[object]:
    counts = {
        name: [page.number(found.get(key, 0), 0) for key in SUMMARY_COLUMNS]
        for name, found in prepared.summary.items()
    }
    columns = ["Split", *(title.capitalize() for title in SUMMARY_COLUMNS.values())]
    rows = [[TITLES[name], *cells] for name, cells in counts.items()]
    notes = element("ul", *(element("li", line) for line in prepared.conventions))
    return [
        page.table(columns, rows, caption="Clips and events of each split"),
        notes if prepared.conventions else None,
    ]


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _problems(prepared: Prepared) -> list[object]:
    missing = _read(prepared.directory / "missing.tsv")
    problems = _read(prepared.directory / "problems.tsv")
    if not missing and not problems:
        return [element("p", "None: every clip has audio, and no label is flawed.")]
    kinds: Counter[str] = Counter("no audio" for _ in missing)
    lost: Counter[str] = Counter("no audio" for _ in missing)
    for row in problems:
        # What differs from line to line stands in quotes or is a number.
        kind = re.sub(r"'[^']*'|\b\d[\d.]*\b", "…", row["reason"])
        kinds[kind] += 1
        lost[kind] += row["left_out"] == "yes"
    body: list[object] = [
        page.table(
            ["What", "Lines", "Cost a clip or a label"],
            [
                [kind, Bar(count, max(kinds.values()), 0), lost[kind]]
                for kind, count in kinds.most_common()
            ],
            caption="By kind, the most frequent first",
        )
    ]
    for rows, name in ((problems, "problems"), (missing, "missing")):
        if rows:
            more = f", the first {_LISTED} of them" if len(rows) > _LISTED else ""
            listed = page.table(
                [column.replace("_", " ").capitalize() for column in rows[0]],
                [list(row.values()) for row in rows[:_LISTED]],
                caption=f"{name}.tsv",
            )
            body.append(page.details(f"The {len(rows)} lines of {name}.tsv{more}", listed))
    return body


def _labelled(prepared: Prepared) -> dict[str, ClipSet]:
    return {
        name: clips
        for name, clips in prepared.splits.items()
        if name != "unlabel_in_domain" and len(clips)
    }


def _tags(clips: ClipSet, classes: Sequence[str]) -> np.ndarray:
    """Which classes each clip holds: <bool>[N, C]."""
    return np.array([[label in clip.labels for label in classes] for clip in clips.clips])


def _classes(prepared: Prepared) -> list[object]:
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
    footer = [["All", *(page.number(int(column.sum()), 0) for column in counts)]]
    return [page.table(columns, rows, caption="Clips and events of each class", footer=footer)]


def _together(prepared: Prepared) -> list[object]:
    figures = []
    for name, clips in _labelled(prepared).items():
        tags = _tags(clips, prepared.classes).astype(np.float64)
        counts = tags.sum(axis=0).astype(int)
        shares = tags.T @ tags
        np.fill_diagonal(shares, tags[tags.sum(axis=1) == 1].sum(axis=0))
        names = [label_text(label) for label in prepared.classes]
        figures.append(
            page.matrix(
                names,
                names,
                shares / np.maximum(counts, 1)[:, None],
                caption=TITLES[name],
                counts=counts.tolist(),
            )
        )
    if not figures:
        return []
    lede = (
        "Of the clips that hold the class of a row, the percentage that also hold that of the "
        "column; on the diagonal, that hold no other."
    )
    return [element("p", lede, class_="lede"), *figures]


def _durations(prepared: Prepared) -> list[object]:
    by_split = {
        name: {
            label: np.sort([e.offset - e.onset for e in clips.reference if e.event_label == label])
            for label in prepared.classes
        }
        for name, clips in _labelled(prepared).items()
        if name in _STRONG
    }
    figures, rows = [], []
    for label in prepared.classes:
        found = {name: durations[label] for name, durations in by_split.items()}
        if not any(len(durations) for durations in found.values()):
            continue
        rows.append(
            [label_text(label)]
            + [
                page.number(float(value), 2)
                for durations in found.values()
                for value in (
                    (np.median(durations), durations.mean()) if len(durations) else (np.nan, np.nan)
                )
            ]
        )
        figures.append(
            page.line_chart(
                label_text(label),
                [
                    _cumulative(TITLES[name], durations)
                    for name, durations in found.items()
                    if len(durations)
                ],
                x_label="seconds",
                x_range=(0.0, prepared.front_end.clip_seconds),
                y_range=(0.0, 1.0),
                step=True,
            )
        )
    if not figures:
        return []
    columns = ["Class"]
    for name in by_split:
        columns += [f"{TITLES[name]}: median", "mean"]
    lede = "The share of a class's events that are no longer than so many seconds."
    return [
        element("p", lede, class_="lede"),
        page.folded_grid(figures, shown=12, noun="classes"),
        page.table(columns, rows, caption="Seconds"),
    ]


def _cumulative(name: str, values: np.ndarray) -> Series:
    """The cumulative distribution of sorted values, at most 200 points of it."""
    picks = np.unique(np.linspace(0, len(values) - 1, 200).astype(int))
    x = np.concatenate([[0.0, values[0]], values[picks]])
    return Series(name, x, np.concatenate([[0.0, 0.0], (picks + 1) / len(values)]))


def _audio(prepared: Prepared) -> list[object]:
    charts: dict[str, list[Series]] = {"RMS of each clip": [], "Peak of each clip": []}
    rows = []
    for name, clips in prepared.splits.items():
        infos = [clip.info for clip in clips.clips]
        rms = np.array([info.rms for info in infos if info.rms is not None])
        peak = np.array([info.peak for info in infos if info.peak is not None])
        if not rms.size:
            continue
        for chart, levels in zip(charts.values(), (rms, peak), strict=True):
            chart.append(_histogram(TITLES[name], levels))
        low, high = (page.number(float(value)) for value in np.quantile(rms, [0.05, 0.95]))
        rows.append(
            [
                TITLES[name],
                page.number(float(np.median(rms)), 1),
                f"{low} to {high}",
                int((peak > _FULL_SCALE).sum()),
                len(infos) - len(rms),
                _most_common(f"{info.sample_rate} Hz" for info in infos),
                _most_common(info.channels for info in infos),
                _most_common(info.encoding for info in infos),
            ]
        )
    if not rows:
        return []
    lede = "Percent of the clips in each 3 dB, of the mono signal; full scale is 0 dBFS."
    columns = ["Split", "Median RMS", "5 to 95 %", "Clipped", "Silent"]
    return [
        element("p", lede, class_="lede"),
        page.grid(page.line_chart(title, s, x_label="dBFS") for title, s in charts.items()),
        page.table(
            [*columns, "Sample rates", "Channels", "Encodings"],
            rows,
            caption=f"Levels in dBFS; a clip counts as clipped if its peak is above {_FULL_SCALE}",
        ),
    ]


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


def _clips(prepared: Prepared) -> list[object]:
    body: list[object] = []
    for name, clips in prepared.splits.items():
        figures = [_clip(prepared, clips, index) for index in _examples(clips)]
        if figures:
            body += [element("h3", TITLES[name]), *figures]
    return [page.clip_legend(predicted=False, posterior=False), *body] if body else []


def _examples(clips: ClipSet) -> list[int]:
    """A few clips that hold as many classes as possible, the first of them where none has any."""
    chosen: list[int] = []
    seen: set[str] = set()
    while len(chosen) < min(_EXAMPLES, len(clips)):
        rest = [i for i in range(len(clips)) if i not in chosen]
        best = max(rest, key=lambda i: (len(set(clips.clips[i].labels) - seen), -i))
        chosen.append(best)
        seen |= set(clips.clips[best].labels)
    return chosen


def _clip(prepared: Prepared, clips: ClipSet, index: int) -> Html:
    clip = clips.clips[index]
    events = [event for event in clips.reference if event.filename == clip.filename]
    lanes = [
        Lane(label, [(e.onset, e.offset) for e in events if e.event_label == label])
        for label in prepared.classes
        if any(e.event_label == label for e in events)
    ]
    note = None if events else ", ".join(map(label_text, clip.labels)) or "no labels"
    return page.clip_figure(
        clip.filename,
        clips[index]["mel"].astype(np.float32),
        lanes,
        seconds=prepared.front_end.clip_seconds,
        note=note,
    )
