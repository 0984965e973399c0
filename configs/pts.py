"""System 3 of table 1, PTS: the backbone: two branches, BGRUs, Guided Learning.

The paper's scores on DCASE 2019 Task 4, development / evaluation set, in percent:
Event-F1 43.1 / 40.9, Segment-F1 69.0 / 68.1, AT-F1 75.0 / 73.4.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts"
    return config
