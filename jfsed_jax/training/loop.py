"""The training loop: restore, step, log, evaluate, save.

A run is its workdir. The same call on the same workdir goes on where it stopped: the batches, the
random keys and the schedules are functions of the step, so the result is that of an uninterrupted
run to the bit.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import jax
import ml_collections
from absl import logging

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets.preparation import prepare
from jfsed_jax.errors import InputError
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
from jfsed_jax.progress import progress_bar
from jfsed_jax.runs import checkpoints, lock
from jfsed_jax.runs.recovery import restore_newest
from jfsed_jax.runs.workdir import NotWritten, Workdir, check_config, check_format, write_json
from jfsed_jax.sed.postprocessing import Decode
from jfsed_jax.training.feed import Feed, batch_specs, make_feed
from jfsed_jax.training.interrupt import Interrupted, Stop, stop_on_signals
from jfsed_jax.training.log import RunLog, StepMetrics, mean_values, open_log
from jfsed_jax.training.memory import release_freed_memory
from jfsed_jax.training.not_finite import checked, where_it_began
from jfsed_jax.training.origin import (
    Origin,
    check_origin,
    read_origin,
    remembered,
    started_from,
)
from jfsed_jax.training.plan import Plan, check_resume, check_values, make_plan
from jfsed_jax.training.validation import validate

_LOG_EVERY = 5  # dispatches between two reads of the metrics


def fit(
    config: ml_collections.ConfigDict,
    data_dir: str | Path,
    workdir: str | Path,
    *,
    features_dir: str | Path | None = None,
    strict: bool = False,
    init_from: str | Path | None = None,
    decode: Decode | None = None,
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
      handed: values in place of those that the config names, see `system.Handed`. A workdir
        remembers their names and no more: to go on, hand in the same.

    Raises:
      InputError: data, config, workdir or `init_from` do not fit; another process trains there; a
        loss is not finite; the disk is full.
      Interrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    files = Workdir(Path(workdir))
    front_end = FrontEnd(**config.front_end)
    check_values(config, **handed)
    # Of several hosts the first one holds the folder for all.
    alone = not jax.distributed.is_initialized() or jax.process_index() == 0
    with lock.hold(files) if alone else nullcontext():
        check_config(files, config)
        source = Path(init_from) if init_from is not None else None
        origin = None
        if source is not None and checkpoints.newest_on_disk(files) is None:
            origin = read_origin(source, front_end)
        prepared = prepare(Path(data_dir), front_end, features_dir=features_dir, strict=strict)
        plan = make_plan(config, prepared, Path(data_dir), files, **handed)
        try:
            _train(plan, files, decode, source, origin)
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
    plan: Plan, files: Workdir, decode: Decode | None, source: Path | None, origin: Origin | None
) -> None:
    config = plan.config
    mesh = parallel.make_mesh()
    with (
        stop_on_signals() as stop,
        checkpoints.open_manager(files, training=True) as manager,
    ):
        state, start, begun = _first_state(plan, files, manager, mesh, source, origin)
        if begun is not None:
            plan = replace(plan, meta=plan.meta | {"init_from": begun})
        release_freed_memory()  # what compiling the initial state has used
        _write_meta(plan, files)
        if start >= plan.total_steps:
            logging.info("%s: all %d steps are done", files.path, plan.total_steps)
            return
        with open_log(files, start, config.num_seeds) as log:
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
    plan: Plan, files: Workdir, manager, mesh, source: Path | None, origin: Origin | None
) -> tuple[TrainState, int, dict[str, Any] | None]:
    """The state to start from, on the mesh, its step, and what its weights first came from.

    It is the newest checkpoint's, or a new one.
    """
    init = partial(initial_state, plan.system, input_shape=plan.input_shape)
    key = run_keys(plan.config.seed, plan.config.num_seeds)

    def restore(step: int) -> tuple[TrainState, dict[str, Any] | None]:
        meta = checkpoints.read_meta(manager, step)
        found = check_format(meta, files.path)
        check_resume(meta, plan.meta, files)
        check_origin(meta, source, files)
        abstract = jax.eval_shape(init, key)
        state = checkpoints.restore_state(manager, step, abstract, mesh, found)
        return state, meta.get("init_from")

    restored = restore_newest(manager, files, restore)
    if restored is not None:
        (state, begun), step = restored
        logging.info("resumed %s at step %d of %d", files.path, step, plan.total_steps)
        return state, step, begun
    state, begun = jax.jit(init)(key), None
    if origin is not None:
        classes = plan.prepared.classes
        state = started_from(
            state, origin, plan.system, classes=classes, input_shape=plan.input_shape
        )
        begun = remembered(origin, files)
        new = [label for label in classes if label not in origin.classes]
        logging.info(
            "%s starts from the weights of %s, step %d; at random begin the outputs of %s",
            files.path,
            origin.path,
            origin.step,
            ", ".join(new) or "no class",
        )
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(state, everywhere), 0, begun


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


@dataclass(frozen=True)
class Steps:
    """What the loop is made of.

    Attributes:
      feed: the batches.
      step_fns: ``(state, batch) -> (state, metrics)`` by the number of steps that a call takes.
      validate: ``state -> scores`` of each seed.
      where_it_began: a loss that is not finite, see `not_finite.where_it_began`.
      save: ``(step, state, selection=...)``.
      log: where metrics go.
      total_steps, steps_per_epoch: how long.
      evaluate_every, checkpoint_every: steps between two evaluations, two checkpoints.
      batch_size, num_seeds: clips of a step, seeds in it.
      where: the folder of the checkpoints, for messages.
    """

    feed: Feed
    step_fns: Mapping[int, Callable]
    validate: Callable[[Any], Sequence[dict[str, float | None]]]
    where_it_began: Callable[[int, int, Callable[[], tuple[Any, Any]]], str]
    save: Callable[..., None]
    log: RunLog
    total_steps: int
    steps_per_epoch: int
    evaluate_every: int
    checkpoint_every: int
    batch_size: int
    num_seeds: int
    where: Path


def run_steps(state, start: int, steps: Steps, stop: Stop) -> int:
    """Steps from `start` on, with everything that happens between two dispatches.

    Returns:
      The step that was reached and saved: the last one, or that at which `stop` was set.
    """
    dispatch = max(steps.step_fns)
    metrics_log = StepMetrics(
        steps.log,
        num_seeds=steps.num_seeds,
        batch_size=steps.batch_size,
        steps_per_epoch=steps.steps_per_epoch,
    )
    step = saved = start
    last = checked(start, state)
    selection: float | None = None

    with progress_bar(total=steps.total_steps, initial=start, unit="step", desc="training") as bar:

        def what_is_safe() -> str:
            if not saved:
                return f"{steps.where} holds no checkpoint yet"
            return f"the last good checkpoint is step {saved} of {steps.where}"

        def why(number: int, k: int) -> str:
            before = partial(last.before, number, steps.step_fns, steps.feed)
            return f"{steps.where_it_began(number, k, before)}; {what_is_safe()}"

        def flush() -> None:
            nonlocal last
            told = metrics_log.flush(why)
            if told is not None:
                last = checked(step, state)
                chosen = "" if selection is None else f", selection {selection:.1f}"
                bar.set_postfix_str(told + chosen)

        while step < steps.total_steps and not stop.is_set():
            # A dispatch ends where something happens between two steps; before that, what is too
            # little for a whole dispatch goes one by one, so that two programs are all there are.
            ends = (steps.evaluate_every, steps.checkpoint_every, steps.total_steps)
            room = min(every - step % every for every in ends)
            count = dispatch if room >= dispatch else 1
            before = time.monotonic()
            drawn = steps.feed.draw(count)
            metrics_log.waited += time.monotonic() - before
            last.drawn.append((count, drawn))
            state, metrics = steps.step_fns[count](state, steps.feed.place(drawn))
            if step == start:
                release_freed_memory()  # what compilation has used
            step += count
            bar.update(count)
            pending = metrics_log.add(range(step - count + 1, step + 1), metrics)
            evaluating = step % steps.evaluate_every == 0 or step == steps.total_steps
            saving = evaluating or step % steps.checkpoint_every == 0
            if pending >= _LOG_EVERY or saving:
                flush()
            if evaluating:
                try:
                    scores = steps.validate(state)
                except InputError as error:
                    raise InputError(
                        f"validation at step {step}: {error}; {what_is_safe()}"
                    ) from error
                # Seeds share their checkpoints, and so the step that is best: by the mean.
                selection = mean_values(scores)["selection"]
                common = {"selection": selection, "epoch": step // steps.steps_per_epoch}
                steps.log.write("validation", step, scores, common)
                metrics_log.restart_clock()
            if saving:
                steps.save(step, state, selection=selection if evaluating else None)
                saved = step
        flush()
        if step > saved:
            steps.save(step, state)
    return step
