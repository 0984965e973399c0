"""Steps from one to another, with everything that happens between two dispatches."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
from absl import logging

from jfsed_jax.errors import InputError
from jfsed_jax.hosts import ALONE, Hosts
from jfsed_jax.progress import progress_bar
from jfsed_jax.training.feed import Feed
from jfsed_jax.training.interrupt import Stop
from jfsed_jax.training.log import SELECTION, Log, RunsLost, StepMetrics, mean_values
from jfsed_jax.training.memory import release_freed_memory
from jfsed_jax.training.not_finite import checked
from jfsed_jax.training.profiling import Profile
from jfsed_jax.training.speed import Speed

FIRST = "the first step took"  # of a line that tells, also `experiments.start_up`, when it is done
_LOG_EVERY = 5  # dispatches between two reads of the metrics


@dataclass(frozen=True)
class Steps:
    """What the loop is made of.

    Attributes:
      feed: the batches.
      step_fns: ``(state, batch) -> (state, metrics)`` by the number of steps that a call takes.
      validate: ``state -> scores`` of each seed of each run; in place of those of a run that
        cannot be scored, why.
      where_it_began: a loss that is not finite, see `not_finite.where_it_began`.
      save: ``(step, state, selections)``: by the places of the runs to save how good each is, or
        None.
      log: where metrics go.
      total_steps, steps_per_epoch: how long.
      evaluate_every, checkpoint_every: steps between two evaluations, two checkpoints.
      batch_size, num_seeds: clips of a step, seeds of a run.
      where: the folder of the checkpoints, for messages.
      hosts: the processes that take the steps together.
      speed: what the log says of operations and energy.
      profile: what traces steps.
      runs: the names of those that take their steps together.
    """

    feed: Feed
    step_fns: Mapping[int, Callable]
    validate: Callable[[Any], Sequence[dict[str, float | None] | InputError]]
    where_it_began: Callable[[int, int, Callable[[], tuple[Any, Any]]], str]
    save: Callable[..., None]
    log: Log
    total_steps: int
    steps_per_epoch: int
    evaluate_every: int
    checkpoint_every: int
    batch_size: int
    num_seeds: int
    where: Path
    hosts: Hosts = ALONE
    speed: Speed = field(default_factory=Speed)
    profile: Profile = field(default_factory=lambda: Profile(None, Path()))
    runs: Sequence[str] = ("",)


def run_steps(state, start: int, steps: Steps, stop: Stop) -> int:
    """Steps from `start` on, with everything that happens between two dispatches.

    Returns:
      The step that was reached and saved: the last one, or that at which `stop` was set.
    """
    dispatch = max(steps.step_fns)
    metrics_log = StepMetrics(
        steps.log,
        steps.speed,
        num_seeds=steps.num_seeds,
        batch_size=steps.batch_size,
        steps_per_epoch=steps.steps_per_epoch,
        runs=steps.runs,
    )
    step = saved = start
    last = checked(start, state)
    selection: float | None = None

    with (
        progress_bar(
            total=steps.total_steps,
            initial=start,
            unit="step",
            desc="training",
            disable=not steps.hosts.first,
        ) as bar,
        ExitStack() as ended,
    ):
        ended.callback(lambda: steps.profile.close(step))

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

        def stopped(agreed: bool) -> bool:
            """Several processes stop at one step: where they all have read the last metrics."""
            if not steps.hosts.several:
                return stop.is_set()
            # A signal may come while the others are asked: it is heard the next time.
            had = steps.hosts.strongest(stop.signum) if agreed else None
            stop.signum = had or stop.signum
            return had is not None

        flushed = True
        while step < steps.total_steps and not stopped(flushed):
            # A dispatch ends where something happens between two steps; before that, what is too
            # little for a whole dispatch goes one by one, so that two programs are all there are.
            ends = (steps.evaluate_every, steps.checkpoint_every, steps.total_steps)
            room = min(every - step % every for every in ends)
            count = dispatch if room >= dispatch else 1
            steps.profile.before(step, count, state)
            before = time.monotonic()
            with steps.profile.around(step):
                drawn = steps.feed.draw(count)
                metrics_log.waited += time.monotonic() - before
                last.drawn.append((count, drawn))
                state, metrics = steps.step_fns[count](state, steps.feed.place(drawn))
            if step == start:
                jax.block_until_ready(metrics)
                seconds = time.monotonic() - before
                logging.info("%s %.1f s, with compilation", FIRST, seconds)
                release_freed_memory()  # what compilation has used
            step += count
            steps.profile.after(step, state)
            bar.update(count)
            pending = metrics_log.add(range(step - count + 1, step + 1), metrics)
            evaluating = step % steps.evaluate_every == 0 or step == steps.total_steps
            saving = evaluating or step % steps.checkpoint_every == 0
            flushed = pending >= _LOG_EVERY or saving
            if flushed:
                flush()
            if evaluating:
                scores = steps.validate(state)
                for k, found in enumerate(scores):
                    run = k // steps.num_seeds
                    if isinstance(found, InputError) and run not in metrics_log.lost:
                        reason = f"validation at step {step}: {found}; {what_is_safe()}"
                        metrics_log.lose(run, reason)
                kept = metrics_log.kept(scores)
                steps.log.write("validation", step, kept, {"epoch": step // steps.steps_per_epoch})
                selections = _selections(kept, steps.num_seeds)
                selection = sum(selections.values()) / len(selections)
                metrics_log.restart_clock()
            if saving:
                others = dict.fromkeys(metrics_log.alive())
                steps.save(step, state, selections if evaluating else others)
                saved = step
        flush()
        if step > saved:
            steps.save(step, state, dict.fromkeys(metrics_log.alive()))
    if metrics_log.lost and step == steps.total_steps:
        raise RunsLost(metrics_log.lost, steps.runs)
    return step


def _selections(scores: Sequence[Any], num_seeds: int) -> dict[int, float]:
    """How good each run is, by its place: the mean of its seeds, which share their checkpoints."""
    by_run = [scores[i : i + num_seeds] for i in range(0, len(scores), num_seeds)]
    found = {m: mean_values(own)[SELECTION] for m, own in enumerate(by_run) if own[0] is not None}
    return {m: value or 0.0 for m, value in found.items()}
