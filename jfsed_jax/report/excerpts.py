"""Which parts of a recording a page holds the sound of: some seconds around its events."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from jfsed_jax.report.formatting import number
from jfsed_jax.sed.events import Event

AROUND = 1.0  # seconds before and after an event
LONGEST = 15.0  # seconds of an event, from its onset

Span = tuple[float, float]  # start and end in seconds


class Excerpts(NamedTuple):
    """Parts of a recording, in order and apart, and how many seconds they were allowed to be."""

    spans: list[Span]
    most: float

    def hold(self, event: Event) -> bool:
        """Whether the event can be heard in one of them, but for what is beyond `LONGEST`."""
        start, end = _heard(event)
        return any(first <= start and end <= last for first, last in self.spans)

    def described(self, events: Sequence[Event]) -> str:
        """How many of the events have their sound, and what of it."""
        held = sum(map(self.hold, events))
        text = f"{number(held, 0)} of {number(len(events), 0)} events have their sound"
        if held < len(events):
            text += f", the most confident of each class first, {self.most / 60:g} minutes in all"
        more = f"of events longer than {LONGEST:g} s the beginning"
        return f"{text} (with {AROUND:g} s before and after; {more})"


def choose_excerpts(
    events: Sequence[Event],
    confidences: Sequence[tuple[float, float]],
    *,
    seconds: float,
    most: float,
) -> Excerpts:
    """Seconds around events, merged where they overlap: of each class in turn the most confident.

    In turn, since confidences do not compare across classes.

    Args:
      events, confidences: of one recording; the mean posterior, the first of two, is what counts.
      seconds: how long the recording is.
      most: seconds of all excerpts together. The first event that does not fit ends the choice, so
        no event is passed over for a shorter one of lower confidence.
    """
    before: Counter[str] = Counter()  # of the class
    turns: list[tuple[int, Event]] = []
    for event, _ in sorted(
        zip(events, confidences, strict=True), key=lambda pair: (-pair[1][0], pair[0].onset)
    ):
        turns.append((before[event.event_label], event))
        before[event.event_label] += 1
    spans: list[Span] = []
    for _, event in sorted(turns, key=lambda turn: turn[0]):
        start, end = _heard(event)
        more = merged([*spans, (max(start - AROUND, 0.0), min(end + AROUND, seconds))])
        if sum(last - first for first, last in more) > most:
            break
        spans = more
    return Excerpts(spans, most)


def merged(spans: Sequence[Span]) -> list[Span]:
    """The same seconds, in order, none twice."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _heard(event: Event) -> Span:
    return event.onset, min(event.offset, event.onset + LONGEST)
