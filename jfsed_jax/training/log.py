"""What a run writes down as it goes: ``metrics.jsonl`` and TensorBoard, of each seed."""

import json
import math
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jfsed_jax.atomic import write_whole
from jfsed_jax.errors import InputError
from jfsed_jax.runs.workdir import Workdir

Values = Mapping[str, float | None]


class MetricsLog:
    """``metrics.jsonl`` and TensorBoard; on a resume what lies after the step is dropped."""

    def __init__(self, workdir: Workdir, step: int):
        from tensorboard.summary import Writer

        path = workdir.metrics
        kept = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:  # the line that a kill cut short
                break
            if entry["step"] <= step:
                kept.append(line)
        write_whole(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a")
        self._board = Writer(str(workdir.tensorboard))

    def write(self, kind: str, step: int, values: Mapping[str, float | int | None]) -> None:
        """Appends one line and one TensorBoard point per value."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if value is not None:
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


class RunLog:
    """The `MetricsLog` of a run; of several seeds one each beside it, and their means in it."""

    def __init__(self, workdir: Workdir, step: int, num_seeds: int = 1):
        self._run = MetricsLog(workdir, step)
        folders = [workdir.seed(k, num_seeds) for k in range(num_seeds)]
        self._seeds = [MetricsLog(folder, step) for folder in folders if folder != workdir]

    def write(
        self,
        kind: str,
        step: int,
        values: Sequence[Values],
        common: Mapping[str, float | int | None],
    ) -> None:
        """`values` of each seed and what is `common` to all, see `MetricsLog.write`."""
        self._run.write(kind, step, {**mean_values(values), **common})
        if self._seeds:
            for log, own in zip(self._seeds, values, strict=True):
                log.write(kind, step, {**own, **common})

    def close(self) -> None:
        for log in (self._run, *self._seeds):
            log.close()


def mean_values(values: Sequence[Values]) -> dict[str, float | None]:
    """The mean over the seeds of every value by name; None if a seed has none."""
    means: dict[str, float | None] = {}
    for name in values[0]:
        known = [value for own in values if (value := own[name]) is not None]
        means[name] = sum(known) / len(known) if len(known) == len(values) else None
    return means


class StepMetrics:
    """Metrics of steps on their way from the device into the log.

    Steps are dispatched ahead of the device; only `flush` waits for it.

    Attributes:
      waited: seconds spent on waiting for clips since the last flush; the loop adds to it.
    """

    def __init__(self, log: RunLog, *, num_seeds: int, batch_size: int, steps_per_epoch: int):
        self._log = log
        self._num_seeds = num_seeds
        self._clips_per_step = batch_size * num_seeds
        self._steps_per_epoch = steps_per_epoch
        self._pending: list[tuple[range, dict[str, jax.Array]]] = []
        self.waited = 0.0
        self.restart_clock()

    def restart_clock(self) -> None:
        """What went before, such as an evaluation, does not count into the speed."""
        self._since = time.monotonic()

    def add(self, numbers: range, metrics: dict[str, jax.Array]) -> int:
        """Keeps the metrics of the steps with these numbers; how many dispatches are kept."""
        self._pending.append((numbers, metrics))
        return len(self._pending)

    def flush(self, last_good: str) -> str | None:
        """Reads from the device, checks and logs; a few words on the last step, if there is one.

        Raises:
          InputError: a value is not finite. `last_good` says where the state before it is.
        """
        if not self._pending:
            return None
        fetched = jax.device_get([metrics for _, metrics in self._pending])
        rows = []  # number of a step, metrics of each seed
        for (numbers, _), metrics in zip(self._pending, fetched, strict=True):
            shape = len(numbers), self._num_seeds
            table = {name: np.reshape(metrics[name], shape) for name in sorted(metrics)}
            for i, number in enumerate(numbers):
                columns = range(self._num_seeds)
                values = [{name: float(v[i, k]) for name, v in table.items()} for k in columns]
                rows.append((number, values))
        seconds = time.monotonic() - self._since
        speed = {
            "clips_per_second": self._clips_per_step * len(rows) / seconds,
            "data_wait": self.waited / seconds,
        }
        for number, values in rows:
            self._check(number, values, last_good)
            epoch = (number - 1) // self._steps_per_epoch
            self._log.write("train", number, values, speed | {"epoch": epoch})
        self._pending.clear()
        self.waited = 0.0
        self.restart_clock()
        loss = mean_values(values)["loss"]
        return f"loss {loss:.3f}, {speed['clips_per_second']:.0f} clips/s"

    def _check(self, number: int, values: Sequence[Values], last_good: str) -> None:
        for k, own in enumerate(values):
            bad = [name for name, value in own.items() if not math.isfinite(value or 0.0)]
            if bad:
                seed = f", seed {k}" if self._num_seeds > 1 else ""
                terms = ", ".join(f"{name} {value:.4g}" for name, value in own.items())
                raise InputError(
                    f"step {number}{seed}: {', '.join(bad)} not finite ({terms}); {last_good}; "
                    "lower config.optimiser.learning_rate (with another --workdir), or look for "
                    "clips with extreme levels"
                )
