"""What the command score reads: checked before anything is scored."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jfsed_jax.cli.arguments import refuse_overwriting
from jfsed_jax.errors import InputError

if TYPE_CHECKING:
    from jfsed_jax.sed.events import Event
    from jfsed_jax.sed.score_files import ScoreFiles
    from jfsed_jax.sed.tables import EventTable

    Files = list[tuple[str, EventTable]]  # of one system, each with its path


LABELS = "TSV or CSV, a label file of Audacity or Raven, or a folder of such files."


@dataclass(frozen=True)
class ScoreInputs:
    """What `score` was given, read and checked.

    Attributes:
      reference: events and clips.
      systems: the events of --estimates and of --compare by the names of these flags, if given.
      durations: seconds by clip, as far as they are known; with score files in the clips' order.
      filenames: the clips that are scored.
      classes: labels.
      files: posteriors of --scores and --compare_scores by the names of these flags.
      processed: those of --processed.
      points: events of every file of --operating_points.
      notes: what is no error but strange.
    """

    reference: "EventTable"
    systems: dict[str, "EventTable"]
    durations: dict[str, float]
    filenames: list[str]
    classes: list[str]
    files: "dict[str, ScoreFiles]"
    processed: "list[ScoreFiles]"
    points: list[list["Event"]]
    notes: list[str]


def read_inputs(args: argparse.Namespace) -> ScoreInputs:
    """Reads all before anything is scored; InputError says what cannot be."""
    from jfsed_jax.sed import label_files, score_checks, score_files, scoring, tables
    from jfsed_jax.sed.psds_libraries import library

    roles = [role for role in ("reference", "estimates", "compare") if getattr(args, role)]
    inputs: list[str | Path] = [args.durations, args.scores, args.compare_scores]
    inputs += [args.operating_points, *args.processed]
    for role in roles:
        inputs += files_of(getattr(args, role))
    for flag in ("json", "page"):
        refuse_overwriting(flag, getattr(args, flag), inputs)
    needs = _check_flags(args)
    read = {role: label_files.read_label_files(getattr(args, role)) for role in roles}
    durations = tables.read_durations(args.durations) if args.durations else {}
    if args.match == "stem":
        read = {role: _by_stem(getattr(args, role), files) for role, files in read.items()}
        stems = label_files.by_stem(args.durations, durations)
        durations = {stems[name]: seconds for name, seconds in durations.items()}
    systems = {role: label_files.joined(files) for role, files in read.items()}
    reference = systems.pop("reference")
    filenames = list(dict.fromkeys([*reference.filenames, *durations]))
    labels = {event.event_label for event in reference.events}
    classes = args.classes or sorted(labels)
    if not classes:
        raise InputError(f"{args.reference} has no events; name the labels with --classes")
    score_checks.check_classes(classes)
    files: dict[str, ScoreFiles] = {}
    points: Files = []
    if needs:
        score_checks.check_durations(args.durations, durations, filenames, needs)
        durations = {name: durations[name] for name in filenames}
    for role in ("scores", "compare_scores"):
        if getattr(args, role):
            files[role] = score_files.read_score_files(getattr(args, role))
    processed = [score_files.read_score_files(folder) for folder in args.processed]
    for of in (*files.values(), *processed):
        score_checks.check_score_files(of, filenames, labels)
        score_checks.check_segments(of, durations)
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
    for of in (*files.values(), *processed):
        notes += score_checks.segment_notes(of, durations)
    if needs:
        library("sed_scores_eval")
        if points:
            library("psds_eval")
        for kind in (*kinds[:2], points):
            notes += score_checks.overlap_notes(kind)
    return ScoreInputs(
        reference,
        systems,
        durations,
        filenames,
        classes,
        files,
        processed,
        [table.events for _, table in points],
        notes,
    )


def _check_flags(args: argparse.Namespace) -> str:
    """The flag that needs durations, or nothing; InputError if flags lack others."""
    if not (args.estimates or args.scores or args.operating_points):
        raise InputError("--estimates, --scores or --operating_points is missing; see --help")
    lacking = {"compare": "estimates", "compare_scores": "scores"}
    of_scores = ("processed", "filters", "scenario", "collar", "offset_share", "segment")
    lacking |= dict.fromkeys(of_scores, "scores")
    for flag, needed in lacking.items():
        if getattr(args, flag) not in (None, (), []) and not getattr(args, needed):
            raise InputError(f"--{needed} is missing, which --{flag} needs; see --help")
    if args.compare_scores and args.processed:
        raise InputError(
            "--processed is of the first system alone, which could choose where the second cannot; "
            "leave it out with --compare_scores"
        )
    needs = [f for f in ("psds", "scores", "operating_points") if getattr(args, f)]
    if needs and not args.durations:
        raise InputError(f"--durations is missing, which --{needs[0]} needs; see --help")
    return f"--{needs[0]}" if needs else ""


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
