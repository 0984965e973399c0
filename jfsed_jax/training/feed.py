"""Batches to devices: the clips of the next steps, read on the host or picked on the device."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jfsed_jax.datasets import pipeline
from jfsed_jax.datasets.selection import KINDS, Clips, data_seed
from jfsed_jax.method.parallel import (
    ONE_BATCH,
    SEVERAL_BATCHES,
    data_parallel_gather,
    own_rows_of_batch,
)
from jfsed_jax.training.plan import Plan


class Feed(NamedTuple):
    """``place(draw(n))`` is the batch of the next step on the mesh, or n of them.

    Several batches are [n, B, ...]; seeds that do not share theirs have an axis before B. With
    ``config.data.in_memory`` all clips are on every device, which picks those whose positions the
    host draws: the same clips in the same order. Without, n is 1.
    """

    draw: Callable[[int], Any]
    place: Callable[[Any], Any]


def batch_specs(config) -> tuple[PartitionSpec, PartitionSpec]:
    """Which axes of the batch of one and of several steps are shared by the devices."""
    one, several = ONE_BATCH, SEVERAL_BATCHES
    if config.num_seeds > 1 and not config.seeds_share_batch:  # one more axis, the seeds'
        return PartitionSpec(None, *one), PartitionSpec(None, *several)
    return one, several


def make_feed(plan: Plan, mesh: Mesh, start: int) -> Feed:
    """The batches of a run from step `start` on."""
    config, prepared = plan.config, plan.prepared
    labels: dict[str, Any] = {"num_classes": len(prepared.classes)}
    labels |= {"frame_rate": prepared.front_end.frame_rate}
    labels |= {"floor_labels": config.data.floor_labels}
    # Those who draw clips: each seed, or one for all.
    drawing = list(enumerate(plan.data[:1] if config.seeds_share_batch else plan.data))

    def put(spec, arrays):
        """Arrays of this process's rows on its devices; of all rows, where all are on each."""
        make = partial(jax.make_array_from_process_local_data, NamedSharding(mesh, spec))
        return jax.tree.map(make, arrays)

    size = sum(config.batch.values())
    rows = own_rows_of_batch(mesh, size)

    def next_of(streams):
        drawn = [next(stream) for stream in streams]
        return drawn[0] if len(drawn) == 1 else jax.tree.map(lambda *x: np.stack(x), *drawn)

    one, several = batch_specs(config)
    if not config.data.in_memory:
        batches = [
            pipeline.batches(
                own.train,
                config.batch,
                **labels,
                seed=data_seed(config, k),
                start=start,
                rows=None if len(rows) == size else rows,
            )
            for k, own in drawing
        ]
        return Feed(lambda n: next_of(batches), partial(put, one))

    positions = [
        pipeline.positions(own.train, config.batch, seed=data_seed(config, k), start=start)
        for k, own in drawing
    ]
    sources: Mapping[str, Clips] = plan.data[0].train
    if len(drawing) > 1:  # what one seed holds out another trains on
        sources = {kind: prepared.splits[KINDS[kind]] for kind in sources}
        for k, own in drawing:
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
