"""What a config names is looked for before anything is prepared."""

import optax
import pytest

from jfsed_jax.configs import mean_teacher, pts_tfd_afl_esp
from jfsed_jax.errors import InputError
from jfsed_jax.method.objectives import Objective
from jfsed_jax.method.optimisers import parameter_ema
from jfsed_jax.method.system import from_config, models_from_config
from jfsed_jax.runs.workdir import Workdir
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


def test_a_run_goes_on_with_what_was_handed_in(tmp_path):
    """And with the windows of the rules that both know."""
    meta = {"classes": ["a"], "clips": {}, "windows": {"avg": [3]}}
    wanted = {**meta, "handed": [], "steps_per_epoch": None, "feature_shares": None}
    check_resume(meta, {**wanted, "windows": {"avg": [3], "new": [5]}}, Workdir(tmp_path))
    with pytest.raises(InputError, match="its windows are {'avg': .3.}, now they are {'avg': .4.}"):
        check_resume(meta, {**wanted, "windows": {"avg": [4], "new": [5]}}, Workdir(tmp_path))
    with pytest.raises(InputError, match="begun with augment handed in, now with nothing: hand in"):
        check_resume({**meta, "handed": ["augment"]}, wanted, Workdir(tmp_path))
    with pytest.raises(InputError, match="begun with nothing handed in, now with optimiser"):
        check_resume(meta, {**wanted, "handed": ["optimiser"]}, Workdir(tmp_path))


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
