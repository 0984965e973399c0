"""A loss of one's own: distillation by the angle between the two maps, whatever their lengths.

jfsed-jax train --config examples/cosine_distillation.py:small --data DIR --workdir W
"""

import jax.numpy as jnp

from jfsed_jax.configs import pts
from jfsed_jax.method import losses


def cosine(teacher, student, batch):
    """1 - cos of the maps [B, T, E] in frames with an event: [B], its clips, those frames."""
    active = losses.pool_labels(batch["frame_labels"], student.shape[1]).max(-1)
    lengths = (teacher**2).sum(-1) * (student**2).sum(-1)
    angle = 1 - (teacher * student).sum(-1) / jnp.sqrt(lengths + 1e-12)
    return (active * angle).mean(-1), batch["is_strong"], active


def get_config(size: str = "small"):
    config = pts.get_config(size)
    config.system = "pts_cosine"
    config.loss.distances = dict(cosine="examples.cosine_distillation:cosine")
    config.loss.distillation.cosine = 1.0
    return config
