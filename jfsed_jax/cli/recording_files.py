"""The page that each recording gets when it has been labelled."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from jfsed_jax.audio import encoding
from jfsed_jax.audio.front_end import band_centres
from jfsed_jax.errors import InputError
from jfsed_jax.report import recording_page
from jfsed_jax.report.excerpts import choose_excerpts
from jfsed_jax.sed import predictions

_EMBEDDED_SECONDS = 600  # of sound in a page, the recording or parts of it: 4 MB of Opus


class RecordingPages:
    """Pages of recordings.

    Where they go is worked out before any is heard; their log-mel is kept small, a minute at a
    time, until the recording is done.

    Attributes:
      place: as it was asked for.
      paths: the page of each recording.
    """

    def __init__(self, place: str, paths: Sequence[str], embed_audio: bool = False) -> None:
        """Of these recordings.

        Args:
          place: a folder, or for one recording a file that ends in .html.
          paths: of all.
          embed_audio: put the sound into the pages, of long recordings that of their events.

        Raises:
          InputError: two recordings would share a file.
        """
        self.place = place
        self.paths: Mapping[str, Path]
        if not place.endswith(".html"):
            self.paths = predictions.own_paths(place, paths, ".html")
        elif len(paths) > 1:
            raise InputError(
                f"--page={place} is one page, and there are {len(paths)} recordings: name a folder "
                "for their pages"
            )
        else:
            self.paths = {path: Path(place) for path in paths}
        self._embed_audio = embed_audio
        self._mel: dict[str, np.ndarray] = {}
        self._minutes: dict[str, list[recording_page.MelMinute]] = {}

    def forget(self, path: str) -> None:
        """Drops what was kept of a recording that could not be heard to its end."""
        self._mel.pop(path, None)
        self._minutes.pop(path, None)

    def add_mel(self, path: str, mel: np.ndarray, frame_rate: float) -> None:
        """Takes the next log-mel <float32>[T, F] of a recording."""
        held = np.concatenate([self._mel[path], mel]) if path in self._mel else mel
        minutes = self._minutes.setdefault(path, [])
        size = round(recording_page.PICTURE_SECONDS * frame_rate)
        while len(held) >= size:
            minutes.append(recording_page.pack_mel(held[:size], frame_rate))
            held = held[size:]
        self._mel[path] = held

    def write(self, detector, heard, labelled, filters) -> None:
        """Writes the page of one recording.

        Args:
          detector, heard, labelled: the system, its posteriors and their events.
          filters: `MedianFilters`, or None: another decoder found them.
        """
        path = self.paths[heard.path]
        frame_rate = detector.front_end.frame_rate
        minutes, rest = self._minutes.pop(heard.path, []), self._mel.pop(heard.path)
        if len(rest):
            minutes.append(recording_page.pack_mel(rest, frame_rate))
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
                audio=self._sound(heard, labelled, path),
                facts=[
                    ("file", heard.path),
                    ("heard by", f"{detector.config.system}, step {detector.step}"),
                ],
            ),
        )

    def _sound(self, heard, labelled, page: Path) -> recording_page.Audio:
        """The sound in a page, whole or around its events, or the way to it from there."""
        if not self._embed_audio:
            return os.path.relpath(heard.path, page.parent).replace(os.sep, "/")
        if heard.seconds <= _EMBEDDED_SECONDS:
            return recording_page.EmbeddedAudio(encoding.opus(heard.path), encoding.MIME)
        events = labelled.events
        chosen = choose_excerpts(
            events, labelled.confidences, seconds=heard.seconds, most=_EMBEDDED_SECONDS
        )
        logging.info("%s: in its page %s", heard.path, chosen.described(events))
        parts = encoding.opus_excerpts(heard.path, chosen.spans)
        sounds = [recording_page.EmbeddedAudio(part, encoding.MIME) for part in parts]
        return recording_page.EmbeddedExcerpts(chosen, sounds)
