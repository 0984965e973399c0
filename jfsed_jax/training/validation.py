"""Scores on the clips that a run holds out, by which a checkpoint is selected."""

import numpy as np

from jfsed_jax.datasets.clips import Prepared
from jfsed_jax.datasets.selection import KINDS, Mels, TrainingData
from jfsed_jax.inference.prediction import PosteriorsOf, clip_posteriors
from jfsed_jax.method.state import Variables
from jfsed_jax.sed import scoring
from jfsed_jax.sed.postprocessing import Decode


def validate(
    posteriors: PosteriorsOf,
    variables: Variables,
    data: TrainingData,
    prepared: Prepared,
    decode: Decode,
) -> dict[str, float | None]:
    """Scores on the held-out clips in percent.

    ``selection`` is the sum of Event-F1 on strong and AT-F1 on weak clips, as the DCASE 2019
    baseline selects.
    """
    classes = prepared.classes
    scores: dict[str, float | None] = {}
    if strong := data.held.get("strong"):
        output = clip_posteriors(posteriors, variables, Mels(strong))
        names = strong.filenames
        events = decode(output.clip, output.frames, names)
        chosen = set(names)
        labels = prepared.splits[KINDS["strong"]].reference
        reference = [event for event in labels if event.filename in chosen]
        found = scoring.score(reference, events, filenames=names, classes=classes)
        scores["event_f1"] = found["event_f1"]["macro"]
        scores["segment_f1"] = found["segment_f1"]["macro"]
    if weak := data.held.get("weak"):
        output = clip_posteriors(posteriors, variables, Mels(weak))
        tags = np.stack([weak[i]["clip_labels"] for i in range(len(weak))]) > 0
        scores["at_f1"] = scoring.tagging_scores(tags, output.clip > 0.5, classes)["macro"]
    scores["selection"] = sum(scores.get(key) or 0.0 for key in ("event_f1", "at_f1"))
    return scores
