"""Which rows a table of the paper has, which training runs they need, and where scores go.

Rows that differ in post-processing only share a run: systems 8 and 9, both sides of table 3, and
table 2's first and ``tau = 15, gamma = 2`` rows are runs of table 1 too. Table 1 begins with a
control that the paper does not have.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jfsed_jax.config_files import load_config
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import paper
from jfsed_jax.experiments.paper import PublishedScores
from jfsed_jax.method.numbers import apart

# The paper's development and evaluation sets, as a data folder calls them.
SPLITS = ("validation", "eval")
# The row of table 1 that is the student alone on labelled clips: what the others are to beat.
CONTROL = "control"
_CONTROL_ROW = (CONTROL, "student alone, labelled clips"), "supervised"
_NOT_IN_THE_PAPER = PublishedScores((None, None), (None, None), (None, None))
# The systems whose training other rows use too; they give the shared run its name.
_SHARED = ("pts_tfd", "pts_tfd_afl")


class PlannedRow(NamedTuple):
    """A row to measure; table 3 is measured as two, its sides.

    Attributes:
      lead: the cells that name the row.
      run: name of its training run, without the seed.
      config: of that run, at seed 0.
      rule: of the median windows that it is scored with.
      paper: what the paper has for it.
    """

    lead: tuple[str, ...]
    run: str
    config: Any
    rule: str
    paper: PublishedScores


class PlannedRun(NamedTuple):
    """A training run: its name (see `run_folder`), its config, the rules it is scored with."""

    name: str
    config: Any
    rules: tuple[str, ...]


def _config(name: str, size: str, epochs: int | None = None):
    """The config ``configs/NAME.py`` at a size, with another number of epochs if given."""
    config = load_config(f"{name}:{size}")
    if epochs is not None:
        config.epochs = epochs
    return config


def training_identity(config) -> str:
    """The config as JSON without what training does not depend on: two equal ones are one run.

    The window rule decides which checkpoint scores best on the held-out clips, nothing else; a
    shared run is selected with the rule of the system that gives it its name.
    """
    content = json.loads(config.to_json())
    del content["system"], content["postprocess"]["rule"]
    return json.dumps(content, sort_keys=True)


def plan_rows(
    table: int, size: str, *, epochs: int | None = None, systems: Iterable[int | str] = ()
) -> list[PlannedRow]:
    """The rows of a table; of table 3 its two sides, `avg` and `esp`.

    Args:
      table: 1, 2 or 3.
      size: of the configs.
      epochs: of every run, if not those of each config.
      systems: rows of table 1: `CONTROL` and numbers; all if empty.

    Raises:
      InputError: there is no such system, or systems are named for another table than 1.
    """
    wanted = list(dict.fromkeys(str(system).strip() for system in systems))
    known = [CONTROL, *(str(system.number) for system in paper.SYSTEMS)]
    if unknown := [system for system in wanted if system not in known]:
        raise InputError(
            f"--systems: no system {unknown[0]}; there are {CONTROL} and {known[1]} to "
            f"{known[-1]}, as {CONTROL},3,9"
        )
    if wanted and table != 1:
        raise InputError(f"--systems chooses rows of table 1; leave it out with --table={table}")

    def make(lead: tuple[str, ...], run: str, config, scores: PublishedScores) -> PlannedRow:
        rule = config.postprocess.rule
        for name in _SHARED:
            shared = _config(name, size, epochs)
            if training_identity(config) == training_identity(shared):
                run, config = name, shared
        return PlannedRow(lead, run, config, rule, scores)

    if table == 2:
        return [make(*row) for row in _focal_rows(size, epochs)]
    wanted = ["8", "9"] if table == 3 else wanted or known
    rows = [(*_CONTROL_ROW, _NOT_IN_THE_PAPER)]
    rows += [((str(s.number), s.title), s.config, s.scores) for s in paper.SYSTEMS]
    return [
        make(lead, name, _config(name, size, epochs), scores)
        for lead, name, scores in rows
        if lead[0] in wanted
    ]


def _focal_rows(
    size: str, epochs: int | None
) -> Iterator[tuple[tuple[str, str], str, Any, PublishedScores]]:
    """Lead, run, config and the paper's scores of each row of table 2."""
    for tau, gamma, scores in paper.FOCAL:
        if tau is None or gamma is None:
            config = _config("pts_tfd", size, epochs)
            yield ("never", "–"), "pts_tfd", config, scores
            continue
        config = _config("pts_tfd_afl", size, epochs)
        # In proportion to system 8's, which is 15 of the paper's 200 epochs, so that its own row
        # is its run at every size and length.
        config.loss.tau = float(config.loss.tau * (tau / paper.TAU))
        config.loss.gamma = float(gamma)
        name = f"pts_tfd_afl-tau{tau}-gamma{gamma}"
        config.system = name
        yield (str(tau), str(gamma)), name, config, scores


def one_program_each(runs: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
    """The runs in groups that differ in numbers of the step, seeds and post-processing alone."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in runs:
        common = json.dumps(apart(run.config), sort_keys=True, default=str)
        groups.setdefault(common, []).append(run)
    return list(groups.values())


def run_name(row: PlannedRow, seed: int) -> str:
    """The name of a row's training run."""
    return f"{row.run}-seed{seed}"


def run_folder(workdir: Path, name: str) -> Path:
    """Where the run of a name lies in the workdir of the tables."""
    return workdir / "runs" / name


def score_folder(trained_rule: str, rule: str) -> str:
    """Where `rule`'s scores lie in a run: ``eval`` if it trained so."""
    return "eval" if rule == trained_rule else f"eval-{rule}"


def plan_runs(rows: Sequence[PlannedRow], seeds: int) -> list[PlannedRun]:
    """Every training run that the rows need, once; seed by seed, in the order of the rows."""
    runs: dict[str, PlannedRun] = {}
    for seed in range(seeds):
        for row in rows:
            config = row.config.copy_and_resolve_references()
            config.seed = seed
            name = run_name(row, seed)
            rules = runs[name].rules if name in runs else ()
            runs[name] = PlannedRun(name, config, tuple(dict.fromkeys([*rules, row.rule])))
    return list(runs.values())
