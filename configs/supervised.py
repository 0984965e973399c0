"""The control of table 1, which the paper does not have: the student alone, on labelled clips.

No teacher, no unlabelled clips, no distillation: binary cross-entropy on the weak and strong clips
of the batch. All else is that of system 3 (PTS): the student and its first weights, the labelled
clips of a batch and their order, the number of steps, optimiser, average and augmentation. What
system 3 scores above it is what teacher and unlabelled clips add.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "supervised"
    config.scheme = "supervised"
    del config.teacher
    # [ours] As many steps as the other systems take on the same folder: an epoch still counts its
    # unlabelled clips, so many to a step as the others have in a batch. The labelled part of a
    # batch keeps its size; at the paper's that is 13 clips, which one device takes.
    config.epoch_unlabelled = config.batch.unlabelled
    config.batch.unlabelled = 0
    return config
