"""Commands that train: train, demo."""

import argparse
from pathlib import Path

from jfsed_jax.cli import labelling, process
from jfsed_jax.cli.arguments import CommandParser, number, output_folder

CONFIG = "configs/NAME.py[:size], size one of paper, small, tiny; --config.key=value changes it"


def define_train(parser: CommandParser) -> None:
    """Adds the flags of `run_train`."""
    parser.description = (
        f"{parser.description} Ctrl-C saves and ends with status 130,\n"
        "SIGTERM with 143; the same command goes on where it was."
    )
    parser.config = True
    parser.require("--config", f"{CONFIG}.", metavar="FILE")
    parser.require("--data", "Folder of audio and metadata.", metavar="DIR")
    parser.require("--workdir", "Folder of this run.", type=output_folder(), metavar="DIR")
    parser.add("--features", "Folder of the features.", type=output_folder(), metavar="DIR")
    parser.switch("strict", "Refuse a folder with missing clips or flawed labels.")
    meaning = "Folder of a run whose weights a new one starts from; default: random weights."
    parser.add("--init_from", meaning, metavar="DIR")
    meaning = "Trace these steps, as 100:110, or so many after the first ten; default: none."
    parser.add("--profile", meaning, type=steps_to_trace, metavar="STEPS")
    meaning = "Process 0 of a run of several processes; or auto: as the launcher says."
    parser.add("--coordinator", meaning, metavar="HOST:PORT")
    parser.add("--num_processes", "How many processes.", type=number(int, 1), metavar="N")
    parser.add("--process_id", "Which of them this is, from 0.", type=number(int, 0), metavar="I")


def run_train(args: argparse.Namespace) -> int:
    """Trains to the end; when it is stopped before, `fit` saves and raises."""
    process.start_training(args.config.cpu_devices, deterministic=args.config.deterministic)
    process.join_processes(args.coordinator, args.num_processes, args.process_id)
    from jfsed_jax.training.loop import fit
    from jfsed_jax.training.profiling import Traced

    fit(
        args.config,
        args.data,
        args.workdir,
        features_dir=args.features or None,
        strict=args.strict,
        init_from=args.init_from or None,
        profile=Traced(*args.profile) if args.profile else None,
    )
    return 0


def steps_to_trace(text: str) -> tuple[int | None, int]:
    """The type of ``--profile``: ``FIRST:LAST`` or ``COUNT``, see `profiling.Traced`."""
    first, colon, last = text.rpartition(":")
    if not last.isdecimal() or (colon and not first.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text}: expected FIRST:LAST, as 100:110, or a number")
    begin, end = int(first) if colon else None, int(last)
    if end < 1 or (begin is not None and not 1 <= begin <= end):
        raise argparse.ArgumentTypeError(f"{text}: expected steps from 1, the first one first")
    return begin, end


def define_demo(parser: CommandParser) -> None:
    """Adds the flags of `run_demo`."""
    meaning = "Folder of the run; default: %(default)s."
    parser.add("--workdir", meaning, type=output_folder(), metavar="DIR", default="runs/demo")


def run_demo(args: argparse.Namespace) -> int:
    """Renders, trains, evaluates, reports."""
    from jfsed_jax.configs import demo

    config = demo.get_config()
    process.start_training(config.cpu_devices)
    from jfsed_jax.datasets.demo import render
    from jfsed_jax.datasets.demo_recording import render_recording
    from jfsed_jax.datasets.preparation import prepare
    from jfsed_jax.inference.detector import load
    from jfsed_jax.inference.evaluation import evaluate
    from jfsed_jax.inference.focal_weights import write_adaptive_weights
    from jfsed_jax.inference.held_out_curves import write_threshold_curves
    from jfsed_jax.report.run_page import write_report
    from jfsed_jax.sed.score_text import format_scores
    from jfsed_jax.training.loop import fit

    workdir = Path(args.workdir)
    folder = render(workdir / "data")
    features = workdir / "features"
    fit(config, folder, workdir, features_dir=features)
    detector = load(workdir)
    prepared = prepare(folder, detector.front_end, features_dir=features)
    scores = evaluate(detector, prepared, detector.workdir, data_dir=folder)
    write_adaptive_weights(detector, prepared, detector.workdir)
    write_threshold_curves(detector, prepared, detector.workdir)
    print(f"\nRendered validation clips:\n{format_scores(scores, scores['intervals'])}")
    print(f"\nThe report: {write_report(workdir)}")
    # Three minutes that no clip of training shares a sound with.
    recording, page = render_recording(workdir / "recording.flac"), workdir / "recording.html"
    predict = CommandParser(prog="predict")
    labelling.define_predict(predict)
    flags = [f"--workdir={workdir}", f"--output={workdir / 'recording.tsv'}", f"--page={page}"]
    status = labelling.run_predict(
        predict.parse_args([*flags, "--embed_audio", "--resume", str(recording)])
    )
    print(f"A recording, labelled: {page}")
    return status
