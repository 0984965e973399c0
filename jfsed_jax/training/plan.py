"""What a run is, worked out from its config and data before the first step."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import jax
import numpy as np
from absl import logging

from jfsed_jax.datasets.clips import Prepared
from jfsed_jax.datasets.pipeline import check_filled
from jfsed_jax.datasets.selection import KINDS, TrainingData, split_data
from jfsed_jax.errors import InputError
from jfsed_jax.inference.detector import make_decoder, windows_of
from jfsed_jax.inference.prediction import MODELS, check_asked_for
from jfsed_jax.kernels.bigru import LOOPS
from jfsed_jax.method import system as systems
from jfsed_jax.method.models import feature_shares, time_stride
from jfsed_jax.method.objectives import TAGGED_CLIPS
from jfsed_jax.method.parallel import AXIS
from jfsed_jax.method.system import Handed, Models, System
from jfsed_jax.runs.workdir import FORMAT, Workdir, check_same_config, of_run
from jfsed_jax.seams import resolve
from jfsed_jax.sed import window_rules
from jfsed_jax.sed.decoder_files import DECODERS
from jfsed_jax.sed.postprocessing import Decode, odd_windows
from jfsed_jax.training.epochs import steps_in_epoch
from jfsed_jax.training.validation import SELECTIONS


@dataclass(frozen=True)
class Plan:
    """A run before its first step.

    Attributes:
      config: of the run.
      prepared: the data.
      data: what each seed trains on and selects by.
      system: statics of the step, batch statistics averaged over `AXIS`.
      make_system: they, of a config with other numbers; ``(config, *, axis_name)``.
      models: the same models for inference, without a mapped axis.
      steps_per_epoch, total_steps: how long.
      meta: what travels in every checkpoint beside the state, see `describe`.
    """

    config: Any
    prepared: Prepared
    data: list[TrainingData]
    system: System
    make_system: Callable[..., System]
    models: Models
    steps_per_epoch: int
    total_steps: int
    meta: dict[str, Any]

    @property
    def input_shape(self) -> tuple[int, int]:
        """(T, F) of a clip."""
        return self.prepared.front_end.num_frames, self.prepared.front_end.n_mels

    def decoder(self) -> Decode:
        """``(clip, frames, filenames) -> events``, as the config names it."""
        page = self.config.postprocess
        return make_decoder(
            page,
            windows_of(self.meta, page, page.rule),
            classes=self.prepared.classes,
            frame_rate=self.meta["frame_rate"],
        )


def make_plan(
    config,
    prepared: Prepared,
    data_dir: Path,
    workdir: Workdir,
    **handed: Unpack[Handed],
) -> Plan:
    """Works a run out.

    Args:
      config: of the run.
      prepared: the data.
      data_dir: where they came from.
      workdir: where the run is to be.
      handed: values in place of those that the config names.

    Raises:
      InputError: devices cannot share a batch, the data cannot fill it, or the config names what
        is not there.
    """
    data = [split_data(prepared, config, k) for k in range(config.num_seeds)]
    if config.evaluation.select_on == "validation" and not data[0].development:
        raise InputError(
            f"config.evaluation.select_on is 'validation', but {prepared.data} has no validation "
            "clips: add them, or hold clips out with --config.evaluation.select_on=holdout"
        )
    counts = {kind: len(clips) for kind, clips in data[0].train.items()}
    check_filled(counts, config.batch)
    check_shared(config.batch, jax.device_count())
    steps_per_epoch = steps_in_epoch(config, counts)
    shares = _feature_shares(prepared, config)
    make = partial(
        systems.from_config,
        classes=len(prepared.classes),
        steps_per_epoch=steps_per_epoch,
        shares=shares,
        **handed,
    )
    models = make(config, axis_name=None).models
    front_end = prepared.front_end
    stride = time_stride(models.student, front_end.num_frames, front_end.n_mels)
    meta = describe(
        prepared, data[0], config, frame_rate=front_end.frame_rate / stride, shares=shares
    )
    meta |= {
        "steps_per_epoch": steps_per_epoch,
        "handed": sorted(handed),
        "data_dir": workdir.relative(data_dir),
        "features_dir": workdir.relative(prepared.directory),
        "digests": _digests(prepared, config),
        "draws": "clip",
    }
    return Plan(
        config=config,
        prepared=prepared,
        data=data,
        system=make(config, axis_name=AXIS),
        make_system=make,
        models=models,
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_per_epoch * config.epochs,
        meta=meta,
    )


def check_shared(composition: Mapping[str, int], devices: int) -> None:
    """Refuses a batch that the devices cannot share equally, and says which is the nearest.

    A padded one would be no remedy: batch norm's statistics are over all clips of a batch.
    """
    size = sum(composition.values())
    if not size % devices:
        return
    largest = max(composition, key=lambda kind: composition[kind])
    more, fewer = -size % devices, size % devices
    change = more if more <= fewer or composition[largest] <= fewer else -fewer
    raise InputError(
        f"config.batch holds {size} clips, which {devices} devices cannot share equally; the "
        f"nearest that they can holds {size + change}, as with "
        f"--config.batch.{largest}={composition[largest] + change}"
    )


def describe(
    prepared: Prepared, data: TrainingData, config, *, frame_rate: float, shares
) -> dict[str, Any]:
    """What travels in every checkpoint beside the state; JSON-able.

    Args:
      prepared, data, config: of the run.
      frame_rate: of the student's posteriors, and so of the windows.
      shares: `models.feature_shares`, or None.
    """
    strong = prepared.splits.get(KINDS["strong"])
    durations = window_rules.durations_by_class(strong.events if strong else (), prepared.classes)
    options = window_rules.rule_options(config.postprocess)
    windows = window_rules.class_windows(durations, frame_rate=frame_rate, options=options)
    meta = {
        "format": FORMAT,
        "system": config.system,
        "data": prepared.data,
        "clips": {kind: len(clips) for kind, clips in data.train.items()},
        "config": json.loads(config.to_json()),
        "classes": list(prepared.classes),
        "front_end": asdict(prepared.front_end),
        "frame_rate": frame_rate,
        "window_details": [window._asdict() for window in windows],
        "durations": {label: lengths.tolist() for label, lengths in durations.items()},
        "feature_shares": shares,
    }
    rules = dict.fromkeys([*window_rules.RULES, config.postprocess.rule])
    page = config.postprocess
    meta["windows"] = {rule: windows_of(meta, page, rule).tolist() for rule in rules}
    odd_windows(meta["windows"][page.rule])  # refuses one that is no window
    return meta


def _digests(prepared: Prepared, config) -> dict[str, str]:
    """`Prepared.digests` of what the run learns from and selects by."""
    read = {*KINDS.values()}
    if config.evaluation.select_on == "validation":
        read.add("validation")
    return {split: found for split, found in prepared.digests().items() if split in read}


def _feature_shares(prepared: Prepared, config) -> list[float] | None:
    """Disentangled features of Guided Learning, from the tags of the weak or all labelled clips."""
    kinds = ("weak", "strong") if config.guided.disentangled_from == "labelled" else ("weak",)
    splits = [prepared.splits[KINDS[kind]] for kind in kinds if KINDS[kind] in prepared.splits]
    if config.student.architecture != "GuidedCNN" or not splits:
        return None
    clips = [clip for split in splits for clip in split.clips]
    tags = np.array([[label in clip.labels for label in prepared.classes] for clip in clips])
    return list(feature_shares(tags, config.guided.disentangled_least))


def identity(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What the processes of a run have to have in common, flat: config by key, data by split.

    Args:
      meta: of a `Plan`. Where its folders lie does not enter.
    """
    compared = ("classes", "clips", "steps_per_epoch", "frame_rate", "windows", "handed", "digests")
    named = {"config": of_run(meta["config"])} | {key: meta[key] for key in compared}
    flat: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{name}.{key}", inner)
        else:
            flat[name] = value

    for key, value in named.items():
        add(key, value)
    return flat


def check_resume(meta: Mapping[str, Any], wanted: Mapping[str, Any], workdir: Workdir) -> None:
    """Refuses to go on with another config, other data or another model; see `describe`.

    Args:
      meta: of the checkpoint.
      wanted: of the run as it is called now.
      workdir: of the run.

    Raises:
      InputError: it names what differs.
    """
    # Also where there is no config.json any more.
    check_same_config(workdir, meta["config"], wanted["config"])
    if (before := meta.get("handed", [])) != wanted["handed"]:
        raise InputError(
            f"{workdir.path} was begun with {', '.join(before) or 'nothing'} handed in, now with "
            f"{', '.join(wanted['handed']) or 'nothing'}: hand in the same"
        )
    if meta.get("draws") != wanted.get("draws"):
        logging.warning(
            "%s was begun by an older version, whose random numbers depended on the number of "
            "devices: it goes on with others, and so is not the uninterrupted run to the bit",
            workdir.path,
        )
    # Of the windows, those of the rules that both know.
    windows = {rule: found for rule, found in wanted["windows"].items() if rule in meta["windows"]}
    known = {rule: found for rule, found in meta["windows"].items() if rule in windows}
    found, wanted = {**meta, "windows": known}, {**wanted, "windows": windows}

    def compare(*keys: str) -> None:
        for key in keys:
            if found.get(key) != wanted[key]:
                raise InputError(
                    f"{workdir.path} was trained on other data, or with another model: its {key} "
                    f"are {found.get(key)}, now they are {wanted[key]}; choose another --workdir, "
                    "or restore the data"
                )

    compare("classes", "clips")
    if "digests" in meta:
        _check_digests(meta["digests"], wanted["digests"], workdir)
    else:
        logging.warning(
            "%s keeps no digests of its data, as of an older version: whether labels and audio are "
            "those that it was begun with is not known; from its next checkpoint on it keeps them",
            workdir.path,
        )
    compare("steps_per_epoch", "frame_rate", "windows", "feature_shares")


def _check_digests(found: Mapping[str, str], wanted: Mapping[str, str], workdir: Workdir) -> None:
    splits = sorted(found.keys() | wanted.keys())
    if other := [split for split in splits if found.get(split) != wanted.get(split)]:
        raise InputError(
            f"{workdir.path} was trained on other data: names, labels or audio of "
            f"{', '.join(other)} have changed since; restore them, or choose another --workdir"
        )


def check_values(config, **handed: Unpack[Handed]) -> None:
    """Refuses values that would fail only after hours, or not at all."""
    system = systems.from_config(config, classes=1, steps_per_epoch=1, **handed)
    own_teacher, alone = system.models.teacher is not None, system.models.alone
    if alone and own_teacher:
        named = f"that of config.scheme {config.scheme!r}"
        whose = "the one handed in" if "objective" in handed else named
        raise InputError(
            f"the objective is {whose}, in which the student learns alone, but there is a teacher: "
            "leave it out"
        )
    if config.scheme == "mean_teacher" and own_teacher and "objective" not in handed:
        raise InputError(
            "config.scheme is 'mean_teacher', but there is a teacher: the student's average is "
            "the teacher, so leave the config's teacher out"
        )
    _check_choices(config)
    page = config.evaluation
    asked = {"config.evaluation.model": page.model, "config.evaluation.tags": page.tags}
    check_asked_for(system.models, **asked)
    if config.evaluation.tags != "student" and config.evaluation.model != "student":
        raise InputError(
            f"config.evaluation.tags is {config.evaluation.tags!r}, but the frames are of "
            f"config.evaluation.model = {config.evaluation.model!r}, which are gated by their own "
            "tags: leave one of the two at 'student'"
        )
    resolve(config.postprocess.rule, window_rules.RULES, "config.postprocess.rule")
    resolve(config.postprocess.decoder, DECODERS, "config.postprocess.decoder")
    for needs, name in (
        (config.evaluation.average, "config.evaluation.average"),
        (not (own_teacher or alone), "a mean teacher"),
    ):
        # One that is handed in may keep an average itself.
        if needs and not config.optimiser.ema_decay and "optimiser" not in handed:
            raise InputError(f"{name} needs a moving average: set config.optimiser.ema_decay")
    positive = {
        "epochs": config.epochs,
        "evaluation.every_epochs": config.evaluation.every_epochs,
        "checkpoint_every_steps": config.checkpoint_every_steps,
        "steps_per_dispatch": config.steps_per_dispatch,
        "num_seeds": config.num_seeds,
        "optimiser.decay_epochs": config.optimiser.get("decay_epochs", 1),
    }
    for name, value in positive.items():
        if value <= 0:
            raise InputError(f"config.{name} is {value}: expected more than 0")
    if config.steps_per_dispatch > 1 and not config.data.in_memory:
        raise InputError(
            f"config.steps_per_dispatch is {config.steps_per_dispatch}, but the host reads every "
            "batch: set config.data.in_memory too, or leave it at 1"
        )
    if not (0 <= config.postprocess.threshold <= 1 and config.postprocess.medians >= 0):
        raise InputError(
            f"config.postprocess has threshold {config.postprocess.threshold} and medians "
            f"{config.postprocess.medians}: expected 0 to 1, and 0 or more"
        )
    if config.teacher_start == "own" and own_teacher:
        raise InputError(
            "config.teacher_start is 'own', which is of a mean teacher; here the teacher has "
            "weights of its own anyway: leave it at 'student'"
        )
    if min(config.batch.values()) < 0 or not sum(config.batch.values()):
        raise InputError(f"config.batch is {dict(config.batch)}: expected counts, not all 0")


def _check_choices(config) -> None:
    """Refuses a value that is none of the few that there are."""
    if config.gru_loop not in LOOPS:
        raise InputError(f"config.gru_loop is {config.gru_loop!r}: expected {' or '.join(LOOPS)}")
    choices = {
        "evaluation.model": MODELS,
        "evaluation.tags": MODELS,
        "evaluation.select_on": ("holdout", "validation"),
        "evaluation.select_by": SELECTIONS,
        "compute_dtype": ("float32", "bfloat16"),
        "epoch": ("unlabelled", "shortest"),
        "teacher_start": ("student", "own"),
        "guided.disentangled_from": ("weak", "labelled"),
        "loss.focal_form": ("paper", "lin"),
        "loss.clip_labels": TAGGED_CLIPS,
    }
    for name, known in choices.items():
        value = config
        for part in name.split("."):
            value = value[part]
        if value not in known:
            expected = " or ".join(known) if len(known) == 2 else f"one of {', '.join(known)}"
            raise InputError(f"config.{name} is {value!r}: expected {expected}")
