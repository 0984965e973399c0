"""The front end: what turns a waveform into a log-mel spectrogram, as numbers.

The front end of the paper (method section 1): 64 log-mel magnitudes, 600 frames of a 10 s clip at
44.1 kHz. The page `front_end` of `configs.base` has its values and where they come from;
`jfsed_jax.audio.host` and `jfsed_jax.audio.device` apply it.

Axis letters: ``F`` mel bands, ``K`` FFT bins.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from jfsed_jax.errors import InputError

SHORTEST_SECONDS = 0.1  # less than this is not a recording
NEPERS_PER_DB = 0.11512925  # ln(10) / 20: log-mel is a natural logarithm of magnitudes


@dataclass(frozen=True)
class FrontEnd:
    """What turns a waveform into a log-mel spectrogram; travels with features and checkpoints.

    Attributes:
      sample_rate, fmin, fmax: Hz; every recording is resampled to `sample_rate`.
      n_fft, win_length, hop_length: samples; a periodic Hann window centred in the FFT frame.
      clip_seconds: length of a training clip.
      log_offset: `log(mel + log_offset)`.
    """

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    fmin: float
    fmax: float
    clip_seconds: float
    log_offset: float

    def __post_init__(self) -> None:
        if not 0 < self.hop_length <= self.win_length <= self.n_fft:
            raise InputError(
                "the front end needs 0 < hop_length <= win_length <= n_fft; found "
                f"{self.hop_length}, {self.win_length}, {self.n_fft}"
            )
        if self.win_length < 2:
            raise InputError(
                "the front end needs win_length >= 2: a Hann window of 1 hears nothing"
            )
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise InputError(
                "the front end needs 0 <= fmin < fmax <= sample_rate / 2; found "
                f"{self.fmin}, {self.fmax}, {self.sample_rate}"
            )
        if self.clip_seconds < SHORTEST_SECONDS or self.log_offset <= 0 or self.n_mels < 1:
            raise InputError(
                f"the front end needs clip_seconds >= {SHORTEST_SECONDS}, log_offset > 0 and "
                f"n_mels >= 1; found {self.clip_seconds}, {self.log_offset}, {self.n_mels}"
            )

    @property
    def num_samples(self) -> int:
        """Samples of a clip."""
        return round(self.clip_seconds * self.sample_rate)

    @property
    def num_frames(self) -> int:
        """Frames of a clip: one per started hop (600 here, 864 at hop 511, 500 at hop 882)."""
        return -(-self.num_samples // self.hop_length)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length


@lru_cache(maxsize=8)
def mel_basis(front_end: FrontEnd) -> np.ndarray:
    """Triangular mel filters of unit area in Hz (Slaney, Auditory Toolbox): <float32>[K, F]."""
    edges = _mel_edges(front_end)
    hz = np.arange(front_end.n_fft // 2 + 1)[:, None] * front_end.sample_rate / front_end.n_fft
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return (np.maximum(0, np.minimum(rising, falling)) * filter_peaks(front_end)).astype(np.float32)


def filter_peaks(front_end: FrontEnd) -> np.ndarray:
    """Height of each mel filter, <float64>[F]: what a mel of filters of height 1 is times this."""
    edges = _mel_edges(front_end)
    return 2 / (edges[2:] - edges[:-2])


def band_centres(front_end: FrontEnd) -> np.ndarray:
    """Where each mel filter peaks, <float64>[F] in Hz."""
    return _mel_edges(front_end)[1:-1]


def hann_window(front_end: FrontEnd) -> np.ndarray:
    """Periodic Hann window, centred in the FFT frame: <float64>[n_fft], as SciPy rounds it."""
    length = front_end.win_length
    hann = 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, length + 1)[:-1])
    before = (front_end.n_fft - length) // 2
    return np.pad(hann, (before, front_end.n_fft - length - before))


def _mel_edges(front_end: FrontEnd) -> np.ndarray:
    """Where the filters begin, peak and end, <float64>[F + 2] in Hz."""
    low, high = _hz_to_mel(front_end.fmin), _hz_to_mel(front_end.fmax)
    return _mel_to_hz(np.linspace(low, high, front_end.n_mels + 2))


# Slaney's scale: linear up to 1 kHz (15 mel), then 27 steps per factor of 6.4.
_LINEAR_HZ, _KNEE_HZ, _LOG_STEP = 200 / 3, 1000.0, math.log(6.4) / 27


def _hz_to_mel(hz: float) -> float:
    if hz < _KNEE_HZ:
        return hz / _LINEAR_HZ
    return _KNEE_HZ / _LINEAR_HZ + math.log(hz / _KNEE_HZ) / _LOG_STEP


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    knee = _KNEE_HZ / _LINEAR_HZ
    above = _KNEE_HZ * np.exp(_LOG_STEP * (np.maximum(mel, knee) - knee))
    return np.where(mel < knee, mel * _LINEAR_HZ, above)
