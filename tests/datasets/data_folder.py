"""A small data folder with whatever flaw, and what `prepare` makes of it."""

import csv

import defaults
import numpy as np
import soundfile

from jfsed_jax import datasets

TINY = defaults.front_end(
    sample_rate=8000,
    n_fft=256,
    win_length=200,
    hop_length=80,
    n_mels=8,
    fmax=4000.0,
    clip_seconds=1.0,
)
STRONG = "filename\tonset\toffset\tevent_label\n"
WEAK = "filename\tevent_labels\n"
BAD = "audio/train/weak/w1.wav"


def noise(seconds=1.0, rate=8000, seed=0, channels=1):
    """Quiet noise <float32>[N, channels], another one for each seed."""
    shape = (round(seconds * rate), channels)
    return np.random.default_rng(seed).uniform(-0.1, 0.1, shape).astype(np.float32)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def write_audio(path, samples=None, rate=8000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, path.name))
    soundfile.write(path, noise(seed=seed) if samples is None else samples, rate, **options)


def make_folder(root):
    """A flawless folder: 3 weak, 2 unlabelled, 3 synthetic and 2 validation clips."""
    write_text(
        root / "metadata/train/weak.tsv", WEAK + "w0.wav\tDog\nw1.wav\tCat,Dog\nw2.wav\tCat\n"
    )
    write_text(root / "metadata/train/unlabel_in_domain.tsv", "filename\nu0.wav\nu1.wav\n")
    write_text(
        root / "metadata/train/synthetic.tsv",
        STRONG + "s0.wav\t0.1\t0.4\tDog\ns1.wav\t0.0\t1.0\tCat\ns2.wav\t0.2\t0.3\tDog\n",
    )
    write_text(
        root / "metadata/validation/validation.tsv",
        STRONG + "v0.wav\t0.25\t0.5\tCat\nv1.wav\t\t\t\n",
    )
    for name in ("weak/w0", "weak/w1", "weak/w2", "unlabel_in_domain/u0", "unlabel_in_domain/u1"):
        write_audio(root / f"audio/train/{name}.wav")
    for name in ("train/synthetic/s0", "train/synthetic/s1", "train/synthetic/s2"):
        write_audio(root / f"audio/{name}.wav")
    for name in ("v0", "v1"):
        write_audio(root / f"audio/validation/{name}.wav")


def prepare(data, front_end=TINY, **options):
    options = {"features_dir": data.parent / "features", "workers": 1, "progress": False} | options
    return datasets.prepare(data, front_end, **options)


def rows(prepared, name="problems"):
    """Lines of problems.tsv or missing.tsv as lists of cells."""
    with open(prepared.directory / f"{name}.tsv", newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter="\t"))[1:]


def contents(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
