"""Batches of fixed composition, in an order that is a function of (seed, step).

Each of the three training sets is shuffled anew every time it has been read through; a batch holds
a fixed number of clips of each. The batch of step n can be made without those before it, so a
resumed run sees what the interrupted one would have seen. With several processes each one draws the
order of the whole batch, and reads those of its clips that its devices have.

The order is one of positions (`_order`). Clips are read at those positions, by `batches`; or
all clips are read once (`all_clips`) and a device picks them by `positions`.

Axis letters: ``B`` clips, ``T`` frames, ``F`` mel bands, ``C`` event classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from jfsed_jax.datasets.selection import Clips, Subset
from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import encode_events

Item = dict[str, np.ndarray]


def to_arrays(
    item, *, num_classes: int, frame_rate: float, kind: str, floor_labels: int = 0
) -> Item:
    """One prepared clip as the arrays of a batch.

    Args:
      item: of a `Clips`.
      num_classes, frame_rate: C, and frames per second of ``mel``.
      kind: of `selection.KINDS`.
      floor_labels: frames of ``mel`` in a frame of the labels as the DCASE 2019 baseline has them:
        onset and offset are both floored to such frames, and an event within one is lost. 0: both
        are rounded to the nearest frame of ``mel``, and every event has one.

    Returns:
      ``mel`` <float16>[T, F], ``clip_labels`` <float32>[C], ``frame_labels`` <uint8>[T, C],
      ``is_weak`` and ``is_strong`` <float32>[].
    """
    events = item["onsets"], item["offsets"], item["labels"]
    if floor_labels:
        events = _floored(*events, frame_rate, floor_labels)
    frame_labels = encode_events(
        *events,
        num_frames=item["mel"].shape[0],
        num_classes=num_classes,
        frame_rate=frame_rate,
    )
    return {
        "mel": item["mel"],
        "clip_labels": np.asarray(item["clip_labels"], np.float32),
        "frame_labels": frame_labels,
        "is_weak": np.float32(kind == "weak"),
        "is_strong": np.float32(kind == "strong"),
    }


def _floored(onsets, offsets, labels, frame_rate: float, frames: int):
    """Events whose edges lie on a grid of so many frames, at or before their own."""
    first, last = (np.floor(seconds * frame_rate) // frames for seconds in (onsets, offsets))
    kept = last > first
    step = frames / frame_rate
    return first[kept] * step, last[kept] * step, labels[kept]


def read_clips(
    sources: Sequence[tuple[str, Clips]],
    positions: Sequence[int] | np.ndarray,
    **labels: Any,
) -> Item:
    """The arrays of `to_arrays` for several clips, with a leading axis.

    Args:
      sources: (kind, clips) as `sources_of_batch` lists them.
      positions: <int>[B] of clips, counted through all sources in order.
      labels: ``num_classes``, ``frame_rate`` and the others of `to_arrays`.
    """
    ends = np.cumsum([len(source) for _, source in sources])
    arrays: Item = {}
    for row, position in enumerate(positions):
        number = int(np.searchsorted(ends, position, side="right"))
        kind, source = sources[number]
        item = source[int(position - ends[number]) + len(source)]
        for name, value in to_arrays(item, kind=kind, **labels).items():
            if name not in arrays:
                arrays[name] = np.empty((len(positions), *value.shape), value.dtype)
            arrays[name][row] = value
    return arrays


def sources_of_batch(
    sources: Mapping[str, Clips], composition: Mapping[str, int]
) -> list[tuple[str, Clips]]:
    """(kind, clips) of the kinds that a batch holds, in its order."""
    return [(kind, sources[kind]) for kind, total in composition.items() if total]


def all_clips(sources: Mapping[str, Clips], composition: Mapping[str, int], **labels: Any) -> Item:
    """Every clip that batches draw from; ``arrays[name][positions]`` is that of `batches`.

    Args: see `batches`.

    Returns:
      The arrays of a batch with N for B, N the clips of all kinds in the batch. ``mel`` stays
      float16, as it is stored.
    """
    listed = sources_of_batch(sources, composition)
    everything = range(sum(len(source) for _, source in listed))
    return read_clips(listed, everything, **labels)


def positions_in_whole(
    subsets: Mapping[str, Subset], whole: Mapping[str, Clips], composition: Mapping[str, int]
) -> np.ndarray:
    """<int32>[N]: where the clips of `subsets` are among those of `whole`, the sets they are of.

    Both are counted as in `all_clips`; N clips of all kinds in `subsets` that a batch holds.
    """
    found, first = [], 0
    for kind, clips in sources_of_batch(whole, composition):
        found.append(first + np.asarray(subsets[kind].indices, np.int32))
        first += len(clips)
    return np.concatenate(found)


def check_filled(counts: Mapping[str, int], composition: Mapping[str, int]) -> None:
    """Refuses a batch with kinds of which there are no clips, and names all of them.

    Args:
      counts: training clips by kind.
      composition: see `batches`.
    """
    wanted = {kind: total for kind, total in composition.items() if total}
    missing = [kind for kind in wanted if not counts.get(kind, 0)]
    if not missing:
        return
    found = " and ".join(f"{counts.get(kind, 0)} {kind} training clips" for kind in missing)
    asked = " and ".join(f"config.batch.{kind} = {wanted[kind]}" for kind in missing)
    hint = "add such clips"
    if len(missing) < len(wanted):
        left_out = " ".join(f"--config.batch.{kind}=0" for kind in missing)
        hint += f", or leave them out with {left_out}"
    raise InputError(f"the data has {found} with audio, but {asked}: {hint}")


def _order(
    sources: Mapping[str, Clips], composition: Mapping[str, int], seed: int
) -> grain.MapDataset:
    """Endless batches of positions <int32>[B], counted as in `read_clips`; see `batches`."""
    check_filled({kind: len(clips) for kind, clips in sources.items()}, composition)
    datasets = []
    first = 0
    for number, (kind, total) in enumerate(composition.items()):
        if not total:
            continue
        count = len(sources.get(kind, ()))
        clips = range(first, first + count)
        first += count
        # The slice is all of them. It stays because grain's seeds follow from what stands before
        # the shuffle: without it every run would have another order than its older versions.
        dataset = grain.MapDataset.source(clips).seed(seed + number)[0::1]
        # A set smaller than its share of a batch fills it by repetition.
        dataset = dataset.repeat(-(-total // len(dataset)) if len(dataset) < total else 1)
        # batch before repeat: a batch never spans two passes, and every pass is reshuffled.
        datasets.append(dataset.shuffle().batch(total, drop_remainder=True).repeat(None))
    zipped = grain.experimental.ZipMapDataset(datasets)
    return zipped.map(lambda parts: np.concatenate(parts).astype(np.int32))


def _iterate(dataset: grain.MapDataset, start: int, threads: int) -> Iterator[Any]:
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    iterator = iter(dataset.to_iter_dataset(options))
    if start:
        iterator.set_state({"next_index": start})
    yield from iterator


def batches(
    sources: Mapping[str, Clips],
    composition: Mapping[str, int],
    *,
    seed: int,
    start: int = 0,
    rows: np.ndarray | None = None,
    threads: int = 2,
    **labels: Any,
) -> Iterator[Item]:
    """Endless batches from step `start` on.

    Args:
      sources: prepared clips by kind, ``weak``, ``unlabelled``, ``strong``.
      composition: clips of each kind in the batch of all processes; 0 leaves a kind out.
      seed: of the order.
      start: the step of the first batch.
      rows: <int>[B] those of the batch that are wanted, as of the devices of one process; by
        default all.
      threads: that read ahead.
      labels: see `read_clips`.

    Yields:
      ``mel`` <float16>[B, T, F], ``clip_labels`` <float32>[B, C], ``frame_labels``
      <uint8>[B, T, C], ``is_weak`` and ``is_strong`` <float32>[B].

    Raises:
      InputError: a kind has too few clips for its place in the batch.
    """
    order = _order(sources, composition, seed)
    listed = sources_of_batch(sources, composition)

    def read(positions: np.ndarray) -> Item:
        return read_clips(listed, positions if rows is None else positions[rows], **labels)

    yield from _iterate(order.map(read), start, threads)


def positions(
    sources: Mapping[str, Clips],
    composition: Mapping[str, int],
    *,
    seed: int,
    start: int = 0,
) -> Iterator[np.ndarray]:
    """What `batches` yields, as positions <int32>[B] in `all_clips`; same arguments and errors."""
    return _iterate(_order(sources, composition, seed), start, threads=2)
