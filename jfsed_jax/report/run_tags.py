"""Which classes the tags of a run's clips are taken for; figures 5 and 6 of the paper among them.

Axis letters: ``N`` clips, ``C`` event classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.report.formatting import label_text
from jfsed_jax.report.heat_maps import HeatMap, confusion_map, heat_map
from jfsed_jax.report.operating_points import TAGGED, tag_decisions
from jfsed_jax.runs.saved_run import SavedRun, SavedSplit
from jfsed_jax.sed import scoring
from jfsed_jax.sed.error_kinds import taken_for

_FEW = 12  # classes, up to which two maps stand side by side
_MANY = 100  # classes, beyond which the figures are left out: a map of 200 takes 0.4 MB


class TaggedSplit(NamedTuple):
    """Tags of a split; `title` is "" where there is one split only.

    Attributes:
      title: of the split.
      maps: what a missed class was taken for: by the clip head, by the events that survive.
      folded: the latter, where there is no room for it.
      paired: whether there is room for two maps side by side.
      figures: the same tags as figures 5 and 6 count them; none of very many classes.
    """

    title: str
    maps: list[HeatMap]
    folded: HeatMap | None
    paired: bool
    figures: list[HeatMap]


def tag_confusions(run: SavedRun) -> list[TaggedSplit]:
    """Of every evaluated split that has tags; those of the clip head are of every rule."""
    found = []
    own = [split.folder for split in run.own_splits]
    for split in run.splits:
        tags = _tags(run, split, head=split.folder in own)
        if not tags:
            continue
        paired = len(run.classes) <= _FEW
        maps = [taken_map(run.classes, *pair, caption=name) for name, pair in tags]
        figured = tags if len(run.classes) <= _MANY else []
        figures = [confusion_map(run.classes, *pair, caption=name) for name, pair in figured]
        folded = None if paired or len(maps) == 1 else maps.pop()
        title = split.title if len(run.splits) > 1 else ""
        found.append(TaggedSplit(title, maps, folded, paired, figures))
    return found


def taken_map(
    classes: Sequence[str], reference: np.ndarray, tagged: np.ndarray, *, caption: str
) -> HeatMap:
    """The heat map of `taken_for` in shares of the clips of each class; tags <bool>[N, C]."""
    counts = reference.sum(axis=0).astype(int)
    names = [label_text(label) for label in classes]
    return heat_map(
        names,
        [*names, "no wrong tag"],
        taken_for(reference, tagged) / np.maximum(counts, 1)[:, None],
        caption=caption,
        counts=counts.tolist(),
    )


def _tags(
    run: SavedRun, split: SavedSplit, *, head: bool
) -> list[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Captions and tags of the reference and of what was found, <bool>[N, C] each."""
    found = []
    if head and (decisions := tag_decisions(split)):
        found.append((f"Tags from the clip head, above {TAGGED}", decisions))
    if split.reference is not None and split.estimates is not None and run.classes:
        names = list(split.reference.filenames)
        tags = []
        for file, table in (
            (split.folder.reference, split.reference),
            (split.folder.events, split.estimates),
        ):
            scoring.check_events(table.events, names, run.classes, str(file), table.rows)
            tags.append(scoring.clip_tags(table.events, names, run.classes))
        found.append(("Tags from the events that survive", (tags[0], tags[1])))
    return found
