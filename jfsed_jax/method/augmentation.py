"""Augmentation of a batch of log-mel clips, on the device, inside the step.

The paper trains without. On a small data set it is what keeps a CRNN from learning the recordings
by heart; a config turns each kind on by its value.

Axis letters: ``B`` clips, ``T`` frames, ``F`` mel bands, ``C`` event classes.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jfsed_jax.audio.front_end import NEPERS_PER_DB
from jfsed_jax.kernels.randomness import normal_by_clip, own_rows, whole_batch
from jfsed_jax.method.numbers import is_on


def _shift(key, batch, share, axis):
    clips, frames = batch["mel"].shape[:2]
    largest = int(share * frames)
    everyone = whole_batch(clips, axis)
    offsets = jax.random.randint(key, (everyone,), -largest, largest + 1)
    offsets = own_rows(offsets, clips, axis)
    roll = jax.vmap(lambda x, offset: jnp.roll(x, offset, axis=0))
    return batch | {name: roll(batch[name], offsets) for name in ("mel", "frame_labels")}


def _colour(key, batch, gain_db, filter_db, axis):
    clips, _, bands = batch["mel"].shape
    everyone = whole_batch(clips, axis)
    gain_key, filter_key = jax.random.split(key)
    gain = jax.random.uniform(gain_key, (everyone, 1), minval=-gain_db, maxval=gain_db)
    knots = jax.random.uniform(filter_key, (everyone, 6), minval=-filter_db, maxval=filter_db)
    gain, knots = (own_rows(drawn, clips, axis) for drawn in (gain, knots))
    curve = jax.image.resize(knots, (clips, bands), "linear")
    return batch | {"mel": batch["mel"] + NEPERS_PER_DB * (gain + curve)[:, None, :]}


def _mix(key, batch, probability, axis):
    clips = batch["mel"].shape[0]
    names = ("mel", "clip_labels", "frame_labels")
    own = {name: batch[name] for name in names}
    kind = batch["is_weak"] + 2 * batch["is_strong"]
    everyone = own
    if axis is not None:  # a partner may be on any device
        everyone, kind = lax.all_gather((own, kind), axis, tiled=True)
    count = kind.shape[0]
    order_key, choice_key = jax.random.split(key)
    # In an order sorted by (kind, random), a clip's partner is the next one of its kind, and the
    # last one's is the first.
    order = jnp.argsort(kind + 0.5 * jax.random.uniform(order_key, (count,)))
    kinds = kind[order]
    first = order[jnp.searchsorted(kinds, kinds)]
    following = jnp.where(jnp.roll(kinds, -1) == kinds, jnp.roll(order, -1), first)
    partner = jnp.zeros_like(order).at[order].set(following)
    chosen = jax.random.uniform(choice_key, (count,)) < probability
    chosen &= partner != jnp.arange(count)
    partner, chosen = (own_rows(drawn, clips, axis) for drawn in (partner, chosen))
    other = {name: everyone[name][partner] for name in names}

    def pick(mixed, own):
        return jnp.where(chosen.reshape(-1, *[1] * (own.ndim - 1)), mixed, own)

    mixed = {"mel": pick(jnp.logaddexp(own["mel"], other["mel"]), own["mel"])}
    for name in ("clip_labels", "frame_labels"):
        mixed[name] = pick(jnp.maximum(own[name], other[name]), own[name])
    return batch | mixed


def add_noise(
    key: jax.Array, mel: jax.Array, deviation: Sequence[float], axis_name: str | None = None
) -> jax.Array:
    """Absolute values of Gaussian noise added to the linear mel, as the DCASE 2019 baseline does.

    Args:
      key: typed random key, the same on every device.
      mel: <float32>[B, T, F] log-mel.
      deviation: F standard deviations, in units of the linear mel.
      axis_name: the mapped axis over which the batch is spread, or None.
    """
    drawn = jnp.abs(normal_by_clip(key, mel.shape, axis_name))
    noise = drawn * jnp.asarray(deviation, mel.dtype)
    return jnp.log(jnp.exp(mel) + noise)


def augment(
    key: jax.Array,
    batch: dict,
    *,
    time_shift: float = 0.0,
    mix: float = 0.0,
    gain_db: float = 0.0,
    filter_db: float = 0.0,
    axis_name: str | None = None,
) -> dict:
    """A batch of the same shapes with other clips in it; masks stay as they are.

    Args:
      key: typed random key, the same on every device: what a clip becomes does not depend on how
        many devices share the batch.
      batch: as `step.train_step` takes it, labels as float32.
      time_shift: largest circular shift of mel and labels, as a share of the clip.
      mix: probability that another clip of the same kind (weak, unlabelled or strong) is added.
        Its events are added to the labels: magnitudes of sounds add, and so do their tags.
      gain_db: largest change of level, in decibels of magnitude, up or down.
      filter_db: largest gain of a random smooth filter over the mel bands, in decibels.
        Strength 0 turns a kind off.
      axis_name: the mapped axis over which the batch is spread, or None.
    """
    shift_key, colour_key, mix_key = jax.random.split(key, 3)
    if is_on(time_shift):
        batch = _shift(shift_key, batch, time_shift, axis_name)
    if is_on(gain_db) or is_on(filter_db):
        batch = _colour(colour_key, batch, gain_db, filter_db, axis_name)
    if is_on(mix):
        batch = _mix(mix_key, batch, mix, axis_name)
    return batch


# By the names that ``config.augmentation.function`` can have.
AUGMENTATIONS = {"augment": augment}
