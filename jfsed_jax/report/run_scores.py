"""The scores of a run: the large figures over its page, and the tables class by class."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jfsed_jax.report.formatting import label_text, number
from jfsed_jax.report.listings import Bar, Link, Listing, Noted
from jfsed_jax.runs.saved_run import SavedRun, SavedSplit, is_number
from jfsed_jax.runs.workdir import SplitFolder
from jfsed_jax.sed.score_titles import TITLES

RULES = {
    "esp": "event-specific windows (ESP)",
    "avg": "windows from mean durations (avg)",
    "fixed": "one fixed window",
}


class Tile(NamedTuple):
    """A score in large figures: macro, with its margin where there is one, and micro with its."""

    name: str
    macro: str
    margin: str
    micro: str
    meaning: str


class Headline(NamedTuple):
    """The scores of a split and under which conditions they were taken."""

    title: str
    conditions: str
    tiles: list[Tile]


class ClassScores(NamedTuple):
    """F1 of each class, what to know about it, and precision and recall where they are known."""

    scores: Listing
    notes: list[str]
    rates: Listing | None


def headlines(run: SavedRun) -> list[Headline]:
    """The large figures of every scored split."""
    return [
        Headline(split.title, _conditions(split.scores), _tiles(split.scores))
        for split in run.splits
        if split.scores is not None
    ]


def class_scores(
    run: SavedRun, places: Mapping[SplitFolder, Mapping[str, str]] | None = None
) -> list[ClassScores]:
    """The tables of every scored split; `places`: where the names of its classes lead, by label."""
    scored = [split for split in run.splits if split.scores is not None]
    places = places or {}
    return [
        _class_scores(run, split, places.get(split.folder, {}), only=len(scored) == 1)
        for split in scored
    ]


def _conditions(scores: Mapping[str, Any]) -> str:
    info = scores.get("info") or {}
    parts = []
    if is_number(info.get("num_clips")):
        parts.append(f"{number(info['num_clips'], 0)} clips")
    if info.get("model", "student") != "student":
        parts.append(f"posteriors of the {info['model']}")
    if info.get("decoder_file"):
        parts.append(decoder_file_text(info))
    elif info.get("postprocess"):
        parts.append(RULES.get(str(info["postprocess"]), str(info["postprocess"])))
    if info.get("thresholds"):
        parts.append("thresholds tuned on the clips that training held out")
    if is_number(info.get("checkpoint_step")):
        parts.append(f"weights of step {number(info['checkpoint_step'], 0)}")
    resamples = scores.get("resamples")
    resamples = resamples.get("number") if isinstance(resamples, dict) else None
    if is_number(resamples) and resamples:
        parts.append(f"95 % intervals of {number(resamples, 0)} resamples of the clips")
    return ", ".join(parts)


def decoder_file_text(info: Mapping[str, Any]) -> str:
    """Which decoder a decoder file has, and what it was tuned for and on, where that is known."""
    decoder = "change points" if info.get("decoder") == "change_points" else "median windows"
    told = info.get("decoder_tuned")
    known = [(word, told.get(name)) for word, name in (("for", "metric"), ("on", "reference"))
             ] if isinstance(told, dict) else []  # fmt: skip
    words = [f" {word} {value}" for word, value in known if isinstance(value, str)]
    return f"{decoder} of a decoder file{', tuned' + ''.join(words) if words else ''}"


def _tiles(scores: Mapping[str, Any]) -> list[Tile]:
    return [
        Tile(
            name,
            number(scores[key].get("macro")),
            f"{margin} · " if (margin := _margin(scores, f"{key}/macro")) else "",
            number(scores[key].get("micro"))
            + (f", {margin}" if (margin := _margin(scores, f"{key}/micro")) else ""),
            meaning,
        )
        for key, (_, name, meaning) in TITLES.items()
        if scores.get(key)
    ]


def _margin(scores: Mapping[str, Any], key: str) -> str:
    """The 95 % interval of a score, where `evaluate` resampled the clips: older ones did not."""
    intervals = scores.get("intervals")
    interval = intervals.get(key) if isinstance(intervals, dict) else None
    if not isinstance(interval, list) or len(interval) != 2 or not all(map(is_number, interval)):
        return ""
    return "–".join(map(number, interval))


def _class_scores(
    run: SavedRun, split: SavedSplit, places: Mapping[str, str], *, only: bool
) -> ClassScores:
    scores = split.scores or {}
    present = [(key, title.short) for key, title in TITLES.items() if scores.get(key)]
    named = [label for key, _ in present for label in scores[key].get("classwise", {})]
    classes = list(dict.fromkeys([*run.classes, *named]))
    events: dict[str, int] = {}
    if split.reference is not None:
        for event in split.reference.events:
            events[event.event_label] = events.get(event.event_label, 0) + 1
    listing = Listing(
        caption="F1 in percent" if only else f"{split.title}: F1 in percent",
        columns=["Class", *(["Events"] if events else []), *(name for _, name in present)],
        rows=[
            [
                Link(label_text(label), places[label]) if label in places else label_text(label),
                *([events.get(label, 0)] if events else []),
                *(
                    Bar(
                        scores[key].get("classwise", {}).get(label),
                        small=_margin(scores, f"{key}/classwise/{label}"),
                    )
                    for key, _ in present
                ),
            ]
            for label in classes
        ],
        footer=[
            [
                title,
                *([total] if events else []),
                *(
                    Noted(number(scores[key].get(kind)), _margin(scores, f"{key}/{kind}"))
                    for key, _ in present
                ),
            ]
            for title, kind, total in (
                ("Macro", "macro", number(sum(events.values()), 0)),
                ("Micro", "micro", None),
            )
        ],
        class_="by-class with-counts" if events else "by-class",
    )
    notes = [str(note) for key, _ in present for note in scores[key].get("notes") or []]
    return ClassScores(listing, notes, _rates(scores, present, classes))


def _rates(
    scores: Mapping[str, Any], present: list[tuple[str, str]], classes: list[str]
) -> Listing | None:
    """Precision and recall, of the scores that have them."""
    kinds = [
        (kind, key, name)
        for key, name in present
        for kind in ("precision", "recall")
        if isinstance(scores[key].get(kind), dict)
    ]
    if not kinds:
        return None
    return Listing(
        caption="In percent",
        columns=["Class", *(f"{name.removesuffix('-F1')}, {kind}" for kind, _, name in kinds)],
        rows=[
            [
                label_text(label),
                *(number(scores[k][kind].get("classwise", {}).get(label)) for kind, k, _ in kinds),
            ]
            for label in classes
        ],
        footer=[
            [title, *(number(scores[k][kind].get(average)) for kind, k, _ in kinds)]
            for title, average in (("Macro", "macro"), ("Micro", "micro"))
        ],
    )
