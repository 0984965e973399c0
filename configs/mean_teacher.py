"""System 0 of table 1, the official baseline of DCASE 2019 Task 4: a mean teacher.

One CRNN with gated linear units; its teacher is the moving average of its parameters and sees a
noisy input. Values of the paper's size are those of the released baseline, [MT]
github.com/turpaultn/DCASE2019_task4. What differs: all systems here have mel filters of unit area,
a Hann window, silence beyond a clip's ends and an offset where it has a least value of 1e-5; the
input is normalised by each batch, so the teacher's by its noisy one, and not by a scaler computed
once; first values are those of the other systems; of equally good epochs the later is kept.

Its scores in the paper: system 0 of jfsed_jax/experiments/paper.py.
"""

from jfsed_jax.configs import base


def get_config(size: str = "paper"):
    config = base.get_config(size)
    config.system = "mean_teacher"
    config.scheme = "mean_teacher"
    config.front_end.update(hop_length=511, win_length=2048)  # 864 frames in 10 s
    del config.teacher  # it is the student's average
    config.student = dict(
        architecture="BaselineCRNN",
        filters=(64, 64, 64),
        kernels=(3, 3, 3),
        pools=((2, 4), (2, 4), (2, 4)),  # 108 frames of output
        dropout=0.5,
        gru_hidden=64,
        gru_layers=2,
        input_momentum=0.9,  # [ours] the original's scaler is computed once, from all clips
    )
    # PyTorch's momentum of 0.99 in the original: it keeps 0.01 of the old statistics.
    config.batch_norm = dict(momentum=0.01, epsilon=1e-3)
    config.clip_floor_db = 80.0  # [MT] librosa's top_db
    config.data.floor_labels = 8  # [MT] onset and offset // pooling_time_ratio
    config.teacher_start = "own"  # [MT] the teacher is drawn like the student
    config.teacher_noise = 0.25  # the original's 0.5 squared, of filters of height 1
    config.guided.consistency = 2.0
    config.guided.consistency_rampup = 0.5
    config.postprocess.rule = "fixed"
    config.postprocess.gate = False  # [MT] events are those of the frames alone
    config.postprocess.medians = 1  # [MT] of the decisions; that of the posteriors is the same
    if config.size == "paper":
        config.batch = dict(weak=6, unlabelled=12, strong=6)
        config.epoch = "shortest"  # [MT] 210 steps, the held-in weak clips at 6 a batch
        config.epochs = 100
        config.evaluation.every_epochs = 1  # [MT]
        config.optimiser.update(learning_rate=1e-3, decay=1.0, ema_decay=0.999)
    else:
        # [ours] narrower, and with statistics that a batch of 16 does not upset.
        narrow = (8, 8, 8) if config.size == "tiny" else (16, 32, 64)
        config.student.update(filters=narrow, dropout=0.3)
        config.batch_norm.momentum = 0.9
        if config.size == "tiny":
            config.student.gru_hidden = 8
        else:
            # Half the frames, as the other systems; the output keeps its 108.
            config.front_end.hop_length = 1022
            config.student.pools = ((1, 4), (2, 4), (2, 4))
            config.data.floor_labels = 4
    return config
