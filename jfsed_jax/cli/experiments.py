"""Commands that measure: reproduce, benchmark."""

import argparse
from functools import partial
from pathlib import Path

from absl import logging

from jfsed_jax.cli import process
from jfsed_jax.cli.arguments import CommandParser, names, number, output_file, output_folder
from jfsed_jax.cli.training import CONFIG
from jfsed_jax.errors import InputError

_MINUTES = 10
# What benchmark measures instead of its table, and the flags that are not for that.
_INSTEAD = {
    "layers": ("batch", "reference", "processes", "json", "minutes"),
    "suite": ("reference", "processes"),
    "roofline": ("reference", "processes", "minutes"),
}
ROOFLINES = ["a100", "h100", "h200", "l4", "v5e", "here"]  # of experiments/cards.py


def define_reproduce(parser: CommandParser) -> None:
    """Adds the flags of `run_reproduce`."""
    parser.require("--table", "Number of the paper's table.", choices=["1", "2", "3"])
    parser.require("--data", "Folder of audio and metadata.", metavar="DIR")
    meaning = "Folder of the runs and tables."
    parser.require("--workdir", meaning, type=output_folder(), metavar="DIR")
    meaning = "Size of every config; default: %(default)s."
    parser.add("--size", meaning, choices=["paper", "small", "tiny"], default="paper")
    meaning = "Runs of each system: seeds 0 to N - 1; default: %(default)s."
    parser.add("--seeds", meaning, type=number(int, 1), metavar="N", default=1)
    meaning = "Rows of table 1, as control,3,9; control: the student alone; default: all."
    parser.add("--systems", meaning, type=names(), metavar="N,N")
    meaning = "Epochs of every run; default: those of each config."
    parser.add("--epochs", meaning, type=number(int, 1), metavar="N")
    meaning = "Where to keep the features, a folder per front end; by default your cache folder."
    parser.add("--features", meaning, type=output_folder(), metavar="DIR")
    meaning = (
        "Runs side by side, each a process with its share of the cores, or a GPU of its own; "
        "default: %(default)s."
    )
    parser.add("--jobs", meaning, type=number(int, 1), metavar="N", default=1)
    meaning = "Runs that differ in numbers and seeds alone train as one program; for accelerators."
    parser.switch("together", meaning)


def run_reproduce(args: argparse.Namespace) -> int:
    """Trains and scores the rows of a table, prints it and names its page."""
    from jfsed_jax.configs import base

    if not Path(args.data).is_dir():  # or every run would fail with it, one after the other
        raise InputError(f"--data={args.data} is not a folder; it needs audio/ and metadata/")
    if args.jobs == 1:
        process.start_training(base.get_config(args.size).cpu_devices)
    from jfsed_jax.experiments.reproduction import reproduce

    outcome = reproduce(
        int(args.table),
        Path(args.data),
        Path(args.workdir),
        size=args.size,
        seeds=args.seeds,
        systems=args.systems or (),
        epochs=args.epochs,
        features_dir=Path(args.features) if args.features else None,
        jobs=args.jobs,
        together=args.together,
        start_process=partial(_start_run, logging.get_verbosity()),
    )
    print(f"{outcome.markdown.read_text(encoding='utf-8')}\n{outcome.page}")
    if outcome.failures:
        raise InputError(f"failed: {', '.join(outcome.failures)}; the table says why")
    return 0


def _start_run(verbosity: int, cpu_devices: int) -> None:
    """Sets up a process of `run_reproduce` for one run, as its own is."""
    process.log_to_stderr()
    logging.set_verbosity(verbosity)
    process.import_from_here()
    process.start_training(cpu_devices)


def define_benchmark(parser: CommandParser) -> None:
    """Adds the flags of `run_benchmark`."""
    parser.config = True
    meaning = f"{CONFIG}; default: %(default)s."
    parser.add("--config", meaning, metavar="FILE", default="configs/pts_tfd_afl_esp.py:small")
    meaning = "Clips in a batch; default: the config's."
    parser.add("--batch", meaning, type=number(int, 1), metavar="N")
    parser.add(
        "--reference",
        "Measure PyTorch beside it, eager or compiled: same weights and batch, taking turns.",
        choices=["torch", "torch.compile"],
    )
    parser.switch(
        "processes",
        "Measure the start of a training and a step of two processes too: minutes, ten at most.",
    )
    meaning = "Write all that was measured to this file."
    parser.add("--json", meaning, type=output_file(), metavar="FILE")
    meaning = "Measure single layers against flax's and XLA's own instead."
    parser.switch("layers", meaning)
    meaning = (
        "Measure all that is to be known of a device instead: the step with every loop of the "
        "recurrence and beside PyTorch, seeds at once, a whole training, a resumed run."
    )
    parser.switch("suite", meaning)
    meaning = f"Time that --suite may take; default: {_MINUTES}."
    parser.add("--minutes", meaning, type=number(float, 0.1), metavar="N")
    meaning = (
        "Print the least time of each layer on a device of these published figures instead, "
        "computed and not measured; here: on this one, of a measured product and pass over memory."
    )
    parser.add("--roofline", meaning, choices=ROOFLINES)


def run_benchmark(args: argparse.Namespace) -> int:
    """Prints the table of what was measured."""
    from jfsed_jax.experiments import benchmark_layers, benchmarking
    from jfsed_jax.runs.workdir import write_json

    _refuse_idle_flags(args)
    if args.layers:
        print(benchmark_layers.format_layers(benchmark_layers.measure_layers()))
        return 0
    if args.suite:
        from jfsed_jax.experiments.suite import format_suite, run_suite

        result = run_suite(args.config, size=args.batch, minutes=args.minutes or _MINUTES)
        print(format_suite(result))
    elif args.roofline:
        from jfsed_jax.experiments import cards, roofline

        card = cards.choose_card(args.roofline, args.config.compute_dtype)
        result = roofline.step_roofline(args.config, card, args.batch)
        print(roofline.format_roofline(result))
    else:
        if args.config.deterministic:
            process.use_deterministic_kernels()
        benchmarking.prepare_process(args.config.cpu_devices)
        result = benchmarking.benchmark(
            args.config, size=args.batch, reference=args.reference, processes=args.processes
        )
        print(benchmarking.format_table(result))
    if args.json:
        write_json(Path(args.json), result)
    return 0


def _refuse_idle_flags(args: argparse.Namespace) -> None:
    """InputError if a flag beside another would change nothing."""
    chosen = [name for name in _INSTEAD if getattr(args, name)]
    if not chosen and args.minutes is not None:
        raise InputError("--minutes is for --suite")
    for name in chosen:
        idle = [*(other for other in chosen if other != name), *_INSTEAD[name]]
        if given := [flag for flag in idle if getattr(args, flag)]:
            raise InputError(f"--{given[0]} is not for --{name}: leave one out")
