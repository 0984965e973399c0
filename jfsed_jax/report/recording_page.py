"""The page of one recording: what was heard in it, to see, hear, sort and take away.

One file without a server: posteriors, log-mel and events lie in it, its script has a hash in its
content security policy, and nothing is loaded from elsewhere but the audio beside it, if any.

A day of sound is handed over as it streams past: `pack_mel` and `pool_maxima` take a minute each
and keep ten columns and ten values a second.

Axis letters: ``T`` frames, ``T'`` values of the page, ``F`` mel bands, ``C`` event classes.
"""

import base64
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple
from urllib.parse import quote

import markupsafe
import numpy as np

from jfsed_jax.report.excerpts import AROUND, LONGEST, Excerpts
from jfsed_jax.report.formatting import label_text, number
from jfsed_jax.report.listings import Listing
from jfsed_jax.report.rendering import (
    hash_source,
    own_file,
    page_policy,
    render_template,
    save_page,
)
from jfsed_jax.report.spectrograms import COARSE, Contrast, palette_png
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import MedianFilters, odd_windows

VALUES_PER_SECOND = 10.0
PICTURE_SECONDS = 60
STATIC_EVENTS = 300  # that a page lists without its script

# A packed log-mel is a byte for each 0.1 neper (0.87 dB): full scale to below -120 dBFS.
_LOWEST, _STEP = -12.0, 0.1


class MelMinute(NamedTuple):
    """A log-mel of about `PICTURE_SECONDS`: how long it lasts, columns, bands and
    <uint8>[bands, columns], deflated; a row is a band, the lowest first."""

    seconds: float
    columns: int
    bands: int
    packed: bytes


class EmbeddedAudio(NamedTuple):
    """A file of audio as it is, and its type, as ``audio/ogg``."""

    content: bytes
    mime: str


class EmbeddedExcerpts(NamedTuple):
    """Parts of a recording and the sound of each."""

    chosen: Excerpts
    sounds: Sequence[EmbeddedAudio]


# A path from the page's folder, with "/" and not quoted; or what lies in the page; or nothing.
Audio = str | EmbeddedAudio | EmbeddedExcerpts | None


@dataclass(frozen=True)
class HeardRecording:
    """A recording and what was heard in it.

    Attributes:
      name: of the file, as in the events.
      seconds: its length.
      classes: C labels.
      posteriors: <float>[T, C] gated frame posteriors, or [T', C] of `pool_maxima`.
      frame_rate: of the posteriors; that of `page_rate` if they are pooled.
      events: of this recording, in any order.
      confidences: of each event, the mean and the maximum of its posteriors.
      filters: None where another decoder made the events; then no threshold is shown.
      mel: its minutes, one after the other, all but the last of one length; empty for no picture.
      band_hz: <float>[F] centres of the mel bands.
      audio: where it is.
      facts: (name, value) to stand under the title.
    """

    name: str
    seconds: float
    classes: Sequence[str]
    posteriors: np.ndarray
    frame_rate: float
    events: Sequence[Event]
    confidences: Sequence[tuple[float, float]]
    filters: MedianFilters | None = None
    mel: Sequence[MelMinute] = ()
    band_hz: Sequence[float] = ()
    audio: Audio = None
    facts: Sequence[tuple[str, str]] = ()

    @property
    def excerpts(self) -> EmbeddedExcerpts | None:
        """The audio, if it is parts."""
        return self.audio if isinstance(self.audio, EmbeddedExcerpts) else None


def page_rate(frame_rate: float) -> float:
    """How many values a second a page keeps of so many frames a second."""
    return min(VALUES_PER_SECOND, frame_rate)


def pool_maxima(values: np.ndarray, frame_rate: float) -> np.ndarray:
    """The maximum of the frames of each value, a tenth of a second: <float>[T, X] to [T', X].

    Blocks one after the other give what the whole gives if each lasts whole seconds of whole
    frames.
    """
    every = frame_rate / page_rate(frame_rate)
    # What rounding leaves above a whole number is no frame.
    starts = np.floor(np.arange(math.ceil(len(values) / every - 1e-6)) * every)
    if not len(starts):
        return values[:0]
    return np.maximum.reduceat(values, starts.astype(np.int64), axis=0)


def pack_mel(mel: np.ndarray, frame_rate: float) -> MelMinute:
    """About a minute of log-mel <float>[T, F] (natural logarithm), small enough to be kept."""
    levels = np.round((pool_maxima(mel, frame_rate) - _LOWEST) / _STEP)
    levels = np.clip(np.nan_to_num(levels), 0, 255).astype(np.uint8)
    columns, bands = levels.shape
    return MelMinute(len(mel) / frame_rate, columns, bands, zlib.compress(levels.T.tobytes()))


def mel_contrast(minutes: Sequence[MelMinute]) -> Contrast:
    """One for all minutes: from the 2nd percentile to the 99.8th."""
    counts = np.zeros(256, np.int64)
    for minute in minutes:
        counts += np.bincount(_levels(minute).ravel(), minlength=256)
    share = np.cumsum(counts) / max(counts.sum(), 1)
    return Contrast(*(_LOWEST + _STEP * np.searchsorted(share, [0.02, 0.998])))


def mel_pictures(minutes: Sequence[MelMinute]) -> list[bytes]:
    """A PNG of each, all with `mel_contrast`."""
    low, high = (round((level - _LOWEST) / _STEP) for level in mel_contrast(minutes))
    shades = (np.arange(256) - low) * (COARSE - 1) / max(high - low, 1)
    shade_of = np.clip(np.round(shades), 0, COARSE - 1).astype(np.uint8)
    return [palette_png(shade_of[_levels(minute)[::-1]]) for minute in minutes]


def write_recording_page(path: Path, heard: HeardRecording) -> Path:
    """Writes the page of a recording in one piece and makes its folder.

    Raises:
      InputError: it cannot be written; what was there stays.
    """
    return save_page(path, render_recording(heard))


def render_recording(heard: HeardRecording) -> str:
    """The page of a recording as text."""
    heard_events = sorted(
        zip(heard.events, heard.confidences, strict=True), key=lambda pair: pair[0][1:]
    )
    script, own_style = own_file("player.js", "recording.js"), own_file("recording.css")
    return render_template(
        "recording.html",
        title=PurePath(heard.name).name,
        description=f"Sound events of {heard.name}",
        policy=_policy(f"\n{script}", f"\n{own_file('style.css')}{own_style}", heard.audio),
        own_style=own_style,
        script=script,
        # No "<" in it, so that nothing in it can end the element that it stands in.
        data=markupsafe.Markup(
            json.dumps(_data(heard, heard_events), separators=(",", ":")).replace("<", r"\u003c")
        ),
        facts=[("length", clock(heard.seconds)), *heard.facts],
        audio=_audio_source(heard.audio),
        excerpts=_listed_excerpts(heard),
        excerpts_note=heard.excerpts and heard.excerpts.chosen.described(heard.events),
        filters=heard.filters,
        levels=mel_contrast(heard.mel).text if heard.mel else "",
        count=number(len(heard.events), 0),
        listing=Listing(
            _caption(len(heard.events)),
            ("Class", "Onset", "Offset", "Confidence"),
            [
                (label_text(e.event_label), clock(e.onset), clock(e.offset), f"{mean:.2f}")
                for e, (mean, _) in heard_events[:STATIC_EVENTS]
            ],
        ),
    )


def clock(seconds: float) -> str:
    """A time as hours, minutes, seconds and tenths: ``0:12:03.4``."""
    tenths = math.floor(seconds * 10 + 0.5)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{tenths // 10:02d}.{tenths % 10}"


def _data(
    heard: HeardRecording, heard_events: Sequence[tuple[Event, tuple[float, float]]]
) -> dict[str, object]:
    """What the script reads; <uint8>[C, T'] posteriors, a class after the other, deflated."""
    index = {label: c for c, label in enumerate(heard.classes)}
    rate = page_rate(heard.frame_rate)
    posteriors = np.nan_to_num(pool_maxima(np.asarray(heard.posteriors), heard.frame_rate))
    levels = np.round(255 * np.clip(posteriors, 0, 1)).astype(np.uint8)
    filters = heard.filters
    return {
        "name": heard.name,
        "seconds": round(float(heard.seconds), 3),
        "classes": list(heard.classes),
        "titles": [label_text(label) for label in heard.classes],
        "rate": rate,
        "count": len(levels),
        "posteriors": _base64(zlib.compress(levels.T.tobytes(), 9)),
        "thresholds": filters and [round(float(value), 4) for value in filters.thresholds],
        "windows": filters
        and odd_windows(np.maximum(np.round(np.asarray(filters.windows) * rate), 1)).tolist(),
        "medians": filters and filters.medians,
        "onsets": [round(float(e.onset), 3) for e, _ in heard_events],
        "offsets": [round(float(e.offset), 3) for e, _ in heard_events],
        "labels": [index[e.event_label] for e, _ in heard_events],
        "means": [round(float(mean), 3) for _, (mean, _) in heard_events],
        "maxima": [round(float(maximum), 3) for _, (_, maximum) in heard_events],
        # A minute that is no whole number of frames is a little less or more.
        "pictureSeconds": heard.mel[0].seconds if heard.mel else PICTURE_SECONDS,
        "lastSeconds": heard.mel[-1].seconds if heard.mel else PICTURE_SECONDS,
        "pictures": [_base64(picture) for picture in mel_pictures(heard.mel)],
        "excerpts": heard.excerpts
        and [[round(t, 3) for t in span] for span in heard.excerpts.chosen.spans],
        "around": AROUND,
        "longest": LONGEST,
        "bandHz": [round(float(hz), 1) for hz in heard.band_hz],
    }


def _levels(minute: MelMinute) -> np.ndarray:
    levels = np.frombuffer(zlib.decompress(minute.packed), np.uint8)
    return levels.reshape(minute.bands, minute.columns)


def _data_address(audio: EmbeddedAudio) -> str:
    return f"data:{audio.mime};base64,{_base64(audio.content)}"


def _audio_source(audio: Audio) -> str:
    if isinstance(audio, EmbeddedAudio):
        return _data_address(audio)
    if not isinstance(audio, str):
        return ""
    # Quoted, a ":" ends no scheme; after two "/" would come a host.
    quoted = quote(audio, errors="surrogateescape")
    return f"/{quoted.lstrip('/')}" if quoted.startswith("/") else quoted


def _listed_excerpts(heard: HeardRecording) -> list[tuple[str, str, str]]:
    """Of each excerpt when it is, the classes of its events, and its sound."""
    if heard.excerpts is None:
        return []
    listed, events = [], sorted(heard.events, key=lambda e: e.onset)
    for (start, end), sound in zip(heard.excerpts.chosen.spans, heard.excerpts.sounds, strict=True):
        inside = (e for e in events if e.onset < end and e.offset > start)
        labels = dict.fromkeys(label_text(e.event_label) for e in inside)
        times = f"{clock(start)} – {clock(end)}"
        listed.append((times, ", ".join(labels), _data_address(sound)))
    return listed


def _policy(script: str, style: str, audio: Audio) -> str:
    """This script, this style, this audio."""
    media = "'none'"
    if isinstance(audio, str):
        media = "'self' file:"
    elif isinstance(audio, EmbeddedAudio) or (audio and audio.sounds):
        media = "data:"
    return page_policy(script=hash_source(script), style=hash_source(style), media=media)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _caption(count: int) -> str:
    if count > STATIC_EVENTS:
        return f"The first {STATIC_EVENTS} of {number(count, 0)} events."
    return f"{number(count, 0)} events." if count != 1 else "1 event."
