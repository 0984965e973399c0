"""A table of the paper: every row trained, scored and put beside the paper's figures.

Runs live in ``W/runs/NAME-seedS``; each is a workdir like any other and resumes like any other, so
the same command goes on after a kill and trains nothing twice.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
from absl import logging

from jfsed_jax.errors import InputError
from jfsed_jax.experiments.planned_runs import plan_rows, plan_runs, run_folder
from jfsed_jax.experiments.result_files import write_files
from jfsed_jax.experiments.result_table import Measurements, make_table
from jfsed_jax.experiments.trained_runs import score_run
from jfsed_jax.runs.workdir import Workdir, check_config
from jfsed_jax.training.loop import fit


class Outcome(NamedTuple):
    """Runs that failed with why, and the files."""

    failures: dict[str, str]
    markdown: Path
    page: Path


def reproduce(
    table: int,
    data_dir: Path,
    workdir: Path,
    *,
    size: str = "paper",
    seeds: int = 1,
    systems: Iterable[int | str] = (),
    epochs: int | None = None,
    features_dir: Path | None = None,
) -> Outcome:
    """Trains what is not trained yet, scores what is not scored yet, writes the table.

    The table is written after every run, so that it can be read before all are done. A run that
    fails with an `InputError` is reported in its rows and does not stop the others.

    Args:
      table: of the paper, 1 to 3.
      data_dir: a folder in the DCASE 2019 layout.
      workdir: for ``runs/`` and ``tableN.md``, ``.tsv`` and ``.html``.
      size, epochs, systems: see `plan_rows`.
      seeds: runs of each system, with seeds 0 to `seeds` - 1.
      features_dir: see `preparation.prepare`; one folder per front end is made in it.

    Raises:
      InputError: the arguments are wrong, or a run of another config lies where one is to be.
      Interrupted: Ctrl-C or SIGTERM; run and table are saved, and the same call goes on.
    """
    rows = plan_rows(table, size, epochs=epochs, systems=systems)
    runs = plan_runs(rows, seeds)
    for run in runs:  # before hours of training, not after
        check_config(Workdir(run_folder(workdir, run.name)), run.config)
    measured = Measurements(table, size, data_dir.resolve().name, seeds, rows)

    def outcome() -> Outcome:
        return Outcome(measured.failures, *write_files(make_table(measured), measured, workdir))

    for number, run in enumerate(runs, 1):
        logging.info("run %d of %d: %s", number, len(runs), run.name)
        folder = run_folder(workdir, run.name)
        features = features_dir / _front_end_name(run.config) if features_dir else None
        try:
            fit(run.config, data_dir, folder, features_dir=features)
            measured.scores[run.name] = score_run(folder, data_dir, run.rules, features)
        except InputError as error:
            logging.error("%s: %s", run.name, error)
            measured.failures[run.name] = str(error)
        except KeyboardInterrupt:
            outcome()
            raise
        jax.clear_caches()  # the next run compiles its own programs
        outcome()
    return outcome()


def _front_end_name(config) -> str:
    """Features belong to one front end; hop and window tell those of the systems apart."""
    return f"hop{config.front_end.hop_length}-window{config.front_end.win_length}"
