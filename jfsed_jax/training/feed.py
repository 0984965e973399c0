"""Batches to devices: the clips of the next steps, read on the host or picked on the device."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jfsed_jax.datasets import pipeline
from jfsed_jax.datasets.selection import KINDS, Clips, TrainingData, data_seed
from jfsed_jax.method.parallel import (
    ONE_BATCH,
    SEVERAL_BATCHES,
    data_parallel_gather,
    own_rows_of_batch,
)
from jfsed_jax.training.plan import Plan


class Feed(NamedTuple):
    """``place(draw(n))`` is the batch of the next step on the mesh, or n of them.

    Several batches are [n, B, ...]; of seeds that do not share theirs with another axis before B,
    that of those who draw. With
    ``config.data.in_memory`` all clips are on every device, which picks those whose positions the
    host draws: the same clips in the same order. Without, n is 1.
    """

    draw: Callable[[int], Any]
    place: Callable[[Any], Any]


def drawers(plans: Sequence[Plan]) -> dict[int, TrainingData]:
    """Those who draw clips for the seeds of some runs: by data seed what they draw from."""
    return {data_seed(p.config, k): own for p in plans for k, own in enumerate(p.data)}


def batch_specs(drawing: int) -> tuple[PartitionSpec, PartitionSpec]:
    """Which axes of the batch of one and of several steps are shared by the devices."""
    one, several = ONE_BATCH, SEVERAL_BATCHES
    if drawing > 1:  # one more axis, of those who draw
        return PartitionSpec(None, *one), PartitionSpec(None, *several)
    return one, several


def make_feed(plan: Plan, mesh: Mesh, start: int, *others: Plan) -> Feed:
    """The batches of a run from step `start` on, or of `others` too that it trains with."""
    config, prepared = plan.config, plan.prepared
    labels: dict[str, Any] = {"num_classes": len(prepared.classes)}
    labels |= {"frame_rate": prepared.front_end.frame_rate}
    labels |= {"floor_labels": config.data.floor_labels}
    drawing = drawers([plan, *others])

    def put(spec, arrays):
        """Arrays of this process's rows on its devices; of all rows, where all are on each."""
        make = partial(jax.make_array_from_process_local_data, NamedSharding(mesh, spec))
        return jax.tree.map(make, arrays)

    size = sum(config.batch.values())
    rows = own_rows_of_batch(mesh, size)

    def next_of(streams):
        drawn = [next(stream) for stream in streams]
        return drawn[0] if len(drawn) == 1 else jax.tree.map(lambda *x: np.stack(x), *drawn)

    one, several = batch_specs(len(drawing))
    if not config.data.in_memory:
        batches = [
            pipeline.batches(
                own.train,
                config.batch,
                **labels,
                seed=seed,
                start=start,
                rows=None if len(rows) == size else rows,
            )
            for seed, own in drawing.items()
        ]
        return Feed(lambda n: next_of(batches), partial(put, one))

    positions = [
        pipeline.positions(own.train, config.batch, seed=seed, start=start)
        for seed, own in drawing.items()
    ]
    sources: Mapping[str, Clips] = plan.data[0].train
    if len(drawing) > 1:  # what one seed holds out another trains on
        sources = {kind: prepared.splits[KINDS[kind]] for kind in sources}
        for k, own in enumerate(drawing.values()):
            found = pipeline.positions_in_whole(own.train, sources, config.batch)
            positions[k] = map(found.__getitem__, positions[k])
    clips = put(PartitionSpec(), pipeline.all_clips(sources, config.batch, **labels))
    pick = {spec: data_parallel_gather(mesh, spec) for spec in (one, several)}

    def draw(n: int) -> np.ndarray:
        return next_of(positions) if n == 1 else np.stack([next_of(positions) for _ in range(n)])

    def place(chosen: np.ndarray):
        spec = one if chosen.ndim == len(one) else several
        return pick[spec](clips, put(spec, chosen[..., rows]))

    return Feed(draw, place)
