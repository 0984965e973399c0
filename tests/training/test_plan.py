"""What a config names is looked for before anything is prepared."""

import pytest

from jfsed_jax.configs import mean_teacher, pts_tfd_afl_esp
from jfsed_jax.errors import InputError
from jfsed_jax.method.objectives import Objective
from jfsed_jax.training.loop import fit
from jfsed_jax.training.plan import check_values


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("scheme", "jointly", "config.scheme is 'jointly': expected one of joint, guided_learning"),
        ("scheme", "nowhere.to_be:found", "importing nowhere.to_be failed .ModuleNotFoundError"),
        ("scheme", "json:nothing", "json.* defines no 'nothing'"),
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


def test_what_is_handed_in_needs_no_name():
    config = pts_tfd_afl_esp.get_config()
    config.scheme = "mine"
    check_values(config, objective=Objective(lambda *_: {}))
