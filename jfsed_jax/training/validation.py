"""Scores that select a checkpoint: on clips that a run holds out, or on the development set."""

import numpy as np

from jfsed_jax.datasets.clips import Prepared
from jfsed_jax.datasets.selection import KINDS, Mels, TrainingData
from jfsed_jax.inference.prediction import PosteriorsOf, clip_posteriors
from jfsed_jax.inference.whole_recordings import WholeRecordings
from jfsed_jax.method.state import Variables
from jfsed_jax.sed import scoring
from jfsed_jax.sed.postprocessing import Decode

# By the names that ``config.evaluation.select_by`` can have: the scores that are added.
SELECTIONS = {"event_f1+at_f1": ("event_f1", "at_f1"), "at_f1": ("at_f1",)}


def validate(
    posteriors: PosteriorsOf,
    variables: Variables,
    data: TrainingData,
    prepared: Prepared,
    decode: Decode,
    select_by: str = "event_f1+at_f1",
    *,
    gate: bool = True,
    stride: int = 1,
) -> dict[str, float | None]:
    """Scores on the held-out clips in percent; on the development set where there is one.

    Args:
      posteriors, variables: of the model that is evaluated.
      data: the clips.
      prepared: what they are of.
      decode: posteriors to events.
      select_by: the scores whose sum is ``selection``, a key of `SELECTIONS`. AT-F1 is of the clip
        posteriors; of held-out clips Event-F1 is of the strong and AT-F1 of the weak ones.
      gate: whether tags gate the frames, of recordings that were cut into clips; `decode` knows
        for itself.
      stride: frames of the front end in one of the student's.
    """
    classes = prepared.classes
    scores: dict[str, float | None] = {}
    if data.development is not None:
        whole = WholeRecordings(data.development, stride)
        output = clip_posteriors(posteriors, variables, whole)
        found = scoring.score(
            prepared.splits["validation"].reference,
            whole.events(output, decode, gate),
            filenames=whole.recordings,
            classes=classes,
            tags=whole.tags(output) > 0.5,
        )
        scores["event_f1"] = found["event_f1"]["macro"]
        scores["segment_f1"] = found["segment_f1"]["macro"]
        scores["at_f1"] = found["at_f1"]["macro"]
    if strong := data.held.get("strong"):
        whole = WholeRecordings(strong, stride)
        output = clip_posteriors(posteriors, variables, whole)
        found = scoring.score(
            whole.reference(prepared.splits[KINDS["strong"]].reference),
            whole.events(output, decode, gate),
            filenames=whole.recordings,
            classes=classes,
        )
        scores["event_f1"] = found["event_f1"]["macro"]
        scores["segment_f1"] = found["segment_f1"]["macro"]
    if weak := data.held.get("weak"):
        output = clip_posteriors(posteriors, variables, Mels(weak), frames=False)
        tags = np.stack([weak[i]["clip_labels"] for i in range(len(weak))]) > 0
        scores["at_f1"] = scoring.tagging_scores(tags, output.clip > 0.5, classes)["macro"]
    scores["selection"] = sum(scores.get(key) or 0.0 for key in SELECTIONS[select_by])
    return scores
