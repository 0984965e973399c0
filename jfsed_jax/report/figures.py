"""Figures 3, 5, 6 and 7 of the paper and the pictures of clips, as sections of a run's page.

Axis letters: ``N`` clips, ``T`` frames, ``F`` mel bands, ``C`` event classes.
"""

from collections.abc import Sequence

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.report import page
from jfsed_jax.report.page import Bar, Html, Lane, Mark, Series, element, label_text
from jfsed_jax.runs.workdir import Run, Split, is_number
from jfsed_jax.sed import scoring
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.window_rules import ClassWindow

# Of more than this many figures in a row, the rest is folded away.
SHOWN = 12
SHOWN_CLIPS = 4

# Figures 5 and 6 ---------------------------------------------------------------------------------


def confusion_matrix(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Audio-tagging confusions (figures 5 and 6), in clips.

    A clip counts once in the row of each of its true classes, shared equally over the classes
    predicted for it; without any it counts in the last column.

    Args:
      reference, predicted: <bool or int>[N, C] tags.

    Returns:
      <float64>[C, C + 1]; row sums are the clips of each class.
    """
    truth = np.asarray(reference).astype(bool).astype(np.float64)
    tagged = np.asarray(predicted).astype(bool).astype(np.float64)
    count = tagged.sum(axis=1, keepdims=True)
    shares = np.concatenate([tagged / np.maximum(count, 1.0), count == 0], axis=1)
    return truth.T @ shares


def tagging_section(run: Run) -> Html:
    """Figures 5 and 6: confusions of tags, for every evaluated split."""
    body: list[object] = []
    for split in run.splits:
        figures = _confusions(run, split)
        if figures and len(run.splits) > 1:
            body.append(element("h3", split.title))
        if figures:
            class_ = "pair" if len(run.classes) <= SHOWN else None
            body.append(element("div", *figures, class_=class_))
    if not body:
        body.append(page.missing("There are no tags yet:", run.command("evaluate")))
    return page.section(
        "tagging",
        "Audio tagging: what is taken for what",
        *body,
        lede="Rows are true classes, in percent of their clips. A clip with several classes "
        "counts once per true class, shared over the classes predicted for it, so that a clip of "
        "two classes tagged with both adds to two columns. “None”: no class was predicted.",
    )


def confusion_figure(
    classes: Sequence[str], truth: np.ndarray, tagged: np.ndarray, *, caption: str
) -> Html:
    """The heat map of `confusion_matrix` in shares of each true class; tags <bool>[N, C]."""
    counts = truth.sum(axis=0).astype(int)
    names = [label_text(label) for label in classes]
    silent = int((~truth.any(axis=1)).sum())
    return page.matrix(
        names,
        [*names, "none"],
        confusion_matrix(truth, tagged) / np.maximum(counts, 1)[:, None],
        caption=caption,
        counts=counts.tolist(),
        note=f"Not shown: {silent} clips without a true class." if silent else None,
    )


def _confusions(run: Run, split: Split) -> list[Html]:
    classes = run.classes
    figures = []

    def add(caption: str, truth: np.ndarray, tagged: np.ndarray) -> None:
        figures.append(confusion_figure(classes, truth, tagged, caption=caption))

    posteriors = split.posteriors
    if posteriors is not None and "clip_reference" in posteriors:
        truth = posteriors["clip_reference"].astype(bool)
        add("Tags from the clip head, above 0.5", truth, posteriors["clip"] > 0.5)
    if split.reference is not None and split.estimates is not None and classes:
        names = [] if posteriors is None else [str(name) for name in posteriors["filenames"]]
        names = list(dict.fromkeys([*names, *split.reference.filenames]))
        folder = run.workdir / "eval" / split.name
        tags = []
        for file, events in (("reference.tsv", split.reference), ("events.tsv", split.estimates)):
            scoring.check_events(events.events, names, classes, str(folder / file), events.rows)
            tags.append(scoring.clip_tags(events.events, names, classes))
        add("Tags from the events that survive", *tags)
    if len(figures) > 1 and len(classes) > SHOWN:
        return [figures[0], page.details("The same from the events that survive", figures[1])]
    return figures


# Figure 7 ----------------------------------------------------------------------------------------


def _class_windows(run: Run) -> list[tuple[ClassWindow, np.ndarray]]:
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
            f"{run.workdir / 'meta.json'} is damaged: expected 'durations' by class and "
            f"'window_details' with {', '.join(ClassWindow._fields)}; "
            f"{type(error).__name__}: {error}"
        ) from error


def durations_section(run: Run) -> Html:
    """Figure 7: each class's durations, their knee and the windows of equation 7."""
    title = "Durations and median windows"
    reports = _class_windows(run)
    if not reports:
        train = f"jfsed-jax train --config CONFIG --data DIR --workdir {run.workdir}"
        return page.section("durations", title, page.missing("There are no windows yet:", train))
    rate = float(run.meta.get("frame_rate") or 60.0)
    # Where some are folded away, those with the most events are shown.
    drawn = sorted(reports, key=lambda r: -r[0].num_events) if len(reports) > SHOWN else reports
    figures = [_duration_chart(w, durations, rate) for w, durations in drawn if durations.size]
    legend = page.swatches(
        [
            ("c0", "share of events up to this length"),
            ("mean", "mean of all"),
            ("knee", "knee"),
            ("esp", "mean up to the knee"),
            ("window", "ESP window"),
        ]
    )
    rows = [
        [
            label_text(w.label),
            page.number(w.num_events, 0),
            page.number(w.mean, 2) if w.num_events else "–",
            f"{w.knee:.2f} ({w.knee_index})" if w.clear_knee else "–",
            *(
                page.join([frames, element("small", f"{frames / rate:.2f} s")])
                for frames in (w.avg, w.esp)
            ),
        ]
        for w, _ in reports
    ]
    columns = ["Class", "Events", "Mean, s", "Knee, s (N)", "avg", "ESP"]
    fixed = sorted({w.fixed for w, _ in reports})
    caption = "Windows of the median filters in frames"
    caption += f"; the fixed rule has {fixed[0]}" if fixed else ""
    return page.section(
        "durations",
        title,
        legend,
        page.folded_grid(figures, shown=SHOWN, noun="classes"),
        page.table(columns, rows, caption=caption),
        lede="How long the strongly labelled events are that the model was trained on. The ESP "
        "rule averages the events up to the knee of the distribution, the avg rule all of them; "
        "a third of that is the window. Without a clear knee the two agree.",
    )


def _duration_chart(window: ClassWindow, durations: np.ndarray, rate: float) -> Html:
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
    return page.line_chart(
        label_text(window.label),
        [curve],
        x_label="seconds",
        x_range=(0.0, float(durations[-1]) * 1.02),
        y_range=(0.0, 1.0),
        marks=marks,
        span=(0.0, window.esp / rate),
        note=page.join(
            [
                f"mean {window.mean:.2f} s, {knee}",
                element("br"),
                f"avg {window.avg} frames ({window.avg / rate:.2f} s), "
                f"ESP {window.esp} ({window.esp / rate:.2f} s)",
            ]
        ),
        step=True,
    )


# Figure 3 ----------------------------------------------------------------------------------------


def weights_section(run: Run) -> Html | None:
    """Figure 3: class-wise sums of p and of the adaptive weight, where a run saved them."""
    if run.weights is None:
        return None
    path = run.workdir / "adaptive_weights.json"
    try:
        labels = [str(label) for label in run.weights["classes"]]
        probability = [float(v) for v in run.weights["probability"]]
        weight = [float(v) for v in run.weights["weight"]]
        rows = [
            [label_text(label), Bar(p, max(probability), 2), Bar(w, max(weight), 2)]
            for p, w, label in sorted(zip(probability, weight, labels, strict=True))
        ]
        epoch = page.significant(float(run.weights["epoch"]))
        gamma = page.significant(float(run.weights["gamma"]))
        lin = run.weights["focal_form"] == "lin"
        counts = {str(kind): int(n) for kind, n in run.weights["clips"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: expected epoch, gamma, focal_form, clips by kind, classes, "
            "probability and weight (one a class)"
        ) from error
    kinds = " and ".join(f"{n} {kind}" for kind, n in counts.items())
    form = ["(1 − p)", element("sup", gamma)] if lin else ["1 − p", element("sup", gamma)]
    return page.section(
        "weights",
        "Adaptive focal weights",
        page.table(
            ["Class", "Sum of p", "Sum of the weight"],
            rows,
            caption=f"Epoch {epoch}, hardest class first",
        ),
        lede=page.join(
            [
                f"Sums over the {kinds} clips that training held out, from the clip posteriors: p "
                "is the posterior where the class is present and one minus it where it is not, "
                "the weight is ",
                *form,
                ". The lower the probability given to the truth, the more the adaptive focal loss "
                "asks of a class.",
            ]
        ),
    )


# Clips -------------------------------------------------------------------------------------------


def clips_section(run: Run) -> Html:
    """Example clips: log-mel, reference, events and posteriors."""
    body: list[object] = []
    any_posterior = False
    for split in run.splits:
        if split.examples is None:
            continue
        figures = [_clip(run, split, i) for i in range(len(split.examples["filenames"]))]
        if len(run.splits) > 1:
            body.append(element("h3", split.title))
        body.extend(figures[:SHOWN_CLIPS])
        rest = figures[SHOWN_CLIPS:]
        if rest:
            body.append(page.details(f"{len(rest)} more clips", *rest))
        any_posterior |= split.posteriors is not None and "frames" in split.posteriors
    if body:
        body.insert(0, page.clip_legend(posterior=any_posterior))
    else:
        body.append(page.missing("There are no example clips yet:", run.command("evaluate")))
    return page.section(
        "clips",
        "What is there, and what was heard",
        *body,
        lede="Under the log-mel of each clip: its reference and predicted events, for every class "
        "that has either, over the model’s posteriors.",
    )


def _clip(run: Run, split: Split, index: int) -> Html:
    assert split.examples is not None
    name = str(split.examples["filenames"][index])
    mel = split.examples["mel"][index]
    tables_ = (split.reference, split.estimates)
    reference, estimates = (
        [event for event in (found.events if found else []) if event.filename == name]
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
    note = None if lanes else "no events, and none predicted"
    return page.clip_figure(name, mel, lanes, seconds=float(seconds), note=note)
