"""Dropout at half the random numbers, and the same on any number of devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jfsed_jax.kernels.randomness import clip_keys


class Dropout(nn.Module):
    """`flax.linen.Dropout` at half its cost: two draws of 16 bits from each random number.

    The first half of axis 1 has the lower bits, the second half the upper ones. A rate is met to
    1/131072. Each clip draws by its row in the whole batch: from the stream ``clips``, whose key is
    the same on every device, or where a caller gives none from ``dropout``.

    Attributes:
      rate: share of the values that become 0.
      axis_name: the mapped axis over which the batch is spread, or None.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        if not train or not self.rate:
            return x
        clips, length, *rest = x.shape
        stream = "clips" if self.has_rng("clips") else "dropout"
        keys = clip_keys(self.make_rng(stream), clips, self.axis_name)
        half = -(-length // 2), *rest
        bits = jax.vmap(lambda key: jax.random.bits(key, half, jnp.uint32))(keys)
        draws = jnp.concatenate([bits & 0xFFFF, bits >> 16], axis=1)[:, :length]
        return jnp.where(draws >= round(self.rate * 2**16), x / (1 - self.rate), 0)
