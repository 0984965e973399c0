"""A folder in the layout of DCASE 2019 Task 4, with any class list: read and checked.

All metadata is read and all audio found before anything is decoded (`preparation` does that). Flaws
never stop a run unless the set-up itself is wrong: each is a `Problem`, and nothing is guessed;
`listing` says what happens to flawed labels.
"""

import contextlib
import errno
import filecmp
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jfsed_jax.audio.decoding import check_file, special_file
from jfsed_jax.audio.finding import SUFFIXES
from jfsed_jax.datasets.extraction import AudioFile
from jfsed_jax.datasets.listing import (
    ListedClip,
    ListedSplit,
    check_labels,
    class_list,
    read_labels,
)
from jfsed_jax.errors import InputError
from jfsed_jax.sed import label_files, tables
from jfsed_jax.sed.tables import Problem

TREE = """\
DIR/
  audio/train/{weak,unlabel_in_domain,synthetic}/   wav, flac, ogg, mp3 ...
  audio/validation/   audio/eval/public/
  metadata/train/weak.tsv                 filename  event_labels
  metadata/train/unlabel_in_domain.tsv    filename
  metadata/train/synthetic.tsv            filename  onset  offset  event_label
  metadata/validation/validation.tsv      filename  onset  offset  event_label
  metadata/eval/public.tsv                filename  onset  offset  event_label
(strong labels may also be label files of Audacity or Raven, as metadata/train/synthetic/a.txt;
any of the five may be absent; classes.txt, one class a line, is optional)"""

SOURCES = "sources.tsv"  # optional: what the clips were mixed from

# By split: where its table may be (without suffix), and where its audio.
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
STRONG = ("synthetic", "validation", "eval")
# A clip of AudioSet: recording, start and end in seconds, as in Y-CE2f-ttEQ_30.000_40.000.
_AUDIOSET = re.compile(r"Y?([\w-]{11})_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)")


@dataclass
class Folder:
    """What a data folder holds, before anything is decoded."""

    path: Path
    classes: tuple[str, ...]
    splits: dict[str, ListedSplit]
    conventions: list[str]
    missing: list[tuple[str, str, int, str]]  # split, file name, row, why it has no audio

    @property
    def problems(self) -> list[Problem]:
        """Of all splits, by file and row."""
        found = [problem for split in self.splits.values() for problem in split.problems]
        return sorted(found, key=lambda problem: (problem.file, problem.row))


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
    splits: dict[str, ListedSplit] = {}
    conventions: list[str] = []
    for name in _LAYOUT:
        split = _find_split(data_dir, name, conventions)
        if split is not None:
            splits[name] = split
    if not splits or not (data_dir / "audio").is_dir():
        raise InputError(_wrong_folder(data_dir))
    for split in splits.values():
        read_labels(data_dir, split)
    classes = class_list(data_dir, classes, splits)
    missing: list[tuple[str, str, int, str]] = []
    for split in splits.values():
        check_labels(split, classes)
        _match_audio(data_dir, split, conventions, missing)
    if any(split.unreadable for split in splits.values()):
        return Folder(data_dir, classes, splits, conventions, missing)
    if not any(clip.audio for split in splits.values() for clip in split.clips):
        raise InputError(
            f"{data_dir}: none of the {len(missing)} clips that the metadata lists has audio; for "
            f"example {missing[0][1]}: {missing[0][3]}"
            if missing
            else f"{data_dir}: the metadata lists no clip"
        )
    _report_shared_recordings(data_dir, splits)
    conventions = conventions or ["folders, names and tables as in DCASE 2019"]
    _read_origins(data_dir, splits, conventions)
    return Folder(data_dir, classes, splits, conventions, missing)


def _read_origins(data_dir: Path, splits: dict[str, ListedSplit], conventions: list[str]) -> None:
    """Fills in what ``sources.tsv`` says of the clips: filename, source, a row for each pair."""
    path = data_dir / SOURCES
    if not path.is_file():
        return
    clips = {clip.filename: clip for split in splits.values() for clip in split.clips}
    found: dict[str, set[str]] = {}
    try:
        for _, cells in tables.read_table(path, ("filename", "source")).rows:
            if cells["source"]:
                found.setdefault(cells["filename"], set()).add(cells["source"])
    except InputError as error:
        split = next(iter(splits.values()))
        split.note(0, "", f"not used: {error}", file=SOURCES)
        return
    for name in found.keys() & clips.keys():
        clips[name].origins = tuple(sorted(found[name]))
    conventions.append(
        f"{SOURCES}: a run holds out clips with all that share a recording with them"
    )


def _wrong_folder(data_dir: Path) -> str:
    for inner in sorted(data_dir.iterdir()):
        if (inner / "metadata").is_dir() and (inner / "audio").is_dir():
            return f"{data_dir} holds no audio/ and metadata/; did you mean --data {inner}?"
    return f"{data_dir} holds no audio with metadata; --data expects:\n{TREE}"


def _find_split(data_dir: Path, name: str, conventions: list[str]) -> ListedSplit | None:
    tables_at, audio_at = _LAYOUT[name]
    found = [
        path
        for pattern in tables_at
        for suffix in (".tsv", ".csv")
        for path in _named(data_dir / "metadata", pattern + suffix)
    ]
    for path in found:
        check_file(path)
    if name in STRONG:
        # A folder may be there for other reasons, as those of DESED's soundscapes are.
        for path in [data_dir / "metadata" / pattern for pattern in tables_at]:
            inside = any(path in table.parents for table in found)
            if path.is_dir() and not inside and label_files.files_in(path):
                found.append(path)
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
    if found and found[0].is_dir():
        conventions.append(f"{name}: label files, {found[0].relative_to(data_dir)}")
    if len(found) > 1:
        others = ", ".join(str(path.relative_to(data_dir)) for path in found[1:])
        conventions.append(f"{name}: uses {found[0].relative_to(data_dir)}, not {others}")
    if not found and not (folders and name == "unlabel_in_domain"):
        return None
    return ListedSplit(
        name,
        str(found[0].relative_to(data_dir)) if found else None,
        str(folders[0].relative_to(data_dir)) if folders else None,
    )


def _named(folder: Path, pattern: str) -> list[Path]:
    """What is called so in a folder, a link to nothing too: not there is not the same."""
    if "*" in pattern:
        return sorted(folder.glob(pattern), reverse=True)
    return [folder / pattern] if os.path.lexists(folder / pattern) else []


def _match_audio(
    data_dir: Path,
    split: ListedSplit,
    conventions: list[str],
    missing: list[tuple[str, str, int, str]],
) -> None:
    base = split.audio or f"audio/{_LAYOUT[split.name][1][0]}"
    files, no_files = _audio_files(data_dir, split)
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
        by_stem.setdefault(_stem(str(Path(file.path).relative_to(base))), file)
        by_stem.setdefault(_stem(name), file)
        if recording := audioset_clip(name):
            by_recording.setdefault(recording, file)
    why_none: dict[str, str] = {}
    for path, why in no_files.items():
        for key in (str(Path(path).relative_to(base)), Path(path).name, _stem(Path(path).name)):
            why_none.setdefault(key, f"{path}: {why}")
    elsewhere = f"no such file in {base}"
    if split.unreadable:
        elsewhere += ", of which not all can be read"
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
            other_suffix += name not in split.files  # a label file is called after a stem
        elif (recording := audioset_clip(name)) in by_recording:
            file = by_recording[recording]
            other_form += 1
        else:
            clip.missing = True
            reason = why_none.get(name) or why_none.get(_stem(name)) or elsewhere
            missing.append((split.name, name, clip.row, reason))
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


def _audio_files(data_dir: Path, split: ListedSplit) -> tuple[list[AudioFile], dict[str, str]]:
    """Every audio file under the split's folder, the least deep first, then alphabetically.

    And by path what is there and cannot be used as one, with the reason.
    """
    found, no_files = [], {}
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
                names = sorted(os.listdir(data_dir / folder))
            except OSError as error:
                _refuse(data_dir, split, folder, error)
                continue
            for path in (f"{folder}/{name}" for name in names):
                try:
                    status = os.stat(data_dir / path)
                except OSError as error:
                    if error.errno in (errno.EACCES, errno.EPERM):
                        no_files[path] = _refuse(data_dir, split, path, error)
                    else:
                        no_files[path] = _pass_over(data_dir, split, path, error)
                    continue
                if stat.S_ISDIR(status.st_mode):
                    below.append(path)
                elif path.lower().endswith(SUFFIXES):
                    if stat.S_ISREG(status.st_mode):
                        found.append(AudioFile(path, status.st_size, status.st_mtime_ns))
                    else:
                        kind = special_file(status.st_mode)
                        no_files[path] = _pass_over(data_dir, split, path, kind)
        level = below
    return found, no_files


def _refuse(data_dir: Path, split: ListedSplit, path: str, error: OSError) -> str:
    """Notes what keeps an unknown number of clips from being found."""
    why = f"cannot be read: {error.strerror}"
    split.note(0, path, why, file=path, skipped=True)
    split.unreadable = f"{data_dir / path} {why}"
    if error.errno in (errno.EACCES, errno.EPERM):
        split.unreadable += f"; give yourself permission, as with chmod u+rx {data_dir / path}"
    return why


def _pass_over(data_dir: Path, split: ListedSplit, path: str, why: OSError | str | None) -> str:
    """Notes what is called like audio and is no file; a clip that is listed is then missing."""
    if isinstance(why, OSError):
        link = os.path.islink(data_dir / path)
        links = {
            errno.ENOENT: "a symbolic link to what is not there",
            errno.ELOOP: "a symbolic link that leads back to itself",
        }
        why = (link and links.get(why.errno or 0)) or f"cannot be read: {why.strerror}"
    lost = split.metadata is None  # where every file is a clip
    split.note(0, Path(path).name, f"{why}; not used", file=path, skipped=lost)
    return str(why)


def _stem(name: str) -> str:
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def audioset_clip(name: str) -> tuple[str, float, float] | None:
    """Recording, start and end in seconds of a clip named as in AudioSet; None otherwise."""
    match = _AUDIOSET.fullmatch(_stem(Path(name).name))
    return (match[1], float(match[2]), float(match[3])) if match else None


def _report_shared_recordings(data_dir: Path, splits: dict[str, ListedSplit]) -> None:
    """Notes recordings that more than one split uses: by AudioSet name, else by equal files."""
    seen: dict[str, list[tuple[ListedSplit, ListedClip]]] = {}
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
