"""How much could unlabelled clips teach? openmix with their labels, which its sources.tsv has.

    python examples/upper_bound.py OPENMIX OUT weak      # their tags
    python examples/upper_bound.py OPENMIX OUT strong    # their events

OUT is a data folder with links to OPENMIX's audio, in which the unlabelled clips are weak or strong
ones. What the control (configs/supervised.py) learns there is more than a system can learn that has
to guess these labels.
"""

import csv
import shutil
import sys
from collections import defaultdict
from pathlib import Path

PAUSE = 0.15  # seconds between two digits that are said in one go, at most


def events_of_clips(sources: Path) -> dict[str, list[tuple[float, float, str]]]:
    """Onset, offset and class of the events of each clip, as openmix labels its strong clips."""
    stretches = defaultdict(list)
    with sources.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["event_label"] != "background":
                times = float(row["onset"]), float(row["offset"])
                stretches[row["filename"], row["event_label"]].append(times)
    events = defaultdict(list)
    for (clip, label), times in stretches.items():
        joined: list[tuple[float, float]] = []
        for onset, offset in sorted(times):
            said_in_one_go = label == "Speech" and joined and onset - joined[-1][1] <= PAUSE + 1e-9
            if said_in_one_go:
                joined[-1] = joined[-1][0], max(offset, joined[-1][1])
            else:
                joined.append((onset, offset))
        events[clip] += [(onset, offset, label) for onset, offset in joined]
    return events


def label(openmix: Path, out: Path, kind: str) -> None:
    """Makes the folder; `kind` is weak or strong."""
    folder = {"weak": "weak", "strong": "synthetic"}[kind]
    shutil.copytree(openmix / "metadata", out / "metadata")
    shutil.copy(openmix / "sources.tsv", out)
    for split in (path for part in ("audio/train", "audio") for path in (openmix / part).iterdir()):
        linked = out / split.relative_to(openmix)
        if split.name not in ("train", folder):
            linked.parent.mkdir(parents=True, exist_ok=True)
            linked.symlink_to(split.resolve())
    (out / "audio/train" / folder).mkdir()
    for name in (folder, "unlabel_in_domain"):
        for clip in (openmix / "audio/train" / name).iterdir():
            (out / "audio/train" / folder / clip.name).symlink_to(clip.resolve())
    events = events_of_clips(openmix / "sources.tsv")
    listed = (openmix / "metadata/train/unlabel_in_domain.tsv").read_text().split()[1:]
    with (out / "metadata/train" / f"{folder}.tsv").open("a") as table:
        for clip in listed:
            if kind == "weak":
                print(clip, ",".join(sorted({e[2] for e in events[clip]})), sep="\t", file=table)
            for onset, offset, name in events[clip] if kind == "strong" else ():
                print(clip, f"{onset:.2f}", f"{offset:.2f}", name, sep="\t", file=table)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[3] not in ("weak", "strong"):
        sys.exit(__doc__)
    label(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
