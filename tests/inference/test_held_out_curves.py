"""Event-F1 by threshold of stub posteriors: of which clips, windows and gate."""

import json

import numpy as np
import pytest
from stub_detector import StubClips, active, make_detector, make_prepared

from jfsed_jax.inference.held_out_curves import write_threshold_curves
from jfsed_jax.sed.events import Event

HALF = Event("{}.wav", 3 / 60, 15 / 60, "Cat")


def strong(level=0.6):
    """Ten clips of a cat whose posterior is `level`, at its time."""
    reference = [HALF._replace(filename=f"{i}.wav") for i in range(10)]
    return StubClips([active(20, (3, 15), level=level)] * 10, reference=reference)


def written(tmp_path, prepared, rule=None, kept=8, **changes):
    detector = make_detector(tmp_path, meta={"clips": {"strong": kept}}, **changes)
    write_threshold_curves(detector, prepared, detector.workdir, rule)
    path = detector.workdir.thresholds
    return json.loads(path.read_text()) if path.exists() else None


def test_curves_are_of_the_clips_that_were_held_out(tmp_path):
    """A fifth of ten. Cats are found up to their posterior; of dogs there are none."""
    found = written(tmp_path, make_prepared(synthetic=strong()))
    assert (found["step"], found["postprocess"], found["clips"]) == (20, "avg", 2)
    assert found["thresholds"] == [round(i / 100, 2) for i in range(1, 100)]
    assert list(found["classes"]) == ["Cat"] and found["classes"]["Cat"]["events"] == 2
    curve = np.array(found["classes"]["Cat"]["event_f1"])
    # 0.6 as float16, as log-mel are kept, is a little more.
    np.testing.assert_array_equal(curve, np.where(np.arange(1, 100) <= 60, 100, 0))


@pytest.mark.parametrize(("gate", "best"), [(True, 0), (False, 100)])
def test_curves_are_gated_as_events_are(tmp_path, gate, best):
    found = written(
        tmp_path, make_prepared(synthetic=strong(0.4)), **{"postprocess.gate": gate}
    )  # fmt: skip
    assert max(found["classes"]["Cat"]["event_f1"]) == best


def test_curves_are_of_the_rule_that_is_asked(tmp_path):
    """Its windows of five frames leave nothing of two."""
    clips = strong()
    clips.mels = [np.float16(active(20, (3, 5), level=0.6))] * 10
    clips.reference = [event._replace(offset=5 / 60) for event in clips.reference]
    for rule, best in (("avg", 100), ("fixed", 0)):
        found = written(tmp_path, make_prepared(synthetic=clips), rule)
        assert found["postprocess"] == rule
        assert max(found["classes"]["Cat"]["event_f1"]) == best


@pytest.mark.parametrize(
    "why",
    [
        {"kept": 7},  # of other data
        {"kept": 10, "evaluation.select_on": "validation"},  # none are held out
        {"postprocess.decoder": "examples.hysteresis:decoder"},
    ],
)
def test_nothing_is_written_where_there_is_nothing_to_tell(tmp_path, why):
    assert written(tmp_path, make_prepared(synthetic=strong()), **why) is None
