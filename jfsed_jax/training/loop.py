"""The training loop: restore, step, log, evaluate, save.

A run is its workdir. The same call on the same workdir goes on where it stopped: the batches, the
random keys and the schedules are functions of the step, so the result is that of an uninterrupted
run to the bit.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
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
from jfsed_jax.inference.prediction import make_posteriors
from jfsed_jax.method import parallel
from jfsed_jax.method.optimisers import averaged
from jfsed_jax.method.state import (
    TrainState,
    initial_state,
    model_variables,
    run_keys,
    state_of_seed,
)
from jfsed_jax.method.step import train_step
from jfsed_jax.method.system import Handed
from jfsed_jax.runs import checkpoints, lock
from jfsed_jax.runs.recovery import restore_newest
from jfsed_jax.runs.workdir import NotWritten, Workdir, check_config, check_format, write_json
from jfsed_jax.sed.postprocessing import Decode
from jfsed_jax.training.feed import batch_specs, make_feed
from jfsed_jax.training.interrupt import Interrupted, stop_on_signals
from jfsed_jax.training.log import open_log
from jfsed_jax.training.memory import release_freed_memory
from jfsed_jax.training.not_finite import where_it_began
from jfsed_jax.training.origin import (
    Origin,
    check_origin,
    read_origin,
    remembered,
    started_from,
)
from jfsed_jax.training.plan import Plan, check_resume, check_values, identity, make_plan
from jfsed_jax.training.profiling import Traced, make_profile
from jfsed_jax.training.speed import make_speed
from jfsed_jax.training.steps import Steps, run_steps
from jfsed_jax.training.validation import validate


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
      config: as ``configs/base.py`` lays it out.
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
    files = Workdir(Path(workdir))
    hosts = Hosts.here()
    with hosts.watched(), ExitStack() as held:

        def begin() -> FrontEnd:
            front_end = FrontEnd(**config.front_end)
            check_values(config, **handed)
            if hosts.first:
                held.enter_context(lock.hold(files))
            else:
                lock.check_shared(files)
            check_config(files, config)
            return front_end

        front_end = hosts.in_turn(begin)
        anew = checkpoints.newest_on_disk(files) is None
        source = Path(init_from) if init_from is not None else None
        if hosts.several:
            hosts.check_same(
                {
                    "the lock of the workdir": lock.holder(files),
                    "whether it holds checkpoints": not anew,
                    "init_from given": source is not None,
                    "jfsed_jax": __version__,
                    "jax": jax.__version__,
                }
            )
        # Before anything that one process alone may refuse: JAX waits here for all of them.
        logging.info("%s", hosts.split_of(sum(config.batch.values()), jax.devices()))
        weights = source if anew else None
        origin = hosts.agree(lambda: read_origin(weights, front_end) if weights else None)
        make = partial(prepare, Path(data_dir), front_end)
        prepared = hosts.in_turn(partial(make, features_dir=features_dir, strict=strict))
        plan = hosts.agree(lambda: make_plan(config, prepared, Path(data_dir), files, **handed))
        if hosts.several:
            hosts.check_same(identity(plan.meta))
        try:
            with hosts.waits_for_reason(NotWritten):
                _train(plan, files, hosts, decode, source, origin, profile)
        except NotWritten as error:
            raise InputError(f"{error}; {_what_is_safe(files, plan.total_steps)}") from error


def _what_is_safe(files: Workdir, total_steps: int) -> str:
    step = checkpoints.newest_on_disk(files)
    if step is None:
        return "no checkpoint had been saved: once there is room, the same command begins anew"
    return (
        f"safe is the checkpoint of step {step} of {total_steps}: once there is room, the same "
        "command goes on from there"
    )


def _train(
    plan: Plan,
    files: Workdir,
    hosts: Hosts,
    decode: Decode | None,
    source: Path | None,
    origin: Origin | None,
    profile: Traced | None,
) -> None:
    config = plan.config
    mesh = parallel.make_mesh()
    with (
        stop_on_signals() as stop,
        checkpoints.open_manager(files, training=True) as manager,
    ):
        state, start, begun = _first_state(plan, files, hosts, manager, mesh, source, origin)
        if begun is not None:
            plan = replace(plan, meta=plan.meta | {"init_from": begun})
        release_freed_memory()  # what compiling the initial state has used
        hosts.agree(lambda: _write_meta(plan, files) if hosts.first else None)
        if start >= plan.total_steps:
            logging.info("%s: all %d steps are done", files.path, plan.total_steps)
            return
        with open_log(files, start, config.num_seeds, writes=hosts.first) as log:
            reached = run_steps(
                state,
                start,
                Steps(
                    feed=make_feed(plan, mesh, start),
                    step_fns=_step_fns(plan, mesh),
                    validate=_validation(plan, decode),
                    where_it_began=partial(where_it_began, plan, mesh),
                    save=partial(checkpoints.save, manager, meta=plan.meta),
                    log=log,
                    total_steps=plan.total_steps,
                    steps_per_epoch=plan.steps_per_epoch,
                    evaluate_every=config.evaluation.every_epochs * plan.steps_per_epoch,
                    checkpoint_every=config.checkpoint_every_steps,
                    batch_size=sum(config.batch.values()),
                    num_seeds=config.num_seeds,
                    where=files.checkpoints,
                    hosts=hosts,
                    speed=make_speed(plan.models, *plan.input_shape, config.compute_dtype, hosts),
                    profile=make_profile(
                        profile, files.profile, start, plan.total_steps, writes=hosts.first
                    ),
                ),
                stop,
            )
    # All that was saved is on the disk.
    if stop.signum is not None and reached < plan.total_steps:
        raise Interrupted(
            f"stopped{' and saved' if reached else ''} at step {reached} of {plan.total_steps}: "
            "the same command goes on",
            stop.signum,
        )


def _first_state(
    plan: Plan,
    files: Workdir,
    hosts: Hosts,
    manager,
    mesh,
    source: Path | None,
    origin: Origin | None,
) -> tuple[TrainState, int, dict[str, Any] | None]:
    """The state to start from, on the mesh, its step, and what its weights first came from.

    It is the newest checkpoint's, or a new one.
    """
    init = partial(initial_state, plan.system, input_shape=plan.input_shape)
    key = run_keys(plan.config.seed, plan.config.num_seeds)

    def read(step: int) -> dict[str, Any]:
        meta = checkpoints.read_meta(manager, step)
        check_format(meta, files.path)
        check_resume(meta, plan.meta, files)
        check_origin(meta, source, files)
        return meta

    def restore(step: int, meta: dict[str, Any]) -> tuple[TrainState, dict[str, Any] | None]:
        abstract = jax.eval_shape(init, key)
        found = check_format(meta, files.path)
        state = checkpoints.restore_state(manager, step, abstract, mesh, found)
        return state, meta.get("init_from")

    restored = restore_newest(manager, files, read, restore, hosts)
    if restored is not None:
        (state, begun), step = restored
        logging.info("resumed %s at step %d of %d", files.path, step, plan.total_steps)
        return state, step, begun
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    if origin is None:
        return jax.jit(init, out_shardings=everywhere)(key), 0, None
    classes = plan.prepared.classes
    state = started_from(
        jax.jit(init)(key), origin, plan.system, classes=classes, input_shape=plan.input_shape
    )
    new = [label for label in classes if label not in origin.classes]
    logging.info(
        "%s starts from the weights of %s, step %d; at random begin the outputs of %s",
        files.path,
        origin.path,
        origin.step,
        ", ".join(new) or "no class",
    )
    return jax.device_put(state, everywhere), 0, remembered(origin, files)


def _write_meta(plan: Plan, files: Workdir) -> None:
    """``config.json``, ``meta.json`` and, of several, what each seed has for itself."""
    write_json(files.config, plan.meta["config"], allow_nan=True)
    write_json(files.meta, plan.meta, allow_nan=True)
    num_seeds = plan.config.num_seeds
    for k in range(num_seeds if num_seeds > 1 else 0):
        own = files.seed(k, num_seeds)
        write_json(own.config, plan.meta["config"], allow_nan=True)
        write_json(own.meta, plan.meta | {"seed": k}, allow_nan=True)


def _step_fns(plan: Plan, mesh) -> dict[int, Callable]:
    """``(state, batch) -> (state, metrics)`` by the number of steps that a call takes."""
    config = plan.config
    step: Callable = partial(train_step, system=plan.system, axis_name=parallel.AXIS)
    if config.num_seeds > 1:
        step = parallel.several_seeds(step, share_batch=config.seeds_share_batch)
    one, several = batch_specs(config)
    compiled = {1: parallel.data_parallel(step, mesh, one)}
    if config.steps_per_dispatch > 1:
        several_steps = parallel.data_parallel(parallel.scanned(step), mesh, several)
        compiled[config.steps_per_dispatch] = several_steps
    key = run_keys(config.seed, config.num_seeds)
    return {count: partial(_with_key, fn, key) for count, fn in compiled.items()}


def _with_key(step: Callable, key: jax.Array, state, batch):
    return step(state, batch, key)


def _validation(plan: Plan, decode: Decode | None) -> Callable[[TrainState], list[dict]]:
    """``state -> scores`` of each seed on the clips that it selects by."""
    page = plan.config.evaluation
    posteriors = make_posteriors(plan.models, page.model, page.tags)
    decode = decode or plan.decoder()
    options = {
        "gate": plan.config.postprocess.gate,
        "stride": round(plan.prepared.front_end.frame_rate / plan.meta["frame_rate"]),
    }

    def scores_of(state: TrainState) -> list[dict]:
        scores = []
        for k, own in enumerate(plan.data):
            seed = state_of_seed(state, k)
            variables = model_variables(
                seed.params,
                seed.batch_stats,
                averaged(seed.opt_state),
                use_average=page.average,
            )
            scores.append(
                validate(
                    posteriors, variables, own, plan.prepared, decode, page.select_by, **options
                )
            )
        return scores

    return scores_of
