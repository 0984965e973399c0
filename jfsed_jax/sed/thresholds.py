"""Class-wise operating points: thresholds chosen on clips that are not scored afterwards.

Axis letters: `B` clips, `T` frames, `C` event classes, `K` candidates.
"""

from collections.abc import Sequence

import numpy as np

from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import detect_events
from jfsed_jax.sed.scoring import f1_of_counts, sed_eval_scores


def tune_thresholds(
    clip: np.ndarray | None,
    frames: np.ndarray,
    windows: np.ndarray,
    reference: Sequence[Event],
    *,
    filenames: Sequence[str],
    classes: Sequence[str],
    frame_rate: float,
    medians: int = 2,
    candidates: Sequence[float] = tuple(np.arange(5, 100, 5) / 100),
) -> tuple[np.ndarray, np.ndarray]:
    """Class-wise operating points: per class the threshold with the best Event-F1.

    Tune on clips that are not scored afterwards, or the score is of a system that saw the answers.

    Args:
      clip, frames, windows, medians: posteriors and filters, see `postprocessing.postprocess`.
      reference: events of the held-out clips, in seconds.
      filenames: B names; classes: C labels; frame_rate: frames per second of `frames`.
      candidates: K thresholds of the frame posteriors.

    Returns:
      thresholds: <float64>[C]; of equally good ones that nearest 0.5; 0.5 for a class that the
        reference lacks.
      f1: <float64>[K, C] Event-F1 in percent, NaN where undefined.
    """
    f1 = np.empty((len(candidates), len(classes)))
    for k, threshold in enumerate(candidates):
        estimates = detect_events(
            clip,
            frames,
            windows,
            threshold=threshold,
            medians=medians,
            filenames=filenames,
            classes=classes,
            frame_rate=frame_rate,
        )
        _, counts = sed_eval_scores(["event_f1"], reference, estimates, filenames, classes)
        f1[k] = 100 * f1_of_counts("event_f1", counts["event_f1"].sum(0))
    order = np.argsort(np.abs(np.asarray(candidates) - 0.5), kind="stable")
    best = order[np.argmax(np.nan_to_num(f1[order], nan=-1.0), axis=0)]
    thresholds = np.asarray(candidates, np.float64)[best]
    return np.where(np.isnan(f1).all(axis=0), 0.5, thresholds), f1
