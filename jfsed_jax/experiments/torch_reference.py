"""The paper's models and losses in plain PyTorch: the outside reference of the parity tests.

Written from Liang et al., arXiv 2103.12388, to be read beside it, and sharing no code with
jfsed_jax; systems 0 and 1 from the DCASE 2019 Task 4 baseline and Guided Learning (arXiv
1906.02517). Sizes and weights come from the same config (``configs/base.py`` names their sources).
`losses` and `train_step` are what the tests compare and what the benchmark times.

Axis letters: ``B`` clips, ``T`` frames of the input, ``T'`` frames of a model, ``F`` mel bands,
``C`` event classes, ``D`` features, ``E`` dimensions of the distillation space.
"""

import copy
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader


class Output(NamedTuple):
    """clip [B, C] and frames [B, T', C] probabilities, features [B, T', D] of the CNN."""

    clip: torch.Tensor
    frames: torch.Tensor
    features: torch.Tensor


class CNNBlock(nn.Module):
    """Figure 2: `convs` times convolution, batch norm, ReLU; max-pool over (time, mel); dropout."""

    def __init__(self, inputs, filters, kernel, pool, convs, dropout, batch_norm):
        super().__init__()
        widths = [inputs] + [filters] * convs
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, kernel, padding="same")
            for i, o in zip(widths, widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(filters, **batch_norm) for _ in range(convs))
        self.pool = tuple(pool)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return self.dropout(F.max_pool2d(x, self.pool))


class AttentionPooling(nn.Module):
    """Reference [30]: probabilities of the frames, averaged with weights that the frames choose.

    Gives the average [B, C] and what is averaged [B, T', C].
    """

    def __init__(self, inputs, classes):
        super().__init__()
        self.posterior = nn.Linear(inputs, classes)
        self.attention = nn.Linear(inputs, classes)

    def forward(self, x):
        posterior = torch.sigmoid(self.posterior(x))
        attention = torch.softmax(self.attention(x), dim=-1).clamp(1e-7, 1)
        return (attention * posterior).sum(1) / attention.sum(1), posterior


class DisentangledAttention(nn.Module):
    """Guided Learning: class c pools over time the first ``k_c = D shares[c]`` features."""

    def __init__(self, inputs, classes, shares):
        super().__init__()
        self.widths = [max(int(inputs * share), 1) for share in shares]
        self.frame = nn.Linear(inputs, classes)
        self.clip = nn.Linear(inputs, classes)

    def forward(self, x):
        clips, frames = [], []
        for c, k in enumerate(self.widths):
            own = x[:, :, :k]
            logits = own @ self.frame.weight[c, :k] + self.frame.bias[c]  # [B, T']
            attention = torch.softmax(logits / k, dim=1)
            pooled = (attention.unsqueeze(2) * own).sum(1)  # [B, k]
            clips.append(torch.sigmoid(pooled @ self.clip.weight[c, :k] + self.clip.bias[c]))
            frames.append(torch.sigmoid(logits))
        return torch.stack(clips, dim=-1), torch.stack(frames, dim=-1)


def torch_norm(batch_norm):
    """PyTorch's momentum is the share of the new statistics."""
    return {"eps": batch_norm["epsilon"], "momentum": 1 - batch_norm["momentum"]}


def normalise(norm, mel):
    """One mean and variance per mel band; [B, T, F] -> [B, 1, T, F]."""
    return norm(mel.transpose(1, 2)).transpose(1, 2).unsqueeze(1)


def flatten(x):
    """[B, filters, T', mel bands left] -> [B, T', D]."""
    return x.permute(0, 2, 3, 1).flatten(2)


class CNN(nn.Module):
    """What the models of the paper and of Guided Learning share."""

    def __init__(self, options, batch_norm, mel_bands):
        super().__init__()
        norm = torch_norm(batch_norm)
        self.input_norm = nn.BatchNorm1d(mel_bands, **norm)
        blocks, inputs = [], 1
        for filters, kernel, pool, convs in zip(
            options["filters"], options["kernels"], options["pools"], options["convs"], strict=True
        ):
            blocks.append(CNNBlock(inputs, filters, kernel, pool, convs, options["dropout"], norm))
            inputs, mel_bands = filters, mel_bands // pool[1]
        self.blocks = nn.ModuleList(blocks)
        self.num_features = inputs * mel_bands

    def features(self, mel):
        x = normalise(self.input_norm, mel)
        for block in self.blocks:
            x = block(x)
        return flatten(x)


class CRNN(CNN):
    """Figure 1: the teacher or the student, according to `options`."""

    def __init__(self, options, batch_norm, classes, mel_bands):
        super().__init__(options, batch_norm, mel_bands)
        hidden, layers = options["gru_hidden"], options["gru_layers"]
        self.gru = None
        if layers:
            self.gru = nn.GRU(
                self.num_features, hidden, layers, batch_first=True, bidirectional=True
            )
        width = self.num_features + (2 * hidden if layers else 0)
        self.at_linear = nn.Linear(width, options["at_width"])
        self.at_pooling = AttentionPooling(options["at_width"], classes)
        self.aed_recurrent = options["aed_recurrent"]  # not in the paper
        width = width if self.aed_recurrent else self.num_features
        self.aed_linear = nn.Linear(width, options["aed_width"])
        self.aed_classes = nn.Linear(options["aed_width"], classes)

    def forward(self, mel):  # [B, T, F]
        features = self.features(mel)
        tagging = features
        if self.gru is not None:
            tagging = torch.cat([features, self.gru(features)[0]], dim=-1)
        clip, _ = self.at_pooling(F.relu(self.at_linear(tagging)))
        detection = tagging if self.aed_recurrent else features
        frames = torch.sigmoid(self.aed_classes(F.relu(self.aed_linear(detection))))
        return Output(clip, frames, features)


class GuidedCNN(CNN):
    """Guided Learning, system 1: the CNN under attention on disentangled features."""

    def __init__(self, options, batch_norm, classes, mel_bands, shares=None):
        super().__init__(options, batch_norm, mel_bands)
        shares = [1.0] * classes if shares is None else shares
        self.pooling = DisentangledAttention(self.num_features, classes, shares)

    def forward(self, mel):
        features = self.features(mel)
        return Output(*self.pooling(features), features)


class GatedBlock(nn.Module):
    """The DCASE 2019 baseline's: convolution, batch norm, gated linear unit; dropout; mean-pool."""

    def __init__(self, inputs, filters, kernel, pool, dropout, batch_norm):
        super().__init__()
        # Lists of one: the names are those of `CNNBlock`.
        self.convs = nn.ModuleList([nn.Conv2d(inputs, filters, kernel, padding="same")])
        self.norms = nn.ModuleList([nn.BatchNorm2d(filters, **batch_norm)])
        self.linear = nn.Linear(filters, filters)  # over channels
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.AvgPool2d(tuple(pool))

    def forward(self, x):
        x = self.norms[0](self.convs[0](x))
        linear = self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.pool(self.dropout(linear * torch.sigmoid(x)))


class BaselineCRNN(nn.Module):
    """The DCASE 2019 baseline, system 0: gated blocks, BGRUs, attention pooling."""

    def __init__(self, options, batch_norm, classes, mel_bands):
        super().__init__()
        norm = torch_norm(batch_norm)
        input_norm = norm | {"momentum": 1 - options["input_momentum"]}
        self.input_norm = nn.BatchNorm1d(mel_bands, affine=False, **input_norm)
        blocks, inputs = [], 1
        for filters, kernel, pool in zip(
            options["filters"], options["kernels"], options["pools"], strict=True
        ):
            blocks.append(GatedBlock(inputs, filters, kernel, pool, options["dropout"], norm))
            inputs, mel_bands = filters, mel_bands // pool[1]
        self.blocks = nn.ModuleList(blocks)
        hidden = options["gru_hidden"]
        self.gru = nn.GRU(
            inputs * mel_bands, hidden, options["gru_layers"], batch_first=True, bidirectional=True
        )
        self.dropout = nn.Dropout(options["dropout"])
        self.pooling = AttentionPooling(2 * hidden, classes)

    def forward(self, mel):
        x = normalise(self.input_norm, mel)
        for block in self.blocks:
            x = block(x)
        features = flatten(x)
        return Output(*self.pooling(self.dropout(self.gru(features)[0])), features)


class System(nn.Module):
    """Teacher and student, and in the joint framework the maps W_t, W_s of equation 2.

    The teacher of a mean teacher (system 0) is a copy of the student, which `average` makes follow;
    its batch statistics are its own.

    Args:
      shares: per class, of system 1; see `DisentangledAttention`. All features where None.
    """

    def __init__(self, config, classes, mel_bands=64, shares=None):
        super().__init__()

        def make(options):
            arguments = options, config.batch_norm, classes, mel_bands
            if options["architecture"] == "GuidedCNN":
                return GuidedCNN(*arguments, shares)
            return {"CRNN": CRNN, "BaselineCRNN": BaselineCRNN}[options["architecture"]](*arguments)

        if config.scheme == "mean_teacher":
            self.student = make(config.student)
            self.teacher = copy.deepcopy(self.student).requires_grad_(False)
            self.averaged = 0  # how many times
        else:
            self.teacher, self.student = make(config.teacher), make(config.student)
        if config.scheme == "joint":
            dims = config.loss.distillation_dims
            self.distillation = nn.ModuleDict(
                {
                    "teacher": nn.Linear(self.teacher.num_features, dims, bias=False),
                    "student": nn.Linear(self.student.num_features, dims, bias=False),
                }
            )

    @torch.no_grad()
    def average(self, decay):
        """Reference [29]: the true average of what came first, until `decay` forgets faster."""
        self.averaged += 1
        decay = min(decay, 1 - 1 / (self.averaged + 1))
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.mul_(decay).add_(new, alpha=1 - decay)


def per_clip(x):
    return x.flatten(1).mean(1)


def mean_over(mask, x):
    """Mean over the clips of a mask, 0 if it admits none."""
    return x[mask > 0].mean() if (mask > 0).any() else x.new_zeros(())


def binary_cross_entropy(p, target):
    return per_clip(F.binary_cross_entropy(p, target, reduction="none"))


def adaptive_focal(p, target, gamma, form):
    """Equation 4; p is the probability given to what is true."""
    p = torch.where(target > 0, p, 1 - p)
    weight = 1 - p**gamma if form == "paper" else (1 - p) ** gamma
    return per_clip(-weight * p.log())


def guided(p, guide):
    """L_con: the guide's decisions are the labels."""
    return binary_cross_entropy(p, (guide > 0.5).to(p.dtype).detach())


def pool_labels(labels, num_frames):
    """[B, T, C] -> [B, T', C]: active where any covered frame is."""
    covered = labels.shape[1] // num_frames
    return F.max_pool1d(labels.transpose(1, 2), covered).transpose(1, 2)


def ramp(step, length):
    """The sigmoid-shaped ramp of reference [29]; a length of 0 has it at its top."""
    x = min(step / length, 1) if length else 1
    return math.exp(-5 * (1 - x) ** 2)


def joint_terms(system, teacher, student, batch, step, steps_per_epoch, config):
    """Equations 5 and 6, systems 2 to 9."""
    loss, epoch = config.loss, step // steps_per_epoch
    weak, strong = batch["is_weak"], batch["is_strong"]
    everything = torch.ones_like(weak)

    def supervised(p, target):
        if 0 <= loss.tau <= epoch:  # stage 2, equation 6
            return adaptive_focal(p, target, loss.gamma, loss.focal_form)
        return binary_cross_entropy(p, target)

    terms = {}
    for name, output in (("teacher", teacher), ("student", student)):
        labels = pool_labels(batch["frame_labels"], output.frames.shape[1])
        terms[f"{name}/weak"] = 1, mean_over(weak, supervised(output.clip, batch["clip_labels"]))
        terms[f"{name}/strong"] = 1, mean_over(strong, supervised(output.frames, labels))
    # Equation 3.
    terms |= guidance(teacher, student, everything, step, steps_per_epoch, config)

    # Equations 1 and 2, and the ablations of section 2.2.
    beta = loss.beta_max * ramp(step, loss.beta_rampup * config.epochs * steps_per_epoch)
    repeats = student.features.shape[1] // teacher.features.shape[1]
    mapped_t = system.distillation["teacher"](teacher.features).repeat_interleave(repeats, dim=1)
    mapped_s = system.distillation["student"](student.features)
    distance = ((mapped_t - mapped_s).square().sum(-1) + 1e-12).sqrt()  # [B, T]
    active = batch["frame_labels"].amax(-1)
    distillation = {
        "tfd": (strong, (active * distance).mean(1)),
        "dfd_d": (everything, distance.mean(1)),
        "dfd_d_weak_unlabelled": (1 - strong, distance.mean(1)),
        "dfd_mse": (everything, per_clip((mapped_t - mapped_s).square())),
    }
    for name, (mask, value) in distillation.items():
        if weight := loss.distillation[name]:
            terms[f"distillation/{name}"] = weight * beta, mean_over(mask, value)
    return terms


def consistency_weight(step, steps_per_epoch, config):
    """Of the teacher's guidance of the student; the paper's equation 3 has no ramp here."""
    length = config.guided.consistency_rampup * config.epochs * steps_per_epoch
    return config.guided.consistency * ramp(step, length)


def guidance(teacher, student, mask, step, steps_per_epoch, config):
    """Each model's clip outputs against the other's decisions."""
    epoch = step // steps_per_epoch
    alpha = 1 - config.guided.alpha_base ** max(epoch - config.guided.alpha_start, 0)
    to_student = mean_over(mask, guided(student.clip, teacher.clip))
    to_teacher = mean_over(mask, guided(teacher.clip, student.clip))
    return {
        "consistency/teacher_to_student": (
            consistency_weight(step, steps_per_epoch, config),
            to_student,
        ),
        "consistency/student_to_teacher": (alpha, to_teacher),
    }


def guided_learning_terms(system, teacher, student, batch, step, steps_per_epoch, config):
    """System 1: every labelled clip by its clip labels, guidance on the others."""
    labelled = batch["is_weak"] + batch["is_strong"]
    terms = {}
    for name, output in (("teacher", teacher), ("student", student)):
        value = binary_cross_entropy(output.clip, batch["clip_labels"])
        terms[f"{name}/clip"] = 1, mean_over(labelled, value)
    return terms | guidance(teacher, student, 1 - labelled, step, steps_per_epoch, config)


def mean_teacher_terms(system, teacher, student, batch, step, steps_per_epoch, config):
    """System 0: the student's labels, and its distance from its average on all clips."""
    labels = pool_labels(batch["frame_labels"], student.frames.shape[1])
    weak = binary_cross_entropy(student.clip, batch["clip_labels"])
    strong = binary_cross_entropy(student.frames, labels)
    weight = consistency_weight(step, steps_per_epoch, config)
    return {
        "student/weak": (1, mean_over(batch["is_weak"], weak)),
        "student/strong": (1, mean_over(batch["is_strong"], strong)),
        "consistency/clip": (weight, F.mse_loss(student.clip, teacher.clip)),
        "consistency/frames": (weight, F.mse_loss(student.frames, teacher.frames)),
    }


SCHEMES = {
    "joint": joint_terms,
    "guided_learning": guided_learning_terms,
    "mean_teacher": mean_teacher_terms,
}


def losses(system, batch, step, *, steps_per_epoch, config):
    """Every term of the config's scheme, name -> (weight, value).

    Args:
      system: a `System` in training mode.
      batch: float32 tensors ``mel`` [B, T, F], ``clip_labels`` [B, C], ``frame_labels`` [B, T, C],
        ``is_weak`` [B], ``is_strong`` [B]. Both models see the same: a mean teacher gets no noise.
      step: steps taken so far.
    """
    mel, terms = batch["mel"], SCHEMES[config.scheme]
    # Under autocast the models compute in bfloat16, and the losses in float32.
    models = system.teacher, system.student
    teacher, student = (Output(*(value.float() for value in model(mel))) for model in models)
    with torch.autocast(mel.device.type, enabled=False):
        return terms(system, teacher, student, batch, step, steps_per_epoch, config)


def train_step(system, optimiser, batch, step, *, steps_per_epoch, config):
    """One update; the values of the terms by name, and ``loss``."""
    optimiser.zero_grad()
    terms = losses(system, batch, step, steps_per_epoch=steps_per_epoch, config=config)
    total = sum(weight * value for weight, value in terms.values())
    total.backward()
    optimiser.step()
    if config.scheme == "mean_teacher":
        system.average(config.optimiser.ema_decay)
    return {name: value.detach() for name, (_, value) in terms.items()} | {"loss": total.detach()}


def log_mel(waveform, mel_basis, front_end):
    """Log-mel magnitudes [B, T, F] of clips [B, N]; `mel_basis` [K, F]."""
    spectrum = torch.stft(
        waveform,
        front_end.n_fft,
        front_end.hop_length,
        front_end.win_length,
        window=torch.hann_window(front_end.win_length, device=waveform.device),
        pad_mode="constant",
        return_complex=True,
    )
    magnitude = spectrum[..., : front_end.num_frames].abs()
    return (magnitude.transpose(1, 2) @ mel_basis + front_end.log_offset).log()


def batches(datasets, composition):
    """Endless batches: of each data set of arrays its number of clips, shuffled, as tensors."""
    loaders = [
        DataLoader(dataset, batch_size=count, shuffle=True, drop_last=True)
        for dataset, count in zip(datasets, composition, strict=True)
    ]
    while True:
        for parts in zip(*loaders, strict=False):
            yield {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
