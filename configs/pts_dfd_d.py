"""System 5 of table 1, PTS + DFD-D: Euclidean distance of whole feature maps, on all clips.

The paper's scores on DCASE 2019 Task 4, development / evaluation set, in percent:
Event-F1 44.4 / 41.7, Segment-F1 73.2 / 71.1, AT-F1 73.4 / 72.9.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_dfd_d"
    config.loss.distillation.dfd_d = 1.0
    return config
