"""Scores of posteriors over all thresholds: PSDS and its kin, best F1, average precision.

sed_scores_eval (extra `psds`) takes the clips apart and computes the scores; `threshold_steps`
computes their resamples from the same parts. PSDS and average precision are shares from 0 to 1, as
they are published; F1 is in percent.

Axis letters: `B` clips, `C` event classes with reference events, `N` resamples.
"""

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jfsed_jax.progress import progress_bar
from jfsed_jax.sed.events import Event, merge_overlaps
from jfsed_jax.sed.intersection import INTERSECTION
from jfsed_jax.sed.psds import SCENARIOS
from jfsed_jax.sed.psds_libraries import check_events, frame, library, with_reference
from jfsed_jax.sed.score_checks import check_score_files
from jfsed_jax.sed.score_files import ScoreFiles, clip_name, clip_names
from jfsed_jax.sed.score_titles import ScoreTitle
from jfsed_jax.sed.scoring import OFFSET_LENGTH_SHARE, ONSET_COLLAR, SEGMENT
from jfsed_jax.sed.threshold_steps import (
    ClipSums,
    Scenario,
    ThresholdSteps,
    average_precisions,
    counts_above,
    psds_samples,
    steps_of,
)
from jfsed_jax.sed.uncertainty import Sampled, draw_clips, sample_scores

CURVE_POINTS = 200
TITLES = {
    "psds1": ScoreTitle("PSDS 1", "PSDS 1", "reacts fast: both criteria 0.7"),
    "psds2": ScoreTitle("PSDS 2", "PSDS 2", "confuses no classes: 0.1, cross triggers 0.3"),
    "psds_own": ScoreTitle("PSDS, own scenario", "Own PSDS", "the scenario that was asked for"),
    "pi_psds1": ScoreTitle("piPSDS 1", "piPSDS 1", "the best post-processing at each rate"),
    "pi_psds2": ScoreTitle("piPSDS 2", "piPSDS 2", "the best post-processing at each rate"),
    "collar_psds": ScoreTitle("PSDS by collars", "Collar PSDS", "events found as in Event-F1"),
    "best_event_f1": ScoreTitle("Best Event-F1", "Best Event-F1", "best threshold of each class"),
    "best_intersection_f1": ScoreTitle(
        "Best Intersection-F1", "Best inters. F1", "best threshold of each class"
    ),
    "segment_ap": ScoreTitle("Segment mAP", "Segment mAP", "average precision over segments"),
    "clip_ap": ScoreTitle("Clip mAP", "Clip mAP", "average precision over clips"),
}


@dataclass(frozen=True)
class Criteria:
    """What decides the scores, by default as in DCASE's task 4.

    Attributes:
      scenario: of a PSDS beside those of `psds.SCENARIOS`.
      collar: seconds that an onset or an offset may be off.
      offset_share: of the event's length, likewise for the offset.
      segment: seconds.
      filters: lengths in seconds of the median filters that piPSDS chooses from.
    """

    scenario: Scenario | None = None
    collar: float = ONSET_COLLAR
    offset_share: float = OFFSET_LENGTH_SHARE
    segment: float = SEGMENT
    filters: tuple[float, ...] = ()


class Curve(NamedTuple):
    """<float64>[P] positions, ascending, and <float64>[P] values from there on."""

    x: np.ndarray
    y: np.ndarray


class FreeScore(NamedTuple):
    """One score.

    Attributes:
      overall: the mean over the classes, for PSDS less their deviation.
      classwise: by label; None without reference events.
      thresholds: the best, where the score chooses one; None where all or nothing is detected.
      curves: by label, of PSDS also "" for all classes: the ROC curve, share of found events over
        effective false positives per hour; or precision over recall.
    """

    overall: Sampled
    classwise: dict[str, Sampled | None]
    thresholds: dict[str, float | None] | None
    curves: dict[str, Curve]


class _Given(NamedTuple):
    """Score files as sed_scores_eval takes them, classes named by their places."""

    labels: Sequence[str]  # those with reference events
    names: list[str]  # of B clips, without extension
    seconds: dict[str, float]
    truth: dict[str, list[tuple[float, float, str]]]
    events: np.ndarray  # <int64>[B, C] of the reference
    draws: dict[str, int]  # how many resamples, and their seed
    progress: bool

    @property
    def keys(self) -> list[str]:
        return [str(c) for c in range(len(self.labels))]

    def blocks(self) -> Iterator[np.ndarray]:
        """The draws, then, where that costs no more, all clips but one, for each of them."""
        drawn, clips = self.draws["num_resamples"], len(self.names)
        left_out = [1 - np.eye(clips)] if clips <= drawn else []
        with progress_bar(
            total=drawn + clips * len(left_out),
            desc="resamples",
            unit="resample",
            leave=False,
            disable=not (self.progress and drawn),
        ) as bar:
            for block in itertools.chain(draw_clips(clips, **self.draws), left_out):
                for weights in block:
                    yield weights[None]
                    bar.update()

    def sampled(self, value: float, samples: np.ndarray) -> Sampled:
        """A score with what `blocks` gave: <float64>[N], or [N + B]."""
        drawn = self.draws["num_resamples"]
        return Sampled(float(value), samples[:drawn], samples[drawn:])

    def steps(self, deltas: Mapping[str, Any]) -> list[ThresholdSteps]:
        return [steps_of(deltas, self.names, key) for key in self.keys]


def free_scores(
    files: ScoreFiles,
    reference: Iterable[Event],
    durations: Mapping[str, float],
    *,
    criteria: Criteria | None = None,
    processed: Sequence[ScoreFiles] = (),
    num_resamples: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, FreeScore]:
    """All scores over all thresholds.

    Args:
      files: one score file for each clip of `durations`.
      reference: events in seconds; those of one class that overlap or touch are joined.
      durations: length in seconds of each of the B clips, in the order of other scores' counts.
      processed: the same system's score files after other post-processing, for piPSDS.
      progress: show how many scores are done, and of the present one how many resamples.

    Returns:
      By the keys of `TITLES`: PSDS of 0 to 1, average precision of 0 to 1, F1 in percent. piPSDS is
      there with `criteria.filters` or `processed`, "psds_own" with a scenario.

    Raises:
      InputError: clips or classes of files, reference and durations differ; no reference events.
    """
    criteria = criteria or Criteria()
    events = merge_overlaps(reference)
    check_events(events, durations)
    for of in (files, *processed):
        check_score_files(of, durations, {event.event_label for event in events})
    draws = {"num_resamples": num_resamples, "seed": seed}
    given = _given(files, events, durations, draws, progress)
    chosen = bool(criteria.filters or processed)
    found = dict(
        progress_bar(
            _each_score(given, _frames(files, given), criteria, processed),
            total=len(TITLES) - (not criteria.scenario) - (0 if chosen else len(SCENARIOS)),
            desc="scoring",
            unit="score",
            disable=not progress,
        )
    )
    absent = dict.fromkeys(label for label in files.classes if label not in given.labels)
    return {
        name: score._replace(
            classwise={label: {**score.classwise, **absent}[label] for label in files.classes}
        )
        for name, score in found.items()
    }


def _each_score(
    given: _Given, frames: dict[str, Any], criteria: Criteria, processed: Sequence[ScoreFiles]
) -> Iterator[tuple[str, FreeScore]]:
    """`free_scores` of the classes with reference events, one after the other."""
    for name, scenario in SCENARIOS.items():
        yield name, _psds(given, [frames], scenario)
    if criteria.scenario:
        yield "psds_own", _psds(given, [frames], criteria.scenario)
    if criteria.filters or processed:
        medfilt = library("sed_scores_eval.base_modules.postprocessing").medfilt
        versions = [medfilt(frames, seconds) for seconds in criteria.filters]
        versions += [_frames(other, given) for other in processed]
        for name, scenario in SCENARIOS.items():
            yield f"pi_{name}", _psds(given, versions, scenario)
    collars = library("sed_scores_eval").collar_based
    deltas = collars.intermediate_statistics_deltas(
        frames,
        given.truth,
        onset_collar=criteria.collar,
        offset_collar=criteria.collar,
        offset_collar_rate=criteria.offset_share,
    )
    yield "collar_psds", _psds_of_deltas(given, [deltas], Scenario())
    yield "best_event_f1", _best_f1("event_f1", given, deltas)
    deltas = _intersections(frames, given, Scenario(INTERSECTION, INTERSECTION))
    yield "best_intersection_f1", _best_f1("intersection_f1", given, deltas)
    segments = library("sed_scores_eval.segment_based.intermediate_statistics")
    deltas = segments.intermediate_statistics_deltas(
        frames, given.truth, given.seconds, segment_length=criteria.segment
    )
    yield "segment_ap", _average_precision(given, deltas)
    clips = library("sed_scores_eval.clip_based.intermediate_statistics")
    tags = {name: {key for *_, key in events} for name, events in given.truth.items()}
    deltas = clips.intermediate_statistics_deltas(frames, tags)
    yield "clip_ap", _average_precision(given, deltas)


def _given(
    files: ScoreFiles,
    events: Sequence[Event],
    durations: Mapping[str, float],
    draws: dict[str, int],
    progress: bool,
) -> _Given:
    labels = with_reference(events, files.classes)
    names = clip_names(durations)
    row = {name: b for b, name in enumerate(names)}
    truth: dict[str, list[tuple[float, float, str]]] = {name: [] for name in names}
    counts = np.zeros((len(names), len(labels)), np.int64)
    for event in events:
        c = labels.index(event.event_label)
        truth[clip_name(event.filename)].append((event.onset, event.offset, str(c)))
        counts[row[clip_name(event.filename)], c] += 1
    seconds = dict(zip(names, durations.values(), strict=True))
    return _Given(labels, names, seconds, truth, counts, draws, progress)


def _frames(files: ScoreFiles, given: _Given) -> dict[str, Any]:
    """sed_scores_eval's tables of the clips, with the classes that are scored."""
    columns = [files.classes.index(label) for label in given.labels]
    return {
        clip: frame(edges, values[:, columns])
        for clip, edges, values in zip(files.clips, files.times, files.scores, strict=True)
    }


def _intersections(frames: Any, given: _Given, scenario: Scenario) -> dict[str, Any]:
    # Of one class there are no cross triggers; sed_scores_eval cannot count none.
    crossed = scenario.alpha_ct and len(given.labels) > 1
    return library("sed_scores_eval").intersection_based.intermediate_statistics_deltas(
        frames,
        given.truth,
        dtc_threshold=scenario.dtc,
        gtc_threshold=scenario.gtc,
        cttc_threshold=scenario.cttc if crossed else None,
    )


def _psds(given: _Given, versions: Sequence[Any], scenario: Scenario) -> FreeScore:
    """PSDS over one post-processing of the posteriors, or the best of several."""
    deltas = [_intersections(frames, given, scenario) for frames in versions]
    return _psds_of_deltas(given, deltas, scenario)


def _psds_of_deltas(given: _Given, deltas: Sequence[Any], scenario: Scenario) -> FreeScore:
    crossed = scenario.alpha_ct and len(given.labels) > 1
    intersections = library("sed_scores_eval").intersection_based
    value, classwise, roc, rocs, *_ = intersections.postprocessing_independent_psds(
        None,
        given.truth,
        given.seconds,
        postprocessing_functions=None,
        deltas=list(deltas),
        dtc_threshold=scenario.dtc,
        gtc_threshold=scenario.gtc,
        cttc_threshold=scenario.cttc if crossed else None,
        alpha_ct=scenario.alpha_ct if crossed else 0.0,
        alpha_st=scenario.alpha_st,
        max_efpr=scenario.max_efpr,
    )
    event_seconds = np.zeros(given.events.shape)
    for b, name in enumerate(given.names):
        for onset, offset, key in given.truth[name]:
            event_seconds[b, int(key)] += offset - onset
    clips = ClipSums(np.array(list(given.seconds.values())), given.events, event_seconds)
    samples, of_classes = psds_samples(
        list(zip(*(given.steps(of) for of in deltas), strict=True)), given.blocks(), clips, scenario
    )
    curves = {"": _thinned(roc[1], roc[0], scenario.max_efpr)}
    for key, label in zip(given.keys, given.labels, strict=True):
        curves[label] = _thinned(rocs[key][1], rocs[key][0], scenario.max_efpr)
    return FreeScore(
        given.sampled(value, samples),
        {
            label: given.sampled(classwise[key], of_classes[:, int(key)])
            for key, label in zip(given.keys, given.labels, strict=True)
        },
        None,
        curves,
    )


def _best_f1(name: str, given: _Given, deltas: Mapping[str, Any]) -> FreeScore:
    """Best F1; its resamples keep the thresholds that are best for all clips."""
    rates = library("sed_scores_eval.base_modules.precision_recall")
    statistics = library(
        "sed_scores_eval.intersection_based.intermediate_statistics"
    ).accumulated_intermediate_statistics_from_deltas(deltas, given.truth)
    _, _, _, thresholds, _ = rates.best_fscore_from_intermediate_statistics(statistics)
    best = [float(thresholds[key]) for key in given.keys]
    counts = {name: counts_above(given.steps(deltas), best, given.events)}
    sampled = sample_scores([counts], classes=given.labels, **given.draws)
    curves = rates.precision_recall_curve_from_intermediate_statistics(statistics)
    return FreeScore(
        sampled[f"{name}/macro"],
        {label: sampled[f"{name}/classwise/{label}"] for label in given.labels},
        {
            label: threshold if np.isfinite(threshold) else None
            for label, threshold in zip(given.labels, best, strict=True)
        },
        _precision_curves(given, curves),
    )


def _average_precision(given: _Given, deltas: Mapping[str, Any]) -> FreeScore:
    """Average precision of the classes with an active item."""
    rates = library("sed_scores_eval.base_modules.precision_recall")
    statistics = library(
        "sed_scores_eval.clip_based.intermediate_statistics"
    ).accumulated_intermediate_statistics_from_deltas(deltas)
    # An event that begins where its clip has ended lies in no segment.
    active = {key: of for key, of in statistics.items() if of[1]["n_ref"]}
    values, curves = (
        rates.average_precision_from_intermediate_statistics(active)
        if active
        else ({"mean": np.nan}, {})
    )
    samples = average_precisions(given.steps(deltas), given.blocks())
    samples = samples.reshape(-1, len(given.labels))
    with warnings.catch_warnings(action="ignore"):  # of resamples without any active item
        means = np.nanmean(samples, axis=1)
    return FreeScore(
        given.sampled(values["mean"], means),
        {
            label: given.sampled(values[key], samples[:, int(key)]) if key in active else None
            for key, label in zip(given.keys, given.labels, strict=True)
        },
        None,
        _precision_curves(given, curves),
    )


def _precision_curves(given: _Given, curves: Mapping[str, Any]) -> dict[str, Curve]:
    """Precision at the recalls that can be reached, the best of each."""
    found = {}
    for key, label in zip(given.keys, given.labels, strict=True):
        if key in curves:
            precision, recall, *_ = curves[key]
            keep = np.flatnonzero(np.append(np.diff(recall) > 0, True) & (recall > 0))
            if len(keep) > CURVE_POINTS:
                keep = keep[np.linspace(0, len(keep) - 1, CURVE_POINTS).astype(int)]
            found[label] = Curve(recall[keep], precision[keep])
    return found


def _thinned(x: np.ndarray, y: np.ndarray, end: float) -> Curve:
    """A staircase from 0 to `end`, at few points."""
    grid = np.linspace(0, end, CURVE_POINTS + 1)
    order = np.argsort(x, kind="stable")
    place = np.searchsorted(x[order], grid, side="right") - 1
    return Curve(grid, np.where(place >= 0, y[order][np.maximum(place, 0)], 0.0))
