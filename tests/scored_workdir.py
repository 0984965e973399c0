"""Workdirs of runs that were scored, as small as they can be, from events that a test makes up."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jfsed_jax.sed import tables
from jfsed_jax.sed.events import Event

Clips = Mapping[str, Sequence[tuple[float, float, str]]]


def write_scored(
    workdir: Path,
    reference: Clips,
    found: Clips,
    *,
    classes: Sequence[str] = ("Dog", "Cat"),
    scored: str = "eval/eval",
    rule: str = "avg",
    tags: Mapping[str, Sequence[float]] | None = None,
    examples: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    **config: Any,
) -> Path:
    """Writes a run whose scores of `scored` are of these events.

    Args:
      reference, found: events by clip, each onset, offset, label; all clips are in `reference`.
      tags: the clip head's posteriors of each class by clip; no posteriors.npz if None.
      examples: clips whose log-mel is kept.
      meta, info, config: what these files, and that of the scores, hold beside the least.
    """
    folder = workdir / scored
    folder.mkdir(parents=True)
    for name, clips in (("reference", reference), ("events", found)):
        events = [Event(clip, *event) for clip, own in clips.items() for event in own]
        tables.write_events(folder / f"{name}.tsv", events, filenames=list(reference))
    page = {"system": "made up", "seed": 0, "postprocess": {"rule": rule}} | config
    front_end = {"clip_seconds": 10.0, "sample_rate": 16000, "hop_length": 160}
    whole = {"system": page["system"], "classes": list(classes), "front_end": front_end}
    scores = {"postprocess": rule, "checkpoint_step": 100, "num_clips": len(reference)}
    for path, content in (
        (workdir / "config.json", page),
        (workdir / "meta.json", whole | dict(meta or {})),
        (folder / "scores.json", {"info": scores | dict(info or {})}),
    ):
        path.write_text(json.dumps(content), encoding="utf-8")
    if tags is not None:
        np.savez(
            folder / "posteriors.npz", filenames=list(tags), clip=np.array(list(tags.values()))
        )
    if examples:
        mel = np.random.default_rng(0).normal(size=(len(examples), 20, 8))
        np.savez(folder / "examples.npz", filenames=list(examples), mel=mel)
    return workdir


def write_log(workdir: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes metrics.jsonl."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (workdir / "metrics.jsonl").write_text(text, encoding="utf-8")
