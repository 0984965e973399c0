"""The files that each recording gets when it has been labelled: labels, scores, a page."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from jfsed_jax.audio import encoding
from jfsed_jax.audio.front_end import band_centres
from jfsed_jax.errors import InputError
from jfsed_jax.report import recording_page
from jfsed_jax.sed import predictions
from jfsed_jax.sed.score_files import write_score_files

_EMBEDDED_SECONDS = 600  # of the longest recording whose sound a page holds: 4 MB of Opus


class RecordingFiles:
    """Label files, score files and pages of recordings.

    Where they go is worked out before any is heard; the log-mel of pages is kept small, a minute at
    a time, until the recording is done.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        audacity: str | None = None,
        raven: str | None = None,
        scores: str | None = None,
        page: str | None = None,
        embed_audio: bool = False,
    ) -> None:
        """Of these recordings.

        Args:
          paths: of all.
          audacity, raven, scores: a folder for each kind of file, or none of it.
          page: a folder, or for one recording a file that ends in .html.
          embed_audio: put the sound of short recordings into their pages.

        Raises:
          InputError: two recordings would share a file.
        """
        folders = {"audacity": audacity, "raven": raven}
        if audacity and raven and Path(audacity).resolve() == Path(raven).resolve():
            raise InputError(
                f"--audacity={audacity} and --raven={raven} are one folder, in which a recording "
                "would have two label files: name two"
            )
        self._labels = {
            form: predictions.label_paths(folder, paths, form)
            for form, folder in folders.items()
            if folder
        }
        self._scores = predictions.own_paths(scores, paths, ".tsv") if scores else {}
        self._pages: dict[str, Path] = {}
        if page and page.endswith(".html"):
            if len(paths) > 1:
                raise InputError(
                    f"--page={page} is one page, and there are {len(paths)} recordings: name a "
                    "folder for their pages"
                )
            self._pages = {path: Path(page) for path in paths}
        elif page:
            self._pages = predictions.own_paths(page, paths, ".html")
        self._embed_audio = embed_audio
        self._mel: dict[str, np.ndarray] = {}
        self._minutes: dict[str, list[recording_page.MelMinute]] = {}

    def refuse_overwriting(self, output: str | None, *, labels: bool) -> None:
        """InputError if a file is there that may hold a person's corrections, or is the table.

        Args:
          output: the table that is written too.
          labels: whether label files may not be written over.
        """
        for path in (p for own in self._labels.values() for p in own.values()):
            if os.path.islink(path) or (labels and path.exists()):
                raise InputError(
                    f"{path} is there, perhaps with corrections: name another folder, or say "
                    "--overwrite"
                )
        everything = [*self._labels.values(), self._scores, self._pages]
        if output and any(
            os.path.abspath(path) == os.path.abspath(output)
            for own in everything
            for path in own.values()
        ):
            raise InputError(f"--output={output} is a file of one recording too: name another one")

    def forget(self, path: str) -> None:
        """Drops what was kept of a recording that could not be heard to its end."""
        self._mel.pop(path, None)
        self._minutes.pop(path, None)

    @property
    def wants_mel(self) -> bool:
        """Whether `add_mel` is to be called."""
        return bool(self._pages)

    def add_mel(self, path: str, mel: np.ndarray, frame_rate: float) -> None:
        """Takes the next log-mel <float32>[T, F] of a recording."""
        held = np.concatenate([self._mel[path], mel]) if path in self._mel else mel
        minutes = self._minutes.setdefault(path, [])
        size = round(recording_page.PICTURE_SECONDS * frame_rate)
        while len(held) >= size:
            minutes.append(recording_page.pack_mel(held[:size], frame_rate))
            held = held[size:]
        self._mel[path] = held

    def write(self, detector, heard, labelled, windows, thresholds) -> None:
        """Writes the files of one recording.

        Args:
          detector, heard, labelled: the system, its posteriors and their events.
          windows, thresholds: [C] those of the median decoder, or None: another one found them.
        """
        path = heard.path
        if "audacity" in self._labels:
            predictions.write_audacity(self._labels["audacity"][path], labelled.events)
        if "raven" in self._labels:
            band = detector.front_end.fmin, detector.front_end.fmax
            predictions.write_raven(
                self._labels["raven"][path], labelled.events, labelled.confidences, band=band
            )
        if self._scores:
            # With a suffix that is taken off, however the recording is called.
            name = f"{self._scores[path].stem}.wav"
            write_score_files(
                self._scores[path].parent,
                heard.frames[None],
                filenames=[name],
                classes=detector.classes,
                frame_rate=detector.frame_rate,
                durations={name: heard.seconds},
            )
        if self._pages:
            self._write_page(detector, heard, labelled, windows, thresholds)

    def _write_page(self, detector, heard, labelled, windows, thresholds) -> None:
        path = self._pages[heard.path]
        frame_rate = detector.front_end.frame_rate
        minutes, rest = self._minutes.pop(heard.path, []), self._mel.pop(heard.path)
        if len(rest):
            minutes.append(recording_page.pack_mel(rest, frame_rate))
        filters = None
        if windows is not None:
            seconds = np.asarray(windows) / detector.frame_rate
            medians = detector.config.postprocess.medians
            filters = recording_page.MedianFilters(thresholds, seconds, medians)
        recording_page.write_recording_page(
            path,
            recording_page.HeardRecording(
                name=heard.path,
                seconds=heard.seconds,
                classes=detector.classes,
                posteriors=heard.frames,
                frame_rate=detector.frame_rate,
                events=labelled.events,
                confidences=labelled.confidences,
                filters=filters,
                mel=minutes,
                band_hz=band_centres(detector.front_end).tolist(),
                audio=self._sound(heard, path),
                facts=[
                    ("file", heard.path),
                    ("heard by", f"{detector.config.system}, step {detector.step}"),
                ],
            ),
        )

    def _sound(self, heard, page: Path) -> Any:
        """The sound in a page, or the way to it from there."""
        if self._embed_audio and heard.seconds <= _EMBEDDED_SECONDS:
            return recording_page.EmbeddedAudio(encoding.opus(heard.path), encoding.MIME)
        if self._embed_audio:
            logging.warning(
                "%s is longer than ten minutes: its page plays the file beside it", heard.path
            )
        return os.path.relpath(heard.path, page.parent).replace(os.sep, "/")
