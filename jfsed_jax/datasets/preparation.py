"""From a folder of audio and labels to clips that can be trained on and scored.

`prepare` reads the folder (`folder`), decodes what is new (`store`) and joins both (`joining`).
Every flaw is a line of ``problems.tsv``, every clip without audio one of ``missing.tsv``; the
summary counts them.
"""

import contextlib
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jfsed_jax.atomic import write_whole
from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.datasets import features_folder
from jfsed_jax.datasets.clips import Prepared, load
from jfsed_jax.datasets.folder import Folder, read_folder
from jfsed_jax.datasets.joining import join
from jfsed_jax.datasets.store import Extracted, Store
from jfsed_jax.errors import InputError
from jfsed_jax.progress import progress_bar
from jfsed_jax.sed import tables


def prepare(
    data_dir: str | Path,
    front_end: FrontEnd,
    *,
    features_dir: str | Path | None = None,
    classes: Sequence[str] | None = None,
    strict: bool = False,
    workers: int | None = None,
    verify: bool = False,
    progress: bool = True,
) -> Prepared:
    """Validates a data folder, extracts the features that are missing, and opens the result.

    The features folder gets the shards, ``prepared.json``, ``missing.tsv`` and ``problems.tsv``;
    the data folder is only read. A second call with nothing changed decodes nothing.

    Args:
      data_dir: a folder like `folder.TREE`.
      front_end: how to make the features.
      features_dir: where to keep them; by default a folder of the user's cache that is named after
        the data folder and the front end.
      classes: the class list if it is settled already; see `read_folder`.
      strict: a missing clip or a flaw that costs a clip or a label is an error.
      workers: processes that decode; by default one per core.
      verify: read all features that are there, and make anew what is damaged.
      progress: show a bar.

    Raises:
      InputError: the folder cannot be used at all, or `strict` and something is wrong.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A decoding process imports the script that started it, and is about to do it all again.
        raise InputError(
            "a script that prepares data must call it under if __name__ == '__main__':, or with "
            "workers=1"
        )
    data_dir = Path(data_dir)
    directory = (
        Path(features_dir)
        if features_dir is not None
        else features_folder.features_home(data_dir, front_end)
    )
    try:
        folder = read_folder(data_dir, classes)
    except OSError as error:
        what = error.filename or data_dir
        raise InputError(f"{what} cannot be read: {error.strerror}") from error
    with features_folder.only_one(directory):
        features_folder.check_owner(directory, data_dir, front_end)
        _write_problems(directory, folder)
        for split in folder.splits.values():
            if split.unreadable:
                raise InputError(split.unreadable)
        if strict:
            _refuse_flaws(directory, folder)
        store = Store(directory, data_dir, front_end)
        files = {
            name: [clip.audio for clip in split.clips if clip.audio]
            for name, split in folder.splits.items()
        }
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
        workers = workers or cores or 1
        try:
            with _bar(progress) as update:
                extracted = store.extract(files, workers=workers, progress=update, verify=verify)
        except InputError as error:
            split = next(iter(folder.splits.values()))
            split.note(0, "", str(error), file=str(directory), skipped=True)
            with contextlib.suppress(InputError):  # as where the disk is full
                _write_problems(directory, folder)
            raise
        saved: dict[str, Any] = {
            "data": data_dir.resolve().name,
            "classes": folder.classes,
            "front_end": asdict(front_end),
            "conventions": folder.conventions,
            "splits": {},
            "summary": {},
        }
        for name, split in folder.splits.items():
            saved["splits"][name], saved["summary"][name] = join(split, extracted[name], front_end)
            saved["splits"][name]["shards"] = [
                str(path.relative_to(directory)) for path in extracted[name].shards
            ]
        _move_unlabelled(saved, extracted)
        _write_problems(directory, folder)
        if strict:
            _refuse_flaws(directory, folder)
        write_whole(directory / features_folder.PREPARED, json.dumps(saved) + "\n")
        kept = [path for split in extracted.values() for path in split.shards]
        features_folder.remove(directory, store.superseded(kept))
    return load(directory)


def _write_problems(directory: Path, folder: Folder) -> None:
    tables.write_table(
        directory / "missing.tsv",
        ("split", "filename", "row", "reason"),
        folder.missing,
    )
    tables.write_table(
        directory / "problems.tsv",
        ("file", "row", "found", "reason", "left_out"),
        [
            (p.file, p.row or "", p.found, p.reason, "yes" if p.skipped else "no")
            for p in folder.problems
        ],
    )


def _refuse_flaws(directory: Path, folder: Folder) -> None:
    costly = sum(problem.skipped for problem in folder.problems)
    if folder.missing or costly:
        raise InputError(
            f"{folder.path}: {len(folder.missing)} clips have no audio and {costly} flaws cost a "
            f"clip or a label, which --strict does not accept; see {directory}/missing.tsv and "
            "problems.tsv"
        )


@contextlib.contextmanager
def _bar(shown: bool):
    """A progress bar that appears with the first clip decoded."""
    bar = None

    def update(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = progress_bar(total=total, desc="extracting", unit="clip", disable=not shown)
        bar.update(done - bar.n)

    try:
        yield update
    finally:
        if bar is not None:
            bar.close()


def _move_unlabelled(saved: dict[str, Any], extracted: dict[str, Extracted]) -> None:
    """Makes unlabelled clips of those of long weak recordings."""
    moved = [clip for split in saved["splits"].values() for clip in split.pop("unlabelled")]
    if not moved:
        return
    name = "unlabel_in_domain"
    nothing: dict[str, list] = {"clips": [], "events": [], "reference": [], "shards": []}
    split = saved["splits"].setdefault(name, nothing)
    own = extracted[name].num_records if name in extracted else 0
    split["clips"] += [[filename, own + record, *rest] for filename, record, *rest in moved]
    split["shards"] += saved["splits"]["weak"]["shards"]
    summary = saved["summary"].setdefault(name, {"listed": 0})
    summary["clips"] = summary.get("clips", 0) + len(moved)


SUMMARY_COLUMNS = {
    "listed": "listed",
    "found": "found",
    "missing": "missing",
    "unusable": "undecodable",
    "left_out": "left out",
    "clips": "clips",
    "short": "short",
    "long": "long",
    "events": "events",
    "merged": "merged",
    "shortened": "cut",
    "dropped": "dropped",
    "without_events": "no events",
}


def format_summary(prepared: Prepared) -> str:
    """The table that `prepare` prints: a row per split, then what is wrong and where it is said."""
    rows = [["split", *SUMMARY_COLUMNS.values()]]
    for name, counts in prepared.summary.items():
        rows.append([name, *(f"{counts.get(key, 0):,}" for key in SUMMARY_COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    lines += ["", f"{len(prepared.classes)} classes: {', '.join(prepared.classes)}"]
    lines += prepared.conventions
    lines.append(f"features, missing.tsv, problems.tsv: {prepared.directory}")
    return "\n".join(lines)
