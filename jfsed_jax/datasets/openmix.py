"""openmix: real recordings mixed into 10 s clips, a benchmark that anyone can make in minutes.

ESC-10 and the Free Spoken Digit Dataset (`openmix_sources`) become 1,760 clips in the DCASE 2019
layout (`openmix_plan`). The unlabelled clips hold recordings that no labelled clip holds, and no
recording of the training sets occurs in validation or evaluation.

The same recordings give the same samples everywhere: the random numbers, the resampling and the
mixing are integers. ``sources.tsv`` lists what every clip was made of; a run that finds it in a
data folder holds out whole groups of clips that share recordings.

Axis letters: ``N`` samples at 44.1 kHz.
"""

import functools
import hashlib
import io
import json
import math
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from jfsed_jax.atomic import write_whole
from jfsed_jax.datasets.folder import SOURCES
from jfsed_jax.datasets.openmix_plan import (
    CLIP,
    REHEARSAL,
    SPLITS,
    Draws,
    MixedEvent,
    Piece,
    Planner,
    crossfade,
    repeated,
)
from jfsed_jax.datasets.openmix_sources import (
    BLOCK,
    SAMPLE_RATE,
    SPEECH,
    Source,
    differing,
    digest,
    find_sources,
    power_ratio,
    read_samples,
    sounding,
)
from jfsed_jax.errors import InputError
from jfsed_jax.progress import progress_bar
from jfsed_jax.sed.tables import write_table

# Raise it whenever the same recordings would give other clips: two versions are never mixed.
VERSION = 1
MARKER = "openmix.json"
SOURCE_COLUMNS = (
    "filename", "onset", "offset", "event_label", "source", "level_db", "file", "file_onset"
)  # fmt: skip
# Brown noise under the waves, below them by this: realmix's silences have as much power in the
# octaves under 100 Hz, where the sea has little.
_NOISE_DB = 6
_PEAK = 29490  # a clip that would pass -0.9 dB of full scale is turned down as a whole
_Folders = tuple[Path, Path]


def mix(
    esc10: str | Path,
    fsdd: str | Path,
    directory: str | Path,
    *,
    rehearsal: bool = False,
    counts: Mapping[str, int] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Mixes the set; clips that are there already are kept, a finished folder is left as it is.

    Args:
      esc10: clone of ESC-10 at its last commit with audio.
      fsdd: clone of the Free Spoken Digit Dataset.
      directory: where ``audio/``, ``metadata/``, ``sources.tsv``, ``CREDITS.md`` and
        ``openmix.json`` go.
      rehearsal: mix another set, of the training recordings alone, to make choices on.
      counts: clips of each split; by default those of the published set, or of the rehearsal.
      workers: processes (default: one for each CPU); no effect on the files.
      progress: show a bar.

    Returns:
      `directory`.

    Raises:
      InputError: recordings are missing or unreadable, or the folder holds something else.
    """
    directory = Path(directory)
    folders = (Path(esc10), Path(fsdd))
    splits = REHEARSAL if rehearsal else SPLITS
    counts = dict(counts or {name: split.clips for name, split in splits.items()})
    sources = find_sources(*folders)
    clips = [(split, index) for split, count in counts.items() for index in range(count)]
    mine = {"openmix": VERSION, "clips": counts} | ({"rehearsal": True} if rehearsal else {})
    _check_owner(directory, mine)
    results = {SOURCES, "CREDITS.md", *(SPLITS[split].table for split in counts)}
    missing = [clip for clip in clips if not (directory / clip_path(*clip)).exists()]
    run = functools.partial(_run, workers=workers or os.cpu_count() or 1, progress=progress)
    found = list(
        zip(sources, run(functools.partial(_analyse, folders), sources, "read"), strict=True)
    )
    _tell_differences([(source, value) for source, (value, _) in found])
    everything = hashlib.sha256("".join(value for _, (value, _) in found).encode()).hexdigest()
    mine["recordings"] = everything[:16]
    _check_owner(directory, mine)
    if not missing and all((directory / name).exists() for name in results):
        return directory
    write_whole(directory / MARKER, json.dumps(mine, indent=1) + "\n")
    planner = Planner(sources, {source.path: blocks for source, (_, blocks) in found}, splits)
    plans = {clip: planner.plan(*clip) for clip in clips}
    jobs = [(clip_path(*clip), clip, plans[clip]) for clip in missing]
    for _ in run(functools.partial(_mix_file, folders, directory), jobs, "mix"):
        pass
    # What is made of the plans comes last: a folder that has it is complete.
    _write_labels(directory, plans)
    _write_sources(directory, plans)
    write_whole(directory / "CREDITS.md", credits_page(sources, plans.values()))
    return directory


def clip_name(split: str, index: int) -> str:
    """File name of a clip; no other split has it."""
    return f"{SPLITS[split].prefix}_{index:04d}.flac"


def clip_path(split: str, index: int) -> str:
    """Where a clip lies in the data folder."""
    return f"{SPLITS[split].audio}/{clip_name(split, index)}"


# --- Mixing: int16 recordings, whole gains, 64-bit sums, one rounding. ---------------------------


def mix_clip(folders: _Folders, key: tuple[str, int], plan: Sequence[MixedEvent]) -> np.ndarray:
    """One clip: <int16>[N].

    Args:
      folders: of ESC-10 and FSDD.
      key: split and index, which choose the noise.
      plan: the background first, then the events.
    """
    background, *events = plan
    sums = np.zeros(CLIP * BLOCK, np.int64)
    waves = _sound(folders, background.pieces[0])
    noise = brown_noise(Draws("openmix", *key, "noise"), len(sums))
    # The two together have the power planned, to 0.03 dB.
    sums += waves * _gain(waves, background.level - 1)
    sums += noise * _gain(noise, background.level - 1 - _NOISE_DB)
    for event in events:
        sound = mix_event(folders, event)
        start = event.onset * BLOCK
        gain = _gain(sound, background.level + event.level)
        sums[start : start + len(sound)] += sound * gain
    return to_int16(sums)


def mix_event(folders: _Folders, event: MixedEvent) -> np.ndarray:
    """An event by itself, from onset to offset: <int64>[N] in units of an int16."""
    sound = np.zeros((event.offset - event.onset) * BLOCK, np.int64)
    for piece in event.pieces:
        start = (piece.onset - event.onset) * BLOCK
        part = _sound(folders, piece)
        # Faded in and out over a block, since it may be cut where it sounds.
        ramp = np.arange(1, BLOCK + 1)
        part[:BLOCK] = part[:BLOCK] * ramp // BLOCK
        part[-BLOCK:] = part[-BLOCK:] * ramp[::-1] // BLOCK
        sound[start : start + len(part)] = part
    return sound


def to_int16(sums: np.ndarray) -> np.ndarray:
    """<int64>[N] in units of 2^-16 of an int16 to <int16>[N]: halves go up, peaks are kept."""
    peak = int(np.abs(sums).max(initial=0))
    if peak <= _PEAK << 16:
        return ((sums + 2**15) >> 16).astype(np.int16)
    return ((2 * _PEAK * sums + peak) // (2 * peak)).astype(np.int16)


def brown_noise(draws: Draws, length: int) -> np.ndarray:
    """<int64>[N]: summed white noise, less its mean over the tenth of a second around."""
    around = SAMPLE_RATE // 10
    white = (draws.words(length + 2 * around) >> np.uint64(48)).astype(np.int64) - 2**15
    walk = np.cumsum(white)
    sums = np.cumsum(walk)
    middle = walk[around // 2 :][:length]
    return (middle - (sums[around : around + length] - sums[:length]) // around) >> 6


def _sound(folders: _Folders, piece: Piece) -> np.ndarray:
    """A piece as it is on file, repeated where it is too short: <int64>[N]."""
    root = folders[piece.source.label == SPEECH]
    samples = read_samples(root / piece.source.path)
    part = samples[piece.first * BLOCK : piece.stop * BLOCK].astype(np.int64)
    sound = np.zeros(piece.length * BLOCK, np.int64)
    size = piece.stop - piece.first
    fade = crossfade(size) * BLOCK
    # Of equal power; a square root is the same on every machine.
    rise = np.sqrt((np.arange(fade) + 0.5) / max(fade, 1) * 2**30).astype(np.int64)
    for number, (at, begin, end) in enumerate(repeated(size, piece.start, piece.length)):
        more = part[begin * BLOCK : end * BLOCK]
        start = at * BLOCK
        if number and fade:
            before = sound[start : start + fade] * rise[::-1]
            sound[start : start + fade] = (before + more[:fade] * rise) >> 15
            more, start = more[fade:], start + fade
        sound[start : start + len(more)] = more
    return sound


def _gain(sound: np.ndarray, decibels: int) -> int:
    """In units of 2^-16: brings the mean power of <int64>[N] to `decibels` of full scale."""
    numerator, denominator = power_ratio(decibels)
    energy = max(int((sound * sound).sum()), 1)
    return math.isqrt((2**30 * len(sound) * numerator << 32) // (energy * denominator))


# --- Files. -------------------------------------------------------------------------------------


def _run(
    job: Callable[[Any], Any], items: Sequence[Any], what: str, *, workers: int, progress: bool
) -> Iterator[Any]:
    """The results of a job for every item, in order; a bar tells how far it is."""
    unit = "clip" if what == "mix" else "recording"
    shown = progress and bool(items)
    with progress_bar(total=len(items), desc=what, unit=unit, disable=not shown) as bar:
        if min(workers, len(items)) <= 1:
            for item in items:
                yield job(item)
                bar.update()
            return
        # Spawned, not forked: the caller may have started JAX's threads.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, _ignore_interrupts)
        running: deque[Future] = deque()
        try:
            # Few at a time: after Ctrl-C no long queue is worked off.
            for item in items:
                running.append(pool.submit(job, item))
                if len(running) > 4 * workers:
                    yield running.popleft().result()
                    bar.update()
            while running:
                yield running.popleft().result()
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C


def _analyse(folders: _Folders, source: Source) -> tuple[str, np.ndarray]:
    """The digest of a recording, and the blocks in which it sounds."""
    path = folders[source.label == SPEECH] / source.path
    samples = read_samples.__wrapped__(path)  # each is read once: nothing to keep
    blocks = sounding(samples, source.label)
    if not blocks.any():
        raise InputError(f"{path}: shorter than 0.01 s; copy it again")
    return digest(samples), blocks


def _mix_file(
    folders: _Folders, directory: Path, job: tuple[str, tuple[str, int], list[MixedEvent]]
) -> None:
    """Writes one clip; a file is complete as soon as it has its name."""
    import soundfile

    path, key, plan = job
    data = io.BytesIO()
    soundfile.write(data, mix_clip(folders, key, plan), SAMPLE_RATE, "PCM_16", format="FLAC")
    write_whole(directory / path, data.getvalue())


def _check_owner(directory: Path, mine: Mapping[str, Any]) -> None:
    """Refuses a folder that holds something else, or a set whose marker differs from `mine`."""
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; expected a folder, or a new name for one")
    marker = directory / MARKER
    if not marker.exists():
        for name in ("audio", "metadata", SOURCES):
            if (directory / name).exists():
                raise InputError(
                    f"{directory}: found {name} but no {MARKER}, expected an empty folder or an "
                    "unfinished openmix; choose another folder"
                )
        return
    try:
        found = json.loads(marker.read_bytes())
    except ValueError:
        found = {}
    differ = [key for key, value in mine.items() if found.get(key) != value]
    if differ:
        raise InputError(
            f"{marker}: found another set there, which differs in {', '.join(differ)} "
            f"({differ[0]}: found {found.get(differ[0])}, expected {mine[differ[0]]}); delete the "
            "folder or choose another one"
        )


def _tell_differences(found: Sequence[tuple[Source, str]]) -> None:
    names = differing(found)
    if names:
        logging.warning(
            "%d recordings or speakers are decoded to other samples than those of the published "
            "set: %s%s; scores on the mix may differ a little from scores on the published one",
            len(names),
            ", ".join(names[:10]),
            ", ..." if len(names) > 10 else "",
        )


def _write_labels(directory: Path, plans: Mapping[tuple[str, int], Sequence[MixedEvent]]) -> None:
    rows: dict[str, list[tuple[object, ...]]] = {}
    for (split, index), (_, *events) in plans.items():
        name = clip_name(split, index)
        table = rows.setdefault(split, [])
        if split == "unlabel_in_domain":
            table.append((name,))
        elif split == "weak":
            table.append((name, ",".join(sorted({event.label for event in events}))))
        else:
            table += [
                (name, _seconds(event.onset), _seconds(event.offset), event.label)
                for event in events
            ]
    columns = {"unlabel_in_domain": ("filename",), "weak": ("filename", "event_labels")}
    strong = ("filename", "onset", "offset", "event_label")
    for split, table in rows.items():
        write_table(directory / SPLITS[split].table, columns.get(split, strong), table)


def _write_sources(directory: Path, plans: Mapping[tuple[str, int], Sequence[MixedEvent]]) -> None:
    rows = [
        (
            clip_name(*key),
            _seconds(piece.onset),
            _seconds(piece.onset + piece.length),
            event.label,
            piece.source.origin,
            event.level,
            piece.source.path,
            _seconds(piece.first + piece.start),
        )
        for key, plan in plans.items()
        for event in plan
        for piece in event.pieces
    ]
    write_table(directory / SOURCES, SOURCE_COLUMNS, rows)


def _seconds(blocks: int) -> str:
    return f"{blocks // 100}.{blocks % 100:02d}"


def credits_page(sources: Sequence[Source], plans: Iterable[Sequence[MixedEvent]]) -> str:
    """CREDITS.md: every recording of ESC-10 that was mixed, with its licence, and the speakers."""
    used = {piece.source for plan in plans for event in plan for piece in event.pieces}
    lines = [
        "# Credits",
        "",
        "Each clip is a mix of the recordings that `sources.tsv` names for it. Clips with speech",
        "hold recordings under CC BY-SA 4.0 and may be passed on under that licence; the others",
        "under CC BY, with these credits.",
        "",
        "## ESC-10",
        "",
        'K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia',
        "2015, <https://github.com/karolpiczak/ESC-10>. Cut and mixed, levels changed:",
        "",
        *(
            f"- `{source.path}` ({source.label}): {source.credit}"
            for source in sources
            if source in used and source.label != SPEECH
        ),
        "",
        "## Free Spoken Digit Dataset",
        "",
        "<https://github.com/Jakobovski/free-spoken-digit-dataset>, "
        "[CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/). Resampled, cut and",
        "mixed, levels changed. Speakers: "
        + ", ".join(sorted({source.fold for source in used if source.label == SPEECH}))
        + ".",
        "",
    ]
    return "\n".join(lines)
