"""What a large data set takes: disk, hours, memory; and a start with made-up clips to see it.

    python examples/scale.py                                  # the table of docs/scale.md
    python examples/scale.py --measure [--audio FOLDER]       # with the rates of this machine
    python examples/scale.py --clips 500000 --classes 50 --workers 64 --step_seconds 0.05
    python examples/scale.py --simulate --clips 2000000       # start-up, order, resume, open files

`--simulate` makes a data folder and a features folder of clips without sound (empty files under
AudioSet's kind of names, shards of one number a clip) and lets the package's own functions list,
prepare, open, split, shuffle and read them, each in a process of its own.
"""

import argparse
import itertools
import json
import math
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import numpy as np
import soundfile

import jfsed_jax as jf
from jfsed_jax.audio.finding import SUFFIXES
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.audio.host import fit_length, log_mel
from jfsed_jax.audio.reading import read_audio
from jfsed_jax.datasets import features_folder, pipeline, shards
from jfsed_jax.datasets.clips import Clip, ClipSet, load
from jfsed_jax.datasets.extraction import AudioFile, AudioInfo, digest_of, extract_clip
from jfsed_jax.datasets.folder import read_folder
from jfsed_jax.datasets.preparation import prepare
from jfsed_jax.datasets.selection import KINDS, holdout_split, split_data
from jfsed_jax.datasets.store import SHARD_CLIPS
from jfsed_jax.experiments.measuring import peak_host_memory
from jfsed_jax.method import system as systems
from jfsed_jax.method.state import initial_state, run_keys
from jfsed_jax.runs.workdir import Workdir
from jfsed_jax.training.log import MetricsLog

SETS = {
    "DCASE 2019": (20_000, 10),  # clips, classes
    "AudioSet-strong": (100_000, 456),
    "AudioSet": (2_000_000, 527),
}
CORES, PASSES = (2, 16, 128), 200


@dataclass(frozen=True)
class Rates:
    """What one clip, or one step, takes; docs/scale.md names the source of each default.

    Attributes:
      audio_bytes: of a clip's file.
      decode_seconds, mel_seconds: of one core.
      record_bytes: in a shard.
      index_bytes: in the shard's manifest and in ``prepared.json``.
      clips_read: clips a second that a host reads and makes batches of.
      step_seconds: of a training step of `batch` clips.
      state_bytes: of a checkpoint's arrays.
      log_bytes: of a step, in ``metrics.jsonl`` and in TensorBoard's file.
    """

    audio_bytes: float = 882_044
    decode_seconds: float = 0.0086
    mel_seconds: float = 0.0082
    record_bytes: float = 77_824
    index_bytes: float = 383
    clips_read: float = 133 * 64
    step_seconds: float = 2.82 / 8 * 64
    batch: int = 64
    state_bytes: float = 25_401_884
    log_bytes: float = 904 + 1_814


def needs(
    clips: int,
    classes: int,
    rates: Rates,
    *,
    workers: int,
    passes: int,
    frames: int = 600,
    bands: int = 64,
    held: float = 0.2,
) -> dict[str, float]:
    """What a data set takes, by name; bytes, hours and counts.

    Args:
      clips, classes: of the set, all of it labelled and used for training.
      rates: of the machine.
      workers: cores that prepare, each a clip at a time.
      passes: over all clips, in training.
      frames, bands: of a clip.
      held: share of the clips that is held out.
    """
    steps = passes * (clips // rates.batch)
    wanted = rates.batch / rates.step_seconds
    each = frames * bands * 2 + frames * classes + 4 * classes + 8
    return {
        "audio": clips * rates.audio_bytes,
        "features": clips * rates.record_bytes,
        "index": clips * rates.index_bytes,
        "shards": math.ceil(clips / SHARD_CLIPS),
        "prepare hours": clips * (rates.decode_seconds + rates.mel_seconds) / workers / 3600,
        "steps": steps,
        "train hours": steps * rates.step_seconds / 3600,
        "clips wanted a second": wanted,
        "hosts": wanted / rates.clips_read,
        "bytes read a second": wanted * rates.record_bytes,
        "in memory": clips * each,
        "checkpoints": 4 * rates.state_bytes,
        "log": steps * rates.log_bytes,
        "held posteriors, strong": held * clips * (frames + 1) * classes * 4,
        "held posteriors, weak": held * clips * classes * 4,
    }


def print_table(
    sets: Mapping[str, tuple[int, int]], rates: Rates, workers: Sequence[int], passes: int
) -> None:
    """What each set takes, a column each."""

    def row(
        name: str, told: Callable[[float], str], workers: int = 1, passes: int = 1
    ) -> list[str]:
        found = [needs(*size, rates, workers=workers, passes=passes) for size in sets.values()]
        return [told(each[name]) for each in found]

    rows = {
        "": list(sets),
        "clips, classes": [f"{clips:,}, {classes}" for clips, classes in sets.values()],
        "audio on disk": row("audio", _bytes),
        "features on disk": row("features", _bytes),
        "manifests and prepared.json": row("index", _bytes),
        "shards": row("shards", _count),
        **{f"preparing on {n} cores": row("prepare hours", _hours, workers=n) for n in workers},
        "training, a pass": row("train hours", _hours),
        f"training, {passes} passes": row("train hours", _hours, passes=passes),
        f"steps, {passes} passes": row("steps", _count, passes=passes),
        f"log, {passes} passes": row("log", _bytes, passes=passes),
        "checkpoints, four at most": row("checkpoints", _bytes),
        "clips a second that steps take": row("clips wanted a second", _count),
        "bytes a second from disk": row("bytes read a second", _bytes),
        "hosts that feed the steps": row("hosts", _count),
        "data.in_memory, each device": row("in memory", _bytes),
        "posteriors of a fifth held, strong": row("held posteriors, strong", _bytes),
        "posteriors of a fifth held, weak": row("held posteriors, weak", _bytes),
    }
    _print_rows(rows)


def _print_rows(rows: Mapping[str, list[str]]) -> None:
    first = max(map(len, rows))
    widths = [max(map(len, column)) for column in zip(*rows.values(), strict=True)]
    for name, cells in rows.items():
        right = map(str.rjust, cells, widths)
        print(name.ljust(first), *right, sep="  ")


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _hours(hours: float) -> str:
    units = {"s": 1 / 3600, "min": 1 / 60, "h": 1, "days": 24, "years": 8766}
    unit = next((unit for unit, size in units.items() if hours < 90 * size), "years")
    return f"{hours / units[unit]:.3g} {unit}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def measured(
    config, classes: int, audio: Path | None = None, *, clips: int = 32, batches: int = 100
) -> dict[str, float]:
    """The rates that this machine shows; those of steps ``jfsed-jax benchmark`` measures.

    Args:
      config: whose front end and models.
      classes: C, of the labels of a clip.
      audio: recordings to decode, the first 64; `clips` of noise in Ogg Vorbis without.
      batches: of 64 that are read.
    """
    front_end = FrontEnd(**config.front_end)
    with tempfile.TemporaryDirectory() as place:
        if audio is None:
            audio = Path(place)
            for number in range(clips):
                noise = np.random.default_rng(number).normal(0, 0.05, front_end.num_samples)
                soundfile.write(audio / f"{number}.ogg", noise, front_end.sample_rate)
        paths = sorted(path for path in audio.rglob("*") if path.suffix in SUFFIXES)[:64]
        found = _one_by_one(paths, front_end)
        info = extract_clip(paths[0], front_end)[1]
        files = {AudioFile(f"audio/train/weak/{i:015d}", 1, i): info for i in range(SHARD_CLIPS)}
        shard = shards.shard_path(Path(place), 0, files)
        record = np.random.default_rng(0).bytes(front_end.num_frames * front_end.n_mels * 2)
        shards.write_shard(shard, itertools.repeat(record, SHARD_CLIPS), files)
        stored = [Clip(Path(file.path).name, i, info, ("c0",)) for i, file in enumerate(files)]
        saved = json.dumps(
            [[*clip[:2], list(info.saved().values()), *clip[3:5]] for clip in stored]
        )
        index = shards.manifest_path(shard).stat().st_size + len(saved)
        labels = [f"c{i}" for i in range(classes)]
        options = {"events": (), "reference": (), "classes": labels, "front_end": front_end}
        if audio == Path(place):  # noise is not as long as sound is
            del found["audio_bytes"]
        return found | {
            "record_bytes": shard.stat().st_size / SHARD_CLIPS,
            "index_bytes": index / SHARD_CLIPS,
            "clips_read": _clips_read(ClipSet([shard], stored, **options), classes, batches),
            "state_bytes": state_bytes(config, classes),
        }


def _one_by_one(paths: Sequence[Path], front_end: FrontEnd) -> dict[str, float]:
    """Median CPU seconds of decoding a file (and of its digest) and of its log-mel."""
    rows = []
    for path in [paths[0], *paths]:  # the first one once more: what is loaded once
        start = time.process_time()
        recording = read_audio(path, front_end.sample_rate, max_seconds=front_end.clip_seconds)
        digest_of(path)
        decoded = time.process_time()
        log_mel(fit_length(recording.waveform, front_end), front_end)
        rows.append((decoded - start, time.process_time() - decoded, path.stat().st_size))
    decode, mel, size = np.median(rows[1:], axis=0).tolist()
    return {"audio_bytes": size, "decode_seconds": decode, "mel_seconds": mel}


def _clips_read(clips: ClipSet, classes: int, count: int) -> float:
    """A second, in batches of 64, from files that the system keeps in memory."""
    labels = {"num_classes": classes, "frame_rate": clips.front_end.frame_rate}
    batches = pipeline.batches({"weak": clips}, {"weak": 64}, seed=0, **labels)
    next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return 64 * count / (time.perf_counter() - start)


def state_bytes(config, classes: int) -> int:
    """Of the arrays of a checkpoint, before orbax compresses them."""
    front_end = FrontEnd(**config.front_end)
    system = systems.from_config(config, classes=classes, steps_per_epoch=1)
    shape = front_end.num_frames, front_end.n_mels
    state = jax.eval_shape(
        partial(initial_state, system, input_shape=shape), run_keys(config.seed, config.num_seeds)
    )
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


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
    yield f"a log of {rows:,} steps, {_bytes(workdir.metrics.stat().st_size)}, written"
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
                    print(f"{part:52}  {wall:6.2f} s  {cpu:6.2f} s  {_bytes(peak):>8}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, help="Of a set of your own; three known ones without.")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=CORES, help="That prepare.")
    parser.add_argument("--passes", type=int, default=PASSES, help="Over all clips, in training.")
    parser.add_argument("--config", default="pts_tfd_afl_esp", help="Whose rates are measured.")
    parser.add_argument("--measure", action="store_true", help="The rates of this machine.")
    parser.add_argument("--audio", type=Path, help="Recordings to measure decoding with.")
    for field in fields(Rates):
        parser.add_argument(f"--{field.name}", type=float, help=f"By default {field.default:,}.")
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--folder", type=Path, help="Where a simulation is made, and stays.")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    args = parser.parse_args()
    if args.simulate:
        simulate(args.clips or 20_000, args.folder, args.stages)
        return
    found: dict[str, float] = {}
    if args.measure or args.audio:
        found = measured(jf.load_config(args.config), args.classes, args.audio)
    found |= {f.name: given for f in fields(Rates) if (given := getattr(args, f.name)) is not None}
    for name, value in asdict(replace(Rates(), **found)).items():
        print(f"{name:15} {value:12,.4g}{'' if name in found else '  (docs/scale.md)'}")
    print()
    sets = {"your set": (args.clips, args.classes)} if args.clips else SETS
    print_table(sets, replace(Rates(), **found), args.workers, args.passes)


if __name__ == "__main__":
    main()
