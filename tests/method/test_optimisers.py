"""The moving average of the parameters against a loop; optimisers by name, and their rates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jfsed_jax.configs import pts_tfd_afl_esp
from jfsed_jax.errors import InputError
from jfsed_jax.method import optimisers
from jfsed_jax.method.optimisers import averaged, parameter_ema
from jfsed_jax.method.schedules import learning_rate


def page(**changes):
    found = pts_tfd_afl_esp.get_config().optimiser
    found.update(changes)
    return found


def make(rate=None, **changes):
    """The optimiser of a config's page, changed."""
    options = page(**changes)
    return optimisers.from_config(options, rate or learning_rate(options, 450))


def test_the_average_is_that_of_a_loop():
    decay, steps = 0.7, 6
    chain = optax.chain(optax.sgd(0.5), parameter_ema(decay))
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}
    state = chain.init(params)
    assert jax.tree.all(jax.tree.map(np.array_equal, averaged(state), params))
    gradients = np.random.default_rng(0).normal(size=(steps, 3)).astype(np.float32)

    plain, mean = np.array([1.0, -2.0, 3.0]), np.array([1.0, -2.0, 3.0])
    for n, gradient in enumerate(gradients, start=1):
        tree = {"w": jnp.asarray(gradient[:2]), "b": jnp.asarray(gradient[2])}
        updates, state = jax.jit(chain.update)(tree, state, params)
        params = optax.apply_updates(params, updates)
        plain = plain - 0.5 * gradient
        d = min(decay, 1 - 1 / (n + 1))  # 1/2, 2/3, then 0.7
        mean = d * mean + (1 - d) * plain
        np.testing.assert_allclose(np.append(params["w"], params["b"]), plain, rtol=1e-6)
        ema = averaged(state)
        np.testing.assert_allclose(np.append(ema["w"], ema["b"]), mean, rtol=1e-5)


def test_an_optimiser_without_an_average_says_so():
    params = {"w": jnp.ones(3)}
    assert averaged(make(ema_decay=0.0).init(params)) is None
    assert averaged(make(ema_decay=0.999).init(params)).keys() == {"w"}


def test_adam_uses_the_schedules_rate():
    """Its first step has the size of the rate, whatever the gradient, and half of it at epsilon."""
    optimiser = make(ema_decay=0.0)
    params = {"w": jnp.array([1.0, 1.0, 1.0])}
    gradients = {"w": jnp.array([4.0, -0.01, 1e-8])}
    updates, _ = optimiser.update(gradients, optimiser.init(params), params)
    np.testing.assert_allclose(updates["w"], [-1.8e-3, 1.8e-3, -0.9e-3], rtol=1e-4)


def test_an_optimiser_by_name_with_its_arguments():
    """Against optax itself: three steps of AdamW, whose weight decay moves a parameter at rest."""
    ours = make(lambda step: 0.1, name="adamw", arguments=dict(weight_decay=0.5, b1=0.7))
    theirs = optax.adamw(0.1, weight_decay=0.5, b1=0.7)
    found, expected = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([1.0, -2.0])}
    states = [ours.init(found), theirs.init(expected)]
    for gradient in ([1.0, 0.0], [-3.0, 0.0], [0.5, 0.0]):
        tree = {"w": jnp.array(gradient)}
        updates, states[0] = ours.update(tree, states[0], found)
        found = optax.apply_updates(found, updates)
        updates, states[1] = theirs.update(tree, states[1], expected)
        expected = optax.apply_updates(expected, updates)
    np.testing.assert_array_equal(found["w"], expected["w"])
    assert found["w"][1] == pytest.approx(-2 * 0.95**3)  # only the decay


def test_an_optimiser_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="config.optimiser.name is 'adamx'.*optax.*package.module"):
        make(name="adamx")


def test_a_rate_that_is_injected_is_found_in_the_state():
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optax.sgd)(lambda n: 0.5**n)
    )
    params = {"w": jnp.ones(2)}
    state = optimiser.init(params)
    for expected in (1.0, 0.5, 0.25):
        _, state = optimiser.update({"w": jnp.ones(2)}, state, params)
        assert float(optimisers.rate_in(state)) == expected
    assert optimisers.rate_in(optax.adam(1e-3).init(params)) is None


def test_adam_begins_anew_where_the_rate_falls():
    """Against Adams that are made anew; four steps, a fall before the third."""

    def rate(step):
        return jnp.where(step < 2, 0.1, 0.05)

    ours = make(rate, restart=True, ema_decay=0.9)
    found = expected = {"w": jnp.array([1.0, -2.0])}
    state = ours.init(found)
    moments = optax.scale_by_adam().init(expected)
    for n, gradient in enumerate(([1.0, 4.0], [-3.0, 0.1], [0.5, 2.0], [0.5, -1.0])):
        tree = {"w": jnp.array(gradient)}
        updates, state = jax.jit(ours.update)(tree, state, found)
        found = optax.apply_updates(found, updates)
        if n == 2:
            moments = optax.scale_by_adam().init(expected)
        direction, moments = optax.scale_by_adam().update(tree, moments)
        step = {"w": -(0.1 if n < 2 else 0.05) * direction["w"]}
        expected = optax.apply_updates(expected, step)
        np.testing.assert_allclose(found["w"], expected["w"], rtol=1e-5)
    assert averaged(state).keys() == {"w"}


def test_an_average_may_begin_elsewhere():
    params = {"student": {"w": jnp.ones(2)}, "other": jnp.zeros(1)}
    state = optimisers.with_average(make(ema_decay=0.9).init(params), {"student": {"w": 5.0}})
    assert averaged(state)["student"] == {"w": 5.0}
    np.testing.assert_array_equal(averaged(state)["other"], [0.0])
