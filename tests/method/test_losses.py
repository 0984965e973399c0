"""Each equation of `losses` against hand-worked values, and against torch where it is present."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.method import losses

# Probabilities with the ends, where logarithms are infinite.
EDGES = jnp.array([[0.0, 1e-30, 1e-7, 0.5, 1 - 1e-7, 1.0]])
GAMMAS = (1.0, 2.0, 3.0)


def close(found, expected, **kwargs):
    np.testing.assert_allclose(found, expected, **{"rtol": 1e-6} | kwargs)


def random_probabilities(shape=(4, 7, 3), seed=0):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.01, 0.99, shape).astype(np.float32)
    return p, (rng.random(shape) < 0.4).astype(np.float32)


def test_masked_mean_is_over_the_clips_of_the_mask():
    x = jnp.array([1.0, 2.0, 5.0, jnp.inf])
    close(losses.masked_mean(x, jnp.array([1, 0, 1, 0])), 3.0)
    close(losses.masked_mean(x, jnp.array([False, True, False, False])), 2.0)
    close(jax.grad(losses.masked_mean)(x, jnp.array([1, 0, 1, 0])), [0.5, 0, 0.5, 0])


def test_an_empty_mask_gives_zero_and_no_gradient():
    nobody = jnp.zeros(1)
    for loss in (losses.binary_cross_entropy, losses.adaptive_focal):
        for target in (jnp.zeros_like(EDGES), jnp.ones_like(EDGES)):

            def mean(p, loss=loss, target=target):
                return losses.masked_mean(loss(p, target), nobody)

            value, gradient = jax.value_and_grad(mean)(EDGES)
            assert value == 0 and not gradient.any()  # exactly, and not NaN


def test_masked_means_of_devices_sum_to_that_of_the_batch():
    x = jnp.arange(8.0)
    mask = jnp.array([1, 1, 0, 1, 0, 0, 0, 0.0])  # the second device has none

    def share(x, mask):
        return losses.masked_mean(x, mask, axis_name="data")

    shares = jax.vmap(share, axis_name="data")(x.reshape(2, 4), mask.reshape(2, 4))
    close(shares, [4 / 3, 0])
    both = jax.vmap(share, axis_name="data")(x.reshape(2, 4), mask.at[5].set(1).reshape(2, 4))
    close(both, [4 / 4, 5 / 4])
    nobody = jax.vmap(share, axis_name="data")(x.reshape(2, 4), jnp.zeros((2, 4)))
    assert not nobody.any()


def test_binary_cross_entropy():
    p = jnp.array([[0.8, 0.8], [0.5, 0.1]])
    target = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    expected = [-(math.log(0.8) + math.log(0.2)) / 2, -(math.log(0.5) + math.log(0.9)) / 2]
    close(losses.binary_cross_entropy(p, target), expected)
    # All axes but the first: two frames of the same values have the same mean.
    close(losses.binary_cross_entropy(jnp.stack([p, p], 1), jnp.stack([target] * 2, 1)), expected)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_losses_are_finite_at_certainty(target):
    target = jnp.full_like(EDGES, target)
    candidates = [losses.binary_cross_entropy]
    for gamma in GAMMAS:
        for form in ("paper", "lin"):
            candidates.append(lambda p, t, g=gamma, f=form: losses.adaptive_focal(p, t, g, f))
    for loss in candidates:
        value, gradient = jax.value_and_grad(lambda p, loss=loss: loss(p, target).sum())(EDGES)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        assert 0 < value < 17


def test_adaptive_weight():
    p = jnp.array([0.0, 0.5, 1.0])
    for gamma, at_half in zip(GAMMAS, (0.5, 0.75, 0.875), strict=True):
        close(losses.adaptive_weight(p, gamma), [1, at_half, 0])
        close(losses.adaptive_weight(p, gamma, "lin"), [1, 1 - at_half, 0])
    with pytest.raises(ValueError, match="'paper' or 'lin'"):
        losses.adaptive_weight(p, 2.0, "focal")


def test_adaptive_focal_weighs_by_the_probability_of_the_true_value():
    p = jnp.array([[0.8], [0.8]])
    target = jnp.array([[1.0], [0.0]])  # the true value has 0.8, then 0.2
    for gamma in GAMMAS:
        paper = [-(1 - q**gamma) * math.log(q) for q in (0.8, 0.2)]
        lin = [-((1 - q) ** gamma) * math.log(q) for q in (0.8, 0.2)]
        close(losses.adaptive_focal(p, target, gamma), paper)
        close(losses.adaptive_focal(p, target, gamma, "lin"), lin)
    close(losses.adaptive_focal(p, target), [0.36 * 0.22314355, 0.96 * 1.6094379])


def test_the_gradient_of_the_adaptive_focal_loss_is_of_its_weight_too():
    """Of (p^2 - 1) log p: 2 p log p + (p^2 - 1) / p; of an absent class with 1 - p for p."""
    p, target = jnp.array([[0.8, 0.8]]), jnp.array([[1.0, 0.0]])
    gradient = jax.grad(lambda p: losses.adaptive_focal(p, target).sum())(p)
    present, absent = (2 * q * math.log(q) + (q**2 - 1) / q for q in (0.8, 0.2))
    close(gradient, [[present / 2, -absent / 2]])


def test_guided_consistency_learns_from_decisions():
    p, guide = jnp.array([[0.8, 0.8, 0.3]]), jnp.array([[0.9, 0.2, 0.5]])  # one half is a no
    expected = -(math.log(0.8) + math.log(0.2) + math.log(0.7)) / 3
    close(losses.guided_consistency(p, guide), [expected])
    to_p, to_guide = jax.grad(lambda p, g: losses.guided_consistency(p, g).sum(), (0, 1))(p, guide)
    close(to_p, [[-1 / 2.4, 1 / 0.6, 1 / 2.1]])
    assert not to_guide.any()


def test_soft_guidance_is_by_probabilities():
    p, guide = jnp.array([[0.8]]), jnp.array([[0.9]])
    close(
        losses.guided_consistency(p, guide, soft=True), -(0.9 * math.log(0.8) + 0.1 * math.log(0.2))
    )
    assert not jax.grad(lambda g: losses.guided_consistency(p, g, soft=True).sum())(guide).any()


def test_a_scale_within_the_guided_bce_is_not_one_before_it():
    """At alpha = 0.198 and p = 0.9 against "absent": 0.24 where alpha before the BCE has 1.98."""
    p, absent = jnp.array([[0.9]]), jnp.array([[0.1]])

    def inside(p):
        return losses.guided_consistency(p, absent, 0.198).sum()

    close(inside(p), -math.log(1 - 0.198 * 0.9))
    close(jax.grad(inside)(p), [[0.198 / (1 - 0.198 * 0.9)]])
    close(jax.grad(inside)(p), [[0.241]], rtol=1e-3)
    close(losses.guided_consistency(p, jnp.array([[0.7]]), 0.198), -(
        0.198 * math.log(0.198 * 0.9) + 0.802 * math.log(1 - 0.198 * 0.9)
    ))  # fmt: skip
    # Where alpha is 0 there is nothing, and no gradient that is not a number.
    for guide in (0.1, 0.7):
        value, gradient = jax.value_and_grad(
            lambda p, guide=guide: losses.guided_consistency(p, jnp.array([[guide]]), 0.0).sum()
        )(p)
        assert (float(value), gradient.tolist()) == (0.0, [[0.0]])


def test_mean_squared_error():
    x, y = jnp.zeros((2, 2, 2)), jnp.array([[[1.0, 1], [1, 1]], [[0, 0], [0, 4]]])
    close(losses.mean_squared_error(x, y), [1, 4])
    to_x, to_y = jax.grad(lambda x, y: losses.mean_squared_error(x, y).sum(), (0, 1))(x, y)
    close(to_x, [[[-0.5, -0.5], [-0.5, -0.5]], [[0, 0], [0, -2]]])
    close(to_y, -to_x)  # both are drawn


def test_distillation_space_repeats_frames():
    features = jnp.array([[[1.0, 2], [3, 4]]])  # 2 frames, 2 features
    kernel = jnp.array([[1.0, 0, 1], [0, 1, 1]])
    expected = [[[1, 2, 3]] * 3 + [[3, 4, 7]] * 3]
    close(losses.to_distillation_space(features, kernel, num_frames=6), expected)


def test_frames_are_interpolated_between_their_middles():
    maps = jnp.array([[[0.0], [4.0]]])  # middles of two frames at 1 and 3 of four
    close(losses.interpolate_frames(maps, 4)[0, :, 0], [0, 1, 3, 4], atol=1e-6)


def test_frames_are_pooled_where_they_lie():
    maps = jnp.arange(1.0, 8.0)[None, :, None]  # frames 0 to 3 of 7 lie in the first of two
    close(losses.pool_frames(maps, 2)[0, :, 0], [2.5, 6.0])
    close(losses.pool_frames(maps, 7), maps)
    close(losses.pool_frames(maps[:, :6], 3)[0, :, 0], [1.5, 3.5, 5.5])


def test_frame_distance_is_euclidean_with_a_gradient_where_maps_agree():
    teacher, student = jnp.zeros((1, 2, 2)), jnp.array([[[3.0, 4.0], [0, 0]]])
    close(losses.frame_distance(teacher, student), [[5, 1e-6]])
    gradients = jax.grad(lambda t, s: losses.frame_distance(t, s).sum(), (0, 1))(teacher, student)
    close(gradients[1], [[[0.6, 0.8], [0, 0]]])
    close(gradients[0], -gradients[1])  # both models are drawn


def test_target_event_distillation_masks_frames_and_divides_by_all():
    teacher = jnp.zeros((3, 4, 2))
    student = jnp.broadcast_to(jnp.array([3.0, 4.0]), (3, 4, 2))
    labels = np.zeros((3, 4, 5), np.float32)
    labels[0, 1] = 1  # five events in one frame count as one
    labels[1, 1, 0] = labels[1, 3, 4] = 1  # two frames; the third clip has no event
    close(losses.target_event_distillation(teacher, student, labels), [5 / 4, 10 / 4, 0])
    close(losses.feature_distillation(teacher, student), [5, 5, 5])
    gradient = jax.grad(lambda s: losses.target_event_distillation(teacher, s, labels).sum())
    assert (np.abs(gradient(student)).sum(-1) > 0).tolist() == labels.any(-1).tolist()


def test_pooled_labels_are_the_maximum_over_the_covered_frames():
    labels = np.zeros((1, 7, 2), np.float32)
    labels[0, 1, 0] = labels[0, 2, 1] = 1
    labels[0, 6] = 1  # in the remainder, which a pooling of the CNN drops too
    pooled = losses.pool_labels(labels, 3)
    assert pooled.tolist() == [[[1, 0], [0, 1], [0, 0]]]
    assert losses.pool_labels(labels, 7).tolist() == labels.tolist()


def both(ours, theirs, *arrays):
    """Values and gradients with respect to the first array, ours and PyTorch's."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")
    found = jax.value_and_grad(lambda x: jnp.sum(ours(x, *arrays[1:])))(arrays[0])
    tensors = [torch.from_numpy(array) for array in arrays]
    value = theirs(tensors[0].requires_grad_(), *tensors[1:]).sum()
    value.backward()
    for ours, theirs in zip(found, (value.detach(), tensors[0].grad), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", ["paper", "lin"])
@pytest.mark.parametrize("gamma", [*GAMMAS, 1.5])
def test_adaptive_focal_against_torch(gamma, form):
    def theirs(p, target):
        q = p * target + (1 - p) * (1 - target)
        weight = 1 - q.pow(gamma) if form == "paper" else (1 - q).pow(gamma)
        return (-weight * q.log()).mean((1, 2))

    both(lambda p, t: losses.adaptive_focal(p, t, gamma, form), theirs, *random_probabilities())


def test_the_other_losses_against_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")
    functional = torch.nn.functional
    p, target = random_probabilities()

    def bce(p, target):
        return functional.binary_cross_entropy(p, target, reduction="none").mean((1, 2))

    both(losses.binary_cross_entropy, bce, p, target)
    x, y = (np.random.default_rng(s).normal(size=(4, 12, 5)).astype(np.float32) for s in (0, 1))
    both(
        losses.mean_squared_error,
        lambda x, y: functional.mse_loss(x, y, reduction="none").mean((1, 2)),
        x,
        y,
    )
    both(losses.feature_distillation, lambda x, y: (x - y).norm(dim=-1).mean(1), x, y)
    labels = (np.random.default_rng(2).random((4, 12, 3)) < 0.2).astype(np.float32)
    pooled = functional.max_pool1d(torch.from_numpy(labels).transpose(1, 2), 3).transpose(1, 2)
    np.testing.assert_array_equal(losses.pool_labels(labels, 4), pooled)
