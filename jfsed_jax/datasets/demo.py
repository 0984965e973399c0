"""A rendered demo set: procedural soundscapes with the ten DCASE 2019 class names.

What it is: every clip is 10 s of audio made from a seed by NumPy alone (a background, and one to
four sound events mixed into it), written as 16-bit FLAC with TSV labels in the DCASE 2019 layout,
and from then on read like any other folder. The labels are those of the render plan, so they are
exact: an event's onset and offset are the first and the last millisecond in which it sounds. It
lets the whole system run, and be tested, in minutes and without a download.

What it is not: recordings. The classes are caricatures (a dog is a pitch glide through three
formants), all splits come from one generator, and nothing is mislabelled; scores on it say that
the system works, and nothing about how well it works on real sound.

A clip depends on (seed, split, index) alone: not on how many clips there are, the order in which
they are rendered, or the number of processes.
"""

import functools
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.fft
import soundfile

from jfsed_jax.errors import InputError
from jfsed_jax.progress import progress_bar
from jfsed_jax.sed.events import Event

SAMPLE_RATE = 44100
CLIP_SECONDS = 10.0
# Raise it whenever the same seed would give other audio: files of an older renderer are not reused.
RENDERER_VERSION = 1

# Audio folder and table of each split. The order is part of the seed.
SPLITS = {
    "weak": ("audio/train/weak", "metadata/train/weak.tsv"),
    "unlabel_in_domain": (
        "audio/train/unlabel_in_domain",
        "metadata/train/unlabel_in_domain.tsv",
    ),
    "synthetic": ("audio/train/synthetic", "metadata/train/synthetic.tsv"),
    "validation": ("audio/validation", "metadata/validation/validation.tsv"),
}


class Character(NamedTuple):
    """How long a class sounds: log-normal around `median`, cut to [shortest, longest], seconds."""

    median: float
    spread: float  # standard deviation of the logarithm
    shortest: float
    longest: float
    lasting: bool  # goes on at a clip's edge, where a short sound always fits inside


# The means are near those of the DCASE 2019 synthetic set.
CHARACTERS = {
    "Alarm_bell_ringing": Character(1.4, 0.5, 0.5, 6.0, False),
    "Blender": Character(2.6, 0.45, 1.0, 8.0, True),
    "Cat": Character(0.9, 0.3, 0.45, 2.0, False),
    "Dishes": Character(0.6, 0.4, 0.25, 1.5, False),
    "Dog": Character(0.8, 0.5, 0.25, 2.5, False),
    "Electric_shaver_toothbrush": Character(4.0, 0.4, 1.5, 9.0, True),
    "Frying": Character(4.8, 0.4, 2.0, 10.0, True),
    "Running_water": Character(3.8, 0.45, 1.5, 10.0, True),
    "Speech": Character(1.2, 0.45, 0.4, 4.0, False),
    "Vacuum_cleaner": Character(5.0, 0.4, 2.0, 10.0, True),
}
MAX_LASTING = 2  # in one clip: more of them hide each other
SAME_CLASS_GAP = 0.4  # seconds between two events of one class, so that they stay two

# Streams of random numbers within a clip; event k draws from _EVENTS + k.
_PLAN, _BACKGROUND, _EVENTS = 0, 1, 2


class PlannedEvent(NamedTuple):
    """An event before it is rendered; times in whole milliseconds from the start of the clip."""

    label: str
    start: int  # may lie before the clip, whose first sample then cuts the sound
    stop: int  # may lie after the clip
    level: float  # dB above the background, by root mean square
    stream: int  # its stream of random numbers

    @property
    def onset(self) -> float:
        """First moment within the clip, in seconds."""
        return max(self.start, 0) / 1000

    @property
    def offset(self) -> float:
        """Last moment within the clip, in seconds."""
        return min(self.stop / 1000, CLIP_SECONDS)


def _rng(seed: int, split: str, index: int, stream: int) -> np.random.Generator:
    # Four words always: SeedSequence pads with zeros, so [s, i] and [s, i, 0] would be the same.
    return np.random.default_rng([seed, list(SPLITS).index(split), index, stream])


def plan_clip(seed: int, split: str, index: int) -> list[PlannedEvent]:
    """What sounds in one clip: one to four events, sorted by onset. Costs microseconds."""
    rng = _rng(seed, split, index, _PLAN)
    labels = list(CHARACTERS)
    clip = round(CLIP_SECONDS * 1000)
    gap = round(SAME_CLASS_GAP * 1000)
    plan: list[PlannedEvent] = []
    count = rng.choice([1, 2, 3, 4], p=[0.15, 0.3, 0.3, 0.25])
    while len(plan) < count:
        label = labels[rng.integers(len(labels))]
        character = CHARACTERS[label]
        seconds = character.median * math.exp(character.spread * rng.standard_normal())
        length = round(1000 * min(max(seconds, character.shortest), character.longest))
        # What lasts may be cut by an edge of the clip; at least 70 % of it stays.
        hidden = 3 * length // 10 if character.lasting else 0
        start = int(rng.integers(-hidden, max(clip - length + hidden, 0) + 1))
        level = float(rng.uniform(9.0, 24.0))
        lasting = sum(CHARACTERS[event.label].lasting for event in plan)
        too_many = character.lasting and lasting >= MAX_LASTING
        too_near = any(
            event.label == label and start < event.stop + gap and event.start < start + length + gap
            for event in plan
        )
        if not too_many and not too_near:
            stream = _EVENTS + len(plan)
            plan.append(PlannedEvent(label, start, start + length, level, stream))
    return sorted(plan, key=lambda event: (event.onset, event.label))


# --- Building blocks. N samples; frequencies in Hz; times in seconds. --------------------------


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _noise(
    rng: np.random.Generator, length: int, colour: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Gaussian noise <float32>[N] of unit power, with the spectral magnitude `colour(Hz)`."""
    size = scipy.fft.next_fast_len(length + 1, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size, np.float32))
    frequencies = np.arange(spectrum.size, dtype=np.float32) * np.float32(SAMPLE_RATE / size)
    spectrum *= colour(frequencies).astype(np.float32)
    return _unit(scipy.fft.irfft(spectrum, size)[:length])


def _unit(signal: np.ndarray) -> np.ndarray:
    """Scaled to a root mean square of 1 (silence stays silence)."""
    power = float(np.mean(np.square(signal, dtype=np.float64)))
    return signal / signal.dtype.type(math.sqrt(power) or 1.0)


def _band(low: float, high: float, steepness: float = 2.0) -> Callable[[np.ndarray], np.ndarray]:
    """A smooth band-pass: magnitude 1 between `low` and `high` Hz, `steepness` poles a side."""

    def colour(frequencies: np.ndarray) -> np.ndarray:
        f = np.maximum(frequencies, 1.0)
        return 1 / np.sqrt((1 + (low / f) ** (2 * steepness)) * (1 + (f / high) ** (2 * steepness)))

    return colour


def _formants(*peaks: tuple[float, float, float]) -> Callable[[np.ndarray], np.ndarray]:
    """A sum of resonances, each (centre Hz, bandwidth Hz, gain)."""

    def colour(frequencies: np.ndarray) -> np.ndarray:
        f = np.asarray(frequencies, np.float64)
        return sum(
            (gain / (1 + ((f - centre) / (width / 2)) ** 2) for centre, width, gain in peaks),
            start=np.full(f.shape, 0.003),
        )

    return colour


def _tone(
    rng: np.random.Generator, pitch: np.ndarray, colour: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """A harmonic tone <float32>[N] of unit power.

    Args:
      rng: gives the phases of the partials.
      pitch: <float>[N] fundamental in Hz.
      colour: amplitude of a partial by its frequency at the mean pitch.
    """
    table_size = 4096
    partials = np.arange(1, max(int(18000 / pitch.max()), 1) + 1)
    spectrum = np.zeros(table_size // 2 + 1, complex)
    phases = rng.uniform(0, 2 * np.pi, partials.size)
    spectrum[partials] = colour(partials * float(pitch.mean())) * np.exp(1j * phases)
    table = _unit(np.fft.irfft(spectrum)).astype(np.float32)
    cycles = np.cumsum(pitch, dtype=np.float64) / SAMPLE_RATE
    return table[(cycles * table_size).astype(np.int64) % table_size]


def _track(length: int, *points: float) -> np.ndarray:
    """<float32>[N] straight lines through values at equal distances."""
    positions = np.linspace(0, length - 1, len(points))
    return np.interp(np.arange(length), positions, points).astype(np.float32)


def _wander(rng: np.random.Generator, length: int, rate: float, depth: float) -> np.ndarray:
    """<float32>[N] around 1: straight lines through `rate` random points a second, +- `depth`."""
    points = 1 + depth * rng.uniform(-1, 1, max(int(length / SAMPLE_RATE * rate), 1) + 1)
    return _track(length, *points)


def _faded(signal: np.ndarray, attack: float, release: float) -> np.ndarray:
    """The signal with raised-cosine edges, of at most half its length each."""
    faded = np.array(signal, np.float32)
    for seconds, edge in ((attack, faded), (release, faded[::-1])):
        width = min(_samples(seconds), signal.size // 2)
        edge[:width] *= 0.5 - 0.5 * np.cos(np.pi * (np.arange(width) + 0.5) / max(width, 1))
    return faded


def _pattern(
    rng: np.random.Generator, length: int, sound: float, pause: float, jitter: float = 0.0
) -> list[tuple[int, int]]:
    """Repeated sounds that fill N samples exactly: (start, stop) of each, the last one at the end.

    `sound` and `pause` are seconds, and are stretched to fit; `jitter` makes them uneven.
    """
    count = max(round((length / SAMPLE_RATE + pause) / (sound + pause)), 1)
    parts = np.tile([sound, pause], count)[:-1]
    parts *= 1 + jitter * rng.uniform(-1, 1, parts.size)
    edges = np.rint(np.concatenate([[0], np.cumsum(parts)]) * (length / parts.sum())).astype(int)
    return list(zip(edges[:-1:2].tolist(), edges[1::2].tolist(), strict=True))


def _scatter(signal: np.ndarray, grains: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
    """Adds short sounds to a signal, in place: (first sample, grain) each; cut at its end."""
    for start, grain in grains:
        part = signal[start : start + grain.size]
        part += grain[: part.size]
    return signal


def _struck(
    rng: np.random.Generator, length: int, frequencies: np.ndarray, decays: np.ndarray
) -> np.ndarray:
    """A struck body <float32>[N]: partials that die away, each with its own time constant."""
    time = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    struck = np.zeros(length, np.float32)
    for frequency, decay in zip(frequencies, decays, strict=True):
        amplitude = rng.uniform(0.3, 1.0)
        phase = rng.uniform(0, 2 * np.pi)
        rotation = np.float32(2 * np.pi * frequency) * time + np.float32(phase)
        struck += np.float32(amplitude) * np.exp(-time / np.float32(decay)) * np.sin(rotation)
    return struck


# --- The ten classes: (rng, N) -> <float32>[N], sounding from the first sample to the last. ----


def _alarm(rng: np.random.Generator, length: int) -> np.ndarray:
    signal = np.zeros(length, np.float32)
    kind = rng.choice(["beeps", "two tones", "bell"])
    if kind == "bell":
        # A hammer that strikes a small bell many times a second.
        base = rng.uniform(900, 2200)
        frequencies = base * np.array([1.0, 1.51, 2.02, 2.74, 3.76]) * rng.uniform(0.98, 1.02, 5)
        for start, _ in _pattern(rng, length, 1 / rng.uniform(9, 18), 0.0, 0.05):
            ring = min(_samples(0.35), length - start)
            _scatter(signal, [(start, _struck(rng, ring, frequencies, np.full(5, 0.12)))])
        return _faded(signal, 0.002, 0.03)
    low = rng.uniform(700, 2600)
    pitches = [low, low * rng.choice([1.26, 1.335, 1.5])] if kind == "two tones" else [low]
    sound = rng.uniform(0.08, 0.3)
    pause = 0.0 if kind == "two tones" else sound * rng.uniform(0.4, 0.9)
    falloff = rng.uniform(0.8, 2.0)
    for number, (start, stop) in enumerate(_pattern(rng, length, sound, min(pause, 0.15))):
        pitch = np.full(stop - start, pitches[number % len(pitches)], np.float32)
        beep = _tone(rng, pitch, lambda f: (low / f) ** falloff)
        signal[start:stop] = _faded(beep, 0.006, 0.006)
    return signal


def _blender(rng: np.random.Generator, length: int) -> np.ndarray:
    # A motor that spins up and labours under its load, with blades that chop.
    pitch = rng.uniform(210, 360) * _wander(rng, length, 4, 0.05)
    rise = min(_samples(rng.uniform(0.15, 0.4)), length)
    pitch[:rise] *= _track(rise, 0.6, 0.9, 1.0)
    motor = _tone(rng, pitch, lambda f: (f / 300) ** -0.6 * _band(100, 6000)(f))
    blades = _noise(rng, length, _band(rng.uniform(500, 1000), rng.uniform(5000, 9000), 1.5))
    chops = 1 + 0.5 * np.sin(np.cumsum(2 * np.pi * pitch / 14 / SAMPLE_RATE, dtype=np.float64))
    mixed = motor + rng.uniform(0.4, 0.8) * blades * chops.astype(np.float32)
    return _faded(mixed * _wander(rng, length, 3, 0.25), 0.02, 0.08)


def _cat(rng: np.random.Generator, length: int) -> np.ndarray:
    # Each meow opens the mouth and closes it: the colour moves between three vowels.
    signal = np.zeros(length, np.float32)
    base = rng.uniform(420, 720)
    peak = rng.uniform(1.25, 1.6)
    for start, stop in _pattern(rng, length, 0.85, 0.1, 0.2):
        size = stop - start
        pitch = base * _track(size, 0.85, peak, peak * 0.95, 1.0, 0.75)
        pitch *= 1 + 0.012 * np.sin(2 * np.pi * 6 * np.arange(size) / SAMPLE_RATE)
        mew = _tone(rng, pitch, _formants((900, 500, 1.0), (2800, 900, 0.6)))
        aow = _tone(rng, pitch, _formants((1300, 700, 1.0), (2100, 800, 0.5)))
        opening = _track(size, 0.0, 0.6, 1.0, 1.0)
        loudness = _track(size, 0.45, 1.0, 1.0, 0.8, 0.35)
        signal[start:stop] = _faded((mew * (1 - opening) + aow * opening) * loudness, 0.03, 0.04)
    return signal


def _dishes(rng: np.random.Generator, length: int) -> np.ndarray:
    # Plates and cutlery: short inharmonic clinks, each with the click of its impact.
    signal = np.zeros(length, np.float32)
    for start, stop in _pattern(rng, length, rng.uniform(0.08, 0.18), 0.02, 0.5):
        size = stop - start
        frequencies = rng.uniform(1800, 4000) * np.cumprod(rng.uniform(1.15, 1.6, 5))
        frequencies = frequencies[frequencies < 16000]
        decays = size / SAMPLE_RATE * rng.uniform(0.2, 0.45, frequencies.size)
        clink = _struck(rng, size, frequencies, decays)
        click = min(_samples(0.006), size)
        clink[:click] += rng.standard_normal(click, np.float32)
        signal[start:stop] = rng.uniform(0.5, 1.0) * _faded(clink, 0.0005, 0.008)
    return signal


def _dog(rng: np.random.Generator, length: int) -> np.ndarray:
    # Barks: a pitch that leaps and falls, hoarse, in the throat of a small or a large dog.
    signal = np.zeros(length, np.float32)
    scale = rng.uniform(0.7, 1.4)
    throat = _formants((650 * scale, 350, 1.0), (1400 * scale, 500, 0.7), (2700 * scale, 900, 0.25))
    for start, stop in _pattern(rng, length, rng.uniform(0.13, 0.24), rng.uniform(0.06, 0.15), 0.2):
        size = stop - start
        pitch = 330 * scale * _track(size, 0.8, 1.5, 1.3, 1.0, 0.6) * rng.uniform(0.9, 1.1)
        bark = _tone(rng, pitch, throat) + 0.5 * _noise(rng, size, throat)
        signal[start:stop] = _faded(bark * _track(size, 1.0, 1.0, 0.7, 0.3), 0.01, 0.03)
    return signal


def _shaver(rng: np.random.Generator, length: int) -> np.ndarray:
    # A steady buzz near 120 Hz, whose colour changes as the head moves over the skin.
    pitch = rng.uniform(105, 135) * _wander(rng, length, 2, 0.012)
    places = [
        _tone(
            rng,
            pitch,
            _formants(
                (rng.uniform(300, 900), 600, 1.0),
                (rng.uniform(1500, 3000), 1200, 0.8),
                (rng.uniform(4000, 7000), 2500, 0.5),
            ),
        )
        for _ in range(2)
    ]
    move = np.clip(_wander(rng, length, 1.5, 1.0) - 0.5, 0, 1)
    buzz = places[0] * (1 - move) + places[1] * move
    return _faded(buzz * _wander(rng, length, 4, 0.2), 0.01, 0.03)


def _frying(rng: np.random.Generator, length: int) -> np.ndarray:
    # A hiss of hot fat with crackles: many bursts of a few milliseconds.
    hiss = _noise(rng, length, _band(rng.uniform(2500, 4500), 14000, 1.0))
    signal = hiss * _wander(rng, length, 5, 0.3)
    shapes = []
    for _ in range(12):
        size = _samples(rng.uniform(0.002, 0.008))
        burst = _noise(rng, size, _band(rng.uniform(1500, 4000), 15000, 1.0))
        shapes.append(burst * np.exp(-np.arange(size, dtype=np.float32) / (size / 4)))
    count = rng.poisson(rng.uniform(25, 60) * length / SAMPLE_RATE)
    starts = rng.integers(0, length, count).tolist()
    loudness = np.minimum(rng.pareto(1.8, count) + 1.0, 9.0).astype(np.float32)
    kinds = rng.integers(0, len(shapes), count).tolist()
    _scatter(
        signal,
        ((s, k * shapes[i]) for s, k, i in zip(starts, loudness, kinds, strict=True)),
    )
    return _faded(signal, 0.03, 0.06)


def _water(rng: np.random.Generator, length: int) -> np.ndarray:
    # A stream: noise of middle pitch that surges, with bubbles whose pitch rises as they close.
    stream = _noise(rng, length, _band(rng.uniform(350, 700), rng.uniform(2200, 4200), 1.5))
    signal = stream * _wander(rng, length, 9, 0.5)
    bubbles = []
    for _ in range(10):
        size = _samples(rng.uniform(0.03, 0.08))
        time = np.arange(size, dtype=np.float32) / SAMPLE_RATE
        low = rng.uniform(450, 1300)
        sine = np.sin(2 * np.pi * low * time * (1 + 3 * time))
        bubbles.append(sine * np.exp(-time / 0.02) * np.minimum(time / 0.003, 1))
    count = rng.poisson(rng.uniform(10, 25) * length / SAMPLE_RATE)
    starts = rng.integers(0, length, count).tolist()
    loudness = rng.uniform(1.0, 3.0, count).astype(np.float32)
    kinds = rng.integers(0, len(bubbles), count).tolist()
    _scatter(
        signal,
        ((s, k * bubbles[i]) for s, k, i in zip(starts, loudness, kinds, strict=True)),
    )
    return _faded(signal, 0.03, 0.06)


# First three formants in Hz of five vowels of an adult (Peterson and Barney 1952, rounded).
_VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
)


def _speech(rng: np.random.Generator, length: int) -> np.ndarray:
    # Syllables: a consonant's noise, then a vowel; the pitch falls over the utterance.
    signal = np.zeros(length, np.float32)
    scale = rng.uniform(0.92, 1.2)
    voice = rng.uniform(95, 250)
    for start, stop in _pattern(rng, length, rng.uniform(0.14, 0.22), rng.uniform(0.02, 0.05), 0.3):
        size = stop - start
        first, second, third = (scale * f for f in _VOWELS[rng.integers(len(_VOWELS))])
        mouth = _formants((first, 110, 1.0), (second, 140, 0.5), (third, 200, 0.25))
        fall = 1.12 - 0.25 * start / length
        pitch = voice * fall * _track(size, 1.0, rng.uniform(1.0, 1.15), rng.uniform(0.85, 1.0))
        vowel = _faded(_tone(rng, pitch, mouth), 0.03, 0.03) * rng.uniform(0.7, 1.0)
        if rng.random() < 0.6:
            lead = int(size * rng.uniform(0.2, 0.4))
            low = rng.uniform(2000, 5000)
            hiss = _faded(_noise(rng, lead, _band(low, 9000)), 0.01, 0.01)
            vowel[:lead] *= _track(lead, 0.0, 0.3)
            vowel[:lead] += rng.uniform(0.3, 0.6) * hiss
        signal[start:stop] = vowel
    return signal


def _vacuum(rng: np.random.Generator, length: int) -> np.ndarray:
    # Rushing air over a low hum, and the whine of a fast fan that takes a moment to reach speed.
    rise = min(_samples(rng.uniform(0.25, 0.6)), length)
    speed = _wander(rng, length, 1, 0.01)
    speed[:rise] *= _track(rise, 0.55, 0.9, 1.0)
    air = _noise(
        rng, length, lambda f: _band(120, rng.uniform(3500, 7000), 1.0)(f) * (f + 200) ** -0.35
    )
    hum = _tone(rng, rng.uniform(95, 125) * speed, _band(80, 350, 2.0))
    whine = _tone(rng, rng.uniform(1300, 3800) * speed, lambda f: f**-2.0)
    mixed = air + rng.uniform(0.4, 0.8) * hum + rng.uniform(0.35, 0.6) * whine
    return _faded(mixed * _wander(rng, length, 1.5, 0.15), 0.04, 0.12)


_SOUNDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "Alarm_bell_ringing": _alarm,
    "Blender": _blender,
    "Cat": _cat,
    "Dishes": _dishes,
    "Dog": _dog,
    "Electric_shaver_toothbrush": _shaver,
    "Frying": _frying,
    "Running_water": _water,
    "Speech": _speech,
    "Vacuum_cleaner": _vacuum,
}


def render_event(label: str, length: int, rng: np.random.Generator) -> np.ndarray:
    """One event alone: <float32>[N] of unit power, sounding from the first sample to the last."""
    return _unit(_SOUNDS[label](rng, length)).astype(np.float32)


def render_background(rng: np.random.Generator) -> np.ndarray:
    """A clip's background: <float32>[10 s] of unit power: a room, a street, wind, birds, steps."""
    length = _samples(CLIP_SECONDS)
    kind = rng.choice(["room", "street", "wind", "birds", "steps"])
    tilt = {"room": 0.6, "street": 0.9, "wind": 1.2, "birds": 0.5, "steps": 0.6}[str(kind)]
    tilt += rng.uniform(-0.15, 0.15)
    signal = _noise(rng, length, lambda f: (f + 40) ** -tilt * (f > 20))
    if kind == "room":
        mains = np.full(length, rng.choice([50.0, 60.0]), np.float32)
        signal += rng.uniform(0.1, 0.4) * _tone(rng, mains, lambda f: (f / 50) ** -1.5)
    elif kind == "street":
        signal *= _wander(rng, length, 0.5, 0.6)
    elif kind == "wind":
        signal *= _wander(rng, length, 1.5, 0.8)
    elif kind == "birds":
        for start in rng.integers(0, length, rng.integers(4, 12)).tolist():
            size = _samples(rng.uniform(0.05, 0.12))
            pitch = _track(size, *(rng.uniform(4500, 8000, 3)))
            chirp = _faded(_tone(rng, pitch, lambda f: f**-3.0), 0.02, 0.02)
            _scatter(signal, [(start, rng.uniform(0.2, 0.6) * chirp)])
    else:
        period = rng.uniform(0.5, 0.7)
        size = _samples(0.12)
        for start in np.arange(rng.uniform(0, 1), CLIP_SECONDS, period):
            step = _noise(rng, size, _band(40, 180)) * _track(size, 1.0, 0.3, 0.1, 0.0)
            _scatter(signal, [(_samples(float(start)), rng.uniform(0.5, 1.2) * step)])
    return _unit(signal)


def render_clip(
    seed: int, split: str, index: int, plan: list[PlannedEvent], *, background: bool = True
) -> np.ndarray:
    """One clip: <float32>[N], 10 s at 44.1 kHz, within -1 and 1.

    Args:
      seed, split, index: which clip; they choose the random numbers.
      plan: the clip's events, of `plan_clip`, or some of them.
      background: False leaves the events alone, at the same level.
    """
    rng = _rng(seed, split, index, _BACKGROUND)
    floor = 10 ** (rng.uniform(-52, -40) / 20)
    clip = floor * render_background(rng)
    if not background:
        clip[:] = 0
    for event in plan:
        start, stop = (round(t * SAMPLE_RATE / 1000) for t in (event.start, event.stop))
        sound = render_event(event.label, stop - start, _rng(seed, split, index, event.stream))
        sound *= np.float32(floor * 10 ** (event.level / 20))
        head = max(-start, 0)
        _scatter(clip, [(start + head, sound[head:])])
    return np.clip(clip, -1.0, 1.0).astype(np.float32)


def clip_name(split: str, index: int) -> str:
    """File name of a clip."""
    return f"{split}_{index:04d}.flac"


def _render_file(directory: Path, seed: int, split: str, index: int) -> None:
    """Writes one clip unless it is there; a file is complete as soon as it has its name."""
    path = directory / SPLITS[split][0] / clip_name(split, index)
    if path.exists():
        return
    clip = render_clip(seed, split, index, plan_clip(seed, split, index))
    partial = path.with_suffix(f".{os.getpid()}.part")
    soundfile.write(partial, clip, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    partial.replace(path)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _table(seed: int, split: str, count: int) -> str:
    """A split's TSV: clip names, clip labels, or events, as the DCASE 2019 metadata has them."""
    plans = {clip_name(split, i): plan_clip(seed, split, i) for i in range(count)}
    if split == "unlabel_in_domain":
        rows = ["filename", *plans]
    elif split == "weak":
        rows = ["filename\tevent_labels"]
        for name, plan in plans.items():
            rows.append(f"{name}\t{','.join(sorted({event.label for event in plan}))}")
    else:
        rows = ["filename\tonset\toffset\tevent_label"]
        for name, plan in plans.items():
            for planned in plan:
                event = Event(name, planned.onset, planned.offset, planned.label)
                rows.append(f"{name}\t{event.onset:.3f}\t{event.offset:.3f}\t{event.event_label}")
    return "\n".join(rows) + "\n"


def _claim(directory: Path, seed: int) -> None:
    """Marks the folder as a demo set of this seed; refuses one that holds something else."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory} cannot be made: {error.strerror}") from error
    marker = directory / "demo.json"
    mine = {"renderer": RENDERER_VERSION, "seed": seed, "license": "CC0-1.0"}
    if marker.exists():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != mine:
            raise InputError(
                f"{marker}: found {found}, expected {mine}: another demo set lies there; "
                "delete the folder or choose another one"
            )
    elif any((directory / name).exists() for name in ("audio", "metadata")):
        raise InputError(
            f"{directory}: found audio or metadata but no demo.json, expected an empty folder or a "
            "demo set; choose another folder"
        )
    else:
        _write_text(marker, json.dumps(mine, indent=1) + "\n")


def render(
    directory: Path,
    *,
    seed: int = 0,
    num_weak: int = 320,
    num_unlabelled: int = 120,
    num_strong: int = 120,
    num_validation: int = 60,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Renders the demo set in the DCASE 2019 layout; what is there already is kept.

    Args:
      directory: where `audio/`, `metadata/` and `demo.json` go.
      seed: chooses every sound; a folder holds one seed.
      num_weak, num_unlabelled, num_strong, num_validation: clips in each split.
      workers: processes (default: one for each CPU); no effect on the files.
      progress: show a bar.

    Returns:
      `directory`.

    Raises:
      InputError: the folder holds something else.
    """
    directory = Path(directory)
    counts = dict(zip(SPLITS, (num_weak, num_unlabelled, num_strong, num_validation), strict=True))
    _claim(directory, seed)
    for audio, _ in SPLITS.values():
        (directory / audio).mkdir(parents=True, exist_ok=True)
    clips = [
        (split, i)
        for split, count in counts.items()
        for i in range(count)
        if not (directory / SPLITS[split][0] / clip_name(split, i)).exists()
    ]
    job = functools.partial(_render_file, directory, seed)
    workers = min(workers or os.cpu_count() or 1, len(clips))
    shown = progress and bool(clips)
    bar = progress_bar(total=len(clips), desc="render", unit="clip", disable=not shown)
    with bar:
        if workers <= 1:
            for clip in clips:
                job(*clip)
                bar.update()
        else:
            # Spawned, not forked: the caller may have started JAX's threads.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, mp_context=context) as pool:
                for _ in pool.map(job, *zip(*clips, strict=True), chunksize=4):
                    bar.update()
    # The tables come last: a folder with tables is complete.
    for split, (_, table) in SPLITS.items():
        _write_text(directory / table, _table(seed, split, counts[split]))
    return directory
