"""Checkpoints: a thin layer over orbax.

Beside the state a checkpoint holds everything that a person's audio needs to become events: the
config, the front end, the class list, the windows. The normalisation of the input is the first
batch norm of each model and so part of the state.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jfsed_jax.errors import InputError

SELECTION = "selection"


def open_manager(workdir: Path) -> ocp.CheckpointManager:
    """Keeps the latest checkpoint and the one with the best ``selection`` metric."""

    def selection(metrics) -> float:
        return metrics[SELECTION]

    best = BestN(get_metric_fn=selection, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=AnyPreservationPolicy([LatestN(1), best]),
        best_fn=selection,  # without it orbax does not write the metrics
    )
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


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


def _restore(manager: ocp.CheckpointManager, step: int, **items):
    try:
        return manager.restore(step, args=ocp.args.Composite(**items))
    except MemoryError:
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
    return _restore(manager, step, meta=ocp.args.JsonRestore()).meta


def restore_state(manager: ocp.CheckpointManager, step: int, abstract_state, mesh):
    """The state of a step, on every device of the mesh; any number of devices may have saved it.

    Args:
      manager: of the workdir.
      step: one that is saved.
      abstract_state: shapes and types, from ``jax.eval_shape``.
      mesh: the devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec())
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract_state,
    )
    return _restore(manager, step, state=ocp.args.StandardRestore(target)).state
