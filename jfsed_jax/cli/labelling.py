"""The command that labels recordings: predict."""

import argparse
import sys

from jfsed_jax.cli import process
from jfsed_jax.cli.arguments import (
    CommandParser,
    names,
    number,
    output_file,
    output_folder,
    refuse_overwriting,
)
from jfsed_jax.cli.detection import define_detector, load_detector
from jfsed_jax.cli.postprocessing import decoder_of
from jfsed_jax.errors import InputError, one_line


def define_predict(parser: CommandParser) -> None:
    """Adds the flags of `run_predict`."""
    parser.require("--workdir", "Folder of the run.", metavar="DIR")
    define_detector(parser)
    parser.take(
        "AUDIO",
        "Recordings of any length and sample rate; folders of them; patterns as 'd/**/*.flac'.",
    )
    meaning = "Which of a run's config.num_seeds, counted from 0; default: %(default)s."
    parser.add("--seed", meaning, type=number(int, 0), metavar="K", default=0)
    meaning = (
        "Table to write, by its suffix TSV, CSV, JSON Lines (.jsonl) or parquet; "
        "default: TSV to standard output."
    )
    parser.add("--output", meaning, type=output_file(), metavar="FILE")
    parser.switch("resume", "Go on with an --output that was not finished.")
    meaning = (
        "Of the frame posteriors, with change points of the confidences: a number, "
        "CLASS=NUMBER,... or a scores.json of evaluate --tune_thresholds; default: the config's."
    )
    parser.add("--threshold", meaning, metavar="T")
    parser.add("--decoder", "Settings of each class that tune has found.", metavar="FILE.json")
    parser.add("--classes", "Only these; default: all.", type=names(), metavar="A,B")
    meaning = (
        "Share of a clip that the next one hears too; 0 cuts a recording as files of a clip would; "
        "default: %(default)s."
    )
    parser.add("--overlap", meaning, type=number(float, 0, 0.9), metavar="SHARE", default=0.5)
    parser.switch("overwrite", "Also where label files are, which may hold corrections.")
    meaning = "Also write label tracks for Audacity here, one a recording."
    parser.add("--audacity", meaning, type=output_folder(), metavar="DIR")
    meaning = "Also write selection tables for Raven here, one a recording."
    parser.add("--raven", meaning, type=output_folder(), metavar="DIR")
    meaning = "Also write posteriors here, one TSV a recording."
    parser.add("--save_scores", meaning, type=output_folder(), metavar="DIR")
    meaning = (
        "Also write a page to look at and listen to: a file for one recording, a folder for "
        "several."
    )
    parser.add("--page", meaning, type=_output_page, metavar="OUT.html")
    meaning = "Put the sound into the pages: ten minutes, of a longer recording around its events."
    parser.switch("embed_audio", meaning)


def run_predict(args: argparse.Namespace) -> int:
    """Labels what can be heard and names the rest."""
    from jfsed_jax.audio.finding import find_recordings
    from jfsed_jax.cli.recording_files import RecordingPages
    from jfsed_jax.inference.label_outputs import LabelOutputs, format_labelled, plan_files

    if not args.audio:
        raise InputError("no audio files: name one or more after the flags")
    if args.resume and not args.output:
        raise InputError("--resume goes on with an --output: name it too")
    if args.embed_audio and not args.page:
        raise InputError("--embed_audio is for a --page: name it too")
    found = find_recordings(args.audio)
    refuse_overwriting("output", args.output, [*found.paths, args.decoder])
    outputs = LabelOutputs(
        args.output or None,
        audacity=args.audacity or None,
        raven=args.raven or None,
        scores=args.save_scores or None,
        pages=RecordingPages(args.page, found.paths, args.embed_audio) if args.page else None,
        overwrite=args.overwrite,
    )
    tuned = decoder_of(args, "postprocess", "threshold")
    plan_files(outputs, found.paths, resume=args.resume)  # what it refuses, before JAX starts
    process.start_jax_as_trained(args.workdir)
    from jfsed_jax.inference.labelling import label_recordings, parse_thresholds
    from jfsed_jax.training.interrupt import Interrupted, stop_on_signals

    detector = load_detector(args, args.seed)
    threshold = None
    if args.threshold:
        default = detector.config.postprocess.threshold
        threshold = parse_thresholds(args.threshold, detector.classes, default)
    shown: list[bool] = []

    def show(labelled) -> None:
        _show(format_labelled(labelled, header=not shown))
        shown.append(True)

    with stop_on_signals() as stop:

        def end_if_told(seconds: float) -> None:
            if stop.signum is not None:
                raise Interrupted("", stop.signum)

        result = label_recordings(
            detector,
            found,
            outputs,
            rule=args.postprocess,
            threshold=threshold,
            tuned=tuned,
            classes=args.classes,
            overlap=args.overlap,
            resume=args.resume,
            progress=True,
            on_labelled=None if args.output else lambda labelled: show([labelled]),
            on_seconds=end_if_told,
        )
    if not args.output and not shown:
        show([])
    for name, reason in result.failures.items():
        print(f"{one_line(name)}\t{one_line(reason)}", file=sys.stderr)
    if result.failures:
        count = len(found.paths) + len(found.problems)
        raise InputError(f"{len(result.failures)} of {count} files could not be used, see above")
    return 0


def _output_page(text: str) -> str:
    return (output_file() if text.endswith(".html") else output_folder())(text)


def _show(table: bytes) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(table.decode().encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
