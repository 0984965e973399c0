"""Scores that select a checkpoint: of stub posteriors, and of whose variables they are."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from defaults import front_end
from stub_detector import CLASSES, ByMel, StubClips, active, make_prepared

from jfsed_jax.datasets.selection import Subset, TrainingData
from jfsed_jax.errors import InputError
from jfsed_jax.inference.prediction import Posteriors, clip_posteriors
from jfsed_jax.method.optimisers import ParameterEmaState
from jfsed_jax.method.state import TrainState
from jfsed_jax.method.system import Models
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import median_decoder
from jfsed_jax.training import selecting, validation
from jfsed_jax.training.program import Program
from jfsed_jax.training.validation import validate


def held_out():
    """Two of three strong and two of three weak clips of 20 frames, 10 a second; and the data."""
    strong = StubClips(
        [active(20), active(20, (2, 8)), active(20, (5, 15), label=1)],
        reference=[
            Event("0.wav", 0.0, 1.0, "Cat"),  # of a clip that is trained on
            Event("1.wav", 0.2, 0.8, "Cat"),
            Event("2.wav", 0.5, 1.5, "Dog"),
        ],
    )
    weak = StubClips(
        [active(20, (0, 3)), active(20), active(20, (4, 9), label=1)],
        labels=[[1, 0], [0, 0], [0, 1]],
    )
    held = {"strong": Subset(strong, [1, 2]), "weak": Subset(weak, [0, 2])}
    return TrainingData({}, held), make_prepared(synthetic=strong, weak=weak)


def posteriors_of(variables, mel):
    """The log-mel is the posterior; ``inverted`` is 1 minus it."""
    frames = np.asarray(mel, np.float32)
    clip = frames.max(axis=1)
    return Posteriors(1 - clip, 1 - frames) if variables["inverted"] else Posteriors(clip, frames)


def scores(*, inverted, data=None):
    own, prepared = held_out()
    decode = median_decoder(np.array([1, 1]), classes=CLASSES, frame_rate=10)
    return validate(posteriors_of, {"inverted": inverted}, data or own, prepared, decode)


def test_posteriors_that_are_the_labels_score_everything():
    found = scores(inverted=False)
    assert found["event_f1"] == pytest.approx(100)
    assert found["segment_f1"] == pytest.approx(100)
    assert found["at_f1"] == pytest.approx(100)
    assert found["selection"] == pytest.approx(200)


def test_posteriors_that_are_their_opposite_score_nothing():
    found = scores(inverted=True)
    assert (found["event_f1"], found["at_f1"], found["selection"]) == (0, 0, 0)


def test_selection_is_by_the_mean_of_the_classes():
    """Cats are found, dogs never: 50, where all events together would have 67."""
    data, prepared = held_out()

    def deaf_to_dogs(variables, mel):
        frames = np.asarray(mel, np.float32) * [1, 0]
        return Posteriors(frames.max(axis=1), frames)

    decode = median_decoder(np.array([1, 1]), classes=CLASSES, frame_rate=10)
    found = validate(deaf_to_dogs, {}, data, prepared, decode)
    assert (found["event_f1"], found["at_f1"]) == (pytest.approx(50), pytest.approx(50))


def test_selection_is_by_what_is_held_out():
    data, _ = held_out()
    weak = scores(inverted=False, data=TrainingData({}, {"weak": data.held["weak"]}))
    assert weak == {"at_f1": pytest.approx(100), "selection": pytest.approx(100)}
    strong = scores(inverted=False, data=TrainingData({}, {"strong": data.held["strong"]}))
    assert strong.keys() == {"event_f1", "segment_f1", "selection"}
    assert strong["selection"] == pytest.approx(100)


def test_frames_of_weak_clips_are_not_kept(monkeypatch):
    kept = []

    def spy(posteriors, variables, mels, **options):
        kept.append((list(mels.filenames), clip_posteriors(posteriors, variables, mels, **options)))
        return kept[-1][1]

    monkeypatch.setattr(validation, "clip_posteriors", spy)
    assert scores(inverted=False)["selection"] == pytest.approx(200)
    shapes = {tuple(names): output.frames.shape for names, output in kept}
    assert shapes == {("1.wav", "2.wav"): (2, 20, 2), ("0.wav", "2.wav"): (2, 0, 2)}


@pytest.mark.parametrize(("kind", "cats"), [("strong", 100), ("development", 100 * 2 / 3)])
def test_events_without_their_tag_do_not_count(kind, cats):
    """Frames are gated, as in a trained system: dogs are heard and their tag is a half."""
    data, prepared = held_out()
    if kind == "development":  # one of two cats is found
        prepared.splits["validation"] = prepared.splits["synthetic"]
        data = TrainingData({}, {}, prepared.splits["synthetic"])

    def unsure_of_dogs(variables, mel):
        frames = np.asarray(mel, np.float32)
        return Posteriors(np.minimum(frames.max(axis=1), [1, 0.5]), frames)

    decode = median_decoder(np.array([1, 1]), classes=CLASSES, frame_rate=10)
    found = validate(unsure_of_dogs, {}, data, prepared, decode)
    assert found["event_f1"] == pytest.approx(cats / 2)


@pytest.mark.parametrize("kind", ["strong", "weak", "development"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_clip_that_is_not_finite_is_named_and_not_scored(kind, value):
    data, prepared = held_out()
    broken = prepared.splits["weak" if kind == "weak" else "synthetic"]
    broken.mels[2][4, 1] = value
    if kind == "development":
        prepared.splits["validation"] = broken
        data = TrainingData({}, {}, broken)
    clips = 3 if kind == "development" else 2
    decode = median_decoder(np.array([1, 1]), classes=CLASSES, frame_rate=10)
    with pytest.raises(InputError, match=f"1 of {clips} clips have a log-mel .* finite, 2.wav: "):
        validate(posteriors_of, {"inverted": False}, data, prepared, decode)


def two_seeds():
    """Parameters 1 to 4, their averages 10 times that, statistics 100 times."""

    def leaves(factor):
        models = {"teacher": [1.0, 2.0], "student": [3.0, 4.0]}
        return {name: {"w": factor * jnp.array(values)} for name, values in models.items()}

    return TrainState(
        step=jnp.zeros(2, jnp.int32),
        params=leaves(1),
        batch_stats=leaves(100),
        opt_state=((), (jnp.zeros(2, jnp.int32), ParameterEmaState(leaves(10)))),
    )


@pytest.mark.parametrize(("average", "factor"), [(True, 10), (False, 1)])
def test_each_seed_is_validated_with_its_own_variables_and_clips(monkeypatch, average, factor):
    calls = []

    def spy(posteriors, variables, data, prepared, decode, select_by, **options):
        assert (select_by, options) == ("at_f1", {"gate": False, "stride": 4})
        calls.append((variables, data, prepared, decode))
        return {"selection": float(len(calls))}

    monkeypatch.setattr(selecting, "validate", spy)
    page = SimpleNamespace(model="student", tags="mean", average=average, select_by="at_f1")
    prepared = SimpleNamespace(front_end=front_end())
    plan = SimpleNamespace(
        config=SimpleNamespace(evaluation=page, postprocess=SimpleNamespace(gate=False)),
        models=Models(ByMel(), ByMel()),
        data=["clips of 0", "clips of 1"],
        prepared=prepared,
        meta={"frame_rate": 15.0},
        decoder=lambda: "the config's",
    )
    program = Program((plan,), stacked=False)
    assert selecting.make_validation(program, None)(two_seeds()) == [
        {"selection": 1.0},
        {"selection": 2.0},
    ]
    for k, (variables, *rest) in enumerate(calls):
        assert rest == [f"clips of {k}", prepared, "the config's"]
        for name, first in (("teacher", 1), ("student", 3)):
            assert float(variables[name]["params"]["w"]) == factor * (first + k)
            assert float(variables[name]["batch_stats"]["w"]) == 100 * (first + k)
    selecting.make_validation(program, "handed in")(two_seeds())
    assert calls[-1][-1] == "handed in"


def test_each_run_is_validated_on_its_own_clips_as_its_config_says(monkeypatch):
    """Of a run that cannot be scored, why, in place of the scores of its seeds."""

    def spy(posteriors, variables, data, prepared, decode, select_by, **options):
        if data == "clips of 2, 0":
            raise InputError("not finite")
        return data, decode, select_by, options["gate"]

    def plan_of(m):
        names = dict(model="student", tags="student", average=False, select_by=f"score {m}")
        return SimpleNamespace(
            config=SimpleNamespace(
                evaluation=SimpleNamespace(**names),
                postprocess=SimpleNamespace(gate=m == 1),
                num_seeds=2,
            ),
            models=Models(ByMel(), ByMel()),
            data=[f"clips of {m}, {k}" for k in range(2)],
            prepared=SimpleNamespace(front_end=front_end()),
            meta={"frame_rate": 15.0},
            decoder=lambda: f"decoder {m}",
        )

    monkeypatch.setattr(selecting, "validate", spy)
    program = Program(tuple(map(plan_of, range(3))), stacked=False)
    *scores, first, second = selecting.make_validation(program, None)((two_seeds(),) * 3)
    assert str(first) == str(second) == "not finite"
    assert scores == [
        (f"clips of {m}, {k}", f"decoder {m}", f"score {m}", m == 1) for m in (0, 1) for k in (0, 1)
    ]


def test_the_development_set_selects_where_there_is_one():
    """Cats of 0.wav are found, dogs of 1.wav tagged but with no frame."""
    dogs = active(20, (9, 10), label=1)
    clips = StubClips(
        [active(20, (2, 8)), dogs],
        reference=[Event("0.wav", 0.2, 0.8, "Cat"), Event("1.wav", 0.0, 2.0, "Dog")],
    )
    own = TrainingData({}, {}, clips)
    decode = median_decoder(np.array([1, 1]), classes=CLASSES, frame_rate=10)
    arguments = (posteriors_of, {"inverted": False}, own, make_prepared(validation=clips), decode)
    both, tags = validate(*arguments), validate(*arguments, "at_f1")
    assert (both["event_f1"], both["at_f1"]) == (pytest.approx(50), pytest.approx(100))
    assert both["selection"] == pytest.approx(150)
    assert tags == both | {"selection": pytest.approx(100)}
