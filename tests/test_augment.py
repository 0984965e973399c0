"""Augmentation keeps shapes and masks, and moves labels with the sound."""

import jax
import jax.numpy as jnp
import numpy as np

from jfsed_jax.augment import Augmentation, augment

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
    same = augment(jax.random.key(0), batch, Augmentation())
    for name, value in batch.items():
        np.testing.assert_array_equal(same[name], value)


def test_shift_moves_mel_and_labels_alike():
    batch = make_batch()
    moved = augment(jax.random.key(0), batch, Augmentation(time_shift=1.0))
    np.testing.assert_array_equal(sounding(moved), np.asarray(moved["frame_labels"]).max(-1) > 0)
    assert not np.array_equal(moved["frame_labels"], batch["frame_labels"])
    np.testing.assert_array_equal(moved["clip_labels"], batch["clip_labels"])


def test_colour_is_the_same_in_every_frame_and_bounded():
    batch = make_batch()
    coloured = augment(jax.random.key(1), batch, Augmentation(gain_db=6.0, filter_db=6.0))
    change = np.asarray(coloured["mel"] - batch["mel"])
    np.testing.assert_allclose(change, change[:, :1].repeat(T, 1), atol=1e-5)
    # 12 dB of magnitude is a natural logarithm of 1.38.
    assert 0.1 < np.abs(change).max() <= 1.3816


def test_mix_adds_a_clip_of_the_same_kind_with_its_labels():
    batch = make_batch()
    mixed = augment(jax.random.key(2), batch, Augmentation(mix=1.0))
    np.testing.assert_array_equal(sounding(mixed), np.asarray(mixed["frame_labels"]).max(-1) > 0)
    # Two clips of each kind: each becomes the sum of both.
    labels = np.asarray(batch["frame_labels"])
    for first in (0, 2, 4):
        both = np.maximum(labels[first], labels[first + 1])
        np.testing.assert_array_equal(mixed["frame_labels"][first], both)
        np.testing.assert_array_equal(mixed["frame_labels"][first + 1], both)
    for name in ("is_weak", "is_strong"):
        np.testing.assert_array_equal(mixed[name], batch[name])
