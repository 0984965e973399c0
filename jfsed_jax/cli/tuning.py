"""The command that finds the settings of a decoder on labelled clips, without JAX: tune."""

import argparse
from typing import TYPE_CHECKING

from jfsed_jax.cli.arguments import CommandParser, names, number, output_file, refuse_overwriting
from jfsed_jax.cli.postprocessing import tagged_clips
from jfsed_jax.cli.score_inputs import LABELS, files_of
from jfsed_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jfsed_jax.sed.score_files import ScoreFiles
    from jfsed_jax.sed.tuning import Candidates, TunedClass


# What is tried for change points: 0 and 1 leave out a criterion.
FILTERS: tuple[float, ...] = (0.32, 0.48, 0.64)  # seconds
MERGE_ABSOLUTE = (0.0, 0.1, 0.2, 0.3)
MERGE_RELATIVE = (1.0, 1.5, 2.0, 3.0)


def define_tune(parser: CommandParser) -> None:
    """Adds the flags of `run_tune`."""
    parser.require("--scores", "Folder of score files, one per clip.", metavar="DIR")
    meaning = f"Reference events of the clips to tune on, those without events too: {LABELS}"
    parser.require("--reference", meaning, metavar="PATH")
    meaning = "Decoder file to write, for postprocess, evaluate and predict."
    parser.require("--output", meaning, type=output_file(), metavar="FILE.json")
    meaning = "TSV of clip durations; clips that only it names count too."
    parser.add("--durations", meaning, metavar="FILE")
    parser.add(
        "--metric",
        "Whose F1 of each class is to be best; default: %(default)s.",
        choices=["event_f1", "segment_f1", "at_f1_events", "intersection_f1"],
        default="event_f1",
    )
    meaning = "Median windows to try, in seconds; default: 1 frame to 3 s, each half as long again."
    parser.add("--windows", meaning, type=names(), metavar="S,S")
    meaning = "What becomes of posteriors before the threshold; default: %(default)s."
    parser.add("--decoder", meaning, choices=["median", "change_points"], default="median")
    shown = ", ".join(f"{length:g}" for length in FILTERS)
    meaning = f"Step filters of change_points to try, in seconds; default: {shown}."
    parser.add("--filters", meaning, type=names(), metavar="S,S")
    meaning = "Parts of the clips for the cross-validation, 0 for none; default: %(default)s."
    parser.add("--folds", meaning, type=number(int, 0), metavar="K", default=5)
    meaning = "Of the deal of clips into parts; default: %(default)s."
    parser.add("--seed", meaning, type=number(int, 0), metavar="N", default=0)
    parser.add(
        "--tags",
        "TSV of the system's clip tags (filename event_labels), which gate as in postprocess.",
        metavar="FILE",
    )


def run_tune(args: argparse.Namespace) -> int:
    """Writes the decoder file, and prints how good it is, on its own clips and held out."""
    from jfsed_jax.sed import decoder_files, label_files, score_files, scoring, tables, tuning

    inputs = [*files_of(args.reference), args.durations, args.tags, args.scores]
    refuse_overwriting("output", args.output, inputs)
    table = label_files.joined(label_files.read_label_files(args.reference))
    durations = tables.read_durations(args.durations) if args.durations else {}
    named = list(dict.fromkeys([*table.filenames, *durations]))
    files = score_files.read_score_files(args.scores)
    scoring.check_events(table.events, named, files.classes, args.reference)
    frame_rate = score_files.frame_rate_of(files)
    _, tags = tagged_clips(args.tags, files, "")
    rows, others = _rows(files, named, args.scores)
    tried, lengths = _candidates(args, frame_rate)
    tuned = tuning.tune_classes(
        [files.scores[b] * (1 if tags is None else tags[b]) for b in rows],
        [files.times[b] for b in rows],
        table.events,
        dict.fromkeys(files.classes, tried),
        filenames=named,
        metric=args.metric,
        folds=args.folds,
        seed=args.seed,
    )
    f1, held_out = (
        tuning.summary([getattr(one, of) for one in tuned.values()], args.metric, files.classes)
        for of in ("counts", "held_out")
    )
    decoder = decoder_files.TunedDecoder(
        args.decoder,
        medians=2 if args.decoder == "median" else 0,
        classes={
            label: {"threshold": one.threshold, **one.settings} for label, one in tuned.items()
        },
        tuned={
            "scores": args.scores,
            "reference": args.reference,
            "tags": args.tags,
            "clips": len(named),
            "frame_rate": frame_rate,
            "metric": args.metric,
            "folds": args.folds,
            "seed": args.seed,
            "f1": f1,
            "cross_validated_f1": held_out,
        },
    )
    decoder_files.write_decoder(args.output, decoder)
    print(f"{len(named)} clips at {frame_rate:.6g} frames/s, tuned for {args.metric}\n")
    print(decoder_files.format_settings(decoder))
    print(f"\n{tuning.format_tuned(tuned, f1, held_out)}")
    if others:
        print(
            f"note: {others} score files are of clips that {args.reference} does not name: unused"
        )
    without = [label for label, one in tuned.items() if not one.counts[0]]
    if without:
        print(f"note: no reference events of {', '.join(without)}: threshold 0.5, first settings")
    for note in _edge_notes(tuned, lengths, frame_rate):
        print(f"note: {note}")
    print(f"\n{args.output}")
    return 0


def _edge_notes(
    tuned: "Mapping[str, TunedClass]", lengths: "Sequence[float]", frame_rate: float
) -> list[str]:
    """Classes whose window or filter is the longest or the shortest that was tried, in seconds."""
    notes = []
    for edge, further in ((max(lengths), "longer"), (min(lengths), "shorter")):
        found = [
            label
            for label, one in tuned.items()
            if one.counts[0] and edge in (one.settings.get("window"), one.settings.get("filter"))
        ]
        # One was asked for, or there is nothing shorter.
        if found and len(lengths) > 1 and (further == "longer" or edge * frame_rate > 2):
            notes.append(
                f"of those tried, {edge:.3g} s is the last and the best of {', '.join(found)}: "
                f"{further} ones may be better"
            )
    return notes


def _rows(files: "ScoreFiles", named: list[str], folder: str) -> tuple[list[int], int]:
    """Which score file each clip has, and how many are of none."""
    from jfsed_jax.sed.score_files import clip_names

    place = {clip: b for b, clip in enumerate(files.clips)}
    wanted = clip_names(named)
    missing = [name for name, clip in zip(named, wanted, strict=True) if clip not in place]
    if missing:
        raise InputError(
            f"{folder} has no score file of the clip {missing[0]!r} and {len(missing) - 1} others"
        )
    return [place[clip] for clip in wanted], len(place) - len(wanted)


def _candidates(
    args: argparse.Namespace, frame_rate: float
) -> "tuple[Candidates, Sequence[float]]":
    """What is tried for each class, and of which lengths in seconds."""
    import numpy as np

    from jfsed_jax.sed import tuning
    from jfsed_jax.sed.change_points import change_point_candidates
    from jfsed_jax.sed.decoder_files import LONGEST, window_frames

    for flag, decoder in (("windows", "median"), ("filters", "change_points")):
        if getattr(args, flag) and args.decoder != decoder:
            raise InputError(f"--{flag} is for --decoder={decoder}")
    if args.decoder == "change_points":
        filters = FILTERS
        if args.filters:
            filters = tuple(sorted(_numbers("filters", args.filters, LONGEST)))
        return change_point_candidates(
            filters, MERGE_ABSOLUTE, MERGE_RELATIVE, frame_rate=frame_rate
        ), filters
    windows = tuning.windows_of(frame_rate)
    if args.windows:
        seconds = np.array(_numbers("windows", args.windows, LONGEST))
        windows = sorted(set(window_frames(seconds, frame_rate).tolist()))
    lengths = [window / frame_rate for window in windows]
    return tuning.median_candidates(windows, frame_rate=frame_rate), lengths


def _numbers(flag: str, texts: list[str], highest: float) -> list[float]:
    """The values of a flag that takes several numbers from 0 to `highest`."""
    parse = number(float, 0, highest)
    try:
        return [parse(text) for text in texts]
    except argparse.ArgumentTypeError as error:
        raise InputError(f"--{flag}: {error}") from error
