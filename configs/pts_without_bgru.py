"""System 2 of table 1, PTS(w/o BGRUs): the tagging branch sees the CNN features alone.

Its scores in the paper: system 2 of jfsed_jax/experiments/paper.py.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_without_bgru"
    for model in (config.teacher, config.student):
        model.gru_layers = 0
    return config
