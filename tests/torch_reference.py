"""The paper's models and losses in plain PyTorch: the outside reference of the parity tests.

Written from Liang et al., arXiv 2103.12388, to be read beside it, and sharing no code with
jfsed_jax. Sizes and weights come from the same config (``configs/base.py`` names their sources).
`losses` and `train_step` are what the tests compare and what the benchmark times.

Axis letters: ``B`` clips, ``T`` frames of the input, ``T'`` frames of a model, ``F`` mel bands,
``C`` event classes, ``D`` features, ``E`` dimensions of the distillation space.
"""

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
    """Reference [30]: probabilities of the frames, averaged with weights that the frames choose."""

    def __init__(self, inputs, classes):
        super().__init__()
        self.posterior = nn.Linear(inputs, classes)
        self.attention = nn.Linear(inputs, classes)

    def forward(self, x):
        posterior = torch.sigmoid(self.posterior(x))
        attention = torch.softmax(self.attention(x), dim=-1).clamp(1e-7, 1)
        return (attention * posterior).sum(1) / attention.sum(1)


class Model(nn.Module):
    """Figure 1: the teacher or the student, according to `options`."""

    def __init__(self, options, batch_norm, classes, mel_bands):
        super().__init__()
        norm = {"eps": batch_norm["epsilon"], "momentum": 1 - batch_norm["momentum"]}
        self.input_norm = nn.BatchNorm1d(mel_bands, **norm)
        blocks, inputs = [], 1
        for filters, kernel, pool, convs in zip(
            options["filters"], options["kernels"], options["pools"], options["convs"], strict=True
        ):
            blocks.append(CNNBlock(inputs, filters, kernel, pool, convs, options["dropout"], norm))
            inputs, mel_bands = filters, mel_bands // pool[1]
        self.blocks = nn.ModuleList(blocks)
        self.num_features = inputs * mel_bands
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
        x = self.input_norm(mel.transpose(1, 2)).transpose(1, 2)
        x = x.unsqueeze(1)  # [B, 1, T, F]
        for block in self.blocks:
            x = block(x)
        features = x.permute(0, 2, 3, 1).flatten(2)  # [B, T', mel bands left * filters]

        tagging = features
        if self.gru is not None:
            tagging = torch.cat([features, self.gru(features)[0]], dim=-1)
        clip = self.at_pooling(F.relu(self.at_linear(tagging)))
        detection = tagging if self.aed_recurrent else features
        frames = torch.sigmoid(self.aed_classes(F.relu(self.aed_linear(detection))))
        return Output(clip, frames, features)


class System(nn.Module):
    """Teacher, student, and the maps W_t, W_s of equation 2."""

    def __init__(self, config, classes, mel_bands=64):
        super().__init__()
        self.teacher = Model(config.teacher, config.batch_norm, classes, mel_bands)
        self.student = Model(config.student, config.batch_norm, classes, mel_bands)
        dims = config.loss.distillation_dims
        self.distillation = nn.ModuleDict(
            {
                "teacher": nn.Linear(self.teacher.num_features, dims, bias=False),
                "student": nn.Linear(self.student.num_features, dims, bias=False),
            }
        )


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


def losses(system, batch, step, *, steps_per_epoch, config):
    """Every term of equations 5 and 6, name -> (weight, value).

    Args:
      system: a `System` in training mode.
      batch: float32 tensors ``mel`` [B, T, F], ``clip_labels`` [B, C], ``frame_labels`` [B, T, C],
        ``is_weak`` [B], ``is_strong`` [B].
      step: steps taken so far.
    """
    loss, epoch = config.loss, step // steps_per_epoch
    weak, strong = batch["is_weak"], batch["is_strong"]
    everything = torch.ones_like(weak)
    teacher, student = system.teacher(batch["mel"]), system.student(batch["mel"])

    def supervised(p, target):
        if 0 <= loss.tau <= epoch:  # stage 2, equation 6
            return adaptive_focal(p, target, loss.gamma, loss.focal_form)
        return binary_cross_entropy(p, target)

    terms = {}
    for name, output in (("teacher", teacher), ("student", student)):
        labels = pool_labels(batch["frame_labels"], output.frames.shape[1])
        terms[f"{name}/weak"] = 1, mean_over(weak, supervised(output.clip, batch["clip_labels"]))
        terms[f"{name}/strong"] = 1, mean_over(strong, supervised(output.frames, labels))

    # Equation 3. The paper has no ramp here.
    steps = config.epochs * steps_per_epoch
    weight = config.guided.consistency * ramp(step, config.guided.consistency_rampup * steps)
    alpha = 1 - config.guided.alpha_base ** max(epoch - config.guided.alpha_start, 0)
    to_student = guided(student.clip, teacher.clip)
    to_teacher = guided(teacher.clip, student.clip)
    terms["consistency/teacher_to_student"] = weight, mean_over(everything, to_student)
    terms["consistency/student_to_teacher"] = alpha, mean_over(everything, to_teacher)

    # Equations 1 and 2, and the ablations of section 2.2.
    beta = loss.beta_max * ramp(step, loss.beta_rampup * steps)
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


def train_step(system, optimiser, batch, step, *, steps_per_epoch, config):
    """One update; the values of the terms by name, and ``loss``."""
    optimiser.zero_grad()
    terms = losses(system, batch, step, steps_per_epoch=steps_per_epoch, config=config)
    total = sum(weight * value for weight, value in terms.values())
    total.backward()
    optimiser.step()
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
