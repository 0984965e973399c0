"""A start with any number of made-up clips: what listing, opening, order and resume take.

    python examples/scale_start.py --clips 2000000

It makes a data folder and a features folder of clips without sound (empty files under AudioSet's
kind of names, shards of one number a clip) and lets the package's own functions list, prepare,
open, split, shuffle and read them, each in a process of its own. docs/scale.md has the figures.
"""

import argparse
import itertools
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import jfsed_jax as jf
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets import features_folder, pipeline, shards
from jfsed_jax.datasets.clips import Clip, load
from jfsed_jax.datasets.extraction import AudioFile, AudioInfo
from jfsed_jax.datasets.folder import read_folder
from jfsed_jax.datasets.preparation import prepare
from jfsed_jax.datasets.selection import KINDS, holdout_split, split_data
from jfsed_jax.datasets.store import SHARD_CLIPS
from jfsed_jax.experiments.measuring import peak_host_memory
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.training.log import MetricsLog

PASSES = 200  # of a training, for its last step
# Features of one number a clip.
FRONT_END = FrontEnd(
    sample_rate=100, n_fft=1024, win_length=1000, hop_length=1000, n_mels=1,
    fmin=0.0, fmax=50.0, clip_seconds=10.0, log_offset=1e-4,
)  # fmt: skip
INFO = AudioInfo(10.0, 44100, 1, "WAV PCM_16", -3.01, -23.45, 64 * "0")
TABLES = {  # of the sets, in the order of `KINDS`: the header and the rows of a clip
    "weak": ("filename\tevent_labels", ["{}\tDog,Cat"]),
    "unlabel_in_domain": ("filename", ["{}"]),
    "synthetic": (
        "filename\tonset\toffset\tevent_label",
        ["{}\t1.0\t2.5\tDog", "{}\t2.0\t2.5\tCat", "{}\t4.0\t8.0\tDog"],
    ),
}


def sizes(clips: int) -> dict[str, int]:
    """Clips by kind: half of them weak, a tenth strong."""
    return {"weak": clips // 2, "unlabelled": clips - clips // 2 - clips // 10,
            "strong": clips // 10}  # fmt: skip


def make_folders(place: Path, clips: int) -> None:
    """``data`` with empty files of audio, ``features`` with what `prepare` finds there already."""
    first, features = 0, place / "features"
    features.mkdir(parents=True)
    features_folder.check_owner(features, place / "data", FRONT_END)
    for kind, count in sizes(clips).items():
        name = KINDS[kind]
        names = [f"Y{i:011d}_30.000_40.000.wav" for i in range(first, first + count)]
        first += count
        audio, metadata = place / f"data/audio/train/{name}", place / "data/metadata/train"
        audio.mkdir(parents=True)
        metadata.mkdir(parents=True, exist_ok=True)
        header, rows = TABLES[name]
        with open(metadata / f"{name}.tsv", "w") as table:
            table.writelines(
                [header + "\n", *(row.format(n) + "\n" for n in names for row in rows)]
            )
        for file in names:
            os.close(os.open(audio / file, os.O_CREAT))
            os.utime(audio / file, ns=(0, 0))
        folder = features / name
        folder.mkdir()
        written: dict[int, Path] = {}  # by the number of clips: the rest are links to these two
        for number, start in enumerate(range(0, count, SHARD_CLIPS)):
            group = names[start : start + SHARD_CLIPS]
            files = {AudioFile(f"audio/train/{name}/{file}", 0, 0): INFO for file in group}
            shard = shards.shard_path(folder, number, files)
            if len(group) not in written:
                record = np.zeros((FRONT_END.num_frames, FRONT_END.n_mels), np.float16).tobytes()
                shards.write_shard(shard, itertools.repeat(record, len(group)), files)
                written[len(group)] = shard
                continue
            os.link(written[len(group)], shard)
            shards.write_manifest(shard, files, shard.stat().st_size)


class Unread:
    """A source of so many clips."""

    def __init__(self, count: int):
        self.filenames: list[str] = []
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> Mapping[str, Any]:
        raise NotImplementedError


def late_step(clips: int) -> int:
    """That of all passes in batches of 64."""
    return PASSES * (clips // 64)


Stage = Callable[[Path, int], Iterator[str]]


def listing(place: Path, clips: int) -> Iterator[str]:
    """All metadata read, all audio found."""
    read_folder(place / "data")
    yield "read_folder"


def preparing(place: Path, clips: int) -> Iterator[str]:
    """What every start of a training does, where there is nothing to decode."""
    found = prepare(
        place / "data", FRONT_END, features_dir=place / "features", workers=1, progress=False
    )
    assert sum(counts["clips"] for counts in found.summary.values()) == clips
    yield "prepare, nothing new"


def opening(place: Path, clips: int) -> Iterator[str]:
    """What a training does with prepared clips before its first batch; and one of each shard."""
    prepared = load(place / "features")
    yield "load"
    prepared.digests()
    yield "  digests"
    data = split_data(prepared, jf.load_config("pts_tfd_afl_esp"))
    assert sum(map(len, [*data.train.values(), *data.held.values()])) == clips
    yield "  split_data"
    read = 0
    try:
        for split in prepared.splits.values():
            for i in range(0, len(split), SHARD_CLIPS):
                split[i]
                read += 1
    except jf.InputError as error:
        yield f"  a clip of {read:,} shards, then: {error}"
    else:
        yield f"  a clip of {read:,} shards: {len(os.listdir('/dev/fd')):,} open files"


def order(place: Path, clips: int) -> Iterator[str]:
    """Batches of positions, from the first step and from a late one."""
    sources = {kind: Unread(count) for kind, count in sizes(clips).items()}
    batch = dict(jf.load_config("pts_tfd_afl_esp").batch)
    late = late_step(clips)
    before = pipeline.positions(sources, batch, seed=0, start=late - 10)
    *_, expected = itertools.islice(before, 11)
    yield "grain started"
    stream = pipeline.positions(sources, batch, seed=0)
    next(stream)
    yield "positions, first batch"
    for _ in range(100):
        next(stream)
    yield "  100 batches"
    found = next(pipeline.positions(sources, batch, seed=0, start=late))
    np.testing.assert_array_equal(found, expected)
    yield f"  resumed at step {late:,}"


def log(place: Path, clips: int, most: int = 300_000) -> Iterator[str]:
    """A log of so many steps, opened by a training that goes on."""
    rows = min(late_step(clips), most)
    workdir = Workdir(place / "run")
    workdir.path.mkdir()
    values = {f"term_{i:02d}/of_a_model": 0.123456789012345 * (i + 1) for i in range(23)}
    with open(workdir.metrics, "w") as file:
        for step in range(1, rows + 1):
            file.write(json.dumps({"kind": "train", "step": step, **values}) + "\n")
    yield f"a log of {rows:,} steps, {workdir.metrics.stat().st_size / 1e6:,.0f} MB, written"
    MetricsLog(workdir, rows).close()
    yield "  opened to go on"


def sharing(place: Path, clips: int) -> Iterator[str]:
    """A hold-out where two clips are of one recording, so that groups must be found."""
    source: Any = Unread(clips)
    source.filenames = [f"{max(i, 1)}.wav" for i in range(clips)]
    source.clips = [Clip(name, i, INFO, ()) for i, name in enumerate(source.filenames)]
    yield "made"
    holdout_split(source, 0.2, 0)
    yield "holdout_split, two clips of one recording"


STAGES: dict[str, Stage] = {
    stage.__name__: stage for stage in (listing, preparing, opening, order, log, sharing)
}


def run_stage(name: str, place: Path, clips: int) -> list[tuple[str, float, float, int]]:
    """Of each part: what it was, seconds, CPU seconds, and the peak of memory so far."""
    base, rows = peak_host_memory(), []
    wall, cpu = time.perf_counter(), time.process_time()
    for part in STAGES[name](place, clips):
        now, now_cpu = time.perf_counter(), time.process_time()
        rows.append((part, now - wall, now_cpu - cpu, peak_host_memory() - base))
        wall, cpu = time.perf_counter(), time.process_time()
    return rows


def simulate(clips: int, folder: Path | None, stages: Sequence[str]) -> None:
    """Prints what each stage takes with so many made-up clips."""
    print(f"{clips:,} clips; open files at most {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}")
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        place = folder or Path(temporary)
        if not (place / "features/features.json").exists():
            start = time.perf_counter()
            make_folders(place, clips)
            print(f"folders made in {time.perf_counter() - start:.0f} s")
        shutil.rmtree(place / "run", ignore_errors=True)
        print(f"{'':52}  {'wall':>8}  {'CPU':>8}  {'memory':>8}")
        for name in stages:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                for part, wall, cpu, peak in alone.submit(run_stage, name, place, clips).result():
                    print(
                        f"{part:52}  {wall:6.2f} s  {cpu:6.2f} s  {peak / 1e6:5,.0f} MB", flush=True
                    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="Where the clips are made, and stay.")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    args = parser.parse_args()
    simulate(args.clips, args.folder, args.stages)


if __name__ == "__main__":
    main()
