"""Where runs stand: the newest checkpoint of each, or one that they all have, or the beginning."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import logging

from jfsed_jax.hosts import Hosts
from jfsed_jax.method.state import TrainState, initial_state, run_keys
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.recovery import restore_newest
from jfsed_jax.runs.workdir import Workdir, check_format, write_json
from jfsed_jax.training.origin import Origin, check_origin, started_from
from jfsed_jax.training.plan import Plan, check_resume


@dataclass(frozen=True)
class Run:
    """A run on its way: its plan, its folder, its checkpoints, and what messages call it.

    One that trains alone has no name.
    """

    plan: Plan
    files: Workdir
    manager: Any
    name: str = ""


class Standing(NamedTuple):
    """The state to go on from, its step, and what its weights first came from."""

    state: TrainState | None
    step: int
    begun: dict[str, Any] | None


def where_they_stand(
    runs: Sequence[Run], hosts: Hosts, mesh, source: Path | None
) -> list[Standing]:
    """Where each run goes on: all from one step, where they all have a checkpoint of it still.

    A kill may have come when some had saved and others had not.
    """
    found = [_restored(run, hosts, mesh, source) for run in runs]
    earliest = min(one.step for one in found)
    ahead = [m for m, one in enumerate(found) if one.step > earliest]
    if earliest and all(earliest in runs[m].manager.all_steps()[-2:] for m in ahead):
        for m in ahead:
            found[m] = _restored(runs[m], hosts, mesh, source, earliest)
    return found


def _restored(run: Run, hosts: Hosts, mesh, source: Path | None, at: int | None = None) -> Standing:
    """From the newest checkpoint that can be read, or that of a step; without one step 0."""
    plan, files, manager = run.plan, run.files, run.manager
    init = partial(initial_state, plan.system, input_shape=plan.input_shape)

    def read(step: int) -> dict[str, Any]:
        meta = checkpoints.read_meta(manager, step)
        check_format(meta, files.path)
        check_resume(meta, plan.meta, files)
        check_origin(meta, source, files)
        return meta

    def restore(step: int, meta: dict[str, Any]) -> tuple[TrainState, dict[str, Any] | None]:
        abstract = jax.eval_shape(init, run_keys(plan.config.seed, plan.config.num_seeds))
        found = check_format(meta, files.path)
        state = checkpoints.restore_state(manager, step, abstract, mesh, found)
        return state, meta.get("init_from")

    if at is not None:
        state, begun = restore(at, read(at))
        return Standing(state, at, begun)
    restored = restore_newest(manager, files, read, restore, hosts)
    if restored is None:
        return Standing(None, 0, None)
    (state, begun), step = restored
    logging.info("resumed %s at step %d of %d", files.path, step, plan.total_steps)
    return Standing(state, step, begun)


def from_origin(run: Run, state: TrainState, origin: Origin, mesh) -> TrainState:
    """A new run's state with the weights of another run, on the mesh."""
    plan, classes = run.plan, run.plan.prepared.classes
    state = started_from(state, origin, plan.system, classes=classes, input_shape=plan.input_shape)
    new = [label for label in classes if label not in origin.classes]
    logging.info(
        "%s starts from the weights of %s, step %d; at random begin the outputs of %s",
        run.files.path,
        origin.path,
        origin.step,
        ", ".join(new) or "no class",
    )
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(state, everywhere)


def write_meta(meta: dict[str, Any], files: Workdir) -> None:
    """``config.json``, ``meta.json`` and, of several, what each seed has for itself."""
    write_json(files.config, meta["config"], allow_nan=True)
    write_json(files.meta, meta, allow_nan=True)
    num_seeds = meta["config"]["num_seeds"]
    for k in range(num_seeds if num_seeds > 1 else 0):
        own = files.seed(k, num_seeds)
        write_json(own.config, meta["config"], allow_nan=True)
        write_json(own.meta, meta | {"seed": k}, allow_nan=True)
