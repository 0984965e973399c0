"""The complete system, small enough for minutes on a laptop and the rendered demo set.

What differs from `pts_tfd_afl_esp.py:small` is there to save time: 30 frames a second, a narrower
student, fewer unlabelled clips in a batch.
"""

from jfsed_jax.configs import base, pts_tfd_afl_esp


def get_config(size: str = "small"):
    config = pts_tfd_afl_esp.get_config(size or "small")
    config.system = "demo"
    config.front_end.hop_length = 1470  # 30 frames a second: a frame is a sixth of the collar
    config.student.filters = (24, 24, 24)
    config.batch = dict(weak=4, unlabelled=4, strong=8)
    config.epochs = 14  # of 30 steps: one pass over the 120 unlabelled clips
    config.evaluation.every_epochs = 7
    base.set_schedules(config)
    return config
