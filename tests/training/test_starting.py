"""From which step each of several runs goes on."""

from types import SimpleNamespace

import pytest

from jfsed_jax.hosts import ALONE
from jfsed_jax.training import starting
from jfsed_jax.training.starting import Standing, where_they_stand


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ([[3, 4, 6], [4, 6]], [6, 6]),
        ([[3, 4], [4, 6]], [4, 4]),  # killed between two saves: all from the last common one
        ([[2, 4], [4, 6], [4, 6]], [4, 4, 4]),
        ([[2, 3], [3, 4, 6]], [3, 6]),  # one that was lost; others keep its step as their best
        ([[], [4, 6]], [0, 6]),  # one that is new
        ([[], []], [0, 0]),
    ],
)
def test_runs_go_on_from_a_step_that_all_keep_or_each_from_its_own(monkeypatch, kept, expected):
    def restored(run, hosts, mesh, source, at=None):
        steps = run.manager.all_steps()
        step = at or max(steps, default=0)
        return Standing(f"state of {step}" if steps else None, step, None)

    monkeypatch.setattr(starting, "_restored", restored)
    runs = [SimpleNamespace(manager=SimpleNamespace(all_steps=lambda s=steps: s)) for steps in kept]
    found = where_they_stand(runs, ALONE, None, None)
    assert [one.step for one in found] == expected
    assert [one.state for one in found] == [f"state of {s}" if s else None for s in expected]
