"""What the log says of operations and energy, worked by hand."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import numpy as np
import pytest

from jfsed_jax.configs import mean_teacher, pts
from jfsed_jax.hosts import ALONE, Hosts
from jfsed_jax.method.operations import forward_flops, train_flops
from jfsed_jax.method.system import Models, models_from_config
from jfsed_jax.training.log import StepMetrics
from jfsed_jax.training.speed import Speed, make_speed


class Counted:
    """An energy meter that has used so much at each call."""

    def __init__(self, *joules):
        self.joules = iter(joules)

    def used(self):
        return next(self.joules)


def test_values_by_hand():
    measured = []
    speed = Speed(2_000, lambda: measured.append(1) or 5e4, Counted(7.0, 30.0, None))
    assert not measured  # not before the first step
    speed.restart()  # the seven joules before are not the clips'
    expected = {"flops_per_second": 1e4, "share_of_ceiling": 0.2, "joules_per_clip": 3.0}
    assert speed.of(10, 2.0) == pytest.approx(expected)
    assert "joules_per_clip" not in speed.of(10, 2.0)
    assert len(measured) == 1


def test_a_model_of_ones_own_has_no_operations_and_measures_nothing():
    def measure():
        raise AssertionError("measured for nothing")

    assert Speed(None, measure).of(10, 1.0) == {}
    own = nn.Dense(3)
    assert train_flops(Models(teacher=None, student=own), 600, 64) is None


def test_a_ceiling_that_cannot_be_measured_is_told_once_and_ends_nothing(caplog):
    def measure():
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nand a page more")

    speed = Speed(2_000, measure)
    for _ in range(2):
        assert speed.of(10, 2.0) == {"flops_per_second": 1e4}
    (record,) = caplog.records
    assert record.getMessage().endswith("(RESOURCE_EXHAUSTED: out of memory)")


@pytest.mark.parametrize(("platform", "expected"), [("cpu", 20.0), ("gpu", 80.0)])
def test_the_ceiling_is_of_all_devices(monkeypatch, platform, expected):
    """A CPU's devices share its cores: two processes have twice the one product; eight GPUs 8."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    monkeypatch.setattr("jfsed_jax.training.speed.matmul_flops", lambda dtype, **_: 10.0)
    made = make_speed(
        models_from_config(pts.get_config("tiny"), classes=10), 600, 64, "float32", Hosts(0, 2)
    )
    assert made.measure() == expected


def test_operations_of_a_step():
    """Three forward passes of what is trained, one of a teacher that is an average."""
    both = models_from_config(pts.get_config("tiny"), classes=10)
    student, teacher = (forward_flops(m, 600, 64) for m in (both.student, both.teacher))
    assert student != teacher
    assert train_flops(both, 600, 64) == 3 * student + 3 * teacher
    averaged = models_from_config(mean_teacher.get_config("tiny"), classes=10)
    student = forward_flops(averaged.student, 864, 64)
    assert averaged.teacher is None and train_flops(averaged, 864, 64) == 4 * student
    alone = Models(teacher=None, student=both.student, alone=True)
    assert train_flops(alone, 600, 64) == 3 * forward_flops(both.student, 600, 64)


def test_several_processes_tell_no_energy():
    """Two on one machine would each count all of it."""
    models = models_from_config(pts.get_config("tiny"), classes=10)
    several = make_speed(models, 600, 64, "float32", Hosts(0, 2))
    assert several.energy is None and several.flops_per_clip == train_flops(models, 600, 64)
    assert make_speed(models, 600, 64, "float32", ALONE).energy is not None


def test_the_log_has_them_without_what_an_evaluation_took():
    """Two joules of four clips are the steps'; fifty before `restart_clock` are not."""
    rows = []
    log = SimpleNamespace(write=lambda kind, step, values, common: rows.append(common))
    speed = Speed(100, lambda: 1e3, Counted(1.0, 50.0, 2.0, 0.0))
    metrics = StepMetrics(log, speed, num_seeds=2, batch_size=2, steps_per_epoch=9)
    metrics.restart_clock()
    metrics.add(range(1, 2), {"loss": np.ones(2)})
    told = metrics.flush(lambda *_: "")
    (row,) = rows
    assert row["joules_per_clip"] == 0.5
    assert row["flops_per_second"] == pytest.approx(100 * row["clips_per_second"])
    share = row["share_of_ceiling"]
    assert share == pytest.approx(row["flops_per_second"] / 1e3)
    assert told is not None and told.endswith(f"clips/s, {share:.0%} of the ceiling")
