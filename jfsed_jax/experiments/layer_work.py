"""What the layers of a model have to do for one clip: operations, numbers moved, turns.

Operations are those of `jfsed_jax.method.operations`. A number that moves is an element of a tensor
that a layer reads from memory or writes to it:

- Every layer reads its input once and writes its output once. What is elementwise is part of the
  layer before it: a bias is the convolution's, and ReLU, pooling and dropout are the batch norm's.
- In training a batch norm reads its input once more, for the statistics that it needs first.
- Going back, a convolution or product makes two gradients, of its input from the cotangent and of
  its weights from the cotangent and the input. A batch norm reads its input and the cotangent for
  two sums, and again to make the input's gradient.
- A GRU is a product for all frames and a loop. The loop reads what the product wrote and writes the
  states; going back it reads both and the cotangents, and writes the product's cotangent. Frames
  are turns, which wait for each other; both directions share them.

Not counted: losses, maps of the distillation, augmentation, noise, random numbers, the places of
maxima, what is computed anew to save memory.

Axis letters: ``T`` frames, ``F`` mel bands, ``D`` features, ``H`` hidden units, ``C`` classes.
"""

from typing import NamedTuple

import flax.linen as nn

from jfsed_jax.errors import InputError
from jfsed_jax.method.models import CRNN, BaselineCRNN, GuidedCNN


class LayerWork(NamedTuple):
    """A layer and one clip.

    Attributes:
      name: within its model.
      parameters: how many are trained.
      flops: of a forward pass; a backward pass has twice as many.
      forward: numbers that a forward pass moves.
      statistics: those that it moves beyond them in training.
      backward: numbers that a backward pass moves.
      turns: of a pass, that wait for each other.
    """

    name: str
    parameters: int
    flops: int
    forward: int
    statistics: int
    backward: int
    turns: int = 0


def layer_works(model: nn.Module, frames: int, bands: int) -> list[LayerWork]:
    """The layers of a model for a clip of `frames` and mel `bands`, in their order.

    Raises:
      InputError: the model is not of `jfsed_jax.method.models`.
    """
    if not isinstance(model, CRNN | GuidedCNN | BaselineCRNN):
        raise InputError(
            f"--roofline: the layers of {type(model).__name__} are not known; expected a CRNN, a "
            "GuidedCNN or a BaselineCRNN"
        )
    mel, gated = frames * bands, isinstance(model, BaselineCRNN)
    works = [LayerWork("input norm", 0 if gated else 2 * bands, 0, 2 * mel, mel, 2 * mel)]
    convs = (1,) * len(model.filters) if isinstance(model, BaselineCRNN) else model.convs
    blocks = zip(model.filters, model.kernels, model.pools, convs, strict=True)
    inputs = 1
    for i, (filters, kernel, pool, repeats) in enumerate(blocks):
        for j in range(repeats):
            name = f"block {i} conv {j}" if repeats > 1 else f"block {i} conv"
            positions = frames * bands
            works.append(_product(name, positions, kernel**2 * inputs, filters, reads=inputs))
            inputs = filters
            if j == repeats - 1 and not gated:
                frames, bands = frames // pool[0], bands // pool[1]
            works.append(_norm(f"{name} norm", positions, frames * bands, filters))
        if gated:
            positions, frames, bands = frames * bands, frames // pool[0], bands // pool[1]
            works.append(_gate(f"block {i} gate", positions, frames * bands, filters))
    features = inputs * bands
    if isinstance(model, GuidedCNN):
        return [*works, _disentangled(frames, features, model.classes)]
    width = features
    for i in range(model.gru_layers):
        hidden = model.gru_hidden
        works.append(_product(f"gru {i} input", frames, width, 6 * hidden))
        works.append(_loop(f"gru {i} loop", frames, hidden))
        width = 2 * hidden
    if isinstance(model, BaselineCRNN):
        return [*works, _product("pooling", frames, width, 2 * model.classes)]
    both = features + (width if model.gru_layers else 0)
    detection = both if model.aed_recurrent else features
    return [
        *works,
        _product("tagging linear", frames, both, model.at_width),
        _product("tagging pooling", frames, model.at_width, 2 * model.classes),
        _product("detection linear", frames, detection, model.aed_width),
        _product("detection classes", frames, model.aed_width, model.classes),
    ]


def _product(
    name: str, positions: int, depth: int, outputs: int, *, reads: int | None = None
) -> LayerWork:
    """A convolution or a dense layer with a bias: [positions, depth] @ [depth, outputs].

    Args:
      reads: numbers of the input at a position; a convolution's are the `depth` of several.
    """
    into, out = positions * (depth if reads is None else reads), positions * outputs
    flops = 2 * positions * depth * outputs
    return LayerWork(name, (depth + 1) * outputs, flops, into + out, 0, 2 * (into + out))


def _norm(name: str, positions: int, pooled: int, filters: int) -> LayerWork:
    """Batch norm with what follows it, from `positions` to as many as pooling leaves."""
    into, out = positions * filters, pooled * filters
    return LayerWork(name, 2 * filters, 0, into + out, into, 2 * (into + out) + into)


def _gate(name: str, positions: int, pooled: int, filters: int) -> LayerWork:
    """The baseline's gated linear unit with dropout and pooling."""
    into, out = positions * filters, pooled * filters
    flops, parameters = 2 * positions * filters**2, (filters + 1) * filters
    return LayerWork(name, parameters, flops, into + out, 0, 2 * (into + out) + into)


def _loop(name: str, frames: int, hidden: int) -> LayerWork:
    """The turns of both directions: products of the states with [H, 3H]."""
    projected, states = 6 * hidden * frames, 2 * hidden * frames
    return LayerWork(
        name,
        parameters=2 * (hidden + 1) * 3 * hidden,
        flops=2 * frames * 2 * 3 * hidden**2,
        forward=projected + states,
        statistics=0,
        backward=2 * projected + 2 * states,
        turns=frames,
    )


def _disentangled(frames: int, features: int, classes: int) -> LayerWork:
    """Guided Learning's pooling: logits of all frames, then their weighted sum, then the clip."""
    values = frames * features
    return LayerWork(
        "pooling",
        parameters=2 * (features + 1) * classes,
        flops=2 * classes * features * (2 * frames + 1),
        forward=2 * values + frames * classes,
        statistics=0,
        backward=3 * values + frames * classes,
    )
