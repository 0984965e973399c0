"""Commands that use a trained system: evaluate, report."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jfsed_jax.cli import process
from jfsed_jax.cli.arguments import CommandParser, add_bootstrap, number, output_folder
from jfsed_jax.cli.postprocessing import decoder_of
from jfsed_jax.errors import InputError

if TYPE_CHECKING:
    from jfsed_jax.inference.detector import Detector


def define_detector(parser: CommandParser) -> None:
    """Adds the flags that say which outputs of which models count."""
    meaning = "Which checkpoint; default: %(default)s."
    parser.add("--checkpoint", meaning, choices=["best", "latest"], default="best")
    meaning = "Whose posteriors; default: the config's."
    parser.add("--model", meaning, choices=["student", "teacher", "mean"])
    meaning = "Whose clip posteriors gate the student's frames; default: the config's."
    parser.add("--tags", meaning, choices=["student", "teacher", "mean"])
    meaning = (
        "Windows of the median filters: esp, avg, fixed or package.module:function; "
        "default: the config's."
    )
    parser.add("--postprocess", meaning, metavar="RULE")


def load_detector(args: argparse.Namespace, seed: int) -> "Detector":
    """What the flags of `define_detector` name; InputError if a flag could have no effect."""
    from jfsed_jax.inference.detector import load

    detector = load(args.workdir, args.checkpoint, args.model, seed, tags=args.tags)
    if args.postprocess and detector.config.postprocess.decoder == "change_points":
        raise InputError(
            f"--postprocess={args.postprocess} names windows, and the decoder of {args.workdir} "
            "is change_points, which has none: leave it out"
        )
    return detector


def define_evaluate(parser: CommandParser) -> None:
    """Adds the flags of `run_evaluate`."""
    parser.require("--workdir", "Folder of the run.", type=output_folder(), metavar="DIR")
    define_detector(parser)
    meaning = "Folder of audio and metadata; default: that of training."
    parser.add("--data", meaning, metavar="DIR")
    parser.add("--features", "Folder of the features.", type=output_folder(), metavar="DIR")
    meaning = "Which of a run's config.num_seeds, counted from 0; default: all."
    parser.add("--seed", meaning, type=number(int, 0), metavar="K")
    meaning = "Clips; default: %(default)s."
    parser.add("--split", meaning, choices=["validation", "eval"], default="validation")
    meaning = "Class-wise thresholds from the clips that training held out."
    parser.switch("tune_thresholds", meaning)
    parser.add("--decoder", "Settings of each class that tune has found.", metavar="FILE.json")
    meaning = "Also write posteriors here, one TSV a clip."
    parser.add("--score_files", meaning, type=output_folder(), metavar="DIR")
    add_bootstrap(parser)


def run_evaluate(args: argparse.Namespace) -> int:
    """Scores one seed of a run, or each of them; of a config with members each of those.

    A member that cannot be scored does not stop the others.
    """
    from jfsed_jax.runs.workdir import Workdir

    members = Workdir(Path(args.workdir)).members()
    if not members:
        return _evaluate(args)
    failures = []
    for own in members:
        folder = f"member{own.path.name}"
        score_files = Path(args.score_files) / folder if args.score_files else None
        where = {"workdir": str(own.path), "score_files": score_files}
        print(f"{own.path}")
        try:
            _evaluate(argparse.Namespace(**vars(args) | where))
        except InputError as error:
            print("not scored")
            failures.append(str(error))
        print()
    if failures:
        raise InputError("; ".join(failures))
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    tuned = decoder_of(args, "postprocess", "tune_thresholds")
    process.start_jax_as_trained(args.workdir)
    from jfsed_jax.inference.evaluation import evaluate, prepare_for
    from jfsed_jax.inference.focal_weights import write_adaptive_weights
    from jfsed_jax.inference.held_out_curves import write_threshold_curves
    from jfsed_jax.inference.seeds import write_seeds
    from jfsed_jax.report.run_scores import decoder_file_text
    from jfsed_jax.sed import score_text

    detector = load_detector(args, args.seed or 0)
    workdir, num_seeds = detector.workdir, detector.config.num_seeds
    seeds = range(num_seeds) if args.seed is None else [args.seed]
    prepared = prepare_for(detector, args.data or None, args.features or None)
    remembered = detector.meta.get("data_dir")
    audio = args.data or (workdir.remembered(remembered) if remembered else None)
    all_scores = []
    for k in seeds:
        if k != detector.seed:
            detector = load_detector(args, k)
        own = workdir.seed(k, num_seeds)
        score_files = Path(args.score_files) if args.score_files else None
        scores = evaluate(
            detector,
            prepared,
            own,
            split=args.split,
            rule=args.postprocess,
            tune=args.tune_thresholds,
            tuned=tuned,
            data_dir=audio,
            num_resamples=args.bootstrap,
            score_files=score_files / f"seed{k}" if score_files and len(seeds) > 1 else score_files,
        )
        write_adaptive_weights(detector, prepared, own)
        if tuned is None:  # they are of the config's decoder, whose scores these are not
            write_threshold_curves(detector, prepared, own, args.postprocess)
        all_scores.append(scores)
        info = scores["info"]
        how = f"{info['postprocess']}{' windows' if info['windows'] else ''}"
        if tuned is not None:
            how = f"{args.decoder} ({decoder_file_text(info)})"
        print(
            f"{info['system']}{f', seed {k}' if num_seeds > 1 else ''}, step "
            f"{info['checkpoint_step']}, {info['num_clips']} clips of {info['split']}, "
            f"{how}{', tuned thresholds' if args.tune_thresholds else ''}"
            f"\n{score_text.format_scores(scores, scores['intervals'])}\n"
            f"{own.split(args.split).path}"
        )
    if len(seeds) > 1:
        print(f"\n{score_text.format_seeds(write_seeds(workdir, all_scores, args.bootstrap))}")
    return 0


def define_report(parser: CommandParser) -> None:
    """Adds the flags of `run_report`."""
    parser.require("--workdir", "Folder of the run.", type=output_folder(), metavar="DIR")


def run_report(args: argparse.Namespace) -> int:
    """Writes the page and prints its path."""
    from jfsed_jax.report.run_page import write_report

    print(write_report(args.workdir))
    return 0
