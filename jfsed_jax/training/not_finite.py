"""Where a loss that is not finite began: in clips, in the state, in a layer, in a term.

A step gives its state away, and a loop looks at losses every few steps only. So it keeps a copy of
the state of its last look (`Checked`); from there the steps up to the one in question are taken
again, and that one with its layers watched.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax import lax

from jfsed_jax.datasets import pipeline
from jfsed_jax.datasets.selection import KINDS, data_seed
from jfsed_jax.inference.prediction import name_some
from jfsed_jax.method.parallel import AXIS, data_parallel
from jfsed_jax.method.state import TrainState, run_keys, state_of_seed
from jfsed_jax.method.step import train_step
from jfsed_jax.training.feed import Feed
from jfsed_jax.training.plan import Plan

_EXTREME = (
    "lower config.optimiser.learning_rate (with another --workdir), or look for clips with extreme "
    "levels"
)


class Checked(NamedTuple):
    """The state of a step up to which all values are known to be finite, and what came since.

    Attributes:
      step, state: how many steps had been taken, and a copy of the state.
      drawn: for each dispatch since, its number of steps and what `Feed.draw` gave for it.
    """

    step: int
    state: Any
    drawn: list[tuple[int, Any]]

    def before(self, number: int, step_fns: Mapping[int, Callable], feed: Feed) -> tuple[Any, Any]:
        """The state before step `number`, one of those since, and its batch."""
        state, left = _copied(self.state), number - 1 - self.step
        for count, drawn in self.drawn:
            if left < count:
                break
            state, _ = step_fns[count](state, feed.place(drawn))
            left -= count
        singly = [drawn] if count == 1 else drawn
        for one in singly[:left]:
            state, _ = step_fns[1](state, feed.place(one))
        return state, feed.place(singly[left])


def checked(step: int, state: Any) -> Checked:
    """The `Checked` of a state that the next step may give away."""
    return Checked(step, _copied(state), [])


_copied = jax.jit(partial(jax.tree.map, jnp.copy))


def where_it_began(
    plan: Plan, mesh, number: int, k: int, before: Callable[[], tuple[TrainState, Any]]
) -> str:
    """In which clips, or else in which layer or term a loss began not to be finite.

    Args:
      plan, mesh: of the run.
      number: of the step, from 1.
      k: the seed in which it was not finite.
      before: the state before that step, and its batch.

    Returns:
      A part of a sentence, and what to do. It never raises: what stopped the run is to be told.
    """
    logging.warning("step %d is not finite: it is taken again to see where that began", number)
    try:
        if names := _clips_not_finite(plan, number, k):
            return (
                f"it began in the log-mel of {name_some(names)}: make their features anew, or "
                "leave them out"
            )
        return f"it began {_place(plan, mesh, k, *before())}; {_EXTREME}"
    except Exception as error:
        reason = str(error).partition("\n")[0]
        return f"where it began is not known ({type(error).__name__}: {reason:.200}); {_EXTREME}"


def _clips_not_finite(plan: Plan, number: int, k: int) -> list[str]:
    """Clips of a step, of all processes, whose log-mel is not finite."""
    config = plan.config
    own = plan.data[0 if config.seeds_share_batch else k].train
    listed = [
        (f"{clips.filenames[i]} ({KINDS[kind]})", clips, i)
        for kind, clips in pipeline.sources_of_batch(own, config.batch)
        for i in range(len(clips))
    ]
    order: dict[str, int] = {"seed": data_seed(config, k), "start": number - 1}
    found = []
    for position in next(pipeline.positions(own, config.batch, **order)):
        name, clips, i = listed[position]
        if not np.isfinite(clips[i]["mel"]).all():
            found.append(name)
    return list(dict.fromkeys(found))


def _place(plan: Plan, mesh, k: int, state: TrainState, batch: Any) -> str:
    """Where the step of seed `k` from `state` begins not to be finite."""
    config = plan.config
    state = state_of_seed(state, k)
    if config.num_seeds > 1 and not config.seeds_share_batch:
        batch = jax.jit(lambda batch: jax.tree.map(lambda x: x[k], batch))(batch)
    if bad := _leaves_not_finite(state):
        return f"before this step, in {name_some(bad)}"
    step = data_parallel(partial(train_step, system=plan.system, axis_name=AXIS), mesh)
    layers = Layers(iter(plan.system.models.named()))
    with nn.intercept_methods(layers.watch):
        state, metrics = step(state, batch, run_keys(config.seed + k))
    values = jax.device_get(metrics)
    jax.effects_barrier()
    bad = sorted(name for name, value in values.items() if not np.isfinite(value))
    if layers.bad:
        return f"in {layers.places[min(layers.bad)]}"
    if terms := [name for name in bad if name not in ("loss", "gradient_norm")]:
        return f"in {', '.join(terms)}, where all layers are finite"
    if bad == ["gradient_norm"]:
        leaves = _leaves_not_finite(state)
        return f"in the gradient{' of ' * bool(leaves)}{name_some(leaves)}"
    if bad:
        return "in the sum of the terms, of which each is finite"
    return "in what does not repeat itself: taken once more, the step is finite"


def _leaves_not_finite(state: TrainState) -> list[str]:
    """Parameters and batch statistics that are not finite. An optimiser may hold an infinity."""
    arrays = {"params": state.params, "batch_stats": state.batch_stats}
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)
        if not np.isfinite(np.asarray(leaf)).all()
    ]


class Layers:
    """What enters and what leaves each layer, in the order of computation.

    Attributes:
      places: all of them, in words.
      bad: positions in `places` of those where values are not finite.
    """

    def __init__(self, models):
        self.places: list[str] = []
        self.bad: set[int] = set()
        self._models = models
        self._model = ""
        self._depth = 0

    def watch(self, call, args, kwargs, context):
        """For `flax.linen.intercept_methods`, while a step is traced."""
        if not self._depth:
            self._model = next(self._models, "the objective")
        name = "/".join((self._model, *context.module.path))
        if context.method_name != "__call__":
            name += f".{context.method_name}"
        self._depth += 1
        try:
            self._note(f"what enters {name}", (args, kwargs))
            output = call(*args, **kwargs)
            self._note(f"what leaves {name}", output)
        finally:
            self._depth -= 1
        return output

    def _note(self, place: str, tree: Any) -> None:
        number = len(self.places)
        self.places.append(place)
        arrays = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]
        floats = [x for x in arrays if jnp.issubdtype(x.dtype, jnp.inexact)]
        if floats:
            finite = jnp.array([jnp.isfinite(lax.stop_gradient(x)).all() for x in floats])
            # Of all devices, so that all hosts tell the same.
            count = lax.psum(jnp.int32(~finite.all()), AXIS)
            jax.debug.callback(partial(self._record, number), count)

    def _record(self, number: int, count) -> None:
        if count:
            self.bad.add(number)
