"""The command that scores anyone's events and posteriors, without JAX: score."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jfsed_jax.cli.arguments import CommandParser, add_bootstrap, names, number, output_file
from jfsed_jax.cli.score_inputs import LABELS, ScoreInputs, read_inputs

if TYPE_CHECKING:
    from jfsed_jax.sed.threshold_free import FreeScore
    from jfsed_jax.sed.threshold_steps import Scenario


def define_score(parser: CommandParser) -> None:
    """Adds the flags of `run_score`."""
    meaning = f"Reference events, clips without events count: {LABELS}"
    parser.require("--reference", meaning, metavar="PATH")
    meaning = "A system's events, likewise."
    parser.add("--estimates", meaning, metavar="PATH")
    parser.add(
        "--scores",
        "Folder of a system's posteriors, one file per clip, for what needs no threshold: PSDS, "
        "best F1, average precision; needs --durations and the extra psds.",
        metavar="DIR",
    )
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
    meaning = "Write a page with the scores, their curves and classes to this file."
    parser.add("--page", meaning, type=output_file(), metavar="FILE")
    meaning = "Events of a second system: is it better, or is that noise?"
    parser.add("--compare", meaning, metavar="PATH")
    meaning = "Posteriors of a second system, likewise."
    parser.add("--compare_scores", meaning, metavar="DIR")
    parser.switch(
        "psds",
        "Also intersection F1 of --estimates, no PSDS; --scores and --operating_points bring both. "
        "Needs --durations and the extra psds.",
    )
    meaning = "Folder of event lists, one per threshold: PSDS 1 and 2."
    parser.add("--operating_points", meaning, metavar="DIR")
    parser.add(
        "--scenario",
        "A PSDS of your own beside 1 and 2, of --scores: any of dtc, gtc, cttc, alpha_ct, alpha_st "
        "and max_efpr; the others are those of PSDS 1.",
        type=_scenario,
        metavar="NAME=X,...",
    )
    for flag, meaning in (
        ("--collar", "How far onset and offset may be off, in seconds; default: 0.2"),
        ("--offset_share", "How far the offset may be off, of an event's length; default: 0.2"),
        ("--segment", "Length of a segment in seconds; default: 1"),
    ):
        lowest = 1e-3 if flag == "--segment" else 0
        parser.add(flag, f"{meaning}; of --scores alone.", type=number(float, lowest), metavar="X")
    parser.add(
        "--filters",
        "Of --scores also piPSDS, the best of median filters of these lengths in seconds "
        "at each rate of false positives; 0 is none.",
        type=_seconds,
        metavar="X,X",
        default=(),
    )
    parser.add(
        "--processed",
        "Folders of the same system's posteriors after other post-processing, for piPSDS to choose "
        "from, too.",
        type=names(),
        metavar="DIR,DIR",
        default=[],
    )
    add_bootstrap(parser)
    meaning = "Seed of the resamples; default: %(default)s."
    parser.add("--seed", meaning, type=number(int, 0), metavar="N", default=0)


def _seconds(text: str) -> tuple[float, ...]:
    return tuple(number(float, 0)(part) for part in text.split(","))


def _scenario(text: str) -> "Scenario":
    """The type of `--scenario`."""
    from jfsed_jax.sed.threshold_steps import Scenario

    values = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in Scenario._fields:
            raise argparse.ArgumentTypeError(
                f"{part!r} is none of {', '.join(Scenario._fields)} with a value, as dtc=0.5"
            )
        lowest, highest = (1e-6, None) if name == "max_efpr" else (0, 1)
        if name in values:
            raise argparse.ArgumentTypeError(f"{name} is named twice")
        try:
            values[name] = number(float, lowest, highest)(value)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{name}: {error}") from error
    return Scenario(**values)


def run_score(args: argparse.Namespace) -> int:
    """Scores a system, or two and their difference."""
    from jfsed_jax.runs.workdir import write_json

    given = read_inputs(args)
    result: dict[str, Any] = {
        "info": {
            "reference": args.reference,
            "num_clips": len(given.filenames),
            "classes": given.classes,
            "num_resamples": args.bootstrap,
            "seed": args.seed,
            "notes": given.notes,
        }
    }
    events = given.reference.events
    print(f"{len(given.filenames)} clips, {len(given.classes)} classes, {len(events)} events")
    for note in given.notes:
        print(f"note: {note}")
    if given.systems:
        result |= _score_events(args, given)
    free = _free_scores(args, given)
    if free:
        result |= _print_free(args, free)
    if given.points:
        from jfsed_jax.sed import psds

        found = psds.psds_of_operating_points(given.points, events, given.durations)
        result["psds_operating_points"] = found
        print(f"\n{args.operating_points}\n{psds.format_psds(found)}")
    if args.json:
        write_json(Path(args.json), result)
    if args.page:
        from jfsed_jax.report import rendering, score_page

        rendering.save_page(Path(args.page), score_page.render_scores(result, free))
        print(f"\n{args.page}")
    return 0


def _score_events(args: argparse.Namespace, given: ScoreInputs) -> dict[str, Any]:
    """Scores --estimates and --compare."""
    from jfsed_jax.sed import intersection, score_text, scoring, uncertainty

    reference, filenames, classes = given.reference.events, given.filenames, given.classes
    result: dict[str, Any] = {}
    all_scores: dict[str, scoring.Scores] = {}
    all_counts: dict[str, list[scoring.Counts]] = {}
    for role, table in given.systems.items():
        all_scores[role], counts = scoring.score_clips(
            reference, table.events, filenames=filenames, classes=classes
        )
        if args.psds or args.scores or args.operating_points:
            name = "intersection_f1"
            all_scores[role][name], counts[name] = intersection.intersection_f1(
                reference, table.events, durations=given.durations, classes=classes
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
    return result


def _free_scores(args: argparse.Namespace, given: ScoreInputs) -> "dict[str, dict[str, FreeScore]]":
    """The scores of --scores and --compare_scores, by these names."""
    if not given.files:
        return {}
    from jfsed_jax.sed import threshold_free

    chosen = ("scenario", "collar", "offset_share", "segment", "filters")
    given_values = {name: getattr(args, name) for name in chosen}
    criteria = threshold_free.Criteria(
        **{name: value for name, value in given_values.items() if value is not None}
    )
    return {
        role: threshold_free.free_scores(
            files,
            given.reference.events,
            given.durations,
            criteria=criteria,
            processed=given.processed,
            num_resamples=args.bootstrap,
            seed=args.seed,
            progress=True,
        )
        for role, files in given.files.items()
    }


def _print_free(
    args: argparse.Namespace, free: "dict[str, dict[str, FreeScore]]"
) -> dict[str, Any]:
    """Prints the scores without thresholds, and gives them for JSON."""
    from jfsed_jax.sed import threshold_free_text as text

    result: dict[str, Any] = {}
    for role, scores in free.items():
        path = getattr(args, role)
        print(f"\n{path}\n{text.format_free(scores)}")
        name = "threshold_free" if role == "scores" else role
        result[name] = {**text.free_entries(scores), "folder": path}
    if len(free) > 1:
        differences = text.free_differences(*free.values())
        print(f"\n{args.compare_scores} minus {args.scores}")
        print(text.format_free_differences(differences))
        result["threshold_free_differences"] = {k: d._asdict() for k, d in differences.items()}
    return result
