"""System 9 of table 1, PTS + TFD + AFL + ESP: the paper's complete system.

The paper's scores on DCASE 2019 Task 4, development / evaluation set, in percent:
Event-F1 51.6 / 49.8, Segment-F1 76.4 / 75.9, AT-F1 83.4 / 81.2.
It is trained as system 8 is; only the median windows differ.
"""

from jfsed_jax.configs import pts_tfd_afl


def get_config(size: str = "paper"):
    config = pts_tfd_afl.get_config(size)
    config.system = "pts_tfd_afl_esp"
    config.postprocess.rule = "esp"  # equation 7
    return config
