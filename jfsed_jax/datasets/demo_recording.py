"""A recording of minutes in the sounds of the demo set, none of which any of its clips has."""

from pathlib import Path

import numpy as np
import soundfile

from jfsed_jax.datasets.demo import CLIP_SECONDS, SAMPLE_RATE, plan_clip, render_clip

FADE_SECONDS = 1.0  # from one clip's background to the next one's
_SEED, _SPLIT = 1, "validation"  # the demo set is of seed 0


def render_recording(path: Path, *, clips: int = 20) -> Path:
    """Writes a soundscape of `clips` clips that fade into one another; what is there is kept.

    Args:
      path: a FLAC file; 20 clips last 181 s.
    """
    if path.exists():
        return path
    step = round((CLIP_SECONDS - FADE_SECONDS) * SAMPLE_RATE)
    length = round(CLIP_SECONDS * SAMPLE_RATE)
    ramp = np.linspace(0, 1, length - step, dtype=np.float32)
    sound = np.zeros(step * clips + length - step, np.float32)
    for i in range(clips):
        clip = render_clip(_SEED, _SPLIT, i, plan_clip(_SEED, _SPLIT, i))
        if i:
            clip[: len(ramp)] *= ramp
        if i + 1 < clips:
            clip[-len(ramp) :] *= ramp[::-1]
        sound[i * step : i * step + length] += clip
    partial = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(partial, sound.clip(-1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    partial.replace(path)
    return path
