"""A folder in the layout of DCASE 2019 Task 4, with any class list: validated, then prepared.

`read_folder` reads all metadata and finds all audio before anything is decoded; `prepare` decodes
what is new and joins both. Flaws never stop a run unless the set-up itself is wrong: each is a line
of ``problems.tsv``, each clip without audio a line of ``missing.tsv``, and the summary counts them.

What happens to flawed labels [ours]:

- A label that is not in the class list is never another class. Strong: that event is left out.
  Weak: that label is left out, and the clip if it has no other. If it looks like a misspelt class
  the whole training clip is left out, for its other labels would say that the class is absent.
- A label repeated in a weak row, or an event given twice, counts once.
- Events of one class that overlap are one event in training. Offsets past the end of the audio are
  cut in training. The reference for scoring stays as published.
- A clip without events is a clip in which no class occurs.
- Digital silence cannot have labels: such a clip is left out if it has any.
"""

import contextlib
import difflib
import fcntl
import filecmp
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from absl import logging

from jfsed_jax import tables
from jfsed_jax.datasets.clips import Prepared, load
from jfsed_jax.datasets.store import AudioFile, AudioInfo, Extracted, Store, write_atomically
from jfsed_jax.errors import InputError
from jfsed_jax.events import DCASE2019_CLASSES, Event, merge_overlaps
from jfsed_jax.features import FrontEnd
from jfsed_jax.tables import Problem

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

# A clip is as long as it should be if it is so within this; encoders add and drop a little.
_TOLERANCE = 0.1
_FEATURES_VERSION = 2  # of what a features folder holds; two are never mixed
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
_STRONG = ("synthetic", "validation", "eval")
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
            _note(split, row, label, reason + "the class list to classes.txt")
    return tuple(sorted(rows))


def _note(
    split: Split,
    row: int,
    found: str,
    reason: str,
    *,
    file: str | None = None,
    skipped: bool = False,
) -> None:
    split.problems.append(Problem(file or split.metadata or "", row, found, reason, skipped))


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
            _note(split, row, label, f"{reason}; the clip is left out until it is", skipped=True)
            return True
        what = "label" if split.name == "weak" else "event"
        _note(split, row, label, f"{reason}; the {what} is left out", skipped=True)
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
                _note(split, clip.row, clip.filename, reason)
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
        if recording := _recording(name):
            by_recording.setdefault(recording, file)
    used, other_suffix, other_form = set(), 0, 0
    for clip in split.clips:
        name = clip.filename
        if os.path.isabs(name) or ".." in re.split(r"[\\/]", name):
            clip.left_out = "its name leaves the data folder"
            reason = "the name leaves the data folder; expected the name of a file in " + base
            _note(split, clip.row, name, reason, skipped=True)
            continue
        if name in by_name:
            file = by_name[name]
        elif _stem(name) in by_stem:
            file = by_stem[_stem(name)]
            other_suffix += 1
        elif (recording := _recording(name)) in by_recording:
            file = by_recording[recording]
            other_form += 1
        else:
            clip.missing = True
            missing.append((split.name, name, clip.row, base))
            continue
        if file in used:
            clip.left_out = "its audio is that of another name"
            _note(split, clip.row, name, f"the audio is {file.path}, which another row names too")
            continue
        used.add(file)
        clip.audio = file
    if other_suffix:
        conventions.append(f"{split.name}: {other_suffix} clips found under another suffix")
    if other_form:
        conventions.append(f"{split.name}: {other_form} clips found with or without the leading Y")
    if split.audio is None:
        _note(split, 0, "", f"there is no such folder; {len(split.clips)} clips", file=base)
    unlisted = [file.path for file in files if file not in used]
    if unlisted:
        reason = f"{len(unlisted)} audio files are listed in no row of {split.metadata}; not used"
        _note(split, 0, f"{unlisted[0]}, ...", reason, file=base)


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
                _note(split, 0, folder, reason, file=folder, skipped=True)
        level = below
    return found


def _stem(name: str) -> str:
    for suffix in AUDIO_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _recording(name: str) -> tuple[str, float, float] | None:
    """Recording, start and end in seconds of a clip named as in AudioSet; None otherwise."""
    match = _AUDIOSET.fullmatch(_stem(Path(name).name))
    return (match[1], float(match[2]), float(match[3])) if match else None


def _report_shared_recordings(data_dir: Path, splits: dict[str, Split]) -> None:
    """Notes recordings that more than one split uses: by AudioSet name, else by equal files."""
    seen: dict[str, list[tuple[Split, ListedClip]]] = {}
    for split in splits.values():
        for clip in split.clips:
            recording = _recording(clip.filename)
            key = recording[0] if recording else _stem(clip.filename)
            for other_split, other in seen.get(key, []):
                if other_split is split or not (recording or _same(data_dir, clip, other)):
                    continue
                reason = f"the same recording as {other.filename} of {other_split.name}"
                _note(split, clip.row, clip.filename, reason)
                break
            seen.setdefault(key, []).append((split, clip))


def _same(data_dir: Path, clip: ListedClip, other: ListedClip) -> bool:
    if not (clip.audio and other.audio and clip.audio.size == other.audio.size):
        return False
    with contextlib.suppress(OSError):
        return filecmp.cmp(data_dir / clip.audio.path, data_dir / other.audio.path, shallow=False)
    return False


# Preparing ---------------------------------------------------------------------------------------


def prepare(
    data_dir: str | Path,
    front_end: FrontEnd,
    *,
    features_dir: str | Path | None = None,
    classes: Sequence[str] | None = None,
    strict: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Prepared:
    """Validates a data folder, extracts the features that are missing, and opens the result.

    The features folder gets the shards, ``prepared.json``, ``missing.tsv`` and ``problems.tsv``;
    the data folder is only read. A second call with nothing changed decodes nothing.

    Args:
      data_dir: a folder like `TREE`.
      front_end: how to make the features.
      features_dir: where to keep them; by default a folder of the user's cache that is named after
        the data folder and the front end.
      classes: the class list if it is settled already; see `read_folder`.
      strict: a missing clip or a flaw that costs a clip or a label is an error.
      workers: processes that decode; by default one per core.
      progress: show a bar.

    Raises:
      InputError: the folder cannot be used at all, or `strict` and something is wrong.
    """
    data_dir = Path(data_dir)
    directory = (
        Path(features_dir) if features_dir is not None else features_home(data_dir, front_end)
    )
    folder = read_folder(data_dir, classes)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{directory} cannot be made: {error.strerror}; pass --features"
        ) from error
    with _only_one(directory):
        _check_owner(directory, data_dir, front_end)
        _write_problems(directory, folder)
        for split in folder.splits.values():
            if split.unreadable:
                raise InputError(
                    f"{data_dir / split.unreadable} cannot be read; give yourself permission, as "
                    f"with chmod u+rx {data_dir / split.unreadable}"
                )
        if strict:
            _refuse_flaws(directory, folder)
        store = Store(directory, data_dir, front_end)
        files = {
            name: [clip.audio for clip in split.clips if clip.audio]
            for name, split in folder.splits.items()
        }
        workers = workers or len(os.sched_getaffinity(0))
        try:
            with _bar(progress) as update:
                extracted = store.extract(files, workers=workers, progress=update)
        except InputError as error:
            split = next(iter(folder.splits.values()))
            _note(split, 0, "", str(error), file=str(directory), skipped=True)
            with contextlib.suppress(InputError):  # as where the disk is full
                _write_problems(directory, folder)
            raise
        saved: dict[str, Any] = {
            "data": data_dir.resolve().name,
            "classes": folder.classes,
            "front_end": asdict(front_end),
            "conventions": folder.conventions,
            "splits": {},
            "summary": {},
        }
        for name, split in folder.splits.items():
            saved["splits"][name], saved["summary"][name] = join(split, extracted[name], front_end)
            saved["splits"][name]["shards"] = [
                str(path.relative_to(directory)) for path in extracted[name].shards
            ]
        _write_problems(directory, folder)
        if strict:
            _refuse_flaws(directory, folder)
        write_atomically(directory / "prepared.json", (json.dumps(saved) + "\n").encode())
        store.remove_others(path for split in extracted.values() for path in split.shards)
    return load(directory)


def features_home(data_dir: Path, front_end: FrontEnd) -> Path:
    """The folder of the user's cache for the features of a data folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = json.dumps([str(data_dir.resolve()), asdict(front_end), _FEATURES_VERSION])
    name = re.sub(r"\W+", "-", data_dir.resolve().name)
    return cache / "jfsed_jax" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Waits for any other process that prepares into this folder; a killed one never blocks."""
    with open(directory / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("waiting for another process that prepares %s", directory)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_owner(directory: Path, data_dir: Path, front_end: FrontEnd) -> None:
    """A features folder belongs to one data folder and one front end; nothing is ever mixed."""
    path = directory / "features.json"
    owner: dict[str, Any] = {
        "data": str(data_dir.resolve()),
        "front_end": asdict(front_end),
        "version": _FEATURES_VERSION,
    }
    if not path.exists():
        strangers = [entry.name for entry in directory.iterdir() if entry.name != ".lock"]
        if strangers:
            raise InputError(
                f"{directory} is not a folder of features, it holds {strangers[0]!r}; "
                "pass --features with an empty folder or a new one"
            )
        write_atomically(path, (json.dumps(owner, indent=1) + "\n").encode())
        return
    found = json.loads(path.read_bytes())
    if found == owner:
        return
    differs = [
        f"{key} {value}"
        for key, value in (found | found["front_end"]).items()
        if key != "front_end" and (owner | owner["front_end"]).get(key) != value
    ]
    raise InputError(
        f"{directory} holds features of {', '.join(differs)}, which is not what is asked for now; "
        "pass --features with another folder, or delete this one"
    )


def _write_problems(directory: Path, folder: Folder) -> None:
    tables.write_table(
        directory / "missing.tsv",
        ("split", "filename", "row", "reason"),
        [
            (split, name, row, f"no such file in {where}")
            for split, name, row, where in folder.missing
        ],
    )
    tables.write_table(
        directory / "problems.tsv",
        ("file", "row", "found", "reason", "left_out"),
        [
            (p.file, p.row or "", p.found, p.reason, "yes" if p.skipped else "no")
            for p in folder.problems
        ],
    )


def _refuse_flaws(directory: Path, folder: Folder) -> None:
    costly = sum(problem.skipped for problem in folder.problems)
    if folder.missing or costly:
        raise InputError(
            f"{folder.path}: {len(folder.missing)} clips have no audio and {costly} flaws cost a "
            f"clip or a label, which --strict does not accept; see {directory}/missing.tsv and "
            "problems.tsv"
        )


@contextlib.contextmanager
def _bar(shown: bool):
    """A progress bar that appears with the first clip decoded."""
    from tqdm import tqdm

    bar = None

    def update(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            interval = 0.1 if sys.stderr.isatty() else 10
            bar = tqdm(
                total=total,
                desc="extracting",
                unit=" clips",
                mininterval=interval,
                disable=not shown,
            )
        bar.update(done - bar.n)

    try:
        yield update
    finally:
        if bar is not None:
            bar.close()


def join(
    split: Split, extracted: Extracted, front_end: FrontEnd
) -> tuple[dict[str, Any], dict[str, int]]:
    """Labels and audio of one split: clips and events as saved; what the summary says of it."""
    counts: Counter[str] = Counter(listed=len(split.clips))
    strong: dict[str, list[tuple[int, Event]]] = {}
    for row, event in split.events:
        strong.setdefault(event.filename, []).append((row, event))
    clips: list[list] = []
    events: list[Event] = []
    reference: list[Event] = []
    formats: list[AudioInfo] = []
    for clip in split.clips:
        own = strong.get(clip.filename, [])
        info = _usable(split, clip, bool(own or clip.labels), extracted, counts)
        if info is None or clip.audio is None:
            continue
        _check_length(split, clip, info, front_end.clip_seconds, counts)
        short = info.duration < front_end.clip_seconds - _TOLERANCE
        cleaned = _clean(split, own, info.duration if short else front_end.clip_seconds, counts)
        counts["clips"] += 1
        counts["events"] += len(own)
        counts["without_events"] += split.name in _STRONG and not own
        labels = clip.labels or tuple(sorted({event.event_label for event in cleaned}))
        clips.append([clip.filename, extracted.positions[clip.audio], astuple(info), labels])
        events += cleaned
        reference += [event for _, event in own]
        formats.append(info)
    _note_formats(split, formats, front_end)
    return {"clips": clips, "events": events, "reference": reference}, dict(counts)


def _usable(
    split: Split, clip: ListedClip, labelled: bool, extracted: Extracted, counts: Counter[str]
) -> AudioInfo | None:
    """What is known of a clip's audio; None, counted and noted, if the clip is not used."""
    if clip.audio is None:
        counts["missing" if clip.missing else "left_out"] += 1
        return None
    counts["found"] += 1
    if reason := extracted.errors.get(clip.audio):
        counts["unusable"] += 1
        _note(split, 0, clip.filename, reason, file=clip.audio.path, skipped=True)
        return None
    info = extracted.info[clip.audio]
    if info.peak is None:
        reason = "digital silence" + (", so its labels cannot be right" if labelled else "")
        _note(split, 0, clip.filename, reason, file=clip.audio.path, skipped=labelled)
        if labelled:
            clip.left_out = reason
    if clip.left_out:
        counts["left_out"] += 1
        return None
    return info


def _check_length(
    split: Split, clip: ListedClip, info: AudioInfo, length: float, counts: Counter[str]
) -> None:
    assert clip.audio is not None
    if abs(info.duration - length) > _TOLERANCE:
        short = info.duration < length
        counts["short" if short else "long"] += 1
        reason = f"a clip has {length:g} s; " + ("padded with silence" if short else "cut")
        _note(split, 0, f"{info.duration:.2f} s", reason, file=clip.audio.path)
    recording = _recording(clip.filename)
    if recording and abs(recording[2] - recording[1] - length) > _TOLERANCE:
        counts["other_span"] += 1
        reason = f"the name spans {recording[2] - recording[1]:g} s where a clip has {length:g} s"
        _note(split, clip.row, clip.filename, f"{reason}; the audio has {info.duration:.2f} s")


def _note_formats(split: Split, found: Sequence[AudioInfo], front_end: FrontEnd) -> None:
    """One line for each sample rate, number of channels and encoding that is not as expected."""
    usual = Counter(info.encoding for info in found).most_common(1)
    kinds: Counter[tuple[str, str]] = Counter()
    for info in found:
        if info.sample_rate != front_end.sample_rate:
            reason = f"resampled to {front_end.sample_rate} Hz"
            if info.sample_rate / 2 < front_end.fmax:
                reason += f"; nothing above {info.sample_rate / 2:g} Hz"
            kinds[f"{info.sample_rate} Hz", reason] += 1
        if info.channels > 1:
            kinds[f"{info.channels} channels", "mixed to mono"] += 1
        if info.encoding != usual[0][0]:
            kinds[info.encoding, f"most of the set is {usual[0][0]}"] += 1
    for (what, reason), count in sorted(kinds.items()):
        clips = "1 clip" if count == 1 else f"{count} clips"
        _note(split, 0, what, f"{clips}: {reason}", file=split.audio)


def _clean(
    split: Split, own: Iterable[tuple[int, Event]], end: float, counts: Counter[str]
) -> list[Event]:
    """One clip's events as training sees them."""
    kept: list[tuple[int, Event]] = []
    for row, event in sorted(own, key=lambda item: item[1]):
        if event.onset >= end:
            counts["dropped"] += 1
            reason = f"begins after the end of the audio at {end:g} s; dropped in training"
            _note(split, row, f"{event.onset} {event.offset}", reason)
            continue
        if event.offset > end:
            counts["shortened"] += 1
            reason = f"ends after the end of the audio at {end:g} s; cut there in training"
            _note(split, row, f"{event.onset} {event.offset}", reason)
            event = event._replace(offset=end)
        for other_row, other in kept:
            if other.event_label == event.event_label and event.onset <= other.offset:
                counts["merged"] += 1
                reason = f"overlaps or touches row {other_row}, of the same class; "
                _note(split, row, event.event_label, reason + "one event in training")
                break
        kept.append((row, event))
    return merge_overlaps(event for _, event in kept)


SUMMARY_COLUMNS = {
    "listed": "listed",
    "found": "found",
    "missing": "missing",
    "unusable": "undecodable",
    "left_out": "left out",
    "clips": "clips",
    "short": "short",
    "long": "long",
    "events": "events",
    "merged": "merged",
    "shortened": "cut",
    "dropped": "dropped",
    "without_events": "no events",
}


def format_summary(prepared: Prepared) -> str:
    """The table that `prepare` prints: a row per split, then what is wrong and where it is said."""
    rows = [["split", *SUMMARY_COLUMNS.values()]]
    for name, counts in prepared.summary.items():
        rows.append([name, *(f"{counts.get(key, 0):,}" for key in SUMMARY_COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    lines += ["", f"{len(prepared.classes)} classes: {', '.join(prepared.classes)}"]
    lines += prepared.conventions
    lines.append(f"features, missing.tsv, problems.tsv: {prepared.directory}")
    return "\n".join(lines)
