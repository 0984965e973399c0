"""The command that puts runs beside one another, without JAX: compare."""

import argparse
from pathlib import Path

from jfsed_jax.cli.arguments import CommandParser, add_bootstrap, number, output_file


def define_compare(parser: CommandParser) -> None:
    """Adds the flags of `run_compare`."""
    parser.take(
        "WORKDIR",
        "Of runs, or folders of scores in them (W/eval-esp); those that differ in the seed alone "
        "are one system. The others are compared to the first.",
    )
    meaning = "Clips that all of them were scored on; default: %(default)s."
    parser.add("--split", meaning, choices=["validation", "eval"], default="validation")
    meaning = "The page; default: %(default)s."
    parser.add("--output", meaning, type=output_file(), metavar="FILE", default="compare.html")
    add_bootstrap(parser)
    meaning = "Seed of the resamples; default: %(default)s."
    parser.add("--seed", meaning, type=number(int, 0), metavar="N", default=0)


def run_compare(args: argparse.Namespace) -> int:
    """Prints the comparison, writes its page and prints the path of that."""
    from jfsed_jax.report.comparison import compare_runs
    from jfsed_jax.report.comparison_page import write_comparison
    from jfsed_jax.report.comparison_text import format_comparison

    compared = compare_runs(
        args.workdir, split=args.split, num_resamples=args.bootstrap, seed=args.seed
    )
    print(format_comparison(compared))
    print(f"\n{write_comparison(Path(args.output), compared)}")
    return 0
