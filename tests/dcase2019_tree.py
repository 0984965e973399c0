"""DCASE 2019 Task 4 at its real size without its audio, and what `prepare` does with it, measured.

`make_tree` links a few recordings under all the public names. As a script:

    python tests/dcase2019_tree.py --metadata DCASE2019/metadata --audio RECORDINGS --tree NEW_DIR
        [--clips N] [--remove 1000] [--corrupt 20] [--measure]

`--measure` prepares the tree, checks the counts of the public metadata, and prints the rate beside
that of a bare librosa loop over the same files, times the number of cores, and the peak memory.
"""

import argparse
import csv
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

# Split: table, audio folder; clips and strong labels of the public metadata.
SPLITS = {
    "weak": ("train/weak.tsv", "train/weak", 1578, 0),
    "unlabel_in_domain": ("train/unlabel_in_domain.tsv", "train/unlabel_in_domain", 14412, 0),
    "synthetic": ("train/synthetic.tsv", "train/synthetic", 2045, 6032),
    "validation": ("validation/validation.tsv", "validation", 1168, 4236),
    "eval": ("eval/public.tsv", "eval/public", 692, 2765),
}


def make_tree(
    tree: Path, metadata: Path, recordings: list[Path], *, clips: int | None = None
) -> list[Path]:
    """Links recordings under the names of every split, `clips` of each; returns the links."""
    links = []
    for table, folder, _, _ in SPLITS.values():
        copy = tree / "metadata" / table
        copy.parent.mkdir(parents=True, exist_ok=True)
        lines = (metadata / table).read_text().splitlines(keepends=True)
        names = list(dict.fromkeys(line.split("\t")[0].strip() for line in lines[1:]))[:clips]
        chosen = set(names)
        copy.write_text(
            "".join([lines[0], *(x for x in lines[1:] if x.split("\t")[0].strip() in chosen)])
        )
        (tree / "audio" / folder).mkdir(parents=True)
        for name in names:
            link = tree / "audio" / folder / name
            link.symlink_to(recordings[len(links) % len(recordings)].resolve())
            links.append(link)
    return links


def spoil(links: list[Path], *, remove: int, corrupt: int, seed: int = 0) -> list[Path]:
    """Takes some clips away and puts text or half a file in the place of others; returns both."""
    chosen = random.Random(seed).sample(links, remove + corrupt)
    for number, link in enumerate(chosen):
        data = link.read_bytes()
        link.unlink()
        if number >= remove:
            link.write_bytes([b"", b"<html>404</html>", data[:100]][number % 3])
    return chosen


BARE_LOOP = """
import sys, time, librosa, numpy as np
def clip(path):
    y, _ = librosa.load(path, sr=44100)
    mel = librosa.feature.melspectrogram(
        y=y, sr=44100, n_fft=2048, win_length=1764, hop_length=735, n_mels=64, power=1.0)
    return np.log(mel + 1e-4).astype(np.float16)
paths = sys.argv[1:]
clip(paths[0])
start = time.perf_counter()
for path in paths:
    clip(path)
print(len(paths) / (time.perf_counter() - start))
"""


def bare_rate(paths: list[Path]) -> float:
    """Clips per second of a bare librosa loop in one process on one thread."""
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run(
        [sys.executable, "-c", BARE_LOOP, *map(str, paths)],
        env=os.environ | one_thread,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and all its descendants."""
    total = 0
    try:
        with open(f"/proc/{pid}/statm") as file:
            total += int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = (task / "children").read_text().split()
            total += sum(resident_bytes(int(child)) for child in children)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def measure(tree: Path, features: Path, links: list[Path], workers: int) -> dict[str, float]:
    """Prepares the tree in a process of its own; rate, bare rate per core, peak memory."""
    present = [link for link in links if link.is_symlink()]
    sample = present[:: max(1, len(present) // 400)]
    before = bare_rate(sample)
    start = time.perf_counter()
    command = [sys.executable, "-m", "jfsed_jax", "prepare", f"--data={tree}"]
    command += [f"--features={features}", f"--workers={workers}"]
    process = subprocess.Popen(command)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    watcher.join()
    seconds = time.perf_counter() - start
    if status:
        sys.exit(status)
    bare = (before + bare_rate(sample)) / 2
    return {
        "clips": len(present),
        "seconds": seconds,
        "rate": len(present) / seconds,
        "bare_rate_per_core": bare,
        "share_of_bare": len(present) / seconds / (bare * workers),
        "peak_gigabytes": peak / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("metadata", "audio", "tree"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--clips", type=int, help="of each split; all by default")
    parser.add_argument("--remove", type=int, default=0)
    parser.add_argument("--corrupt", type=int, default=0)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    recordings = sorted(options.audio.rglob("*.ogg")) or sorted(options.audio.rglob("*.wav"))
    links = make_tree(options.tree, options.metadata, recordings[::40], clips=options.clips)
    spoilt = spoil(links, remove=options.remove, corrupt=options.corrupt)
    print(f"{len(links)} clips of {len(recordings[::40])} recordings, {len(spoilt)} spoilt")
    if not options.measure:
        return
    features = options.tree.with_name(options.tree.name + "-features")
    shutil.rmtree(features, ignore_errors=True)
    for name, value in measure(options.tree, features, links, options.workers).items():
        print(f"{name}: {value:.3f}")
    check(features, spoilt, complete=options.clips is None and not spoilt)


def check(features: Path, spoilt: list[Path], *, complete: bool) -> None:
    """The public counts where all is there; every spoilt clip named where not."""
    from jfsed_jax.datasets import load

    prepared = load(features)
    for name, (_, _, clips, events) in SPLITS.items():
        found = prepared.summary[name]
        if complete:
            assert (found["clips"], found["events"]) == (clips, events), (name, found)
    if complete:
        assert prepared.summary["validation"]["without_events"] == 15
    named = {row["filename"] for row in read(features / "missing.tsv")}
    named |= {Path(row["file"]).name for row in read(features / "problems.tsv")}
    assert {path.name for path in spoilt} <= named
    print(f"all counts right, {len(spoilt)} spoilt clips named")


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


if __name__ == "__main__":
    main()
