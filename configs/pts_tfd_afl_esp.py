"""System 9 of table 1, PTS + TFD + AFL + ESP: the paper's complete system.

Its scores in the paper: system 9 of jfsed_jax/experiments/paper.py.
It is trained as system 8 is; only the median windows differ.
"""

from jfsed_jax.configs import pts_tfd_afl


def get_config(size: str = "paper"):
    config = pts_tfd_afl.get_config(size)
    config.system = "pts_tfd_afl_esp"
    config.postprocess.rule = "esp"  # equation 7
    return config
