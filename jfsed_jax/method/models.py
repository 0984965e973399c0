"""The models of table 1: the two-branch CRNNs of figure 1 and the systems they are compared with.

`CRNN` is the paper's teacher or student (section 2.1), `GuidedCNN` those of Guided Learning (system
1), `BaselineCRNN` the DCASE 2019 baseline's student (system 0). All take log-mel clips and give an
`Output`, so the step, checkpoints and prediction do not tell them apart.

Axis letters: ``B`` clips, ``T`` frames of the input (600), ``T'`` frames after the model's
temporal pooling (teacher 6, student 600), ``F`` mel bands (64), ``C`` event classes (10), ``D``
features (teacher 512, student 160), ``H`` hidden units of a GRU direction.

Parameters and batch statistics are float32; ``dtype`` is the type of the computation. Whatever a
loss sees is float32.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.kernels.dropout import Dropout
from jfsed_jax.kernels.pooling import Window
from jfsed_jax.method.layers import (
    AttentionPooling,
    BiGRU,
    ConvBlock,
    DisentangledAttention,
    GatedBlock,
    normalise,
)
from jfsed_jax.seams import resolve


class Output(NamedTuple):
    """What either model says about a batch of clips.

    Attributes:
      clip: <float32>[B, C] probability that the class occurs in the clip (tagging branch).
      frames: <float32>[B, T', C] posterior of the class in the frame (detection branch).
      features: <float32>[B, T', D] output of the CNN blocks, which distillation compares; before
        or after the last dropout, see `CNN`.
    """

    clip: jax.Array
    frames: jax.Array
    features: jax.Array


class CNN(nn.Module):
    """What the models of the paper and of Guided Learning share: normalisation and CNN blocks.

    The i-th block has ``filters[i]`` filters of ``kernels[i] x kernels[i]``, ``convs[i]`` times,
    and pools windows of ``pools[i]`` = (frames, mel bands).

    Attributes:
      classes: C.
      batch_norm_momentum: share of the old running statistics that a step keeps.
      axis_name: the mapped axis over which batch statistics are averaged, or None.
      dtype: the type of the computation.
      pooling: a name of `layers.POOLINGS`.
      clip_floor_db, mel_heights: see `layers.normalise`.
      before_dropout: whether the features of `Output` are those before the last dropout. The
        branches see those after it.
    """

    classes: int
    filters: Sequence[int]
    kernels: Sequence[int]
    pools: Sequence[Window]
    convs: Sequence[int]
    dropout: float
    batch_norm_momentum: float
    batch_norm_epsilon: float
    axis_name: str | None = None
    dtype: Any = jnp.float32
    pooling: str = "max"
    clip_floor_db: float = 0.0
    mel_heights: tuple[float, ...] = (1.0,)
    before_dropout: bool = False

    @property
    def time_stride(self) -> int:
        """Frames of the input that one frame of the output lasts."""
        return math.prod(time for time, _ in self.pools)

    def features(self, mel: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """[B, T, F] -> [B, T', D], for the branches, and those of `Output` as float32.

        Called by the compact ``__call__`` of a subclass.
        """
        batch_norm: dict[str, Any] = {
            "momentum": self.batch_norm_momentum,
            "epsilon": self.batch_norm_epsilon,
            "axis_name": self.axis_name if train else None,
        }
        floor: dict[str, Any] = {"floor_db": self.clip_floor_db, "mel_heights": self.mel_heights}
        x = normalise(mel, train, **floor, **batch_norm)
        x = x.astype(self.dtype)[..., None]
        blocks = zip(self.filters, self.kernels, self.pools, self.convs, strict=True)
        for i, (filters, kernel, pool, convs) in enumerate(blocks):
            # The last block's dropout comes here where features without it are asked for.
            apart = self.before_dropout and i == len(self.filters) - 1
            dropout = 0.0 if apart else self.dropout
            block = filters, kernel, pool, convs, dropout, batch_norm, self.dtype, self.pooling
            x = ConvBlock(*block, name=f"block_{i}")(x, train)
        given = x = x.reshape(*x.shape[:2], -1)
        if self.before_dropout:
            x = Dropout(self.dropout, self.axis_name)(x, train)
        return x, given.astype(jnp.float32)


class CRNN(CNN, kw_only=True):
    """A teacher or a student, according to its numbers (figure 1, a and b).

    Attributes, beside those of `CNN`:
      gru_hidden, gru_layers: the BGRUs of the tagging branch; no layers is "PTS w/o BGRUs".
      at_width, aed_width: the "Linear" layers of the tagging and the detection branch.
      aed_recurrent: whether the detection branch sees the BGRUs too; in the paper it does not.
      gru_loop: see `BiGRU`.
    """

    gru_hidden: int
    gru_layers: int
    at_width: int
    aed_width: int
    aed_recurrent: bool
    gru_loop: str = "scan"

    @nn.compact
    def __call__(self, mel: jax.Array, train: bool = False) -> Output:
        """Posteriors of log-mel clips.

        Args:
          mel: <float>[B, T, F] log-mel.
          train: batch statistics of this batch, dropout on (needs the ``dropout`` key).
        """
        features, given = self.features(mel, train)
        recurrent = features
        for i in range(self.gru_layers):
            recurrent = BiGRU(self.gru_hidden, self.dtype, self.gru_loop, name=f"gru_{i}")(
                recurrent
            )
        both = jnp.concatenate([features, recurrent], axis=-1) if self.gru_layers else features
        tagging = nn.relu(nn.Dense(self.at_width, dtype=self.dtype, name="at_linear")(both))
        clip, _ = AttentionPooling(self.classes, name="at_pooling")(tagging)

        detection = both if self.aed_recurrent else features
        detection = nn.relu(
            nn.Dense(self.aed_width, dtype=self.dtype, name="aed_linear")(detection)
        )
        # The paper's ten separate fully connected layers, one column of the kernel each.
        logits = nn.Dense(self.classes, name="aed_classes")(detection.astype(jnp.float32))
        return Output(clip, nn.sigmoid(logits), given)


class GuidedCNN(CNN, kw_only=True):
    """The teacher or the student of Guided Learning (arXiv 1906.02517), system 1 of table 1.

    Attributes, beside those of `CNN`:
      shares: per class the share of the features that are its disentangled feature, see
        `feature_shares`.
    """

    shares: Sequence[float]

    @nn.compact
    def __call__(self, mel: jax.Array, train: bool = False) -> Output:
        """As `CRNN`."""
        features, given = self.features(mel, train)
        clip, frames = DisentangledAttention(self.classes, self.shares, name="pooling")(features)
        return Output(clip, frames, given)


class BaselineCRNN(nn.Module):
    """The DCASE 2019 Task 4 baseline, system 0 of table 1: gated blocks, BGRUs, attention pooling.

    Its frame posteriors are those that attention pooling averages. Fields as in `CNN` and `CRNN`;
    the input is normalised without trained parameters, as its scaler does.

    Attributes:
      input_momentum: of the input's statistics. Those of the other layers move fast in the
        original (0.01 of the old value is kept), its scaler does not move at all.
    """

    classes: int
    filters: Sequence[int]
    kernels: Sequence[int]
    pools: Sequence[Window]
    dropout: float
    gru_hidden: int
    gru_layers: int
    batch_norm_momentum: float
    batch_norm_epsilon: float
    input_momentum: float
    axis_name: str | None = None
    dtype: Any = jnp.float32
    gru_loop: str = "scan"
    clip_floor_db: float = 0.0
    mel_heights: tuple[float, ...] = (1.0,)

    @property
    def time_stride(self) -> int:
        """As of `CNN`."""
        return math.prod(time for time, _ in self.pools)

    @nn.compact
    def __call__(self, mel: jax.Array, train: bool = False) -> Output:
        """As `CRNN`; ``features`` are those of the CNN."""
        options: dict[str, Any] = {"axis_name": self.axis_name if train else None}
        options["epsilon"] = self.batch_norm_epsilon
        floor: dict[str, Any] = {"floor_db": self.clip_floor_db, "mel_heights": self.mel_heights}
        scaler = options | {"momentum": self.input_momentum}
        x = normalise(mel, train, affine=False, **floor, **scaler)
        x = x.astype(self.dtype)[..., None]
        options["momentum"] = self.batch_norm_momentum
        for i, block in enumerate(zip(self.filters, self.kernels, self.pools, strict=True)):
            x = GatedBlock(*block, self.dropout, options, self.dtype, name=f"block_{i}")(x, train)
        features = recurrent = x.reshape(*x.shape[:2], -1)
        for i in range(self.gru_layers):
            recurrent = BiGRU(self.gru_hidden, self.dtype, self.gru_loop, name=f"gru_{i}")(
                recurrent
            )
        recurrent = Dropout(self.dropout, self.axis_name)(recurrent, train)
        clip, frames = AttentionPooling(self.classes, name="pooling")(recurrent)
        return Output(clip, frames, features.astype(jnp.float32))


def num_parameters(params) -> int:
    """The number of scalars in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def time_stride(model: nn.Module, frames: int, bands: int) -> int:
    """How many frames of the input one frame of a model's output lasts.

    A model says so itself (``time_stride``), or its output tells for an input of `frames` frames
    and `bands` mel bands.

    Raises:
      InputError: its output is not as it says; or it does not say, and the frames do not divide
        evenly.
    """
    mel = jax.ShapeDtypeStruct((1, frames, bands), jnp.float32)
    output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), mel)
    own = output.frames.shape[1]
    declared = getattr(model, "time_stride", None)
    if declared is not None and own not in (frames // declared, -(-frames // declared)):
        raise InputError(
            f"{type(model).__name__} says that a frame lasts {declared} of the input, but makes "
            f"{own} frames of {frames}: correct its time_stride"
        )
    if declared is None and frames % own:
        raise InputError(
            f"{type(model).__name__} makes {own} frames of {frames}: which of them one frame "
            "covers cannot be told; give it an attribute time_stride, in frames"
        )
    return frames // own if declared is None else int(declared)


def feature_shares(clip_labels: np.ndarray, least: float) -> tuple[float, ...]:
    """Per class ``(1 - m) n_c / max n + m``: how many features its disentangled feature has [GL].

    Args:
      clip_labels: <float>[N, C] tags of the clips that are counted; n_c counts those with class c
        alone.
      least: m.
    """
    tags = np.asarray(clip_labels) > 0
    alone = tags[tags.sum(1) == 1].sum(0)
    if not alone.any():  # nothing to tell the classes apart by
        return (1.0,) * tags.shape[1]
    # The quotient first: the largest class has all features, whatever rounds.
    return tuple(((1 - least) * (alone / alone.max()) + least).tolist())


def from_config(
    page,
    batch_norm,
    *,
    classes: int,
    dtype: str,
    axis_name: str | None,
    shares: Sequence[float] | None = None,
    gru_loop: str = "scan",
    clip_floor_db: float = 0.0,
    mel_heights: Sequence[float] = (1.0,),
    before_dropout: bool = False,
) -> nn.Module:
    """The model that a config's ``teacher`` or ``student`` page describes.

    Any linen module will do whose call is ``(mel <float>[B, T, F], train=False) -> Output``. Of
    the values below it gets those that it has fields for, under these names. Batch statistics are
    its own affair, and so is its ``time_stride``, see the function of that name.

    Args:
      page: mapping with ``architecture``, a class of this module or ``package.module:Class``, and
        values for its fields.
      batch_norm: mapping with ``momentum`` and ``epsilon``: fields ``batch_norm_momentum`` and
        ``batch_norm_epsilon``.
      classes: C.
      dtype: name of the computation's type, ``float32`` or ``bfloat16``.
      axis_name: see `CNN`.
      shares: see `GuidedCNN`; all features where None.
      gru_loop: see `layers.BiGRU`.
      clip_floor_db, mel_heights, before_dropout: see `CNN`.

    Raises:
      InputError: there is no such class, or the page does not fit its fields.
    """
    options = {name: _hashable(value) for name, value in page.items() if value is not None}
    name = options.pop("architecture")
    known = {"CRNN": CRNN, "GuidedCNN": GuidedCNN, "BaselineCRNN": BaselineCRNN}
    architecture = resolve(name, known, "config: architecture")
    if not (isinstance(architecture, type) and issubclass(architecture, nn.Module)):
        raise InputError(f"config: architecture is {name!r}: expected a class of linen modules")
    offered = {
        "classes": classes,
        "dtype": jnp.dtype(dtype),
        "axis_name": axis_name,
        "batch_norm_momentum": batch_norm["momentum"],
        "batch_norm_epsilon": batch_norm["epsilon"],
        "shares": tuple(shares or (1.0,) * classes),
        "gru_loop": gru_loop,
        "clip_floor_db": clip_floor_db,
        "mel_heights": tuple(mel_heights),
        "before_dropout": before_dropout,
    }
    fields = {field.name for field in dataclasses.fields(architecture)}
    taken = {key: value for key, value in offered.items() if key in fields}
    try:
        return architecture(**taken, **options)
    except TypeError as error:
        own = ", ".join(sorted(fields - offered.keys() - {"name", "parent"}))
        raise InputError(
            f"the config's page of {name} does not fit ({error}); its fields are {own}"
        ) from error


def _hashable(value: Any) -> Any:
    """Lists of a config as tuples: a module's fields must not change."""
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
