"""System 2 of table 1, PTS(w/o BGRUs): the tagging branch sees the CNN features alone.

The paper's scores on DCASE 2019 Task 4, development / evaluation set, in percent:
Event-F1 42.0 / 39.4, Segment-F1 63.3 / 61.0, AT-F1 71.2 / 69.1.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_without_bgru"
    for model in (config.teacher, config.student):
        model.gru_layers = 0
    return config
