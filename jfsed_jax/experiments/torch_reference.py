"""The paper's losses and step in plain PyTorch: the outside reference of tests and benchmark.

Written from Liang et al., arXiv 2103.12388, to be read beside it, and sharing no code with the rest
of jfsed_jax; systems 0 and 1 from the DCASE 2019 Task 4 baseline and Guided Learning (arXiv
1906.02517). The models are those of `torch_models`; sizes and weights come from the same config
(``configs/base.py`` names their sources). `loss_terms` and `train_step` are what the tests compare
and what the benchmark times. Needs the extra ``[torch]``.

Axis letters: ``B`` clips, ``T`` frames of the input, ``T'`` frames of a model, ``F`` mel bands,
``C`` event classes, ``D`` features, ``E`` dimensions of the distillation space.
"""

import math

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from jfsed_jax.experiments.torch_models import TorchOutput


def per_clip(x):
    return x.flatten(1).mean(1)


def mean_over(mask, x, config):
    """Mean over the clips of a mask, 0 if it admits none; or their sum over the whole batch's."""
    total = x[mask > 0].sum()
    return total / (len(x) if config.loss.normalisation == "batch" else max((mask > 0).sum(), 1))


def binary_cross_entropy(p, target):
    return per_clip(F.binary_cross_entropy(p, target, reduction="none"))


def adaptive_focal(p, target, gamma, form):
    """Equation 4; p is the probability given to what is true."""
    p = torch.where(target > 0, p, 1 - p)
    weight = 1 - p**gamma if form == "paper" else (1 - p) ** gamma
    return per_clip(-weight * p.log())


def guided(p, guide, soft, scale=1):
    """L_con: the guide's decisions are the labels; or its probabilities."""
    target = guide if soft else (guide > 0.5).to(p.dtype)
    return binary_cross_entropy(scale * p, scale * target.detach())


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
    labelled = torch.maximum(weak, strong)
    tagged = labelled if loss.clip_labels == "labelled" else weak

    def supervised(p, target):
        if 0 <= loss.tau <= epoch:  # stage 2, equation 6
            return adaptive_focal(p, target, loss.gamma, loss.focal_form)
        return binary_cross_entropy(p, target)

    terms = {}
    for name, output in (("teacher", teacher), ("student", student)):
        labels = pool_labels(batch["frame_labels"], output.frames.shape[1])
        terms[f"{name}/weak"] = (
            1,
            mean_over(tagged, supervised(output.clip, batch["clip_labels"]), config),
        )
        terms[f"{name}/strong"] = 1, mean_over(strong, supervised(output.frames, labels), config)
    # Equation 3.
    mask = 1 - labelled if config.guided.clips == "unlabelled" else everything
    terms |= guidance(teacher, student, mask, step, steps_per_epoch, config)

    # Equations 1 and 2, and the ablations of section 2.2.
    since = step - loss.beta_start * steps_per_epoch
    beta = loss.beta_max * ramp(since, loss.beta_rampup * config.epochs * steps_per_epoch)
    if since < 0 or 0 <= loss.beta_end * steps_per_epoch <= step:
        beta = 0
    mapped_t, mapped_s = mapped(system, teacher.features, student.features, loss)
    distance = ((mapped_t - mapped_s).square().sum(-1) + 1e-12).sqrt()  # [B, T]
    active = pool_labels(batch["frame_labels"], distance.shape[1]).amax(-1)
    distillation = {
        "tfd": (strong, (active * distance).mean(1)),
        "dfd_d": (everything, distance.mean(1)),
        "dfd_d_weak_unlabelled": (1 - strong, distance.mean(1)),
        "dfd_mse": (everything, per_clip((mapped_t - mapped_s).square())),
    }
    for name, (mask, value) in distillation.items():
        if weight := loss.distillation[name]:
            terms[f"distillation/{name}"] = weight * beta, mean_over(mask, value, config)
    return terms


def mapped(system, teacher, student, loss):
    """Both features in the distillation space, [B, T, E]."""
    of_teacher = system.distillation["teacher"](teacher)
    if loss.distillation_teacher_map == "fixed":
        of_teacher = F.linear(teacher, system.distillation["teacher"].weight.detach())
    of_student = system.distillation["student"](student)
    own, frames = of_student.shape[1], of_teacher.shape[1]
    if loss.alignment == "repeat":
        of_teacher = of_teacher.repeat_interleave(own // frames, dim=1)
    elif loss.alignment == "interpolate":
        of_teacher = F.interpolate(of_teacher.transpose(1, 2), own, mode="linear").transpose(1, 2)
    else:
        of_student = F.avg_pool1d(of_student.transpose(1, 2), own // frames).transpose(1, 2)
    if loss.distillation_scale == "standardised":
        of_teacher, of_student = map(standardised, (of_teacher, of_student))
    if loss.distillation_gradient == "student":
        of_teacher = of_teacher.detach()
    return of_teacher, of_student


def standardised(maps):
    """A batch norm without parameters, divided by sqrt(E)."""
    flat = maps.flatten(0, 1)
    return F.batch_norm(flat, None, None, training=True).view_as(maps) / maps.shape[-1] ** 0.5


def consistency_weight(step, steps_per_epoch, config):
    """Of the teacher's guidance of the student; the paper's equation 3 has no ramp here."""
    length = config.guided.consistency_rampup * config.epochs * steps_per_epoch
    return config.guided.consistency * ramp(step, length)


def guidance(teacher, student, mask, step, steps_per_epoch, config):
    """Each model's clip outputs against the other's."""
    soft, epoch = config.guided.soft, step // steps_per_epoch
    alpha = 1 - config.guided.alpha_base ** max(epoch - config.guided.alpha_start, 0)
    weight, scale = (1, alpha) if config.guided.alpha_inside else (alpha, 1)
    to_student = mean_over(mask, guided(student.clip, teacher.clip, soft), config)
    to_teacher = mean_over(mask, guided(teacher.clip, student.clip, soft, scale), config)
    return {
        "consistency/teacher_to_student": (
            consistency_weight(step, steps_per_epoch, config),
            to_student,
        ),
        "consistency/student_to_teacher": (weight, to_teacher),
    }


def guided_learning_terms(system, teacher, student, batch, step, steps_per_epoch, config):
    """System 1: every labelled clip by its clip labels, guidance on the others."""
    labelled = batch["is_weak"] + batch["is_strong"]
    terms = {}
    for name, output in (("teacher", teacher), ("student", student)):
        value = binary_cross_entropy(output.clip, batch["clip_labels"])
        terms[f"{name}/clip"] = 1, mean_over(labelled, value, config)
    return terms | guidance(teacher, student, 1 - labelled, step, steps_per_epoch, config)


def mean_teacher_terms(system, teacher, student, batch, step, steps_per_epoch, config):
    """System 0: the student's labels, and its distance from its average on all clips."""
    labels = pool_labels(batch["frame_labels"], student.frames.shape[1])
    weak = binary_cross_entropy(student.clip, batch["clip_labels"])
    strong = binary_cross_entropy(student.frames, labels)
    weight = consistency_weight(step, steps_per_epoch, config)
    return {
        "student/weak": (1, mean_over(batch["is_weak"], weak, config)),
        "student/strong": (1, mean_over(batch["is_strong"], strong, config)),
        "consistency/clip": (weight, F.mse_loss(student.clip, teacher.clip)),
        "consistency/frames": (weight, F.mse_loss(student.frames, teacher.frames)),
    }


SCHEMES = {
    "joint": joint_terms,
    "guided_learning": guided_learning_terms,
    "mean_teacher": mean_teacher_terms,
}


def loss_terms(system, batch, step, *, steps_per_epoch, config):
    """Every term of the config's scheme, name -> (weight, value).

    Args:
      system: a `TorchSystem` in training mode.
      batch: float32 tensors ``mel`` [B, T, F], ``clip_labels`` [B, C], ``frame_labels`` [B, T, C],
        ``is_weak`` [B], ``is_strong`` [B]. Both models see the same: a mean teacher gets no noise.
      step: steps taken so far.
    """
    mel, terms = batch["mel"], SCHEMES[config.scheme]
    # Under autocast the models compute in bfloat16, and the losses in float32.
    models = system.teacher, system.student
    teacher, student = (TorchOutput(*(value.float() for value in model(mel))) for model in models)
    with torch.autocast(mel.device.type, enabled=False):
        return terms(system, teacher, student, batch, step, steps_per_epoch, config)


def train_step(system, optimiser, batch, step, *, steps_per_epoch, config):
    """One update; the values of the terms by name, and ``loss``."""
    optimiser.zero_grad()
    terms = loss_terms(system, batch, step, steps_per_epoch=steps_per_epoch, config=config)
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
