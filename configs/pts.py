"""System 3 of table 1, PTS: the backbone: two branches, BGRUs, Guided Learning.

Its scores in the paper: system 3 of jfsed_jax/experiments/paper.py.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts"
    return config
