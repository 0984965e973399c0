"""The run's folder: whose it is, what older versions wrote, where remembered paths lie."""

import json
from pathlib import Path

import pytest

from jfsed_jax.configs import base, mean_teacher, pts_tfd_afl_esp
from jfsed_jax.errors import InputError
from jfsed_jax.runs.saved_run import read_run
from jfsed_jax.runs.workdir import (
    FORMAT,
    Workdir,
    check_config,
    check_format,
    read_json,
    upgraded,
    write_json,
)


def test_a_workdir_belongs_to_one_config(tmp_path):
    config = pts_tfd_afl_esp.get_config("tiny")
    check_config(Workdir(tmp_path), config)
    (tmp_path / "config.json").write_text(config.to_json())
    check_config(Workdir(tmp_path), config)
    config.loss.gamma = 3.0
    with pytest.raises(InputError, match=r"config.loss.gamma is 2.0 there and 3.0 here"):
        check_config(Workdir(tmp_path), config)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="is damaged: expected a JSON object.*if you delete it"):
        check_config(Workdir(tmp_path), config)


def test_how_a_machine_computes_may_change_and_is_said(tmp_path, caplog):
    config = pts_tfd_afl_esp.get_config("tiny")
    saved = json.loads(config.to_json())
    del saved["deterministic"]  # as of a run that is older than the value
    Workdir(tmp_path).config.write_text(json.dumps(saved))
    check_config(Workdir(tmp_path), config)
    assert not caplog.text
    config.deterministic = True
    check_config(Workdir(tmp_path), config)
    assert "config.deterministic is False there and True here" in caplog.text
    config.cpu_devices = 1  # the same clips and draws on any number of them
    check_config(Workdir(tmp_path), config)
    config.seed = 3
    with pytest.raises(InputError, match=r"config: config.seed is 0 there and 3 here; choose"):
        check_config(Workdir(tmp_path), config)


def test_what_a_newer_version_adds_to_a_config_is_filled_from_the_defaults(tmp_path):
    config = pts_tfd_afl_esp.get_config("small")
    saved = json.loads(config.to_json())
    del saved["optimiser"]["name"], saved["loss"]["distances"], saved["gru_loop"]
    saved["optimiser"]["learning_rate"] = 0.5
    found = upgraded(saved)
    defaults = base.get_config()
    assert found["optimiser"]["name"] == defaults.optimiser.name
    assert found["optimiser"]["learning_rate"] == 0.5
    assert found["loss"]["distances"] == {} and found["gru_loop"] == defaults.gru_loop
    assert found["loss"]["distillation"]["tfd"] == 1.0
    Workdir(tmp_path).config.write_text(json.dumps(saved))
    config.optimiser.learning_rate = 0.5
    check_config(Workdir(tmp_path), config)


def test_what_a_run_did_before_there_was_a_key_for_it_it_still_does():
    """Defaults that have changed since are not those of an older run."""
    saved = json.loads(pts_tfd_afl_esp.get_config("small").to_json())
    del saved["loss"]["before_dropout"], saved["postprocess"]["clear_knee"]
    del saved["postprocess"]["gate"], saved["evaluation"]["tags"], saved["epoch"]
    found = upgraded(saved)
    assert found["loss"]["before_dropout"] is False
    assert found["postprocess"]["clear_knee"] == 0.3 and found["postprocess"]["gate"] is True
    assert found["evaluation"]["tags"] == "student" and found["epoch"] == "unlabelled"
    of_baseline = json.loads(mean_teacher.get_config().to_json())
    for key in ("clip_floor_db", "teacher_start"):
        del of_baseline[key]
    del of_baseline["data"]["floor_labels"], of_baseline["postprocess"]["medians"]
    found = upgraded(of_baseline)
    assert (found["clip_floor_db"], found["teacher_start"]) == (0, "student")
    assert (found["data"]["floor_labels"], found["postprocess"]["medians"]) == (0, 2)


def test_the_pages_of_models_are_left_as_they_are():
    """A mean teacher has no teacher, and its student has fields of its own."""
    saved = json.loads(mean_teacher.get_config().to_json())
    assert upgraded(saved) == saved


def test_a_newer_format_is_refused():
    assert check_format({}, Path("w")) == 1
    assert check_format({"format": FORMAT}, Path("w")) == FORMAT
    with pytest.raises(InputError, match=f"w has format {FORMAT + 1}, this version .* {FORMAT}"):
        check_format({"format": FORMAT + 1}, Path("w"))
    with pytest.raises(InputError, match="w has format two"):
        check_format({"format": "two"}, Path("w"))


def test_remembered_paths_move_with_the_folder(tmp_path):
    first, copy = Workdir(tmp_path / "a/run"), Workdir(tmp_path / "b/c/run")
    beside, inside = first.relative(tmp_path / "a/data"), first.relative(tmp_path / "a/run/data")
    assert (beside, inside) == ("../data", "data")
    assert copy.remembered(beside) == tmp_path / "b/c/data"
    assert copy.remembered(inside) == tmp_path / "b/c/run/data"
    assert copy.remembered("/elsewhere/data") == Path("/elsewhere/data")  # of format 1


def test_a_folder_of_runs_says_where_they_are(tmp_path):
    run = Workdir(tmp_path)
    assert run.hint() == "" and run.members() == []
    for name in ("10", "2", "notes"):
        (tmp_path / "members" / name).mkdir(parents=True)
        (tmp_path / "members" / name / "config.json").write_text("{}")
    assert run.members() == [run.member(2), run.member(10)]
    assert run.hint() == f" Those of its members are {tmp_path}/members/2 and so on."
    with pytest.raises(InputError, match=r"holds no run: .* writes them\. Those of its members"):
        read_run(tmp_path)


def test_seeds_have_folders_of_their_own(tmp_path):
    run = Workdir(tmp_path)
    assert run.seed(0, 1) == run
    assert run.seed(1, 3).metrics == tmp_path / "seeds/1/metrics.jsonl"
    assert run.split("validation").scores == tmp_path / "eval/validation/scores.json"
    assert run.split("eval", "eval-avg").events == tmp_path / "eval-avg/eval/events.tsv"


def test_json_is_written_whole_and_read_with_a_reason(tmp_path):
    path = tmp_path / "deep/file.json"
    assert read_json(path) is None
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}
    path.write_text("[1]")
    with pytest.raises(InputError, match="file.json is damaged: expected a JSON object"):
        read_json(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_json(tmp_path / "file/x.json", {})


def test_a_page_that_a_config_replaces_is_its_own_on_a_resume(tmp_path):
    config = pts_tfd_afl_esp.get_config("tiny")
    config.augmentation = dict(function="mine:louder", gain=3.0)
    Workdir(tmp_path).config.write_text(config.to_json())
    check_config(Workdir(tmp_path), config)
    config.augmentation.gain = 4.0
    with pytest.raises(InputError, match="config.augmentation.gain is 3.0 there and 4.0 here"):
        check_config(Workdir(tmp_path), config)
