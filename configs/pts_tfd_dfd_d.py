"""System 7 of table 1, PTS + TFD + DFD-D(w+u): and DFD-D on weak and unlabelled clips.

The paper's scores on DCASE 2019 Task 4, development / evaluation set, in percent:
Event-F1 42.9 / 40.1, Segment-F1 72.9 / 72.0, AT-F1 75.2 / 73.3.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_tfd_dfd_d"
    config.loss.distillation.tfd = 1.0
    config.loss.distillation.dfd_d_weak_unlabelled = 1.0
    return config
