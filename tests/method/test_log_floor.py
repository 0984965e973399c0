"""Where logarithms of probabilities end: at ln(1e-7), by hand."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.method import losses

FLOOR = 16.11809565  # -ln(1e-7)


@pytest.mark.parametrize(
    ("p", "target", "expected"),
    [
        (0.0, 1.0, FLOOR),
        (1.0, 0.0, FLOOR),
        (1e-8, 1.0, FLOOR),
        (2e-7, 1.0, 15.42494847),  # -ln(2e-7): above the floor nothing is cut
        (1e-3, 1.0, 6.90775528),
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 0.0),
    ],
)
def test_the_log_ends_at_1e_7(p, target, expected):
    cell = jnp.full((1, 1), p), jnp.full((1, 1), target)
    np.testing.assert_allclose(losses.binary_cross_entropy(*cell), [expected], rtol=1e-6)
    if target:  # equation 4: (1 - p^2) ln p; at p = 0 the weight is 1
        weighted = (1 - p**2) * expected
        np.testing.assert_allclose(losses.adaptive_focal(*cell, gamma=2.0), [weighted], rtol=1e-6)


def test_the_floor_is_what_a_certain_mistake_costs_in_a_mean():
    # Of four classes one is certainly wrong; the others cost ln 2 each.
    p, target = jnp.array([[0.0, 0.5, 0.5, 0.5]]), jnp.array([[1.0, 1.0, 0.0, 0.0]])
    np.testing.assert_allclose(
        losses.binary_cross_entropy(p, target), [(FLOOR + 3 * math.log(2)) / 4], rtol=1e-6
    )
