"""Runs that take their steps as one program: those that differ in numbers of the step alone.

The step is built within itself, from a config that has arguments in place of those numbers, so that
it is one program for all runs. On an accelerator it is mapped over them (`jax.vmap`). On a CPU,
which one run fills, mapped steps are slower than single ones, and the same program is called for
one run after the other.

Axis letters: ``M`` runs, ``K`` models: the seeds of each run, ``U`` those who draw clips, ``B``
clips of a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Var
from jax.sharding import NamedSharding, PartitionSpec

from jfsed_jax.datasets.selection import TrainingData, data_seed
from jfsed_jax.errors import InputError
from jfsed_jax.method import parallel
from jfsed_jax.method.numbers import differing, with_numbers
from jfsed_jax.method.state import TrainState, initial_state, run_keys
from jfsed_jax.method.step import train_step
from jfsed_jax.training.feed import batch_specs, drawers
from jfsed_jax.training.plan import Plan


@dataclass(frozen=True)
class Program:
    """What runs that are trained as one program have in common.

    The state of one run is that run's. Of several it is their states stacked, each array [M, ...],
    or where they are called one after the other a tuple of them.

    Attributes:
      plans: of the M runs, in which the numbers of the config may differ.
      stacked: whether the step is mapped over the runs.
    """

    plans: tuple[Plan, ...]
    stacked: bool

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """By key of the config the M values of a number in which the runs differ."""
        found = differing([plan.config for plan in self.plans])
        return {
            key: np.array(values, np.float32 if any(isinstance(v, float) for v in values) else None)
            for key, values in found.items()
        }

    @property
    def seeds(self) -> int:
        """Of each run."""
        return self.plans[0].config.num_seeds

    @property
    def drawers(self) -> dict[int, TrainingData]:
        """By data seed what those U draw from who draw clips for the models."""
        return drawers(self.plans)

    def rows(self) -> np.ndarray:
        """<int32>[K]: whose clips each model sees."""
        places = {seed: row for row, seed in enumerate(self.drawers)}
        seeds = [data_seed(p.config, k) for p in self.plans for k in range(self.seeds)]
        return np.array([places[seed] for seed in seeds], np.int32)

    def joined(self, states: Sequence[TrainState]) -> Any:
        """The state of the program, from that of each run."""
        if len(self.plans) == 1:
            return states[0]
        return _stacked(*states) if self.stacked else tuple(states)

    def of_run(self, state: Any, m: int) -> TrainState:
        """What run `m` has of the state."""
        if len(self.plans) == 1:
            return state
        return _at(state, m) if self.stacked else state[m]

    def alone(self, m: int, state: Any, batch: Any) -> tuple[TrainState, Any]:
        """The state and the batch of run `m`, as where it trains alone."""
        if len(self.plans) > 1 and len(self.drawers) > 1:
            # Seeds that do not share theirs in their own order, which others need not have.
            rows = list(dict.fromkeys(self.rows().reshape(len(self.plans), -1)[m].tolist()))
            batch = _at(batch, np.array(rows) if len(rows) > 1 else rows[0])
        return self.of_run(state, m), batch


@jax.jit
def _stacked(*states):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@jax.jit
def _at(stacked, m):
    return jax.tree.map(lambda leaf: leaf[m], stacked)


def make_program(plans: Sequence[Plan], platform: str) -> Program:
    """The program of runs on a platform of JAX."""
    return Program(tuple(plans), stacked=platform != "cpu")


def check_program(plans: Sequence[Plan]) -> None:
    """Refuses runs that are no one program, by tracing the step of one model.

    Raises:
      InputError: it names the key of the config that differs and cannot be an argument of the step,
        or is none.
    """
    configs = [plan.config for plan in plans]
    numbers = differing(configs)
    first = plans[0]
    traced = _traced(first, numbers)
    if isinstance(traced, Exception):
        error = f"{type(traced).__name__}: {str(traced).partition(chr(10))[0]:.160}"
        alone = {key: _traced(first, {key: values}) for key, values in numbers.items()}
        bad = [key for key, found in alone.items() if isinstance(found, Exception)]
        named = bad or list(numbers)
        shown = "; ".join(f"config.{key} is {_listed(numbers[key])}" for key in named)
        raise InputError(
            f"{shown} in runs that are to be trained as one program, but it decides how the step "
            f"is made ({error}): train those apart"
        )
    used = {x for eqn in traced.jaxpr.eqns for x in eqn.invars if isinstance(x, Var)}
    arguments = traced.jaxpr.invars[len(traced.jaxpr.invars) - len(numbers) :]
    unread = [key for key, x in zip(sorted(numbers), arguments, strict=True) if x not in used]
    if unread:
        raise InputError(
            f"config.{unread[0]} is {_listed(numbers[unread[0]])} in runs that are to be trained "
            "as one program, but nothing in the step of this config reads it: they would be the "
            "same; leave it out"
        )
    # What 0 turns off may have no place in the state.
    for m, plan in enumerate(plans):
        zeros = [key for key, values in numbers.items() if not values[m]]
        if zeros and _places(plan, {}) != _places(plan, numbers):
            raise InputError(
                f"config.{zeros[0]} is {_listed(numbers[zeros[0]])} in runs that are to be trained "
                "as one program, but with 0 they train other arrays: train that apart"
            )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in dict.fromkeys(values))


def _abstract(numbers: Mapping[str, Sequence[float]]) -> dict[str, jax.ShapeDtypeStruct]:
    floats = {key: any(isinstance(v, float) for v in values) for key, values in numbers.items()}
    return {key: jax.ShapeDtypeStruct((), "float32" if f else "int32") for key, f in floats.items()}


def _traced(plan: Plan, numbers: Mapping[str, Sequence[float]]) -> Any:
    """The first step of one model as a jaxpr, whose last arguments are the numbers in the order of
    their keys; or why it cannot be traced."""
    frames, bands = plan.input_shape
    size, classes = sum(plan.config.batch.values()), len(plan.prepared.classes)
    batch = {
        "mel": jax.ShapeDtypeStruct((size, frames, bands), "float32"),
        "clip_labels": jax.ShapeDtypeStruct((size, classes), "float32"),
        "frame_labels": jax.ShapeDtypeStruct((size, frames, classes), "float32"),
        "is_weak": jax.ShapeDtypeStruct((size,), "float32"),
        "is_strong": jax.ShapeDtypeStruct((size,), "float32"),
    }

    def step(batch, numbers):
        system = plan.make_system(with_numbers(plan.config, numbers), axis_name=None)
        key = jax.random.key(0)
        state = initial_state(system, key, input_shape=plan.input_shape)
        return train_step(state, batch, key, system=system)

    try:
        return jax.make_jaxpr(step)(batch, _abstract(numbers))
    except Exception as error:  # of whatever the config names
        return error


def _places(plan: Plan, numbers: Mapping[str, Sequence[float]]) -> Any:
    """The places of the state in which a run starts, some of whose numbers are arguments."""

    def init(numbers):
        system = plan.make_system(with_numbers(plan.config, numbers), axis_name=None)
        return initial_state(system, jax.random.key(0), input_shape=plan.input_shape)

    return jax.tree.structure(jax.eval_shape(init, _abstract(numbers)))


def initial_states(program: Program, mesh) -> list[TrainState]:
    """The state in which each run starts, on every device of the mesh."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    first = program.plans[0]

    def init(key, numbers):
        system = first.system
        if numbers:
            system = first.make_system(with_numbers(first.config, numbers), axis_name=None)
        return initial_state(system, key, input_shape=first.input_shape)

    create = jax.jit(init, out_shardings=everywhere, compiler_options=parallel.once_options(mesh))
    numbers = program.numbers
    return [
        create(
            run_keys(plan.config.seed, program.seeds),
            {key: values[m] for key, values in numbers.items()},
        )
        for m, plan in enumerate(program.plans)
    ]


def jitted_steps(program: Program, mesh) -> tuple[dict[int, Callable], list[Any]]:
    """Jitted ``(state, batch, arguments) -> (state, metrics)`` by how many steps a call takes.

    Returns:
      They, and the arguments: of each run, or one for all where the program is stacked.
    """
    first, seeds = program.plans[0], program.seeds
    config = first.config
    one_spec, several_spec = batch_specs(len(program.drawers))
    count = len(program.plans)
    rows = program.rows().reshape(count, -1)
    unique = len(program.drawers)
    # Whether a model picks its own of several batches; else all see all there are, in their order.
    picks = unique > 1 and not all(np.array_equal(own, np.arange(unique)) for own in rows)
    numbers = program.numbers

    def of_model(state, batch, arguments):
        key, own, row = arguments
        system = first.system
        if own:
            changed = with_numbers(config, own)
            system = first.make_system(changed, axis_name=parallel.AXIS)
        if picks:
            batch = jax.tree.map(lambda values: values[row], batch)
        return train_step(state, batch, key, system=system, axis_name=parallel.AXIS)

    step: Callable = of_model
    if seeds > 1:
        step = parallel.several_seeds(step, share_batch=picks or unique == 1)

    def arguments_of(m: int):
        own = {key: np.full(seeds, values[m]) for key, values in numbers.items()}
        found = run_keys(program.plans[m].config.seed, seeds), own, rows[m]
        return found if seeds > 1 else (found[0], {k: v[0] for k, v in own.items()}, rows[m][0])

    arguments = [arguments_of(m) for m in range(count)]
    if count > 1 and program.stacked:
        step = parallel.several_seeds(step, share_batch=True)
        arguments = [jax.tree.map(lambda *own: jnp.stack(own), *arguments)]
    compiled = {1: parallel.data_parallel(step, mesh, one_spec)}
    if config.steps_per_dispatch > 1:
        several_steps = parallel.data_parallel(parallel.scanned(step), mesh, several_spec)
        compiled[config.steps_per_dispatch] = several_steps
    return compiled, arguments


def step_fns(program: Program, mesh) -> dict[int, Callable]:
    """``(state, batch) -> (state, metrics)`` by the number of steps that a call takes.

    Metrics are <float32>[K], of n > 1 steps [n, K], or of M runs of S seeds [..., M, S].
    """
    compiled, arguments = jitted_steps(program, mesh)
    if len(arguments) == 1:
        return {n: partial(_with_arguments, fn, arguments[0]) for n, fn in compiled.items()}
    return {n: partial(_one_by_one, fn, arguments, int(n > 1)) for n, fn in compiled.items()}


def _with_arguments(step: Callable, arguments, state, batch):
    return step(state, batch, arguments)


def _one_by_one(step: Callable, arguments: Sequence[Any], axis: int, states, batch):
    taken = [step(state, batch, own) for state, own in zip(states, arguments, strict=True)]
    return tuple(state for state, _ in taken), _side_by_side(axis, [own for _, own in taken])


@partial(jax.jit, static_argnums=0)
def _side_by_side(axis: int, metrics):
    return {name: jnp.stack([own[name] for own in metrics], axis) for name in metrics[0]}
