"""What a large data set takes: disk, hours, memory.

    python examples/scale.py                                  # the table of docs/scale.md
    python examples/scale.py --measure [--audio FOLDER]       # with the rates of this machine
    python examples/scale.py --clips 500000 --classes 50 --workers 64 --step_seconds 0.05

A start with made-up clips, to see it: scale_start.py.
"""

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import soundfile

import jfsed_jax as jf
from jfsed_jax.audio.finding import SUFFIXES
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.audio.host import fit_length, log_mel
from jfsed_jax.audio.reading import read_audio
from jfsed_jax.datasets import pipeline, shards
from jfsed_jax.datasets.clips import Clip, ClipSet
from jfsed_jax.datasets.extraction import AudioFile, digest_of, extract_clip
from jfsed_jax.datasets.store import SHARD_CLIPS
from jfsed_jax.method import system as systems
from jfsed_jax.method.state import initial_state, run_keys

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
    step_seconds: float = 1.28 / 8 * 64
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
    args = parser.parse_args()
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
