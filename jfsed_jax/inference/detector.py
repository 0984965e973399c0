"""A trained system, restored: variables, models, windows; nothing of its training.

Axis letters: ``B`` clips, ``T`` frames, ``F`` mel bands, ``C`` classes.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.errors import InputError
from jfsed_jax.inference.prediction import (
    ClipMels,
    Posteriors,
    PosteriorsOf,
    clip_posteriors,
    make_posteriors,
)
from jfsed_jax.method.models import time_stride
from jfsed_jax.method.state import Variables
from jfsed_jax.method.system import Models, models_from_config
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import Workdir, check_format, upgraded
from jfsed_jax.seams import call, resolve
from jfsed_jax.sed.decoder_files import DECODERS, TunedDecoder
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import Decode
from jfsed_jax.sed.window_rules import RULES, rule_options, window_sizes

# Of a clip the share that the next one hears too: each frame is then in the middle half of a clip.
OVERLAP = 0.5


@dataclass(frozen=True)
class Detector:
    """A trained system, restored: what evaluation and prediction need.

    Attributes:
      workdir: of the run.
      config: as trained.
      meta: what travels with the weights, see `jfsed_jax.training.plan`.
      front_end: turns audio into the models' input.
      classes: C labels.
      step: of the checkpoint.
      seed: which of the run's `num_seeds`, counted from 0.
      model: whose posteriors these are, of `prediction.MODELS`.
      tags: whose clip posteriors, of the same.
      models: teacher and student.
      variables: ``teacher`` and ``student``, each with parameters and batch statistics.
      posteriors_of: ``(variables, mel [B, T, F]) -> Posteriors``.
    """

    workdir: Workdir
    config: Any
    meta: dict[str, Any]
    front_end: FrontEnd
    classes: tuple[str, ...]
    step: int
    seed: int
    model: str
    tags: str
    models: Models
    variables: Variables
    posteriors_of: PosteriorsOf

    @property
    def frame_rate(self) -> float:
        """Frames of the posteriors per second."""
        return self.meta["frame_rate"]

    @property
    def time_stride(self) -> int:
        """Frames of the front end that one frame of the posteriors lasts."""
        return round(self.front_end.frame_rate / self.frame_rate)

    def clip_hop(self, overlap: float = OVERLAP) -> int:
        """Frames of the posteriors from one clip of a recording to the next.

        Args:
          overlap: share of a clip that the next one hears too, from 0 to below 1.

        Raises:
          InputError: no such overlap.
        """
        if not 0 <= overlap < 1:
            raise InputError(
                f"clips cannot overlap by {overlap:g} of a clip; expected 0 to below 1"
            )
        return max(int(self.front_end.num_frames // self.time_stride * (1 - overlap)), 1)

    def posteriors(self, mels: ClipMels, progress: bool = False) -> Posteriors:
        """Posteriors of B log-mel clips; see `prediction.clip_posteriors`."""
        return clip_posteriors(self.posteriors_of, self.variables, mels, progress=progress)

    def windows(self, rule: str | None = None) -> np.ndarray:
        """Median windows <int64>[C] in frames, of a rule of `window_rules.RULES` or one's own.

        Args:
          rule: its name, or ``package.module:function``; the config's if None.
        """
        return windows_of(self.meta, self.config.postprocess, rule or self.config.postprocess.rule)

    def decoder(
        self,
        rule: str | None = None,
        threshold: float | np.ndarray | None = None,
        tuned: TunedDecoder | None = None,
    ) -> Decode:
        """``(clip, frames, filenames) -> events``, as the config names it.

        Args:
          rule: see `windows`.
          threshold: of the frame posteriors, one or <float>[C]; the decoder's own if None.
          tuned: in place of the config's decoder, with its rule and threshold.
        """
        if tuned is not None:
            tuned.check_classes(self.classes, "the decoder file")
            return gated(self.config.postprocess, tuned.decode(self.classes, self.frame_rate))
        return make_decoder(
            self.config.postprocess,
            self.windows(rule),
            classes=self.classes,
            frame_rate=self.frame_rate,
            threshold=threshold,
        )


def windows_of(meta, page, rule: str) -> np.ndarray:
    """Median windows <int64>[C] of a rule, from what a run knows of its strong labels.

    Args:
      meta: ``windows`` that were worked out in training, ``durations`` by class, ``frame_rate``.
      page: the config's ``postprocess`` page.
      rule: a name of `window_rules.RULES`, or ``package.module:function``.
    """
    if rule in meta.get("windows", {}):
        return np.array(meta["windows"][rule], np.int64)
    return window_sizes(
        {label: np.asarray(lengths) for label, lengths in meta["durations"].items()},
        rule,
        frame_rate=meta["frame_rate"],
        options=rule_options(page),
        rules={rule: resolve(rule, RULES, "config.postprocess.rule")},
    )


def make_decoder(page, windows: np.ndarray, *, classes, frame_rate, threshold=None) -> Decode:
    """The decoder that a config's ``postprocess`` page names, see `postprocessing.Decode`.

    Args:
      page: with ``gate`` off, the decoder gets no clip posteriors. ``threshold`` is that of
        `DECODERS`, ``medians`` that of the paper's; one's own has its own.
      windows: <int64>[C] median windows in frames.
      classes, frame_rate: C labels, frames of the posteriors per second.
      threshold: in place of the page's, one or <float>[C].
    """
    make = resolve(page.decoder, DECODERS, "config.postprocess.decoder")
    options = {"classes": classes, "frame_rate": frame_rate}
    if page.decoder in DECODERS:
        options["threshold"] = page.threshold
    if page.decoder == "median":
        options["medians"] = page.medians
    if threshold is not None:
        options["threshold"] = threshold
    decode: Decode = call(partial(make, windows), "config.postprocess.decoder", **options)
    return gated(page, decode)


def gated(page, decode: Decode) -> Decode:
    """A decoder that gets clip posteriors only where the config's ``postprocess`` page gates."""
    return decode if page.gate else partial(_ungated, decode)


def _ungated(decode: Decode, clip, frames: np.ndarray, filenames) -> list[Event]:
    return decode(None, frames, filenames)


def load(
    workdir: str | Path,
    which: str = "best",
    model: str | None = None,
    seed: int = 0,
    *,
    tags: str | None = None,
    teacher: nn.Module | None = None,
    student: nn.Module | None = None,
) -> Detector:
    """Restores a workdir's checkpoint, whatever optimiser and objective trained it.

    Args:
      workdir: of a training run.
      which: ``best`` or ``latest``.
      model: overrides the config's ``evaluation.model``.
      seed: which of the run's ``num_seeds``, counted from 0.
      tags: overrides the config's ``evaluation.tags``; of the student's frames alone.
      teacher, student: the modules, where they were handed to `fit` and not named by the config.

    Raises:
      InputError: no checkpoint there, no such seed, or tags beside another model than the student.
    """
    files = Workdir(Path(workdir))
    if not files.checkpoints.is_dir():
        raise InputError(
            f"{workdir} holds no checkpoints: is it the --workdir of a training run?{files.hint()}"
        )
    with checkpoints.open_manager(files) as manager:
        step = checkpoints.choose_step(manager, which)
        meta = checkpoints.read_meta(manager, step)
        check_format(meta, files.path)
        config = ml_collections.FrozenConfigDict(upgraded(meta["config"]))
        if not 0 <= seed < config.num_seeds:
            raise InputError(
                f"seed {seed} of {workdir}: it was trained with config.num_seeds = "
                f"{config.num_seeds}; expected 0 to {config.num_seeds - 1}"
            )
        variables = checkpoints.read_variables(
            manager, step, use_average=config.evaluation.average, seed=seed
        )
    classes = tuple(meta["classes"])
    models = models_from_config(
        config,
        classes=len(classes),
        shares=meta["feature_shares"],
        teacher=teacher,
        student=student,
        alone="teacher" not in variables,
    )
    front_end = FrontEnd(**meta["front_end"])
    _check_variables(models, variables, (front_end.num_frames, front_end.n_mels), files)
    stride = time_stride(models.student, front_end.num_frames, front_end.n_mels)
    if not np.isclose(meta["frame_rate"], front_end.frame_rate / stride):
        raise InputError(
            f"the checkpoint of step {step} in {files.checkpoints} has frame_rate "
            f"{meta['frame_rate']}, its student {front_end.frame_rate / stride:g}: it is damaged"
        )
    model = model or config.evaluation.model
    if tags and model != "student":
        raise InputError(
            f"tags of the {tags} beside the outputs of the {model}: they gate the student's frames "
            "alone; leave --tags out"
        )
    tags = (tags or config.evaluation.tags) if model == "student" else model
    return Detector(
        workdir=files,
        config=config,
        meta=meta,
        front_end=front_end,
        classes=classes,
        step=step,
        seed=seed,
        model=model,
        tags=tags,
        models=models,
        variables=variables,
        posteriors_of=make_posteriors(models, model, tags),
    )


def _check_variables(models: Models, variables: Variables, input_shape, files: Workdir) -> None:
    """Refuses weights of other models than these."""
    mel = jax.ShapeDtypeStruct((1, *input_shape), "float32")

    def shapes(tree) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}

    for name, module in models.named().items():
        wanted = shapes(jax.eval_shape(module.init, jax.random.key(0), mel).get("params", {}))
        found = shapes(variables[name]["params"])
        if wanted != found:
            first = min(key for key in wanted.keys() | found.keys()
                        if wanted.get(key) != found.get(key))  # fmt: skip
            raise InputError(
                f"the weights of {files.path} are not those of its {name}, {type(module).__name__}:"
                f" {first} has the shape {found.get(first)} there and {wanted.get(first)} here; "
                f"was a {name} handed in to train it? Then hand it in here too: load(..., {name}=)"
            )
