"""Log-mel as pictures: one contrast for all that are compared, in dB, and ticks in kHz.

Axis letters: ``T`` frames, ``F`` mel bands.
"""

import base64
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np

from jfsed_jax.audio.front_end import NEPERS_PER_DB, FrontEnd, band_centres
from jfsed_jax.errors import InputError
from jfsed_jax.report.formatting import number, significant

FINE, COARSE = 32, 16  # shades of a picture of seconds, of minutes
_APART = 10.0  # percent of the height that a tick's number needs
_OCTAVES = 62.5 * 2.0 ** np.arange(9)  # Hz


class Contrast(NamedTuple):
    """The log-mel (natural logarithm of magnitudes) that is darkest, and that is brightest."""

    low: float
    high: float

    @property
    def text(self) -> str:
        """What the colours stand for, below the brightest."""
        return f"{number(-self.decibels, 0)} to 0 dB"

    @property
    def decibels(self) -> float:
        """From the darkest to the brightest."""
        return (self.high - self.low) / NEPERS_PER_DB


def shared_contrast(mels: Iterable[np.ndarray]) -> Contrast | None:
    """From the 2nd percentile to the 99.8th of all log-mel <float>[T, F]; None if there is none."""
    values = [np.asarray(mel, np.float32).ravel() for mel in mels]
    finite = np.concatenate([np.zeros(0, np.float32), *(v[np.isfinite(v)] for v in values)])
    if not finite.size:
        return Contrast(0.0, 1.0) if any(v.size for v in values) else None
    return Contrast(*(float(v) for v in np.percentile(finite, [2, 99.8])))


def png_source(image: np.ndarray, contrast: Contrast | None = None) -> str:
    """A picture as a data URI.

    Args:
      image: <float>[rows, columns], its first row at the bottom.
      contrast: its own if None.
    """
    low, high = contrast or shared_contrast([image]) or (0.0, 1.0)
    share = np.clip((np.asarray(image, np.float32) - low) / max(high - low, 1e-6), 0.0, 1.0)
    shades = np.round(np.nan_to_num(share) * (FINE - 1)).astype(np.uint8)
    picture = palette_png(shades[::-1], FINE)
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")


def palette_png(shades: np.ndarray, count: int = COARSE) -> bytes:
    """A PNG of <uint8>[rows, columns], 0 to `count` - 1 from dark to bright; first row on top.

    Source: www.w3.org/TR/png-3: colour type 3, a byte for each pixel, or up to 16 shades four bits.
    """
    rows, columns = shades.shape
    depth = 4 if count <= 16 else 8
    if depth == 4:
        even = np.pad(shades, ((0, 0), (0, columns % 2)))
        shades = even[:, ::2] << 4 | even[:, 1::2]
    pixels = np.pad(shades, ((0, 0), (1, 0)))  # a row's filter: none
    colours = matplotlib.colormaps["magma"](np.linspace(0, 1, count), bytes=True)[:, :3]
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, depth, 3, 0, 0, 0)),
        (b"PLTE", colours.tobytes()),
        (b"IDAT", zlib.compress(pixels.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def known_bands(front_end: Mapping[str, Any]) -> Sequence[float]:
    """Centres of the bands in Hz of a front end as meta.json has it; none if it lacks a value."""
    try:
        return band_centres(FrontEnd(**front_end)).tolist()
    except (TypeError, ValueError, InputError):
        return ()


def frequency_ticks(band_hz: Sequence[float]) -> list[tuple[str, str]]:
    """Octaves that have room on an axis of those bands: (kHz, height in percent)."""
    ticks: list[tuple[str, str]] = []
    last = 100.0 + _APART / 2
    for hz in _OCTAVES[::-1]:
        if not len(band_hz) or not band_hz[0] <= hz <= band_hz[-1]:
            continue
        height = 100 * (np.interp(hz, band_hz, np.arange(len(band_hz))) + 0.5) / len(band_hz)
        if _APART / 2 <= height <= last - _APART:
            ticks.append((significant(hz / 1000), f"{height:.1f}"))
            last = height
    return ticks
