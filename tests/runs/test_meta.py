"""What travels with the weights is what was saved, and possible."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from defaults import front_end

from jfsed_jax.errors import InputError
from jfsed_jax.runs.meta import check_checkpoint_meta, check_meta, is_number, sealed, unsealed

WHERE = Path("run/checkpoints/9/meta")
META = {
    "config": {"seed": 0, "optimiser": {"decay_epochs": float("inf")}},
    "classes": ["Cat", "Dog"],
    "front_end": asdict(front_end()),
    "frame_rate": 60.0,
    "windows": {"esp": [9, 27], "mine": [3, 3]},
    "durations": {"Cat": [0.5, 10.0], "Dog": []},
    "feature_shares": [0.5, 1.0],
    "steps_per_epoch": 20,
    "clips": {"weak": 3},
}


def through_json(value):
    return json.loads(json.dumps(value))


def test_a_seal_survives_json_and_nothing_else_does():
    saved = through_json(sealed(META))
    assert unsealed(WHERE, saved) == META
    assert unsealed(WHERE, META) == META  # of a version without seals
    saved["durations"]["Cat"][0] = 0.4  # possible, and yet not what was saved
    with pytest.raises(InputError, match="checkpoints/9/meta is not what was written"):
        unsealed(WHERE, saved)
    with pytest.raises(InputError, match="expected a JSON object"):
        unsealed(WHERE, [1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frame_rate", 0),
        ("frame_rate", -60),
        ("frame_rate", "60"),
        ("frame_rate", True),
        ("frame_rate", float("inf")),
        ("frame_rate", float("nan")),
        ("frame_rate", 10**400),
        ("steps_per_epoch", 0),
        ("classes", "Cat"),
        ("classes", ["Cat", 2]),
        ("config", [1]),
        ("front_end", 3),
        ("front_end", {"hop_length": 0}),
        ("front_end", {"hop_length": 735}),  # and nothing else
        ("front_end", META["front_end"] | {"n_mels": "64"}),
        ("front_end", META["front_end"] | {"fmax": 1e9}),
        ("windows", {"esp": [9, 10**9]}),
        ("windows", {"esp": [9, 0]}),
        ("windows", {"esp": [9, 2.5]}),
        ("windows", {"esp": [9]}),  # one class of two
        ("windows", {"esp": 9}),
        ("windows", [9, 27]),
        ("durations", {"Cat": [-1.0]}),
        ("durations", {"Cat": [float("nan")]}),
        ("durations", {"Cow": [1.0]}),
        ("feature_shares", [0.5]),
        ("feature_shares", "half"),
    ],
)
def test_what_no_training_writes_is_refused_by_name(name, value):
    check_checkpoint_meta(WHERE, META)
    message = f"points/9/meta: (expected )?'({name}|hop_length)"
    with pytest.raises(InputError, match=message) as refused:
        check_checkpoint_meta(WHERE, {**META, name: value})
    assert "\n" not in str(refused.value)


def test_what_is_absent_is_missed_where_events_are_made_of_it():
    """A page has what there is; a model may have no shares."""
    check_meta(WHERE, {})
    check_checkpoint_meta(WHERE, {**META, "feature_shares": None})
    with pytest.raises(InputError, match="meta lacks config, feature_shares"):
        without = {name: META[name] for name in META.keys() - {"config", "feature_shares"}}
        check_checkpoint_meta(WHERE, without)
    with pytest.raises(InputError, match="meta lacks frame_rate"):
        check_checkpoint_meta(WHERE, {**META, "frame_rate": None})


def test_numbers_are_finite_and_no_bools():
    assert is_number(3) and is_number(-2.5)
    assert not any(map(is_number, [True, "3", None, float("inf"), float("nan"), 10**400]))
