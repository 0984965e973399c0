"""Checkpoints: a thin layer over orbax.

Beside the state a checkpoint holds everything that a person's audio needs to become events: the
config, the front end, the class list, the windows. The normalisation of the input is the first
batch norm of each model and so part of the state.

Training restores the whole state (`restore_state`); everyone else reads the variables of the models
(`read_variables`), which takes neither the models nor the optimiser.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import PolicyCheckpointInfo, PreservationContext

from jfsed_jax.errors import InputError
from jfsed_jax.method.optimisers import averaged
from jfsed_jax.method.state import Variables, model_variables
from jfsed_jax.runs.meta import check_checkpoint_meta, is_number, sealed, unsealed
from jfsed_jax.runs.workdir import NotWritten, Workdir, read_json

SELECTION = "selection"
_UNKNOWN = -1.0  # selections are 0 or more: worse than any that was evaluated


class DamagedCheckpoint(InputError):
    """A checkpoint that cannot be read.

    Attributes:
      reason: which, and why.
      hint: what to do.
    """

    def __init__(self, reason: str, hint: str):
        super().__init__(f"{reason}; {hint}")
        self.reason, self.hint = reason, hint


def selection_of(directory: Path, step: int) -> float:
    """How good a checkpoint is: as it is sealed, or as older versions alone had it.

    Where neither can be read, a warning says so, and it is as if it had not been evaluated.
    """
    for name in ("meta/metadata", "metrics/metrics"):
        path = directory / str(step) / name
        try:
            found = unsealed(path, read_json(path) or {}).get(SELECTION)
        except InputError:
            continue
        if is_number(found):
            return found
    logging.warning(
        "how good the checkpoint %s is cannot be read: it is taken for one that was not evaluated",
        directory / str(step),
    )
    return _UNKNOWN


@dataclass(frozen=True)
class _LatestAndBest:
    """What orbax keeps: the latest two, so that a damaged one has one before it, and the best."""

    directory: Path

    def should_preserve(
        self, checkpoints: Sequence[PolicyCheckpointInfo], *, context: PreservationContext
    ) -> list[bool]:
        """Whether to keep each of the `checkpoints`, which are in the order of their steps."""
        selections = [
            info.metrics[SELECTION] if info.metrics else selection_of(self.directory, info.step)
            for info in checkpoints
        ]
        last = len(checkpoints) - 1
        best = max(range(len(checkpoints)), key=lambda i: (selections[i], i), default=last)
        return [i in (best, last - 1, last) for i in range(len(checkpoints))]


@contextmanager
def open_manager(workdir: Workdir, *, training: bool = False) -> Iterator[ocp.CheckpointManager]:
    """The checkpoints of a run; a save keeps the latest two and the best. At the end it is awaited.

    Args:
      workdir: of the run.
      training: by the one process that saves; it removes what a save left that was cut short.

    Raises:
      NotWritten: a save has failed.
    """
    directory = workdir.checkpoints.absolute()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_LatestAndBest(directory),
        best_fn=lambda metrics: metrics[SELECTION],  # without it orbax does not write the metrics
        cleanup_tmp_directories=training,
        lightweight_initialize=True,  # else one damaged file keeps all from being opened
    )
    manager = ocp.CheckpointManager(directory, options=options)
    try:
        yield manager
    except BaseException as first:
        try:
            _close(manager)
        except NotWritten as error:
            if not isinstance(first, NotWritten):
                logging.error("%s", error)
        raise
    _close(manager)


def _close(manager: ocp.CheckpointManager) -> None:
    with _written(manager):
        manager.close()


def save(
    manager: ocp.CheckpointManager, step: int, state, meta: Mapping[str, Any], selection=None
) -> None:
    """Saves in the background; a step that is already saved is left as it is.

    Raises:
      NotWritten: this save has failed, or the one before it.
    """
    if step in manager.all_steps():
        return
    metrics = {SELECTION: _UNKNOWN if selection is None else selection}
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(sealed({**meta, **metrics}))
    )
    with _written(manager):
        manager.save(step, args=items, metrics=metrics, force=True)


def wait(manager: ocp.CheckpointManager) -> None:
    """Waits until what was saved is on the disk.

    Raises:
      NotWritten: it could not be written.
    """
    with _written(manager):
        manager.wait_until_finished()


@contextmanager
def _written(manager: ocp.CheckpointManager) -> Iterator[None]:
    try:
        yield
    except (MemoryError, InputError):
        raise
    except Exception as error:  # orbax raises whatever its storage raises
        raise NotWritten(f"{manager.directory} cannot be written: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Why, in a line; tensorstore tells the system's errors in words alone."""
    number = re.search(r"os_error_code='(\d+)'", text := str(error).strip())
    if number:
        return os.strerror(int(number[1]))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = text.splitlines()[0].partition(" [tensorstore_spec=")[0] if text else repr(error)
    return line.rpartition('": ')[2][:200]  # after which file of which array it was


def newest_on_disk(workdir: Workdir) -> int | None:
    """The step of the newest checkpoint that was saved to its end."""
    try:
        names = [path.name for path in workdir.checkpoints.iterdir() if path.is_dir()]
    except OSError:
        names = []
    return max((int(name) for name in names if name.isdecimal()), default=None)


def choose_step(manager: ocp.CheckpointManager, which: str) -> int:
    """The step called ``latest`` or ``best``: of equals, or where none was evaluated, the later."""
    latest = manager.latest_step()
    if latest is None:
        raise InputError(
            f"{manager.directory} holds no checkpoint: train first (jfsed-jax train --workdir ...)"
        )
    if which == "latest":
        return latest
    directory = Path(manager.directory)
    return max(manager.all_steps(), key=lambda step: (selection_of(directory, step), step))


@contextmanager
def _readable(manager: ocp.CheckpointManager, step: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, InputError):
        raise
    except Exception as error:  # orbax raises whatever its storage raises
        path, reason = manager.directory / str(step), _reason(error)
        if isinstance(error, PermissionError) or "PERMISSION_DENIED" in str(error):
            raise InputError(f"the checkpoint {path} cannot be read: {reason}") from error
        raise DamagedCheckpoint(
            f"the checkpoint {path} cannot be read ({reason})", _instead(manager, step)
        ) from error


def _instead(manager: ocp.CheckpointManager, step: int) -> str:
    """What a person can do without a checkpoint."""
    others = [other for other in manager.all_steps() if other != step]
    if not others:
        return "is it of another version, or damaged? There is no other one"
    if max(others) > step:
        return f"--checkpoint latest takes that of step {max(others)}"
    return f"its 'jfsed-jax train' command goes on from that of step {max(others)}"


def read_meta(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """What was saved beside the state; without orbax, where one process would wait for all.

    Raises:
      DamagedCheckpoint: it cannot be read, is not what was saved, or is nothing that can be.
    """
    where = Path(manager.directory, str(step), "meta")
    with _readable(manager, step):
        saved = json.loads((where / "metadata").read_bytes())
    try:
        meta = unsealed(where, saved)
        check_checkpoint_meta(where, meta)
    except InputError as error:
        raise DamagedCheckpoint(str(error), _instead(manager, step)) from None
    meta.pop(SELECTION, None)
    return meta


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
    """Refuses a saved state whose arrays are not those that are asked for.

    Where an earlier checkpoint of the run has them, this one is damaged.
    """

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
            raise DamagedCheckpoint(
                f"{directory} holds {name} of other shapes than this run has",
                "to go on, hand in the models, objective and optimiser that it was begun with",
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
