"""Dropout at half the random numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
    """`flax.linen.Dropout` at half its cost: two draws of 16 bits from each random number.

    The first half of the clips has the lower bits, the second half the upper ones. A rate is met to
    1/131072.
    """

    rate: float

    @nn.compact
    def __call__(self, x, train: bool):
        if not train or not self.rate:
            return x
        clips = x.shape[0]
        bits = jax.random.bits(self.make_rng("dropout"), (-(-clips // 2), *x.shape[1:]), jnp.uint32)
        draws = jnp.concatenate([bits & 0xFFFF, bits >> 16])[:clips]
        return jnp.where(draws >= round(self.rate * 2**16), x / (1 - self.rate), 0)
