"""System 6 of table 1, PTS + TFD: target-event distillation (equation 1).

Its scores in the paper: system 6 of jfsed_jax/experiments/paper.py.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_tfd"
    config.loss.distillation.tfd = 1.0
    return config
