"""Precision and recall of a class's tags at every threshold.

Axis letters: `B` clips, `K` thresholds.
"""

from typing import NamedTuple

import numpy as np


class TagCurve(NamedTuple):
    """Tags are the posteriors from a threshold on: <float64>[K] each, thresholds descending.

    Every posterior that there is is one, so that no other threshold tags other clips.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def tag_curve(posteriors: np.ndarray, truth: np.ndarray) -> TagCurve | None:
    """The curve of one class; None where no clip has it.

    Args:
      posteriors: <float>[B].
      truth: <bool>[B], which clips have the class.
    """
    if not truth.any():
        return None
    order = np.argsort(-posteriors, kind="stable")
    values = posteriors[order].astype(np.float64)
    last = np.flatnonzero(np.append(np.diff(values) != 0, True))  # equal ones are tagged together
    found = np.cumsum(truth[order].astype(np.int64))[last]
    return TagCurve(values[last], found / (last + 1), found / found[-1])
