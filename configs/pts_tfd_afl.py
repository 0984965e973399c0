"""System 8 of table 1, PTS + TFD + AFL: and the two-stage adaptive focal loss (equations 4 to 6).

Its scores in the paper: system 8 of jfsed_jax/experiments/paper.py.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_tfd_afl"
    config.loss.distillation.tfd = 1.0
    # [paper] 15 of 200; in a short run it waits until the models have learnt something [ours].
    short = 0.25 * config.get_ref("epochs").to_float()
    config.loss.tau = 15.0 if config.size == "paper" else short
    return config
