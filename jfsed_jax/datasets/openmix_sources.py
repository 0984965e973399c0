"""The real recordings that `openmix` mixes: found, decoded to integers, and cut where they sound.

ESC-10 (K. J. Piczak) has 40 cuts of each of ten sounds in five folds, the Free Spoken Digit Dataset
(FSDD) the ten digits by six speakers. Both are public repositories. Everything here is integer
arithmetic on what the decoder of Ogg Vorbis gives; a stored digest of every recording tells whether
it gave the same as where this was written.

Axis letters: ``N`` samples at 44.1 kHz, ``K`` blocks of 10 ms.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jfsed_jax.datasets.openmix_digests import ESC10_DIGESTS, FSDD_DIGESTS
from jfsed_jax.errors import InputError

SAMPLE_RATE = 44100
BLOCK = 441  # samples of 10 ms, the grid on which everything begins and ends
BACKGROUND = "background"
SPEECH = "Speech"
# ESC-10's folders and what they are here: the names of realmix, whose background is the sea too.
FOLDERS = {
    "001 - Dog bark": "Dog",
    "002 - Rain": "Rain",
    "003 - Sea waves": BACKGROUND,
    "004 - Baby cry": "Baby_cry",
    "005 - Clock tick": "Clock_tick",
    "006 - Person sneeze": "Sneeze",
    "007 - Helicopter": "Helicopter",
    "008 - Chainsaw": "Chainsaw",
    "009 - Rooster": "Rooster",
    "010 - Fire crackling": "Fire_crackling",
}
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 50  # of each digit by each speaker
ESC10_COMMIT = "553c8f1743b9dba6b282e1323c3ca8fa76923448"  # the last one with audio
FSDD_COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
_ESC10_FROM = f"github.com/karolpiczak/ESC-10, commit {ESC10_COMMIT[:7]} (later ones hold no audio)"
_FSDD_FROM = f"github.com/Jakobovski/free-spoken-digit-dataset, commit {FSDD_COMMIT[:7]}"

# A line of ESC-10's README: fold, Freesound number and take of a clip; its credit.
_CREDIT = re.compile(r"- \*\*\[(\d)-(\d+)-([A-Z])\.ogg\]\(.*?\)\*\*:\s+clip derived from (.+)")
# Left out: its licence allows no copies of the whole.
_NOT_FREE = "sampling+"

# What is this far below the loudest 10 ms of its recording does not count as sound: with 33 dB, and
# pauses of `openmix_plan.PAUSE_WITHIN`, barks, crows and sneezes are as long as in realmix. The
# digits are trimmed by their makers, and the quiet end of a "six" belongs to it.
_FLOOR_DB = 33
_FLOOR_DB_OF_DIGITS = 40


class Source(NamedTuple):
    """A recording to mix from.

    Attributes:
      path: of the file, from the folder of its repository.
      origin: the recording it was cut from; cuts with one origin are not independent.
      label: its class, or `BACKGROUND`.
      fold: ESC-10's, or the speaker.
      credit: Markdown, with the licence; that of a digit is its speaker's name.
    """

    path: str
    origin: str
    label: str
    fold: str
    credit: str


def find_sources(esc10: str | Path, fsdd: str | Path) -> list[Source]:
    """All recordings of both folders, ESC-10's in the order of its README.

    Raises:
      InputError: one folder lacks recordings; says which, how many, and where to get them.
    """
    sources, wrong = [], []
    for found, missing in (_esc10(Path(esc10)), _fsdd(Path(fsdd))):
        sources += found
        wrong += [missing] if missing else []
    if wrong:
        raise InputError("; ".join(wrong))
    return sources


def _esc10(folder: Path) -> tuple[list[Source], str | None]:
    looked_for = f"--esc10 {folder}: looked for README.md and the recordings that it credits, as"
    example = "001 - Dog bark/1-100032-A.ogg"
    try:
        readme = (folder / "README.md").read_text(encoding="utf-8")
    except OSError:
        return [], f"{looked_for} {example!r}; there is no README.md; get {_ESC10_FROM}"
    sources = []
    inside = None
    for line in readme.splitlines():
        inside = next((name for name in FOLDERS if line.startswith(f"**{name}**")), inside)
        credit = _CREDIT.match(line)
        if inside and credit and _NOT_FREE not in line.lower():
            fold, number, take = credit[1], credit[2], credit[3]
            path = f"{inside}/{fold}-{number}-{take}.ogg"
            origin = f"freesound/{number}"
            sources.append(Source(path, origin, FOLDERS[inside], fold, credit[4].strip()))
    if not sources:
        return [], f"{looked_for} {example!r}; README.md credits none; get {_ESC10_FROM}"
    return sources, _missing(looked_for, folder, sources, _ESC10_FROM)


def _fsdd(folder: Path) -> tuple[list[Source], str | None]:
    sources = [
        Source(f"recordings/{name}.wav", f"fsdd/{name}", SPEECH, speaker, speaker)
        for speaker in SPEAKERS
        for digit in range(10)
        for name in (f"{digit}_{speaker}_{take}" for take in range(TAKES))
    ]
    looked_for = f"--fsdd {folder}: looked for recordings/DIGIT_SPEAKER_TAKE.wav, as"
    return sources, _missing(looked_for, folder, sources, _FSDD_FROM)


def _missing(looked_for: str, folder: Path, sources: Sequence[Source], get: str) -> str | None:
    lacking = [source.path for source in sources if not (folder / source.path).is_file()]
    if not lacking:
        return None
    return (
        f"{looked_for} {lacking[0]!r}; {len(lacking)} of {len(sources)} files are missing; "
        f"get {get}"
    )


@functools.lru_cache(maxsize=400)
def read_samples(path: Path) -> np.ndarray:
    """A recording as <int16>[N] at 44.1 kHz; 8 kHz is brought there by `upsample`.

    Raises:
      InputError: it cannot be decoded, or is no mono recording at one of the two rates.
    """
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise InputError(f"{path} cannot be decoded ({error}); copy it again") from error
    if rate not in (SAMPLE_RATE, 8000) or samples.shape[1] != 1 or not samples.any():
        raise InputError(
            f"{path}: found {samples.shape[1]} channels at {rate} Hz, {len(samples)} samples, "
            f"loudest {int(np.abs(samples.astype(np.int64)).max(initial=0))}; expected sound, mono "
            "at 44100 or 8000 Hz; copy it again"
        )
    mono = np.ascontiguousarray(samples[:, 0])
    return mono if rate == SAMPLE_RATE else upsample(mono)


_UP, _DOWN = 441, 80  # 44.1 kHz is 8 kHz times this
_TAPS = 32


@functools.cache
def upsampling_filter() -> np.ndarray:
    """<int64>[441, 32]: a sinc under a Hann window for each of 441 phases, in units of 2^-15.

    Before rounding no coefficient is nearer than 8e-5 to a half, so that another library's last
    digit of sine and cosine changes none; a test holds their digest.
    """
    phase = np.arange(_UP)[:, None] / _UP
    distance = phase - (np.arange(_TAPS) - (_TAPS // 2 - 1))  # in samples at 8 kHz
    window = np.cos(np.pi * distance / _TAPS) ** 2
    cutoff = 0.95  # of 4 kHz
    return np.rint(2**15 * cutoff * np.sinc(cutoff * distance) * window).astype(np.int64)


def upsample(samples: np.ndarray) -> np.ndarray:
    """<int16>[M] at 8 kHz to <int16>[N] at 44.1 kHz, by an integer polyphase filter."""
    before = _TAPS // 2 - 1
    padded = np.pad(samples.astype(np.int64), (before, _TAPS))
    at, phase = np.divmod(np.arange(len(samples) * _UP // _DOWN) * _DOWN, _UP)
    around = np.lib.stride_tricks.sliding_window_view(padded, _TAPS)[at]
    sums = (around * upsampling_filter()[phase]).sum(axis=1)
    return np.clip((sums + 2**14) >> 15, -(2**15), 2**15 - 1).astype(np.int16)


def sounding(samples: np.ndarray, label: str) -> np.ndarray:
    """<bool>[K]: which whole blocks of a recording <int16>[N] of a class count as sound."""
    blocks = samples[: len(samples) // BLOCK * BLOCK].reshape(-1, BLOCK).astype(np.int64)
    energy = (blocks * blocks).sum(axis=1)
    numerator, denominator = power_ratio(_FLOOR_DB_OF_DIGITS if label == SPEECH else _FLOOR_DB)
    # In Python's integers: 64 bits would not hold the products.
    threshold = int(np.max(energy, initial=0)) * denominator // numerator
    return energy > threshold


# 10^(k/10) for k = 0 to 9, times 10^9: powers of ten by integers alone.
_TENTHS = (
    1_000_000_000,
    1_258_925_412,
    1_584_893_192,
    1_995_262_315,
    2_511_886_432,
    3_162_277_660,
    3_981_071_706,
    5_011_872_336,
    6_309_573_445,
    7_943_282_347,
)


def power_ratio(decibels: int) -> tuple[int, int]:
    """Numerator and denominator of 10^(decibels / 10)."""
    tens, tenths = divmod(decibels, 10)
    numerator = _TENTHS[tenths] * 10 ** max(tens, 0)
    return numerator, 10 ** (9 + max(-tens, 0))


def digest(samples: np.ndarray) -> str:
    """Eight hexadecimal digits that stand for <int16>[N]."""
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()[:8]


def speaker_digests(found: Iterable[tuple[Source, str]]) -> dict[str, str]:
    """One digest for all digits of each speaker."""
    together: dict[str, str] = {}
    for source, value in found:
        if source.label == SPEECH:
            together[source.fold] = together.get(source.fold, "") + value
    return {
        speaker: hashlib.sha256(values.encode()).hexdigest()[:8]
        for speaker, values in together.items()
    }


def differing(found: Sequence[tuple[Source, str]]) -> list[str]:
    """The recordings, and speakers, whose samples are not those with which the set was published.

    Args:
      found: every source with the digest of its samples.
    """
    stored = ESC10_DIGESTS | FSDD_DIGESTS
    read = {Path(source.path).stem: value for source, value in found if source.label != SPEECH}
    read |= speaker_digests(found)
    return sorted(
        name for name in stored.keys() | read.keys() if stored.get(name) != read.get(name)
    )
