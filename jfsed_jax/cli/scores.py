"""The command that scores anyone's events, without JAX: score."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jfsed_jax.cli.arguments import CommandParser, names, number, output_file, refuse_overwriting
from jfsed_jax.errors import InputError

if TYPE_CHECKING:
    from jfsed_jax.sed.events import Event
    from jfsed_jax.sed.score_files import ScoreFiles
    from jfsed_jax.sed.tables import EventTable

    Files = list[tuple[str, EventTable]]  # of one system, each with its path


LABELS = "TSV or CSV, a label file of Audacity or Raven, or a folder of such files."


def define_score(parser: CommandParser) -> None:
    """Adds the flags of `run_score`."""
    meaning = f"Reference events, clips without events count: {LABELS}"
    parser.require("--reference", meaning, metavar="PATH")
    parser.require("--estimates", "A system's events, likewise.", metavar="PATH")
    meaning = "TSV of clip durations; clips that only it names are scored too."
    parser.add("--durations", meaning, metavar="FILE")
    parser.add(
        "--match",
        "How clips of different tables are the same: by name, or by base name without folders and "
        "the suffix of an audio file; default: %(default)s.",
        choices=["name", "stem"],
        default="name",
    )
    meaning = "Labels to score; default: those of the reference."
    parser.add("--classes", meaning, type=names(), metavar="LABEL,LABEL")
    meaning = "Write all scores to this file."
    parser.add("--json", meaning, type=output_file(), metavar="FILE")
    parser.switch(
        "psds",
        "Also intersection F1 of --estimates, and PSDS from --scores or --operating_points; needs "
        "--durations and the extra psds.",
    )
    meaning = "Folder of score files, one per clip: PSDS 1 and 2, exact."
    parser.add("--scores", meaning, metavar="DIR")
    meaning = "Folder of event lists, one per threshold: PSDS 1 and 2."
    parser.add("--operating_points", meaning, metavar="DIR")
    meaning = "Events of a second system: is it better, or is that noise?"
    parser.add("--compare", meaning, metavar="PATH")
    parser.add(
        "--bootstrap",
        "Number of resamples of the clips for 95 %% intervals, 0 for none; default: %(default)s.",
        type=number(int, 0),
        metavar="N",
        default=1000,
    )
    meaning = "Seed of the resamples; default: %(default)s."
    parser.add("--seed", meaning, type=number(int, 0), metavar="N", default=0)


@dataclass(frozen=True)
class ScoreInputs:
    """What `score` was given, read and checked.

    Attributes:
      reference: events and clips.
      systems: the events of --estimates and of --compare by the names of these flags.
      durations: seconds by clip, as far as they are known.
      filenames: the clips that are scored.
      classes: labels.
      files: posteriors of --scores.
      points: events of every file of --operating_points.
      notes: what is no error but strange.
    """

    reference: "EventTable"
    systems: dict[str, "EventTable"]
    durations: dict[str, float]
    filenames: list[str]
    classes: list[str]
    files: "ScoreFiles | None"
    points: list[list["Event"]]
    notes: list[str]


def _read_inputs(args: argparse.Namespace) -> ScoreInputs:
    """Reads all before anything is scored; InputError says what cannot be."""
    from jfsed_jax.sed import label_files, psds, score_checks, score_files, scoring, tables

    roles = [role for role in ("reference", "estimates", "compare") if getattr(args, role)]
    inputs: list[str | Path] = [args.durations, args.scores, args.operating_points]
    for role in roles:
        inputs += files_of(getattr(args, role))
    refuse_overwriting("json", args.json, inputs)
    for flag in ("scores", "operating_points"):
        if getattr(args, flag) and not args.psds:
            raise InputError(f"--{flag} is for --psds, which is missing; see --help")
    if args.psds and not args.durations:
        raise InputError("--durations is missing, which --psds needs; see --help")
    read = {role: label_files.read_label_files(getattr(args, role)) for role in roles}
    durations = tables.read_durations(args.durations) if args.durations else {}
    if args.match == "stem":
        read = {role: _by_stem(getattr(args, role), files) for role, files in read.items()}
        stems = label_files.by_stem(args.durations, durations)
        durations = {stems[name]: seconds for name, seconds in durations.items()}
    systems = {role: label_files.joined(files) for role, files in read.items()}
    reference = systems.pop("reference")
    filenames = list(dict.fromkeys([*reference.filenames, *durations]))
    classes = args.classes or sorted({event.event_label for event in reference.events})
    if not classes:
        raise InputError(f"{args.reference} has no events; name the labels with --classes")
    score_checks.check_classes(classes)
    files, points = None, []
    if args.psds:
        score_checks.check_durations(args.durations, durations, filenames, "--psds")
        if args.scores:
            files = score_files.read_score_files(args.scores)
            score_checks.check_segments(files, durations)
        if args.operating_points:
            paths = sorted(Path(args.operating_points).glob("*.tsv"))
            if not paths:
                raise InputError(
                    f"{args.operating_points} holds no .tsv file; expected a list of events each"
                )
            points = [(str(path), tables.read_events(path)) for path in paths]
            if args.match == "stem":
                points = [pair for point in points for pair in _by_stem(point[0], [point])]
    kinds = [*read.values(), points]
    events = {args.reference: reference.events}
    events |= {getattr(args, role): table.events for role, table in systems.items()}
    notes = score_checks.unit_notes(events) + column_notes(kinds)
    for kind in kinds:
        if args.match == "name":
            _refuse_other_names(kind, filenames)
        for path, table in kind:
            scoring.check_events(table.events, filenames, classes, path, table.rows)
        score_checks.check_times(kind, durations)
        notes += score_checks.late_notes(kind, durations)
    if files:
        notes += score_checks.segment_notes(files, durations)
    if args.psds:
        psds.library("sed_scores_eval")
        if points:
            psds.library("psds_eval")
        for kind in (*kinds[:2], points):
            notes += score_checks.overlap_notes(kind)
    return ScoreInputs(
        reference,
        systems,
        durations,
        filenames,
        classes,
        files,
        [table.events for _, table in points],
        notes,
    )


def _by_stem(path: str, files: "Files") -> "Files":
    """The tables of one system with base names; see `label_files.by_stem`."""
    from jfsed_jax.sed import label_files

    names = label_files.by_stem(path, [name for _, table in files for name in table.filenames])
    return [(file, label_files.renamed(table, names)) for file, table in files]


def _refuse_other_names(files: "Files", filenames: list[str]) -> None:
    """InputError for events of a clip that is scored under another folder or suffix."""
    from jfsed_jax.sed import label_files

    names = set(filenames)
    known = {label_files.stem_of(name): name for name in filenames}
    for path, table in files:
        for event, row in zip(table.events, table.rows, strict=True):
            name = event.filename
            scored = known.get(label_files.stem_of(name))
            if scored is not None and name not in names:
                raise InputError(
                    f"{path}, row {row}: the clip {name!r} is not scored, {scored!r} is; "
                    "--match=stem passes over folders and the suffixes of audio files"
                )


def files_of(path: str | Path) -> list[Path]:
    """The files that are read of a label file or a folder of such files."""
    from jfsed_jax.sed import label_files

    return label_files.files_in(path) if Path(path).is_dir() else [Path(path)]


def column_notes(kinds: Sequence["Files"]) -> list[str]:
    """A note on label files with several columns that may be the label's, or nothing."""
    from jfsed_jax.sed import label_files

    problems = [p for kind in kinds for _, table in kind for p in table.problems]
    found = [str(p) for p in problems if p.reason.startswith(label_files.SEVERAL_COLUMNS)]
    others = f"; {len(found) - 1} more files so" if len(found) > 1 else ""
    return [found[0] + others] if found else []


def run_score(args: argparse.Namespace) -> int:
    """Scores one system, or two and their difference."""
    from jfsed_jax.runs.workdir import write_json
    from jfsed_jax.sed import score_text, scoring, uncertainty

    given = _read_inputs(args)
    reference, filenames, classes = given.reference.events, given.filenames, given.classes
    result: dict[str, Any] = {
        "info": {
            "reference": args.reference,
            "num_clips": len(filenames),
            "classes": classes,
            "num_resamples": args.bootstrap,
            "seed": args.seed,
            "notes": given.notes,
        }
    }
    print(f"{len(filenames)} clips, {len(classes)} classes, {len(reference)} events")
    for note in given.notes:
        print(f"note: {note}")
    all_scores: dict[str, scoring.Scores] = {}
    all_counts: dict[str, list[scoring.Counts]] = {}
    for role, table in given.systems.items():
        all_scores[role], counts = scoring.score_clips(
            reference, table.events, filenames=filenames, classes=classes
        )
        all_counts[role] = [counts]
    compared = uncertainty.compare_systems(
        all_counts, classes=classes, num_resamples=args.bootstrap, seed=args.seed
    )
    for role, scores in all_scores.items():
        intervals = {key: found.interval for key, found in compared[role].items()}
        path = getattr(args, role)
        print(f"\n{path}\n{score_text.format_scores(scores, intervals)}")
        entry = {**scores, "intervals": intervals, "file": path}
        result |= entry if role == "estimates" else {role: entry}
    if args.compare:
        differences = {k: e.against_first for k, e in compared["compare"].items()}
        result["differences"] = {k: d._asdict() for k, d in differences.items() if d}
        print(f"\n{args.compare} minus {args.estimates}")
        print(score_text.format_differences(differences))
    if args.psds:
        result |= _psds(given)
    if args.json:
        write_json(Path(args.json), result)
    return 0


def _psds(given: ScoreInputs) -> dict[str, Any]:
    """Prints and returns what `score --psds` adds."""
    from jfsed_jax.sed import psds

    reference, durations = given.reference.events, given.durations
    result = {
        "intersection_f1": psds.intersection_f1(
            reference,
            given.systems["estimates"].events,
            durations=durations,
            classes=given.classes,
        )
    }
    if given.files:
        result["psds"] = psds.psds_of_scores(given.files, reference, durations)
    if given.points:
        result["psds_operating_points"] = psds.psds_of_operating_points(
            given.points, reference, durations
        )
    print(f"\n{psds.format_psds(result)}")
    return result
