"""Random numbers that belong to a clip, on whatever device it is.

A step draws by the clip's row in the whole batch, so that the numbers do not depend on how many
devices, or hosts, share the batch.
"""

import jax
import jax.numpy as jnp
from jax import lax


def own_rows(values: jax.Array, clips: int, axis_name: str | None) -> jax.Array:
    """What this device's clips have of `values` of the whole batch.

    Args:
      values: [B, ...], one row for each clip of all devices, the same on every device.
      clips: of this device.
      axis_name: the mapped axis over which the batch is spread, or None.

    Returns:
      [clips, ...].
    """
    if axis_name is None:
        return values
    return lax.dynamic_slice_in_dim(values, lax.axis_index(axis_name) * clips, clips)


def whole_batch(clips: int, axis_name: str | None) -> int:
    """How many clips all devices have, of which this one has `clips`."""
    return clips if axis_name is None else clips * lax.axis_size(axis_name)


def clip_keys(key: jax.Array, clips: int, axis_name: str | None) -> jax.Array:
    """<key>[clips]: one for each clip of this device; `key` is the same on every device."""
    first = 0 if axis_name is None else lax.axis_index(axis_name) * clips
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(clips))


def normal_by_clip(key: jax.Array, shape: tuple[int, ...], axis_name: str | None) -> jax.Array:
    """Standard normal <float32>[clips, ...], each clip's from its own key; see `clip_keys`."""
    keys = clip_keys(key, shape[0], axis_name)
    return jax.vmap(lambda own: jax.random.normal(own, shape[1:]))(keys)
