"""A post-processing of one's own: events begin above one threshold and last above a lower one.

    jfsed-jax train --config examples/hysteresis.py:small --data DIR --workdir W

A trained run can be evaluated and can predict with it too, see docs/extending.md.
"""

import numpy as np
from scipy import ndimage

from jfsed_jax.configs import pts
from jfsed_jax.sed.events import frames_to_events


def hysteresis(windows, *, classes, frame_rate, threshold=0.5, low=0.6):
    """A decoder: what exceeds `low` times the threshold counts where it touches what exceeds it.

    Events shorter than the class's window (frames, [C]) are dropped.
    """

    def decode(clip, frames, filenames):
        gate = 1 if clip is None else (clip > 0.5)[:, None, :]
        high = np.broadcast_to(threshold, len(classes))
        events = []
        for name, posteriors in zip(filenames, frames * gate, strict=True):
            kept = np.zeros(posteriors.shape, bool)
            for c, window in enumerate(windows):
                runs, _ = ndimage.label(posteriors[:, c] > low * high[c])
                touched = np.unique(runs[posteriors[:, c] > high[c]])
                long = np.flatnonzero(np.bincount(runs) >= window)
                kept[:, c] = np.isin(runs, np.intersect1d(touched, long[long > 0]))
            events += frames_to_events(kept, classes, frame_rate=frame_rate, filename=name)
        return events

    return decode


def half_of_the_shortest(lengths, *, frame_rate, options):
    """A window rule: half of the shortest event of the class, in frames."""
    return max(1, round(0.5 * lengths[0] * frame_rate))


def get_config(size: str = "small"):
    config = pts.get_config(size)
    config.system = "pts_hysteresis"
    config.postprocess.decoder = "examples.hysteresis:hysteresis"
    config.postprocess.rule = "examples.hysteresis:half_of_the_shortest"
    return config
