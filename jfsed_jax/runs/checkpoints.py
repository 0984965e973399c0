"""Checkpoints: a thin layer over orbax.

Beside the state a checkpoint holds everything that a person's audio needs to become events: the
config, the front end, the class list, the windows. The normalisation of the input is the first
batch norm of each model and so part of the state.

Training restores the whole state (`restore_state`); everyone else reads the variables of the models
(`read_variables`), which takes neither the models nor the optimiser.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jfsed_jax.errors import InputError
from jfsed_jax.method.optimisers import averaged
from jfsed_jax.method.state import Variables, model_variables
from jfsed_jax.runs.workdir import Workdir

SELECTION = "selection"


def open_manager(workdir: Workdir) -> ocp.CheckpointManager:
    """Keeps the latest checkpoint and the one with the best ``selection`` metric."""

    def selection(metrics) -> float:
        return metrics[SELECTION]

    best = BestN(get_metric_fn=selection, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=AnyPreservationPolicy([LatestN(1), best]),
        best_fn=selection,  # without it orbax does not write the metrics
    )
    return ocp.CheckpointManager(workdir.checkpoints.absolute(), options=options)


def save(
    manager: ocp.CheckpointManager, step: int, state, meta: Mapping[str, Any], selection=None
) -> None:
    """Saves in the background; a step that is already saved is left as it is."""
    if step in manager.all_steps():
        return
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
    # Selections are 0 or more: a checkpoint between two evaluations is worse than any evaluated.
    metrics = {SELECTION: -1.0 if selection is None else selection}
    manager.save(step, args=items, metrics=metrics)


def choose_step(manager: ocp.CheckpointManager, which: str) -> int:
    """The step called ``latest`` or ``best``: of equals, or where none was evaluated, the later."""
    latest = manager.latest_step()
    if latest is None:
        raise InputError(
            f"{manager.directory} holds no checkpoint: train first (jfsed-jax train --workdir ...)"
        )
    if which == "latest":
        return latest
    return max(manager.all_steps(), key=lambda step: (manager.metrics(step)[SELECTION], step))


@contextmanager
def _readable(manager: ocp.CheckpointManager, step: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, InputError):
        raise
    except Exception as error:  # orbax raises whatever its storage raises
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        raise InputError(
            f"the checkpoint {manager.directory / str(step)} cannot be read ({reason}): is it of "
            "another version, or damaged? If damaged, move that folder away to go on from an "
            "earlier one"
        ) from error


def read_meta(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """What was saved beside the state."""
    with _readable(manager, step):
        items = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return manager.restore(step, args=items).meta


def restore_state(manager: ocp.CheckpointManager, step: int, abstract_state, mesh, format: int):
    """The state of a step, on every device of the mesh; any number of devices may have saved it.

    Args:
      manager: of the workdir.
      step: one that is saved.
      abstract_state: shapes and types, from ``jax.eval_shape``.
      mesh: the devices.
      format: of the checkpoint, see `workdir.check_format`.
    """
    sharding = NamedSharding(mesh, PartitionSpec())
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract_state,
    )
    nested = jax.tree.structure(target.opt_state)
    if format == 1 and averaged(target.opt_state) is not None:
        # Format 1 had Adam's two transformations and the average in one flat chain.
        (adam, rate), average = target.opt_state
        target = target.replace(opt_state=(adam, rate, average))
    with _readable(manager, step):
        _check_leaves(manager.directory / str(step) / "state", target)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        state = manager.restore(step, args=items).state
    return state.replace(opt_state=jax.tree.unflatten(nested, jax.tree.leaves(state.opt_state)))


def _check_leaves(directory, target) -> None:
    """Refuses a saved state whose arrays are not those that are asked for."""

    def kinds(tree) -> list[tuple]:
        return sorted((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tree))

    if any(
        jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(target)
    ):
        return  # a random key is saved in a form of its own
    with closing(ocp.PyTreeCheckpointHandler()) as handler:
        saved = handler.metadata(directory).tree
    for name in ("params", "batch_stats", "opt_state"):
        if kinds(saved[name]) != kinds(getattr(target, name)):
            raise InputError(
                f"{directory} holds {name} of other shapes than this run has: to go on, hand in "
                "the models, objective and optimiser that it was begun with"
            )


def read_variables(
    manager: ocp.CheckpointManager, step: int, *, use_average: bool = False, seed: int = 0
) -> Variables:
    """The variables of both models, on one device of this process.

    Args:
      manager: of the workdir.
      step: one that is saved.
      use_average: the moving average of the parameters, which the optimiser keeps, and not the
        parameters.
      seed: which of the run's seeds.

    Returns:
      See `state.model_variables`.

    Raises:
      InputError: the checkpoint cannot be read, or keeps no average.
    """
    directory = manager.directory / str(step) / "state"
    device = SingleDeviceSharding(jax.local_devices()[0])

    def target(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)

    with _readable(manager, step), closing(ocp.PyTreeCheckpointHandler()) as handler:
        saved = handler.metadata(directory).tree
        wanted = ["params", "batch_stats"]
        mean_teacher = "teacher" in saved["batch_stats"] and "teacher" not in saved["params"]
        if use_average or mean_teacher:
            wanted.append("opt_state")
        item = {name: jax.tree.map(target, saved[name]) for name in wanted}
        arguments = ocp.args.PyTreeRestore(
            item=item,
            restore_args=ocp.checkpoint_utils.construct_restore_args(item),
            partial_restore=True,
        )
        state = handler.restore(directory, args=arguments)
        if saved["step"].shape:  # of several seeds
            state = jax.tree.map(lambda leaf: leaf[seed], state)
        average = next(_averages(state.get("opt_state")), None)
        return model_variables(
            state["params"], state["batch_stats"], average, use_average=use_average
        )


def _averages(node: Any) -> Iterator[Any]:
    """What `optimisers.ParameterEmaState` kept, wherever it lies in a saved optimiser state."""
    if isinstance(node, dict):
        if node.keys() == {"ema"}:
            yield node["ema"]
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _averages(child)
