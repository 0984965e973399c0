"""All that is to be known of a device's speed, by one command and within a limit of time.

Parts come in the order of what they decide, each in a process of its own (`suite_parts`): the train
step with the recurrence as a scan and as the GPU's kernels, PyTorch eager and compiled; with the
loop that these figures choose several seeds as one program, a whole training extrapolated and a
resumed run to the bit; the log-mel. What fails is a row with its reason, and so is what there was
no time for.

Each side is timed while nothing else runs, and not in turns with another: it is for a device that
nobody else uses.
"""

import time
from collections.abc import Callable
from typing import Any

import jfsed_jax
from jfsed_jax.errors import InputError
from jfsed_jax.experiments import suite_parts, suite_rows
from jfsed_jax.experiments.benchmarking import without_extras
from jfsed_jax.experiments.lone_process import Attempt, run_alone
from jfsed_jax.experiments.suite_rows import COMPILED, EAGER, SCAN
from jfsed_jax.progress import progress_bar

SEEDS = 4  # as one program
_PARTS = 11
_LARGEST_SHARE = 0.3  # of the time, for one part
_FEWEST_SECONDS = 10.0  # that a part is begun with
_ROW_SECONDS = 10.0  # for the repeats of a row

Run = Callable[..., Attempt]


class _Clock:
    """Runs parts one after the other for as long as there is time."""

    def __init__(self, size: int, seconds: float, run: Run):
        self._size, self._run = size, run
        self._end, self._longest = time.monotonic() + seconds, _LARGEST_SHARE * seconds
        self._bar = progress_bar(total=_PARTS, desc="suite", unit="part", leave=False)

    def attempt(self, part: Callable[..., Any], config, *arguments: Any) -> Attempt:
        """A part of `suite_parts` with its own arguments, or why there is none."""
        left = min(self._end - time.monotonic(), self._longest)
        found = Attempt(error="not measured: no time was left")
        if left >= min(_FEWEST_SECONDS, self._longest):
            row = min(_ROW_SECONDS, left / 6)
            given = config.to_json(), self._size, row, *arguments
            found = self._run(part, *given, seconds=left)
        self._bar.update()
        return found

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()


def run_suite(
    config, *, size: int | None = None, minutes: float = 10.0, run: Run = run_alone
) -> dict[str, Any]:
    """Measures; the result is JSON-able and `format_suite` prints it.

    Args:
      config: as ``configs/base.py`` lays it out; without its augmentation, noise and averaging.
      size: clips in a batch; by default the config's.
      minutes: for all together.
      run: what calls a part, see `run_alone`.

    Raises:
      InputError: the config asks for deterministic kernels, which are measured beside the others.
    """
    if config.deterministic:
        raise InputError("--suite measures with and without: leave out --config.deterministic")
    config = without_extras(config)
    size = size or sum(config.batch.values())
    began = time.monotonic()
    clock = _Clock(size, 60 * minutes, run)

    sides = {SCAN: clock.attempt(suite_parts.measure_ours, config, SCAN)}
    variables = (sides[SCAN].value or {}).get("variables")
    # What decides most comes first.
    theirs, ours = suite_parts.measure_torch, suite_parts.measure_ours
    sides[EAGER] = clock.attempt(theirs, config, False, variables)
    sides["pallas"] = clock.attempt(ours, config, "pallas")
    sides[COMPILED] = clock.attempt(theirs, config, True, variables)
    sides["mosaic"] = clock.attempt(ours, config, "mosaic")
    loop, words = suite_rows.chosen_loop(sides)
    config.gru_loop = loop
    seeds = clock.attempt(suite_parts.measure_seeds, config, SEEDS)
    many = clock.attempt(suite_parts.train_many, config)
    saved = clock.attempt(suite_parts.train_and_save, config)
    resumed = saved
    if saved.error is None:
        resumed = clock.attempt(suite_parts.resume, config, saved.value["saved"])
    features = clock.attempt(suite_parts.measure_log_mel, config)
    ceiling = clock.attempt(suite_parts.measure_ceiling, config)
    clock.close()

    clip_seconds = size * config.front_end.clip_seconds
    rows = [
        *suite_rows.side_rows(sides, loop, clip_seconds),
        suite_rows.seeds_row(seeds, SEEDS),
        *suite_rows.training_rows(many, config),
        *suite_rows.resume_rows(saved, resumed, suite_parts.STEPS_BETWEEN),
        *suite_rows.feature_rows(features, clip_seconds),
        *suite_rows.ceiling_rows(ceiling, suite_rows.seconds_of_step(sides[loop])),
    ]
    found = [side.value for side in sides.values() if side.error is None]
    of_ours: dict[str, Any] = next((value for value in found if "machine" in value), {})
    versions = {"jfsed_jax": jfsed_jax.__version__}
    for value in found:
        versions |= value["versions"]
    return {
        "config": f"{config.system}:{config.size}",
        "batch": size,
        "dtype": config.compute_dtype,
        "machine": of_ours.get("machine", "no device"),
        "devices": of_ours.get("devices", 0),
        "versions": versions,
        "minutes": minutes,
        "seconds": time.monotonic() - began,
        "gru_loop": loop,
        "default": words,
        "rows": [row._asdict() | {"goal": row.goal and row.goal._asdict()} for row in rows],
    }


def format_suite(result: dict[str, Any]) -> str:
    """The result for a person."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    rows = [suite_rows.row_of(entry) for entry in result["rows"]]
    return "\n".join(
        [
            f"{result['config']}, batch {result['batch']}, {result['dtype']}; {versions}",
            f"{result['machine']}; {result['devices']} JAX devices; measured in "
            f"{result['seconds'] / 60:.1f} of {result['minutes']:g} minutes",
            "to reach: at the paper's size, 64 clips in bfloat16, on one GPU",
            "",
            suite_rows.format_rows(rows),
            "",
            f"config.gru_loop: {result['default']}",
        ]
    )
