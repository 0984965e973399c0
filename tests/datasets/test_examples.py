"""The choice of example clips, worked out by hand."""

import pytest

from jfsed_jax.datasets.examples import example_clips


@pytest.mark.parametrize(
    ("labels", "most", "expected"),
    [
        # C has three classes, D adds two to them, then A one; B adds nothing.
        (["f", "ab", "abc", "de", "d"], 3, [2, 3, 0]),
        # Both add one class: the one that holds more of them first.
        (["ab", "c", "ad"], 3, [0, 2, 1]),
        # Nothing is left to add: more classes first, then the earlier one.
        (["a", "ab", "b", "ab"], 4, [1, 3, 0, 2]),
        # Equals keep their order, a clip without classes comes last, and repeats count once.
        ([["x"], [], ["y"], ["z", "z"]], 4, [0, 2, 3, 1]),
        (["a", "b"], 5, [0, 1]),
        (["a", "b"], 0, []),
        ([], 3, []),
    ],
)
def test_each_adds_most_classes_to_those_before_it(labels, most, expected):
    assert example_clips(labels, most) == expected
