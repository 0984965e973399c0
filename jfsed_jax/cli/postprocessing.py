"""Commands on strong labels and anyone's score files, without JAX: windows, postprocess."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jfsed_jax.cli.arguments import CommandParser, number, output_file, refuse_overwriting
from jfsed_jax.cli.score_inputs import LABELS, column_notes, files_of
from jfsed_jax.configs import base
from jfsed_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from jfsed_jax.sed.decoder_files import TunedDecoder
    from jfsed_jax.sed.events import Event
    from jfsed_jax.sed.postprocessing import Decode
    from jfsed_jax.sed.score_files import ScoreFiles
    from jfsed_jax.sed.window_rules import RuleOptions


def _read_strong(path: str) -> "tuple[list[Event], list[str]]":
    """Strong labels of a label file or a folder of such, and what is strange about them."""
    from jfsed_jax.sed import label_files, score_checks

    files = label_files.read_label_files(path)
    events = label_files.joined(files).events
    return events, score_checks.unit_notes({path: events}) + column_notes([files])


def _define_knee(parser: CommandParser) -> None:
    parser.add(
        "--knee",
        "Inflection point of the durations' CDF: furthest above its chord, or steepest; "
        f"default: {base.get_config().postprocess.knee}.",
        choices=["chord", "mode"],
    )


def _rule_options(**given: object) -> "RuleOptions":
    """The config's, where a flag was not given."""
    from jfsed_jax.sed.window_rules import rule_options

    changes = {name: value for name, value in given.items() if value is not None}
    return rule_options(base.get_config().postprocess, **changes)


def define_windows(parser: CommandParser) -> None:
    """Adds the flags of `run_windows`."""
    parser.require("--strong", f"Strong labels: {LABELS}", metavar="PATH")
    _define_knee(parser)
    meaning = "Frames per second; default: %(default)g."
    parser.add("--frame_rate", meaning, type=number(float, 0.01), metavar="HZ", default=60.0)
    parser.add(
        "--bootstrap",
        "Resamples of the events: how far knee, N_c and window move (90 %% intervals); "
        "default: %(default)s.",
        type=number(int, 0),
        metavar="N",
        default=0,
    )


def run_windows(args: argparse.Namespace) -> int:
    """Prints the windows, and how stable they are."""
    from jfsed_jax.sed import window_rules

    events, notes = _read_strong(args.strong)
    classes = sorted({event.event_label for event in events})
    if not classes:
        raise InputError(f"{args.strong} has no events; expected strong labels")
    durations = window_rules.durations_by_class(events, classes)
    options = _rule_options(knee=args.knee)
    kwargs = {"frame_rate": args.frame_rate, "options": options}
    windows = window_rules.class_windows(durations, **kwargs)
    print(f"Windows in frames of 1/{args.frame_rate:g} s; knee: {options.knee}\n")
    print(window_rules.format_windows(windows))
    for note in notes:
        print(f"note: {note}")
    if args.bootstrap:
        print(f"\n90 % of {args.bootstrap} resamples of the events, clear knee or not\n")
        resampled = {
            label: window_rules.resampled_knees(d, **kwargs, num_resamples=args.bootstrap)
            for label, d in durations.items()
        }
        print(window_rules.format_stability(resampled))
    return 0


def define_postprocess(parser: CommandParser) -> None:
    """Adds the flags of `run_postprocess`."""
    parser.require("--scores", "Folder of score files, one per clip.", metavar="DIR")
    meaning = "TSV of events to write."
    parser.require("--output", meaning, type=output_file(), metavar="FILE.tsv")
    parser.add(
        "--postprocess",
        "Where the median windows come from (esp and avg need --strong), or change_points, without "
        "medians; default: esp.",
        choices=["esp", "avg", "fixed", "change_points"],
    )
    meaning = "Settings of each class that tune has found, in place of a rule and --threshold."
    parser.add("--decoder", meaning, metavar="FILE.json")
    parser.add("--strong", f"Strong labels: {LABELS}", metavar="PATH")
    _define_knee(parser)
    parser.add(
        "--fixed",
        "Window of the fixed rule in frames; default: "
        f"{base.get_config().postprocess.fixed_frames}.",
        type=number(int, 1),
        metavar="N",
    )
    parser.add(
        "--tags",
        "TSV of the system's clip tags (filename event_labels): classes that are not among a "
        "clip's tags get no events in it. It names the audio files too.",
        metavar="FILE",
    )
    meaning = "A frame is active above this score; default: 0.5."
    parser.add("--threshold", meaning, type=number(float, 0, 1), metavar="P")
    meaning = "Of the audio files, where --tags does not name them; default: %(default)s."
    parser.add("--extension", meaning, metavar=".EXT", default=".wav")


def run_postprocess(args: argparse.Namespace) -> int:
    """Writes the events of score files."""
    from jfsed_jax.sed import decoder_files, score_files, tables
    from jfsed_jax.sed.change_points import ChangePoints, change_point_decoder

    strong = files_of(args.strong) if args.strong else []
    inputs = [*strong, args.tags, args.scores, args.decoder]
    refuse_overwriting("output", args.output, inputs)
    of_windows = ("strong", "knee", "fixed")
    tuned = decoder_of(args, "postprocess", "threshold", *of_windows)
    ruled = tuned is None and args.postprocess != "change_points"
    if not ruled:
        _refuse_beside(args, "--postprocess=change_points", *of_windows)
    if ruled and args.postprocess != "fixed" and not args.strong:
        rule = args.postprocess or "esp"
        raise InputError(f"--strong is missing, which --postprocess={rule} needs")
    files = score_files.read_score_files(args.scores)
    frame_rate = score_files.frame_rate_of(files)
    print(f"{len(files.clips)} clips at {frame_rate:.6g} frames/s\n")
    if ruled:
        decode = _median_decoder(args, files.classes, frame_rate)
    elif tuned is None:
        print(f"change points, the same settings for all classes: {ChangePoints()._asdict()}")
        decode = change_point_decoder(
            None,
            classes=files.classes,
            frame_rate=frame_rate,
            threshold=0.5 if args.threshold is None else args.threshold,
            time_rate=1.0,
        )
    else:
        tuned.check_classes(files.classes, args.decoder)
        print(decoder_files.format_settings(tuned))
        decode = tuned.decode(files.classes, frame_rate, time_rate=1.0)
    filenames, tags = tagged_clips(args.tags, files, args.extension)
    found = score_files.decode_files(files, decode, filenames=filenames, clip=tags)
    tables.write_events(args.output, found)
    print(f"\n{len(found)} events in {args.output}")
    return 0


def decoder_of(args: argparse.Namespace, *flags: str) -> "TunedDecoder | None":
    """The file of --decoder, if there is one; InputError beside flags whose part it takes, or if
    it is for other classes than those of --workdir."""
    from jfsed_jax.runs.workdir import Workdir, read_json
    from jfsed_jax.sed.decoder_files import read_decoder

    if not args.decoder:
        return None
    _refuse_beside(args, "--decoder", *flags)
    tuned = read_decoder(args.decoder)
    meta = read_json(Workdir(Path(args.workdir)).meta) if "workdir" in args else None
    if meta and isinstance(classes := meta.get("classes"), list):
        tuned.check_classes(classes, args.decoder)
    return tuned


def _refuse_beside(args: argparse.Namespace, decisive: str, *flags: str) -> None:
    for flag in flags:
        value = getattr(args, flag)
        if value is not None and value is not False:
            raise InputError(f"--{flag} beside {decisive}, which decides that: leave one out")


def tagged_clips(
    path: str | None, files: "ScoreFiles", extension: str
) -> "tuple[list[str], np.ndarray | None]":
    """The audio files of score files, and which classes they are tagged with <bool>[B, C].

    Args:
      path: the table of tags, or None.
      files: of B clips and C classes.
      extension: of audio files that the table does not name.
    """
    from jfsed_jax.sed import score_files, scoring, tables

    filenames = [clip + extension for clip in files.clips]
    if not path:
        return filenames, None
    tags = tables.read_tags(path, classes=files.classes).tags
    named = {score_files.clip_name(name): name for name in tags}
    filenames = [named.get(c, name) for c, name in zip(files.clips, filenames, strict=True)]
    return filenames, scoring.tag_matrix(tags, filenames, files.classes)


def _median_decoder(
    args: argparse.Namespace, classes: "Sequence[str]", frame_rate: float
) -> "Decode":
    """The windows of a rule, which are printed; times of events are in frames."""
    from jfsed_jax.sed import postprocessing, window_rules

    rule = args.postprocess or "esp"
    needs_strong = rule != "fixed"
    events, notes = _read_strong(args.strong) if needs_strong else ([], [])
    durations = window_rules.durations_by_class(events, classes)
    options = _rule_options(knee=args.knee, fixed_frames=args.fixed)
    windows = window_rules.class_windows(durations, frame_rate=frame_rate, options=options)
    print(window_rules.format_windows(windows))
    without = [w.label for w in windows if needs_strong and not w.num_events]
    if without:
        print(f"note: no strong labels of {', '.join(without)}: fixed window")
    for note in notes:
        print(f"note: {note}")
    sizes = window_rules.window_sizes(durations, rule, frame_rate=frame_rate, options=options)
    return postprocessing.median_decoder(
        sizes,
        classes=classes,
        frame_rate=1.0,
        threshold=0.5 if args.threshold is None else args.threshold,
    )
