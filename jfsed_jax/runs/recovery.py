"""Going on without a checkpoint that cannot be read: from the one before it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax
import orbax.checkpoint as ocp
from absl import logging

from jfsed_jax.errors import InputError
from jfsed_jax.runs.checkpoints import DamagedCheckpoint
from jfsed_jax.runs.workdir import Workdir

Restored = TypeVar("Restored")


def restore_newest(
    manager: ocp.CheckpointManager, workdir: Workdir, restore: Callable[[int], Restored]
) -> tuple[Restored, int] | None:
    """The newest checkpoint that can be restored, and its step; None if there is none at all.

    Newer ones that cannot be are moved out of the way, with a warning: the run comes by their steps
    again.

    Args:
      manager: of the workdir.
      workdir: this process trains there.
      restore: a step's checkpoint, see `restore_state`.

    Raises:
      DamagedCheckpoint: none can be restored; all stay where they are.
    """
    damaged: dict[int, DamagedCheckpoint] = {}
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            restored = restore(step)
        except DamagedCheckpoint as error:
            if jax.process_count() > 1:
                raise  # the hosts would have to agree on what is moved
            damaged[step] = error
            continue
        for other, damage in damaged.items():
            moved = _move_away(workdir, other)
            logging.warning(
                "%s: it is now %s, and training goes on from step %d", damage.reason, moved, step
            )
        if damaged:
            manager.reload()
        return restored, step
    if not damaged:
        return None
    first, *others = damaged.values()
    if all(error.hint == first.hint for error in others):
        raise first
    raise DamagedCheckpoint(first.reason, "nor can any before it: is the run of another version?")


def _move_away(workdir: Workdir, step: int) -> Path:
    moved, count = workdir.damaged / str(step), 1
    while moved.exists():
        count += 1
        moved = workdir.damaged / f"{step}-{count}"
    try:
        workdir.damaged.mkdir(exist_ok=True)
        os.rename(workdir.checkpoints / str(step), moved)
    except OSError as error:
        raise InputError(
            f"the damaged checkpoint {workdir.checkpoints / str(step)} cannot be moved to {moved}: "
            f"{error.strerror}"
        ) from error
    return moved
