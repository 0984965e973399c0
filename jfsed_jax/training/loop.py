"""The training loop: restore, step, log, evaluate, save.

A run is its workdir. The same command on the same workdir goes on where it stopped: the batches,
the random keys and the schedules are functions of the step, so the result is that of an
uninterrupted run to the bit.
"""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from jfsed_jax import datasets
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets import pipeline
from jfsed_jax.errors import InputError
from jfsed_jax.inference import detector as predict
from jfsed_jax.kernels.bigru import LOOPS
from jfsed_jax.method import step as train_step
from jfsed_jax.method.memory import keep_freed_memory, release_freed_memory
from jfsed_jax.method.models import feature_shares, time_pooling
from jfsed_jax.method.state import TrainState, state_of_seed
from jfsed_jax.runs import checkpoints
from jfsed_jax.sed import postprocessing as post
from jfsed_jax.sed import scoring, window_rules
from jfsed_jax.training.log import RunLog, mean_values

# The training sets of a data folder and what a batch calls them.
KINDS = {"weak": "weak", "unlabelled": "unlabel_in_domain", "strong": "synthetic"}


@dataclass(frozen=True)
class TrainingData:
    """The clips that a run trains on and selects by.

    Attributes:
      train: sources by kind (`KINDS`), without the held-out clips; kinds without clips are absent.
      held: clips to select by, likewise.
    """

    train: dict[str, pipeline.Subset]
    held: dict[str, pipeline.Subset]


def data_seed(config, k: int) -> int:
    """The seed of the hold-out and of the order of the clips, of the run's seed number `k`."""
    return config.seed if config.seeds_share_batch else config.seed + k


def seed_folder(workdir: Path, config, k: int) -> Path:
    """Where the logs and scores of seed `k` go: the workdir itself, or of several ``seeds/k``."""
    return workdir if config.num_seeds == 1 else workdir / "seeds" / str(k)


def split_data(prepared: datasets.Prepared, config, k: int = 0) -> TrainingData:
    """Holds out `evaluation.holdout` of the weak and of the strong clips, as seed `k` does."""
    share, seed = config.evaluation.holdout, data_seed(config, k)
    train, held = {}, {}
    for number, (kind, name) in enumerate(KINDS.items()):
        if name not in prepared.splits:
            continue
        clips = prepared.splits[name]
        kept = 0.0 if kind == "unlabelled" else share
        train[kind], held[kind] = pipeline.holdout_split(clips, kept, seed + number)
    return TrainingData(train, {kind: clips for kind, clips in held.items() if len(clips)})


def class_windows(
    prepared: datasets.Prepared, config, frame_rate: float
) -> list[window_rules.ClassWindow]:
    """Median windows per class from all strong labels of the training set (equation 7).

    Args:
      prepared: the data.
      config: its ``postprocess`` page.
      frame_rate: frames per second of the student's posteriors.
    """
    strong = prepared.splits.get(KINDS["strong"])
    durations = window_rules.durations_by_class(strong.events if strong else (), prepared.classes)
    return window_rules.class_windows(
        durations, frame_rate=frame_rate, options=window_rules.rule_options(config.postprocess)
    )


def describe(
    prepared, data: TrainingData, data_dir: Path, config, steps_per_epoch: int
) -> dict[str, Any]:
    """What travels in every checkpoint beside the state; JSON-able.

    ``frame_rate`` is that of the student's posteriors, and so of the windows.
    """
    front_end = prepared.front_end
    frame_rate = front_end.frame_rate / time_pooling(config.student.pools)
    windows = class_windows(prepared, config, frame_rate)
    strong = prepared.splits.get(KINDS["strong"])
    durations = window_rules.durations_by_class(strong.events if strong else (), prepared.classes)
    return {
        "system": config.system,
        "data": prepared.data,
        "data_dir": str(data_dir.absolute()),
        "features_dir": str(prepared.directory),
        "clips": {kind: len(clips) for kind, clips in data.train.items()},
        "config": json.loads(config.to_json()),
        "classes": list(prepared.classes),
        "front_end": asdict(front_end),
        "frame_rate": frame_rate,
        "steps_per_epoch": steps_per_epoch,
        "windows": {
            rule: window_rules.window_sizes(
                durations,
                rule,
                frame_rate=frame_rate,
                options=window_rules.rule_options(config.postprocess),
            ).tolist()
            for rule in window_rules.RULES
        },
        "window_details": [window._asdict() for window in windows],
        "durations": {label: lengths.tolist() for label, lengths in durations.items()},
        "feature_shares": _feature_shares(prepared, config),
    }


def _feature_shares(prepared, config) -> list[float] | None:
    """Disentangled features of Guided Learning, from the tags of the weak clips."""
    weak = prepared.splits.get(KINDS["weak"])
    if config.student.architecture != "GuidedCNN" or weak is None:
        return None
    tags = np.array([[label in clip.labels for label in prepared.classes] for clip in weak.clips])
    return list(feature_shares(tags, config.guided.disentangled_least))


def check_workdir(workdir: Path, config) -> None:
    """Refuses the workdir of a run of another config."""
    path = workdir / "config.json"
    wanted = json.loads(config.to_json())
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error}): choose another --workdir") from error
        if found != wanted:
            differences = sorted(_differences(found, wanted))
            raise InputError(
                f"{workdir} belongs to a run of another config: {'; '.join(differences[:4])}; "
                "choose another --workdir, or repeat the command that made it"
            )


def check_resume(meta: Mapping[str, Any], wanted: Mapping[str, Any], workdir: Path) -> None:
    """Refuses to go on with other data: classes, number of clips or windows have changed."""
    for key in ("classes", "clips", "steps_per_epoch", "windows", "feature_shares"):
        if meta.get(key) != wanted[key]:
            raise InputError(
                f"{workdir} was trained on other data: its {key} are {meta.get(key)}, those of "
                f"--data are {wanted[key]}; choose another --workdir, or restore the data"
            )


def check_config(config) -> None:
    """Refuses values that would fail only after hours, or not at all."""
    for needs, name in (
        (config.evaluation.average, "config.evaluation.average"),
        (config.scheme == "mean_teacher", "a mean teacher"),
    ):
        if needs and not config.optimiser.ema_decay:
            raise InputError(f"{name} needs a moving average: set config.optimiser.ema_decay")
    if config.scheme not in train_step.SCHEMES:
        known = ", ".join(train_step.SCHEMES)
        raise InputError(f"config.scheme is {config.scheme!r}: expected one of {known}")
    if config.compute_dtype not in ("float32", "bfloat16"):
        raise InputError(
            f"config.compute_dtype is {config.compute_dtype!r}: expected float32 or bfloat16"
        )
    if config.gru_loop not in LOOPS:
        raise InputError(f"config.gru_loop is {config.gru_loop!r}: expected {' or '.join(LOOPS)}")
    if config.loss.focal_form not in ("paper", "lin"):
        raise InputError(f"config.loss.focal_form is {config.loss.focal_form!r}: paper or lin")
    positive = {
        "epochs": config.epochs,
        "evaluation.every_epochs": config.evaluation.every_epochs,
        "checkpoint_every_steps": config.checkpoint_every_steps,
        "steps_per_dispatch": config.steps_per_dispatch,
        "num_seeds": config.num_seeds,
        "optimiser.decay_epochs": config.optimiser.decay_epochs,
    }
    for name, value in positive.items():
        if value <= 0:
            raise InputError(f"config.{name} is {value}: expected more than 0")
    if config.steps_per_dispatch > 1 and not config.data.in_memory:
        raise InputError(
            f"config.steps_per_dispatch is {config.steps_per_dispatch}, but the host reads every "
            "batch: set config.data.in_memory too, or leave it at 1"
        )
    if min(config.batch.values()) < 0 or not sum(config.batch.values()):
        raise InputError(f"config.batch is {dict(config.batch)}: expected counts, not all 0")


def _differences(found: Any, wanted: Any, name: str = "config") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in found.keys() | wanted.keys():
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}")
    elif found != wanted:
        yield f"{name} is {found!r} there and {wanted!r} here"


def write_json(path: Path, content: Any) -> None:
    """Writes a file in one piece: it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2))
    os.replace(temporary, path)


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Yields an event that the first Ctrl-C (or SIGTERM) sets; the second one ends at once."""
    stop = threading.Event()

    def handle(signum, frame):
        stop.set()
        signal.signal(signum, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def validate(
    predict_fn,
    state: TrainState,
    data: TrainingData,
    prepared,
    windows: np.ndarray,
    frame_rate: float,
) -> dict[str, float | None]:
    """Scores on the held-out clips in percent.

    `windows` are in frames of the posteriors, of which there are `frame_rate` a second.

    ``selection`` is the sum of Event-F1 on strong and AT-F1 on weak clips, as the DCASE 2019
    baseline selects.
    """
    classes = prepared.classes
    scores: dict[str, float | None] = {}
    if strong := data.held.get("strong"):
        items = [strong[i] for i in range(len(strong))]
        output = predict.predict_clips(predict_fn, state, [item["mel"] for item in items])
        names = [item["filename"] for item in items]
        events = post.detect_events(
            output.clip,
            output.frames,
            windows,
            filenames=names,
            classes=classes,
            frame_rate=frame_rate,
        )
        labels, chosen = prepared.splits[KINDS["strong"]].reference, set(names)
        reference = [event for event in labels if event.filename in chosen]
        found = scoring.score(reference, events, filenames=names, classes=classes)
        scores["event_f1"] = found["event_f1"]["macro"]
        scores["segment_f1"] = found["segment_f1"]["macro"]
    if weak := data.held.get("weak"):
        items = [weak[i] for i in range(len(weak))]
        output = predict.predict_clips(predict_fn, state, [item["mel"] for item in items])
        tags = np.stack([item["clip_labels"] for item in items]) > 0
        scores["at_f1"] = scoring.tagging_scores(tags, output.clip > 0.5, classes)["macro"]
    scores["selection"] = sum(scores.get(key) or 0.0 for key in ("event_f1", "at_f1"))
    return scores


def train(
    config: ml_collections.ConfigDict,
    data_dir: Path,
    workdir: Path,
    *,
    features_dir: Path | None = None,
    strict: bool = False,
) -> bool:
    """Trains a system, or goes on training it.

    Args:
      config: as ``configs/base.py`` lays it out.
      data_dir: a folder in the DCASE 2019 layout.
      workdir: of this run.
      features_dir, strict: see `datasets.prepare`.

    Returns:
      Whether all steps are done; False after Ctrl-C.

    Raises:
      InputError: data, config or workdir do not fit; a loss is not finite.
    """
    keep_freed_memory()
    train_step.use_cpu_devices(config.cpu_devices)
    front_end = FrontEnd(**config.front_end)
    check_config(config)
    check_workdir(workdir, config)
    prepared = datasets.prepare(data_dir, front_end, features_dir=features_dir, strict=strict)
    data = [split_data(prepared, config, k) for k in range(config.num_seeds)]
    batch_size = sum(config.batch.values())
    if batch_size % jax.device_count():
        raise InputError(
            f"config.batch holds {batch_size} clips, which {jax.device_count()} devices cannot "
            "share: make it a multiple"
        )
    # An epoch is one pass over the unlabelled set; without one, over the strong or the weak set.
    counted = next(kind for kind in ("unlabelled", "strong", "weak") if config.batch[kind])
    passes = len(data[0].train.get(counted, ())) // config.batch[counted]
    steps_per_epoch = config.steps_per_epoch or max(passes, 1)
    total_steps = steps_per_epoch * config.epochs
    meta = describe(prepared, data[0], data_dir, config, steps_per_epoch)
    windows = np.array(meta["windows"][config.postprocess.rule])

    make = partial(
        train_step.make_system,
        config,
        num_classes=len(prepared.classes),
        steps_per_epoch=steps_per_epoch,
        shares=meta["feature_shares"],
    )
    system = make(axis_name=train_step.AXIS)
    mesh = train_step.make_mesh()
    step: Callable = partial(train_step.train_step, system=system, axis_name=train_step.AXIS)
    if config.num_seeds > 1:
        step = train_step.several_seeds(step, share_batch=config.seeds_share_batch)
    one, several = _batch_specs(config)
    # By the number of steps that a call takes.
    step_fns = {1: train_step.data_parallel(step, mesh, one)}
    if config.steps_per_dispatch > 1:
        step_fns[config.steps_per_dispatch] = train_step.data_parallel(
            train_step.scanned(step), mesh, several
        )
    predict_fn = predict.make_predict(
        make(axis_name=None), config.evaluation.model, config.evaluation.average
    )

    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", json.loads(config.to_json()))
    key = train_step.run_keys(config)
    init = partial(train_step.initial_state, system, config)
    replicated = NamedSharding(mesh, PartitionSpec())
    with checkpoints.open_manager(workdir) as manager, stop_on_interrupt() as stop:
        latest = manager.latest_step()
        if latest is None:
            state = jax.device_put(jax.jit(init)(key), replicated)
            start = 0
        else:
            check_resume(checkpoints.read_meta(manager, latest), meta, workdir)
            state = checkpoints.restore_state(manager, latest, jax.eval_shape(init, key), mesh)
            start = latest
            logging.info("resumed %s at step %d of %d", workdir, start, total_steps)
        release_freed_memory()  # what compiling `init` has used
        write_json(workdir / "meta.json", meta)
        for k in range(config.num_seeds if config.num_seeds > 1 else 0):
            folder = seed_folder(workdir, config, k)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "config.json", json.loads(config.to_json()))
            write_json(folder / "meta.json", meta | {"seed": k})
        if start >= total_steps:
            logging.info("%s: all %d steps are done", workdir, total_steps)
            return True
        draw, place = _feed(data, prepared, config, mesh, start)
        folders = [seed_folder(workdir, config, k) for k in range(config.num_seeds)]
        log = RunLog(workdir, start, folders)
        try:
            return _loop(
                state, start, total_steps, steps_per_epoch, draw, place, step_fns, key, log,
                config=config, manager=manager, meta=meta, stop=stop,
                evaluate=lambda state: [
                    validate(
                        predict_fn, state_of_seed(state, k), own, prepared, windows,
                        meta["frame_rate"],
                    )
                    for k, own in enumerate(data)
                ],
            )  # fmt: skip
        finally:
            log.close()


def _batch_specs(config) -> tuple[PartitionSpec, PartitionSpec]:
    """Which axes of the batch of one and of several steps are shared by the devices."""
    one, several = train_step.ONE_BATCH, train_step.SEVERAL_BATCHES
    if config.num_seeds > 1 and not config.seeds_share_batch:  # one more axis, the seeds'
        return PartitionSpec(None, *one), PartitionSpec(None, *several)
    return one, several


def _feed(
    data: Sequence[TrainingData], prepared, config, mesh, start: int
) -> tuple[Callable[[int], Any], Callable[[Any], Any]]:
    """(draw, place): ``place(draw(n))`` is the batch of the next step on the mesh, or n of them.

    `data` is that of each seed. Several batches are [n, B, ...]; seeds that do not share theirs
    have an axis before B. With ``config.data.in_memory`` all clips are on every device, which
    picks those whose positions the host draws: the same clips in the same order. Without, n is 1.
    """
    labels: dict[str, Any] = {"num_classes": len(prepared.classes)}
    labels |= {"frame_rate": prepared.front_end.frame_rate}
    order: dict[str, Any] = {"start": start}
    order |= {"process": jax.process_index(), "processes": jax.process_count()}
    # Those who draw clips: each seed, or one for all.
    drawing = list(enumerate(data[:1] if config.seeds_share_batch else data))

    def put(spec, arrays):
        make = partial(jax.make_array_from_process_local_data, NamedSharding(mesh, spec))
        return jax.tree.map(make, arrays)

    def next_of(streams):
        drawn = [next(stream) for stream in streams]
        return drawn[0] if len(drawn) == 1 else jax.tree.map(lambda *x: np.stack(x), *drawn)

    one, several = _batch_specs(config)
    if not config.data.in_memory:
        batches = [
            pipeline.batches(own.train, config.batch, **labels, seed=data_seed(config, k), **order)
            for k, own in drawing
        ]
        return lambda n: next_of(batches), partial(put, one)

    positions = [
        pipeline.positions(own.train, config.batch, seed=data_seed(config, k), **order)
        for k, own in drawing
    ]
    sources: Mapping[str, pipeline.Clips] = data[0].train
    if len(drawing) > 1:  # what one seed holds out another trains on
        sources = {kind: prepared.splits[KINDS[kind]] for kind in sources}
        for k, own in drawing:
            found = pipeline.positions_in_whole(own.train, sources, config.batch)
            positions[k] = map(found.__getitem__, positions[k])
    clips = put(PartitionSpec(), pipeline.all_clips(sources, config.batch, **labels))
    pick = {spec: train_step.data_parallel_gather(mesh, spec) for spec in (one, several)}

    def draw(n: int) -> np.ndarray:
        return next_of(positions) if n == 1 else np.stack([next_of(positions) for _ in range(n)])

    def place(chosen: np.ndarray):
        spec = one if chosen.ndim == len(one) else several
        return pick[spec](clips, put(spec, chosen))

    return draw, place


def _loop(
    state, start, total_steps, steps_per_epoch, draw, place, step_fns, key, log,
    *, config, manager, meta, stop, evaluate,
):  # fmt: skip
    """Steps from `start` to `total_steps`, with everything that happens between two dispatches."""
    batch_size = sum(config.batch.values()) * config.num_seeds
    evaluate_every = config.evaluation.every_epochs * steps_per_epoch
    bar = tqdm(total=total_steps, initial=start, unit="step", desc="training", dynamic_ncols=True)
    saved, since, selection = start, time.monotonic(), None
    waited = 0.0  # seconds spent in `draw` since `since`
    pending: list[tuple[range, dict]] = []  # numbers of a dispatch's steps, their metrics

    def flush():
        """Reads metrics from the device, checks and logs them; the only sync of the loop."""
        nonlocal since, waited
        if not pending:
            return
        fetched = jax.device_get([metrics for _, metrics in pending])
        rows = []  # number of a step, metrics of each seed
        for (numbers, _), metrics in zip(pending, fetched, strict=True):
            shape = len(numbers), config.num_seeds
            table = {name: np.reshape(metrics[name], shape) for name in sorted(metrics)}
            for i, number in enumerate(numbers):
                columns = range(config.num_seeds)
                values = [{name: float(v[i, k]) for name, v in table.items()} for k in columns]
                rows.append((number, values))
        seconds = time.monotonic() - since
        speed = {
            "clips_per_second": batch_size * len(rows) / seconds,
            "data_wait": waited / seconds,
        }
        for number, values in rows:
            for k, own in enumerate(values):
                bad = [name for name, value in own.items() if not math.isfinite(value)]
                if bad:
                    seed = f", seed {k}" if config.num_seeds > 1 else ""
                    terms = ", ".join(f"{name} {value:.4g}" for name, value in own.items())
                    raise InputError(
                        f"step {number}{seed}: {', '.join(bad)} not finite ({terms}); the last "
                        f"good checkpoint is step {saved} of {manager.directory}; lower "
                        "config.optimiser.learning_rate (with another --workdir), or look for "
                        "clips with extreme levels"
                    )
            log.write("train", number, values, speed | {"epoch": (number - 1) // steps_per_epoch})
        bar.set_postfix_str(
            f"loss {mean_values(values)['loss']:.3f}, {speed['clips_per_second']:.0f} clips/s"
            + (f", selection {selection:.1f}" if selection is not None else "")
        )
        pending.clear()
        since, waited = since + seconds, 0.0

    step = start
    while step < total_steps and not stop.is_set():
        # A dispatch ends where something happens between two steps; before that, what is too
        # little for a whole dispatch goes one by one, so that two programs are all there are.
        ends = (evaluate_every, config.checkpoint_every_steps, total_steps)
        room = min(every - step % every for every in ends)
        count = config.steps_per_dispatch if room >= config.steps_per_dispatch else 1
        before = time.monotonic()
        drawn = draw(count)
        waited += time.monotonic() - before
        state, metrics = step_fns[count](state, place(drawn), key)
        if step == start:
            release_freed_memory()  # what compilation has used
        step += count
        bar.update(count)
        pending.append((range(step - count + 1, step + 1), metrics))
        evaluating = step % evaluate_every == 0 or step == total_steps
        saving = evaluating or step % config.checkpoint_every_steps == 0
        # Steps are dispatched ahead of the device; only this read waits for it.
        if len(pending) >= _LOG_EVERY or saving:
            flush()
        if evaluating:
            scores = evaluate(state)
            # Seeds share their checkpoints, and so the step that is best: by the mean.
            selection = mean_values(scores)["selection"]
            common = {"selection": selection, "epoch": step // steps_per_epoch}
            log.write("validation", step, scores, common)
            since = time.monotonic()
        if saving:
            checkpoints.save(manager, step, state, meta, selection if evaluating else None)
            saved = step
    flush()
    if step > saved:
        checkpoints.save(manager, step, state, meta)
    manager.wait_until_finished()
    bar.close()
    if step < total_steps:
        logging.info(
            "stopped and saved at step %d of %d: the same command goes on", step, total_steps
        )
    return step == total_steps


_LOG_EVERY = 5  # dispatches between two reads of the metrics
