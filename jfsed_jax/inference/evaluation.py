"""From a checkpoint and labelled clips to scores: ``W/eval/SPLIT``.

Of several seeds, those of seed k go into ``W/seeds/k`` likewise, and ``W/seeds/SPLIT.json`` has
their means.

Writes what the report reads: ``scores.json``, ``events.tsv``, ``reference.tsv``, ``posteriors.npz``
and ``examples.npz``, and for figure 3 ``W/adaptive_weights.json``. Everything after the posteriors
is NumPy.

Axis letters: ``B`` clips, ``T`` frames, ``F`` mel bands, ``C`` event classes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jfsed_jax import datasets
from jfsed_jax.datasets.pipeline import Clips
from jfsed_jax.errors import InputError
from jfsed_jax.inference.detector import Detector, Posteriors
from jfsed_jax.method import losses
from jfsed_jax.sed import postprocessing as post
from jfsed_jax.sed import scoring, tables, uncertainty
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.score_files import write_score_files
from jfsed_jax.sed.score_titles import TITLES
from jfsed_jax.sed.thresholds import tune_thresholds
from jfsed_jax.training.loop import KINDS, split_data, write_json

_EXAMPLES = 6  # clips whose log-mel is kept for the report


def evaluate(
    detector: Detector,
    prepared: datasets.Prepared,
    workdir: Path,
    *,
    split: str = "validation",
    rule: str | None = None,
    tune: bool = False,
    score_files: Path | None = None,
    output: Posteriors | None = None,
    folder: str = "eval",
) -> dict[str, Any]:
    """Scores a split and writes ``workdir/FOLDER/SPLIT``.

    Args:
      detector: a trained system.
      prepared: the data, with the detector's front end and classes.
      workdir: of the run, or of its seed (`train.seed_folder`).
      split: ``validation`` or ``eval``.
      rule: of the median windows, ``fixed``, ``avg`` or ``esp``; the config's if None.
      tune: take the thresholds of the frame posteriors, class by class, from the strong clips that
        training held out, and not 0.5; never from the split that is scored.
      score_files: also write one TSV of posteriors a clip into this folder.
      output: the posteriors of the split's clips where they are known; computed if None.
      folder: the report shows what is in ``eval``; others keep a second rule's scores apart.

    Returns:
      The scores in percent, as in ``scores.json``.

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
    windows = np.array(detector.meta["windows"][rule])
    frame_rate = detector.meta["frame_rate"]
    thresholds = _tuned_thresholds(detector, prepared, windows) if tune else None
    if output is None:
        output = detector.posteriors(_Mels(clips), progress=True)
    events = post.detect_events(
        output.clip,
        output.frames,
        windows,
        filenames=clips.filenames,
        classes=detector.classes,
        frame_rate=frame_rate,
        threshold=0.5 if thresholds is None else thresholds,
    )
    scores = scoring.score(
        clips.reference,
        events,
        filenames=clips.filenames,
        classes=detector.classes,
        tags=output.clip > 0.5,
    )
    scores["info"] = describe_scores(detector, prepared, split, rule, thresholds)
    directory = workdir / folder / split
    directory.mkdir(parents=True, exist_ok=True)
    tables.write_events(directory / "events.tsv", events, filenames=clips.filenames)
    tables.write_events(directory / "reference.tsv", clips.reference, filenames=clips.filenames)
    np.savez_compressed(
        directory / "posteriors.npz",
        filenames=np.array(clips.filenames),
        clip=output.clip.astype(np.float32),
        frames=output.frames.astype(np.float32),
        classes=np.array(detector.classes),
        frame_rate=frame_rate,
        clip_reference=scoring.clip_tags(clips.reference, clips.filenames, detector.classes),
    )
    chosen = _examples(clips.filenames, clips.reference)
    np.savez_compressed(
        directory / "examples.npz",
        filenames=np.array([clips.filenames[i] for i in chosen]),
        mel=np.stack([clips[i]["mel"] for i in chosen]),
    )
    if score_files is not None:
        write_score_files(
            score_files,
            output.frames,
            filenames=clips.filenames,
            classes=detector.classes,
            frame_rate=frame_rate,
        )
    # Last, and in one piece: where scores.json is, the rest is complete.
    write_json(directory / "scores.json", scores)
    return scores


def describe_scores(
    detector: Detector,
    prepared: datasets.Prepared,
    split: str,
    rule: str,
    thresholds: np.ndarray | None = None,
) -> dict[str, Any]:
    """What was scored, and how: the ``info`` of scores.json. Equal `info`, equal scores."""
    clips = prepared.splits[split]
    return {
        "system": detector.config.system,
        "data": prepared.data,
        "split": split,
        "model": detector.model,
        "reference": hashlib.sha256(repr((clips.filenames, clips.reference)).encode()).hexdigest(),
        "postprocess": rule,
        "windows": list(detector.meta["windows"][rule]),
        "thresholds": None if thresholds is None else thresholds.tolist(),
        "checkpoint_step": detector.step,
        "num_clips": len(clips),
        "clips_listed": prepared.summary[split]["listed"],
    }


def summarise_seeds(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds of each score, by its name.

    Args:
      scores: of each seed, as `evaluate` returns them.

    Returns:
      By score ``macro`` and ``classwise``, the latter by class, each with ``mean``, ``std`` and the
      seeds' ``values`` in percent. A seed without a value (None) leaves mean and std at None.
    """

    def over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
        known = [value for value in values if value is not None]
        mean, std = uncertainty.mean_std(known if len(known) == len(values) else [])
        return {"mean": mean, "std": std, "values": list(values)}

    first = scores[0]
    return {
        name: {
            "macro": over_seeds([own[name]["macro"] for own in scores]),
            "classwise": {
                label: over_seeds([own[name]["classwise"][label] for own in scores])
                for label in first[name]["classwise"]
            },
        }
        for name in TITLES
        if name in first
    }


def write_seeds(workdir: Path, scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Writes ``workdir/seeds/SPLIT.json`` and returns its content: `summarise_seeds` and ``info``.

    `scores` as `evaluate` returns them, of all seeds of the run in `workdir`.
    """
    info = dict(scores[0]["info"], seeds=len(scores))
    # Class-wise thresholds, if tuned, are each seed's own: its scores.json has them.
    del info["thresholds"]
    summary = {"info": info} | summarise_seeds(scores)
    write_json(workdir / "seeds" / f"{info['split']}.json", summary)
    return summary


def write_adaptive_weights(detector: Detector, prepared: datasets.Prepared, workdir: Path) -> None:
    """Figure 3: writes ``workdir/adaptive_weights.json``, class-wise sums at the checkpoint.

    Summed are ``p`` and the adaptive weight of equation 4 over the weak and strong clips that
    training held out, with the clip posteriors; `p` is the probability given to the true value of
    the label. The paper sums over the labelled clips of one training epoch; the held-out ones
    [ours] show what the loss would ask for on clips that the model has not learnt from. Nothing is
    written for a system that is trained without the adaptive focal loss, where no clips were held
    out, or for other data than that of training.
    """
    loss = detector.config.loss
    data = split_data(prepared, detector.config, detector.seed)
    trained = {kind: len(clips) for kind, clips in data.train.items()}
    if loss.tau < 0 or trained != detector.meta["clips"]:
        return
    held = {kind: data.held[kind] for kind in ("weak", "strong") if kind in data.held}
    if not held:
        return
    truth, clip = [], []
    for clips in held.values():
        truth += [clips[i]["clip_labels"] for i in range(len(clips))]
        clip.append(detector.posteriors(_Mels(clips)).clip)
    p, weight = class_weight_sums(
        np.stack(truth), np.concatenate(clip), float(loss.gamma), loss.focal_form
    )
    content = {
        "epoch": detector.step / detector.meta["steps_per_epoch"],
        "step": detector.step,
        "gamma": float(loss.gamma),
        "focal_form": loss.focal_form,
        "clips": {kind: len(clips) for kind, clips in held.items()},
        "classes": list(detector.classes),
        "probability": p.tolist(),
        "weight": weight.tolist(),
    }
    write_json(workdir / "adaptive_weights.json", content)


def class_weight_sums(
    truth: np.ndarray, clip: np.ndarray, gamma: float, form: str
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the clips of `p` and of its adaptive weight (section 2.3): <float64>[C] each.

    Args:
      truth: <float or bool>[B, C] clip labels.
      clip: <float>[B, C] clip posteriors.
      gamma, form: see `losses.adaptive_weight`.
    """
    clip = clip.astype(np.float64)
    p_true: Any = np.where(truth > 0, clip, 1 - clip)
    return p_true.sum(0), np.asarray(losses.adaptive_weight(p_true, gamma, form)).sum(0)


def _tuned_thresholds(detector: Detector, prepared: datasets.Prepared, windows) -> np.ndarray:
    """Class-wise thresholds <float64>[C] with the best Event-F1 on the held-out strong clips."""
    held = split_data(prepared, detector.config, detector.seed).held.get("strong")
    if held is None:
        raise InputError(
            "no strong clips were held out to tune thresholds on: train with "
            "--config.evaluation.holdout=0.2, or evaluate without --tune_thresholds"
        )
    output = detector.posteriors(_Mels(held))
    names = set(held.filenames)
    thresholds, _ = tune_thresholds(
        output.clip,
        output.frames,
        windows,
        [e for e in prepared.splits[KINDS["strong"]].events if e.filename in names],
        filenames=held.filenames,
        classes=detector.classes,
        frame_rate=detector.meta["frame_rate"],
    )
    return thresholds


class _Mels:
    """The log-mel of each clip, read when asked for."""

    def __init__(self, clips: Clips):
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, i: int) -> np.ndarray:
        return self._clips[i]["mel"]


def _examples(filenames: list[str], reference: list[Event]) -> list[int]:
    """Clips for the report: together they show as many classes as they can."""
    labels: dict[str, set[str]] = {name: set() for name in filenames}
    for event in reference:
        labels[event.filename].add(event.event_label)
    chosen: list[int] = []
    seen: set[str] = set()
    for _ in range(min(_EXAMPLES, len(filenames))):
        rest = [i for i in range(len(filenames)) if i not in chosen]
        # Classes that no chosen clip shows come first, so that the few show many.
        best = max(
            rest, key=lambda i: (len(labels[filenames[i]] - seen), len(labels[filenames[i]]))
        )
        chosen.append(best)
        seen |= labels[filenames[best]]
    return chosen
