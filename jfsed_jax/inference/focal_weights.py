"""Figure 3: class-wise sums of p and of the adaptive weight, from a checkpoint.

Axis letters: ``B`` clips, ``C`` event classes.
"""

from typing import Any

import numpy as np

from jfsed_jax.datasets.clips import Prepared
from jfsed_jax.datasets.selection import Mels, split_data
from jfsed_jax.inference.detector import Detector
from jfsed_jax.method import losses
from jfsed_jax.runs.workdir import Workdir, write_json


def write_adaptive_weights(detector: Detector, prepared: Prepared, workdir: Workdir) -> None:
    """Figure 3: writes ``adaptive_weights.json``, class-wise sums at the checkpoint.

    Summed are ``p`` and the adaptive weight of equation 4 over the weak and strong clips that
    training held out, with the clip posteriors; `p` is the probability given to the true value of
    the label. The paper sums over the labelled clips of one training epoch; the held-out ones
    [ours] show what the loss would ask for on clips that the model has not learnt from. Nothing is
    written for a system that is trained without the adaptive focal loss, where no clips were held
    out, or for other data than that of training.
    """
    loss = detector.config.loss
    data = split_data(prepared, detector.config, detector.seed)
    trained = {kind: len(clips) for kind, clips in data.train.items()}
    if loss.tau < 0 or trained != detector.meta["clips"]:
        return
    held = {kind: data.held[kind] for kind in ("weak", "strong") if kind in data.held}
    if not held:
        return
    truth, clip = [], []
    for clips in held.values():
        truth += [clips[i]["clip_labels"] for i in range(len(clips))]
        clip.append(detector.posteriors(Mels(clips)).clip)
    p, weight = class_weight_sums(
        np.stack(truth), np.concatenate(clip), float(loss.gamma), loss.focal_form
    )
    content = {
        "epoch": detector.step / detector.meta["steps_per_epoch"],
        "step": detector.step,
        "gamma": float(loss.gamma),
        "focal_form": loss.focal_form,
        "clips": {kind: len(clips) for kind, clips in held.items()},
        "classes": list(detector.classes),
        "probability": p.tolist(),
        "weight": weight.tolist(),
    }
    write_json(workdir.weights, content)


def class_weight_sums(
    truth: np.ndarray, clip: np.ndarray, gamma: float, form: str
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the clips of `p` and of its adaptive weight (section 2.3): <float64>[C] each.

    Args:
      truth: <float or bool>[B, C] clip labels.
      clip: <float>[B, C] clip posteriors.
      gamma, form: see `losses.adaptive_weight`.
    """
    clip = clip.astype(np.float64)
    p_true: Any = np.where(truth > 0, clip, 1 - clip)
    return p_true.sum(0), np.asarray(losses.adaptive_weight(p_true, gamma, form)).sum(0)
