"""A trained system for other programs: waveform or log-mel to posteriors, without this package.

The program is StableHLO (`jax.export`), the weights in it: JAX alone loads it. Beside it stands a
JSON file with what turns its posteriors into events. The recurrence is exported as its scan: the
GPU kernels of `jfsed_jax.kernels` are calls that JAX does not promise to know later.
docs/export.md has the loader and the steps from a recording to events.

Axis letters: ``B`` clips, ``N`` samples, ``T`` frames of the front end, ``T'`` of the posteriors,
``F`` mel bands, ``C`` classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.export
import numpy as np

import jfsed_jax
from jfsed_jax.atomic import write_whole
from jfsed_jax.audio.device import log_mel_jax
from jfsed_jax.errors import InputError
from jfsed_jax.inference.detector import Detector
from jfsed_jax.inference.prediction import Posteriors, make_posteriors
from jfsed_jax.runs.workdir import write_json
from jfsed_jax.sed.postprocessing import odd_windows

INPUTS = ("waveform", "mel")
PLATFORMS = ("cpu", "cuda", "tpu")
_KNOWN = (*PLATFORMS, "rocm")  # JAX refuses no other name


def export_program(
    detector: Detector, input: str = "waveform", platforms: Sequence[str] = PLATFORMS
) -> jax.export.Exported:
    """The program ``(input) -> (clip <float32>[B, C], frames <float32>[B, T', C])``, any B.

    Args:
      detector: a trained system; its `model` and `tags` say whose posteriors these are.
      input: ``waveform``, <float32>[B, N] at the front end's rate: a clip and, on both sides of it,
        the margin that its frames reach into (`describe`); or ``mel``, <float32>[B, T, F].
      platforms: for which it is lowered: ``cpu``, ``cuda``, ``tpu``, ``rocm``.

    Raises:
      InputError: no such input or platform; a model of one's own has operations that cannot be
        stored.
    """
    if unknown := set(platforms) - set(_KNOWN):
        raise InputError(f"platform {min(unknown)!r}: expected some of {', '.join(_KNOWN)}")
    shape = jax.export.symbolic_shape(", ".join(map(str, _input_shape(detector, input))))
    program = jax.export.export(jax.jit(_program(detector, input)), platforms=tuple(platforms))
    try:
        return program(jax.ShapeDtypeStruct(shape, np.float32))
    except (ValueError, NotImplementedError, jax.errors.InconclusiveDimensionOperation) as error:
        raise InputError(
            f"the models of {detector.workdir.path} cannot be exported for "
            f"{', '.join(platforms)}: {str(error).splitlines()[0]}"
        ) from error


def export_onnx(detector: Detector) -> bytes:
    """The program of `export_program` from log-mel, as an ONNX model; by jax2onnx.

    Raises:
      InputError: jax2onnx is missing, or does not convert these models with this JAX.
    """
    try:
        import jax2onnx
    except ImportError as error:
        raise InputError(
            "ONNX needs the extra: pip install 'jfsed_jax[onnx]' (docs/export.md says with which "
            f"JAX); {error}"
        ) from error
    shape = _input_shape(detector, "mel")
    try:
        model = jax2onnx.to_onnx(
            _program(detector, "mel"),
            [shape],
            model_name="jfsed_jax",
            input_names=["mel"],
            output_names=list(Posteriors._fields),
        )
    except Exception as error:  # of a converter: any of an operation that it does not know
        raise InputError(
            f"jax2onnx does not convert the models of {detector.workdir.path} with JAX "
            f"{jax.__version__}: {type(error).__name__}: {error}; docs/export.md says with which "
            "JAX it does, and StableHLO needs no converter"
        ) from error
    return model.SerializeToString()


def describe(
    detector: Detector, rule: str | None = None, threshold: float | np.ndarray | None = None
) -> dict[str, Any]:
    """What another program needs beside the posteriors, fit for JSON; docs/export.md explains it.

    Args:
      detector: a trained system.
      rule: of the median windows, see `Detector.windows`; the config's if None.
      threshold: of the frame posteriors, one or <float>[C]; the config's if None.
    """
    front_end, page = detector.front_end, detector.config.postprocess
    hop, stride = front_end.hop_length, detector.time_stride
    shape = jax.ShapeDtypeStruct((1, front_end.num_frames, front_end.n_mels), np.float32)
    _, frames = jax.eval_shape(_program(detector, "mel"), shape)
    between = detector.clip_hop()
    about: dict[str, Any] = {
        "jfsed_jax": jfsed_jax.__version__,
        "jax": jax.__version__,
        "system": detector.config.system,
        "checkpoint_step": detector.step,
        "seed": detector.seed,
        "model": detector.model,
        "tags": detector.tags,
        "classes": list(detector.classes),
        "front_end": asdict(front_end),
        "frame_rate": detector.frame_rate,
        "clips": {
            "samples": front_end.num_frames * hop,
            "hop": between * stride * hop,
            "margin": _margin(detector) * hop,
            "frames": frames.shape[1],
            "hop_frames": between,
            "samples_per_frame": stride * hop,
        },
        "gate": 0.5 if page.gate else None,
        "decoder": page.decoder,
        "windows": odd_windows(detector.windows(rule)).tolist(),
    }
    if page.decoder == "median":  # others have values of their own
        value = page.threshold if threshold is None else threshold
        thresholds = np.broadcast_to(np.asarray(value, float), len(detector.classes))
        about |= {"thresholds": thresholds.tolist(), "medians": page.medians}
    return about


def write_export(
    detector: Detector,
    path: str | Path,
    input: str = "waveform",
    platforms: Sequence[str] = PLATFORMS,
    *,
    rule: str | None = None,
    threshold: float | np.ndarray | None = None,
) -> Path:
    """Writes the program to `path`, and what `describe` tells to ``PATH.json``.

    ``PATH.onnx`` becomes ONNX, which takes log-mel; any other name StableHLO. The JSON also has
    ``program``: its file, format, platforms, input and outputs with their shapes. It is written
    last: where there is one, it is that of the program.

    Args:
      detector, input, platforms: see `export_program`.
      path: the file of the program.
      rule, threshold: see `describe`.

    Returns:
      The path of the JSON file.

    Raises:
      InputError: the program cannot be made, or the files cannot be written; or ONNX is asked to
        take a waveform.
    """
    path = Path(path)
    onnx = path.suffix == ".onnx"
    if onnx and input != "mel":
        raise InputError(f"{path}: ONNX takes log-mel and no {input}; ask for --input=mel")
    about = describe(detector, rule, threshold)
    clips, classes = about["clips"], len(about["classes"])
    program = {
        "file": path.name,
        "format": "onnx" if onnx else "stablehlo",
        "platforms": None if onnx else list(platforms),
        "input": {"name": input, "shape": list(_input_shape(detector, input))},
        "outputs": [
            {"name": "clip", "shape": ["B", classes]},
            {"name": "frames", "shape": ["B", clips["frames"], classes]},
        ],
    }
    made = export_onnx(detector) if onnx else export_program(detector, input, platforms).serialize()
    beside = path.with_name(f"{path.name}.json")
    beside.unlink(missing_ok=True)
    write_whole(path, bytes(made))
    write_json(beside, {"program": program} | about)
    return beside


def _program(detector: Detector, input: str) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """What is exported: the weights are constants of it, its outputs a tuple that all know."""
    models = detector.models
    teacher = None if models.teacher is None else _portable(models.teacher)
    models = replace(models, teacher=teacher, student=_portable(models.student))
    posteriors = make_posteriors(models, detector.model, detector.tags)
    variables = detector.variables
    if {detector.model, detector.tags} == {"student"}:  # the teacher's weights stay out of the file
        variables = {"student": variables["student"]}

    def of_mel(mel):
        return tuple(posteriors(variables, mel))

    def of_waveform(waveform):
        # The margin is whole frames, so that those of the clip are where they are in the recording.
        margin = _margin(detector)
        mel = log_mel_jax(waveform, detector.front_end)
        return of_mel(mel[:, margin : margin + detector.front_end.num_frames])

    if input not in INPUTS:
        raise InputError(f"input {input!r}: expected one of {', '.join(INPUTS)}")
    return of_mel if input == "mel" else of_waveform


def _portable(module: nn.Module) -> nn.Module:
    return module.clone(gru_loop="scan") if hasattr(module, "gru_loop") else module


def _margin(detector: Detector) -> int:
    """Frames beside a clip that cover the half of an FFT frame that its outermost ones reach."""
    return -(-(detector.front_end.n_fft // 2) // detector.front_end.hop_length)


def _input_shape(detector: Detector, input: str) -> tuple[str | int, ...]:
    front_end = detector.front_end
    if input == "mel":
        return "B", front_end.num_frames, front_end.n_mels
    return "B", (front_end.num_frames + 2 * _margin(detector)) * front_end.hop_length
