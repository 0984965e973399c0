"""The command line: ``jfsed-jax COMMAND [--flag=value ...] [ARG ...]``.

A command is a pair of functions: one defines its absl flags, the other runs it. Imports happen
inside the functions, so that ``--help`` and the NumPy-only commands start without JAX.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags, logging

from jfsed_jax import configs
from jfsed_jax.errors import InputError

if TYPE_CHECKING:
    from jfsed_jax.sed.events import Event


class Command(NamedTuple):
    """One subcommand: what it does in a line, its positional arguments, its flags, its body."""

    summary: str
    arguments: str
    define_flags: Callable[[flags.FlagValues], None]
    run: Callable[[flags.FlagValues, list[str]], None]


def _report_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)


def _report(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.report.run_page import write_report

    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; expected only --workdir=DIR")
    if not values.workdir:
        raise InputError("--workdir is missing; expected the folder of a run, --workdir=DIR")
    print(write_report(Path(values.workdir)))


def _check_flags(values: flags.FlagValues, arguments: Sequence[str], required: str) -> None:
    """Refuses positional arguments and asks for the flags in `required`."""
    if arguments:
        raise InputError(f"unexpected argument {arguments[0]!r}; expected flags only, see --help")
    for name in required.split():
        if not getattr(values, name):
            raise InputError(f"--{name} is missing; see --help")


def _write_json(path: str, value: object) -> None:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def _prepare_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("data", None, "Data folder: audio/ and metadata/.", flag_values=values)
    meaning = "Where to keep the features; by default in your cache folder."
    flags.DEFINE_string("features", None, meaning, flag_values=values)
    meaning = "Refuse a folder with missing clips or flawed labels."
    flags.DEFINE_bool("strict", False, meaning, flag_values=values)
    meaning = "Processes that decode; by default one per core."
    flags.DEFINE_integer("workers", None, meaning, lower_bound=1, flag_values=values)


def _prepare_data(values: flags.FlagValues, arguments: list[str]):
    _check_flags(values, arguments, "data")
    from jfsed_jax.audio.front_end import FrontEnd
    from jfsed_jax.datasets import prepare

    return prepare(
        values.data,
        FrontEnd(),
        features_dir=values.features,
        strict=values.strict,
        workers=values.workers,
    )


def _prepare(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.datasets.preparation import format_summary

    print(format_summary(_prepare_data(values, arguments)))


def _inspect_flags(values: flags.FlagValues) -> None:
    _prepare_flags(values)
    meaning = "The page to write; by default inspect.html beside the features."
    flags.DEFINE_string("output", None, meaning, flag_values=values)


def _inspect(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.report.inspection import write_page

    print(write_page(_prepare_data(values, arguments), values.output))


def _score_flags(values: flags.FlagValues) -> None:
    def text(name: str, meaning: str) -> None:
        flags.DEFINE_string(name, None, meaning, flag_values=values)

    text("reference", "TSV or CSV of reference events; clips without events count.")
    text("estimates", "TSV or CSV of a system's events.")
    text("durations", "TSV of clip durations; clips that only it names are scored too.")
    flags.DEFINE_list(
        "classes", None, "Labels to score; default: those of the reference.", flag_values=values
    )
    text("json", "Write all scores to this file.")
    flags.DEFINE_bool(
        "psds",
        False,
        "Also intersection F1, and PSDS from --scores or --operating_points; needs --durations "
        "and the extra psds.",
        flag_values=values,
    )
    text("scores", "Folder of score files, one per clip: PSDS 1 and 2, exact.")
    text("operating_points", "Folder of event lists, one per threshold: PSDS 1 and 2.")
    text("compare", "Events of a second system: is it better, or is that noise?")
    flags.DEFINE_integer(
        "bootstrap",
        0,
        "Number of resamples of the clips for 95 % intervals; with --compare at least 1000.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer("seed", 0, "Seed of the resamples.", lower_bound=0, flag_values=values)


def _score(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.sed import score_text, scoring, tables, uncertainty

    _check_flags(values, arguments, "reference estimates")
    reference = tables.read_events(values.reference)
    durations = tables.read_durations(values.durations) if values.durations else {}
    filenames = list(dict.fromkeys([*reference.filenames, *durations]))
    classes = values.classes or sorted({event.event_label for event in reference.events})
    if not classes:
        raise InputError(f"{values.reference} has no events; name the labels with --classes")
    scoring.check_events(reference.events, filenames, classes, values.reference, reference.rows)
    draws = max(values.bootstrap, 1000) if values.compare else values.bootstrap
    result: dict[str, Any] = {
        "info": {
            "reference": values.reference,
            "num_clips": len(filenames),
            "classes": classes,
            "num_resamples": draws,
            "seed": values.seed,
        }
    }
    print(f"{len(filenames)} clips, {len(classes)} classes, {len(reference.events)} events")
    all_counts = []
    estimates: list[Event] = []
    for role in ("estimates", "compare")[: 2 if values.compare else 1]:
        path = getattr(values, role)
        table = tables.read_events(path)
        scoring.check_events(table.events, filenames, classes, path, table.rows)
        scores, counts = scoring.score_clips(
            reference.events, table.events, filenames=filenames, classes=classes
        )
        all_counts.append(counts)
        estimates = table.events if role == "estimates" else estimates
        intervals = uncertainty.intervals(counts, num_resamples=draws, seed=values.seed)
        print(f"\n{path}\n{score_text.format_scores(scores, intervals)}")
        entry = {**scores, "intervals": intervals, "file": path}
        result |= entry if role == "estimates" else {role: entry}
    if values.compare:
        differences = uncertainty.paired_differences(
            *all_counts, num_resamples=draws, seed=values.seed
        )
        result["differences"] = differences
        print(f"\n{values.compare} minus {values.estimates}")
        print(score_text.format_differences(differences))
    if values.psds:
        result |= _psds(values, reference.events, estimates, durations, classes)
    if values.json:
        _write_json(values.json, result)


def _cache_compiled_programs() -> None:
    """XLA takes half a minute to compile a training step; the second start reuses the result."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "jfsed_jax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _use_devices_of(workdir: Path) -> None:
    """Makes the devices of a CPU those of the workdir's training, which share the clips."""
    from jfsed_jax.method.step import use_cpu_devices

    with suppress(OSError, ValueError, KeyError, TypeError):  # `load_detector` says what is wrong
        use_cpu_devices(json.loads((workdir / "config.json").read_text())["cpu_devices"])


def _config_flag(values: flags.FlagValues) -> None:
    from ml_collections import config_flags

    config_flags.DEFINE_config_file(
        "config",
        None,
        "configs/NAME.py[:size], size one of paper, small, tiny; --config.key=value changes it.",
        flag_values=values,
    )


def _train_flags(values: flags.FlagValues) -> None:
    _config_flag(values)
    flags.DEFINE_string("data", None, "Folder of audio and metadata.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Folder of this run.", flag_values=values)
    flags.DEFINE_string("features", None, "Folder of the features.", flag_values=values)
    flags.DEFINE_bool(
        "strict", False, "Refuse a folder with missing clips or flawed labels.", flag_values=values
    )


def _train(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.training.loop import train

    _check_flags(values, arguments, "config data workdir")
    _cache_compiled_programs()
    train(
        values.config,
        Path(values.data),
        Path(values.workdir),
        features_dir=Path(values.features) if values.features else None,
        strict=values.strict,
    )


def _window_flags(values: flags.FlagValues) -> None:
    from jfsed_jax.configs import base

    flags.DEFINE_string("strong", None, "TSV or CSV of strong labels.", flag_values=values)
    flags.DEFINE_enum(
        "knee",
        base.get_config().postprocess.knee,
        ["chord", "mode"],
        "Inflection point of the durations' CDF: furthest above its chord, or steepest.",
        flag_values=values,
    )


def _windows_flags(values: flags.FlagValues) -> None:
    _window_flags(values)
    flags.DEFINE_float(
        "frame_rate", 60.0, "Frames per second.", lower_bound=0.01, flag_values=values
    )
    flags.DEFINE_integer(
        "bootstrap",
        0,
        "Resamples of the events: how far knee, N_c and window move (90 % intervals).",
        lower_bound=0,
        flag_values=values,
    )


def _windows(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.configs import base
    from jfsed_jax.sed import tables, window_rules

    _check_flags(values, arguments, "strong")
    events = tables.read_events(values.strong).events
    classes = sorted({event.event_label for event in events})
    if not classes:
        raise InputError(f"{values.strong} has no events; expected strong labels")
    durations = window_rules.durations_by_class(events, classes)
    options = window_rules.rule_options(base.get_config().postprocess, knee=values.knee)
    kwargs = {"frame_rate": values.frame_rate, "options": options}
    windows = window_rules.class_windows(durations, **kwargs)
    print(f"Windows in frames of 1/{values.frame_rate:g} s; knee: {values.knee}\n")
    print(window_rules.format_windows(windows))
    if values.bootstrap:
        print(f"\n90 % of {values.bootstrap} resamples of the events, clear knee or not\n")
        resampled = {
            label: window_rules.resampled_knees(d, **kwargs, num_resamples=values.bootstrap)
            for label, d in durations.items()
        }
        print(window_rules.format_stability(resampled))


def _psds(
    values: flags.FlagValues,
    reference: Sequence["Event"],
    estimates: Sequence["Event"],
    durations: dict[str, float],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Prints and returns what `score --psds` adds."""
    from jfsed_jax.sed import psds, score_files, tables

    _check_flags(values, [], "durations")
    result = {
        "intersection_f1": psds.intersection_f1(
            reference, estimates, durations=durations, classes=classes
        )
    }
    if values.scores:
        files = score_files.read_score_files(values.scores)
        result["psds"] = psds.psds_of_scores(files, reference, durations)
    if values.operating_points:
        paths = sorted(Path(values.operating_points).glob("*.tsv"))
        if not paths:
            raise InputError(f"{values.operating_points} holds no .tsv file; expected event lists")
        points = [tables.read_events(path, classes=classes).events for path in paths]
        result["psds_operating_points"] = psds.psds_of_operating_points(
            points, reference, durations
        )
    print(f"\n{psds.format_psds(result)}")
    return result


def _postprocess_flags(values: flags.FlagValues) -> None:
    from jfsed_jax.configs import base

    _window_flags(values)
    flags.DEFINE_string("scores", None, "Folder of score files, one per clip.", flag_values=values)
    flags.DEFINE_enum(
        "postprocess",
        "esp",
        ["esp", "avg", "fixed"],
        "Where the median windows come from; esp and avg need --strong.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "fixed",
        base.get_config().postprocess.fixed_frames,
        "Window of the fixed rule in frames.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "tags",
        None,
        "TSV of the system's clip tags (filename event_labels): classes that are not among a "
        "clip's tags get no events in it. It names the audio files too.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "threshold",
        0.5,
        "A frame is active above this score.",
        lower_bound=0,
        upper_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "extension",
        ".wav",
        "Of the audio files, where --tags does not name them.",
        flag_values=values,
    )
    flags.DEFINE_string("output", None, "TSV of events to write.", flag_values=values)


def _postprocess(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.configs import base
    from jfsed_jax.sed import postprocessing, score_files, scoring, tables, window_rules

    strong = "" if values.postprocess == "fixed" else " strong"
    _check_flags(values, arguments, "scores output" + strong)
    files = score_files.read_score_files(values.scores)
    frame_rate = score_files.frame_rate_of(files)
    events = tables.read_events(values.strong).events if strong else []
    durations = window_rules.durations_by_class(events, files.classes)
    options = window_rules.rule_options(
        base.get_config().postprocess, knee=values.knee, fixed_frames=values.fixed
    )
    windows = window_rules.class_windows(durations, frame_rate=frame_rate, options=options)
    print(f"{len(files.clips)} clips at {frame_rate:.6g} frames/s\n")
    print(window_rules.format_windows(windows))
    without = [w.label for w in windows if strong and not w.num_events]
    if without:
        print(f"note: no strong labels of {', '.join(without)}: fixed window")
    filenames = [clip + values.extension for clip in files.clips]
    clip = None
    if values.tags:
        tags = tables.read_tags(values.tags, classes=files.classes).tags
        named = {score_files.clip_name(name): name for name in tags}
        filenames = [named.get(c, name) for c, name in zip(files.clips, filenames, strict=True)]
        clip = scoring.tag_matrix(tags, filenames, files.classes)
    sizes = window_rules.window_sizes(
        durations, values.postprocess, frame_rate=frame_rate, options=options
    )
    decode = postprocessing.median_decoder(
        sizes, classes=files.classes, frame_rate=1.0, threshold=values.threshold
    )
    found = score_files.decode_files(files, decode, filenames=filenames, clip=clip)
    tables.write_events(values.output, found)
    print(f"\n{len(found)} events in {values.output}")


def _detector_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    flags.DEFINE_enum(
        "checkpoint", "best", ["best", "latest"], "Which checkpoint.", flag_values=values
    )
    flags.DEFINE_enum(
        "model",
        None,
        ["student", "teacher", "mean"],
        "Whose posteriors; default: the config's.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "postprocess",
        None,
        ["esp", "avg", "fixed"],
        "Windows of the median filters; default: the config's.",
        flag_values=values,
    )


def _evaluate_flags(values: flags.FlagValues) -> None:
    _detector_flags(values)
    flags.DEFINE_string(
        "data", None, "Folder of audio and metadata; default: that of training.", flag_values=values
    )
    flags.DEFINE_string("features", None, "Folder of the features.", flag_values=values)
    meaning = "Which of a run's config.num_seeds, counted from 0; default: all."
    flags.DEFINE_integer("seed", None, meaning, lower_bound=0, flag_values=values)
    flags.DEFINE_enum("split", "validation", ["validation", "eval"], "Clips.", flag_values=values)
    flags.DEFINE_bool(
        "tune_thresholds",
        False,
        "Class-wise thresholds from the clips that training held out.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "score_files", None, "Also write posteriors here, one TSV a clip.", flag_values=values
    )


def _features_dir(values: flags.FlagValues, meta: dict[str, Any]) -> Path | None:
    """Where features are: as given, or those of training if it is the same data."""
    if values.features:
        return Path(values.features)
    return None if values.data else Path(meta["features_dir"])


def _evaluate(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax import datasets
    from jfsed_jax.inference.detector import load_detector
    from jfsed_jax.inference.evaluation import evaluate, write_adaptive_weights, write_seeds
    from jfsed_jax.sed import score_text
    from jfsed_jax.training.loop import seed_folder

    _check_flags(values, arguments, "workdir")
    _cache_compiled_programs()
    workdir = Path(values.workdir)
    _use_devices_of(workdir)
    detector = load_detector(workdir, values.checkpoint, values.model, values.seed or 0)
    seeds = range(detector.config.num_seeds) if values.seed is None else [values.seed]
    prepared = datasets.prepare(
        Path(values.data or detector.meta["data_dir"]),
        detector.front_end,
        features_dir=_features_dir(values, detector.meta),
        classes=detector.classes,
    )
    all_scores = []
    for k in seeds:
        if k != detector.seed:
            detector = load_detector(workdir, values.checkpoint, values.model, k)
        folder = seed_folder(workdir, detector.config, k)
        score_files = Path(values.score_files) if values.score_files else None
        scores = evaluate(
            detector,
            prepared,
            folder,
            split=values.split,
            rule=values.postprocess,
            tune=values.tune_thresholds,
            score_files=score_files / f"seed{k}" if score_files and len(seeds) > 1 else score_files,
        )
        write_adaptive_weights(detector, prepared, folder)
        all_scores.append(scores)
        info = scores["info"]
        print(
            f"{info['system']}{f', seed {k}' if folder != workdir else ''}, step "
            f"{info['checkpoint_step']}, {info['num_clips']} clips of {info['split']}, "
            f"{info['postprocess']} windows{', tuned thresholds' if values.tune_thresholds else ''}"
            f"\n{score_text.format_scores({n: s for n, s in scores.items() if n != 'info'})}\n"
            f"{folder / 'eval' / values.split}"
        )
    if len(seeds) > 1:
        print(f"\n{score_text.format_seeds(write_seeds(workdir, all_scores))}")


def _predict_flags(values: flags.FlagValues) -> None:
    _detector_flags(values)
    meaning = "Which of a run's config.num_seeds, counted from 0."
    flags.DEFINE_integer("seed", 0, meaning, lower_bound=0, flag_values=values)
    flags.DEFINE_string(
        "output", None, "TSV to write; default: standard output.", flag_values=values
    )


def _predict(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.inference.detector import detect, load_detector
    from jfsed_jax.sed import tables

    _check_flags(values, [], "workdir")
    if not arguments:
        raise InputError("no audio files: name one or more after the flags")
    _cache_compiled_programs()
    _use_devices_of(Path(values.workdir))
    detector = load_detector(Path(values.workdir), values.checkpoint, values.model, values.seed)
    events, read, refused = [], [], []
    for name in arguments:
        try:
            events += detect(detector, Path(name), rule=values.postprocess)
            read.append(name)
        except InputError as error:
            logging.error("%s", error)
            refused.append(name)
    if values.output:
        tables.write_events(values.output, events, filenames=read)
    else:
        print("\t".join(tables.EVENT_COLUMNS))
        for event in events:
            print(f"{event.filename}\t{event.onset:.3f}\t{event.offset:.3f}\t{event.event_label}")
    if refused:
        raise InputError(f"{len(refused)} of {len(arguments)} files could not be used, see above")


def _benchmark_flags(values: flags.FlagValues) -> None:
    _config_flag(values)
    flags.DEFINE_integer(
        "batch", None, "Clips in a batch; default: the config's.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_enum(
        "reference",
        None,
        ["torch", "torch.compile"],
        "Measure PyTorch beside it, eager or compiled: same weights and batch, taking turns.",
        flag_values=values,
    )
    flags.DEFINE_string("json", None, "Write all that was measured to this file.", values)
    flags.DEFINE_bool(
        "layers", False, "Measure single layers against flax's and XLA's own instead.", values
    )


def _benchmark(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.configs import pts_tfd_afl_esp
    from jfsed_jax.experiments import benchmark_layers
    from jfsed_jax.experiments import benchmarking as benchmark

    _check_flags(values, arguments, "")
    if values.layers:
        print(benchmark_layers.format_layers(benchmark_layers.layers()))
        return
    config = values.config or pts_tfd_afl_esp.get_config("small")
    result = benchmark.benchmark(config, size=values.batch, reference=values.reference)
    print(benchmark.format_table(result))
    if values.json:
        _write_json(values.json, result)


def _reproduce_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_enum(
        "table", None, ["1", "2", "3"], "Number of the paper's table.", flag_values=values
    )
    flags.DEFINE_string("data", None, "Folder of audio and metadata.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Folder of the runs and tables.", flag_values=values)
    flags.DEFINE_enum(
        "size", "paper", ["paper", "small", "tiny"], "Size of every config.", flag_values=values
    )
    flags.DEFINE_integer(
        "seeds", 1, "Runs of each system: seeds 0 to N - 1.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_list("systems", None, "Rows of table 1, as 3,6,9; default: all.", values)
    meaning = "Epochs of every run; default: those of each config."
    flags.DEFINE_integer("epochs", None, meaning, lower_bound=1, flag_values=values)
    meaning = "Where to keep the features, a folder per front end; by default your cache folder."
    flags.DEFINE_string("features", None, meaning, flag_values=values)


def _reproduce(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax.experiments.reproduction import reproduce

    _check_flags(values, arguments, "table data workdir")
    if not Path(values.data).is_dir():  # or every run would fail with it, one after the other
        raise InputError(f"--data={values.data} is not a folder; it needs audio/ and metadata/")
    try:
        systems = [int(number) for number in values.systems or ()]
    except ValueError as error:
        raise InputError(
            f"--systems={','.join(values.systems)}: expected numbers from 0 to 9, as 3,6,9"
        ) from error
    _cache_compiled_programs()
    outcome = reproduce(
        int(values.table),
        Path(values.data),
        Path(values.workdir),
        size=values.size,
        seeds=values.seeds,
        systems=systems,
        epochs=values.epochs,
        features_dir=Path(values.features) if values.features else None,
    )
    if not outcome.done:
        print("stopped: the same command goes on where it is")
        return
    print(f"{outcome.markdown.read_text(encoding='utf-8')}\n{outcome.page}")
    if outcome.failures:
        raise InputError(f"failed: {', '.join(outcome.failures)}; the table says why")


def _demo_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", "runs/demo", "Folder of the run.", flag_values=values)


def _demo(values: flags.FlagValues, arguments: list[str]) -> None:
    from jfsed_jax import datasets
    from jfsed_jax.configs import demo as config
    from jfsed_jax.datasets import demo as data
    from jfsed_jax.inference.detector import load_detector
    from jfsed_jax.inference.evaluation import evaluate, write_adaptive_weights
    from jfsed_jax.report import run_page as report
    from jfsed_jax.sed import score_text
    from jfsed_jax.training.loop import train

    _check_flags(values, arguments, "workdir")
    _cache_compiled_programs()
    workdir = Path(values.workdir)
    folder = data.render(workdir / "data")
    features = workdir / "features"
    if not train(config.get_config(), folder, workdir, features_dir=features):
        return
    detector = load_detector(workdir)
    prepared = datasets.prepare(folder, detector.front_end, features_dir=features)
    scores = evaluate(detector, prepared, workdir)
    write_adaptive_weights(detector, prepared, workdir)
    scores.pop("info")
    print(f"\nRendered validation clips:\n{score_text.format_scores(scores)}")
    print(f"\nThe report: {report.write_report(workdir)}")


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "Render a data set, train on it, evaluate, report: minutes.", "", _demo_flags, _demo
    ),
    "prepare": Command(
        "Checks a data folder and extracts its features, once.", "", _prepare_flags, _prepare
    ),
    "inspect": Command(
        "Writes a page about a data folder: classes, durations, levels, problems, clips.",
        "",
        _inspect_flags,
        _inspect,
    ),
    "train": Command("Train a system, or go on training it.", "", _train_flags, _train),
    "evaluate": Command(
        "Score a trained system on labelled clips.", "", _evaluate_flags, _evaluate
    ),
    "predict": Command(
        "Label recordings with a trained system.", "AUDIO ...", _predict_flags, _predict
    ),
    "score": Command("Score anyone's events by the DCASE 2019 protocol.", "", _score_flags, _score),
    "postprocess": Command(
        "Turn anyone's score files into events.", "", _postprocess_flags, _postprocess
    ),
    "windows": Command(
        "Print the median windows of every class from strong labels.",
        "",
        _windows_flags,
        _windows,
    ),
    "reproduce": Command(
        "Train, evaluate and tabulate the paper's experiments beside its figures.",
        "",
        _reproduce_flags,
        _reproduce,
    ),
    "benchmark": Command(
        "Measure train step, inference, features, input and memory, beside PyTorch if asked.",
        "",
        _benchmark_flags,
        _benchmark,
    ),
    "report": Command(
        "Write report.html, scores and figures of a run, from its saved files.",
        "",
        _report_flags,
        _report,
    ),
}


_CONFIGS = Path(configs.__file__).parent


def _overview() -> str:
    width = max(map(len, COMMANDS), default=0)
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: jfsed-jax COMMAND [--flag=value ...]", "", *lines, ""]
        + ["'jfsed-jax COMMAND --help' shows a command's flags."]
    )


def _help(name: str, command: Command, values: flags.FlagValues) -> str:
    usage = f"usage: jfsed-jax {name} [--flag=value ...] {command.arguments}".rstrip()
    return f"{usage}\n\n{command.summary}\n{values.get_help()}"


def _parse(values: flags.FlagValues, arguments: list[str]) -> list[str]:
    """Reads the flags into `values` and returns the positional arguments.

    Raises:
      InputError: a wrong flag or value, or a config that cannot be loaded, in one line.
    """
    try:
        # One form for both: --config FILE and --config=FILE.
        for i in range(len(arguments) - 1, 0, -1):
            if arguments[i - 1] in ("--config", "-config"):
                arguments[i - 1 : i + 1] = [f"--config={arguments[i]}"]
        positional = values(["jfsed-jax", *map(_packaged_config, arguments)])[1:]
        if "config" in values and values["config"].present:
            values.config.to_dict()  # ml_collections tells only here that the file is missing
        return positional
    except (flags.Error, AttributeError, OSError, TypeError, ValueError) as error:
        text = str(error)
        if "Traceback" in text:  # ml_collections quotes that of a config that raised
            text = "--config cannot be loaded: " + text.strip().splitlines()[-1]
        elif "Failed loading config file" in text:
            known = ", ".join(sorted(path.stem for path in _CONFIGS.glob("[!_]*.py")))
            given = next(a for a in arguments if a.startswith(("--config=", "-config=")))
            text = f"{given} is no config file; there are configs/NAME.py[:size] of: {known}"
        elif match := re.search(r'(Did you mean "\S+" instead of "\S+"\?)', text):
            text = f"no such value of the config. {match[1]}"
        raise InputError(" ".join(text.replace("\\n", " ").split())) from error


def _packaged_config(argument: str) -> str:
    """``--config=configs/NAME.py`` works away from a clone too: the package has these files."""
    flag, _, path = argument.partition("=")
    file, colon, size = path.partition(":")
    packaged = _CONFIGS / Path(file).name
    if flag.lstrip("-") == "config" and not Path(file).exists() and packaged.is_file():
        return f"{flag}={packaged}{colon}{size}"
    return argument


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; 0 on success, 2 on bad input (one line on stderr), 130 on Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else 2
    name, *rest = argv
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"jfsed-jax: no command {name!r}; there are: {known}", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    command.define_flags(values)
    if any(argument in ("-h", "--help") for argument in rest):
        print(_help(name, command, values))
        return 0
    # absl's logger refuses to work before the global flags are parsed; ours are per command.
    flags.FLAGS(["jfsed-jax"])
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    # Libraries log each file they touch: of theirs only warnings, of ours everything.
    package = str(Path(__file__).parents[1])
    logging.get_absl_handler().addFilter(
        lambda record: record.levelno > 20 or record.pathname.startswith(package)
    )
    try:
        command.run(values, _parse(values, rest))
    except (InputError, OSError) as error:
        print(f"jfsed-jax {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"jfsed-jax {name}: interrupted", file=sys.stderr)
        return 130
    return 0
