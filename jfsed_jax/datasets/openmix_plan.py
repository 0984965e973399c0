"""What sounds in each clip of `openmix`, drawn by integers of its own: a plan before any mixing.

The numbers named below were measured on realmix, a private set of the same kind, on its 280 strong
and 160 weak clips, so that figures on both can be held side by side; docs/openmix.md compares them.

Times are in blocks of 10 ms, levels in whole decibels: nothing is rounded anywhere.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jfsed_jax.datasets.openmix_sources import BACKGROUND, SPEECH, Source
from jfsed_jax.errors import InputError

CLIP = 1000  # blocks: 10 s

# Clips with 1, 2, 3 classes, of a hundred: measured 40, 42, 18.
CLASSES_IN_CLIP = (40, 42, 18)
# A class occurs in as many clips as any other, Speech in twice as many: measured in 31 %, the
# other classes in 12 to 22 %.
SPEECH_WEIGHT = 2
# Sounds that last: one event in a clip, of a length between these; measured 1.5 to 4.5 s and so on.
# A recording that is too short is repeated.
LASTING = {
    "Baby_cry": (150, 450),
    "Chainsaw": (200, 800),
    "Clock_tick": (200, 600),
    "Fire_crackling": (300, 900),
    "Helicopter": (300, 950),
    "Rain": (300, 925),
}
# Sounds that come singly, as Speech does: one to four events in a clip, measured 1 to 4 and 2.4 on
# average.
SINGLE = ("Dog", "Rooster", "Sneeze")
PAUSE_WITHIN = 15  # a longer silence parts two events; the shortest gap measured is 0.15 s
EVENTS_IN_CLIP = 4
SHORTEST = 9  # blocks of a single sound; the shortest event measured is 0.09 s
# Digits said in one go, one to six, and the pause between them: Speech measured 0.2 to 4 s.
DIGITS = 6
PAUSE = (2, 15)
GAP = 15  # between two events of a class, likewise
# Power of the background, dB of full scale, before a loud clip is turned down as a whole: half of
# realmix's silences are between -46 and -41, 5 % above -37.
BACKGROUND_DB = (-46, -34)
# Power of an event above that of the background, drawn for every event: measured 5 % below 8 and
# 5 % above 25 dB, and 5.3 dB standard deviation among the events of one class in one clip.
EVENT_DB = (6, 24)
# The labelled recordings are dealt into groups, and a labelled clip is mixed from one group alone:
# clips of different groups share no recording, so that a run can hold some of them out. Four, since
# ESC-10's folds have four or more recordings of each class; of the helicopter they have two.
GROUPS = 4


class Split(NamedTuple):
    """A set of clips and the recordings that it may use.

    Attributes:
      clips: how many.
      folds: of ESC-10, and speakers; "3/0" is group 0 of fold 3, see `deal`.
      grouped: whether its clips keep to groups of recordings.
      audio, table: where they go in the data folder.
      prefix: of the clips' names.
    """

    clips: int
    folds: tuple[str, ...]
    grouped: bool
    audio: str
    table: str
    prefix: str


# No fold and no speaker of the training sets occurs in validation or evaluation; fold 3 and two
# speakers are heard in unlabelled clips only.
SPLITS = {
    "weak": Split(
        160, ("2", "jackson"), True, "audio/train/weak", "metadata/train/weak.tsv", "weak"
    ),
    "unlabel_in_domain": Split(
        960,
        ("1", "2", "3", "george", "jackson", "lucas", "nicolas"),
        False,
        "audio/train/unlabel_in_domain",
        "metadata/train/unlabel_in_domain.tsv",
        "unlabelled",
    ),
    "synthetic": Split(
        160,
        ("1", "george"),
        True,
        "audio/train/synthetic",
        "metadata/train/synthetic.tsv",
        "strong",
    ),
    "validation": Split(
        240,
        ("4", "theo"),
        False,
        "audio/validation",
        "metadata/validation/validation.tsv",
        "validation",
    ),
    "eval": Split(
        240, ("5", "yweweler"), False, "audio/eval/public", "metadata/eval/public.tsv", "eval"
    ),
}

# Another set, to make choices on: validation takes the place of new recordings from half of fold 3
# and a speaker who are then in no other clip. Weak and strong clips are those of `SPLITS`.
REHEARSAL = {
    "weak": SPLITS["weak"],
    "unlabel_in_domain": SPLITS["unlabel_in_domain"]._replace(
        folds=("1", "2", "3/0", "3/1", "george", "jackson", "lucas")
    ),
    "synthetic": SPLITS["synthetic"],
    "validation": SPLITS["validation"]._replace(folds=("3/2", "3/3", "nicolas")),
}


class Piece(NamedTuple):
    """A stretch of a recording at a place in the clip; blocks.

    Attributes:
      source: the recording.
      onset, length: in the clip.
      first, stop: the part of the recording that it is taken from, repeated if it is too short.
      start: where in that part it begins.
    """

    source: Source
    onset: int
    length: int
    first: int
    stop: int
    start: int


class MixedEvent(NamedTuple):
    """An event of a clip, or its background.

    Attributes:
      label: its class, or `BACKGROUND`.
      level: dB above the background; of the background, of full scale.
      pieces: what it is made of, in order; digits if it is speech, else one.
    """

    label: str
    level: int
    pieces: tuple[Piece, ...]

    @property
    def onset(self) -> int:
        """Its first block."""
        return self.pieces[0].onset

    @property
    def offset(self) -> int:
        """The block after its last one."""
        return self.pieces[-1].onset + self.pieces[-1].length


class Draws:
    """Random integers that are the same in every version of every library: splitmix64."""

    def __init__(self, *key: object):
        text = "/".join(map(str, key))
        self._state = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def below(self, count: int) -> int:
        """From 0 to `count` - 1."""
        self._state = (self._state + 0x9E3779B97F4A7C15) % 2**64
        word = self._state
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return (word ^ (word >> 31)) * count >> 64

    def between(self, limits: tuple[int, int]) -> int:
        """From the first to the second, both included."""
        return limits[0] + self.below(limits[1] - limits[0] + 1)

    def choose(self, items: Sequence[Any], weights: Sequence[int] | None = None) -> Any:
        """One of them, in proportion to whole weights."""
        if weights is None:
            return items[self.below(len(items))]
        at = self.below(sum(weights))
        for item, weight in zip(items, weights, strict=True):
            if at < weight:
                return item
            at -= weight
        raise AssertionError

    def words(self, count: int) -> np.ndarray:
        """<uint64>[count], 64 random bits each; starts a stream of its own."""
        start = np.uint64(self.below(2**64))
        words = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return words ^ (words >> np.uint64(31))


def deal(sources: Iterable[Source]) -> dict[str, int]:
    """The group of every origin, so that each class of each fold is spread evenly over them."""
    sizes: dict[tuple[str, str], dict[str, int]] = {}
    for source in sources:
        cuts = sizes.setdefault((source.fold, source.label), {})
        cuts[source.origin] = cuts.get(source.origin, 0) + 1
    group_of = {}
    for number, cuts in enumerate(sizes.values()):
        filled = [0] * GROUPS
        # The largest first, each to the emptiest group; another group first for every class.
        for origin in sorted(cuts, key=lambda name: (-cuts[name], name)):
            order = sorted(range(GROUPS), key=lambda g: (filled[g], (g - number) % GROUPS))
            group_of[origin] = order[0]
            filled[order[0]] += cuts[origin]
    return group_of


class Planner:
    """Plans the clips of every split from the recordings and where they sound.

    Args:
      sources: all recordings.
      sounding: <bool>[K] of each, by its path: the blocks in which it sounds.
      splits: `SPLITS` or `REHEARSAL`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        sounding: Mapping[str, np.ndarray],
        splits: Mapping[str, Split] = SPLITS,
    ):
        self._sources = sources
        self._splits = splits
        self._sounding = sounding
        self._group_of = deal(sources)
        self._choices: dict[Any, tuple[dict[str, list[Source]], dict[str, int]]] = {}

    def plan(self, split: str, index: int) -> list[MixedEvent]:
        """The background and then the events of a clip, by onset; depends on nothing else."""
        draws = Draws("openmix", split, index)
        group = index % GROUPS if self._splits[split].grouped else None
        by_label, weights = self._choice(split, group)
        plan = [self._background(draws, by_label[BACKGROUND])]
        labels = list(weights)
        for _ in range(min(draws.choose((1, 2, 3), CLASSES_IN_CLIP), len(labels))):
            label = draws.choose(labels, [weights[label] for label in labels])
            labels.remove(label)
            if label == SPEECH:
                speaker = draws.choose(sorted({source.fold for source in by_label[label]}))
                said = [source for source in by_label[label] if source.fold == speaker]
                plan += self._speech(draws, said)
            elif label in LASTING:
                plan.append(self._lasting(draws, label, draws.choose(by_label[label])))
            else:
                plan += self._single(draws, label, draws.choose(by_label[label]))
        return [plan[0], *sorted(plan[1:], key=lambda event: (event.onset, event.label))]

    def _choice(
        self, split: str, group: int | None
    ) -> tuple[dict[str, list[Source]], dict[str, int]]:
        """The recordings of each label for a clip, and how often to draw each class."""
        if (split, group) not in self._choices:
            folds = self._splits[split].folds
            by_label: dict[str, list[Source]] = {}
            in_all_groups: Counter[str] = Counter()
            for source in self._sources:
                own = self._group_of[source.origin]
                if source.fold in folds or f"{source.fold}/{own}" in folds:
                    in_all_groups[source.label] += 1
                    if group is None or own == group:
                        by_label.setdefault(source.label, []).append(source)
            if BACKGROUND not in by_label:
                raise InputError(
                    f"the recordings credited by ESC-10's README.md are too few for {split}: "
                    "no sea waves; check the folder out again"
                )
            # Where a group has twice the recordings of a class, it is drawn twice as often.
            weights = {
                label: 1000 * len(by_label[label]) // in_all_groups[label]
                for label in sorted(by_label)
                if label != BACKGROUND
            }
            weights[SPEECH] *= SPEECH_WEIGHT
            self._choices[split, group] = by_label, weights
        return self._choices[split, group]

    def _background(self, draws: Draws, waves: Sequence[Source]) -> MixedEvent:
        source = draws.choose(waves)
        first, stop = stretches(self._sounding[source.path], CLIP)[0]
        start = draws.below((stop - first + 1) // 2)
        piece = Piece(source, 0, CLIP, first, stop, start)
        return MixedEvent(BACKGROUND, draws.between(BACKGROUND_DB), (piece,))

    def _lasting(self, draws: Draws, label: str, source: Source) -> MixedEvent:
        first, stop = stretches(self._sounding[source.path], CLIP)[0]
        sounds = self._sounding[source.path][first:stop]
        best = (0, 0)
        for _ in range(20):  # what is left between two pauses can be too short
            length, start = draws.between(LASTING[label]), 0
            if length < len(sounds):
                start = draws.choose(np.flatnonzero(sounds[: len(sounds) - length + 1]).tolist())
            # It ends while it sounds, as it begins.
            heard = np.zeros(length, bool)
            for at, begin, end in repeated(len(sounds), start, length):
                heard[at : at + end - begin] |= sounds[begin:end]
            best = max(best, (int(np.flatnonzero(heard)[-1]) + 1, start))
            if best[0] >= LASTING[label][0]:
                break
        length, start = best
        onset = draws.below(CLIP - length + 1)
        piece = Piece(source, onset, length, first, stop, start)
        return MixedEvent(label, draws.between(EVENT_DB), (piece,))

    def _single(self, draws: Draws, label: str, source: Source) -> list[MixedEvent]:
        found = stretches(self._sounding[source.path], PAUSE_WITHIN)
        found = [part for part in found if part[1] - part[0] >= SHORTEST] or [
            max(found, key=lambda part: part[1] - part[0])
        ]
        events: list[MixedEvent] = []
        for _ in range(1 + draws.below(EVENTS_IN_CLIP)):
            first, stop = draws.choose(found)
            onset = free_onset(draws, events, stop - first)
            if onset is not None:
                piece = Piece(source, onset, stop - first, first, stop, 0)
                events.append(MixedEvent(label, draws.between(EVENT_DB), (piece,)))
        return events

    def _speech(self, draws: Draws, said: Sequence[Source]) -> list[MixedEvent]:
        events: list[MixedEvent] = []
        for _ in range(1 + draws.below(EVENTS_IN_CLIP)):
            pieces: list[Piece] = []
            length = 0
            for _ in range(1 + draws.below(DIGITS)):
                source = draws.choose(said)
                first, stop = stretches(self._sounding[source.path], CLIP)[0]
                length += draws.between(PAUSE) if pieces else 0
                pieces.append(Piece(source, length, stop - first, first, stop, 0))
                length += stop - first
            onset = free_onset(draws, events, length)
            if onset is not None:
                placed = tuple(piece._replace(onset=piece.onset + onset) for piece in pieces)
                events.append(MixedEvent(SPEECH, draws.between(EVENT_DB), placed))
        return events


def stretches(sounds: np.ndarray, longest_pause: int) -> list[tuple[int, int]]:
    """First block and the one after the last of where <bool>[K] is true, short pauses included."""
    at = np.flatnonzero(sounds)
    breaks = np.flatnonzero(np.diff(at) > longest_pause)
    firsts = at[np.concatenate(([0], breaks + 1))]
    lasts = at[np.concatenate((breaks, [len(at) - 1]))]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]


def repeated(size: int, start: int, length: int) -> list[tuple[int, int, int]]:
    """How a part of a recording fills a longer time: over and over, each end faded into the start.

    Args:
      size: blocks of the part.
      start: block of the part to begin at.
      length: blocks to fill.

    Returns:
      Where each round begins, and the first block and the one after the last of the part in it;
      each overlaps the one before by `crossfade(size)` blocks.
    """
    rounds = [(0, start, min(size, start + length))]
    while (at := rounds[-1][0] + rounds[-1][2] - rounds[-1][1]) < length:
        at -= crossfade(size)
        rounds.append((at, 0, min(size, length - at)))
    return rounds


def crossfade(size: int) -> int:
    """Blocks in which a part of `size` blocks passes into its own start: half a second at most."""
    return min(50, size // 4)


def free_onset(draws: Draws, events: Sequence[MixedEvent], length: int) -> int | None:
    """An onset that keeps `GAP` from the other events of the class; None if none is found soon."""
    if length > CLIP:
        return None
    for _ in range(50):
        onset = draws.below(CLIP - length + 1)
        if all(onset >= e.offset + GAP or onset + length + GAP <= e.onset for e in events):
            return onset
    return None
