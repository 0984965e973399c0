"""Runs to be compared: how they are found, which are one system, what they are called, refusals."""

import shutil

import numpy as np
import pytest
from scored_workdir import write_scored

from jfsed_jax.errors import InputError
from jfsed_jax.runs.saved_run import read_run
from jfsed_jax.runs.scored_runs import read_systems

CLIPS = {"a.wav": [(1.0, 2.0, "Dog")], "b.wav": [(3.0, 4.0, "Cat")], "c.wav": []}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, **kwargs):
    write_scored(path, kwargs.pop("reference", CLIPS), kwargs.pop("found", CLIPS), **kwargs)


def shown(*names):
    """Label, seeds and rule of each system."""
    return [(s.label, s.seeds, s.first.rule) for s in read_systems(names, "eval")]


# Systems ------------------------------------------------------------------------------------------


def test_runs_that_differ_in_the_seed_alone_are_one_system(here):
    for seed in (2, 0, 1):
        write(here / f"runs/pts-seed{seed}", seed=seed)
        write(here / f"runs/afl-seed{seed}", seed=seed, loss={"tau": 3.0})
    names = [f"runs/{name}-seed{seed}" for name in ("pts", "afl") for seed in (2, 0, 1)]
    assert shown(*names) == [("pts", "0, 1, 2", "avg"), ("afl", "0, 1, 2", "avg")]
    # Where nothing else is named they are what is compared.
    assert shown(*names[:2]) == [("pts-seed2", "2", "avg"), ("pts-seed0", "0", "avg")]


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": {"tau": 3.0}},
        {"rule": "esp"},
        {"meta": {"digests": {"weak": "other"}}},
        {"meta": {"handed": ["objective"]}},
        {"meta": {"init_from": {"workdir": "x", "step": 1}}},
        {"info": {"decoder_file": {"decoder": "cseb", "classes": {"Dog": {"threshold": 0.3}}}}},
        {"info": {"thresholds": [0.3, 0.5]}},
    ],
)
def test_runs_that_differ_in_more_are_not(here, changes):
    write(here / "other")
    write(here / "a", seed=0)
    write(here / "b", seed=1, **changes)
    write(here / "c", seed=1)
    found = [(label, seeds) for label, seeds, _ in shown("a", "b", "c", "other")]
    assert found == [("a", "0, 1"), ("b", "1"), ("other", "0")]


def test_seeds_with_thresholds_of_their_own_are_one_system(here):
    for seed in (0, 1):
        write(here / f"x-seed{seed}", seed=seed, info={"thresholds": [0.1 * seed, 0.5]})
    write(here / "y", loss={"tau": 3.0})
    assert shown("y", "x-seed0", "x-seed1")[1] == ("x", "0, 1", "avg")


def test_how_events_were_made_is_told_as_far_as_it_is_known(here):
    write(here / "named", info={"postprocess": "decoder file", "decoder_file": {"decoder": "x"}})
    write(here / "points", info={"postprocess": "change points", "decoder": "change_points"})
    write(here / "config", rule="esp", info={"postprocess": None})
    write(here / "folder", scored="eval-fixed/eval", info={"postprocess": None})
    write(here / "nothing", info={"postprocess": None})
    (here / "nothing/config.json").unlink()
    systems = read_systems(["named", "points", "config", "folder", "nothing"], "eval")
    assert [own.first.decoding for own in systems] == [
        "decoder file", "change points", "esp windows", "fixed windows", "unknown windows"
    ]  # fmt: skip


def test_what_belongs_to_a_machine_parts_no_seeds(here):
    write(here / "x-seed0", seed=0, cpu_devices=2)
    write(here / "x-seed1", seed=1, cpu_devices=4)
    write(here / "y", loss={"tau": 3.0})
    assert shown("y", "x-seed0", "x-seed1")[1] == ("x", "0, 1", "avg")


def test_a_copy_of_a_run_is_no_seed_of_it(here):
    write(here / "a")
    shutil.copytree(here / "a", here / "b")
    assert shown("a", "b") == [("a", "0", "avg"), ("b", "0", "avg")]


def test_what_is_named_again_counts_once_and_in_its_first_place(here):
    for seed in (0, 1):
        write(here / f"a-seed{seed}", seed=seed)
        write(here / f"b-seed{seed}", seed=seed, loss={"tau": 3.0})
    every = [f"{name}-seed{seed}" for name in "ab" for seed in (0, 1)]
    assert shown("b-seed0", "b-seed1", *every) == [("b", "0, 1", "avg"), ("a", "0, 1", "avg")]


def test_seeds_within_a_workdir(here):
    write(here / "one")
    for k in (0, 2, 10):
        write(here / f"several/seeds/{k}", num_seeds=11, meta={"seed": k})
    (here / "several/seeds/eval.json").write_text("{}")
    assert shown("several", "one") == [("several", "0, 2, 10", "avg"), ("one", "0", "avg")]
    assert shown("one", "several/seeds/2")[1] == ("several seed 2", "2", "avg")


def test_a_folder_of_scores_names_its_rule(here):
    write(here / "W")
    shutil.copytree(here / "W", here / "other")
    esp = here / "W/eval-esp/eval"
    shutil.copytree(here / "W/eval/eval", esp)
    scores = esp / "scores.json"
    scores.write_text(scores.read_text().replace("avg", "esp"))
    assert shown("W", "W/eval-esp") == [("W · avg", "0", "avg"), ("W · esp", "0", "esp")]
    assert shown("W/eval", "other") == [("W", "0", "avg"), ("other", "0", "avg")]
    # The one rule that it was scored with is meant, of several one has to be named.
    shutil.rmtree(here / "W/eval")
    assert shown("W", "other")[0] == ("W", "0", "esp")
    shutil.copytree(here / "W/eval-esp", here / "W/eval-fixed")
    with pytest.raises(InputError, match="W is scored on eval with several rules.* W/eval-esp"):
        shown("W", "other")


def test_equal_names_are_told_apart(here):
    for i, folder in enumerate(("x/run", "y/run", "z/x/run")):
        write(here / folder, loss={"tau": float(i)})
    assert [label for label, *_ in shown("x/run", "y/run")] == ["x/run", "y/run"]
    labels = [label for label, *_ in shown("x/run", "z/x/run")]
    assert labels == ["run (1)", "run (2)"]


# Refusals -----------------------------------------------------------------------------------------


def test_another_order_is_no_other_scoring(here):
    clips = CLIPS | {"c.wav": [(1.0, 2.0, "Dog"), (3.0, 4.0, "Cat")]}
    turned = {name: events[::-1] for name, events in reversed(clips.items())}
    write(here / "a", reference=clips, classes=("Dog", "Cat"))
    write(here / "b", reference=turned, classes=("Cat", "Dog"))
    assert len(shown("a", "b")) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"reference": {"a.wav": CLIPS["a.wav"], "d.wav": []}, "found": {}},
            "and a/eval/eval are of other clips (2 and 3): 'b.wav' is scored in a alone",
        ),
        (
            {"reference": CLIPS | {"c.wav": [(1.0, 2.0, "Cat")]}},
            "have other labels: 'c.wav' has 1 and 0 events",
        ),
        (
            {"reference": CLIPS | {"a.wav": [(1.0, 2.5, "Dog")]}},
            "have other labels: 'a.wav' has 1 and 1 events",
        ),
        ({"classes": ("Dog", "Cat", "Owl")}, "have other classes: 'Owl' is one in b alone"),
    ],
)
def test_scores_of_something_else_are_refused(here, changes, said):
    write(here / "a")
    write(here / "b", **changes)
    with pytest.raises(InputError) as refused:
        shown("a", "b")
    assert said in str(refused.value)
    assert "evaluate both on the same data" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "nothing to compare with anything"),
        (["a"], "nothing to compare with a: name two runs or more"),
        (["a", "./a"], "./a and a are the same scores"),
        (["a", "absent"], "absent: no such folder"),
        (["a", "a/eval-esp"], "a/eval-esp: no such folder"),
        (["a", "tables"], "tables holds runs and is none itself: name them, as tables/runs/p"),
        (["a", "empty"], "empty holds no run"),
        (
            ["a", "unscored"],
            "unscored is not scored on eval: jfsed-jax evaluate --workdir unscored",
        ),
        (["a", "other"], "--split eval, or compare with --split=validation, on which it is"),
        (["a", "damaged"], "damaged/eval/eval/scores.json is damaged"),
        (["a", "halved"], "halved/eval/eval/reference.tsv is missing"),
    ],
)
def test_what_is_no_run_or_not_scored_is_refused(here, names, said):
    write(here / "a")
    write(here / "tables/runs/p")
    (here / "empty").mkdir()
    write(here / "unscored")
    shutil.rmtree(here / "unscored/eval")
    write(here / "other", scored="eval/validation")
    write(here / "damaged")
    (here / "damaged/eval/eval/scores.json").write_text("{")
    write(here / "halved")
    (here / "halved/eval/eval/reference.tsv").unlink()
    with pytest.raises(InputError) as refused:
        shown(*names)
    assert said in str(refused.value)


def test_what_is_not_compared_may_be_damaged(here):
    write(here / "a")
    write(here / "b")
    for place in ("eval/validation", "eval-esp/eval"):
        (here / "b" / place).mkdir(parents=True)
        (here / "b" / place / "scores.json").write_text("{")
    assert len(shown("a", "b")) == 2


@pytest.mark.parametrize("name", ["worst", "recordings", "starts", "sound_ends"])
def test_clips_of_which_something_is_missing_are_refused(here, name):
    write(here / "a", examples=["a.wav", "b.wav"])
    path = here / "a/eval/eval/examples.npz"
    kept = dict(np.load(path))
    np.savez(path, **kept, **{name: np.zeros(2)})
    read_run(here / "a")
    np.savez(path, **kept, **{name: np.zeros(1)})
    with pytest.raises(InputError, match=rf"npz: expected '{name}' of shape \[2\], found \(1,\)"):
        read_run(here / "a")
