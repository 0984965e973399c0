"""Which clips a run trains on, and which it holds out to select by."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from absl import logging

from jfsed_jax.datasets.clips import Clip, Prepared

# The training sets of a data folder and what a batch calls them.
KINDS = {"weak": "weak", "unlabelled": "unlabel_in_domain", "strong": "synthetic"}


class Clips(Protocol):
    """A random-access source of prepared clips, as `clips.ClipSet` is."""

    filenames: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Mapping[str, Any]: ...


class Subset:
    """Some clips of a source, as a source."""

    def __init__(self, source: Clips, indices: Iterable[int]):
        self._source = source
        self.indices = list(map(int, indices))
        self.filenames = [source.filenames[i] for i in self.indices]
        # Sources that come from elsewhere, not from a data folder, know no more of their clips.
        clips = getattr(source, "clips", ())
        self.clips: list[Clip] = [clips[i] for i in self.indices] if clips else []
        self.front_end = getattr(source, "front_end", None)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int):
        return self._source[self.indices[i]]


class Mels:
    """The log-mel <float16>[T, F] of each clip of a source, read when asked for."""

    def __init__(self, clips: Clips):
        self._clips = clips

    @property
    def filenames(self) -> list[str]:
        return self._clips.filenames

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, i: int) -> np.ndarray:
        return self._clips[i]["mel"]


@dataclass(frozen=True)
class TrainingData:
    """The clips that a run trains on and selects by.

    Attributes:
      train: sources by kind (`KINDS`), without the held-out clips; kinds without clips are absent.
      held: clips to select by, likewise.
      development: the clips of the validation split, where they select and none are held out.
    """

    train: dict[str, Subset]
    held: dict[str, Subset]
    development: Clips | None = None


def holdout_split(source: Clips, share: float, seed: int) -> tuple[Subset, Subset]:
    """(train, held out): `share` of the clips, drawn with `seed`, at least one of several.

    Clips of one recording stay together, and where clips name their origins, those that share one,
    directly or through others: whole groups are held out, as many as come nearest to `share`.
    """
    count = len(source)
    groups = _sharing(source) if share > 0 else []
    if len(groups) == 1:
        logging.warning(
            "all %d clips of a training set share recordings with others of them (as a long one is "
            "cut, or as sources.tsv says): clips are held out one by one",
            count,
        )
    if len(groups) <= 1:
        held = min(max(round(share * count), 1), count - 1) if share > 0 and count > 1 else 0
        order = np.random.default_rng(seed).permutation(count)
        return Subset(source, sorted(order[held:])), Subset(source, sorted(order[:held]))
    wanted = share * count
    chosen: list[int] = []
    for i in np.random.default_rng(seed).permutation(len(groups))[:-1]:  # one stays to train on
        if abs(len(chosen) + len(groups[i]) - wanted) < abs(len(chosen) - wanted):
            chosen += groups[i]
    chosen = chosen or min(groups, key=len)
    return Subset(source, sorted(set(range(count)) - set(chosen))), Subset(source, sorted(chosen))


def _sharing(source: Clips) -> list[list[int]]:
    """Clips in groups that share no recording, by their first clips; none if no clip shares any."""
    clips = getattr(source, "clips", ())
    parts = Counter(clip.filename for clip in clips)
    cut = {name for name, count in parts.items() if count > 1}
    origins = [(*clip.origins, *cut.intersection([clip.filename])) for clip in clips]
    if not any(origins):
        return []
    # Not scipy.sparse.csgraph: its import alone takes a quarter of a second of every start.
    above = list(range(len(clips)))  # clips of a group lead to its root

    def root(clip: int) -> int:
        while above[clip] != clip:
            above[clip] = above[above[clip]]
            clip = above[clip]
        return clip

    holders: dict[str, int] = {}  # one clip of each recording
    for clip, own in enumerate(origins):
        for name in own:
            above[root(clip)] = root(holders.setdefault(name, clip))
    groups: dict[int, list[int]] = {}
    for clip in range(len(clips)):
        groups.setdefault(root(clip), []).append(clip)
    return list(groups.values())


def data_seed(config, k: int) -> int:
    """The seed of the hold-out and of the order of the clips, of the run's seed number `k`."""
    return config.seed if config.seeds_share_batch else config.seed + k


def split_data(prepared: Prepared, config, k: int = 0) -> TrainingData:
    """Holds out `evaluation.holdout` of the weak and of the strong clips, as seed `k` does.

    With ``evaluation.select_on = "validation"`` all are trained on, and that split selects.
    """
    share, seed = config.evaluation.holdout, data_seed(config, k)
    development = None
    if config.evaluation.select_on == "validation":
        share, development = 0.0, prepared.splits.get("validation")
    train, held = {}, {}
    for number, (kind, name) in enumerate(KINDS.items()):
        if name not in prepared.splits:
            continue
        clips = prepared.splits[name]
        kept = 0.0 if kind == "unlabelled" else share
        train[kind], held[kind] = holdout_split(clips, kept, seed + number)
    held = {kind: clips for kind, clips in held.items() if len(clips)}
    return TrainingData(train, held, development)
