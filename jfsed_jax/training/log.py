"""What a run writes down as it goes: ``metrics.jsonl`` and TensorBoard, of each seed."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path


class MetricsLog:
    """``metrics.jsonl`` and TensorBoard; on a resume what lies after the step is dropped."""

    def __init__(self, workdir: Path, step: int):
        from tensorboard.summary import Writer

        path = workdir / "metrics.jsonl"
        kept = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:  # the line that a kill cut short
                break
            if entry["step"] <= step:
                kept.append(line)
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(line + "\n" for line in kept))
        os.replace(temporary, path)
        self._file = path.open("a")
        self._board = Writer(str(workdir / "tensorboard"))

    def write(self, kind: str, step: int, values: dict[str, float | int | None]) -> None:
        """Appends one line and one TensorBoard point per value."""
        self._file.write(json.dumps({"kind": kind, "step": step} | values) + "\n")
        self._file.flush()
        for name, value in values.items():
            if value is not None:
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


class RunLog:
    """The `MetricsLog` of a run; of several seeds one each beside it, and their means in it."""

    def __init__(self, workdir: Path, step: int, seed_folders: Sequence[Path]):
        self._run = MetricsLog(workdir, step)
        self._seeds = [MetricsLog(f, step) for f in seed_folders if f != workdir]

    def write(
        self,
        kind: str,
        step: int,
        values: Sequence[Mapping[str, float | None]],
        common: Mapping[str, float | int],
    ) -> None:
        """`values` of each seed and what is `common` to all, see `MetricsLog.write`."""
        self._run.write(kind, step, {**mean_values(values), **common})
        if self._seeds:
            for log, own in zip(self._seeds, values, strict=True):
                log.write(kind, step, {**own, **common})

    def close(self) -> None:
        for log in (self._run, *self._seeds):
            log.close()


def mean_values(values: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean over the seeds of every value by name; None if a seed has none."""
    means: dict[str, float | None] = {}
    for name in values[0]:
        known = [value for own in values if (value := own[name]) is not None]
        means[name] = sum(known) / len(known) if len(known) == len(values) else None
    return means
