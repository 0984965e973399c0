"""Going on without a checkpoint that cannot be read: from the one before it."""

import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import orbax.checkpoint as ocp
from absl import logging

from jfsed_jax.errors import InputError
from jfsed_jax.hosts import ALONE, Hosts
from jfsed_jax.runs.checkpoints import DamagedCheckpoint
from jfsed_jax.runs.workdir import Workdir

Read = TypeVar("Read")
Restored = TypeVar("Restored")


def restore_newest(
    manager: ocp.CheckpointManager,
    workdir: Workdir,
    read: Callable[[int], Read],
    restore: Callable[[int, Read], Restored],
    hosts: Hosts = ALONE,
) -> tuple[Restored, int] | None:
    """The newest checkpoint that can be restored, and its step; None if there is none at all.

    Newer ones that cannot be are moved out of the way, with a warning: the run comes by their steps
    again.

    Args:
      manager: of the workdir.
      workdir: this process trains there.
      read: what a step's checkpoint holds beside the state, checked; for each process by itself.
      restore: its state, see `restore_state`; for all of them together.
      hosts: the processes of the run: what one of them cannot read is read by none.

    Raises:
      DamagedCheckpoint: none can be restored; all stay where they are.
    """
    damaged: dict[int, DamagedCheckpoint] = {}
    steps = sorted(manager.all_steps(), reverse=True)
    hosts.check_same({f"{workdir.checkpoints}": steps})
    for step in steps:
        error: DamagedCheckpoint | None
        meta, error = hosts.agree(partial(_or_damage, read, step))
        if not (error := _any_damage(error, hosts)):
            assert meta is not None
            restored, error = hosts.agree(partial(_or_damage, restore, step, meta))
            error = _any_damage(error, hosts)
        if error:
            damaged[step] = error
            continue
        moved = hosts.in_turn(lambda: _moved_away(workdir, damaged) if hosts.first else {})
        for other, place in moved.items():
            reason = damaged[other].reason
            logging.warning(
                "%s: it is now %s, and training goes on from step %d", reason, place, step
            )
        if damaged:
            manager.reload()
        assert restored is not None  # as nobody has found damage
        return restored, step
    if not damaged:
        return None
    first, *others = damaged.values()
    if all(error.hint == first.hint for error in others):
        raise first
    raise DamagedCheckpoint(first.reason, "nor can any before it: is the run of another version?")


def _or_damage(
    action: Callable[..., Restored], *arguments: object
) -> tuple[Restored | None, DamagedCheckpoint | None]:
    try:
        return action(*arguments), None
    except DamagedCheckpoint as error:
        return None, error


def _any_damage(error: DamagedCheckpoint | None, hosts: Hosts) -> DamagedCheckpoint | None:
    """The damage that this process has found, or else one that another has."""
    found = hosts.gather(json.dumps(error and (error.reason, error.hint)))
    others = [told for text in found if (told := json.loads(text))]
    return error or (DamagedCheckpoint(*others[0]) if others else None)


def _moved_away(workdir: Workdir, steps: Iterable[int]) -> dict[int, Path]:
    return {step: _move_away(workdir, step) for step in steps}


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
