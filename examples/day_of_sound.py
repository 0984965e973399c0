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
    time = np.arange(SECONDS * rate) / rate
    sound = rng.normal(0, 0.003, (len(time), 1)).astype(np.float32)
    for _ in range(rng.integers(0, 4)):
        onset, length = rng.uniform(0, 9), rng.uniform(0.2, 3)
        here = (time >= onset) & (time < onset + length)
        low, high = rng.uniform(200, 6000, 2)
        phase = low * time + (high - low) * (time - onset) ** 2 / (2 * length)
        kinds = (
            np.sin(2 * np.pi * low * time),
            np.sin(2 * np.pi * phase),
            rng.normal(size=len(time)),
        )
        sound[:, 0] += rng.uniform(0.01, 0.2) * here * kinds[rng.integers(3)]
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
