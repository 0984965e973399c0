"""From a person's recording, of any length, to its events.

Axis letters: ``B`` clips, ``N`` samples, ``T'`` frames of the student, ``C`` classes.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from jfsed_jax.audio.device import log_mel_jax
from jfsed_jax.audio.host import log_mel
from jfsed_jax.audio.reading import load_audio
from jfsed_jax.errors import InputError
from jfsed_jax.inference.detector import Detector
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.method.state import Variables
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import Decode


def make_listen(detector: Detector) -> Callable[[Variables, jax.Array], Posteriors]:
    """A jitted ``(variables, waveform [B, N]) -> Posteriors``, the log-mel on the device too.

    N samples at the front end's rate: a clip, or another length whose frames the models can pool.
    """

    @jax.jit
    def listen(variables: Variables, waveform: jax.Array) -> Posteriors:
        return detector.posteriors_of(variables, log_mel_jax(waveform, detector.front_end))

    return listen


def recording_posteriors(detector: Detector, waveform: np.ndarray) -> np.ndarray:
    """Gated frame posteriors of a recording of any length.

    A recording longer than a clip is cut into clips that overlap by half. Each clip's frames are
    multiplied by its own tags (figure 4; not where ``config.postprocess.gate`` is off), then clips
    are cross-faded: a frame counts more the closer it is to the middle of a clip.

    Args:
      detector: a trained system.
      waveform: <float32>[N] at the front end's sample rate.

    Returns:
      <float32>[T', C], T' the recording's length in frames of the student.
    """
    front_end = detector.front_end
    clip_frames = front_end.num_frames
    pooled = detector.time_stride
    hop = max(clip_frames // 2 // pooled, 1) * pooled
    num_frames = -(-len(waveform) // front_end.hop_length)
    # One clip, and one more for every started half clip beyond it.
    more = -(-max(num_frames - clip_frames, 0) // hop)
    starts = [hop * i for i in range(1 + more)]
    # Silence and not an edge effect: the padding of a short training clip is digital silence too.
    needed = (starts[-1] + clip_frames) * front_end.hop_length
    padded = np.pad(waveform, (0, max(needed - len(waveform), 0)))
    mel = log_mel(padded, front_end)
    clips = [mel[start : start + clip_frames] for start in starts]
    output = detector.posteriors(clips, progress=len(clips) > 60)
    gated = output.frames
    if detector.config.postprocess.gate:
        gated = gated * (output.clip > 0.5)[:, None, :]

    length = gated.shape[1]
    fade = 1 - np.abs(np.linspace(-1, 1, length + 2)[1:-1, None])
    total = np.zeros((starts[-1] // pooled + length, len(detector.classes)))
    weight = np.zeros((len(total), 1))
    for start, frames in zip(starts, gated, strict=True):
        covered = slice(start // pooled, start // pooled + length)
        total[covered] += fade * frames
        weight[covered] += fade
    return (total / weight)[: -(-num_frames // pooled)].astype(np.float32)


def detect(
    detector: Detector,
    path: str | Path,
    *,
    rule: str | None = None,
    decode: Decode | None = None,
) -> list[Event]:
    """The events of an audio file of any sample rate, channels and length.

    Args:
      detector: a trained system.
      path: the file; its name as given becomes the events' file name.
      rule: of the median windows; the config's if None.
      decode: in place of the config's decoder; it gets None for the clip posteriors, since the
        frames are gated already.

    Raises:
      InputError: the file cannot be used, or its posteriors are not finite.
    """
    decode = decode or detector.decoder(rule)
    waveform = load_audio(path, detector.front_end.sample_rate)
    try:
        frames = recording_posteriors(detector, waveform)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return decode(None, frames[None], [str(path)])
