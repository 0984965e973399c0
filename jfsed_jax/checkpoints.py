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
    policy = AnyPreservationPolicy(
        [
            LatestN(1),
            BestN(
                get_metric_fn=lambda metrics: metrics[SELECTION],
                n=1,
                keep_checkpoints_without_metrics=False,
            ),
        ]
    )
    options = ocp.CheckpointManagerOptions(preservation_policy=policy)
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


def save(
    manager: ocp.CheckpointManager, step: int, state, meta: Mapping[str, Any], selection=None
) -> None:
    """Saves in the background; a step that is already saved is left as it is."""
    if step in manager.all_steps():
        return
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
    metrics = None if selection is None else {SELECTION: selection}
    manager.save(step, args=items, metrics=metrics)


def best_step(manager: ocp.CheckpointManager) -> int | None:
    """The kept step with the best selection, or None if none was evaluated."""
    scored = {step: manager.metrics(step) for step in manager.all_steps()}
    known = {step: metrics[SELECTION] for step, metrics in scored.items() if metrics}
    return max(known, key=lambda step: (known[step], step)) if known else None


def choose_step(manager: ocp.CheckpointManager, which: str) -> int:
    """The step called ``latest`` or ``best`` (the latest where nothing was evaluated yet)."""
    latest = manager.latest_step()
    if latest is None:
        raise InputError(
            f"{manager.directory} holds no checkpoint: train first (jfsed-jax train --workdir ...)"
        )
    if which == "best":
        best = best_step(manager)
        return latest if best is None else best
    return latest


def read_meta(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """What was saved beside the state."""
    return manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta


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
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
    return manager.restore(step, args=args).state
