"""Figures 3, 5, 6 and 7 of the paper and the pictures of clips, from the files of a run.

Axis letters: ``N`` clips, ``T`` frames, ``F`` mel bands, ``C`` event classes.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.audio.encoding import MIME
from jfsed_jax.errors import InputError
from jfsed_jax.report.charts import Chart, Key, Mark, Series, curve_key, line_chart, mark_key
from jfsed_jax.report.clip_pictures import ClipPicture, Lane, clip_picture
from jfsed_jax.report.formatting import label_text, number, significant
from jfsed_jax.report.heat_maps import HeatMap, confusion_map
from jfsed_jax.report.listings import Bar, Listing, Noted
from jfsed_jax.report.spectrograms import Contrast, known_bands, shared_contrast
from jfsed_jax.runs.saved_run import SavedRun, SavedSplit, is_number
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.sed import scoring
from jfsed_jax.sed.events import Event, cut_events
from jfsed_jax.sed.window_rules import ClassWindow

# Of more than this many charts in a row, the rest is folded away.
SHOWN = 12
SHOWN_CLIPS = 4

# Figures 5 and 6 ---------------------------------------------------------------------------------


class TaggedSplit(NamedTuple):
    """Confusions of a split; `title` is "" where there is one split only.

    Large maps are not `paired` side by side, and the second of them is `folded` away.
    """

    title: str
    maps: list[HeatMap]
    folded: HeatMap | None
    paired: bool


def tag_confusions(run: SavedRun) -> list[TaggedSplit]:
    """Figures 5 and 6: confusions of tags, for every evaluated split that has some."""
    found = []
    for split in run.splits:
        maps = _confusions(run, split)
        if not maps:
            continue
        small = len(run.classes) <= SHOWN
        folded = None if small or len(maps) == 1 else maps.pop()
        found.append(TaggedSplit(_title(run, split), maps, folded, small))
    return found


def _title(run: SavedRun, split: SavedSplit) -> str:
    return split.title if len(run.splits) > 1 else ""


def _confusions(run: SavedRun, split: SavedSplit) -> list[HeatMap]:
    classes = run.classes
    maps = []
    posteriors = split.posteriors
    if posteriors is not None and "clip_reference" in posteriors:
        truth = posteriors["clip_reference"].astype(bool)
        caption = "Tags from the clip head, above 0.5"
        maps.append(confusion_map(classes, truth, posteriors["clip"] > 0.5, caption=caption))
    if split.reference is not None and split.estimates is not None and classes:
        names = [] if posteriors is None else [str(name) for name in posteriors["filenames"]]
        names = list(dict.fromkeys([*names, *split.reference.filenames]))
        folder = split.folder
        tags = []
        for file, events in ((folder.reference, split.reference), (folder.events, split.estimates)):
            scoring.check_events(events.events, names, classes, str(file), events.rows)
            tags.append(scoring.clip_tags(events.events, names, classes))
        maps.append(confusion_map(classes, *tags, caption="Tags from the events that survive"))
    return maps


# Figure 7 ----------------------------------------------------------------------------------------


class Durations(NamedTuple):
    """The distributions of figure 7, what their lines are, and the windows they lead to."""

    keys: list[Key]
    charts: list[Chart]
    listing: Listing


def _class_windows(run: SavedRun) -> list[tuple[ClassWindow, np.ndarray]]:
    """What meta.json says of each class's windows, and its durations <float64>[N], sorted."""
    try:
        durations = run.meta.get("durations", {})
        windows = [
            ClassWindow(**{field: entry[field] for field in ClassWindow._fields})
            for entry in run.meta.get("window_details", [])
        ]
        return [(w, np.sort(np.asarray(durations[w.label], np.float64))) for w in windows]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{Workdir(run.workdir).meta} is damaged: expected 'durations' by class and "
            f"'window_details' with {', '.join(ClassWindow._fields)}; "
            f"{type(error).__name__}: {error}"
        ) from error


def class_durations(run: SavedRun) -> Durations | None:
    """Figure 7: each class's durations, their knee and the windows of equation 7."""
    reports = _class_windows(run)
    if not reports:
        return None
    rate = float(run.meta.get("frame_rate") or 60.0)
    # Where some are folded away, those with the most events are shown.
    drawn = sorted(reports, key=lambda r: -r[0].num_events) if len(reports) > SHOWN else reports
    fixed = sorted({w.fixed for w, _ in reports})
    caption = "Windows of the median filters in frames"
    caption += f"; the fixed rule has {fixed[0]}" if fixed else ""
    return Durations(
        keys=[
            curve_key("share of events up to this length"),
            mark_key(Mark("mean", "mean of all", 0.0)),
            mark_key(Mark("knee", "knee", 0.0, 0.0)),
            mark_key(Mark("esp", "mean up to the knee", 0.0)),
            Key("ESP window", "window"),
        ],
        charts=[_duration_chart(w, durations, rate) for w, durations in drawn if durations.size],
        listing=Listing(
            caption=caption,
            columns=["Class", "Events", "Mean, s", "Knee, s (N)", "avg", "ESP"],
            rows=[
                [
                    label_text(w.label),
                    number(w.num_events, 0),
                    number(w.mean, 2) if w.num_events else "–",
                    f"{w.knee:.2f} ({w.knee_index})" if w.clear_knee else "–",
                    *(Noted(frames, f"{frames / rate:.2f} s") for frames in (w.avg, w.esp)),
                ]
                for w, _ in reports
            ],
        ),
    )


def _duration_chart(window: ClassWindow, durations: np.ndarray, rate: float) -> Chart:
    n = len(durations)
    kept = durations[: max(1, window.knee_index)]
    shares = np.arange(1, n + 1) / n
    # Equal durations are one step; long lists are drawn at even shares.
    keep = np.flatnonzero(np.append(np.diff(durations) > 0, True))
    if len(keep) > 240:
        keep = keep[np.unique(np.linspace(0, len(keep) - 1, 240).astype(int))]
    curve = Series(
        "cumulative share",
        np.concatenate([[0.0, durations[0]], durations[keep]]),
        np.concatenate([[0.0, 0.0], shares[keep]]),
    )
    marks = [Mark("mean", f"mean of all: {window.mean:.2f} s", window.mean)]
    knee = "no clear knee"
    if window.clear_knee:
        marks.append(Mark("esp", f"mean up to the knee: {kept.mean():.2f} s", float(kept.mean())))
        marks.append(Mark("knee", f"knee: {window.knee:.2f} s", window.knee, len(kept) / n))
        knee = f"knee {window.knee:.2f} s ({len(kept)} of {n})"
    return line_chart(
        label_text(window.label),
        [curve],
        x_label="duration, seconds",
        y_label="share of events",
        x_range=(0.0, float(durations[-1]) * 1.02),
        y_range=(0.0, 1.0),
        marks=marks,
        span=(0.0, window.esp / rate),
        note=(
            f"mean {window.mean:.2f} s, {knee}",
            f"avg {window.avg} frames ({window.avg / rate:.2f} s), "
            f"ESP {window.esp} ({window.esp / rate:.2f} s)",
        ),
        step=True,
    )


# Figure 3 ----------------------------------------------------------------------------------------


class WeightSums(NamedTuple):
    """Sums by class, and of which clips; the weight is (1 - p)^gamma if `lin`, else 1 - p^gamma."""

    kinds: str
    gamma: str
    lin: bool
    listing: Listing


def weight_sums(run: SavedRun) -> WeightSums | None:
    """Figure 3: class-wise sums of p and of the adaptive weight, where a run saved them."""
    if run.weights is None:
        return None
    path = Workdir(run.workdir).weights
    try:
        labels = [str(label) for label in run.weights["classes"]]
        probability = [float(v) for v in run.weights["probability"]]
        weight = [float(v) for v in run.weights["weight"]]
        rows = [
            [label_text(label), Bar(p, max(probability), 2), Bar(w, max(weight), 2)]
            for p, w, label in sorted(zip(probability, weight, labels, strict=True))
        ]
        epoch = significant(float(run.weights["epoch"]))
        gamma = significant(float(run.weights["gamma"]))
        lin = run.weights["focal_form"] == "lin"
        counts = {str(kind): int(n) for kind, n in run.weights["clips"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: expected epoch, gamma, focal_form, clips by kind, classes, "
            "probability and weight (one a class)"
        ) from error
    listing = Listing(
        caption=f"Epoch {epoch}, hardest class first",
        columns=["Class", "Sum of p", "Sum of the weight"],
        rows=rows,
    )
    kinds = " and ".join(f"{n} {kind}" for kind, n in counts.items())
    return WeightSums(kinds, gamma, lin, listing)


# Clips -------------------------------------------------------------------------------------------


class SplitClips(NamedTuple):
    """Example clips of a split, the `rest` folded away; `title` is "" where there is one split."""

    title: str
    shown: list[ClipPicture]
    rest: list[ClipPicture]


def example_pictures(run: SavedRun) -> list[SplitClips]:
    """Example clips: log-mel, reference, events and posteriors."""
    found = []
    contrast = example_contrast(run)
    for split in run.own_splits:
        count = 0 if split.examples is None else len(split.examples["filenames"])
        pictures = [_clip(run, split, i, contrast) for i in range(count)]
        if pictures:
            title = _title(run, split)
            found.append(SplitClips(title, pictures[:SHOWN_CLIPS], pictures[SHOWN_CLIPS:]))
    return found


def example_contrast(run: SavedRun) -> Contrast | None:
    """Of the log-mel of all example clips."""
    examples = [split.examples for split in run.splits if split.examples is not None]
    return shared_contrast(found["mel"] for found in examples)


def any_posteriors(run: SavedRun) -> bool:
    """Whether the posteriors of some example are known."""
    return any(
        split.examples is not None and split.posteriors is not None and "frames" in split.posteriors
        for split in run.own_splits
    )


def _clip(run: SavedRun, split: SavedSplit, index: int, contrast: Contrast | None) -> ClipPicture:
    assert split.examples is not None
    name = str(split.examples["filenames"][index])
    mel = split.examples["mel"][index]
    # Of a recording that was cut, a clip of it.
    recording, begin = name, 0.0
    if "starts" in split.examples:
        recording = str(split.examples["recordings"][index])
        begin = float(split.examples["starts"][index])
    tables_ = (split.reference, split.estimates)
    reference, estimates = (
        [event for event in (found.events if found else []) if event.filename == recording]
        for found in tables_
    )
    frames = None
    posteriors = split.posteriors
    if posteriors is not None and "frames" in posteriors:
        found = np.flatnonzero(posteriors["filenames"] == name)
        frames = posteriors["frames"][found[0]] if found.size else None
    front_end = run.meta.get("front_end") or {}
    seconds = front_end.get("clip_seconds")
    if not is_number(seconds):
        seconds = len(mel) / float(run.meta.get("frame_rate") or 60.0)
    if name != recording:
        reference, estimates = (
            cut_events(events, begin, begin + seconds) for events in (reference, estimates)
        )
    heard = [e.event_label for e in [*reference, *estimates]]
    order = [label for label in run.classes if label in heard]
    order += [label for label in dict.fromkeys(heard) if label not in order]

    def spans(events: Sequence[Event], label: str) -> list[tuple[float, float]]:
        return [(e.onset, e.offset) for e in events if e.event_label == label]

    lanes = [
        Lane(
            label,
            spans(reference, label),
            spans(estimates, label),
            frames[:, run.classes.index(label)]
            if frames is not None and label in run.classes
            else None,
        )
        for label in order
    ]
    note = "" if lanes else "no events, and none predicted"
    sound = clip_sound(split.examples, index)
    return clip_picture(
        name,
        mel,
        lanes,
        seconds=float(seconds),
        note=note,
        sound=sound,
        contrast=contrast,
        band_hz=known_bands(front_end),
    )


def clip_sound(examples: Mapping[str, np.ndarray], index: int) -> str:
    """A clip's audio as a data URI; "" where none was kept."""
    if not {"sound", "sound_ends"} <= examples.keys():
        return ""
    start, stop = [0, *examples["sound_ends"].tolist()][index : index + 2]
    content = examples["sound"][start:stop].tobytes()
    return f"data:{MIME};base64,{base64.b64encode(content).decode()}" if content else ""
