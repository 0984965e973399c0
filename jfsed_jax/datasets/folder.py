"""A folder in the layout of DCASE 2019 Task 4, with any class list: read and checked.

All metadata is read and all audio found before anything is decoded (`preparation` does that). Flaws
never stop a run unless the set-up itself is wrong: each is a `Problem`, and nothing is guessed.

What happens to flawed labels [ours]:

- A label that is not in the class list is never another class. Strong: that event is left out.
  Weak: that label is left out, and the clip if it has no other. If it looks like a misspelt class
  the whole training clip is left out, for its other labels would say that the class is absent.
- A label repeated in a weak row, or an event given twice, counts once.
- A clip without events is a clip in which no class occurs.
"""

import contextlib
import difflib
import filecmp
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jfsed_jax.datasets.store import AudioFile
from jfsed_jax.errors import InputError
from jfsed_jax.sed import tables
from jfsed_jax.sed.events import DCASE2019_CLASSES, Event
from jfsed_jax.sed.tables import Problem

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")
TREE = """\
DIR/
  audio/train/{weak,unlabel_in_domain,synthetic}/   wav, flac or ogg
  audio/validation/   audio/eval/public/
  metadata/train/weak.tsv                 filename  event_labels
  metadata/train/unlabel_in_domain.tsv    filename
  metadata/train/synthetic.tsv            filename  onset  offset  event_label
  metadata/validation/validation.tsv      filename  onset  offset  event_label
  metadata/eval/public.tsv                filename  onset  offset  event_label
(any of the five may be absent; classes.txt, one class a line, is optional)"""

# Split: where its table may be (without suffix), and where its audio.
_LAYOUT = {
    "weak": (["train/weak"], ["train/weak"]),
    "unlabel_in_domain": (["train/unlabel_in_domain"], ["train/unlabel_in_domain"]),
    "synthetic": (
        ["train/synthetic", "train/synthetic*/soundscapes", "train/soundscapes"],
        ["train/synthetic", "train/synthetic*", "train/soundscapes"],
    ),
    "validation": (["validation/validation"], ["validation"]),
    "eval": (["eval/public"], ["eval/public", "eval", "public"]),
}
_TRAINING = ("weak", "unlabel_in_domain", "synthetic")
STRONG = ("synthetic", "validation", "eval")
# A clip of AudioSet: recording, start and end in seconds, as in Y-CE2f-ttEQ_30.000_40.000.
_AUDIOSET = re.compile(r"Y?([\w-]{11})_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)")


@dataclass
class ListedClip:
    """A clip that the metadata names.

    Attributes:
      filename: as the metadata names it.
      row: line of the metadata file, from 1; 0 if the clip was found without metadata.
      audio: its file, None if there is none.
      missing: whether there should be one.
      labels: weak labels.
      left_out: why it cannot be trained on, None if it can.
    """

    filename: str
    row: int
    audio: AudioFile | None = None
    missing: bool = False
    labels: tuple[str, ...] = ()
    left_out: str | None = None


@dataclass
class Split:
    """One split as listed.

    Attributes:
      name: one of `SPLITS`.
      metadata: path of the table relative to the data folder; None for a bare folder of audio.
      audio: path of the audio folder relative to the data folder; None if there is none.
      clips: every clip listed, by file name.
      events: strong labels as published and usable, with their rows.
      problems: flaws of this split.
      unreadable: a folder of audio that cannot be listed; None if all can.
    """

    name: str
    metadata: str | None
    audio: str | None
    clips: list[ListedClip] = field(default_factory=list)
    events: list[tuple[int, Event]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unreadable: str | None = None

    def note(
        self, row: int, found: str, reason: str, *, file: str | None = None, skipped: bool = False
    ) -> None:
        """Adds a problem at a row of the table, or of another file."""
        self.problems.append(Problem(file or self.metadata or "", row, found, reason, skipped))


@dataclass
class Folder:
    """What a data folder holds, before anything is decoded."""

    path: Path
    classes: tuple[str, ...]
    splits: dict[str, Split]
    conventions: list[str]
    missing: list[tuple[str, str, int, str]]  # split, file name, row, where it was looked for

    @property
    def problems(self) -> list[Problem]:
        """Of all splits, by file and row."""
        found = [problem for split in self.splits.values() for problem in split.problems]
        return sorted(found, key=lambda problem: (problem.file, problem.row))


# Reading the folder ------------------------------------------------------------------------------


def read_folder(data_dir: str | Path, classes: Sequence[str] | None = None) -> Folder:
    """Reads all metadata, finds all audio and checks one against the other; decodes nothing.

    Args:
      data_dir: the folder.
      classes: the class list if it is settled already, as by a trained model. Otherwise that of
        classes.txt; the ten of DCASE 2019 if all of them occur in the training labels; or else
        all the labels of the training sets, sorted.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise InputError(
            f"{data_dir} is not a folder; --data expects one with audio/ and metadata/ in it"
        )
    splits: dict[str, Split] = {}
    conventions: list[str] = []
    for name in _LAYOUT:
        split = _find_split(data_dir, name, conventions)
        if split is not None:
            splits[name] = split
    if not splits or not (data_dir / "audio").is_dir():
        raise InputError(_wrong_folder(data_dir))
    for split in splits.values():
        _read_labels(data_dir, split)
    classes = _class_list(data_dir, classes, splits)
    missing: list[tuple[str, str, int, str]] = []
    for split in splits.values():
        _check_labels(split, classes)
        _match_audio(data_dir, split, conventions, missing)
    if any(split.unreadable for split in splits.values()):
        return Folder(data_dir, classes, splits, conventions, missing)
    if not any(clip.audio for split in splits.values() for clip in split.clips):
        raise InputError(
            f"{data_dir}: none of the {len(missing)} clips that the metadata lists has audio; "
            f"expected for example {missing[0][3]}/{missing[0][1]}"
            if missing
            else f"{data_dir}: the metadata lists no clip"
        )
    _report_shared_recordings(data_dir, splits)
    conventions = conventions or ["folders, names and tables as in DCASE 2019"]
    return Folder(data_dir, classes, splits, conventions, missing)


def _wrong_folder(data_dir: Path) -> str:
    for inner in sorted(data_dir.iterdir()):
        if (inner / "metadata").is_dir() and (inner / "audio").is_dir():
            return f"{data_dir} holds no audio/ and metadata/; did you mean --data {inner}?"
    return f"{data_dir} holds no audio with metadata; --data expects:\n{TREE}"


def _find_split(data_dir: Path, name: str, conventions: list[str]) -> Split | None:
    tables_at, audio_at = _LAYOUT[name]
    found = [
        path
        for pattern in tables_at
        for suffix in (".tsv", ".csv")
        for path in sorted((data_dir / "metadata").glob(pattern + suffix), reverse=True)
    ]
    folders = [
        path
        for pattern in audio_at
        for path in sorted((data_dir / "audio").glob(pattern), reverse=True)
        if path.is_dir()
    ]
    if found and found[0].stem == "soundscapes":
        # DESED keeps each generation of soundscapes in a folder that audio and metadata share.
        own = data_dir / "audio" / found[0].parent.relative_to(data_dir / "metadata")
        folders = [path for path in (own / "soundscapes", own, *folders) if path.is_dir()]
        conventions.append(f"{name}: DESED soundscapes, {found[0].relative_to(data_dir)}")
    if found and found[0].suffix == ".csv":
        conventions.append(f"{name}: commas, {found[0].relative_to(data_dir)}")
    if len(found) > 1:
        others = ", ".join(str(path.relative_to(data_dir)) for path in found[1:])
        conventions.append(f"{name}: uses {found[0].relative_to(data_dir)}, not {others}")
    if not found and not (folders and name == "unlabel_in_domain"):
        return None
    return Split(
        name,
        str(found[0].relative_to(data_dir)) if found else None,
        str(folders[0].relative_to(data_dir)) if folders else None,
    )


def _read_labels(data_dir: Path, split: Split) -> None:
    """Fills in clips and events as the table gives them, whatever their labels."""
    if split.metadata is None:
        return
    path = data_dir / split.metadata
    rows: dict[str, int] = {}
    tags: dict[str, tuple[str, ...]] = {}
    if split.name == "weak":
        weak = tables.read_tags(path, strict=False)
        rows, tags, problems = weak.rows, weak.tags, weak.problems
    elif split.name == "unlabel_in_domain":
        listed = tables.read_table(path, ("filename",))
        problems = list(listed.problems)
        for number, cells in listed.rows:
            if cells["filename"] in rows:
                problems.append(_again(path, number, cells["filename"], rows[cells["filename"]]))
            rows.setdefault(cells["filename"], number)
    else:
        strong = tables.read_events(path, strict=False)
        problems = list(strong.problems)
        rows = dict.fromkeys(strong.filenames, 0)
        seen: dict[Event, int] = {}
        for number, event in zip(strong.rows, strong.events, strict=True):
            rows[event.filename] = rows[event.filename] or number
            if event in seen:
                problems.append(_again(path, number, " ".join(map(str, event)), seen[event]))
                continue
            seen[event] = number
            split.events.append((number, event))
    split.problems += [problem._replace(file=split.metadata) for problem in problems]
    split.clips = [ListedClip(name, rows[name], labels=tags.get(name, ())) for name in sorted(rows)]


def _again(path: Path, number: int, found: str, first: int) -> Problem:
    return Problem(str(path), number, found, f"the same as row {first}; counted once", False)


def _class_list(
    data_dir: Path, classes: Sequence[str] | None, splits: dict[str, Split]
) -> tuple[str, ...]:
    if classes is not None:
        return tuple(classes)
    path = data_dir / "classes.txt"
    if path.exists():
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        listed = [line.strip() for line in text.splitlines() if line.strip()]
        if not listed or len(set(listed)) < len(listed):
            raise InputError(f"{path}: expected one class a line, each once; found {listed}")
        return tuple(listed)
    rows: Counter[str] = Counter()
    first: dict[str, tuple[Split, int]] = {}
    for name in ("weak", "synthetic"):
        if name in splits:
            split = splits[name]
            labelled = [(clip.row, label) for clip in split.clips for label in clip.labels]
            labelled += [(row, event.event_label) for row, event in split.events]
            for row, label in labelled:
                rows[label] += 1
                first.setdefault(label, (split, row))
    if set(DCASE2019_CLASSES) <= set(rows):
        return DCASE2019_CLASSES
    if not rows:
        raise InputError(
            f"{data_dir}: no training labels to take the class list from; write one class a line "
            f"to {path}"
        )
    for label, count in rows.items():
        if count == 1:
            split, row = first[label]
            reason = "this class occurs in one row; if that is a misspelling, correct it or write "
            split.note(row, label, reason + "the class list to classes.txt")
    return tuple(sorted(rows))


def _check_labels(split: Split, classes: tuple[str, ...]) -> None:
    """Leaves out labels that are no classes, and what cannot be trusted without them."""
    clips = {clip.filename: clip for clip in split.clips}

    def misspelt(clip: ListedClip, row: int, label: str) -> bool:
        close = difflib.get_close_matches(label, classes, 1, 0.65) or [
            name for name in classes if name.lower() == label.lower()
        ]
        reason = f"not one of the {len(classes)} classes"
        if close:
            reason += f" (did you mean {close[0]!r}?)"
        if close and split.name in _TRAINING:
            clip.left_out = f"row {row} has the unknown label {label!r}"
            split.note(row, label, f"{reason}; the clip is left out until it is", skipped=True)
            return True
        what = "label" if split.name == "weak" else "event"
        split.note(row, label, f"{reason}; the {what} is left out", skipped=True)
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


# Finding the audio -------------------------------------------------------------------------------


def _match_audio(
    data_dir: Path,
    split: Split,
    conventions: list[str],
    missing: list[tuple[str, str, int, str]],
) -> None:
    base = split.audio or f"audio/{_LAYOUT[split.name][1][0]}"
    files = _audio_files(data_dir, split)
    if split.metadata is None:
        names = [str(Path(file.path).relative_to(base)) for file in files]
        split.clips = [ListedClip(name, 0, file) for name, file in zip(names, files, strict=True)]
        conventions.append(f"{split.name}: no metadata, every file of {base}")
        return
    # The first of several wins: the least deep, then alphabetical ("validation" before
    # "validation_16k").
    by_name: dict[str, AudioFile] = {}
    by_stem: dict[str, AudioFile] = {}
    by_recording: dict[tuple[str, float, float] | None, AudioFile] = {}
    for file in files:
        name = Path(file.path).name
        by_name.setdefault(str(Path(file.path).relative_to(base)), file)
        by_name.setdefault(name, file)
        by_stem.setdefault(_stem(name), file)
        if recording := audioset_clip(name):
            by_recording.setdefault(recording, file)
    used, other_suffix, other_form = set(), 0, 0
    for clip in split.clips:
        name = clip.filename
        if os.path.isabs(name) or ".." in re.split(r"[\\/]", name):
            clip.left_out = "its name leaves the data folder"
            reason = "the name leaves the data folder; expected the name of a file in " + base
            split.note(clip.row, name, reason, skipped=True)
            continue
        if name in by_name:
            file = by_name[name]
        elif _stem(name) in by_stem:
            file = by_stem[_stem(name)]
            other_suffix += 1
        elif (recording := audioset_clip(name)) in by_recording:
            file = by_recording[recording]
            other_form += 1
        else:
            clip.missing = True
            missing.append((split.name, name, clip.row, base))
            continue
        if file in used:
            clip.left_out = "its audio is that of another name"
            split.note(clip.row, name, f"the audio is {file.path}, which another row names too")
            continue
        used.add(file)
        clip.audio = file
    if other_suffix:
        conventions.append(f"{split.name}: {other_suffix} clips found under another suffix")
    if other_form:
        conventions.append(f"{split.name}: {other_form} clips found with or without the leading Y")
    if split.audio is None:
        split.note(0, "", f"there is no such folder; {len(split.clips)} clips", file=base)
    unlisted = [file.path for file in files if file not in used]
    if unlisted:
        reason = f"{len(unlisted)} audio files are listed in no row of {split.metadata}; not used"
        split.note(0, f"{unlisted[0]}, ...", reason, file=base)


def _audio_files(data_dir: Path, split: Split) -> list[AudioFile]:
    """Every audio file under the split's folder, the least deep first, then alphabetically."""
    found = []
    visited = set()
    level = [split.audio] if split.audio else []
    while level:
        below = []
        for folder in sorted(level):
            real = os.path.realpath(data_dir / folder)
            if real in visited:
                continue
            visited.add(real)
            try:
                with os.scandir(data_dir / folder) as entries:
                    for entry in sorted(entries, key=lambda entry: entry.name):
                        path = f"{folder}/{entry.name}"
                        if entry.is_dir():
                            below.append(path)
                        elif entry.name.lower().endswith(AUDIO_SUFFIXES) and entry.is_file():
                            status = entry.stat()
                            found.append(AudioFile(path, status.st_size, status.st_mtime_ns))
            except OSError as error:
                split.unreadable = folder
                reason = f"the folder cannot be read: {error.strerror}"
                split.note(0, folder, reason, file=folder, skipped=True)
        level = below
    return found


def _stem(name: str) -> str:
    for suffix in AUDIO_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def audioset_clip(name: str) -> tuple[str, float, float] | None:
    """Recording, start and end in seconds of a clip named as in AudioSet; None otherwise."""
    match = _AUDIOSET.fullmatch(_stem(Path(name).name))
    return (match[1], float(match[2]), float(match[3])) if match else None


def _report_shared_recordings(data_dir: Path, splits: dict[str, Split]) -> None:
    """Notes recordings that more than one split uses: by AudioSet name, else by equal files."""
    seen: dict[str, list[tuple[Split, ListedClip]]] = {}
    for split in splits.values():
        for clip in split.clips:
            recording = audioset_clip(clip.filename)
            key = recording[0] if recording else _stem(clip.filename)
            for other_split, other in seen.get(key, []):
                if other_split is split or not (recording or _same(data_dir, clip, other)):
                    continue
                reason = f"the same recording as {other.filename} of {other_split.name}"
                split.note(clip.row, clip.filename, reason)
                break
            seen.setdefault(key, []).append((split, clip))


def _same(data_dir: Path, clip: ListedClip, other: ListedClip) -> bool:
    if not (clip.audio and other.audio and clip.audio.size == other.audio.size):
        return False
    with contextlib.suppress(OSError):
        return filecmp.cmp(data_dir / clip.audio.path, data_dir / other.audio.path, shallow=False)
    return False
