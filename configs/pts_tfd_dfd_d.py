"""System 7 of table 1, PTS + TFD + DFD-D(w+u): and DFD-D on weak and unlabelled clips.

Its scores in the paper: system 7 of jfsed_jax/experiments/paper.py.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_tfd_dfd_d"
    config.loss.distillation.tfd = 1.0
    config.loss.distillation.dfd_d_weak_unlabelled = 1.0
    return config
