"""System 9 of table 1, PTS + TFD + AFL + ESP: the paper's complete system.

The paper's scores on DCASE 2019 Task 4, development / evaluation set, in percent:
Event-F1 51.6 / 49.8, Segment-F1 76.4 / 75.9, AT-F1 83.4 / 81.2.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "pts_tfd_afl_esp"
    config.loss.tfd = 1.0  # equation 1
    config.loss.tau = 15.0  # [paper] epochs of stage 1; in proportion where there are fewer
    base.set_schedules(config)
    config.postprocess.rule = "esp"  # equation 7
    return config
