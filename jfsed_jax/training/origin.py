"""The run whose weights another one starts from, see ``init_from`` of `loop.fit`.

Both models and their batch statistics are taken as that run is evaluated, with the average of the
parameters where its config says so. In layers that have an axis of classes, each class has what the
class of the same name had; a class that is new begins at random [ours]. So do the optimiser, the
step, the maps of the distillation, and the average, which begins at the weights that were taken.

Axis letters: ``C`` event classes, ``K`` seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.errors import InputError
from jfsed_jax.method.state import TrainState, Variables
from jfsed_jax.method.system import System
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import Workdir, check_format, upgraded


@dataclass(frozen=True)
class Origin:
    """The best checkpoint of a run.

    Attributes:
      path: of the run.
      step: of the checkpoint.
      classes: its C labels.
      variables: of its models, for each of its seeds.
    """

    path: Path
    step: int
    classes: tuple[str, ...]
    variables: list[Variables]


def read_origin(path: Path, front_end: FrontEnd) -> Origin:
    """Reads what a run starts from.

    Raises:
      InputError: there is no checkpoint, or it hears with another front end.
    """
    files = Workdir(path)
    if not files.checkpoints.is_dir():
        raise InputError(
            f"--init_from {path} holds no checkpoints: is it the --workdir of a training run?"
            f"{files.hint()}"
        )
    with checkpoints.open_manager(files) as manager:
        step = checkpoints.choose_step(manager, "best")
        meta = checkpoints.read_meta(manager, step)
        check_format(meta, path)
        for name, value in asdict(front_end).items():
            if (found := meta["front_end"][name]) != value:
                raise InputError(
                    f"--init_from {path} was trained with config.front_end.{name} = {found}, this "
                    f"run has {value}: give it the same"
                )
        config = upgraded(meta["config"])
        average = config["evaluation"]["average"]
        variables = [
            checkpoints.read_variables(manager, step, use_average=average, seed=k)
            for k in range(config["num_seeds"])
        ]
    return Origin(path, step, tuple(meta["classes"]), variables)


def remembered(origin: Origin, workdir: Workdir) -> dict[str, Any]:
    """What a run keeps of where it started from, as JSON."""
    return {
        "workdir": workdir.relative(origin.path),
        "step": origin.step,
        "classes": list(origin.classes),
    }


def check_origin(meta: Mapping[str, Any], init_from: Path | None, workdir: Workdir) -> None:
    """Refuses to go on as if a run had started elsewhere; unasked, it goes on as it was begun.

    Args:
      meta: of the checkpoint.
      init_from: what the run is called with now.
      workdir: of the run.

    Raises:
      InputError: it names both.
    """
    begun = meta.get("init_from")
    where = workdir.remembered(begun["workdir"]) if begun else None
    if init_from is None or init_from.resolve() == where:
        return
    raise InputError(
        f"{workdir.path} was begun from {where or 'random weights'}, not from {init_from}: leave "
        "--init_from out to go on, or choose another --workdir"
    )


def started_from(
    state: TrainState,
    origin: Origin,
    system: System,
    *,
    classes: Sequence[str],
    input_shape: tuple[int, int],
) -> TrainState:
    """A new run's state with the weights of another run in its models, and an optimiser anew.

    Args:
      state: as `state.initial_state` gives it; of several seeds [K, ...]. Seed k starts from seed
        k, or where there are fewer from the first ones over again.
      origin: of `read_origin`.
      system: of the run.
      classes: the run's C labels.
      input_shape: (T, F) of a clip.

    Raises:
      InputError: the models are not alike; it names the first difference.
    """
    several = state.step.ndim > 0
    seeds = range(state.step.shape[0] if several else 1)
    params, batch_stats = dict(state.params), dict(state.batch_stats)
    for name, module in system.models.named().items():
        # The teacher of a mean teacher is the student's average.
        taken = name if name in params else "student"
        axes = _class_axes(module, input_shape)
        own = []
        for k in seeds:
            found = origin.variables[k % len(origin.variables)]
            fresh = {"params": state.params[taken], "batch_stats": state.batch_stats[name]}
            if several:
                fresh = jax.tree.map(lambda leaf, k=k: leaf[k], fresh)
            if taken not in found:
                raise InputError(f"--init_from {origin.path} has no {taken}, and this run has one")
            own.append(_merged(fresh, found[taken], axes, origin, classes, taken))
        merged = jax.tree.map(lambda *leaves: np.stack(leaves), *own) if several else own[0]
        batch_stats[name] = merged["batch_stats"]
        if name in params:
            params[name] = merged["params"]
    init = jax.vmap(system.optimiser.init) if several else system.optimiser.init
    return replace(state, params=params, batch_stats=batch_stats, opt_state=init(params))


def _leaves(tree: Any) -> dict[str, Any]:
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in found}


def _class_axes(module: nn.Module, input_shape: tuple[int, int]) -> dict[str, int]:
    """By leaf of a module's variables, the axis of the classes: the one that grows with them."""
    if not hasattr(module, "classes"):
        return {}
    more: dict[str, Any] = {"classes": module.classes + 1}
    if hasattr(module, "shares"):
        more["shares"] = (*module.shares, module.shares[-1])
    mel = jax.ShapeDtypeStruct((1, *input_shape), "float32")
    now, then = (
        _leaves(jax.eval_shape(one.init, jax.random.key(0), mel))
        for one in (module, module.clone(**more))
    )
    axes = {}
    for key, leaf in now.items():
        grown = [i for i, size in enumerate(leaf.shape) if then[key].shape[i] != size]
        if grown:
            axes[key] = grown[0]
    return axes


def _merged(
    fresh: Any,
    found: Any,
    axes: Mapping[str, int],
    origin: Origin,
    classes: Sequence[str],
    model: str,
) -> Any:
    """Variables of one model: those that were found, and of classes that are new the fresh ones."""
    there = _leaves({"params": found["params"], "batch_stats": found.get("batch_stats", {})})
    same = tuple(classes) == origin.classes
    if not (same or axes):
        raise InputError(
            f"--init_from {origin.path} was trained on {', '.join(origin.classes)}, this run is on "
            f"{', '.join(classes)}: a {model} without a field 'classes' cannot change its classes"
        )
    old = {label: i for i, label in enumerate(origin.classes)}
    pairs = [(new, old[label]) for new, label in enumerate(classes) if label in old]

    def take(path, leaf) -> np.ndarray:
        key = jax.tree_util.keystr(path)
        axis = None if same else axes.get(key)
        taken = there.get(key)
        shape = None if taken is None else taken.shape
        wanted = leaf.shape
        if shape is not None and axis is not None and len(shape) == len(wanted):
            wanted = (*wanted[:axis], len(origin.classes), *wanted[axis + 1 :])
        if taken is None or shape != wanted:
            raise InputError(
                f"--init_from {origin.path} has another {model}: {key} has the shape {shape} there "
                f"and would have {wanted} here; train with the models of its config"
            )
        if axis is None:
            return np.asarray(taken)
        merged = np.moveaxis(np.array(leaf), axis, 0)
        source = np.moveaxis(np.asarray(taken), axis, 0)
        for new, other in pairs:
            merged[new] = source[other]
        return np.moveaxis(merged, 0, axis)

    merged = jax.tree_util.tree_map_with_path(take, fresh)
    if extra := there.keys() - _leaves(fresh).keys():
        key = min(extra)
        raise InputError(
            f"--init_from {origin.path} has another {model}: {key} has the shape "
            f"{there[key].shape} there and is not here; train with the models of its config"
        )
    return merged
