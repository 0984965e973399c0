"""From a checkpoint to posteriors of clips, and from a person's recording to its events.

Axis letters: ``B`` clips, ``T`` frames, ``T'`` frames of the model, ``F`` mel bands, ``C`` classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from tqdm import tqdm

from jfsed_jax.audio.device import log_mel_jax
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.audio.host import log_mel
from jfsed_jax.audio.reading import load_audio
from jfsed_jax.configs import base
from jfsed_jax.errors import InputError
from jfsed_jax.method import step as train_step
from jfsed_jax.method.models import output_frames, time_pooling
from jfsed_jax.method.state import TrainState, averaged_params, state_of_seed, teacher_params
from jfsed_jax.runs import checkpoints
from jfsed_jax.sed import postprocessing as postprocess
from jfsed_jax.sed.events import Event

MODELS = ("student", "teacher", "mean")
_BATCH = 16


class Mels(Protocol):
    """B log-mel clips <float>[T, F]: a list, or anything that reads them one by one."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> np.ndarray: ...


class Posteriors(NamedTuple):
    """clip: <float32>[B, C]; frames: <float32>[B, T', C], T' frames of the student."""

    clip: np.ndarray
    frames: np.ndarray


def make_predict(
    system: train_step.System, model: str = "student", average: bool = False
) -> Callable[[TrainState, jax.Array], Posteriors]:
    """A jitted ``(state, mel [B, T, F]) -> Posteriors``.

    Args:
      system: the models, without a mapped axis.
      model: whose outputs: ``student``, ``teacher``, or the ``mean`` of both. Frames are those of
        the student: a teacher's frame is repeated over the frames it covers.
      average: use the moving average of the parameters.
    """
    if model not in MODELS:
        raise InputError(f"model {model!r}: expected one of {', '.join(MODELS)}")

    @jax.jit
    def predict(state: TrainState, mel: jax.Array) -> Posteriors:
        params = averaged_params(state) if average else state.params
        if params is None:
            raise InputError(
                "config.evaluation.average needs a moving average: set config.optimiser.ema_decay"
            )

        def apply(module, params, stats):
            variables = {"params": params, "batch_stats": stats}
            output: Any = module.apply(variables, mel.astype(jnp.float32))
            # Frame t of the student's T' lies in frame t T'' // T' of a teacher with T''.
            frames = output_frames(system.student.pools, mel.shape[1])
            own = output.frames.shape[1]
            return Posteriors(output.clip, output.frames[:, np.arange(frames) * own // frames])

        outputs = {}
        if model != "teacher":
            stats = state.batch_stats["student"]
            outputs["student"] = apply(system.student, params["student"], stats)
        if model != "student" and "teacher" in params:
            stats = state.batch_stats["teacher"]
            outputs["teacher"] = apply(system.teacher, params["teacher"], stats)
        elif model != "student":
            # A mean teacher has its statistics from noisy clips; those to be labelled are clean.
            stats = state.batch_stats["student"]
            outputs["teacher"] = apply(system.teacher, teacher_params(state), stats)
        if model != "mean":
            return outputs[model]
        return jax.tree.map(lambda a, b: (a + b) / 2, outputs["student"], outputs["teacher"])

    return predict


def predict_clips(
    predict: Callable, state: TrainState, mels: Mels, *, progress: bool = False
) -> Posteriors:
    """Posteriors of B clips, a fixed number at a time (the last batch is padded).

    All devices share each batch.

    Args:
      predict: of `make_predict`.
      state: the parameters.
      mels: B arrays <float>[T, F]; read one by one.
      progress: show a bar.
    """
    mesh = train_step.make_mesh()
    spec = jax.sharding.PartitionSpec
    state = jax.device_put(state, jax.sharding.NamedSharding(mesh, spec()))
    shared = jax.sharding.NamedSharding(mesh, spec(train_step.AXIS))
    size = -(-_BATCH // mesh.size) * mesh.size
    clip, frames = [], []
    for start in tqdm(range(0, len(mels), size), desc="posteriors", disable=not progress):
        batch = [np.asarray(mels[i]) for i in range(start, min(start + size, len(mels)))]
        padded = np.stack(batch + [batch[-1]] * (size - len(batch)))
        output = jax.device_get(predict(state, jax.device_put(padded, shared)))
        clip.append(output.clip[: len(batch)])
        frames.append(output.frames[: len(batch)])
    return Posteriors(np.concatenate(clip), np.concatenate(frames))


@dataclass(frozen=True)
class Detector:
    """A trained system, restored: what evaluation and prediction need.

    Attributes:
      config: as trained.
      meta: what travels with the weights, see `train.describe`.
      front_end: turns audio into the model's input.
      classes: C labels.
      step: of the checkpoint.
      seed: which of the run's `num_seeds`, counted from 0.
      model: whose posteriors these are, of `MODELS`.
      state: parameters and statistics.
      predict: ``mel [B, T, F] -> Posteriors``.
    """

    config: Any
    meta: dict[str, Any]
    front_end: FrontEnd
    classes: tuple[str, ...]
    step: int
    seed: int
    model: str
    state: TrainState
    predict: Callable[[TrainState, jax.Array], Posteriors]

    def posteriors(self, mels: Mels, progress: bool = False) -> Posteriors:
        """Posteriors of B log-mel clips; see `predict_clips`."""
        return predict_clips(self.predict, self.state, mels, progress=progress)


def load_detector(
    workdir: Path, which: str = "best", model: str | None = None, seed: int = 0
) -> Detector:
    """Restores a workdir's checkpoint.

    Args:
      workdir: of a training run.
      which: ``best`` or ``latest``.
      model: overrides the config's ``evaluation.model``.
      seed: which of the run's ``num_seeds``, counted from 0.

    Raises:
      InputError: no checkpoint there, or no such seed.
    """
    if not (workdir / "checkpoints").is_dir():
        hint = " Those of reproduce are in its runs/." if (workdir / "runs").is_dir() else ""
        raise InputError(
            f"{workdir} holds no checkpoints: is it the --workdir of a training run?{hint}"
        )
    with checkpoints.open_manager(workdir) as manager:
        step = checkpoints.choose_step(manager, which)
        meta = checkpoints.read_meta(manager, step)
        config = ml_collections.FrozenConfigDict(meta["config"])
        if missing := sorted({*base.get_config()} - {*config} - {"teacher"}):
            raise InputError(
                f"{workdir} was trained with another version of jfsed_jax: its config has no "
                f"{', '.join(missing)}; use that version, or train again"
            )
        if not 0 <= seed < config.num_seeds:
            raise InputError(
                f"seed {seed} of {workdir}: it was trained with config.num_seeds = "
                f"{config.num_seeds}; expected 0 to {config.num_seeds - 1}"
            )
        classes = tuple(meta["classes"])
        front_end = FrontEnd(**meta["front_end"])
        system = train_step.make_system(
            config,
            num_classes=len(classes),
            steps_per_epoch=meta["steps_per_epoch"],
            axis_name=None,
            shares=meta["feature_shares"],
        )
        abstract = jax.eval_shape(
            lambda key: train_step.initial_state(system, config, key), train_step.run_keys(config)
        )
        mesh = train_step.make_mesh(1)
        state = state_of_seed(checkpoints.restore_state(manager, step, abstract, mesh), seed)
    model = model or config.evaluation.model
    predict = make_predict(system, model, config.evaluation.average)
    return Detector(config, meta, front_end, classes, step, seed, model, state, predict)


def make_listen(detector: Detector) -> Callable[[TrainState, jax.Array], Posteriors]:
    """A jitted ``(state, waveform [B, N]) -> Posteriors``, the log-mel on the device too.

    N samples at the front end's rate: a clip, or another length whose frames the models can pool.
    """

    @jax.jit
    def listen(state: TrainState, waveform: jax.Array) -> Posteriors:
        return detector.predict(state, log_mel_jax(waveform, detector.front_end))

    return listen


def recording_posteriors(detector: Detector, waveform: np.ndarray) -> np.ndarray:
    """Gated frame posteriors of a recording of any length.

    A recording longer than a clip is cut into clips that overlap by half. Each clip's frames are
    multiplied by its own tags (figure 4), then clips are cross-faded: a frame counts more the
    closer it is to the middle of a clip.

    Args:
      detector: a trained system.
      waveform: <float32>[N] at the front end's sample rate.

    Returns:
      <float32>[T', C], T' the recording's length in frames of the student.
    """
    front_end = detector.front_end
    clip_frames = front_end.num_frames
    pooled = time_pooling(detector.config.student.pools)
    hop = max(clip_frames // 2 // pooled, 1) * pooled
    num_frames = -(-len(waveform) // front_end.hop_length)
    # One clip, and one more for every started half clip beyond it.
    more = -(-max(num_frames - clip_frames, 0) // hop)
    starts = [hop * i for i in range(1 + more)]
    # Silence and not an edge effect: the padding of a short training clip is digital silence too.
    needed = (starts[-1] + clip_frames) * front_end.hop_length
    padded = np.pad(waveform, (0, max(needed - len(waveform), 0)))
    mel = log_mel(padded, front_end)
    clips = [mel[start : start + clip_frames] for start in starts]
    output = detector.posteriors(clips, progress=len(clips) > 60)
    gated = output.frames * (output.clip > 0.5)[:, None, :]

    length = gated.shape[1]
    fade = 1 - np.abs(np.linspace(-1, 1, length + 2)[1:-1, None])
    total = np.zeros((starts[-1] // pooled + length, len(detector.classes)))
    weight = np.zeros((len(total), 1))
    for start, frames in zip(starts, gated, strict=True):
        covered = slice(start // pooled, start // pooled + length)
        total[covered] += fade * frames
        weight[covered] += fade
    return (total / weight)[: -(-num_frames // pooled)].astype(np.float32)


def detect(detector: Detector, path: Path, *, rule: str | None = None) -> list[Event]:
    """The events of an audio file of any sample rate, channels and length.

    Args:
      detector: a trained system.
      path: the file; its name as given becomes the events' file name.
      rule: of the median windows; the config's if None.

    Raises:
      InputError: the file cannot be used.
    """
    waveform = load_audio(path, detector.front_end.sample_rate)
    frames = recording_posteriors(detector, waveform)
    windows = np.array(detector.meta["windows"][rule or detector.config.postprocess.rule])
    return postprocess.detect_events(
        None,
        frames[None],
        windows,
        filenames=[str(path)],
        classes=detector.classes,
        frame_rate=detector.meta["frame_rate"],
    )
