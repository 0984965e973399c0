"""The systems of table 1 at the paper's size, value by value, against their sources.

[paper] Liang et al., arXiv 2103.12388, by section; [GL] Guided Learning, arXiv 1906.02517, and its
released code, github.com/Kikyo-16/Sound_event_detection at e52f987, by file; [MT] the DCASE 2019
baseline, github.com/turpaultn/DCASE2019_task4 at 90d35b6, by file; [ours] where all are silent.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import config_values
import jax.numpy as jnp
import numpy as np
import pytest
from config_values import ABSENT
from ml_collections import ConfigDict

from jfsed_jax.config_files import load_config
from jfsed_jax.datasets.selection import KINDS, split_data
from jfsed_jax.experiments import paper
from jfsed_jax.method.models import Output, feature_shares
from jfsed_jax.method.objectives import OBJECTIVES, Term
from jfsed_jax.method.schedules import Schedules
from jfsed_jax.method.step import weighted_sum
from jfsed_jax.sed import tables
from jfsed_jax.sed.events import DCASE2019_CLASSES
from jfsed_jax.training.epochs import steps_in_epoch

METADATA = Path(__file__).parents[2] / "shared/data/dcase2019/metadata"
needs_dcase = pytest.mark.skipif(
    not METADATA.exists(), reason=f"no DCASE 2019 metadata: {METADATA}"
)
# Clips in the tables of DCASE 2019 task 4: train/weak.tsv, train/unlabel_in_domain.tsv,
# train/synthetic.tsv, validation/validation.tsv (github.com/turpaultn/DCASE2019_task4, dataset/).
CLIPS = {"weak": 1578, "unlabel_in_domain": 14412, "synthetic": 2045, "validation": 1168}


class Row(NamedTuple):
    """A system.

    Attributes:
      batch: weak, unlabelled and strong clips.
      trained: clips of each that are trained on.
      steps, total: steps of an epoch and of the run.
      terms: of each term of the loss, the clips that it is of and those whose number divides it.
      selection: whose scores, by which, on which clips, every how many epochs.
      windows: rule and clear_knee.
      decoder: gated by clip tags, number of medians, threshold.
      source: of batch; epoch; terms; selection; windows and decoder.
    """

    batch: tuple[int, int, int]
    trained: tuple[int, int, int]
    steps: int
    total: int
    terms: dict[str, tuple[str, str]]
    selection: tuple[str, str, str, int]
    windows: tuple[str, float]
    decoder: tuple[bool, int, float]
    source: str


def over(clips: str, **divided_by: str) -> tuple[str, str]:
    return clips, divided_by.get("divided_by", clips)


PTS = {
    "teacher/weak": over("weak"),
    "teacher/strong": over("strong"),
    "student/weak": over("weak"),
    "student/strong": over("strong"),
    "consistency/teacher_to_student": over("all"),
    "consistency/student_to_teacher": over("all"),
}
PTS_SOURCE = (
    "[GL] conf/data.cfg: 64 clips, of 18,035 in proportion, fixed composition [ours]; "
    "[GL] data_loader.py: one pass over all clips, 282 steps, [paper] 3.3: 200 epochs; "
    "[paper] equations 1 to 6, each term over its own count [ours]; "
    "[ours] as [MT] main.py, every 5 epochs; "
    "[paper] 2.4 and table 3: avg as in [GL], figure 4: gate and two medians"
)


def pts(source: str, rule: str = "avg", **terms: tuple[str, str]) -> Row:
    return Row(
        batch=(6, 51, 7),
        trained=(1262, 14412, 1636),
        steps=282,
        total=56_400,
        terms=PTS | {f"distillation/{name}": clips for name, clips in terms.items()},
        selection=("student", "event_f1+at_f1", "holdout", 5),
        windows=(rule, 0.0),
        decoder=(True, 2, 0.5),
        source=f"{source}; {PTS_SOURCE}",
    )


SYSTEMS = {
    "supervised": Row(
        batch=(6, 0, 7),
        trained=(1262, 14412, 1636),
        steps=282,
        total=56_400,
        terms={"student/weak": over("weak"), "student/strong": over("strong")},
        selection=("student", "event_f1+at_f1", "holdout", 5),
        windows=("avg", 0.0),
        decoder=(True, 2, 0.5),
        source="[ours] the labelled part of the others' batch; "
        "[ours] as many steps as systems 2 to 9; [paper] the student's terms of equation 5; "
        "[ours] as PTS; [paper] as PTS",
    ),
    "mean_teacher": Row(
        batch=(6, 12, 6),
        trained=(1262, 14412, 1636),
        steps=210,
        total=21_000,
        terms={
            "student/weak": over("weak"),
            "student/strong": over("strong"),
            "consistency/clip": over("all"),
            "consistency/frames": over("all"),
        },
        selection=("student", "event_f1+at_f1", "holdout", 1),
        windows=("fixed", 0.0),
        decoder=(False, 1, 0.5),
        source="[MT] config.py and main.py: batch_size 24, a quarter, a half, a quarter; "
        "DataLoad.py: MultiStreamBatchSampler ends with its shortest stream, n_epoch 100; "
        "main.py: BCELoss and MSELoss are means over the clips they are given; "
        "main.py: valid_synth_df and valid_weak_df, a fifth of each, after every epoch; "
        "evaluation_measures.py: get_predictions, median_window 5",
    ),
    "guided_learning": Row(
        batch=(6, 51, 7),
        trained=(1578, 14412, 2045),
        steps=282,
        total=28_200,
        terms={
            "teacher/clip": over("labelled", divided_by="all"),
            "student/clip": over("labelled", divided_by="all"),
            "consistency/teacher_to_student": over("unlabelled", divided_by="all"),
            "consistency/student_to_teacher": over("unlabelled", divided_by="all"),
        },
        selection=("student", "at_f1", "validation", 1),
        windows=("avg", 0.0),
        decoder=(True, 2, 0.5),
        source="[GL] conf/data.cfg: 64 clips, of 18,035 in proportion, fixed composition [ours]; "
        "data_loader.py: generator_train, conf/train.cfg: 100 epochs; "
        "metricCallback.py: semi_loss, a mean over all 64 clips of masked terms; "
        "metricCallback.py: on_epoch_end, class_wise_F1 of the PS-model on vali_lst; "
        "data_loader.py: count_win_len_per_class, utils.py: gate, then the window twice",
    ),
    "pts_without_bgru": pts("[paper] table 1, row 2"),
    "pts": pts("[paper] table 1, row 3"),
    "pts_dfd_mse": pts("[paper] 2.2 and 3.3: all clips", dfd_mse=over("all")),
    "pts_dfd_d": pts("[paper] 2.2 and 3.3: all clips", dfd_d=over("all")),
    "pts_tfd": pts("[paper] equation 1: strong clips", tfd=over("strong")),
    "pts_tfd_dfd_d": pts(
        "[paper] 3.3: TFD, and DFD-D on weak and unlabelled clips",
        tfd=over("strong"),
        dfd_d_weak_unlabelled=over("weak and unlabelled"),
    ),
    "pts_tfd_afl": pts("[paper] equation 6", tfd=over("strong")),
    "pts_tfd_afl_esp": pts("[paper] equation 7, all classes", "esp", tfd=over("strong")),
}


@needs_dcase
def test_the_clips_are_those_of_the_tables():
    events = {"synthetic": "train/synthetic.tsv", "validation": "validation/validation.tsv"}
    found = {
        name: len(tables.read_events(METADATA / path).filenames) for name, path in events.items()
    }
    found["weak"] = len(tables.read_tags(METADATA / "train/weak.tsv").tags)
    unlabelled = tables.read_table(METADATA / "train/unlabel_in_domain.tsv", ("filename",))
    found["unlabel_in_domain"] = len({row["filename"] for _, row in unlabelled.rows})
    assert found == CLIPS


@needs_dcase
def test_disentangled_features_of_dcase_2019():
    """Of the teacher's 512: [GL] data_loader.py, count_disentangle, over all labelled clips."""
    tags = list(tables.read_tags(METADATA / "train/weak.tsv").tags.values())
    strong: dict[str, set[str]] = {}
    for event in tables.read_events(METADATA / "train/synthetic.tsv").events:
        strong.setdefault(event.filename, set()).add(event.event_label)
    found = []
    for clips in (tags, tags + list(strong.values())):
        present = np.array([[label in own for label in DCASE2019_CLASSES] for own in clips])
        shares = dict(zip(DCASE2019_CLASSES, feature_shares(present, 0.04), strict=True))
        found.append([int(512 * shares[label]) for label in ("Speech", SHAVER)])
    assert found == [[20, 105], [98, 245]]


SHAVER = "Electric_shaver_toothbrush"


class Clips:
    """A source of so many clips."""

    def __init__(self, count):
        self.filenames = list(map(str, range(count)))

    def __len__(self):
        return len(self.filenames)


def test_the_table_is_the_papers():
    assert list(SYSTEMS) == ["supervised", *(system.config for system in paper.SYSTEMS)]
    assert all(row.source.count(";") >= 4 for row in SYSTEMS.values())


def flat(page, prefix=""):
    """The values of a config by their dotted names; an empty page is a value, {}."""
    found = {}
    for key, value in page.items():
        page_of_values = isinstance(value, ConfigDict)
        if page_of_values and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = {} if page_of_values else value
    return found


def from_table(name, size):
    own = config_values.SYSTEMS[name]
    values = {"system": (name, "its name")} | config_values.BASE
    if size == "small":
        values, own = values | config_values.BASE_SMALL, config_values.SMALL.get(name, own)
    values |= own
    gone = tuple(key for key, (value, _) in values.items() if value is ABSENT)
    return {
        key: value
        for key, (value, _) in values.items()
        if key not in gone and not key.startswith(tuple(f"{page}." for page in gone))
    }


@pytest.mark.parametrize("size", ["paper", "small"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_value_is_that_of_the_table(name, size):
    assert flat(load_config(f"{name}:{size}")) == from_table(name, size)


def test_schedules_of_a_short_run_keep_their_proportion():
    config = load_config("pts_tfd_afl:small")
    config.epochs = 40
    found = config.optimiser.decay_epochs, config.guided.alpha_start, config.loss.tau
    assert found == (4.0, 8.0, 10.0)


@pytest.mark.parametrize("name", SYSTEMS)
def test_batch_and_length(name):
    row, config = SYSTEMS[name], load_config(name)
    batch = config.batch
    assert (batch.weak, batch.unlabelled, batch.strong) == row.batch
    prepared = SimpleNamespace(splits={split: Clips(count) for split, count in CLIPS.items()})
    data = split_data(prepared, config)
    counts = {kind: len(clips) for kind, clips in data.train.items()}
    assert tuple(counts[kind] for kind in KINDS) == row.trained
    steps = steps_in_epoch(config, counts)
    assert (steps, steps * config.epochs) == (row.steps, row.total)


@pytest.mark.parametrize("name", SYSTEMS)
def test_selection_windows_and_decoder(name):
    row, config = SYSTEMS[name], load_config(name)
    page, decoder = config.evaluation, config.postprocess
    found = (page.model, page.select_by, page.select_on, page.every_epochs)
    assert found == row.selection
    assert page.tags == "student"
    assert (decoder.rule, decoder.clear_knee) == row.windows
    assert (decoder.gate, decoder.medians, decoder.threshold) == row.decoder


FRAMES = 12
# No two of the sets below have the same number of clips.
WEAK, UNLABELLED, STRONG = np.repeat(np.eye(3, dtype=np.float32), (2, 7, 4), axis=1)
SETS = {
    "weak": WEAK,
    "strong": STRONG,
    "labelled": WEAK + STRONG,
    "unlabelled": UNLABELLED,
    "weak and unlabelled": WEAK + UNLABELLED,
    "all": np.ones_like(WEAK),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_each_term_is_of_and_divided_by(name):
    config = load_config(name)
    rng = np.random.default_rng(0)
    clips = len(WEAK)

    def output(frames, features):
        p = rng.uniform(0.1, 0.9, (clips, frames + 1, 10)).astype(np.float32)
        return Output(p[:, 0], p[:, 1:], rng.normal(size=(clips, frames, features)))

    teacher = output(FRAMES if name == "mean_teacher" else 1, 6)
    student = output(FRAMES, 4)
    maps = {"teacher": rng.normal(size=(6, 5)), "student": rng.normal(size=(4, 5))}
    batch = {
        "clip_labels": rng.integers(0, 2, (clips, 10)).astype(np.float32),
        "frame_labels": np.ones((clips, FRAMES, 10), np.float32),
        "is_weak": WEAK,
        "is_strong": STRONG,
    }
    objective = OBJECTIVES[config.scheme](config, 1)
    # Late, where all weights and ramps are above 0 and, of systems 8 and 9, the loss is focal.
    terms = objective.terms(teacher, student, {"distillation": maps}, batch, jnp.int32(90))
    _, values = weighted_sum(terms, None)
    found = {}
    for term in terms:
        _, value, mask = Term(*terms[term])
        entering = np.where(SETS["all"] if mask is None else mask, value, 0)
        divisor = float(entering.sum() / values[term])
        of = [key for key, clips in SETS.items() if ((entering != 0) == (clips > 0)).all()]
        by = [key for key, clips in SETS.items() if divisor == pytest.approx(clips.sum(), rel=1e-4)]
        found[term] = (*of, *by)
    assert found == SYSTEMS[name].terms


def test_the_students_guidance_grows_at_small_as_at_the_papers_size():
    """alpha, at equal shares of the run from where both have begun."""
    sizes = [load_config(f"pts:{size}") for size in ("paper", "small")]
    paper_alpha, small_alpha = (Schedules.of(config, 1).alpha for config in sizes)
    for share in (0.5, 0.7, 0.9):
        at_paper = paper_alpha(round(200 * share))
        np.testing.assert_allclose(small_alpha(round(10 * share)), at_paper, atol=0.05)
