"""How often does a 95 % interval hold the truth? Of small sets of clips from a known population.

    python examples/coverage.py                            # of clips that are made up
    python examples/coverage.py --reference R.tsv --estimates E.tsv [OTHER.tsv]

Sets of clips are drawn from the population, with replacement, and scored; each has its interval.
The truth is the population's own score, and of two systems their difference. DESED has such tables
of a baseline: https://github.com/DCASE-REPO/DESED_task (docs/scoring.md has what they gave).
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from jfsed_jax.sed import scoring, tables, uncertainty
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.scoring import Counts

CLASSES = [f"class {c}" for c in range(10)]


def made_up(rng: np.random.Generator, clips: int = 1000) -> tuple[list[Counts], list[str]]:
    """A system's counts, with a clip head's: rare and frequent, easy and difficult classes."""
    names = [f"{b}.wav" for b in range(clips)]
    share, skill = np.geomspace(0.05, 0.5, len(CLASSES)), rng.permutation(np.linspace(0.2, 0.9, 10))
    reference, estimates = [], []
    for name in names:
        luck = rng.normal(scale=0.2)  # events of one clip are alike easy
        for label, present, sure in zip(CLASSES, rng.uniform(size=10) < share, skill, strict=True):
            if rng.uniform() < 0.1 * share[0]:
                estimates.append(Event(name, 0.0, 9.9, label))
            for onset in rng.uniform(0, 3, rng.integers(1, 4)).cumsum() if present else ():
                event = Event(name, onset, onset + 0.3, label)
                reference.append(event)
                if rng.uniform() < sure + luck:
                    late = 0.0 if rng.uniform() < sure + luck else 0.25
                    estimates.append(event._replace(onset=onset + late))
    present = scoring.clip_tags(reference, names, CLASSES)
    tags = present ^ (rng.uniform(size=present.shape) < 0.2 * share)
    _, counts = scoring.score_clips(
        reference, estimates, filenames=names, classes=CLASSES, tags=tags
    )
    return [counts], CLASSES


def from_tables(args: argparse.Namespace) -> tuple[list[Counts], list[str]]:
    """The counts of each system, clip by clip."""
    reference = tables.read_events(args.reference)
    durations = tables.read_durations(args.durations) if args.durations else {}
    names = list(dict.fromkeys([*reference.filenames, *durations]))
    classes = sorted({event.event_label for event in reference.events})
    found = [tables.read_events(path).events for path in args.estimates]
    scored = (
        scoring.score_clips(reference.events, e, filenames=names, classes=classes) for e in found
    )
    return [counts for _, counts in scored], classes


def estimates(systems: list[Counts], **options) -> Mapping[str, tuple[float, tuple[float, float]]]:
    """Value and interval of each score of the first system, and of differences to it."""
    named = {str(k): [counts] for k, counts in enumerate(systems)}
    found = {}
    for name, scores in uncertainty.compare_systems(named, **options).items():
        for key, estimate in scores.items():
            if name == "0":
                found[key] = estimate[:2]
            elif estimate.against_first is not None:
                found[f"{key}, difference {name}"] = estimate.against_first[:2]
    return found


def main() -> None:
    """Prints a line for each score and size of a set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference")
    parser.add_argument("--estimates", nargs="+")
    parser.add_argument("--durations")
    parser.add_argument("--clips", type=int, nargs="+", default=[60, 200], help="sizes of the sets")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=uncertainty.RESAMPLES)
    parser.add_argument("--classwise", action="store_true", help="each class too")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    population, classes = from_tables(args) if args.reference else made_up(rng)
    shown = classes if args.classwise else []
    truths = estimates(population, classes=shown, num_resamples=0)
    size = len(next(iter(population[0].values())))
    print(f"{size} clips; {args.repetitions} sets of each size, {args.resamples} resamples of each")
    for clips in args.clips:
        missed = defaultdict(list)
        for repetition in range(args.repetitions):
            drawn = rng.integers(size, size=clips)
            own = [{name: count[drawn] for name, count in c.items()} for c in population]
            options = {"num_resamples": args.resamples, "seed": repetition}
            for key, (_, interval) in estimates(own, classes=shown, **options).items():
                if interval is not None:
                    low, high = interval
                    missed[key].append((truths[key][0] < low, truths[key][0] > high, high - low))
        print(f"\nof {clips} clips{'':23} truth  covered   below   above  width  (of 100)")
        for key, of_key in missed.items():
            below, above, width = np.mean(of_key, axis=0)
            share = f"{100 * (1 - below - above):7.1f} {100 * below:7.1f} {100 * above:7.1f}"
            print(f"{key:34} {truths[key][0]:6.1f}  {share} {width:6.1f}")


if __name__ == "__main__":
    main()
