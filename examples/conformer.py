"""A model of one's own: a student of conformer blocks, without batch statistics.

jfsed-jax train --config examples/conformer.py:small --data DIR --workdir W
"""

import flax.linen as nn

from jfsed_jax.configs import pts_tfd
from jfsed_jax.method.layers import AttentionPooling
from jfsed_jax.method.models import Output


class Conformer(nn.Module):
    """[B, T, F] log-mel; a frame of its output lasts `time_stride` frames of the input."""

    classes: int
    width: int
    layers: int
    time_stride: int = 4

    @nn.compact
    def __call__(self, mel, train: bool = False) -> Output:
        def feed_forward(x):
            return 0.5 * nn.Dense(self.width)(nn.swish(nn.Dense(2 * self.width)(nn.LayerNorm()(x))))

        frames = mel.shape[1] // self.time_stride
        stacked = nn.LayerNorm()(mel)[:, : frames * self.time_stride]
        x = features = nn.Dense(self.width)(stacked.reshape(len(mel), frames, -1))
        for _ in range(self.layers):
            x += feed_forward(x)
            x += nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x))
            gated = nn.glu(nn.Dense(2 * self.width)(nn.LayerNorm()(x)))
            local = nn.Conv(self.width, (15,), feature_group_count=self.width)(gated)
            x += nn.Dense(self.width)(nn.swish(nn.LayerNorm()(local)))
            x = nn.LayerNorm()(x + feed_forward(x))
        clip, _ = AttentionPooling(self.classes)(x)
        return Output(clip, nn.sigmoid(nn.Dense(self.classes)(x)), features)


def get_config(size: str = "small"):
    config = pts_tfd.get_config(size)
    config.system = "pts_tfd_conformer"
    width, layers = (8, 1) if size == "tiny" else (64, 3)
    config.student = dict(
        architecture="examples.conformer:Conformer", width=width, layers=layers, time_stride=4
    )
    return config
