"""System 6 of table 1, PTS + TFD: target-event distillation (equation 1).

The paper's scores on DCASE 2019 Task 4, development / evaluation set, in percent:
Event-F1 48.0 / 45.4, Segment-F1 71.7 / 70.2, AT-F1 78.6 / 77.1.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_tfd"
    config.loss.distillation.tfd = 1.0
    return config
