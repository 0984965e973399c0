"""Labels and audio of a split: its clips with what each is known to hold.

What happens to flawed events once the audio is known [ours]:

- A recording longer than a clip is cut into clips, end to end, its strong labels with it. Weak
  labels do not say when: unless the table says that they hold throughout, those of such a recording
  are not used, and its clips are unlabelled ones.
- Events of one class that overlap are one event in training; what lies past the end of the audio
  is cut or dropped in training. The reference for scoring stays as published.
- Digital silence cannot have labels: such a clip is left out if it has any.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from absl import logging

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets.extraction import TOLERANCE, AudioInfo, clip_start
from jfsed_jax.datasets.folder import STRONG, audioset_clip
from jfsed_jax.datasets.listing import THROUGHOUT, ListedClip, ListedSplit
from jfsed_jax.datasets.store import Extracted
from jfsed_jax.sed.events import Event, cut_events, merge_overlaps


def join(
    split: ListedSplit, extracted: Extracted, front_end: FrontEnd
) -> tuple[dict[str, Any], dict[str, int]]:
    """Labels and audio of one split: clips and events as saved; what the summary says of it.

    Of long weak recordings whose labels cannot be used, the clips are in ``unlabelled``.
    """
    counts: Counter[str] = Counter(listed=len(split.clips))
    strong: dict[str, list[tuple[int, Event]]] = {}
    for row, event in split.events:
        strong.setdefault(event.filename, []).append((row, event))
    clips: list[list] = []
    unlabelled: list[list] = []
    events: list[Event] = []
    reference: list[Event] = []
    formats: list[AudioInfo] = []
    dropped: Counter[str] = Counter()
    for clip in split.clips:
        own = strong.get(clip.filename, [])
        info = _usable(split, clip, bool(own or clip.labels), extracted, counts)
        if info is None or clip.audio is None:
            continue
        _check_length(split, clip, info, front_end.clip_seconds, counts)
        length = front_end.clip_seconds
        if info.clips > 1:
            length = clip_start(info.clips, front_end)
        end = info.duration if info.duration < length - TOLERANCE else length
        before = counts["dropped"]
        cleaned = _clean(split, own, end, counts)
        dropped[clip.filename] += counts["dropped"] - before
        lost = info.clips > 1 and bool(clip.labels) and not clip.throughout
        counts["clips"] += 0 if lost else info.clips
        counts["events"] += len(own)
        counts["without_events"] += split.name in STRONG and not own
        for number in range(info.clips):
            start = clip_start(number, front_end)
            heard = cut_events(cleaned, start, clip_start(number + 1, front_end))
            labels = clip.labels or tuple(sorted({event.event_label for event in heard}))
            record = extracted.positions[clip.audio] + number
            saved = [clip.filename, record, list(info.saved().values()), labels, clip.origins]
            if info.clips > 1:
                saved.append(start)
            if lost:
                saved[3] = ()
                unlabelled.append(saved)
            else:
                clips.append(saved)
        events += cleaned
        reference += [event for _, event in own]
        formats.append(info)
    _note_formats(split, formats, front_end)
    _warn(split, unlabelled, dropped)
    return {
        "clips": clips,
        "unlabelled": unlabelled,
        "events": events,
        "reference": reference,
    }, dict(counts)


def _warn(split: ListedSplit, unlabelled: Sequence[list], dropped: Counter[str]) -> None:
    """Says which labels are lost."""
    if names := list(dict.fromkeys(filename for filename, *_ in unlabelled)):
        logging.warning(
            "%s: weak recordings longer than a clip, whose labels do not say when and are not used "
            "(if they hold throughout, say yes in a column %s): %d, now %d unlabelled clips: %s",
            split.metadata,
            THROUGHOUT,
            len(names),
            len(unlabelled),
            _some(names),
        )
    if split.name == "synthetic" and (lost := +dropped):
        logging.warning(
            "%s: events that begin after the end of their audio, dropped in training: %d, of %s",
            split.metadata,
            lost.total(),
            _some(list(lost)),
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


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
    if abs(info.duration - length) > TOLERANCE:
        short = info.duration < length
        counts["short" if short else "long"] += 1
        what = "padded with silence" if short else "cut"
        if info.clips > 1:
            what = f"cut into {info.clips} clips"
        split.note(
            0, f"{info.duration:.2f} s", f"a clip has {length:g} s; {what}", file=clip.audio.path
        )
    if info.clips > 1 and clip.labels and not clip.throughout:
        reason = (
            f"weak labels of a recording of {info.clips} clips do not say when: not used, its "
            f"clips are unlabelled; if they hold throughout, say yes in a column {THROUGHOUT}"
        )
        split.note(clip.row, ",".join(clip.labels), reason, skipped=True)
    recording = audioset_clip(clip.filename)
    if recording and abs(recording[2] - recording[1] - length) > TOLERANCE:
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
            lost = split.name == "synthetic"
            split.note(row, f"{event.onset} {event.offset}", reason, skipped=lost)
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
