"""Waveform to log-mel spectrogram on the host: to the bit what librosa's STFT gives.

Axis letters: ``N`` samples, ``T`` frames, ``F`` mel bands.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np

from jfsed_jax.audio.front_end import FrontEnd, hann_window, mel_basis

_AT_ONCE = 64  # frames; their spectra stay in the cache


def fit_length(waveform: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Exactly one clip: silence after what is shorter, nothing of what is longer [ours]."""
    waveform = waveform[: front_end.num_samples]
    return np.pad(waveform, (0, front_end.num_samples - len(waveform)))


def log_mel(waveform: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Log-mel magnitudes.

    Args:
      waveform: <float32>[N].

    Returns:
      <float32>[T, F], T = ceil(N / hop_length); frame t is centred on sample t * hop_length.
    """
    around = front_end.n_fft // 2
    num_frames = -(-len(waveform) // front_end.hop_length)
    return mel_frames(np.pad(waveform, (around, around)), front_end)[:num_frames]


def mel_frames(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Log-mel magnitudes of the frames that lie in `samples` as a whole.

    Args:
      samples: <float32>[N]; the first frame begins, and is not centred, on the first of them.

    Returns:
      <float32>[T, F], T = 1 + (N - n_fft) // hop_length.
    """
    from scipy import fft

    frames = np.lib.stride_tricks.sliding_window_view(samples, front_end.n_fft)
    frames = frames[:: front_end.hop_length]
    window, basis = hann_window(front_end), _sparse_basis(front_end)
    mel = []
    for start in range(0, len(frames), _AT_ONCE):
        # In float64: beside loud low frequencies float32 loses faint high ones.
        spectrum = fft.rfft(frames[start : start + _AT_ONCE] * window)
        mel.append(np.abs(spectrum.astype(np.complex64)) @ basis)
    return np.log(np.concatenate(mel) + np.float32(front_end.log_offset))


def framed(
    blocks: Iterable[np.ndarray], front_end: FrontEnd, count: int, total: Callable[[int], int]
) -> Iterator[np.ndarray]:
    """The samples of every `count` frames of a waveform in blocks: what `mel_frames` takes.

    Args:
      blocks: <float32>[N] each.
      count: frames at a time; of the last ones what is left.
      total: ``frames of the waveform -> frames to give``; those beyond it hear silence.
    """
    hop, overlap = front_end.hop_length, front_end.n_fft - front_end.hop_length
    size = count * hop + overlap
    held, done, heard = [np.zeros(front_end.n_fft // 2, np.float32)], 0, 0
    length = len(held[0])
    for block in blocks:
        heard += len(block)
        held.append(block)
        length += len(block)
        if length < size:
            continue
        samples, start = np.concatenate(held), 0
        while length - start >= size:
            yield samples[start : start + size]
            start, done = start + count * hop, done + count
        held, length = [samples[start:]], length - start
    left = total(-(-heard // hop)) - done
    samples = np.concatenate(held)
    samples = np.pad(samples, (0, max(left * hop + overlap - length, 0)))
    for start in range(0, left, count):
        stop = min(start + count, left)
        yield samples[start * hop : stop * hop + overlap]


@lru_cache(maxsize=8)
def _sparse_basis(front_end: FrontEnd):
    """`mel_basis` without its zeros.

    A product of dense matrices rounds by the number of threads that share it, and a feature would
    depend on the process that made it.
    """
    from scipy import sparse

    return sparse.csc_array(mel_basis(front_end))
