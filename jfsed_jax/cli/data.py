"""Commands about a data folder: prepare, inspect, openmix."""

import argparse
from typing import TYPE_CHECKING

from jfsed_jax.cli.arguments import CommandParser, number, output_file, output_folder

if TYPE_CHECKING:
    from jfsed_jax.datasets import Prepared


def define_prepare(parser: CommandParser) -> None:
    """Adds the flags of `run_prepare`."""
    _define_data(parser)
    meaning = "Read all features that are there, and make anew what is damaged."
    parser.switch("verify", meaning)


def _define_data(parser: CommandParser) -> None:
    parser.require("--data", "Data folder: audio/ and metadata/.", metavar="DIR")
    parser.config = True
    meaning = (
        "Whose front end makes the features; by default that of --features if there are some, or "
        "the one of configs/base.py."
    )
    parser.add("--config", meaning, metavar="FILE")
    meaning = "Where to keep the features; by default in your cache folder."
    parser.add("--features", meaning, type=output_folder(), metavar="DIR")
    parser.switch("strict", "Refuse a folder with missing clips or flawed labels.")
    meaning = "Processes that decode; by default one per core."
    parser.add("--workers", meaning, type=number(int, 1), metavar="N")


def run_prepare(args: argparse.Namespace) -> int:
    """Extracts the features and prints what the folder holds."""
    from jfsed_jax.datasets.preparation import format_summary

    print(format_summary(_prepared(args, verify=args.verify)))
    return 0


def define_inspect(parser: CommandParser) -> None:
    """Adds the flags of `run_inspect`."""
    _define_data(parser)
    meaning = "The page to write; by default inspect.html beside the features."
    parser.add("--output", meaning, type=output_file(), metavar="FILE.html")


def run_inspect(args: argparse.Namespace) -> int:
    """Writes the page and prints its path."""
    from jfsed_jax.report.inspection import write_page

    print(write_page(_prepared(args), args.output))
    return 0


def define_openmix(parser: CommandParser) -> None:
    """Adds the flags of `run_openmix`."""
    meaning = "Clone of github.com/karolpiczak/ESC-10 at commit 553c8f1."
    parser.require("--esc10", meaning, metavar="DIR")
    meaning = "Clone of github.com/Jakobovski/free-spoken-digit-dataset."
    parser.require("--fsdd", meaning, metavar="DIR")
    meaning = "Where to make the data folder."
    parser.require("--out", meaning, type=output_folder(), metavar="DIR")
    meaning = "Mix another set, of the training recordings alone, to make choices on."
    parser.switch("rehearsal", meaning)
    meaning = "Processes that mix; by default one per core."
    parser.add("--workers", meaning, type=number(int, 1), metavar="N")


def run_openmix(args: argparse.Namespace) -> int:
    """Mixes the set and prints where it is; run again, it goes on where it stopped."""
    from jfsed_jax.datasets.openmix import mix

    print(mix(args.esc10, args.fsdd, args.out, rehearsal=args.rehearsal, workers=args.workers))
    return 0


def _prepared(args: argparse.Namespace, *, verify: bool = False) -> "Prepared":
    from jfsed_jax.audio.front_end import FrontEnd
    from jfsed_jax.configs import base
    from jfsed_jax.datasets import features_folder, prepare

    front_end = None
    if args.config is not None:
        front_end = FrontEnd(**args.config.front_end)
    elif args.features is not None:
        front_end = features_folder.front_end_of(args.features)
    return prepare(
        args.data,
        front_end or FrontEnd(**base.get_config().front_end),
        features_dir=args.features,
        strict=args.strict,
        workers=args.workers,
        verify=verify,
    )
