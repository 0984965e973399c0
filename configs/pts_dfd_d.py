"""System 5 of table 1, PTS + DFD-D: Euclidean distance of whole feature maps, on all clips.

Its scores in the paper: system 5 of jfsed_jax/experiments/paper.py.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_dfd_d"
    config.loss.distillation.dfd_d = 1.0
    return config
