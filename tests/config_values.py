"""Each value of the configs beside its source: what test_systems.py compares them with.

Sources as there: [paper] by section or equation, [GL] and [MT] by file of the released code, [ours]
where all are silent (docs/readings.md has the reasons).
"""

from typing import Any

Values = dict[str, tuple[Any, str]]
ABSENT = "absent"

_OURS = "[ours]"
_OFF = "[ours] off: the paper has none"
_MODEL_CFG = "[GL] conf/model.cfg"

# Of systems 2 to 9, beside what `SYSTEMS` changes.
BASE: Values = {
    "scheme": ("joint", "[paper] equations 5 and 6"),
    "size": ("paper", _OURS),
    "seed": (0, _OURS),
    "front_end.sample_rate": (44100, "[GL] feature.cfg: sr"),
    "front_end.clip_seconds": (10.0, "[paper] 3.2"),
    "front_end.hop_length": (735, "[paper] 3.2: 600 frames of 10 s"),
    "front_end.win_length": (1764, "[GL] feature.cfg: win_length 0.04 s"),
    "front_end.n_fft": (2048, "[GL] feature.cfg: n_fft"),
    "front_end.n_mels": (64, "[paper] 3.2"),
    "front_end.fmin": (0.0, "[GL] feature.cfg: f_min"),
    "front_end.fmax": (22050.0, "[GL] feature.cfg: f_max"),
    "front_end.log_offset": (1e-4, _OURS),
    "teacher.architecture": ("CRNN", "[paper] 2.1"),
    "teacher.filters": ((16, 32, 64, 128, 256), f"{_MODEL_CFG}: filters"),
    "teacher.kernels": ((3, 3, 3, 3, 1), f"{_MODEL_CFG}: kernel_size"),
    "teacher.pools": (((5, 4), (5, 2), (2, 2), (2, 2), (1, 1)), f"{_MODEL_CFG}: pool_size"),
    "teacher.pooling": ("max", "[GL] model.py: Maxpooling"),
    "teacher.convs": ((2, 2, 2, 2, 2), "[paper] 2.1: five double-layer blocks"),
    "teacher.dropout": (0.3, f"{_MODEL_CFG}: dr_rate"),
    "teacher.gru_layers": (2, "[paper] figure 1"),
    "teacher.gru_hidden": (64, "[ours] as [MT] config.py: n_RNN_cell"),
    "teacher.at_width": (128, _OURS),
    "teacher.aed_width": (256, _OURS),
    "teacher.aed_recurrent": (False, "[paper] figure 1"),
    "student.architecture": ("CRNN", "[paper] 2.1"),
    "student.filters": ((160, 160, 160), f"{_MODEL_CFG}: filters"),
    "student.kernels": ((5, 5, 3), f"{_MODEL_CFG}: kernel_size"),
    "student.pools": (((1, 4), (1, 4), (1, 4)), f"{_MODEL_CFG}: pool_size"),
    "student.pooling": ("max", "[GL] model.py: Maxpooling"),
    "student.convs": ((1, 1, 1), "[paper] 2.1: three single-layer blocks"),
    "student.dropout": (0.0, f"{_MODEL_CFG}: with_dropout"),
    "student.gru_layers": (2, "[paper] figure 1"),
    "student.gru_hidden": (64, "[ours] as [MT] config.py: n_RNN_cell"),
    "student.at_width": (128, _OURS),
    "student.aed_width": (256, _OURS),
    "student.aed_recurrent": (False, "[paper] figure 1"),
    "batch_norm.momentum": (0.9, _OURS),
    "batch_norm.epsilon": (1e-5, _OURS),
    "clip_floor_db": (0.0, _OFF),
    "compute_dtype": ("float32", _OURS),
    "gru_loop": ("scan", _OURS),
    "batch.weak": (6, "[GL] conf/data.cfg: batch_size 64, of it 1,578 in 18,035"),
    "batch.unlabelled": (51, "[GL] conf/data.cfg: batch_size 64, of it 14,412 in 18,035"),
    "batch.strong": (7, "[GL] conf/data.cfg: batch_size 64, of it 2,045 in 18,035"),
    "data.in_memory": (False, _OURS),
    "data.floor_labels": (0, _OURS),
    "steps_per_dispatch": (1, _OURS),
    "num_seeds": (1, _OURS),
    "members": ((), _OURS),
    "seeds_share_batch": (False, _OURS),
    "epochs": (200, "[paper] 3.3"),
    "epoch": ("unlabelled", "[GL] data_loader.py"),
    "epoch_unlabelled": (0, _OURS),
    "steps_per_epoch": (0, _OURS),
    "optimiser.name": ("adam", "[GL] trainer.py"),
    "optimiser.arguments": ({}, _OURS),
    "optimiser.learning_rate": (1.8e-3, "[GL] conf/train.cfg: learning_rate"),
    "optimiser.schedule": ("staircase", "[GL] metricCallback.py"),
    "optimiser.schedule_arguments": ({}, _OURS),
    "optimiser.decay": (0.8, "[GL] conf/train.cfg: decay_rate"),
    "optimiser.decay_epochs": (10.0, "[GL] conf/train.cfg: epoch_of_decay"),
    "optimiser.decay_offset": (0.0, _OURS),
    "optimiser.restart": (False, _OURS),
    "optimiser.ema_decay": (0.0, _OFF),
    "guided.alpha_base": (0.996, "[paper] 3.2: lambda"),
    "guided.alpha_start": (30.0, "[paper] 3.2: s"),
    "guided.consistency": (1.0, "[paper] equation 3"),
    "guided.consistency_rampup": (0.0, "[paper] equation 3"),
    "guided.alpha_inside": (False, "[paper] equation 3"),
    "guided.clips": ("all", "[paper] equation 3"),
    "guided.soft": (False, "[GL] metricCallback.py: decisions at 0.5"),
    "guided.disentangled_least": (0.04, "[GL] conf/data.cfg: dinsentangle_m"),
    "guided.disentangled_from": ("weak", _OURS),
    "loss.distillation.tfd": (0.0, "[paper] table 1"),
    "loss.distillation.dfd_d": (0.0, "[paper] table 1"),
    "loss.distillation.dfd_d_weak_unlabelled": (0.0, "[paper] table 1"),
    "loss.distillation.dfd_mse": (0.0, "[paper] table 1"),
    "loss.distances": ({}, _OURS),
    "loss.distillation_dims": (128, _OURS),
    "loss.before_dropout": (True, _OURS),
    "loss.alignment": ("repeat", _OURS),
    "loss.distillation_gradient": ("both", "[paper] 2.2"),
    "loss.distillation_teacher_map": ("trained", "[paper] 2.2"),
    "loss.distillation_scale": ("literal", "[paper] equation 2"),
    "loss.clip_labels": ("weak", "[paper] equation 5"),
    "loss.normalisation": ("own", _OURS),
    "loss.beta_max": (1.0, "[paper] 3.2: beta = exp(-5 (1 - x)^2)"),
    "loss.beta_rampup": (0.5, "[ours] as the paper's reference 29"),
    "loss.beta_start": (0.0, _OURS),
    "loss.beta_end": (-1.0, _OURS),
    "loss.tau": (-1.0, "[paper] table 1: one stage"),
    "loss.gamma": (2.0, "[paper] 3.2 and table 2"),
    "loss.focal_form": ("paper", "[paper] equation 4"),
    "augmentation.function": ("augment", _OURS),
    "augmentation.time_shift": (0.0, _OFF),
    "augmentation.mix": (0.0, _OFF),
    "augmentation.gain_db": (0.0, _OFF),
    "augmentation.filter_db": (0.0, _OFF),
    "teacher_noise": (0.0, _OFF),
    "teacher_log_noise": (0.0, _OFF),
    "teacher_start": ("student", _OURS),
    "postprocess.rule": ("avg", "[GL] data_loader.py: count_win_len_per_class"),
    "postprocess.eta": (0.333, "[GL] conf/data.cfg: ratio_for_win_len"),
    "postprocess.knee": ("chord", _OURS),
    "postprocess.clear_knee": (0.0, "[paper] table 3: all classes"),
    "postprocess.decoder": ("median", "[paper] figure 4"),
    "postprocess.gate": (True, "[paper] figure 4"),
    "postprocess.medians": (2, "[paper] figure 4"),
    "postprocess.threshold": (0.5, "[paper] figure 4"),
    "postprocess.fixed_frames": (5, "[MT] config.py: median_window"),
    "evaluation.model": ("student", "[GL] metricCallback.py: the PS-model"),
    "evaluation.tags": ("student", "[paper] figure 4"),
    "evaluation.average": (False, _OURS),
    "evaluation.select_on": ("holdout", "[MT] main.py: valid_synth_df, valid_weak_df"),
    "evaluation.holdout": (0.2, "[MT] main.py: a fifth of each"),
    "evaluation.select_by": ("event_f1+at_f1", "[MT] main.py"),
    "evaluation.every_epochs": (5, _OURS),
    "cpu_devices": (2, _OURS),
    "deterministic": (False, _OURS),
    "checkpoint_every_steps": (500, _OURS),
}

_TFD: Values = {"loss.distillation.tfd": (1.0, "[paper] table 1, row 6; beta weighs it")}
_AFL: Values = _TFD | {"loss.tau": (15.0, "[paper] table 2")}
_ESP: Values = {"postprocess.rule": ("esp", "[paper] equation 7")}
_BASELINE = "[MT] config.py"
_ONE_MODEL: Values = {"teacher": (ABSENT, "no weights of its own")}
_NO_BRANCHES: Values = {
    f"{model}.{name}": (ABSENT, "[GL] model.py: attention pooling on the CNN")
    for model in ("teacher", "student")
    for name in ("gru_layers", "gru_hidden", "at_width", "aed_width", "aed_recurrent")
}

_MEAN_TEACHER: Values = _ONE_MODEL | {
    "scheme": ("mean_teacher", "[MT] main.py"),
    "front_end.hop_length": (511, f"{_BASELINE}: hop_length"),
    "front_end.win_length": (2048, f"{_BASELINE}: n_window"),
    "student.architecture": ("BaselineCRNN", "[MT] models/CRNN.py"),
    "student.filters": ((64, 64, 64), f"{_BASELINE}: nb_filters"),
    "student.kernels": ((3, 3, 3), f"{_BASELINE}: kernel_size"),
    "student.pools": (((2, 4), (2, 4), (2, 4)), f"{_BASELINE}: pooling"),
    "student.dropout": (0.5, f"{_BASELINE}: dropout"),
    "student.gru_hidden": (64, f"{_BASELINE}: n_RNN_cell"),
    "student.gru_layers": (2, f"{_BASELINE}: n_layers_RNN"),
    "student.input_momentum": (0.9, _OURS),
    **{
        f"student.{name}": (ABSENT, "[MT] models/CRNN.py")
        for name in ("pooling", "convs", "at_width", "aed_width", "aed_recurrent")
    },
    "batch_norm.momentum": (0.01, "[MT] models/CNN.py: PyTorch's 0.99"),
    "batch_norm.epsilon": (1e-3, "[MT] models/CNN.py"),
    "clip_floor_db": (80.0, "[MT] main.py: amplitude_to_db with librosa's top_db"),
    "data.floor_labels": (8, f"{_BASELINE}: pooling_time_ratio"),
    "teacher_start": ("own", "[MT] main.py: crnn_ema is drawn itself"),
    "teacher_noise": (0.25, "[MT] utils.py: a deviation of 0.5, squared"),
    "guided.consistency": (2.0, f"{_BASELINE}: max_consistency_cost"),
    "guided.consistency_rampup": (0.5, "[MT] main.py: n_epoch // 2"),
    "postprocess.rule": ("fixed", f"{_BASELINE}: median_window"),
    "postprocess.gate": (False, "[MT] evaluation_measures.py"),
    "postprocess.medians": (1, "[MT] evaluation_measures.py"),
}
_GUIDED_LEARNING: Values = _NO_BRANCHES | {
    "scheme": ("guided_learning", "[GL] metricCallback.py"),
    "front_end.hop_length": (882, "[GL] feature.cfg: hop_length 0.02 s"),
    "front_end.log_offset": (2.220446049250313e-16, "[GL] gen_feature.py: numpy.spacing(1)"),
    "teacher.architecture": ("GuidedCNN", f"{_MODEL_CFG}: pooling_mode cATP"),
    "student.architecture": ("GuidedCNN", f"{_MODEL_CFG}: pooling_mode cATP"),
    "teacher.convs": ((2, 2, 2, 2, 1), f"{_MODEL_CFG}: conv_num"),
    "teacher_log_noise": (0.15, "[GL] model.py"),
    "guided.clips": ("unlabelled", "[GL] metricCallback.py: semi_loss"),
    "guided.disentangled_from": ("labelled", "[GL] data_loader.py: count_disentangle"),
}

# By config: what differs from `BASE` at the paper's size.
SYSTEMS: dict[str, Values] = {
    "supervised": _ONE_MODEL
    | {
        "scheme": ("supervised", _OURS),
        "batch.unlabelled": (0, _OURS),
        "epoch_unlabelled": (51, "[ours] as many steps as the others"),
    },
    "mean_teacher": _MEAN_TEACHER
    | {
        "batch.weak": (6, f"{_BASELINE}: a quarter of batch_size 24"),
        "batch.unlabelled": (12, f"{_BASELINE}: half of batch_size 24"),
        "batch.strong": (6, f"{_BASELINE}: a quarter of batch_size 24"),
        "epoch": ("shortest", "[MT] DataLoad.py: MultiStreamBatchSampler"),
        "epochs": (100, f"{_BASELINE}: n_epoch"),
        "evaluation.every_epochs": (1, "[MT] main.py"),
        "optimiser.learning_rate": (1e-3, f"{_BASELINE}: max_learning_rate"),
        "optimiser.decay": (1.0, "[MT] main.py: the rate stays"),
        "optimiser.ema_decay": (0.999, "[MT] main.py: update_ema_variables"),
    },
    "guided_learning": _GUIDED_LEARNING
    | {
        "epochs": (100, "[GL] conf/train.cfg: epochs"),
        "batch_norm.momentum": (0.99, "[GL] Keras's default"),
        "batch_norm.epsilon": (1e-3, "[GL] Keras's default"),
        "loss.normalisation": ("batch", "[GL] metricCallback.py: semi_loss"),
        "optimiser.decay_offset": (1.0, "[GL] metricCallback.py: on_epoch_end"),
        "optimiser.restart": (True, "[GL] metricCallback.py: a new Adam"),
        "evaluation.select_on": ("validation", "[GL] conf/data.cfg: vali_lst"),
        "evaluation.select_by": ("at_f1", "[GL] conf/train.cfg: class_wise_F1"),
        "evaluation.every_epochs": (1, "[GL] metricCallback.py: on_epoch_end"),
        "guided.alpha_inside": (True, "[GL] metricCallback.py: semi_loss"),
        "guided.alpha_start": (5.0, "[GL] conf/data.cfg: start_epoch"),
    },
    "pts_without_bgru": {
        "teacher.gru_layers": (0, "[paper] table 1, row 2"),
        "student.gru_layers": (0, "[paper] table 1, row 2"),
    },
    "pts": {},
    "pts_dfd_mse": {"loss.distillation.dfd_mse": (1.0, "[paper] table 1, row 4")},
    "pts_dfd_d": {"loss.distillation.dfd_d": (1.0, "[paper] table 1, row 5")},
    "pts_tfd": _TFD,
    "pts_tfd_dfd_d": _TFD
    | {"loss.distillation.dfd_d_weak_unlabelled": (1.0, "[paper] table 1, row 7")},
    "pts_tfd_afl": _AFL,
    "pts_tfd_afl_esp": _AFL | _ESP,
}

_CHOSEN = "[ours] docs/small.md"
_IN_PROPORTION = "[ours] the paper's schedule in proportion"

# What differs from `BASE` at `:small`.
BASE_SMALL: Values = {
    "size": ("small", _OURS),
    "front_end.hop_length": (1470, _CHOSEN),
    "teacher.filters": ((8, 16, 64, 128, 256), _CHOSEN),
    "teacher.pools": (((5, 4), (3, 2), (1, 2), (1, 2), (1, 1)), _CHOSEN),
    "teacher.pooling": ("mean", _CHOSEN),
    "teacher.dropout": (0.1, _CHOSEN),
    "student.filters": ((16, 32, 64), _CHOSEN),
    "student.kernels": ((3, 3, 3), _CHOSEN),
    "student.pooling": ("mean", _CHOSEN),
    "student.dropout": (0.1, _CHOSEN),
    "student.aed_recurrent": (True, _CHOSEN),
    "batch.weak": (7, _CHOSEN),
    "batch.unlabelled": (2, _CHOSEN),
    "epochs": (10, _CHOSEN),
    "steps_per_epoch": (150, _CHOSEN),
    "optimiser.learning_rate": (3e-3, _CHOSEN),
    "optimiser.decay_epochs": (1.0, _IN_PROPORTION),
    "optimiser.ema_decay": (0.99, _CHOSEN),
    "guided.consistency_rampup": (0.5, _CHOSEN),
    "guided.alpha_start": (2.0, _IN_PROPORTION),
    "guided.alpha_base": (0.923, "[ours] 20 epochs of the paper's to one"),
    "augmentation.time_shift": (1.0, _CHOSEN),
    "augmentation.mix": (0.3, _CHOSEN),
    "augmentation.gain_db": (3.0, _CHOSEN),
    "augmentation.filter_db": (3.0, _CHOSEN),
    "loss.clip_labels": ("labelled", _CHOSEN),
    "evaluation.average": (True, _CHOSEN),
    "evaluation.every_epochs": (1, _CHOSEN),
}

# By config, where another than `SYSTEMS`: what differs from both of the above at `:small`.
SMALL: dict[str, Values] = {
    "supervised": SYSTEMS["supervised"]
    | {"epoch_unlabelled": (2, "[ours] as many steps as the others")},
    "mean_teacher": _MEAN_TEACHER
    | {
        "front_end.hop_length": (1022, "[ours] half the frames"),
        "student.filters": ((16, 32, 64), "[ours] as the others"),
        "student.pools": (((1, 4), (2, 4), (2, 4)), "[ours] 108 frames, as at the paper's size"),
        "student.dropout": (0.3, _OURS),
        "batch_norm.momentum": (0.9, _OURS),
        "data.floor_labels": (4, "[ours] the frames that one of the output lasts"),
    },
    "guided_learning": _GUIDED_LEARNING
    | {"front_end.hop_length": (1764, "[ours] half the frames")},
    "pts_tfd_afl": _AFL | {"loss.tau": (2.5, _IN_PROPORTION)},
    "pts_tfd_afl_esp": _AFL | _ESP | {"loss.tau": (2.5, _IN_PROPORTION)},
}
