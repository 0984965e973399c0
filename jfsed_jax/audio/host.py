"""Waveform to log-mel spectrogram on the host, by librosa.

Axis letters: ``N`` samples, ``T`` frames, ``F`` mel bands.
"""

from functools import lru_cache

import numpy as np

from jfsed_jax.audio.front_end import FrontEnd, mel_basis


def fit_length(waveform: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Exactly one clip: silence after what is shorter, nothing of what is longer [ours]."""
    waveform = waveform[: front_end.num_samples]
    return np.pad(waveform, (0, front_end.num_samples - len(waveform)))


def log_mel(waveform: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Log-mel magnitudes, computed by librosa.

    Args:
      waveform: <float32>[N].

    Returns:
      <float32>[T, F], T = ceil(N / hop_length); frame t is centred on sample t * hop_length.
    """
    import librosa

    spectrum = librosa.stft(
        waveform,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        win_length=front_end.win_length,
        window="hann",
        center=True,
        pad_mode="constant",
    )
    num_frames = -(-len(waveform) // front_end.hop_length)
    mel = np.abs(spectrum[:, :num_frames]).T @ _sparse_basis(front_end)
    return np.log(mel + np.float32(front_end.log_offset))


@lru_cache(maxsize=8)
def _sparse_basis(front_end: FrontEnd):
    """`mel_basis` without its zeros.

    A product of dense matrices rounds by the number of threads that share it, and a feature would
    depend on the process that made it.
    """
    from scipy import sparse

    return sparse.csc_array(mel_basis(front_end))
