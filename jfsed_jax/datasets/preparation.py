"""From a folder of audio and labels to clips that can be trained on and scored.

`prepare` reads the folder (`folder`), decodes what is new (`store`) and joins both. Every flaw is a
line of ``problems.tsv``, every clip without audio one of ``missing.tsv``; the summary counts them.

What happens to flawed events once the audio is known [ours]:

- Events of one class that overlap are one event in training; what lies past the end of the audio
  is cut or dropped in training. The reference for scoring stays as published.
- Digital silence cannot have labels: such a clip is left out if it has any.
"""

import contextlib
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from jfsed_jax.atomic import write_whole
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets import features_folder
from jfsed_jax.datasets.clips import Prepared, load
from jfsed_jax.datasets.extraction import AudioInfo
from jfsed_jax.datasets.folder import STRONG, Folder, audioset_clip, read_folder
from jfsed_jax.datasets.listing import ListedClip, ListedSplit
from jfsed_jax.datasets.store import Extracted, Store
from jfsed_jax.errors import InputError
from jfsed_jax.progress import progress_bar
from jfsed_jax.sed import tables
from jfsed_jax.sed.events import Event, merge_overlaps

# A clip is as long as it should be if it is so within this; encoders add and drop a little.
_TOLERANCE = 0.1


def prepare(
    data_dir: str | Path,
    front_end: FrontEnd,
    *,
    features_dir: str | Path | None = None,
    classes: Sequence[str] | None = None,
    strict: bool = False,
    workers: int | None = None,
    verify: bool = False,
    progress: bool = True,
) -> Prepared:
    """Validates a data folder, extracts the features that are missing, and opens the result.

    The features folder gets the shards, ``prepared.json``, ``missing.tsv`` and ``problems.tsv``;
    the data folder is only read. A second call with nothing changed decodes nothing.

    Args:
      data_dir: a folder like `folder.TREE`.
      front_end: how to make the features.
      features_dir: where to keep them; by default a folder of the user's cache that is named after
        the data folder and the front end.
      classes: the class list if it is settled already; see `read_folder`.
      strict: a missing clip or a flaw that costs a clip or a label is an error.
      workers: processes that decode; by default one per core.
      verify: read all features that are there, and make anew what is damaged.
      progress: show a bar.

    Raises:
      InputError: the folder cannot be used at all, or `strict` and something is wrong.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A decoding process imports the script that started it, and is about to do it all again.
        raise InputError(
            "a script that prepares data must call it under if __name__ == '__main__':, or with "
            "workers=1"
        )
    data_dir = Path(data_dir)
    directory = (
        Path(features_dir)
        if features_dir is not None
        else features_folder.features_home(data_dir, front_end)
    )
    try:
        folder = read_folder(data_dir, classes)
    except OSError as error:
        what = error.filename or data_dir
        raise InputError(f"{what} cannot be read: {error.strerror}") from error
    with features_folder.only_one(directory):
        features_folder.check_owner(directory, data_dir, front_end)
        _write_problems(directory, folder)
        for split in folder.splits.values():
            if split.unreadable:
                raise InputError(split.unreadable)
        if strict:
            _refuse_flaws(directory, folder)
        store = Store(directory, data_dir, front_end)
        files = {
            name: [clip.audio for clip in split.clips if clip.audio]
            for name, split in folder.splits.items()
        }
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
        workers = workers or cores or 1
        try:
            with _bar(progress) as update:
                extracted = store.extract(files, workers=workers, progress=update, verify=verify)
        except InputError as error:
            split = next(iter(folder.splits.values()))
            split.note(0, "", str(error), file=str(directory), skipped=True)
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
        write_whole(directory / features_folder.PREPARED, json.dumps(saved) + "\n")
        kept = [path for split in extracted.values() for path in split.shards]
        features_folder.remove(directory, store.superseded(kept))
    return load(directory)


def _write_problems(directory: Path, folder: Folder) -> None:
    tables.write_table(
        directory / "missing.tsv",
        ("split", "filename", "row", "reason"),
        folder.missing,
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
    bar = None

    def update(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = progress_bar(total=total, desc="extracting", unit="clip", disable=not shown)
        bar.update(done - bar.n)

    try:
        yield update
    finally:
        if bar is not None:
            bar.close()


def join(
    split: ListedSplit, extracted: Extracted, front_end: FrontEnd
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
        counts["without_events"] += split.name in STRONG and not own
        labels = clip.labels or tuple(sorted({event.event_label for event in cleaned}))
        record = extracted.positions[clip.audio]
        clips.append([clip.filename, record, astuple(info), labels, clip.origins])
        events += cleaned
        reference += [event for _, event in own]
        formats.append(info)
    _note_formats(split, formats, front_end)
    return {"clips": clips, "events": events, "reference": reference}, dict(counts)


def _usable(
    split: ListedSplit, clip: ListedClip, labelled: bool, extracted: Extracted, counts: Counter[str]
) -> AudioInfo | None:
    """What is known of a clip's audio; None, counted and noted, if the clip is not used."""
    if clip.audio is None:
        counts["missing" if clip.missing else "left_out"] += 1
        return None
    counts["found"] += 1
    if reason := extracted.errors.get(clip.audio):
        counts["unusable"] += 1
        split.note(0, clip.filename, reason, file=clip.audio.path, skipped=True)
        return None
    info = extracted.info[clip.audio]
    if info.peak is None:
        reason = "digital silence" + (", so its labels cannot be right" if labelled else "")
        split.note(0, clip.filename, reason, file=clip.audio.path, skipped=labelled)
        if labelled:
            clip.left_out = reason
    if clip.left_out:
        counts["left_out"] += 1
        return None
    return info


def _check_length(
    split: ListedSplit, clip: ListedClip, info: AudioInfo, length: float, counts: Counter[str]
) -> None:
    assert clip.audio is not None
    if abs(info.duration - length) > _TOLERANCE:
        short = info.duration < length
        counts["short" if short else "long"] += 1
        reason = f"a clip has {length:g} s; " + ("padded with silence" if short else "cut")
        split.note(0, f"{info.duration:.2f} s", reason, file=clip.audio.path)
    recording = audioset_clip(clip.filename)
    if recording and abs(recording[2] - recording[1] - length) > _TOLERANCE:
        counts["other_span"] += 1
        reason = f"the name spans {recording[2] - recording[1]:g} s where a clip has {length:g} s"
        split.note(clip.row, clip.filename, f"{reason}; the audio has {info.duration:.2f} s")


def _note_formats(split: ListedSplit, found: Sequence[AudioInfo], front_end: FrontEnd) -> None:
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
        split.note(0, what, f"{clips}: {reason}", file=split.audio)


def _clean(
    split: ListedSplit, own: Iterable[tuple[int, Event]], end: float, counts: Counter[str]
) -> list[Event]:
    """One clip's events as training sees them."""
    kept: list[tuple[int, Event]] = []
    for row, event in sorted(own, key=lambda item: item[1]):
        if event.onset >= end:
            counts["dropped"] += 1
            reason = f"begins after the end of the audio at {end:g} s; dropped in training"
            split.note(row, f"{event.onset} {event.offset}", reason)
            continue
        if event.offset > end:
            counts["shortened"] += 1
            reason = f"ends after the end of the audio at {end:g} s; cut there in training"
            split.note(row, f"{event.onset} {event.offset}", reason)
            event = event._replace(offset=end)
        for other_row, other in kept:
            if other.event_label == event.event_label and event.onset <= other.offset:
                counts["merged"] += 1
                reason = f"overlaps or touches row {other_row}, of the same class; "
                split.note(row, event.event_label, reason + "one event in training")
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
