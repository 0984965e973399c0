"""Why a class fails: its errors by kind, what it is taken for, its curves and its worst clips.

The kinds are those of `sed.error_kinds`.

Axis letters: ``C`` event classes, ``K`` kinds.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jfsed_jax.datasets.examples import errors_by_clip, worst_clips
from jfsed_jax.report.charts import Chart, Key
from jfsed_jax.report.clip_pictures import ClipPicture
from jfsed_jax.report.formatting import label_text, number
from jfsed_jax.report.listings import Link, Listing
from jfsed_jax.report.operating_points import tag_chart, tag_decisions, threshold_chart
from jfsed_jax.report.run_clips import KeptClip
from jfsed_jax.runs.saved_run import SavedRun, SavedSplit
from jfsed_jax.runs.workdir import SplitFolder
from jfsed_jax.sed import scoring
from jfsed_jax.sed.error_kinds import KINDS, ErrorKinds, count_kinds, sort_errors, taken_for
from jfsed_jax.sed.events import Event

# In the order of tables; the groups in that of a bar.
_TITLES = {
    "hit": "hit",
    "onset": "wrong onset",
    "offset": "wrong offset",
    "both": "both wrong",
    "split": "split",
    "merged": "merged",
    "missed": "missed",
    "false_alarm": "false alarm",
}
_FALSE = "false alarms"
_GROUPS = {
    "hit": ("hit",),
    "wrong boundaries": ("onset", "offset", "both"),
    "split": ("split",),
    "merged": ("merged",),
    "missed": ("missed",),
    _FALSE: ("false_alarm",),
}
_CURVES = 40  # classes with curves, those with the lowest scores
_NAMED = 6  # classes that one is taken for, by name

Errors = dict[tuple[str, str], Counter[int]]  # by label and kind, how many in which kept clip


class Segment(NamedTuple):
    """A part of a bar: its class in the style sheet, its width in percent, its text."""

    kind: str
    width: str
    tip: str


class WorstClip(NamedTuple):
    """A clip with errors: which ones, its name and place; no picture if it is drawn elsewhere."""

    errors: str
    name: str
    anchor: str
    picture: ClipPicture | None


class ClassErrors(NamedTuple):
    """One class.

    Attributes:
      label, name: raw, and as shown.
      anchor: of its section.
      summary: a line beside the name.
      bar: its references and false alarms by kind.
      counts: events by kind.
      taken: what the class was taken for, in words.
      charts: precision and recall of its tags; Event-F1 by threshold.
      clips: the worst ones.
    """

    label: str
    name: str
    anchor: str
    summary: str
    bar: list[Segment]
    counts: Listing
    taken: str
    charts: list[Chart]
    clips: list[WorstClip]


class SplitErrors(NamedTuple):
    """The errors of a split.

    Attributes:
      folder: where its scores lie.
      title: "" where there is one split.
      listing: all classes.
      classes: those with events, the lowest Event-F1 first; none of another rule's scores.
    """

    folder: SplitFolder
    title: str
    listing: Listing
    classes: list[ClassErrors]

    @property
    def places(self) -> dict[str, str]:
        """Where a link to the section of a class leads, by label."""
        return _places(self.classes)


def kind_keys() -> list[Key]:
    """What the colours of the bars are."""
    return [Key(name, _colour(name)) for name in _GROUPS]


def _colour(group: str) -> str:
    return f"kind k-{_GROUPS[group][0]}"


def class_errors(run: SavedRun, kept: Sequence[Sequence[KeptClip]]) -> list[SplitErrors]:
    """The errors of every split whose events are known; see `SplitErrors`.

    Args:
      run: as read.
      kept: see `kept_clips`; each is drawn once, those that are typical elsewhere.

    Raises:
      InputError: an event of a clip or class that the split or the run has not.
    """
    found = []
    for split in run.splits:
        if split.reference is None or split.estimates is None or not run.classes:
            continue
        kinds = _kinds_of(split, run.classes)
        own = [other.folder for other in run.own_splits]
        classes = []
        if split.folder in own:
            place = own.index(split.folder)
            classes = _classes(run, split, kinds, kept[place], place)
        title = split.title if len(run.splits) > 1 else ""
        listing = _overview(run.classes, kinds, _places(classes))
        found.append(SplitErrors(split.folder, title, listing, classes))
    return found


@dataclass(frozen=True)
class _Kinds:
    """Events of a split and their kinds: reference, then estimates.

    Attributes:
      events: two lists.
      kinds: <int64>[R] and <int64>[E], see `sort_errors`.
      counts: <int64>[2, C, K].
    """

    events: tuple[Sequence[Event], Sequence[Event]]
    kinds: ErrorKinds
    counts: np.ndarray

    def of(self, c: int, *kinds: str) -> tuple[int, int]:
        """References and estimates of these kinds."""
        reference, estimated = self.counts[:, c, [KINDS.index(kind) for kind in kinds]].sum(axis=1)
        return int(reference), int(estimated)

    def event_f1(self, c: int) -> float | None:
        """In percent, as scores.json has it; None without references."""
        reference, estimated = self.counts[:, c].sum(axis=1)
        hits, _ = self.of(c, "hit")
        return 200 * hits / (reference + estimated) if reference else None


def _kinds_of(split: SavedSplit, classes: Sequence[str]) -> _Kinds:
    assert split.reference is not None and split.estimates is not None
    names = split.reference.filenames
    for file, table in (
        (split.folder.reference, split.reference),
        (split.folder.events, split.estimates),
    ):
        scoring.check_events(table.events, names, classes, str(file), table.rows)
    events = (split.reference.events, split.estimates.events)
    kinds = sort_errors(*events)
    counts = [count_kinds(*pair, classes) for pair in zip(events, kinds, strict=True)]
    return _Kinds(events, kinds, np.stack(counts))


def _places(classes: Iterable[ClassErrors]) -> dict[str, str]:
    return {own.label: f"#{own.anchor}" for own in classes}


def _overview(labels: Sequence[str], kinds: _Kinds, places: Mapping[str, str]) -> Listing:
    """Each class's events by kind; its name leads to its section, if it has one."""
    groups = {name: own for name, own in _GROUPS.items() if name != _FALSE}
    rows = []
    for c, label in enumerate(labels):
        reference, estimated = kinds.counts[:, c].sum(axis=1).tolist()
        name = label_text(label)
        rows.append(
            [
                Link(name, places[label]) if label in places else name,
                number(kinds.event_f1(c)),
                reference,
                *(kinds.of(c, *own)[0] for own in groups.values()),
                estimated,
                kinds.of(c, *_GROUPS[_FALSE])[1],
            ]
        )
    return Listing(
        caption="Event-F1 in percent; what became of the reference events; predicted events",
        columns=["Class", "Event-F1", "Reference", *groups, "Predicted", _FALSE],
        rows=rows,
    )


def _classes(
    run: SavedRun, split: SavedSplit, kinds: _Kinds, kept: Sequence[KeptClip], place: int
) -> list[ClassErrors]:
    """Those with events, the lowest Event-F1 first, of equals that with more references; without
    references last."""
    f1 = [kinds.event_f1(c) for c in range(len(run.classes))]
    present = [c for c in range(len(run.classes)) if kinds.counts[:, c].any()]
    present.sort(key=lambda c: (f1[c] is None, f1[c] or 0.0, -kinds.counts[0, c].sum()))
    tags = tag_decisions(split)
    names = [clip.picture.name for clip in kept]
    spans = [(clip.recording, clip.start, clip.end) for clip in kept]
    errors = errors_by_clip(kinds.events, kinds.kinds, names, spans)
    drawn = {clip.anchor for clip in kept if not clip.worst}
    found = []
    for rank, c in enumerate(present):
        label = run.classes[c]
        hits, total = kinds.of(c, "hit")[0], int(kinds.counts[0, c].sum())
        own = {key: clips for key, clips in errors.items() if key[0] == label}
        clips = _worst(own, kept, drawn)
        drawn |= {clip.anchor for clip in clips}
        charts = [tag_chart(split, c), threshold_chart(run, split, c)] if rank < _CURVES else []
        found.append(
            ClassErrors(
                label=label,
                name=label_text(label),
                anchor=f"errors-{place}-{c}",
                summary=f"Event-F1 {number(f1[c])}, {hits} of {total} hit",
                bar=_bar(kinds, c),
                counts=_counted(kinds, c),
                taken=_taken(run.classes, c, *tags) if tags else "",
                charts=[chart for chart in charts if chart is not None],
                clips=clips,
            )
        )
    return found


def _bar(kinds: _Kinds, c: int) -> list[Segment]:
    sizes = {name: kinds.of(c, *own)[int(name == _FALSE)] for name, own in _GROUPS.items()}
    total = sum(sizes.values()) or 1
    return [
        Segment(_colour(name), f"{100 * size / total:.2f}", f"{name}: {size}")
        for name, size in sizes.items()
        if size
    ]


def _counted(kinds: _Kinds, c: int) -> Listing:
    sides = (("Reference", "false_alarm"), ("Predicted", "missed"))
    rows = [
        [
            name,
            *(None if kind == never else kinds.of(c, kind)[i] for kind in _TITLES),
            int(kinds.counts[i, c].sum()),
        ]
        for i, (name, never) in enumerate(sides)
    ]
    return Listing("Events by kind", ["", *_TITLES.values(), "all"], rows)


def _taken(classes: Sequence[str], c: int, reference: np.ndarray, tagged: np.ndarray) -> str:
    """What the tags have in the clips of the class that they miss, in words."""
    clips = taken_for(reference, tagged)[c].tolist()
    total, found = int(reference[:, c].sum()), clips[c]
    if not total:
        return "No clip has it."
    text = f"Of {total} clips with it, {found} are tagged with it."
    if found == total:
        return text
    others = [(n, label_text(classes[k])) for k, n in enumerate(clips[:-1]) if k != c and n]
    others.sort(key=lambda other: -other[0])
    parts = [f"{name} in {n}" for n, name in others[:_NAMED]]
    if len(others) > _NAMED:
        parts.append(f"{len(others) - _NAMED} more in fewer")
    rest = total - found
    wrong = rest - clips[-1]
    if not wrong:
        return f"{text} None of the {rest} others has wrong tags."
    has = "has" if wrong == 1 else "have"
    return f"{text} {wrong} of the {rest} others {has} wrong tags: {', '.join(parts)}."


def _worst(errors: Errors, kept: Sequence[KeptClip], drawn: Collection[str]) -> list[WorstClip]:
    """Of the clips that were kept those with most errors of each kind."""
    found = []
    for i in worst_clips(errors, (), len(kept)):
        own = {kind: clips[i] for (_, kind), clips in errors.items() if clips[i]}
        text = ", ".join(f"{own[kind]} × {title}" for kind, title in _TITLES.items() if kind in own)
        picture = None if kept[i].anchor in drawn else kept[i].picture
        found.append(WorstClip(text, kept[i].picture.name, kept[i].anchor, picture))
    return found
