"""What all systems share, at the paper's size. Every value can be set with ``--config.name=value``.

Sources: [paper] Liang et al., arXiv 2103.12388; [GL] Guided Learning, arXiv 1906.02517 and its
released configuration; [ours] a decision where both are silent, with its reason.
"""

from ml_collections import ConfigDict

SIZES = ("paper", "small", "tiny")


def get_config(size: str = "paper") -> ConfigDict:
    """The backbone system (PTS) at one of `SIZES`; an empty size is the paper's."""
    size = size or "paper"
    if size not in SIZES:
        raise ValueError(f"size {size!r}: expected one of {', '.join(SIZES)}")
    config = ConfigDict()
    config.system = "pts"
    # What both minimise: a name of objectives.OBJECTIVES (guided_learning, mean_teacher: systems 1
    # and 0), or package.module:function of (config, steps_per_epoch).
    config.scheme = "joint"
    config.size = size
    config.seed = 0

    config.front_end = dict(
        sample_rate=44100,  # [GL] Hz, mono
        clip_seconds=10.0,  # [paper] shorter clips are padded with silence, longer ones are several
        hop_length=735,  # [paper] 600 frames in 10 s: exactly 60 a second
        win_length=1764,  # [GL] 40 ms
        n_fft=2048,  # [GL]
        n_mels=64,  # [paper]
        fmin=0.0,  # [GL] Hz
        fmax=22050.0,  # [GL] Hz
        # [ours] log(mel + offset): about -99 dBFS for a tone in one band, 20 dB above the rounding
        # noise of 16-bit audio, and the smallest power of ten at which float32 on a device stays
        # within 1e-4 of float64 on the host on real recordings.
        log_offset=1e-4,
    )

    # [paper] figure 1; filters, kernels, pools (frames, mel bands) and dropout [GL].
    config.teacher = dict(
        architecture="CRNN",  # a class of method/models.py, or package.module:Class
        filters=(16, 32, 64, 128, 256),
        kernels=(3, 3, 3, 3, 1),
        pools=((5, 4), (5, 2), (2, 2), (2, 2), (1, 1)),
        pooling="max",  # [GL]; the paper does not say. Or "mean"
        convs=(2, 2, 2, 2, 2),  # [paper] double-layer blocks; GL has one convolution in the last
        dropout=0.3,  # [GL]
        gru_layers=2,  # [paper]
        gru_hidden=64,  # [ours] as the DCASE 2019 baseline
        at_width=128,  # [ours] the output width of the BGRUs
        aed_width=256,  # [ours] "larger hidden states" than the tagging branch
        aed_recurrent=False,  # [paper] the detection branch sees the CNN blocks alone
    )
    config.student = dict(
        architecture="CRNN",
        filters=(160, 160, 160),
        kernels=(5, 5, 3),
        pools=((1, 4), (1, 4), (1, 4)),
        pooling="max",
        convs=(1, 1, 1),
        dropout=0.0,
        gru_layers=2,
        gru_hidden=64,
        at_width=128,
        aed_width=256,
        aed_recurrent=False,
    )
    config.batch_norm = dict(
        momentum=0.9,  # [ours] share of the old statistics kept: settles within an epoch
        epsilon=1e-5,  # [ours] the usual one
    )
    # Of each clip's log-mel, what is further below its peak than this, in dB; 0: all as it is.
    config.clip_floor_db = 0.0  # [ours] GL and the paper have none; system 0 does
    config.compute_dtype = "float32"  # or bfloat16; parameters, statistics, losses stay float32

    # Or, on a CUDA device, one kernel for all frames: "pallas" by Triton, "mosaic" by Mosaic GPU
    # (docs/performance.md). [ours] Neither is the default until it has been timed on one.
    config.gru_loop = "scan"

    # [GL] 64 in all, the sets in their proportion of 1,578 to 14,412 to 2,045; that it is the same
    # in every batch is [ours].
    config.batch = dict(weak=6, unlabelled=51, strong=7)
    config.data = dict(
        in_memory=False,  # [ours] all clips on the device: where the host is slower
        # [ours] Edges of events are rounded to the nearest frame; or floored to frames of so many.
        floor_labels=0,
    )
    config.steps_per_dispatch = 1  # [ours] more, with data.in_memory: where a step is short
    config.num_seeds = 1  # [ours] K independent runs in one step, from seed to seed + K - 1
    # [ours] Runs of other numbers trained as one program, each with values in place of these, as
    # ("loss.gamma=1", "loss.gamma=3 seed=1"): docs/training.md. None: this run alone.
    config.members = ()
    config.seeds_share_batch = False  # [ours] each as it would run alone; True: one batch for all
    config.epochs = 200  # [paper]
    # [GL] an epoch is one pass over all 18,035 clips, 282 steps of 64: so many as one pass over the
    # unlabelled set takes at 51 a batch. Or "shortest": over the set that is first read through.
    config.epoch = "unlabelled"
    # Unlabelled clips to a step of such an epoch, where the batch itself has none: supervised.py.
    config.epoch_unlabelled = 0
    config.steps_per_epoch = 0  # or a number of steps, and not what `epoch` says

    config.optimiser = dict(
        name="adam",  # [GL]; an optimiser of optax, or package.module:function
        arguments=dict(),  # that it takes beside the learning rate
        learning_rate=1.8e-3,  # [GL], times the schedule
        # "staircase": times `decay` every `decay_epochs`; or a schedule of optax, or
        # package.module:function, called with the arguments; its steps are epochs.
        schedule="staircase",
        schedule_arguments=dict(),
        decay=0.8,  # [GL]
        decay_epochs=10.0,  # [GL]
        decay_offset=0.0,  # [ours] epochs before these are counted; see system 1
        restart=False,  # [ours] whether the optimiser begins anew when the rate falls; see system 1
        ema_decay=0.0,  # [ours] 0: no moving average of the parameters
    )
    config.guided = dict(
        # alpha = 1 - lambda^(e - s), the student's guidance of the teacher
        alpha_base=0.996,  # [paper] lambda
        alpha_start=30.0,  # [paper] s, in epochs
        consistency=1.0,  # [paper] weight of the teacher's guidance of the student
        # It has full weight from the start [paper], or grows over this share of all epochs.
        consistency_rampup=0.0,
        # [paper] alpha is a factor of the BCE; True: of probabilities and decisions within it.
        alpha_inside=False,
        clips="all",  # [paper] whom the models guide each other on; or "unlabelled" [GL]
        soft=False,  # [GL] by decisions at 0.5; True: by probabilities
        disentangled_least=0.04,  # [GL] m of system 1, see models.feature_shares
        disentangled_from="weak",  # clips of its n_c: the weak ones, or all "labelled" ones
    )
    config.loss = dict(
        # Weights, times beta, of the distances that distillation.DISTANCES names.
        distillation=dict(
            tfd=0.0,  # target-event distillation, on strong clips (equation 1)
            dfd_d=0.0,  # Euclidean distance on all clips
            dfd_d_weak_unlabelled=0.0,  # on weak and unlabelled clips only
            dfd_mse=0.0,  # mean squared error on all clips
        ),
        distances=dict(),  # package.module:function of names in `distillation` that are not there
        distillation_dims=128,  # [ours] width of W_t and W_s
        before_dropout=True,  # [ours] of the teacher's features: dropout is no part of the target
        # [ours] How the teacher's 6 frames meet the student's 600: "repeat"; "interpolate" between
        # their middles; "pool" the student's to 6.
        alignment="repeat",
        # Whom it moves. [paper] "regulate the teacher-student model training", so "both"; or the
        # "student" and W_s alone [ours]: a target that moves can shrink to meet the student.
        distillation_gradient="both",
        # W_t is "trained" [paper: a transformation matrix, so learnt]; or "fixed" as drawn [ours]:
        # learnt maps can become one direction.
        distillation_teacher_map="trained",
        # [paper] the maps as they are; or "standardised" over the batch, divided by sqrt(E) [ours]:
        # their norms cannot shrink then.
        distillation_scale="literal",
        # [paper] Clip labels are learnt from the weak clips; or from all "labelled" ones, as [GL].
        clip_labels="weak",
        # [ours] A term's sum over its clips is divided by their "own" number; a term of labels by
        # that of all "labelled" clips, the letter of equation 4's K; or all by that of the whole
        # "batch", as the released code of system 1 does.
        normalisation="own",
        beta_max=1.0,  # [paper] beta is in [0, 1]
        beta_rampup=0.5,  # [ours] the ramp's length as a share of all epochs, as in reference [29]
        beta_start=0.0,  # [ours] epoch with which the ramp begins: later, the teacher learns first
        beta_end=-1.0,  # [ours] epoch from which beta is 0 again; negative: never, as the paper
        tau=-1.0,  # epoch from which weak and strong terms are adaptive focal; negative: never
        gamma=2.0,  # [paper]
        focal_form="paper",  # 1 - p^gamma; "lin" is (1 - p)^gamma
    )
    # [ours] the paper trains without. A name of augmentation.AUGMENTATIONS, or
    # package.module:function, and its arguments.
    config.augmentation = dict(
        function="augment", time_shift=0.0, mix=0.0, gain_db=0.0, filter_db=0.0
    )
    # Deviation of the noise on the teacher's linear mel (of filters of height 1), see system 0.
    config.teacher_noise = 0.0
    config.teacher_log_noise = 0.0  # and of that on its log-mel, see system 1
    # Where a mean teacher's average begins: at the "student", or at random weights of its "own".
    config.teacher_start = "student"

    config.postprocess = dict(
        # Windows of the median filters: fixed, avg or esp (equation 7), or package.module:function.
        rule="avg",
        # Factor of equation 7. The paper prints 1/3; GL, whose avg rule it extends, computes with
        # 0.333 and truncates twice, and its published windows are only met with that number.
        eta=0.333,  # [GL] for both rules, so that they differ in N_c alone
        knee="chord",  # [ours] definition of the inflection point, see sed/window_rules.py
        # A knee counts if the CDF rises higher than this above its chord. [paper] every class of
        # table 3 scores differently under ESP, so all do. Or 0.3: on real labels knees above it
        # hold under resampling and those below wander (docs/windows.md).
        clear_knee=0.0,
        # A name of sed/decoder_files.DECODERS, or package.module:function.
        decoder="median",  # [paper] figure 4
        gate=True,  # [paper] figure 4: frames are multiplied by the clip's tags
        medians=2,  # [paper] figure 4: on the posteriors, and again on the decisions
        threshold=0.5,  # [paper] of the decisions
        fixed_frames=5,  # window of the rule "fixed" [the DCASE 2019 baseline's]
    )
    config.evaluation = dict(
        model="student",  # [GL] or teacher, or mean of both
        tags="student",  # [paper] whose clip tags gate the student's frames, of the same three
        average=False,  # evaluate the moving average of the parameters
        # [the DCASE 2019 baseline's] a checkpoint is selected on clips that are held out of
        # training; or on the development set, "validation", and all labelled clips are trained on.
        select_on="holdout",
        holdout=0.2,  # [the DCASE 2019 baseline's] share of the weak and strong clips
        select_by="event_f1+at_f1",  # [the DCASE 2019 baseline's] or at_f1
        every_epochs=5,  # [ours] epochs between two selections
    )
    # [ours] On a CPU XLA runs much of a step on one thread a device: two devices share the batch
    # and use two cores. Other platforms use all their devices. A run may go on with another number.
    config.cpu_devices = 2
    # [ours] Whether a GPU takes only kernels that repeat themselves to the bit, so that a resumed
    # run is the uninterrupted one: fewer to choose from. A CPU's do without it.
    config.deterministic = False
    config.checkpoint_every_steps = 500  # [ours] beside one at every selection

    if size != "paper":
        # [ours] For a CPU and a data set of hundreds of clips: half the frames, narrower models,
        # small batches and a short run with its schedules in proportion, augmentation, and the
        # parameters' average. docs/small.md has what was tried on recordings held out of training.
        # The student's CNN blocks see 7 frames, a quarter of a second at `small`, and so few clips
        # and filters do not make up for that: its detection branch sees its BGRUs too.
        config.student.filters = (16, 32, 64)
        config.student.kernels = (3, 3, 3)
        config.student.aed_recurrent = True
        config.teacher.dropout = 0.1
        config.batch = dict(weak=7, unlabelled=2, strong=7)
        config.steps_per_epoch = 150  # whatever the number of clips
        config.epochs = 10
        config.evaluation.every_epochs = 1
        # In proportion to the run: --config.epochs=N stretches them.
        epochs = config.get_ref("epochs").to_float()
        config.optimiser.learning_rate = 3e-3
        config.optimiser.decay_epochs = 0.1 * epochs
        # Decisions of a model that has learnt nothing are all "absent". The paper's s and tau come
        # after 8,460 and 4,230 steps; here guidance and focal loss wait for the models likewise.
        config.guided.consistency_rampup = 0.5
        config.guided.alpha_start = 0.2 * epochs
        # 20 epochs of the paper's to one: in the end alpha is 0.43, there 0.49.
        config.guided.alpha_base = 0.923
        config.optimiser.ema_decay = 0.99
        config.augmentation.update(time_shift=1.0, mix=0.3, gain_db=3.0, filter_db=3.0)
        config.evaluation.average = True
    if size == "small":
        config.front_end.hop_length = 1470  # 30 frames a second: a frame is a sixth of the collar
        # Narrow where there are many frames and bands.
        config.teacher.filters = (8, 16, 64, 128, 256)
        # 20 frames of half a second: of 6, as at the paper's size, it tags no better than the
        # student that it is to guide.
        config.teacher.pools = ((5, 4), (3, 2), (1, 2), (1, 2), (1, 1))
        # Of recordings that it has not heard a student that pools by the mean knows more, and one
        # that learns the strong clips' tags too.
        config.student.pooling = config.teacher.pooling = "mean"
        config.student.dropout = 0.1
        config.loss.clip_labels = "labelled"
    if size == "tiny":
        # [ours] Seconds, for tests: it shows that everything runs, not that it learns.
        config.teacher.filters = (4, 4, 8, 8, 8)
        config.student.filters = (4, 4, 4)
        for model in (config.teacher, config.student):
            model.gru_hidden, model.at_width, model.aed_width = 8, 8, 8
        config.batch = dict(weak=2, unlabelled=4, strong=2)
        config.epochs = 2
        config.steps_per_epoch = 3
        config.evaluation.every_epochs = 1
    return config
