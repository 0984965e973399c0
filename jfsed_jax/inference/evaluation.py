"""From a checkpoint and labelled clips to scores: ``W/eval/SPLIT``.

Of several seeds, those of seed k go into ``W/seeds/k`` likewise. Everything after the posteriors is
NumPy. A recording that was cut into clips is scored as one, see `whole_recordings`.

Axis letters: ``B`` clips, ``T`` frames, ``F`` mel bands, ``C`` event classes.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jfsed_jax.datasets.clips import Prepared
from jfsed_jax.datasets.examples import (
    errors_by_clip,
    example_clips,
    example_sounds,
    worst_clips,
)
from jfsed_jax.datasets.preparation import prepare
from jfsed_jax.datasets.selection import KINDS, Mels, split_data
from jfsed_jax.errors import InputError
from jfsed_jax.inference.detector import Detector
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.inference.whole_recordings import WholeRecordings, each_clip
from jfsed_jax.runs.workdir import Workdir, write_json
from jfsed_jax.sed import scoring, tables, uncertainty
from jfsed_jax.sed.decoder_files import TunedDecoder
from jfsed_jax.sed.error_kinds import sort_errors
from jfsed_jax.sed.events import Event, cut_events
from jfsed_jax.sed.postprocessing import Decode
from jfsed_jax.sed.score_files import write_score_files
from jfsed_jax.sed.tuning import median_candidates, tune_classes

# Clips whose log-mel and sound are kept for the report, and the sound's rate in Hz: of ten seconds
# about 90 kB, and 60.
_EXAMPLES, _EXAMPLES_RATE = 6, 48000
_WORST, _WORST_RATE = 20, 24000


def prepare_for(
    detector: Detector,
    data_dir: str | Path | None = None,
    features_dir: str | Path | None = None,
) -> Prepared:
    """Labelled clips for `evaluate`, with the detector's front end and classes.

    Args:
      detector: a trained system.
      data_dir: where the clips are; those of training if None.
      features_dir: see `preparation.prepare`; those of training if both are None and they are
        still there.

    Raises:
      InputError: the data of training are not where they were.
    """
    workdir, meta = detector.workdir, detector.meta
    if data_dir is None:
        data_dir = workdir.remembered(meta["data_dir"])
        if not data_dir.is_dir():
            raise InputError(
                f"the data that {workdir.path} was trained on are not in {data_dir} any more: name "
                "their folder, or that of other labelled clips, with --data"
            )
        remembered = workdir.remembered(meta["features_dir"])
        features_dir = features_dir or (remembered if remembered.is_dir() else None)
    return prepare(
        data_dir, detector.front_end, features_dir=features_dir, classes=detector.classes
    )


def evaluate(
    detector: Detector,
    prepared: Prepared,
    workdir: Workdir,
    *,
    split: str = "validation",
    rule: str | None = None,
    tune: bool = False,
    score_files: Path | None = None,
    output: Posteriors | None = None,
    decode: Decode | None = None,
    tuned: TunedDecoder | None = None,
    scored: str = "eval",
    data_dir: str | Path | None = None,
    num_resamples: int = uncertainty.RESAMPLES,
) -> dict[str, Any]:
    """Scores a split and writes what the report reads, see `workdir.SplitFolder`.

    Args:
      detector: a trained system.
      prepared: the data, with the detector's front end and classes.
      workdir: of the run, or of its seed (`Workdir.seed`).
      split: ``validation`` or ``eval``.
      rule: of the median windows, see `Detector.windows`; the config's if None.
      tune: take the thresholds of the frame posteriors, class by class, from the strong clips that
        training held out, and not the config's; never from the split that is scored.
      score_files: also write one TSV of posteriors a clip into this folder.
      output: the posteriors of what the models hear of the split (`WholeRecordings`: its clips)
        where they are known; computed if None.
      decode: in place of the config's decoder.
      tuned: likewise, from a file of ``tune``.
      scored: the folder; ``eval-RULE`` keeps a second rule's scores apart, and the report has both.
      data_dir: the folder of audio, so that the clips which the report shows can be heard.
      num_resamples: of the clips, for 95 % intervals; none if 0.

    Returns:
      The scores in percent, as in ``scores.json``: those of `scoring.score_clips`, ``info``, and
      of `uncertainty.interval_page` ``intervals`` and ``resamples``.

    Raises:
      InputError: the split is not there.
    """
    clips = prepared.splits.get(split)
    if clips is None or not len(clips):
        raise InputError(
            f"{prepared.data} has no clips for --split {split}; there are "
            f"{', '.join(name for name, found in prepared.splits.items() if len(found))}"
        )
    rule = rule or detector.config.postprocess.rule
    if tune and (
        decode is not None or tuned is not None or detector.config.postprocess.decoder != "median"
    ):
        raise InputError(
            "thresholds are tuned for the median decoder (config.postprocess.decoder='median') and "
            "for no other: evaluate without --tune_thresholds"
        )
    thresholds = _tuned_thresholds(detector, prepared, rule) if tune else None
    handed, decode = decode, decode or detector.decoder(rule, thresholds, tuned)
    whole = WholeRecordings(clips, detector.time_stride)
    if output is None:
        output = detector.posteriors(whole, progress=True)
    events = whole.events(output, decode, detector.config.postprocess.gate)
    scores, counts = scoring.score_clips(
        clips.reference,
        events,
        filenames=whole.recordings,
        classes=detector.classes,
        tags=whole.tags(output) > 0.5,
    )
    own = None if handed is None else "handed in"
    scores["info"] = describe_scores(detector, prepared, split, rule, thresholds, own, tuned)
    scores |= uncertainty.interval_page(
        [counts], classes=detector.classes, num_resamples=num_resamples
    )
    folder = workdir.split(split, scored)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.scores.unlink(missing_ok=True)  # of an earlier time: below its files are written over
    tables.write_events(folder.events, events, filenames=whole.recordings)
    tables.write_events(folder.reference, clips.reference, filenames=whole.recordings)
    of_clips: dict[str, Any] = {"filenames": whole.recordings, "classes": detector.classes}
    np.savez_compressed(folder.counts, **(of_clips | counts))
    heard = _heard_references(whole, clips.reference)
    np.savez_compressed(
        folder.posteriors,
        filenames=np.array(whole.filenames),
        clip=output.clip.astype(np.float32),
        frames=output.frames.astype(np.float32),
        classes=np.array(detector.classes),
        frame_rate=detector.frame_rate,
        clip_reference=scoring.clip_tags(heard, whole.filenames, detector.classes),
    )
    labels: dict[str, set[str]] = {name: set() for name in whole.filenames}
    for event in heard:
        labels[event.filename].add(event.event_label)
    every = [whole.span(i) for i in range(len(whole))]
    typical = example_clips(list(labels.values()), _EXAMPLES)
    kinds = sort_errors(clips.reference, events)
    errors = errors_by_clip((clips.reference, events), kinds, whole.filenames, every)
    chosen = typical + worst_clips(errors, typical, _WORST)
    spans = [every[i] for i in chosen]
    worst = np.arange(len(chosen)) >= len(typical)
    rates = np.where(worst, _WORST_RATE, _EXAMPLES_RATE).tolist()
    sounds = example_sounds(data_dir, split, prepared.classes, spans, rates)
    np.savez_compressed(
        folder.examples,
        filenames=np.array([whole.filenames[i] for i in chosen]),
        worst=worst,
        mel=np.stack([whole[i] for i in chosen]),
        recordings=np.array([name for name, _, _ in spans]),
        starts=np.array([start for _, start, _ in spans]),
        sound=np.frombuffer(b"".join(sounds), np.uint8),
        sound_ends=np.cumsum([len(sound) for sound in sounds]),
    )
    if score_files is not None:
        write_score_files(
            score_files,
            [whole.frames(output, own, gate=False) for own in whole.stretches],
            filenames=whole.recordings,
            classes=detector.classes,
            frame_rate=detector.frame_rate,
        )
    # Last, and in one piece: where scores.json is, the rest is complete.
    write_json(folder.scores, scores)
    return scores


def describe_scores(
    detector: Detector,
    prepared: Prepared,
    split: str,
    rule: str,
    thresholds: np.ndarray | None = None,
    decoder: str | None = None,
    tuned: TunedDecoder | None = None,
) -> dict[str, Any]:
    """What was scored, and how: the ``info`` of scores.json. Equal `info`, equal scores, unless
    a decoder was handed in."""
    if tuned is not None:  # its settings stand where a rule's windows and thresholds would
        info = describe_scores(detector, prepared, split, rule, None, tuned.decoder)
        own = {"postprocess": "decoder file", "medians": tuned.medians or None, "windows": None}
        told = {name: tuned.tuned.get(name) for name in ("reference", "metric")}
        return info | own | {"decoder_file": tuned.decisive(), "decoder_tuned": told}
    clips = prepared.splits[split]
    decoder = decoder or detector.config.postprocess.decoder
    page = detector.config.evaluation
    filtered = decoder != "change_points"
    return {
        "system": detector.config.system,
        "data": prepared.data,
        "split": split,
        "model": detector.model,
        "tags": detector.tags,
        "selected": f"{page.select_by} on {page.select_on}",
        "reference": hashlib.sha256(repr((clips.filenames, clips.reference)).encode()).hexdigest(),
        "postprocess": rule if filtered else "change points",
        "decoder": decoder,
        "gate": detector.config.postprocess.gate,
        "medians": detector.config.postprocess.medians if filtered else None,
        "windows": detector.windows(rule).tolist() if filtered else None,
        "thresholds": None if thresholds is None else thresholds.tolist(),
        "classes": list(detector.classes),
        "checkpoint_step": detector.step,
        "num_clips": len(set(clips.filenames)),
        "clips_listed": prepared.summary[split]["listed"],
    }


def _tuned_thresholds(detector: Detector, prepared: Prepared, rule: str) -> np.ndarray:
    """Class-wise thresholds <float64>[C] with the best Event-F1 on the held-out strong clips."""
    held = split_data(prepared, detector.config, detector.seed).held.get("strong")
    if held is None:
        raise InputError(
            "no strong clips were held out to tune thresholds on: train with "
            "--config.evaluation.holdout=0.2, or evaluate without --tune_thresholds"
        )
    output = detector.posteriors(Mels(held))
    # Clip by clip, also of longer recordings.
    names, reference = each_clip(held, prepared.splits[KINDS["strong"]].reference)
    page = detector.config.postprocess
    frames = output.frames * (output.clip > 0.5)[:, None] if page.gate else output.frames
    found = tune_classes(
        list(frames),
        [np.arange(frames.shape[1] + 1) / detector.frame_rate] * len(frames),
        reference,
        {
            label: median_candidates([window], medians=page.medians)
            for label, window in zip(detector.classes, detector.windows(rule), strict=True)
        },
        filenames=names,
    )
    return np.array([found[label].threshold for label in detector.classes])


def _heard_references(whole: WholeRecordings, reference: Sequence[Event]) -> list[Event]:
    """Events by the names of the clips that the models hear."""
    by_name: dict[str, list[Event]] = {}
    for event in reference:
        by_name.setdefault(event.filename, []).append(event)
    found = []
    for i, name in enumerate(whole.filenames):
        recording, start, end = whole.span(i)
        own = by_name.get(recording, [])
        if name != recording:
            own = [event._replace(filename=name) for event in cut_events(own, start, end)]
        found += own
    return found
