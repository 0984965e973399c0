"""What is written of recordings that are labelled: a table, and files of each recording.

Axis letters: ``T`` frames, ``F`` mel bands, ``C`` classes.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jfsed_jax.atomic import write_whole
from jfsed_jax.errors import InputError
from jfsed_jax.inference.journal import Labelled
from jfsed_jax.sed import predictions
from jfsed_jax.sed.postprocessing import MedianFilters
from jfsed_jax.sed.score_files import write_score_files


class RecordingWriter(Protocol):
    """More files of each recording, made of what is heard: pages, which know how to be drawn.

    Attributes:
      place: what was asked for; a resume is refused where it differs.
      paths: the file of each recording.
    """

    place: str
    paths: Mapping[str, Path]

    def add_mel(self, path: str, mel: np.ndarray, frame_rate: float) -> None:
        """Takes the next log-mel <float32>[T, F] of a recording."""

    def write(
        self, detector: Any, heard: Any, labelled: Labelled, filters: MedianFilters | None
    ) -> None:
        """Writes the file of one recording; `filters` is None if another decoder found it."""

    def forget(self, path: str) -> None:
        """Drops what was kept of a recording that could not be heard to its end."""


@dataclass(frozen=True)
class LabelOutputs:
    """What is to be written; None stands for nothing of that kind.

    Attributes:
      table: a file of all events, by its suffix TSV, CSV, JSON Lines (.jsonl) or parquet.
      audacity, raven: a folder of a label track or a selection table for each recording.
      scores: a folder of the gated frame posteriors of each recording.
      pages: what else is written of each.
      overwrite: also where label files are, which may hold corrections.
    """

    table: str | None = None
    audacity: str | None = None
    raven: str | None = None
    scores: str | None = None
    pages: RecordingWriter | None = None
    overwrite: bool = False


class OwnFiles(NamedTuple):
    """The file of each recording, by its path: label files of each form, score files."""

    labels: dict[str, dict[str, Path]]
    scores: dict[str, Path]


def plan_files(outputs: LabelOutputs, paths: Sequence[str], *, resume: bool = False) -> OwnFiles:
    """Where the files of each recording go, worked out before any is heard.

    Args:
      resume: label files that are there are written over, as those of the run that goes on.

    Raises:
      InputError: two recordings or two outputs would share a file, the table's suffix is unknown,
        or label files are there.
    """
    predictions.table_form(outputs.table or "")
    folders = {"audacity": outputs.audacity, "raven": outputs.raven}
    given = [Path(folder).resolve() for folder in folders.values() if folder]
    if len(set(given)) < len(given):
        raise InputError(
            f"{outputs.audacity} is the folder for Audacity and for Raven, in which a recording "
            "would have two label files: name two"
        )
    labels = {
        form: predictions.label_paths(folder, paths, form)
        for form, folder in folders.items()
        if folder
    }
    scores = predictions.own_paths(outputs.scores, paths, ".tsv") if outputs.scores else {}
    kept = not (outputs.overwrite or resume)
    for path in (path for own in labels.values() for path in own.values()):
        if os.path.islink(path) or (kept and path.exists()):
            raise InputError(
                f"{path} is there, perhaps with corrections: name another folder, or say "
                "--overwrite"
            )
    pages = outputs.pages.paths if outputs.pages else {}
    if outputs.table and any(
        os.path.abspath(path) == os.path.abspath(outputs.table)
        for own in [*labels.values(), scores, pages]
        for path in own.values()
    ):
        raise InputError(
            f"the table {outputs.table} is a file of one recording too: name another one"
        )
    return OwnFiles(labels, scores)


def write_files(files: OwnFiles, detector, heard, labelled: Labelled) -> None:
    """Writes the label files and the score file of one recording.

    Args:
      detector, heard, labelled: the system, its posteriors and their events.

    Raises:
      InputError: one of them cannot be written.
    """
    path = heard.path
    if "audacity" in files.labels:
        predictions.write_audacity(files.labels["audacity"][path], labelled.events)
    if "raven" in files.labels:
        predictions.write_raven(
            files.labels["raven"][path],
            labelled.events,
            labelled.confidences,
            band=(detector.front_end.fmin, detector.front_end.fmax),
        )
    if files.scores:
        # With a suffix that is taken off, however the recording is called.
        name = f"{files.scores[path].stem}.wav"
        write_score_files(
            files.scores[path].parent,
            heard.frames[None],
            filenames=[name],
            classes=detector.classes,
            frame_rate=detector.frame_rate,
            durations={name: heard.seconds},
        )


def write_labelled(path: str | Path, labelled: Iterable[Labelled]) -> None:
    """Writes one table of recordings, by its suffix, whole or not at all; InputError if not."""
    write_whole(Path(path), format_labelled(labelled, form=predictions.table_form(path)))


def format_labelled(
    labelled: Iterable[Labelled], *, form: str = "tsv", header: bool = True
) -> bytes:
    """Recordings as a table, see `predictions.format_predictions`."""
    labelled = list(labelled)
    return predictions.format_predictions(
        [event for one in labelled for event in one.events],
        [sure for one in labelled for sure in one.confidences],
        filenames=[one.path for one in labelled],
        form=form,
        header=header,
    )
