"""Kinds of errors: by hand, and that they add up to what Event-F1 counts."""

from pathlib import Path

import numpy as np
import pytest

from jfsed_jax.sed import scoring
from jfsed_jax.sed.error_kinds import KINDS, count_kinds, sort_errors, taken_for
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.tables import read_events

DESED = Path(__file__).parents[3] / "shared/data/reference/desed_validation"
CLASSES = ["Cat", "Dog"]


def spans(*times, label="Dog", clip="a.wav"):
    return [Event(clip, onset, offset, label) for onset, offset in times]


def named(kinds):
    return [KINDS[i] for i in kinds]


@pytest.mark.parametrize(
    ("reference", "estimates", "of_reference", "of_estimates"),
    [
        # One over one. The collar of an offset is 0.2 s or a fifth of the reference's length.
        ([(1, 4)], [(1.1, 4.5)], ["hit"], ["hit"]),
        ([(1, 4)], [(1.3, 4.5)], ["onset"], ["onset"]),
        ([(1, 4)], [(1.1, 4.7)], ["offset"], ["offset"]),
        ([(1, 2)], [(1.5, 1.6)], ["both"], ["both"]),
        # None over one: what touches does not overlap.
        ([(1, 2)], [(2, 3)], ["missed"], ["false_alarm"]),
        ([(2, 3)], [(1, 2)], ["missed"], ["false_alarm"]),
        ([(1, 2)], [], ["missed"], []),
        ([], [(1, 2)], [], ["false_alarm"]),
        # Within the collars a match needs no overlap.
        ([(1, 1.1)], [(1.15, 1.25)], ["hit"], ["hit"]),
        # One over several, and several over one.
        ([(1, 2), (3, 4)], [(1, 4)], ["merged", "merged"], ["merged"]),
        ([(1, 4)], [(1, 2), (3, 4)], ["split"], ["split", "split"]),
        # What is matched is a hit, also where it is over others.
        ([(1, 9), (8, 9)], [(1, 8.5)], ["hit", "merged"], ["hit"]),
        ([(1, 9)], [(1, 8.5), (8.6, 9)], ["hit"], ["hit", "split"]),
        # Two over two: the long estimate merges both references, the short one splits the second.
        ([(1, 2), (3, 9)], [(1, 7), (8, 9)], ["merged", "merged"], ["merged", "split"]),
        ([(0, 9)], [(1, 2), (8, 9)], ["split"], ["split", "split"]),
        # The most matches: the first estimate, which fits both, is the second reference's only one.
        ([(1, 2), (1.05, 2.2)], [(1, 2.1), (1.1, 1.85)], ["hit", "hit"], ["hit", "hit"]),
        # Without length, inside.
        ([(1, 4)], [(2, 2)], ["both"], ["both"]),
    ],
)  # fmt: skip
def test_kinds_by_hand(reference, estimates, of_reference, of_estimates):
    kinds = sort_errors(spans(*reference), spans(*estimates))
    assert named(kinds.reference) == of_reference
    assert named(kinds.estimates) == of_estimates


def test_what_another_one_has_is_no_wrong_boundary():
    """Both references fit the estimate, which is over the second alone: one for two."""
    two, one = spans((0, 0.05), (0.1, 0.2)), spans((0.06, 0.2))
    kinds = sort_errors(two, one)
    assert (sorted(named(kinds.reference)), named(kinds.estimates)) == (["hit", "merged"], ["hit"])
    kinds = sort_errors(one, two)
    assert (named(kinds.reference), sorted(named(kinds.estimates))) == (["hit"], ["hit", "split"])


def test_classes_and_clips_are_apart():
    reference = [*spans((1, 2)), *spans((1, 2), label="Cat"), *spans((1, 2), clip="b.wav")]
    estimates = [*spans((1, 2), clip="b.wav"), *spans((5, 6), label="Cat"), *spans((1.5, 2))]
    kinds = sort_errors(reference, estimates)
    assert named(kinds.reference) == ["onset", "missed", "hit"]
    assert named(kinds.estimates) == ["hit", "false_alarm", "onset"]
    counts = count_kinds(reference, kinds.reference, CLASSES)
    assert counts[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert counts[1].tolist() == [0, 0, 1, 0, 0, 0, 0, 1]


def check_sums(reference, estimates, filenames, classes):
    """Totals and hits are those of scores.json; one over one, each error has both its events."""
    kinds = sort_errors(reference, estimates)
    own = count_kinds(reference, kinds.reference, classes)
    found = count_kinds(estimates, kinds.estimates, classes)
    scores = scoring.score(reference, estimates, filenames=filenames, classes=classes)
    counted = scores["event_f1"]["counts"]
    for label, mine, theirs in zip(classes, own, found, strict=True):
        hits = mine[KINDS.index("hit")]
        assert counted[label] == {
            "reference": mine.sum(), "estimated": theirs.sum(), "matched": hits
        }  # fmt: skip
        assert hits == theirs[KINDS.index("hit")]
        for kind in ("onset", "offset", "both"):
            assert mine[KINDS.index(kind)] == theirs[KINDS.index(kind)]
        assert not mine[KINDS.index("false_alarm")] and not theirs[KINDS.index("missed")]
    return own, found


def random_events(rng, number):
    """Of a grid of 0.1 s, so that edges fall on edges and on collars."""
    onsets = rng.integers(0, 60, number) / 10
    lengths = rng.integers(0, 30, number) / 10
    return [
        Event(f"{rng.integers(30)}.wav", onset, onset + length, CLASSES[rng.integers(2)])
        for onset, length in zip(onsets.tolist(), lengths.tolist(), strict=True)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_kinds_of_any_lists_add_up_to_the_counts_of_event_f1(seed):
    rng = np.random.default_rng(seed)
    lists = random_events(rng, 200), random_events(rng, 180)
    own, found = check_sums(*lists, [f"{i}.wav" for i in range(30)], CLASSES)
    seen = own.sum(axis=0) + found.sum(axis=0)
    assert seen.all(), dict(zip(KINDS, seen.tolist(), strict=True))


@pytest.mark.skipif(not DESED.exists(), reason=f"no reference predictions: {DESED}")
def test_kinds_of_a_published_baseline_add_up_to_its_scores():
    reference = read_events(DESED / "validation.tsv")
    estimates = read_events(DESED / "student_predictions_0.5.csv")
    classes = sorted({event.event_label for event in reference.events})
    check_sums(reference.events, estimates.events, reference.filenames, classes)


def test_what_a_missed_class_is_taken_for_by_hand():
    # Clips: A, found; A, B instead; A and C, C alone; A, B and C instead; B, nothing; none, A.
    reference = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
    tagged = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 0, 0]], bool)
    assert taken_for(reference, tagged).tolist() == [[1, 2, 1, 1], [0, 0, 0, 1], [0, 0, 1, 0]]


def test_a_class_that_is_always_found_is_taken_for_nothing():
    """Whatever is found beside it: clips of two classes are no confusion."""
    reference = np.array([[1, 1], [1, 1], [1, 0]], bool)
    assert taken_for(reference, reference).tolist() == [[3, 0, 0], [0, 2, 0]]
