"""The page of `score`: scores with their intervals, curves over all thresholds, classes.

Axis letters: ``N`` points of a curve.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jfsed_jax.report.charts import Chart, Series, line_chart
from jfsed_jax.report.formatting import label_text, number
from jfsed_jax.report.listings import Listing, Noted
from jfsed_jax.report.rendering import render_template
from jfsed_jax.sed.score_titles import TITLES, ScoreTitle
from jfsed_jax.sed.threshold_free import TITLES as _FREE
from jfsed_jax.sed.threshold_free import FreeScore
from jfsed_jax.sed.threshold_free_text import free_notes, known

_FOLDERS = ("threshold_free", "compare_scores")  # of the result, as of `free`
SHOWN = 12  # classes, the others folded away
_ROC = ("psds1", "psds2", "psds_own", "pi_psds1", "pi_psds2", "collar_psds")
_PRECISION = {"best_event_f1": "events", "segment_ap": "segments", "clip_ap": "clips"}


class ScoreTile(NamedTuple):
    """A score in a large figure."""

    name: str
    value: str
    interval: str
    meaning: str


class ScoredSystem(NamedTuple):
    """A list of events, a folder of posteriors, or operating points, which have no `classes`."""

    name: str
    conditions: str
    tiles: list[ScoreTile]
    classes: Listing | None


def render_scores(
    result: Mapping[str, Any], free: Mapping[str, Mapping[str, FreeScore]] | None = None
) -> str:
    """The page as text.

    Args:
      result: what `score --json` writes.
      free: scores over all thresholds of --scores and --compare_scores, by these names.
    """
    info = result["info"]
    events = [of for of in (result, result.get("compare")) if of and "event_f1" in of]
    posteriors = [result[key] for key in _FOLDERS if key in result]
    named = [
        (str(of["folder"]), scores)
        for of, scores in zip(posteriors, (free or {}).values(), strict=True)
    ]
    systems = [_of_events(of, info["classes"]) for of in events]
    systems += [_of_posteriors(of) for of in posteriors]
    if points := result.get("psds_operating_points"):
        systems.append(_of_points(points))
    several = len(named) > 1
    notes = [
        *info["notes"],
        *(n for of in events for k in TITLES if k in of for n in of[k]["notes"]),
    ]
    for folder, scores in named:
        notes += [f"{folder}: {note}" for note in free_notes(scores)]
    notes += [note for entry in (points or {}).values() for note in entry["notes"]]
    differences = _differences(result)
    labels = list(dict.fromkeys(label for _, of in named for label in _curved(of)))
    links = [
        *([("differences", "Is one better?")] if differences else []),
        ("classes", "Class by class"),
        *([("roc", "Found by false"), ("precision", "Precision by recall")] if named else []),
    ]
    return render_template(
        "score.html",
        title=f"Scores of {systems[0].name}" if systems else "Scores",
        description="Scores of sound event detection",
        heading="Scores",
        conditions=f"{number(info['num_clips'], 0)} clips, {len(info['classes'])} classes, "
        f"reference {info['reference']}",
        resampled=bool(info["num_resamples"]),
        systems=systems,
        differences=differences,
        notes=list(dict.fromkeys(map(str, notes))),
        links=links,
        roc=_roc_charts(named, several),
        class_roc=[_class_roc(label, named, several) for label in labels],
        precision=[_precision(label, named, several) for label in labels],
        shown=SHOWN,
    )


def _curved(scores: Mapping[str, FreeScore]) -> list[str]:
    return [label for label in scores["psds1"].curves if label]


def _of_events(scores: Mapping[str, Any], classes: Sequence[str]) -> ScoredSystem:
    """A list of events: an entry of `score`'s result with its `intervals` and `file`."""
    present = {key: title for key, title in TITLES.items() if key in scores}
    intervals = scores["intervals"]
    rows: list[list[object]] = [
        [
            label_text(label),
            number(scores["event_f1"]["counts"][label]["reference"], 0),
            *(
                _noted(scores[key]["classwise"][label], intervals.get(f"{key}/classwise/{label}"))
                for key in present
            ),
        ]
        for label in classes
    ]
    footer = [
        [
            average.capitalize(),
            None,
            *(_noted(scores[key][average], intervals.get(f"{key}/{average}")) for key in present),
        ]
        for average in ("macro", "micro")
    ]
    columns = ["Class", "Events", *(title.short for title in present.values())]
    return ScoredSystem(
        str(scores["file"]),
        "events",
        [
            _tile(title, scores[key]["macro"], intervals.get(f"{key}/macro"), 1)
            for key, title in present.items()
        ],
        Listing(f"{scores['file']}: F1 in percent", columns, rows, footer),
    )


def _of_posteriors(entries: Mapping[str, Any]) -> ScoredSystem:
    """A folder of posteriors: `free_entries` and its `folder`."""
    folder = str(entries["folder"])
    scores = {key: (title, entries[key]) for key, title in _FREE.items() if key in entries}
    rows: list[list[object]] = [
        [
            label_text(label),
            *(
                _noted(of["classwise"][label], of["classwise_intervals"][label], key)
                for key, (_, of) in scores.items()
            ),
        ]
        for label in entries["psds1"]["classwise"]
    ]
    overall = [_noted(of["value"], of["interval"], key) for key, (_, of) in scores.items()]
    return ScoredSystem(
        folder,
        "posteriors, over all thresholds",
        [
            _tile(title, of["value"], of["interval"], _digits(key))
            for key, (title, of) in scores.items()
        ],
        Listing(
            f"{folder}: F1 in percent, else from 0 to 1",
            ["Class", *(title.short for title, _ in scores.values())],
            rows,
            [["All", *overall]],
        ),
    )


def _of_points(points: Mapping[str, Any]) -> ScoredSystem:
    return ScoredSystem(
        "Operating points",
        "a list of events per threshold",
        [_tile(_FREE[key], of["value"], None, 3) for key, of in points.items()],
        None,
    )


def _tile(
    title: ScoreTitle, value: float | None, interval: Sequence[float] | None, digits: int
) -> ScoreTile:
    return ScoreTile(title.short, number(value, digits), _span(interval, digits), title.meaning)


def _noted(value: float | None, interval: Sequence[float] | None, key: str = "event_f1") -> object:
    """A cell: the value, and its interval in small."""
    digits = _digits(key)
    return (
        Noted(number(value, digits), _span(interval, digits)) if interval else number(value, digits)
    )


def _span(interval: Sequence[float] | None, digits: int) -> str:
    return " to ".join(number(end, digits) for end in interval) if interval else ""


def _digits(key: str) -> int:
    return 1 if key.endswith("_f1") else 3


def _differences(result: Mapping[str, Any]) -> list[Listing]:
    """Of the second system to the first: of events, and of posteriors."""
    found = []
    if "differences" in result:
        rows = []
        for key, of in result["differences"].items():
            name, average, *label = key.split("/")
            if not label:
                rows.append((f"{TITLES[name].text}, {average}", of, 1))
        found.append(_difference(f"{result['compare']['file']} less {result['file']}", rows))
    if "threshold_free_differences" in result:
        first, second = (result[key]["folder"] for key in _FOLDERS)
        rows = [
            (_FREE[key].text, of, _digits(key))
            for key, of in result["threshold_free_differences"].items()
        ]
        found.append(_difference(f"{second} less {first}", rows))
    return found


def _difference(caption: str, rows: Sequence[tuple[str, Mapping[str, Any], int]]) -> Listing:
    resampled = any(of["share_better"] is not None for _, of, _ in rows)
    return Listing(
        caption,
        ["Score", "Difference", *(["95 % interval", "Ahead, % of resamples"] if resampled else [])],
        [
            [
                name,
                number(of["difference"], digits),
                *([_span(of["interval"], digits) or "–", _share(of)] if resampled else []),
            ]
            for name, of, digits in rows
        ],
    )


def _share(difference: Mapping[str, Any]) -> str:
    share = difference["share_better"]
    return "–" if share is None else number(100 * share)


_Named = Sequence[tuple[str, Mapping[str, FreeScore]]]  # systems by their folders


def _roc_charts(systems: _Named, several: bool) -> list[Chart]:
    """Of all classes, a chart per PSDS."""
    charts = []
    for key in _ROC:
        having = [(name, of[key]) for name, of in systems if key in of]
        if having:
            title = _FREE[key].short
            series = [Series(name if several else title, *of.curves[""]) for name, of in having]
            areas = ", ".join(number(known(of.overall), 3) for _, of in having)
            charts.append(_staircases(title, series, f"area {areas}"))
    return charts


def _class_roc(label: str, systems: _Named, several: bool) -> Chart:
    """Of one class, the curves of PSDS 1 and 2."""
    series, areas = [], []
    for name, scores in systems:
        for key in ("psds1", "psds2"):
            if label in scores[key].curves:
                title = _FREE[key].short
                shown = f"{title}, {name}" if several else title
                series.append(Series(shown, *scores[key].curves[label]))
                areas.append(number(known(scores[key].classwise[label]), 3))
    return _staircases(label_text(label), series, f"areas {', '.join(areas)}")


def _staircases(title: str, series: Sequence[Series], note: str) -> Chart:
    return line_chart(
        title,
        series,
        x_label="false ones per hour",
        y_label="share of events found",
        x_range=(0.0, max(float(of.x[-1]) for of in series)),
        y_range=(0.0, 1.0),
        note=[note],
        step=True,
    )


def _precision(label: str, systems: _Named, several: bool) -> Chart:
    """Of one class, precision by recall of events, segments and clips."""
    series = [
        Series(f"{what}, {name}" if several else what, *scores[key].curves[label])
        for name, scores in systems
        for key, what in _PRECISION.items()
        if label in scores[key].curves
    ]
    return line_chart(
        label_text(label),
        series,
        x_label="recall",
        y_label="precision",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
    )
