"""The command that writes a trained system for other programs: export."""

import argparse
import logging

from jfsed_jax.cli import process
from jfsed_jax.cli.arguments import CommandParser, number, output_file
from jfsed_jax.cli.detection import define_detector, load_detector


def define_export(parser: CommandParser) -> None:
    """Adds the flags of `run_export`."""
    parser.require("--workdir", "Folder of the run.", metavar="DIR")
    meaning = "Program to write, StableHLO or FILE.onnx; beside it comes FILE.json."
    parser.require("--output", meaning, type=output_file(), metavar="FILE")
    meaning = "What the program takes; default: %(default)s."
    parser.add("--input", meaning, choices=["waveform", "mel"], default="waveform")
    define_detector(parser)
    meaning = (
        "Of the frame posteriors, for the JSON: a number, CLASS=NUMBER,... or a scores.json of "
        "evaluate --tune_thresholds; default: the config's."
    )
    parser.add("--threshold", meaning, metavar="T")
    meaning = "Which of a run's config.num_seeds, counted from 0; default: %(default)s."
    parser.add("--seed", meaning, type=number(int, 0), metavar="K", default=0)


def run_export(args: argparse.Namespace) -> int:
    """Writes the program and the JSON beside it, and prints their paths."""
    process.start_jax_as_trained(args.workdir)
    from jfsed_jax.inference.export import write_export
    from jfsed_jax.inference.labelling import parse_thresholds

    for talker in ("jax2onnx", "onnx_ir"):  # of parts that are not needed, with tracebacks
        logging.getLogger(talker).setLevel(logging.ERROR)
    detector = load_detector(args, args.seed)
    threshold = None
    if args.threshold:
        default = detector.config.postprocess.threshold
        threshold = parse_thresholds(args.threshold, detector.classes, default)
    beside = write_export(
        detector, args.output, args.input, rule=args.postprocess, threshold=threshold
    )
    print(f"{args.output}\n{beside}")
    return 0
