"""A run's folder: the name of every file in it, JSON read and written, older formats.

    config.json meta.json      what is trained, and what follows from it and from the data
    metrics.jsonl tensorboard/ the log
    checkpoints/               see `jfsed_jax.runs.checkpoints`
    damaged/                   checkpoints that could not be read
    lock                       see `jfsed_jax.runs.lock`
    profile/                   traces of steps, of ``train --profile``
    eval/SPLIT/                see `SplitFolder`; other rules' scores in eval-RULE/SPLIT
    adaptive_weights.json      figure 3
    thresholds.json            Event-F1 by threshold, on held-out clips
    report.html
    seeds/K/                   of several seeds, what each has of all these but checkpoints/
    seeds/SPLIT.json           and the means of their scores
    members/M/                 of a config with members: all of these of each, a run of its own

Paths that a run remembers are relative to its folder, so a copy of both works.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import logging

from jfsed_jax.atomic import write_whole
from jfsed_jax.configs import base
from jfsed_jax.errors import InputError

OWN_SCORES = "eval"  # the folder of scores with the run's own window rule; others': eval-RULE
FORMAT = 2  # of the folder and of what travels in checkpoints; 1 had no such number


class NotWritten(InputError):
    """A file of a run that could not be written, as where the disk is full."""


@dataclass(frozen=True)
class SplitFolder:
    """Where `evaluate` writes the scores of one split."""

    path: Path

    @property
    def scores(self) -> Path:
        """Scores in percent, JSON."""
        return self.path / "scores.json"

    @property
    def events(self) -> Path:
        """The detected events."""
        return self.path / "events.tsv"

    @property
    def reference(self) -> Path:
        """The labels they are scored against."""
        return self.path / "reference.tsv"

    @property
    def posteriors(self) -> Path:
        """filenames [N], clip [N, C], frames [N, T, C], clip_reference [N, C]."""
        return self.path / "posteriors.npz"

    @property
    def counts(self) -> Path:
        """filenames [N], classes [C], and by score <int64>[N, C, 3], see `scoring.score_clips`."""
        return self.path / "counts.npz"

    @property
    def examples(self) -> Path:
        """filenames [K], mel [K, T, F] of the clips that a page shows; `worst` [K], whether for
        their errors; their `recordings` [K] and `starts` [K] there; `sound` <uint8>[S], Ogg Opus
        one after the other to `sound_ends` [K]."""
        return self.path / "examples.npz"


@dataclass(frozen=True)
class Workdir:
    """The folder of a run, or of one of its seeds."""

    path: Path

    @property
    def config(self) -> Path:
        """The config as trained, JSON."""
        return self.path / "config.json"

    @property
    def meta(self) -> Path:
        """What follows from the config and the data, JSON."""
        return self.path / "meta.json"

    @property
    def metrics(self) -> Path:
        """The log, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The same for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Orbax's folder."""
        return self.path / "checkpoints"

    @property
    def damaged(self) -> Path:
        """Where checkpoints go that could not be read."""
        return self.path / "damaged"

    @property
    def lock(self) -> Path:
        """There while a process trains in the folder."""
        return self.path / "lock"

    @property
    def profile(self) -> Path:
        """Where the profiler writes its traces."""
        return self.path / "profile"

    @property
    def weights(self) -> Path:
        """Figure 3, JSON."""
        return self.path / "adaptive_weights.json"

    @property
    def thresholds(self) -> Path:
        """Event-F1 by threshold on the clips that training held out, JSON."""
        return self.path / "thresholds.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def seed(self, k: int, num_seeds: int) -> "Workdir":
        """What seed `k` has for itself: the workdir, or of several ``seeds/k``."""
        return self if num_seeds == 1 else Workdir(self.path / "seeds" / str(k))

    def member(self, m: int) -> "Workdir":
        """The run of member `m` of a config's ``members``, a workdir like any other."""
        return Workdir(self.path / "members" / str(m))

    def members(self) -> list["Workdir"]:
        """Those that are there, in order."""
        names = [path.parent.name for path in self.path.glob("members/*/config.json")]
        return [self.member(m) for m in sorted(int(name) for name in names if name.isdecimal())]

    def hint(self) -> str:
        """A sentence on where runs lie that are in this folder, which is none; or nothing."""
        if (self.path / "runs").is_dir():
            return " Those of reproduce are in its runs/."
        if found := self.members():
            return f" Those of its members are {found[0].path} and so on."
        return ""

    def scores_of_seeds(self, split: str) -> Path:
        """Means over the seeds, JSON."""
        return self.path / "seeds" / f"{split}.json"

    def split(self, name: str, scored: str = OWN_SCORES) -> SplitFolder:
        """The scores of a split; `scored` is ``eval``, or ``eval-RULE`` for another rule's."""
        return SplitFolder(self.path / scored / name)

    def scored(self) -> list[str]:
        """The folders of scores that are there: ``eval``, then those of other rules by name."""
        found = [path.name for path in self.path.glob(f"{OWN_SCORES}-*") if path.is_dir()]
        own = [OWN_SCORES] if (self.path / OWN_SCORES).is_dir() else []
        return own + sorted(found)

    def relative(self, path: Path) -> str:
        """`path` as the run remembers it: relative to its folder."""
        return os.path.relpath(path.resolve(), self.path.resolve())

    def remembered(self, path: str) -> Path:
        """Where a path that the run remembers lies now."""
        return Path(os.path.normpath(self.path.resolve() / path))


def write_json(path: Path, content: Any, *, allow_nan: bool = False) -> None:
    """Writes a JSON file in one piece; `allow_nan`: infinity too, which a config may have.

    Raises:
      NotWritten: it cannot be written.
    """
    data = json.dumps(content, indent=2, allow_nan=allow_nan) + "\n"
    try:
        write_whole(path, data)
    except InputError as error:
        raise NotWritten(str(error)) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no such file.

    Raises:
      InputError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: expected a JSON object; {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: expected a JSON object, found a bare value or list")
    return content


def check_format(meta: Mapping[str, Any], where: Path) -> int:
    """The format that a run was written in.

    Raises:
      InputError: a newer version of this package wrote it.
    """
    found = meta.get("format", 1)
    if not isinstance(found, int) or found > FORMAT:
        raise InputError(
            f"{where} has format {found}, this version of jfsed_jax knows up to {FORMAT}: "
            "install the version that wrote it, or a later one"
        )
    return found


# Pages that differ from system to system; what they lack they lack on purpose.
_MODELS = ("teacher", "student")


# What runs did before there was a key for it, where configs have another default since.
_BEFORE = {"loss": {"before_dropout": False}, "postprocess": {"clear_knee": 0.3}}
_BLOCKS_BEFORE = {"pooling": "max"}  # of models with such blocks, which have a page for them
# What says how to compute, and not what: a run goes on with other values.
_OF_MACHINE = ("deterministic", "cpu_devices")


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as saved, and for what has been added to configs since, what it stood for then."""

    def fill(found: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
        filled = dict(found)
        for key, default in defaults.items():
            if key not in found:
                filled[key] = default
            elif isinstance(default, dict) and isinstance(found[key], Mapping):
                filled[key] = fill(found[key], default)
        return filled

    defaults = json.loads(base.get_config().to_json())
    for page, values in _BEFORE.items():
        defaults[page] |= values
    filled = fill(config, {key: value for key, value in defaults.items() if key not in _MODELS})
    for key in filled.keys() & _MODELS:
        if "convs" in filled[key]:
            filled[key] = _BLOCKS_BEFORE | filled[key]
    return filled


def check_config(workdir: Workdir, config) -> None:
    """Refuses the workdir of a run of another config.

    Args:
      workdir: where the run is, or is to be.
      config: a ``ConfigDict``.

    Raises:
      InputError: it names the values that differ.
    """
    try:
        found = read_json(workdir.config)
    except InputError as error:
        raise InputError(
            f"{error}; if you delete it, the config that the checkpoints hold is compared"
        ) from error
    if found is None:
        return
    wanted = json.loads(config.to_json())
    check_same_config(workdir, found, wanted)
    before, now = (upgraded(page)["deterministic"] for page in (found, wanted))
    if before != now:
        logging.warning(
            "%s: config.deterministic is %s there and %s here, so that on a GPU the run is not the "
            "uninterrupted one to the bit",
            workdir.path,
            before,
            now,
        )


def check_same_config(
    workdir: Workdir, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Refuses to go on with another config than the run has; both as JSON, see `check_config`."""
    # Both are filled up: a config may lack what its own page leaves out, too.
    differences = sorted(_differences(of_run(upgraded(found)), of_run(upgraded(wanted))))
    if differences:
        raise InputError(
            f"{workdir.path} belongs to a run of another config: {'; '.join(differences[:4])}; "
            "choose another --workdir, or repeat the command that made it"
        )


def of_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config, as JSON, without what belongs to the machine that it runs on."""
    return {key: value for key, value in config.items() if key not in _OF_MACHINE}


def _differences(found: Any, wanted: Any, name: str = "config") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in found.keys() | wanted.keys():
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}")
    elif found != wanted:
        yield f"{name} is {found!r} there and {wanted!r} here"
