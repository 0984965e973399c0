"""Which seconds of a recording a page holds: by hand, with 1 s around and 15 s of an event."""

import pytest

from jfsed_jax.report.excerpts import Excerpts, choose_excerpts, merged
from jfsed_jax.sed.events import Event


def event(onset: float, offset: float, label: str = "Dog") -> Event:
    return Event("a.wav", onset, offset, label)


def chosen(*events, most=600.0, seconds=1000.0) -> Excerpts:
    """Of (onset, offset, mean posterior, and its class if that is not Dog)."""
    return choose_excerpts(
        [event(onset, offset, *label) for onset, offset, _, *label in events],
        # The maximum ranks them the other way round.
        [(mean, 1 - mean / 2) for _, _, mean, *_ in events],
        seconds=seconds,
        most=most,
    )


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], []),
        ([(5, 6), (1, 2)], [(1, 2), (5, 6)]),
        ([(1, 2), (2, 3)], [(1, 3)]),  # they touch
        ([(1, 9), (2, 3), (8, 10)], [(1, 10)]),  # one lies in another
    ],
)
def test_seconds_that_overlap_are_one_part(spans, expected):
    assert merged(spans) == expected


def test_a_second_before_and_after_but_not_beyond_the_recording():
    assert chosen((10, 12, 0.5)).spans == [(9, 13)]
    assert chosen((0.4, 1, 0.5), (99, 99.5, 0.5), seconds=100.0).spans == [(0, 2), (98, 100)]
    # 9 to 13 and 12.5 to 16 overlap, 17 to 20 does not.
    assert chosen((10, 12, 0.5), (18, 19, 0.6), (13.5, 15, 0.7)).spans == [(9, 16), (17, 20)]


def test_of_a_long_event_the_beginning():
    assert chosen((100, 700, 0.5)).spans == [(99, 116)]


def test_the_most_confident_that_fit_and_none_of_lower_confidence_instead():
    # 4 s, 17 s, 3 s: in that order 4 fit into 8, the second does not, and the third is not tried.
    events = (10, 12, 0.9), (50, 80, 0.8), (200, 201, 0.7)
    assert chosen(*events, most=8.0).spans == [(9, 13)]
    assert chosen(*events, most=21.0).spans == [(9, 13), (49, 66)]
    assert chosen(*events, most=24.0).spans == [(9, 13), (49, 66), (199, 202)]
    # What overlaps costs what it adds: 9 to 13, then 13 to 15.
    assert chosen((10, 12, 0.9), (11, 14, 0.8), most=6.0).spans == [(9, 15)]
    assert chosen((10, 12, 0.9), most=3.9).spans == []


def test_of_each_class_in_turn():
    """First the surest of both, 3 s each, then the second of Dog, though Cat is never as sure."""
    events = (10, 11, 0.9), (20, 21, 0.8), (30, 31, 0.6, "Cat"), (40, 41, 0.5, "Cat")
    assert chosen(*events, most=6.0).spans == [(9, 12), (29, 32)]
    assert chosen(*events, most=9.0).spans == [(9, 12), (19, 22), (29, 32)]


def test_of_equal_confidence_the_earlier():
    assert chosen((30, 31, 0.5), (10, 11, 0.5), most=3.0).spans == [(9, 12)]


def test_events_are_counted_that_can_be_heard():
    found = Excerpts([(9.0, 13.0), (49.0, 66.0)], 600.0)
    assert found.hold(event(10, 12)) and found.hold(event(9, 13))
    assert found.hold(event(50, 500))  # 15 s of it
    assert not found.hold(event(12, 14)) and not found.hold(event(8, 10))
    assert not found.hold(event(12, 50))  # in two
    events = [event(10, 12), event(12, 14), event(50, 500)]
    assert found.described(events) == (
        "2 of 3 events have their sound, the most confident of each class first, 10 minutes in all "
        "(with 1 s before and after; of events longer than 15 s the beginning)"
    )
    assert found.described(events[:1]).startswith("1 of 1 events have their sound (with 1 s")
