"""Waveform to log-mel spectrogram in JAX: the numbers of `jfsed_jax.audio.host` on any device.

Axis letters: ``N`` samples, ``T`` frames, ``F`` mel bands.
"""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from jfsed_jax.audio.front_end import FrontEnd, hann_window, mel_basis


def log_mel_jax(waveform, front_end: FrontEnd):
    """The numbers of `log_mel`, as a JAX function that can be jitted and batched.

    A float32 FFT spreads the rounding of loud bins over quiet ones, and recordings are loud at low
    frequencies. The difference of neighbouring samples is not, so the higher bins are taken from
    its spectrum, divided by its gain |1 - exp(-i w)|; in each frame from the bin up whose gain
    exceeds what the difference loses in energy. The largest error on 760 real clips falls from
    3.3e-4 to 7e-5. (Beside a full-scale pure tone, near silence can be off by 4e-4.)

    Args:
      waveform: <float32>[..., N].
      front_end: static under jit.

    Returns:
      <float32>[..., T, F], T = ceil(N / hop_length).
    """
    return _jitted_log_mel(front_end)(waveform)


@lru_cache(maxsize=8)
def _jitted_log_mel(front_end: FrontEnd):
    transform = partial(_log_mel_jax, front_end=front_end)

    def of_any_shape(waveform):
        clips = jnp.asarray(waveform, jnp.float32).reshape(-1, waveform.shape[-1])
        # The spectra of one clip stay in a CPU's cache, those of a batch do not.
        mel = jax.lax.platform_dependent(
            clips, cpu=lambda clips: jax.lax.map(transform, clips), default=transform
        )
        return mel.reshape(*waveform.shape[:-1], *mel.shape[1:])

    return jax.jit(of_any_shape)


def _log_mel_jax(waveform, front_end: FrontEnd):
    n_fft, hop = front_end.n_fft, front_end.hop_length
    num_frames = -(-waveform.shape[-1] // hop)
    padding = [(0, 0)] * (waveform.ndim - 1) + [(n_fft // 2, n_fft // 2)]
    padded = jnp.pad(waveform, padding)
    frames = padded[..., hop * np.arange(num_frames)[:, None] + np.arange(n_fft)]
    frames = frames * hann_window(front_end).astype(np.float32)
    difference = jnp.diff(frames, axis=-1, prepend=frames[..., -1:])
    gain = np.abs(1 - np.exp(-2j * np.pi * np.arange(n_fft // 2 + 1) / n_fft)).astype(np.float32)
    energy = jnp.sum(frames**2, axis=-1, keepdims=True)
    kept = jnp.sqrt(jnp.sum(difference**2, axis=-1, keepdims=True) / jnp.maximum(energy, 1e-30))
    magnitude = jnp.where(
        gain > jnp.maximum(kept, 0.1),
        jnp.abs(jnp.fft.rfft(difference)) / np.maximum(gain, 0.1),
        jnp.abs(jnp.fft.rfft(frames)),
    )
    mel = jnp.matmul(magnitude, mel_basis(front_end), precision=jax.lax.Precision.HIGHEST)
    return jnp.log(mel + np.float32(front_end.log_offset))
