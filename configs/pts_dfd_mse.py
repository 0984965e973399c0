"""System 4 of table 1, PTS + DFD-MSE: mean squared error of whole feature maps, on all clips.

The paper's scores on DCASE 2019 Task 4, development / evaluation set, in percent:
Event-F1 44.1 / 41.3, Segment-F1 69.9 / 69.6, AT-F1 71.3 / 68.7.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_dfd_mse"
    config.loss.distillation.dfd_mse = 1.0
    return config
