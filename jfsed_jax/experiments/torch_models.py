"""The paper's models in plain PyTorch, and systems 0 and 1's; see `torch_reference`.

Axis letters: ``B`` clips, ``T`` frames of the input, ``T'`` frames of a model, ``F`` mel bands,
``C`` event classes, ``D`` features.
"""

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from jfsed_jax.audio.front_end import FrontEnd, filter_peaks


class TorchOutput(NamedTuple):
    """clip [B, C] and frames [B, T', C] probabilities, features [B, T', D] of the CNN."""

    clip: torch.Tensor
    frames: torch.Tensor
    features: torch.Tensor


class TorchCNNBlock(nn.Module):
    """Figure 2: `convs` times convolution, batch norm, ReLU; pooling over (time, mel); dropout."""

    def __init__(self, inputs, filters, kernel, pool, pooling, convs, dropout, batch_norm):
        super().__init__()
        widths = [inputs] + [filters] * convs
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, kernel, padding="same")
            for i, o in zip(widths, widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(filters, **batch_norm) for _ in range(convs))
        self.pool = {"max": nn.MaxPool2d, "mean": nn.AvgPool2d}[pooling](tuple(pool))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return self.dropout(self.pool(x))


class TorchAttentionPooling(nn.Module):
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


class TorchDisentangledAttention(nn.Module):
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


def normalise(norm, mel, floor_db, log_height):
    """One mean and variance per mel band; [B, T, F] -> [B, 1, T, F].

    With a floor, no log-mel of a clip is further below its largest than that many decibels, both
    without what the height of the mel filters adds.
    """
    if floor_db:
        log_height = torch.as_tensor(log_height, device=mel.device)
        level = mel - log_height
        lowest = level.amax((1, 2), keepdim=True) - floor_db * math.log(10) / 20
        mel = level.maximum(lowest) + log_height
    return norm(mel.transpose(1, 2)).transpose(1, 2).unsqueeze(1)


def flatten(x):
    """[B, filters, T', mel bands left] -> [B, T', D]."""
    return x.permute(0, 2, 3, 1).flatten(2)


class TorchCNN(nn.Module):
    """What the models of the paper and of Guided Learning share."""

    floor_db, log_height = 0.0, 0.0  # of the config; see `normalise`

    def __init__(self, options, batch_norm, mel_bands):
        super().__init__()
        norm = torch_norm(batch_norm)
        self.input_norm = nn.BatchNorm1d(mel_bands, **norm)
        blocks, inputs = [], 1
        for filters, kernel, pool, convs in zip(
            options["filters"], options["kernels"], options["pools"], options["convs"], strict=True
        ):
            block = pool, options["pooling"], convs, options["dropout"], norm
            blocks.append(TorchCNNBlock(inputs, filters, kernel, *block))
            inputs, mel_bands = filters, mel_bands // pool[1]
        self.blocks = nn.ModuleList(blocks)
        self.num_features = inputs * mel_bands

    def features(self, mel):
        x = normalise(self.input_norm, mel, self.floor_db, self.log_height)
        for block in self.blocks:
            x = block(x)
        return flatten(x)


class TorchCRNN(TorchCNN):
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
        self.at_pooling = TorchAttentionPooling(options["at_width"], classes)
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
        return TorchOutput(clip, frames, features)


class TorchGuidedCNN(TorchCNN):
    """Guided Learning, system 1: the CNN under attention on disentangled features."""

    def __init__(self, options, batch_norm, classes, mel_bands, shares=None):
        super().__init__(options, batch_norm, mel_bands)
        shares = [1.0] * classes if shares is None else shares
        self.pooling = TorchDisentangledAttention(self.num_features, classes, shares)

    def forward(self, mel):
        features = self.features(mel)
        clip, frames = self.pooling(features)
        return TorchOutput(clip, frames, features)


class TorchGatedBlock(nn.Module):
    """The DCASE 2019 baseline's: convolution, batch norm, gated linear unit; dropout; mean-pool."""

    def __init__(self, inputs, filters, kernel, pool, dropout, batch_norm):
        super().__init__()
        # Lists of one: the names are those of `TorchCNNBlock`.
        self.convs = nn.ModuleList([nn.Conv2d(inputs, filters, kernel, padding="same")])
        self.norms = nn.ModuleList([nn.BatchNorm2d(filters, **batch_norm)])
        self.linear = nn.Linear(filters, filters)  # over channels
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.AvgPool2d(tuple(pool))

    def forward(self, x):
        x = self.norms[0](self.convs[0](x))
        linear = self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.pool(self.dropout(linear * torch.sigmoid(x)))


class TorchBaselineCRNN(nn.Module):
    """The DCASE 2019 baseline, system 0: gated blocks, BGRUs, attention pooling."""

    floor_db, log_height = 0.0, 0.0  # of the config; see `normalise`

    def __init__(self, options, batch_norm, classes, mel_bands):
        super().__init__()
        norm = torch_norm(batch_norm)
        input_norm = norm | {"momentum": 1 - options["input_momentum"]}
        self.input_norm = nn.BatchNorm1d(mel_bands, affine=False, **input_norm)
        blocks, inputs = [], 1
        for filters, kernel, pool in zip(
            options["filters"], options["kernels"], options["pools"], strict=True
        ):
            blocks.append(TorchGatedBlock(inputs, filters, kernel, pool, options["dropout"], norm))
            inputs, mel_bands = filters, mel_bands // pool[1]
        self.blocks = nn.ModuleList(blocks)
        hidden = options["gru_hidden"]
        self.gru = nn.GRU(
            inputs * mel_bands, hidden, options["gru_layers"], batch_first=True, bidirectional=True
        )
        self.dropout = nn.Dropout(options["dropout"])
        self.pooling = TorchAttentionPooling(2 * hidden, classes)

    def forward(self, mel):
        x = normalise(self.input_norm, mel, self.floor_db, self.log_height)
        for block in self.blocks:
            x = block(x)
        features = flatten(x)
        clip, frames = self.pooling(self.dropout(self.gru(features)[0]))
        return TorchOutput(clip, frames, features)


MODELS = {"CRNN": TorchCRNN, "GuidedCNN": TorchGuidedCNN, "BaselineCRNN": TorchBaselineCRNN}


class TorchSystem(nn.Module):
    """Teacher and student, and in the joint framework the maps W_t, W_s of equation 2.

    The teacher of a mean teacher (system 0) is a copy of the student, which `average` makes follow;
    its batch statistics are its own.

    Args:
      shares: per class, of system 1; see `TorchDisentangledAttention`. All features where None.
    """

    def __init__(self, config, classes, mel_bands=64, shares=None):
        super().__init__()

        def make(options):
            model = MODELS[options["architecture"]]
            own = {"shares": shares} if model is TorchGuidedCNN else {}
            made: Any = model(options, config.batch_norm, classes, mel_bands, **own)
            made.floor_db = config.clip_floor_db
            made.log_height = np.log(filter_peaks(FrontEnd(**config.front_end)), dtype=np.float32)
            return made

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
