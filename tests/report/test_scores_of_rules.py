"""The page of a run that was scored with several window rules, or with another than its own."""

import json
from pathlib import Path

import pytest
from html_page import ParsedPage

from jfsed_jax.report.run_page import write_report
from jfsed_jax.runs.saved_run import read_run


def make_run(folder: Path, **macros: float) -> Path:
    """A run of the avg rule with Event-F1 by folder, as eval_esp__validation=60.0."""
    folder.mkdir(exist_ok=True)
    (folder / "meta.json").write_text(json.dumps({"classes": ["Dog"]}))
    (folder / "config.json").write_text(json.dumps({"postprocess": {"rule": "avg"}}))
    for name, macro in macros.items():
        path = folder / name.replace("__", "/").replace("_", "-")
        path.mkdir(parents=True)
        score = {"macro": macro, "micro": macro, "classwise": {"Dog": macro}}
        (path / "scores.json").write_text(json.dumps({"event_f1": score}))
    return folder


def titles(folder: Path) -> list[str]:
    return [split.title for split in read_run(folder).splits]


def test_a_page_has_the_scores_of_every_rule_split_by_split_its_own_first(tmp_path):
    run = make_run(
        tmp_path, eval_aaa__eval=11.0, eval__eval=12.0, eval_esp__validation=13.0,
        eval__validation=14.0,
    )  # fmt: skip
    expected = ["Validation · avg", "Validation · esp", "Evaluation · avg", "Evaluation · aaa"]
    assert titles(run) == expected
    words = ParsedPage(write_report(run).read_text(encoding="utf-8")).words
    places = [words.index(f"{t} Event-F1 {m}") for t, m in zip(
        expected, ("14.0", "13.0", "12.0", "11.0"), strict=True
    )]  # fmt: skip
    assert places == sorted(places)
    own = [split.folder.path.relative_to(run).as_posix() for split in read_run(run).own_splits]
    assert own == ["eval/validation", "eval/eval"]


def test_a_run_that_another_rule_alone_scored_is_scored(tmp_path):
    run = make_run(tmp_path, eval_esp__validation=13.0)
    assert titles(run) == ["Validation · esp"] and read_run(run).own_splits == read_run(run).splits
    assert "Nothing is scored yet" not in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize("config", ["{}", '{"postprocess": {}}'])
def test_a_config_without_a_rule_leaves_its_scores_a_name(tmp_path, config):
    run = make_run(tmp_path, eval__eval=1.0, eval_esp__eval=2.0)
    (run / "config.json").write_text(config)
    assert titles(run) == ["Evaluation · own rule", "Evaluation · esp"]


def test_of_one_rule_a_title_is_that_of_the_split(tmp_path):
    assert titles(make_run(tmp_path, eval__mine=1.0, eval__eval=2.0)) == ["Evaluation", "mine"]
