"""What a config names is looked for before anything is prepared."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optax
import pytest
from defaults import front_end
from stub_detector import StubClips

from jfsed_jax.configs import guided_learning, mean_teacher, pts_tfd_afl_esp
from jfsed_jax.datasets.clips import SPLITS, Clip
from jfsed_jax.errors import InputError
from jfsed_jax.method.objectives import Objective
from jfsed_jax.method.optimisers import parameter_ema
from jfsed_jax.method.system import from_config, models_from_config
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.training import plan
from jfsed_jax.training.epochs import steps_in_epoch
from jfsed_jax.training.loop import fit
from jfsed_jax.training.plan import check_resume, check_values


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("scheme", "jointly", "config.scheme is 'jointly': expected one of joint, guided_learning"),
        ("scheme", "nowhere.to_be:found", "importing nowhere.to_be failed .ModuleNotFoundError"),
        ("scheme", "json:nothing", "'nothing' is no function or class of json"),
        ("scheme", "json:__name__", "'__name__' is no function or class of json"),
        ("scheme", "json:dumps", "config.scheme: dumps: .*positional argument"),
        ("scheme", "operator:eq", "the objective is False: expected an Objective"),
        ("scheme", "mean_teacher", "there is a teacher: .*leave the config's teacher out"),
        ("student.architecture", "optax:adam", "'optax:adam': expected a class of linen modules"),
        ("optimiser.arguments", {"learning_rate": 5.0}, "it is config.optimiser.learning_rate"),
        ("evaluation.model", "both", "config.evaluation.model is 'both': expected one of student"),
        ("student.architecture", "CRMM", "architecture is 'CRMM': expected one of CRNN"),
        (
            "student.colour",
            "red",
            "page of CRNN does not fit.*colour.*fields are aed_recurrent",
        ),
        (
            "optimiser.name",
            "adamx",
            "config.optimiser.name is 'adamx': expected a function of optax",
        ),
        ("optimiser.arguments", {"speed": 1}, "config.optimiser.arguments: adam: .*speed"),
        ("optimiser.schedule", "stairs", "config.optimiser.schedule is 'stairs'"),
        ("optimiser.schedule", "cosine_decay_schedule", "schedule_arguments: cosine.*init_value"),
        ("augmentation.function", "jnp", "config.augmentation.function is 'jnp': expected one of"),
        ("augmentation.louder", 3.0, "config.augmentation: .*louder"),
        ("postprocess.rule", "median", "config.postprocess.rule is 'median': expected one of esp"),
        (
            "postprocess.decoder",
            "mean",
            "config.postprocess.decoder is 'mean': expected one of med",
        ),
        (
            "loss.distillation.dfd",
            1.0,
            "config.loss.distillation.dfd is 'dfd': expected one of tfd",
        ),
        ("evaluation.average", True, "config.evaluation.average needs a moving average"),
        ("evaluation.tags", "both", "config.evaluation.tags is 'both': expected one of student"),
        ("evaluation.select_on", "eval", "select_on is 'eval': expected holdout or validation"),
        ("evaluation.select_by", "f1", "select_by is 'f1': expected event_f1.at_f1 or at_f1"),
        ("loss.alignment", "stretch", "alignment is 'stretch': expected one of repeat, interp"),
        ("loss.normalisation", "clips", "is 'clips': expected one of own, labelled, batch"),
        ("loss.clip_labels", "all", "clip_labels is 'all': expected weak or labelled"),
        ("guided.disentangled_from", "all", "from is 'all': expected weak or labelled"),
        ("epoch", "longest", "config.epoch is 'longest': expected unlabelled or shortest"),
        ("teacher_start", "own", "is of a mean teacher; here .* leave it at 'student'"),
        ("postprocess.threshold", 1.5, "threshold 1.5 and medians 2: expected 0 to 1"),
        ("compute_dtype", "float16", "config.compute_dtype is 'float16': expected float32 or bfl"),
        ("epochs", 0, "config.epochs is 0: expected more than 0"),
    ],
)
def test_a_value_that_means_nothing_is_refused_before_the_data_are_read(
    key, value, message, tmp_path
):
    config = pts_tfd_afl_esp.get_config()
    page, _, name = key.rpartition(".")
    with config.unlocked():
        target = config
        for part in page.split(".") if page else ():
            target = target[part]
        target[name] = value
    with pytest.raises(InputError, match=message):
        fit(config, tmp_path / "no_data", tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_mean_teacher_needs_an_average():
    config = mean_teacher.get_config()
    check_values(config)
    config.optimiser.ema_decay = 0.0
    with pytest.raises(InputError, match="a mean teacher needs a moving average"):
        check_values(config)


def test_what_cannot_be_handed_in_is_refused(tmp_path):
    config = pts_tfd_afl_esp.get_config()
    with pytest.raises(TypeError, match="optimizer cannot be handed in; expected teacher, student"):
        fit(config, tmp_path, tmp_path / "run", optimizer=optax.sgd(0.1))


DATA = {"weak": "1f", "synthetic": "2e"}


def described(**changes):
    """What travels in a checkpoint, in short; with the config of system 9."""
    return {
        "config": json.loads(pts_tfd_afl_esp.get_config().to_json()),
        "handed": [],
        "draws": "clip",
        "classes": ["a"],
        "clips": {},
        "digests": DATA,
        "steps_per_epoch": 3,
        "frame_rate": 60.0,
        "windows": {"avg": [3]},
        "feature_shares": None,
        **changes,
    }


def test_a_run_goes_on_with_what_was_handed_in(tmp_path):
    """And with the windows of the rules that both know."""
    meta = described()
    check_resume(meta, described(windows={"avg": [3], "new": [5]}), Workdir(tmp_path))
    with pytest.raises(InputError, match="its windows are {'avg': .3.}, now they are {'avg': .4.}"):
        check_resume(meta, described(windows={"avg": [4], "new": [5]}), Workdir(tmp_path))
    with pytest.raises(InputError, match="begun with augment handed in, now with nothing: hand in"):
        check_resume(described(handed=["augment"]), meta, Workdir(tmp_path))
    with pytest.raises(InputError, match="begun with nothing handed in, now with optimiser"):
        check_resume(meta, described(handed=["optimiser"]), Workdir(tmp_path))


def test_a_run_goes_on_with_its_own_config_where_no_file_tells_it(tmp_path):
    config = pts_tfd_afl_esp.get_config()
    config.optimiser.learning_rate = 0.5
    other = described(config=json.loads(config.to_json()))
    with pytest.raises(InputError, match="config.optimiser.learning_rate is .* there and 0.5"):
        check_resume(described(), other, Workdir(tmp_path))
    older = described()
    del older["config"]["gru_loop"]  # a key that configs have got since
    check_resume(older, described(), Workdir(tmp_path))


def test_a_run_goes_on_with_its_own_data_and_at_its_frame_rate(tmp_path, caplog):
    check_resume(described(), described(), Workdir(tmp_path))
    with pytest.raises(InputError, match="names, labels or audio of weak have changed since"):
        check_resume(described(), described(digests=DATA | {"weak": "1e"}), Workdir(tmp_path))
    with pytest.raises(InputError, match="audio of synthetic, validation have changed since"):
        others = {"weak": "1f", "validation": "3d"}
        check_resume(described(), described(digests=others), Workdir(tmp_path))
    with pytest.raises(InputError, match="its frame_rate are 30.0, now they are 60.0"):
        check_resume(described(frame_rate=30.0), described(), Workdir(tmp_path))
    assert not caplog.records
    older = described()
    del older["digests"]
    check_resume(older, described(), Workdir(tmp_path))
    assert "keeps no digests of its data" in caplog.text


@pytest.mark.parametrize("select_on", ["holdout", "validation"])
def test_what_a_run_reads_is_what_it_remembers(select_on):
    """Not the clips for a later evaluation, which may come later, too."""
    config = pts_tfd_afl_esp.get_config()
    config.evaluation.select_on = select_on
    splits = {split: split[::-1] for split in SPLITS}
    found = plan._digests(SimpleNamespace(digests=lambda: splits), config)
    expected = ["weak", "unlabel_in_domain", "synthetic"]
    assert list(found) == expected + ["validation"] * (select_on == "validation")
    assert all(splits[split] == digest for split, digest in found.items())


def test_an_optimiser_that_is_handed_in_may_keep_the_average_itself():
    config = pts_tfd_afl_esp.get_config()
    config.evaluation.average = True
    check_values(config, optimiser=optax.chain(optax.sgd(0.1), parameter_ema(0.9)))


def test_a_module_that_is_handed_in_averages_its_statistics_as_a_named_one():
    page = pts_tfd_afl_esp.get_config()
    student = models_from_config(page, classes=3).student
    assert student.axis_name is None
    found = from_config(page, classes=3, steps_per_epoch=1, axis_name="data", student=student)
    assert found.models.student == models_from_config(page, classes=3, axis_name="data").student


def test_what_is_handed_in_needs_no_name():
    config = pts_tfd_afl_esp.get_config()
    config.scheme = "mine"
    check_values(config, objective=Objective(lambda *_: {}))


def test_tags_are_chosen_for_the_students_frames_alone():
    config = pts_tfd_afl_esp.get_config()
    config.evaluation.tags = "mean"
    check_values(config)
    config.evaluation.model = "teacher"
    with pytest.raises(InputError, match="tags is 'mean', but .*model = 'teacher'.*leave one"):
        check_values(config)


def stub_data(**counts):
    """Clips of two classes: every other weak one has both, others "a"; strong ones have "b"."""
    splits = {}
    for name, count in counts.items():
        tags = [
            ("b",) if name == "synthetic" else ("a",) if i % 2 else ("a", "b") for i in range(count)
        ]
        clips = StubClips(np.zeros((count, 3, 2)))
        clips.clips = [Clip(f"{i}", i, None, tags[i]) for i in range(count)]
        splits[name] = clips
    return SimpleNamespace(
        data="stub", classes=("a", "b"), splits=splits, front_end=front_end(), directory=Path("f")
    )


def test_all_kinds_that_are_missing_are_named_before_anything_is_compiled(tmp_path, monkeypatch):
    config = pts_tfd_afl_esp.get_config()
    monkeypatch.setattr(plan.systems, "from_config", lambda *_, **__: pytest.fail("too late"))
    prepared = stub_data(weak=10)
    with pytest.raises(InputError, match="--config.batch.strong=0 --config.batch.unlabelled=0$"):
        plan.make_plan(config, prepared, tmp_path, Workdir(tmp_path))


def test_a_development_set_that_is_not_there_is_asked_for(tmp_path):
    prepared = stub_data(weak=10, unlabel_in_domain=10, synthetic=10)
    with pytest.raises(InputError, match="stub has no validation clips: .*select_on=holdout"):
        plan.make_plan(guided_learning.get_config(), prepared, tmp_path, Workdir(tmp_path))


@pytest.mark.parametrize(("kinds", "shares"), [("weak", [1, 0.04]), ("labelled", [0.68, 1])])
def test_disentangled_features_are_counted_on_weak_or_all_labelled_clips(kinds, shares):
    """Alone are 4 times "a" in weak clips and 6 times "b" in strong ones: 0.96 4/6 + 0.04."""
    config = guided_learning.get_config()
    config.guided.disentangled_from = kinds
    found = plan._feature_shares(stub_data(weak=8, synthetic=6), config)
    assert found == pytest.approx(shares)


@pytest.mark.parametrize(
    ("epoch", "counts", "steps"),
    [
        ("unlabelled", {"weak": 60, "unlabelled": 1020, "strong": 21}, 20),
        ("shortest", {"weak": 60, "unlabelled": 1020, "strong": 21}, 3),
        ("shortest", {"weak": 5, "unlabelled": 1020, "strong": 21}, 1),
    ],
)
def test_an_epoch_is_a_pass_over_the_unlabelled_or_the_shortest_set(epoch, counts, steps):
    config = pts_tfd_afl_esp.get_config()
    config.epoch = epoch
    assert steps_in_epoch(config, counts) == steps
    config.steps_per_epoch = 7
    assert steps_in_epoch(config, counts) == 7
