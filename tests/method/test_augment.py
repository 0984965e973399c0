"""Augmentation keeps shapes and masks, and moves labels with the sound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.method.augmentation import add_noise, augment

B, T, F, C = 6, 40, 8, 3


def make_batch():
    """Clip b is silent but for frames 3b to 3b + 2, where class b % C sounds."""
    frame_labels = np.zeros((B, T, C), np.float32)
    for b in range(B):
        frame_labels[b, 3 * b : 3 * b + 3, b % C] = 1
    kind = np.array([0, 0, 1, 1, 2, 2])
    return {
        "mel": jnp.asarray(-10 + 10 * frame_labels.max(-1, keepdims=True).repeat(F, -1)),
        "clip_labels": jnp.asarray(frame_labels.max(1)),
        "frame_labels": jnp.asarray(frame_labels),
        "is_weak": jnp.asarray((kind == 0).astype(np.float32)),
        "is_strong": jnp.asarray((kind == 2).astype(np.float32)),
    }


def sounding(batch):
    return np.asarray(batch["mel"]).mean(-1) > -5


def test_nothing_is_nothing():
    batch = make_batch()
    same = augment(
        jax.random.key(0),
        batch,
    )
    for name, value in batch.items():
        np.testing.assert_array_equal(same[name], value)


def test_shift_moves_mel_and_labels_alike():
    batch = make_batch()
    moved = augment(jax.random.key(0), batch, time_shift=1.0)
    np.testing.assert_array_equal(sounding(moved), np.asarray(moved["frame_labels"]).max(-1) > 0)
    assert not np.array_equal(moved["frame_labels"], batch["frame_labels"])
    np.testing.assert_array_equal(moved["clip_labels"], batch["clip_labels"])


def test_shifts_reach_as_far_one_way_as_the_other():
    """Of a share of 1.2 frames: one frame earlier, none, or one later."""
    clip = np.zeros((200, 12, 1), np.float32)
    clip[:, 5] = 1
    batch = {"mel": jnp.asarray(clip), "frame_labels": jnp.asarray(clip)}
    moved = augment(jax.random.key(0), batch, time_shift=0.1)
    assert set(np.asarray(moved["mel"])[..., 0].argmax(1)) == {4, 5, 6}


def test_colour_is_the_same_in_every_frame_and_bounded():
    batch = make_batch()
    coloured = augment(jax.random.key(1), batch, gain_db=6.0, filter_db=6.0)
    change = np.asarray(coloured["mel"] - batch["mel"])
    np.testing.assert_allclose(change, change[:, :1].repeat(T, 1), atol=1e-5)
    # 12 dB of magnitude is a natural logarithm of 1.38.
    assert 0.1 < np.abs(change).max() <= 1.3816


def test_a_gain_is_of_all_bands_and_a_filter_of_each():
    batch = make_batch()
    for kind in ("gain_db", "filter_db"):
        coloured = augment(jax.random.key(1), batch, **{kind: 6.0})
        change = np.asarray(coloured["mel"] - batch["mel"])[:, 0]
        assert (np.ptp(change, axis=1) > 0.05).all() == (kind == "filter_db"), kind
        assert len(set(change[:, 0].tolist())) == B  # of each clip another one


def test_mix_adds_a_clip_of_the_same_kind_with_its_labels():
    batch = make_batch()
    mixed = augment(jax.random.key(2), batch, mix=1.0)
    np.testing.assert_array_equal(sounding(mixed), np.asarray(mixed["frame_labels"]).max(-1) > 0)
    # Two clips of each kind: each becomes the sum of both.
    labels = np.asarray(batch["frame_labels"])
    for first in (0, 2, 4):
        both = np.maximum(labels[first], labels[first + 1])
        tags = both.max(0)
        assert tags.sum() == 2
        for clip in (first, first + 1):
            np.testing.assert_array_equal(mixed["frame_labels"][clip], both)
            np.testing.assert_array_equal(mixed["clip_labels"][clip], tags)
        sum_of_magnitudes = np.exp(batch["mel"][first]) + np.exp(batch["mel"][first + 1])
        np.testing.assert_allclose(np.exp(mixed["mel"][first]), sum_of_magnitudes, rtol=1e-4)
    for name in ("is_weak", "is_strong"):
        np.testing.assert_array_equal(mixed[name], batch[name])


def test_clips_are_mixed_at_their_probability_and_a_tag_of_both_is_one():
    clips = 200
    labels = jnp.ones((clips, 1))
    batch = {
        "mel": jnp.zeros((clips, 1, 1)),
        "clip_labels": labels,
        "frame_labels": labels[:, None],
        "is_weak": labels[:, 0],
        "is_strong": 0 * labels[:, 0],
    }
    mixed = augment(jax.random.key(0), batch, mix=0.3)
    # The standard deviation of such a share is 0.03.
    assert np.mean(np.asarray(mixed["mel"]) > 0.5) == pytest.approx(0.3, abs=0.1)
    np.testing.assert_array_equal(mixed["clip_labels"], labels)
    np.testing.assert_array_equal(mixed["frame_labels"][:, 0], labels)


def test_noise_is_absolute_and_scaled_per_band():
    key, deviation = jax.random.key(3), np.linspace(0, 2, F)
    mel = jnp.asarray(np.random.default_rng(0).normal(0, 1, (400, T, F)), jnp.float32)
    added = np.exp(add_noise(key, mel, deviation)) - np.exp(mel)
    assert added.min() > -1e-4 and (added[..., 1:] > 0).mean() > 0.99
    np.testing.assert_allclose(added[..., 0], 0, atol=1e-4)
    # Mean and root mean square of |n|, n normal; the mean is over 16,000 values a band.
    np.testing.assert_allclose(added.mean((0, 1)), np.sqrt(2 / np.pi) * deviation, atol=0.03)
    np.testing.assert_allclose(np.sqrt((added**2).mean((0, 1))), deviation, atol=0.04)
    # In proportion to the deviation, whatever is drawn.
    twice = np.exp(add_noise(key, mel, 2 * deviation)) - np.exp(mel)
    np.testing.assert_allclose(twice, 2 * added, rtol=1e-4, atol=1e-4)
