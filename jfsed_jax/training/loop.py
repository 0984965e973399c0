"""The training loop: restore, step, log, evaluate, save; of one run, or of several together.

A run is its workdir. The same call on the same workdir goes on where it stopped: the batches, the
random keys and the schedules are functions of the step, so the result is that of an uninterrupted
run to the bit.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import jax
import ml_collections
from absl import logging

from jfsed_jax import __version__
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets.preparation import prepare
from jfsed_jax.errors import InputError
from jfsed_jax.hosts import Hosts
from jfsed_jax.method import parallel
from jfsed_jax.method.numbers import differing, member_configs
from jfsed_jax.method.system import Handed
from jfsed_jax.runs import checkpoints, lock
from jfsed_jax.runs.workdir import NotWritten, Workdir, check_config
from jfsed_jax.sed.postprocessing import Decode
from jfsed_jax.training.feed import make_feed
from jfsed_jax.training.interrupt import Interrupted, Stop, stop_on_signals
from jfsed_jax.training.log import RunsLost, open_log
from jfsed_jax.training.memory import release_freed_memory
from jfsed_jax.training.not_finite import where_it_began
from jfsed_jax.training.origin import (
    Origin,
    read_origin,
    remembered,
)
from jfsed_jax.training.plan import Plan, check_values, identity, make_plan
from jfsed_jax.training.profiling import Traced, make_profile
from jfsed_jax.training.program import (
    check_program,
    initial_states,
    make_program,
    step_fns,
)
from jfsed_jax.training.selecting import make_validation
from jfsed_jax.training.speed import make_speed
from jfsed_jax.training.starting import Run, Standing, from_origin, where_they_stand, write_meta
from jfsed_jax.training.steps import Steps, run_steps


def fit(
    config: ml_collections.ConfigDict,
    data_dir: str | Path,
    workdir: str | Path,
    *,
    features_dir: str | Path | None = None,
    strict: bool = False,
    init_from: str | Path | None = None,
    decode: Decode | None = None,
    profile: Traced | None = None,
    **handed: Unpack[Handed],
) -> None:
    """Trains a system, or goes on training it, until all steps are done.

    Args:
      config: as ``configs/base.py`` lays it out. Each of its ``members`` is a run of its own, in
        ``members/M`` of the workdir, see `fit_together`.
      data_dir: a folder in the DCASE 2019 layout.
      workdir: of this run.
      features_dir, strict: see `preparation.prepare`.
      init_from: the workdir of a run whose weights a new one starts from, see `origin`. One that
        goes on does so as it was begun, with this or without.
      decode: in place of the config's decoder, for the scores that select.
      profile: steps to trace, into the workdir.
      handed: values in place of those that the config names, see `system.Handed`. A workdir
        remembers their names and no more: to go on, hand in the same.

    Raises:
      InputError: data, config, workdir or `init_from` do not fit; another process trains there; a
        loss is not finite; the disk is full. Of several processes all raise what is refused before
        the first step; of what ends one of them later the others are told (`Hosts.watched`).
      Interrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    options: dict[str, Any] = {"features_dir": features_dir, "strict": strict} | handed
    options |= {"init_from": init_from, "decode": decode, "profile": profile}
    files = Workdir(Path(workdir))
    configs = member_configs(config)
    if not configs:
        if there := files.members():
            raise InputError(
                f"{files.path} holds runs of config.members, as {_name(there[0])}: repeat them, "
                "or choose another --workdir"
            )
        return fit_together([config], data_dir, [files.path], **options)
    if checkpoints.newest_on_disk(files) is not None:
        raise InputError(
            f"{files.path} holds a run without config.members: choose another --workdir"
        )
    folders = [files.member(m).path for m in range(len(configs))]
    for left in files.members():
        if left.path not in folders:
            logging.warning(
                "%s is of no member of the config any more: it stays as it is", left.path
            )
    return fit_together(configs, data_dir, folders, **options)


def fit_together(
    configs: Sequence[ml_collections.ConfigDict],
    data_dir: str | Path,
    workdirs: Sequence[str | Path],
    *,
    features_dir: str | Path | None = None,
    strict: bool = False,
    init_from: str | Path | None = None,
    decode: Decode | None = None,
    profile: Traced | None = None,
    **handed: Unpack[Handed],
) -> None:
    """Trains runs that differ in numbers of the step, seeds and post-processing, as one program.

    Each has a workdir like any other, and chooses its best checkpoint for itself. Runs that stand
    at other steps than the rest go on in a program of their own, those that are done stay as they
    are. A run that cannot go on does not stop the others.

    Args:
      configs, workdirs: of each run.
      data_dir, features_dir, strict, init_from, decode, handed: see `fit`.
      profile: see `fit`; into the workdir of the first.

    Raises:
      InputError: as `fit`; or the configs differ in what cannot be an argument of one program.
      RunsLost: some could not go on, the others are done.
      Interrupted: as `fit`.
    """
    folders = [Workdir(Path(workdir)) for workdir in workdirs]
    hosts = Hosts.here()
    with hosts.watched(), ExitStack() as held:

        def begin() -> FrontEnd:
            front_end = FrontEnd(**configs[0].front_end)
            for config, files in zip(configs, folders, strict=True):
                check_values(config, **handed)
                if hosts.first:
                    held.enter_context(lock.hold(files))
                else:
                    lock.check_shared(files)
                check_config(files, config)
            differing(configs)
            return front_end

        front_end = hosts.in_turn(begin)
        anew = [checkpoints.newest_on_disk(files) is None for files in folders]
        source = Path(init_from) if init_from is not None else None
        if hosts.several:
            hosts.check_same(
                {
                    "the lock of the workdir": "; ".join(map(lock.holder, folders)),
                    "whether it holds checkpoints": [not new for new in anew]
                    if len(anew) > 1
                    else not anew[0],
                    "init_from given": source is not None,
                    "jfsed_jax": __version__,
                    "jax": jax.__version__,
                }
            )
        # Before anything that one process alone may refuse: JAX waits here for all of them.
        logging.info("%s", hosts.split_of(sum(configs[0].batch.values()), jax.devices()))
        weights = source if any(anew) else None
        origin = hosts.agree(lambda: read_origin(weights, front_end) if weights else None)
        make = partial(prepare, Path(data_dir), front_end)
        prepared = hosts.in_turn(partial(make, features_dir=features_dir, strict=strict))

        def plan_all() -> list[Plan]:
            plans = [
                make_plan(config, prepared, Path(data_dir), files, **handed)
                for config, files in zip(configs, folders, strict=True)
            ]
            if len(plans) > 1:
                check_program(plans)
            return plans

        plans = hosts.agree(plan_all)
        if hosts.several:
            for plan in plans:
                hosts.check_same(identity(plan.meta))
        try:
            with hosts.waits_for_reason(NotWritten):
                _train(plans, folders, hosts, decode, source, origin, profile)
        except NotWritten as error:
            safe = _what_is_safe(folders, plans[0].total_steps)
            raise InputError(f"{error}; {safe}") from error


def _what_is_safe(folders: Sequence[Workdir], total_steps: int) -> str:
    step = min(checkpoints.newest_on_disk(files) or 0 for files in folders)
    if not step:
        return "no checkpoint had been saved: once there is room, the same command begins anew"
    return (
        f"safe is the checkpoint of step {step} of {total_steps}: once there is room, the same "
        "command goes on from there"
    )


def _train(
    plans: Sequence[Plan],
    folders: Sequence[Workdir],
    hosts: Hosts,
    decode: Decode | None,
    source: Path | None,
    origin: Origin | None,
    profile: Traced | None,
) -> None:
    mesh = parallel.make_mesh()
    total_steps = plans[0].total_steps
    names = [_name(files) if len(plans) > 1 else "" for files in folders]
    lost: dict[int, str] = {}
    with stop_on_signals() as stop, ExitStack() as opened:
        runs = [
            Run(
                plan,
                files,
                opened.enter_context(checkpoints.open_manager(files, training=True)),
                name,
            )
            for plan, files, name in zip(plans, folders, names, strict=True)
        ]
        found = where_they_stand(runs, hosts, mesh, source)
        reached = [one.step for one in found]
        for step in sorted({*reached}, reverse=True):
            places = [m for m, one in enumerate(found) if one.step == step]
            group, own = [runs[m] for m in places], [found[m] for m in places]
            try:
                now = _train_from(group, own, hosts, mesh, decode, origin, profile, stop)
            except RunsLost as error:
                lost |= {places[m]: why for m, why in error.why.items()}
                now = total_steps  # with those that are not lost
            for m in places:
                reached[m] = now
            if hosts.several:
                stop.signum = hosts.strongest(stop.signum)
            if stop.is_set():
                break
    # All that was saved is on the disk.
    if stop.signum is not None and (step := min(reached)) < total_steps:
        raise Interrupted(
            f"stopped{' and saved' if step else ''} at step {step} of {total_steps}: the same "
            "command goes on",
            stop.signum,
        )
    if lost:
        raise RunsLost(lost, names)


def _train_from(
    runs: Sequence[Run],
    found: Sequence[Standing],
    hosts: Hosts,
    mesh,
    decode: Decode | None,
    origin: Origin | None,
    profile: Traced | None,
    stop: Stop,
) -> int:
    """Trains runs that stand at one step; the step that they reached."""
    program = make_program([run.plan for run in runs], jax.default_backend())
    plan, files, start = runs[0].plan, runs[0].files, found[0].step
    config = plan.config
    states = [one.state for one in found if one.state is not None]
    begun = [one.begun for one in found]
    if not states:
        states = initial_states(program, mesh)
        if origin is not None:
            states = [
                from_origin(run, state, origin, mesh)
                for run, state in zip(runs, states, strict=True)
            ]
            begun = [remembered(origin, run.files) for run in runs]
    metas = [
        run.plan.meta | ({} if one is None else {"init_from": one})
        for run, one in zip(runs, begun, strict=True)
    ]
    release_freed_memory()  # what compiling the initial state has used

    def write_metas() -> None:
        for run, meta in zip(runs, metas, strict=True):
            write_meta(meta, run.files)

    hosts.agree(lambda: write_metas() if hosts.first else None)
    if start >= plan.total_steps:
        for run in runs:
            logging.info("%s: all %d steps are done", run.files.path, plan.total_steps)
        return start
    others = [run.files for run in runs[1:]]

    def why(number: int, model: int, before: Callable[[], tuple[Any, Any]]) -> str:
        m, seed = divmod(model, config.num_seeds)
        alone = program.alone
        return where_it_began(runs[m].plan, mesh, number, seed, lambda: alone(m, *before()))

    def save(step: int, state: Any, selections: Mapping[int, float | None]) -> None:
        for run in runs if others else []:  # so that none is two checkpoints ahead of another
            checkpoints.wait(run.manager)
        for m, selection in selections.items():
            manager, own = runs[m].manager, program.of_run(state, m)
            checkpoints.save(manager, step, own, meta=metas[m], selection=selection)

    with open_log(files, start, config.num_seeds, others=others, writes=hosts.first) as log:
        return run_steps(
            program.joined(states),
            start,
            Steps(
                feed=make_feed(plan, mesh, start, *program.plans[1:]),
                step_fns=step_fns(program, mesh),
                validate=make_validation(program, decode),
                where_it_began=why,
                save=save,
                log=log,
                total_steps=plan.total_steps,
                steps_per_epoch=plan.steps_per_epoch,
                evaluate_every=config.evaluation.every_epochs * plan.steps_per_epoch,
                checkpoint_every=config.checkpoint_every_steps,
                batch_size=sum(config.batch.values()),
                num_seeds=config.num_seeds,
                where=files.path.parent if others else files.checkpoints,
                hosts=hosts,
                speed=make_speed(plan.models, *plan.input_shape, config.compute_dtype, hosts),
                profile=make_profile(
                    profile, files.profile, start, plan.total_steps, writes=hosts.first
                ),
                runs=[run.name for run in runs],
            ),
            stop,
        )


def _name(files: Workdir) -> str:
    """What messages call one of several runs."""
    path = files.path
    return f"{path.parent.name}/{path.name}" if path.name.isdecimal() else path.name
