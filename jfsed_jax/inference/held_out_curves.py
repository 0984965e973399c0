"""What another threshold would change, from a checkpoint and the clips that training held out.

Axis letters: `B` clips, `C` event classes, `K` thresholds.
"""

import numpy as np

from jfsed_jax.datasets.clips import Prepared
from jfsed_jax.datasets.selection import KINDS, Mels, split_data
from jfsed_jax.inference.detector import Detector
from jfsed_jax.inference.whole_recordings import each_clip
from jfsed_jax.runs.workdir import Workdir, write_json
from jfsed_jax.sed.threshold_curves import event_f1_curves

_THRESHOLDS = np.arange(1, 100) / 100


def write_threshold_curves(
    detector: Detector, prepared: Prepared, workdir: Workdir, rule: str | None = None
) -> None:
    """Writes ``thresholds.json``: each class's Event-F1 by threshold on held-out strong clips.

    Nothing is written where none were held out, for other data than that of training, or for
    another decoder than the median filter.

    Args:
      detector, prepared, workdir: see `evaluation.evaluate`.
      rule: of the median windows; the config's if None.
    """
    page = detector.config.postprocess
    data = split_data(prepared, detector.config, detector.seed)
    trained = {kind: len(clips) for kind, clips in data.train.items()}
    held = data.held.get("strong")
    if held is None or page.decoder != "median" or trained != detector.meta["clips"]:
        return
    output = detector.posteriors(Mels(held))
    names, reference = each_clip(held, prepared.splits[KINDS["strong"]].reference)
    curves = event_f1_curves(
        output.frames * (output.clip > 0.5)[:, None] if page.gate else output.frames,
        detector.windows(rule).tolist(),
        reference,
        _THRESHOLDS,
        filenames=names,
        classes=detector.classes,
        frame_rate=detector.frame_rate,
        medians=page.medians,
    )
    counts = [sum(event.event_label == label for event in reference) for label in detector.classes]
    content = {
        "step": detector.step,
        "postprocess": rule or page.rule,
        "clips": len(held),
        "thresholds": _THRESHOLDS.tolist(),
        "classes": {
            label: {"events": count, "event_f1": curve.round(2).tolist()}
            for label, count, curve in zip(detector.classes, counts, curves.T, strict=True)
            if count
        },
    }
    write_json(workdir.thresholds, content)
