"""System 1 of table 1, Guided Learning (arXiv 1906.02517 and its released configuration).

A teacher and a student without BGRUs learn from clip labels alone (those of strong clips too) and
guide each other on unlabelled clips; attention over time on each class's disentangled feature gives
clip and frame posteriors. Values of the paper's size are those of the released code, [GL]
github.com/Kikyo-16/Sound_event_detection. What differs: batches have a fixed composition (there the
sets are shuffled together); silence stands beyond a clip's ends; even windows become odd; Adam's
epsilon is outside the bias correction; first values are those of the other systems.

Its scores in the paper: system 1 of jfsed_jax/experiments/paper.py.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "guided_learning"
    config.scheme = "guided_learning"
    config.front_end.hop_length = 882  # [GL] 20 ms: 500 frames in 10 s
    config.front_end.log_offset = 2**-52  # [GL] numpy.spacing(1)
    config.teacher_log_noise = 0.15  # [GL]
    config.guided.clips = "unlabelled"  # [GL]
    config.guided.disentangled_from = "labelled"  # [GL] synthetic clips too
    for model in (config.teacher, config.student):
        model.architecture = "GuidedCNN"
        for name in ("gru_layers", "gru_hidden", "at_width", "aed_width", "aed_recurrent"):
            del model[name]
    config.teacher.convs = (2, 2, 2, 2, 1)  # [GL]
    if config.size == "small":
        config.front_end.hop_length = 1764  # half the frames, as the other systems
    if config.size == "paper":
        config.epochs = 100  # [GL]
        config.batch_norm = dict(momentum=0.99, epsilon=1e-3)  # [GL] Keras's defaults
        config.loss.normalisation = "batch"  # [GL] labelled to guided clips about 1 to 4
        # [GL] The first fall is at the end of epoch 10, counted from 0; each compiles a new Adam.
        config.optimiser.update(decay_offset=1.0, restart=True)
        # [GL] Selected by the student's tags on the development set; all labelled clips train.
        config.evaluation.update(select_on="validation", select_by="at_f1", every_epochs=1)
        config.guided.alpha_inside = True  # [GL] BCE(alpha decision, alpha p)
        config.guided.alpha_start = 5.0  # [GL]
    return config
