"""Weights of the released DCASE 2019 Task 4 baseline to system 0's variables and back, in NumPy.

Its code is github.com/turpaultn/DCASE2019_task4. A checkpoint there, as ``torch.load`` gives it, is
a mapping with ``model`` and ``model_ema``, whose ``state_dict`` holds one mapping a layer (``cnn``,
``rnn``, ``dense``), and with ``scaler``, the mean and the mean square of each mel band. They become
the parameters and batch statistics of ``configs/mean_teacher.py``: ``model`` is the student,
``model_ema`` its average, the teacher.

**One layer is not in its checkpoints.** ``CRNN.state_dict`` there leaves ``dense_softmax`` out, the
logits of the attention, and ``TestModel.py`` scores clips with the first values that a new model
drew. Frame posteriors do not depend on it. `from_released` wants it beside ``dense``: of a model in
memory, ``crnn.state_dict() | {"dense_softmax": crnn.dense_softmax.state_dict()}``.

Between the two inputs lie a logarithm and a filter: the scaler there is of decibels of filters of
height 1, our input norm of natural logarithms of filters of the config's. It cannot account for
what is not linear in them: the window, and the floor of the logarithm.

Axis letters: ``F`` mel bands.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jfsed_jax.audio.front_end import FrontEnd, filter_peaks
from jfsed_jax.errors import InputError
from jfsed_jax.experiments.torch_weights import from_torch, to_torch, torch_names

_MODELS = {"student": "model", "teacher": "model_ema"}
_LAYERS = (
    (r"blocks\.(\d+)\.convs\.0", r"cnn.conv\1"),
    (r"blocks\.(\d+)\.norms\.0", r"cnn.batchnorm\1"),
    (r"blocks\.(\d+)\.linear", r"cnn.glu\1.linear"),
    (r"gru", "rnn.rnn"),
    (r"pooling\.posterior", "dense"),
    (r"pooling\.attention", "dense_softmax"),
)
_SCALER = {"mean": "scaler.mean", "var": "scaler.variance"}
_NEPERS_PER_DB = math.log(10) / 20


def _released_names(path: tuple[str, ...]) -> list[str]:
    """As `torch_names`: the keys of a checkpoint, joined by dots."""
    model, *layers, leaf = path
    if layers == ["input_norm"]:  # both models share one scaler
        return [_SCALER[leaf]]
    renamed = []
    for name in torch_names(path):
        name = name.removeprefix(model + ".")
        for ours, theirs in _LAYERS:
            name = re.sub("^" + ours, theirs, name)
        renamed.append(f"{_MODELS[model]}.{name}")
    return renamed


def from_released(
    checkpoint: Mapping[str, Any], like: Mapping[str, Any], config: ConfigDict
) -> dict[str, Any]:
    """System 0's variables with the values of a released checkpoint.

    Args:
      checkpoint: ``model``, ``model_ema``, ``scaler`` as above, tensors on the CPU or arrays; what
        else a checkpoint holds is left alone.
      like: ``params`` and ``batch_stats``, each with ``teacher`` and ``student`` or one of them, as
        `torch_weights.from_torch` takes them.
      config: of ``configs/mean_teacher.py``, for its front end and epsilon.

    Raises:
      InputError: a key is missing, left over, or its value has another shape.
    """
    wanted = {name for tree in like.values() for name in tree}
    values: dict[str, Any] = {}
    for ours, theirs in _MODELS.items():
        if ours not in wanted:
            continue
        layers = _entry(_entry(checkpoint, theirs), "state_dict", theirs)
        if "dense_softmax" not in layers:
            raise InputError(
                f"{theirs}: state_dict has no 'dense_softmax'. The released code does not save this"
                " layer; add it: of the model in memory, dense_softmax.state_dict(). Zeros of its"
                " shapes weigh all frames and classes alike. Frame posteriors do not depend on it"
            )
        for layer, entries in layers.items():
            values |= {f"{theirs}.{layer}.{name}": value for name, value in entries.items()}
    if "batch_stats" in like:
        scaler = _entry(checkpoint, "scaler")
        mean = np.asarray(_entry(scaler, "mean_", "scaler"), np.float64)
        square = np.asarray(_entry(scaler, "mean_of_square_", "scaler"), np.float64)
        bands = config.front_end.n_mels
        if mean.shape != (bands,) or square.shape != (bands,):
            raise InputError(
                f"scaler: 'mean_' and 'mean_of_square_' have the shapes {mean.shape} and "
                f"{square.shape}, expected ({bands},)"
            )
        values[_SCALER["mean"]] = mean * _NEPERS_PER_DB + _log_height(config)
        # A batch norm adds epsilon to the variance, the scaler does not.
        variance = (square - mean**2) * _NEPERS_PER_DB**2
        values[_SCALER["var"]] = variance - config.batch_norm.epsilon
    return from_torch(values, like, _released_names)


def to_released(variables: Mapping[str, Any], config: ConfigDict) -> dict[str, Any]:
    """A checkpoint of arrays with ``model``, ``model_ema`` and ``scaler``, see `from_released`.

    With tensors for arrays its ``CRNN.load`` takes the ``state_dict`` of either, leaving
    ``dense_softmax`` to be loaded into that layer. The scaler is that of the student.
    """
    # The student last: of what both have, its value stays.
    ordered = {
        collection: {name: tree[name] for name in ("teacher", "student") if name in tree}
        for collection, tree in variables.items()
    }
    checkpoint: dict[str, Any] = {}
    values = to_torch(ordered, _released_names)
    if _SCALER["mean"] in values:
        mean = values.pop(_SCALER["mean"]).astype(np.float64) - _log_height(config)
        variance = values.pop(_SCALER["var"]).astype(np.float64) + config.batch_norm.epsilon
        mean, variance = mean / _NEPERS_PER_DB, variance / _NEPERS_PER_DB**2
        scaler = {"mean_": mean.tolist(), "mean_of_square_": (variance + mean**2).tolist()}
        checkpoint["scaler"] = scaler
    for name, value in values.items():
        model, layer, entry = name.split(".", 2)
        layers = checkpoint.setdefault(model, {"state_dict": {}})["state_dict"]
        layers.setdefault(layer, {})[entry] = value
    return checkpoint


def _entry(mapping: Mapping[str, Any], name: str, within: str = "the checkpoint") -> Any:
    if name not in mapping:
        raise InputError(
            f"{within} has no {name!r}, but {', '.join(map(repr, mapping)) or 'nothing'}: expected "
            "a checkpoint of the DCASE 2019 Task 4 baseline"
        )
    return mapping[name]


def _log_height(config: ConfigDict) -> np.ndarray:
    """<float64>[F]: what the height of our mel filters adds to the logarithm."""
    return np.log(filter_peaks(FrontEnd(**config.front_end)))
