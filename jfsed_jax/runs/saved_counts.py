"""What each clip of a scored split counts: what `evaluate` saved, or its events counted again.

Axis letters: ``B`` clips, ``C`` event classes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jfsed_jax.errors import InputError
from jfsed_jax.runs.saved_run import SavedSplit, read_arrays
from jfsed_jax.runs.workdir import SplitFolder
from jfsed_jax.sed import scoring, tables
from jfsed_jax.sed.score_titles import TITLES


def read_counts(
    folder: SplitFolder,
    classes: Sequence[str],
    filenames: Sequence[str] | None = None,
    tags: Mapping[str, Sequence[str]] | None = None,
) -> scoring.Counts:
    """What each clip of a scored split counts: <int64>[B, C, 3] by score.

    Events are saved to the digit that they had, so that these are the counts behind scores.json.
    Where `evaluate` saved them, they are read; older versions did not.

    Args:
      folder: of the split.
      classes: C labels.
      filenames: the order of the clips; that of the reference if None.
      tags: of the clip head, see `clip_head_tags`.

    Raises:
      InputError: saved counts are damaged or not those of the events that lie beside them.
    """
    reference = tables.read_events(folder.reference)
    estimates = tables.read_events(folder.events)
    names = reference.filenames if filenames is None else filenames
    for path, table in ((folder.reference, reference), (folder.events, estimates)):
        scoring.check_events(table.events, names, classes, str(path), table.rows)
    saved = read_arrays(folder.counts, ("filenames", "classes", "event_f1", "segment_f1"))
    if saved is None:
        _, counts = scoring.score_clips(
            reference.events, estimates.events, filenames=names, classes=classes, tags=tags
        )
        return counts
    counts = _in_order(saved, folder.counts, names, classes)
    found = tuple(counts["event_f1"].sum(axis=(0, 1))[:2].tolist())
    expected = (len(reference.events), len(estimates.events))
    if found != expected:
        raise InputError(
            f"{folder.counts} counts {found[0]} reference and {found[1]} predicted events, "
            f"{folder.reference.name} and {folder.events.name} have {expected[0]} and "
            f"{expected[1]}; delete it or evaluate again"
        )
    return counts


def _in_order(
    arrays: Mapping[str, np.ndarray], path: Path, filenames: Sequence[str], classes: Sequence[str]
) -> scoring.Counts:
    """Saved counts, in the order of these clips and classes."""
    row, column = (
        {str(name): i for i, name in enumerate(arrays[key].ravel())}
        for key in ("filenames", "classes")
    )
    counts = {name: arrays[name] for name in TITLES if name in arrays}
    shape = (len(row), len(column), 3)
    for name, count in counts.items():
        if count.shape != shape or count.dtype.kind not in "iu":
            raise InputError(
                f"{path}: expected integers of shape {shape} in {name!r}, found {count.dtype} of "
                f"{count.shape}; delete it or evaluate again"
            )
    try:
        order = np.ix_([row[name] for name in filenames], [column[label] for label in classes])
    except LookupError as error:
        raise InputError(
            f"{path} is of other clips or classes ({error}); delete it or evaluate again"
        ) from error
    return {name: count[order] for name, count in counts.items()}


def clip_head_tags(split: SavedSplit, classes: Sequence[str]) -> dict[str, list[str]] | None:
    """The labels of each clip above 0.5; None without posteriors, or if recordings were cut.

    Args:
      split: as read.
      classes: of the run, in its own order.
    """
    posteriors, reference = split.posteriors, split.reference
    if posteriors is None or reference is None:
        return None
    names = [str(name) for name in posteriors["filenames"]]
    if set(names) != set(reference.filenames):
        return None
    return {
        name: [label for label, on in zip(classes, row > 0.5, strict=True) if on]
        for name, row in zip(names, posteriors["clip"], strict=True)
    }
