"""The splits of a data set as their metadata lists them: tables read, labels checked.

Flaws never stop a run unless the class list itself is wrong: each is a `Problem`, and nothing is
guessed. What happens to flawed labels [ours]:

- A label that is not in the class list is never another class. Strong: that event is left out.
  Weak: that label is left out, and the clip if it has no other. If it looks like a misspelt class
  the whole training clip is left out, for its other labels would say that the class is absent.
- A label repeated in a weak row, or an event given twice, counts once.
- A clip without events is a clip in which no class occurs.
"""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jfsed_jax.audio.decoding import check_file
from jfsed_jax.datasets.extraction import AudioFile
from jfsed_jax.errors import InputError
from jfsed_jax.sed import label_files, tables
from jfsed_jax.sed.events import DCASE2019_CLASSES, Event
from jfsed_jax.sed.tables import Problem

THROUGHOUT = "throughout"  # a column of a weak table: whether labels hold in all of a recording
_TRAINING = ("weak", "unlabel_in_domain", "synthetic")


@dataclass
class ListedClip:
    """A clip that the metadata names.

    Attributes:
      filename: as the metadata names it.
      row: line of the metadata file, from 1; 0 if the clip was found without metadata.
      audio: its file, None if there is none.
      missing: whether there should be one.
      labels: weak labels.
      throughout: whether they hold in every part of the recording.
      origins: the recordings that it was mixed from, where ``sources.tsv`` names them.
      left_out: why it cannot be trained on, None if it can.
    """

    filename: str
    row: int
    audio: AudioFile | None = None
    missing: bool = False
    labels: tuple[str, ...] = ()
    throughout: bool = False
    origins: tuple[str, ...] = ()
    left_out: str | None = None


@dataclass
class ListedSplit:
    """One split as listed.

    Attributes:
      name: one of `SPLITS`.
      metadata: path of the table, or of a folder of label files, relative to the data folder; None
        for a bare folder of audio.
      audio: path of the audio folder relative to the data folder; None if there is none.
      clips: every clip listed, by file name.
      events: strong labels as published and usable, with their rows.
      problems: flaws of this split.
      files: of clips whose labels are in label files, that file's path relative to the data folder.
      unreadable: which folder of audio cannot be listed, why, and what to do; None if all can.
    """

    name: str
    metadata: str | None
    audio: str | None
    clips: list[ListedClip] = field(default_factory=list)
    events: list[tuple[int, Event]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    unreadable: str | None = None

    def note(
        self, row: int, found: str, reason: str, *, file: str | None = None, skipped: bool = False
    ) -> None:
        """Adds a problem at a row of the table, of another file, or of the clip `found`."""
        file = file or self.files.get(found) or self.metadata or ""
        self.problems.append(Problem(file, row, found, reason, skipped))


def read_labels(data_dir: Path, split: ListedSplit) -> None:
    """Fills in clips and events as the table gives them, whatever their labels."""
    if split.metadata is None:
        return
    path = data_dir / split.metadata
    rows: dict[str, int] = {}
    tags: dict[str, tuple[str, ...]] = {}
    throughout: set[str] = set()
    if split.name == "weak":
        weak = tables.read_tags(path, strict=False)
        rows, tags, problems = weak.rows, weak.tags, list(weak.problems)
        throughout = _throughout(path, problems)
    elif split.name == "unlabel_in_domain":
        listed = tables.read_table(path, ("filename",))
        problems = list(listed.problems)
        for number, cells in listed.rows:
            if cells["filename"] in rows:
                problems.append(_again(path, number, cells["filename"], rows[cells["filename"]]))
            rows.setdefault(cells["filename"], number)
    else:
        strong = _read_strong(data_dir, path, split)
        problems = list(strong.problems)
        rows = dict.fromkeys(strong.filenames, 0)
        seen: dict[Event, int] = {}
        for number, event in zip(strong.rows, strong.events, strict=True):
            rows[event.filename] = rows[event.filename] or number
            if event in seen:
                file = data_dir / split.files.get(event.filename, split.metadata)
                problems.append(_again(file, number, " ".join(map(str, event)), seen[event]))
                continue
            seen[event] = number
            split.events.append((number, event))
    split.problems += [
        problem._replace(file=str(Path(problem.file).relative_to(data_dir))) for problem in problems
    ]
    split.clips = [
        ListedClip(name, rows[name], labels=tags.get(name, ()), throughout=name in throughout)
        for name in sorted(rows)
    ]


def _read_strong(data_dir: Path, path: Path, split: ListedSplit) -> tables.EventTable:
    """The strong labels of a table, or of a folder of label files."""
    if not path.is_dir():
        return tables.read_events(path, strict=False)
    files = label_files.read_label_files(path, strict=False)
    for file, table in files:
        split.files |= dict.fromkeys(table.filenames, str(Path(file).relative_to(data_dir)))
    return label_files.joined(files)


def _throughout(path: Path, problems: list[Problem]) -> set[str]:
    """Files of a weak table all of whose rows say that their labels hold throughout the file."""
    try:
        rows = tables.read_table(path, (*tables.TAG_COLUMNS, THROUGHOUT)).rows
    except InputError:
        return set()  # there is no such column
    said: dict[str, bool] = {}
    for number, cells in rows:
        value = cells[THROUGHOUT].strip().lower()
        if value not in ("yes", "no", ""):
            reason = f"{THROUGHOUT} is yes or no; taken for no"
            problems.append(Problem(str(path), number, value, reason, False))
        said[cells["filename"]] = said.get(cells["filename"], True) and value == "yes"
    return {name for name, yes in said.items() if yes}


def class_list(
    data_dir: Path, classes: Sequence[str] | None, splits: dict[str, ListedSplit]
) -> tuple[str, ...]:
    if classes is not None:
        return tuple(classes)
    path = data_dir / "classes.txt"
    if path.exists():
        check_file(path)
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        listed = [line.strip() for line in text.splitlines() if line.strip()]
        if not listed or len(set(listed)) < len(listed):
            raise InputError(f"{path}: expected one class a line, each once; found {listed}")
        for label in listed:
            _refuse_comma(label, str(path), splits)
        return tuple(listed)
    rows: Counter[str] = Counter()
    first: dict[str, tuple[ListedSplit, str | None, int]] = {}
    for name in ("weak", "synthetic"):
        if name in splits:
            split = splits[name]
            table = split.metadata
            labelled = [(table, clip.row, label) for clip in split.clips for label in clip.labels]
            for row, event in split.events:
                file = split.files.get(event.filename, table)
                labelled.append((file, row, event.event_label))
            for file, row, label in labelled:
                rows[label] += 1
                first.setdefault(label, (split, file, row))
    if set(DCASE2019_CLASSES) <= set(rows):
        return DCASE2019_CLASSES
    if not rows:
        raise InputError(
            f"{data_dir}: no training labels to take the class list from; write one class a line "
            f"to {path}"
        )
    for label, count in rows.items():
        split, file, row = first[label]
        _refuse_comma(label, f"{data_dir / (file or '')}, row {row}", splits)
        if count == 1:
            reason = "this class occurs in one row; if that is a misspelling, correct it or write "
            split.note(row, label, reason + "the class list to classes.txt", file=file)
    return tuple(sorted(rows))


def _refuse_comma(label: str, where: str, splits: dict[str, ListedSplit]) -> None:
    """A weak table would have the parts of such a class as classes of their own."""
    if "," in label and "weak" in splits:
        raise InputError(
            f"{where}: the class {label!r} has a comma, which separates the labels of "
            f"{splits['weak'].metadata}; give it a name without one in every table and in "
            "classes.txt"
        )


def check_labels(split: ListedSplit, classes: tuple[str, ...]) -> None:
    """Leaves out labels that are no classes, and what cannot be trusted without them."""
    clips = {clip.filename: clip for clip in split.clips}

    def misspelt(clip: ListedClip, row: int, label: str) -> bool:
        close = difflib.get_close_matches(label, classes, 1, 0.65) or [
            name for name in classes if name.lower() == label.lower()
        ]
        reason = f"not one of the {len(classes)} classes"
        file = split.files.get(clip.filename)
        if close:
            reason += f" (did you mean {close[0]!r}?)"
        if close and split.name in _TRAINING:
            clip.left_out = f"row {row} has the unknown label {label!r}"
            reason += "; the clip is left out until it is"
            split.note(row, label, reason, file=file, skipped=True)
            return True
        what = "label" if split.name == "weak" else "event"
        split.note(row, label, f"{reason}; the {what} is left out", file=file, skipped=True)
        return False

    for clip in split.clips:
        unknown = [label for label in clip.labels if label not in classes]
        for label in unknown:
            misspelt(clip, clip.row, label)
        had_labels = bool(clip.labels)
        clip.labels = tuple(label for label in clip.labels if label in classes)
        if split.name == "weak" and not clip.labels:
            if had_labels:
                clip.left_out = clip.left_out or f"row {clip.row} has no label of the class list"
            else:
                reason = "no labels; kept as a clip in which no class occurs"
                split.note(clip.row, clip.filename, reason)
    known = []
    for row, event in split.events:
        if event.event_label in classes:
            known.append((row, event))
        else:
            misspelt(clips[event.filename], row, event.event_label)
    split.events = known


def _again(path: Path, number: int, found: str, first: int) -> Problem:
    return Problem(str(path), number, found, f"the same as row {first}; counted once", False)
