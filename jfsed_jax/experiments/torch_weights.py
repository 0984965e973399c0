"""Weights of a PyTorch system to our variables and back, in NumPy.

The PyTorch side is the ``state_dict`` of a module with a ``teacher``, a ``student`` and, in the
joint framework, their ``distillation`` maps, named as in `jfsed_jax.experiments.torch_models`:
``teacher.blocks.0.convs.1.weight``, ``student.gru.weight_ih_l0_reverse``.

A mean teacher (system 0) is two models there, as any pair, and so it is here: the teacher's
parameters, which a `TrainState` keeps in the optimiser (`jfsed_jax.method.state.teacher_params`),
stand beside the student's. An average that goes on from them starts with
``parameter_ema(decay).init({"student": teacher})``.

Layouts differ:

- convolution [O, I, h, w] there, [h, w, I, O] here; linear [O, I] there, [I, O] here;
- ``nn.GRU`` has one [3H, D] a direction, here both are one [2, D, 3H]; the gates keep torch's order
  (reset, update, new), and both biases stay;
- PyTorch accumulates the unbiased variance of a batch, flax the biased one. Values are copied as
  they are, since both use them alike; only where training goes on do they drift n / (n - 1) apart,
  n values a channel.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jfsed_jax.errors import InputError

_MODULES = ((r"block_(\d+)", r"blocks.\1"), (r"Conv_(\d+)", r"convs.\1"), (r"BatchNorm_", "norms."))
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
    # of DisentangledAttention
    "frame_kernel": "frame.weight",
    "frame_bias": "frame.bias",
    "clip_kernel": "clip.weight",
    "clip_bias": "clip.bias",
}
_GRU_LEAVES = {
    "input_kernel": "weight_ih",
    "input_bias": "bias_ih",
    "recurrent_kernel": "weight_hh",
    "recurrent_bias": "bias_hh",
}
_COUNTER = "num_batches_tracked"  # of every batch norm; unused as long as it has a momentum


Names = Callable[[tuple[str, ...]], list[str]]


def torch_names(path: tuple[str, ...]) -> list[str]:
    """The name there of the variable at `path`; two names, one a direction, for a GRU's."""
    if path[0] == "distillation":
        return [".".join(path) + ".weight"]
    *modules, leaf = path
    if leaf in _GRU_LEAVES:
        *modules, layer = modules
        name = ".".join([*modules, "gru", _GRU_LEAVES[leaf]]) + layer.replace("gru_", "_l")
        return [name, name + "_reverse"]
    name = ".".join([*modules, _LEAVES.get(leaf, leaf)])
    for ours, theirs in _MODULES:
        name = re.sub(ours, theirs, name)
    return [name]


def to_torch(variables: Mapping[str, Any], names: Names = torch_names) -> dict[str, np.ndarray]:
    """A ``state_dict`` of arrays: ``{name: torch.from_numpy(array)}`` loads strictly.

    Args:
      variables: ``params`` with ``teacher``, ``student``, ``distillation``, and ``batch_stats``
        with ``teacher``, ``student``, as a `TrainState` holds them. Any of these may be left out.
      names: of a variable by its path, for modules that are called otherwise.
    """
    state = {}
    for tree in variables.values():
        for path, value in flatten_dict(tree).items():
            own, value = names(path), np.asarray(value)
            for name, part in zip(own, [value] if len(own) == 1 else value, strict=True):
                part = part.transpose(3, 2, 0, 1) if part.ndim == 4 else part.T
                state[name] = np.array(part, order="C")
                if name.endswith("running_mean"):
                    state[name.replace("running_mean", _COUNTER)] = np.zeros((), np.int64)
    return state


def from_torch(
    state_dict: Mapping[str, Any], like: Mapping[str, Any], names: Names = torch_names
) -> dict[str, Any]:
    """Our variables with PyTorch's values.

    Args:
      state_dict: name -> tensor on the CPU, or array.
      like: variables of the wanted structure, see `to_torch`; only shapes and types are used.
      names: see `to_torch`.

    Raises:
      InputError: a name is missing, left over, or has another shape.
    """
    left = {name for name in state_dict if not name.endswith(_COUNTER)}

    def take(name: str) -> np.ndarray:
        if name not in state_dict:
            raise InputError(f"the state_dict has no {name!r}: is it of the same config?")
        left.discard(name)
        value = np.asarray(state_dict[name])
        return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T

    variables = {}
    for collection, tree in like.items():
        found = {}
        for path, wanted in flatten_dict(tree).items():
            own = names(path)
            parts = [take(name) for name in own]
            value = parts[0] if len(parts) == 1 else np.stack(parts)
            if value.shape != wanted.shape:
                raise InputError(
                    f"{own[0]!r} has shape {value.shape} in our layout, expected {wanted.shape}: "
                    "is it of the same config?"
                )
            found[path] = np.array(value, wanted.dtype, order="C")  # a copy: tensors share memory
        variables[collection] = unflatten_dict(found)
    if left:
        raise InputError(f"the state_dict has {len(left)} names of no use here: {sorted(left)[:3]}")
    return variables
