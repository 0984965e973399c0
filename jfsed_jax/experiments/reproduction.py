"""A table of the paper: every row trained, scored and put beside the paper's figures.

Runs live in ``W/runs/NAME-seedS``; each is a workdir like any other and resumes like any other, so
the same command goes on after a kill and trains nothing twice. They are trained one after the other
in this process, or together as one program, or several side by side in processes of their own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import jax
from absl import logging

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets.preparation import prepare
from jfsed_jax.errors import InputError
from jfsed_jax.experiments.job_processes import Ended, Share, machine_shares, run_jobs
from jfsed_jax.experiments.planned_runs import (
    PlannedRun,
    one_program_each,
    plan_rows,
    plan_runs,
    run_folder,
)
from jfsed_jax.experiments.result_files import write_files
from jfsed_jax.experiments.result_table import Measurements, RunScores, make_table
from jfsed_jax.experiments.trained_runs import score_run
from jfsed_jax.runs.workdir import Workdir, check_config
from jfsed_jax.training.log import RunsLost
from jfsed_jax.training.loop import fit, fit_together

StartProcess = Callable[[int], None]


class Outcome(NamedTuple):
    """Runs that failed with why, and the files."""

    failures: dict[str, str]
    markdown: Path
    page: Path


class _Folders(NamedTuple):
    """The data, the workdir of the tables, the features; see `reproduce`."""

    data: Path
    work: Path
    features: Path | None

    def features_of(self, config) -> Path | None:
        """Features belong to one front end; hop and window tell those of the systems apart."""
        page = config.front_end
        name = f"hop{page.hop_length}-window{page.win_length}"
        return None if self.features is None else self.features / name


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
    jobs: int = 1,
    together: bool = False,
    start_process: StartProcess | None = None,
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
      jobs: runs side by side, each in a process of its own with its share of the cores, or a GPU.
      together: runs that differ in numbers and seeds alone train as one program, see
        `loop.fit_together`; each is scored as ever. Not with several `jobs`.
      start_process: what sets up such a process, given how many devices a CPU is to be; a function
        of a module. By default the devices are all that is set up.

    Raises:
      InputError: the arguments are wrong, a run of another config lies where one is to be, or the
        machine is too small for the jobs.
      Interrupted: Ctrl-C or SIGTERM; runs and table are saved, and the same call goes on.
    """
    if together and jobs > 1:
        raise InputError(
            f"--together trains runs in one process, --jobs={jobs} in {jobs}: leave one of them out"
        )
    rows = plan_rows(table, size, epochs=epochs, systems=systems)
    runs = plan_runs(rows, seeds)
    for run in runs:  # before hours of training, not after
        check_config(Workdir(run_folder(workdir, run.name)), run.config)
    measured = Measurements(table, size, data_dir.resolve().name, seeds, rows)
    folders = _Folders(data_dir, workdir, features_dir)

    def outcome() -> Outcome:
        return Outcome(measured.failures, *write_files(make_table(measured), measured, workdir))

    try:
        if together:
            each = _together(runs, folders)
        elif jobs == 1:
            each = _one_by_one(runs, folders)
        else:
            each = _side_by_side(runs, folders, machine_shares(jobs), start_process)
        for ended in each:
            if ended.error is None:
                measured.scores[ended.name] = ended.result
            else:
                logging.error("%s: %s", ended.name, ended.error)
                measured.failures[ended.name] = ended.error
            outcome()
    except KeyboardInterrupt:
        outcome()
        raise
    return outcome()


def _train_and_score(run: PlannedRun, folders: _Folders) -> RunScores:
    features = folders.features_of(run.config)
    fit(run.config, folders.data, run_folder(folders.work, run.name), features_dir=features)
    return _score(run, folders)


def _score(run: PlannedRun, folders: _Folders) -> RunScores:
    features = folders.features_of(run.config)
    return score_run(run_folder(folders.work, run.name), folders.data, run.rules, features)


def _one_by_one(runs: Sequence[PlannedRun], folders: _Folders) -> Iterator[Ended]:
    for number, run in enumerate(runs, 1):
        logging.info("run %d of %d: %s", number, len(runs), run.name)
        try:
            ended = Ended(run.name, _train_and_score(run, folders))
        except InputError as error:
            ended = Ended(run.name, error=str(error))
        jax.clear_caches()  # the next run compiles its own programs
        yield ended


def _together(runs: Sequence[PlannedRun], folders: _Folders) -> Iterator[Ended]:
    """Group by group: what can be one program is trained, then each of its runs scored."""
    groups = one_program_each(runs)
    for number, group in enumerate(groups, 1):
        names = [run.name for run in group]
        logging.info("program %d of %d: %s", number, len(groups), ", ".join(names))
        lost: dict[int, str] = {}
        try:
            fit_together(
                [run.config for run in group],
                folders.data,
                [run_folder(folders.work, name) for name in names],
                features_dir=folders.features_of(group[0].config),
            )
        except RunsLost as error:
            lost = error.why
        except InputError as error:
            lost = dict.fromkeys(range(len(group)), str(error))
        jax.clear_caches()
        for place, run in enumerate(group):
            if place in lost:
                yield Ended(run.name, error=lost[place])
                continue
            try:
                yield Ended(run.name, _score(run, folders))
            except InputError as error:
                yield Ended(run.name, error=str(error))
        jax.clear_caches()


def _side_by_side(
    runs: Sequence[PlannedRun],
    folders: _Folders,
    shares: list[Share],
    start_process: StartProcess | None,
) -> Iterator[Ended]:
    """The runs as jobs; the features of each front end are extracted before, once."""
    front_ends = [(FrontEnd(**r.config.front_end), folders.features_of(r.config)) for r in runs]
    for front_end, features in dict.fromkeys(front_ends):
        with suppress(InputError):  # each run says so itself
            prepare(folders.data, front_end, features_dir=features)
    jobs = {run.name: (run, folders, start_process) for run in runs}
    yield from run_jobs(jobs, _run_in_its_process, shares)


def _run_in_its_process(
    share: Share, run: PlannedRun, folders: _Folders, start_process: StartProcess | None
) -> RunScores:
    devices = run.config.cpu_devices
    if share.cores:
        devices = min(devices, len(share.cores))
    if start_process is None:
        jax.config.update("jax_num_cpu_devices", devices)
    else:
        start_process(devices)
    return _train_and_score(run, folders)
