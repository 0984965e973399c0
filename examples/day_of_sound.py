"""A recording of any length, of noise with tones, sweeps and bursts in it, to try `predict` on.

    python examples/day_of_sound.py day.flac --hours 24 --rate 48000 --channels 2
    python examples/day_of_sound.py clips --hours 3 --each 10      # a folder of files of 10 s

The same seconds sound the same, however many files they lie in.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile

SECONDS = 10  # made at a time


def block(number: int, rate: int, channels: int) -> np.ndarray:
    """Ten seconds of the recording: <float32>[N, channels]."""
    rng = np.random.default_rng(number)
    sound = rng.standard_normal((SECONDS * rate, 1), np.float32) * np.float32(0.003)
    for _ in range(rng.integers(0, 4)):
        onset, length = rng.uniform(0, 9), rng.uniform(0.2, 3)
        low, high = rng.uniform(200, 6000, 2)
        level, kind = rng.uniform(0.01, 0.2), rng.integers(3)
        here = sound[round(onset * rate) : round((onset + length) * rate), 0]
        time = np.arange(len(here)) / rate
        if kind == 0:
            here += level * np.sin(2 * np.pi * low * time)
        elif kind == 1:
            here += level * np.sin(2 * np.pi * (low + (high - low) * time / (2 * length)) * time)
        else:
            here += np.float32(level) * rng.standard_normal(len(here), np.float32)
    return np.repeat(np.clip(sound, -1, 1), channels, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path, help="A file, or a folder with --each.")
    parser.add_argument("--hours", type=float, default=1)
    parser.add_argument("--each", type=int, help="Seconds of each file, a multiple of 10.")
    parser.add_argument("--rate", type=int, default=44100)
    parser.add_argument("--channels", type=int, default=1)
    args = parser.parse_args()
    blocks = round(args.hours * 3600 / SECONDS)
    each = (args.each or blocks * SECONDS) // SECONDS
    for first in range(0, blocks, each):
        path = args.output / f"{first * SECONDS:06d}.flac" if args.each else args.output
        path.parent.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(path, "w", args.rate, args.channels, "PCM_16") as file:
            for number in range(first, min(first + each, blocks)):
                file.write(block(number, args.rate, args.channels))


if __name__ == "__main__":
    main()
