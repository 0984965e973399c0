"""DCASE 2019 Task 4 at its real size without its audio, and what is done with it, measured.

`make_tree` links a few recordings under all the public names. As a script:

    python tests/dcase2019_tree.py --metadata DCASE2019/metadata --audio RECORDINGS --tree NEW_DIR
        [--clips N] [--measure] [--remove 1000] [--corrupt 20] [--steps 40]

`--measure` does all of this in one run, and prints what it measured last:

1. `prepare` of the whole tree: its rate beside that of a bare librosa loop over the same files,
   before and after, times the number of cores; the peak memory of all its processes, in both
   halves of the time; the table against the counts of the public metadata.
2. An epoch of the paper's batches through the pipeline, by number of reading threads; the same
   clips read into memory.
3. `--steps` steps of `:small` on these features, with batches from disk and with `data.in_memory`:
   seconds a step and the share of them that the loop waits for data.
4. `--remove` clips taken away and `--corrupt` others spoilt: `prepare` again, which must end the
   same way and name every one of them.

Without `--measure` it makes the tree, spoilt as asked for.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
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
start, cpu = time.perf_counter(), time.process_time()
for path in paths:
    clip(path)
print((time.perf_counter() - start) / len(paths), (time.process_time() - cpu) / len(paths))
"""


def bare_seconds(paths: list[Path]) -> tuple[float, float]:
    """Seconds a clip, and CPU seconds, of a bare librosa loop in one process on one thread."""
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run(
        [sys.executable, "-c", BARE_LOOP, *map(str, paths)],
        env=os.environ | one_thread,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, cpu = map(float, done.stdout.split())
    return seconds, cpu


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


def run_prepare(tree: Path, features: Path, workers: int) -> tuple[float, float, list[int]]:
    """`prepare` in a process of its own: seconds, CPU seconds, resident bytes twice a second."""
    command = [sys.executable, "-m", "jfsed_jax", "prepare", f"--data={tree}"]
    command += [f"--features={features}", f"--workers={workers}"]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command)
    resident = []
    while process.poll() is None:
        resident.append(resident_bytes(process.pid))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(process.returncode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, resident


def measure_prepare(
    tree: Path, features: Path, links: list[Path], workers: int
) -> dict[str, float]:
    """Rate, bare rate per core, peak memory.

    The share of the bare rate in CPU seconds is that of a machine with nothing else to do.
    """
    sample = random.Random(0).sample(links, min(len(links), 400))
    before = bare_seconds(sample)
    seconds, cpu, resident = run_prepare(tree, features, workers)
    bare, bare_cpu = (sum(pair) / 2 for pair in zip(before, bare_seconds(sample), strict=True))
    half = len(resident) // 2
    return {
        "clips": len(links),
        "prepare_seconds": seconds,
        "clips_per_second": len(links) / seconds,
        "bare_clips_per_second_per_core": 1 / bare,
        "share_of_bare": len(links) / seconds * bare / workers,
        "share_of_bare_in_cpu_seconds": len(links) * bare_cpu / cpu,
        "peak_gigabytes_first_half": max(resident[:half], default=0) / 1e9,
        "peak_gigabytes_second_half": max(resident[half:]) / 1e9,
    }


def measure_pipeline(features: Path) -> dict[str, float]:
    """Batches per second of an epoch of the paper's, by threads; seconds to read all clips."""
    from jfsed_jax.configs import pts_tfd_afl_esp
    from jfsed_jax.datasets import load, pipeline
    from jfsed_jax.training import loop as train

    prepared = load(features)
    config = pts_tfd_afl_esp.get_config("paper")
    sources = train.split_data(prepared, config).train
    labels = {
        "num_classes": len(prepared.classes),
        "frame_rate": prepared.front_end.frame_rate,
    }
    steps = max(len(sources["unlabelled"]) // config.batch.unlabelled, 1)
    found: dict[str, float] = {"batches": steps, "clips_per_batch": sum(config.batch.values())}
    for threads in (1, 2, 4):
        start = time.perf_counter()
        stream = pipeline.batches(sources, config.batch, seed=0, threads=threads, **labels)
        for _ in range(steps):
            next(stream)
        found[f"batches_per_second_{threads}_threads"] = steps / (time.perf_counter() - start)
        stream.close()
    start = time.perf_counter()
    clips = pipeline.all_clips(sources, config.batch, **labels)
    found["seconds_to_read_all_clips"] = time.perf_counter() - start
    found["gigabytes_of_all_clips"] = sum(array.nbytes for array in clips.values()) / 1e9
    start = time.perf_counter()
    stream = pipeline.positions(sources, config.batch, seed=0)
    for _ in range(steps):
        next(stream)
    found["batches_of_positions_per_second"] = steps / (time.perf_counter() - start)
    return found


def measure_training(tree: Path, features: Path, workdir: Path, steps: int) -> dict[str, float]:
    """Seconds a step and `data_wait` of `:small`, from disk and in memory."""
    found = {}
    for name in ("from_disk", "in_memory"):
        shutil.rmtree(workdir, ignore_errors=True)
        command = [sys.executable, "-m", "jfsed_jax", "train", f"--data={tree}"]
        command += [f"--features={features}", f"--workdir={workdir}"]
        command += ["--config=configs/pts_tfd_afl_esp.py:small", "--config.epochs=1"]
        command += [f"--config.steps_per_epoch={steps}", "--config.evaluation.holdout=0.01"]
        command.append(f"--config.data.in_memory={name == 'in_memory'}")
        subprocess.run(command, check=True)
        rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        # The first steps hold the compilation.
        rows = [row for row in rows if row["kind"] == "train" and row["step"] > 10]
        batch = sum(json.loads((workdir / "config.json").read_text())["batch"].values())
        rate = statistics.median(row["clips_per_second"] for row in rows)
        found[f"seconds_a_step_{name}"] = batch / rate
        found[f"data_wait_{name}"] = statistics.mean(row["data_wait"] for row in rows)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("metadata", "audio", "tree"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--clips", type=int, help="of each split; all by default")
    parser.add_argument("--remove", type=int, default=0)
    parser.add_argument("--corrupt", type=int, default=0)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--steps", type=int, default=40, help="of training; more than 10")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    recordings = sorted(options.audio.rglob("*.ogg")) or sorted(options.audio.rglob("*.wav"))
    links = make_tree(options.tree, options.metadata, recordings[::40], clips=options.clips)
    if options.clips:
        from jfsed_jax.sed.events import DCASE2019_CLASSES

        # In a part of the labels not every class need occur.
        (options.tree / "classes.txt").write_text("\n".join(DCASE2019_CLASSES))
    print(f"{len(links)} clips of {len(recordings[::40])} recordings", flush=True)
    spoilage = {"remove": options.remove, "corrupt": options.corrupt}
    if not options.measure:
        spoil(links, **spoilage)
        return
    features = options.tree.with_name(options.tree.name + "-features")
    workdir = options.tree.with_name(options.tree.name + "-run")
    shutil.rmtree(features, ignore_errors=True)
    found = measure_prepare(options.tree, features, links, options.workers)
    check(features, [], clips=options.clips)
    found |= measure_pipeline(features)
    found |= measure_training(options.tree, features, workdir, options.steps)
    spoilt = spoil(links, **spoilage)
    found["seconds_after_spoiling"], *_ = run_prepare(options.tree, features, options.workers)
    check(features, spoilt, clips=options.clips)
    for name, value in found.items():
        print(f"{name}: {value:.3f}")


def check(features: Path, spoilt: list[Path], *, clips: int | None) -> None:
    """The public counts where all is there; every spoilt clip named, and no other, where not."""
    from jfsed_jax.datasets import load

    summary = load(features).summary
    for name, (_, _, total, events) in SPLITS.items():
        split = summary[name]
        listed = total if clips is None else min(clips, total)
        assert split["listed"] == listed, (name, split)
        lost = sum(split.get(key, 0) for key in ("missing", "unusable", "left_out"))
        assert split["clips"] + lost == listed, (name, split)
        if clips is None and not spoilt:
            assert (lost, split["events"]) == (0, events), (name, split)
    assert sum(total["listed"] - total["clips"] for total in summary.values()) == len(spoilt)
    if clips is None and not spoilt:
        assert summary["validation"]["without_events"] == 15
    named = {row["filename"] for row in read(features / "missing.tsv")}
    named |= {
        Path(row["file"]).name
        for row in read(features / "problems.tsv")
        if row["left_out"] == "yes"
    }
    assert named == {path.name for path in spoilt}, named ^ {path.name for path in spoilt}
    print(f"all counts right, {len(spoilt)} spoilt clips named", flush=True)


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


if __name__ == "__main__":
    main()
