"""System 1 of table 1, Guided Learning (arXiv 1906.02517 and its released configuration).

A teacher and a student without BGRUs learn from clip labels alone (those of strong clips too) and
guide each other on unlabelled clips; attention over time on each class's disentangled feature gives
clip and frame posteriors. Batch norm and the composition of a batch are those of the other systems
here; each loss is a mean over the clips that it is for.

Its scores in the paper: system 1 of jfsed_jax/experiments/paper.py.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "guided_learning"
    config.scheme = "guided_learning"
    config.front_end.hop_length = 882  # [GL] 20 ms: 500 frames in 10 s
    for model in (config.teacher, config.student):
        model.architecture = "GuidedCNN"
        for name in ("gru_layers", "gru_hidden", "at_width", "aed_width", "aed_recurrent"):
            del model[name]
    config.teacher.convs = (2, 2, 2, 2, 1)  # [GL]
    if config.size == "paper":
        config.epochs = 100  # [GL]
        config.guided.alpha_start = 5.0  # [GL]
    return config
