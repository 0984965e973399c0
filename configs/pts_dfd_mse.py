"""System 4 of table 1, PTS + DFD-MSE: mean squared error of whole feature maps, on all clips.

Its scores in the paper: system 4 of jfsed_jax/experiments/paper.py.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_dfd_mse"
    config.loss.distillation.dfd_mse = 1.0
    return config
