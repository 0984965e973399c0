"""Commands on strong labels and anyone's score files, without JAX: windows, postprocess."""

import argparse
from typing import TYPE_CHECKING

from jfsed_jax.cli.arguments import CommandParser, number, output_file, refuse_overwriting
from jfsed_jax.cli.score_inputs import LABELS, column_notes, files_of
from jfsed_jax.configs import base
from jfsed_jax.errors import InputError

if TYPE_CHECKING:
    from jfsed_jax.sed.events import Event


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
        "default: %(default)s.",
        choices=["chord", "mode"],
        default=base.get_config().postprocess.knee,
    )


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
    options = window_rules.rule_options(base.get_config().postprocess, knee=args.knee)
    kwargs = {"frame_rate": args.frame_rate, "options": options}
    windows = window_rules.class_windows(durations, **kwargs)
    print(f"Windows in frames of 1/{args.frame_rate:g} s; knee: {args.knee}\n")
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
        "Where the median windows come from; esp and avg need --strong; default: %(default)s.",
        choices=["esp", "avg", "fixed"],
        default="esp",
    )
    parser.add("--strong", f"Strong labels: {LABELS}", metavar="PATH")
    _define_knee(parser)
    parser.add(
        "--fixed",
        "Window of the fixed rule in frames; default: %(default)s.",
        type=number(int, 1),
        metavar="N",
        default=base.get_config().postprocess.fixed_frames,
    )
    parser.add(
        "--tags",
        "TSV of the system's clip tags (filename event_labels): classes that are not among a "
        "clip's tags get no events in it. It names the audio files too.",
        metavar="FILE",
    )
    meaning = "A frame is active above this score; default: %(default)s."
    parser.add("--threshold", meaning, type=number(float, 0, 1), metavar="P", default=0.5)
    meaning = "Of the audio files, where --tags does not name them; default: %(default)s."
    parser.add("--extension", meaning, metavar=".EXT", default=".wav")


def run_postprocess(args: argparse.Namespace) -> int:
    """Writes the events of score files."""
    from jfsed_jax.sed import postprocessing, score_files, scoring, tables, window_rules

    needs_strong = args.postprocess != "fixed"
    if needs_strong and not args.strong:
        raise InputError(f"--strong is missing, which --postprocess={args.postprocess} needs")
    strong = files_of(args.strong) if args.strong else []
    refuse_overwriting("output", args.output, [*strong, args.tags, args.scores])
    files = score_files.read_score_files(args.scores)
    frame_rate = score_files.frame_rate_of(files)
    events, notes = _read_strong(args.strong) if needs_strong else ([], [])
    durations = window_rules.durations_by_class(events, files.classes)
    options = window_rules.rule_options(
        base.get_config().postprocess, knee=args.knee, fixed_frames=args.fixed
    )
    windows = window_rules.class_windows(durations, frame_rate=frame_rate, options=options)
    print(f"{len(files.clips)} clips at {frame_rate:.6g} frames/s\n")
    print(window_rules.format_windows(windows))
    without = [w.label for w in windows if needs_strong and not w.num_events]
    if without:
        print(f"note: no strong labels of {', '.join(without)}: fixed window")
    for note in notes:
        print(f"note: {note}")
    filenames = [clip + args.extension for clip in files.clips]
    clip = None
    if args.tags:
        tags = tables.read_tags(args.tags, classes=files.classes).tags
        named = {score_files.clip_name(name): name for name in tags}
        filenames = [named.get(c, name) for c, name in zip(files.clips, filenames, strict=True)]
        clip = scoring.tag_matrix(tags, filenames, files.classes)
    sizes = window_rules.window_sizes(
        durations, args.postprocess, frame_rate=frame_rate, options=options
    )
    decode = postprocessing.median_decoder(
        sizes, classes=files.classes, frame_rate=1.0, threshold=args.threshold
    )
    found = score_files.decode_files(files, decode, filenames=filenames, clip=clip)
    tables.write_events(args.output, found)
    print(f"\n{len(found)} events in {args.output}")
    return 0
