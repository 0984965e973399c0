"""How long a process of `jfsed-jax train` waits before its first step: rows of the benchmark."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.errors import one_line
from jfsed_jax.experiments.measuring import Timing

_CLIPS = 12  # of each training set, rendered: how many there are changes little
_WARM = 3  # starts with a warm cache, of which the median is told
LIMIT = 300.0  # seconds for all of them


def rows(config, seconds: float = LIMIT) -> list[dict[str, Any]]:
    """Time to the first step, with a cold and with a warm cache of compiled programs.

    From the start of a process of its own to the end of its first step, on data that are prepared:
    some rendered clips, so that reading a large set is not in it.

    Args:
      config: of the run, as ``configs/base.py`` lays it out.
      seconds: that all starts together may take.

    Returns:
      Two rows, as `benchmarking.benchmark` has them; one that says why one is missing.
    """
    taken: list[tuple[float, float]] = []
    missing = "no warm start"
    try:
        with tempfile.TemporaryDirectory(prefix="jfsed_jax_start_") as folder:
            command = _prepared(config, Path(folder))
            until = time.monotonic() + seconds
            while len(taken) < 1 + _WARM:
                taken.append(time_start(command, Path(folder), until - time.monotonic()))
    except ImportError as error:
        missing = f"{error.name} is not installed"
    except Exception as error:  # a row with a reason, whatever the reason is
        missing = one_line(str(error))
    cold, warm = taken[:1], taken[1:]
    found = []
    if warm:
        note = "a process's first step done, programs cached"
        found.append(_row("start, warm", warm, note))
    else:
        found.append({"name": "start, warm", "skipped": missing})
    if cold:
        found.append(_row("start, cold", cold, "the same, all compiled"))
    return found


def _row(name: str, taken: Sequence[tuple[float, float]], note: str) -> dict[str, Any]:
    seconds, cpu_seconds = np.median(taken, axis=0).tolist()
    timing = Timing(seconds, cpu_seconds, len(taken))
    return {"name": name, "ours": timing._asdict(), "note": note}


def _prepared(config, folder: Path) -> list[str]:
    """Renders and prepares clips; the command that trains on them, but for its workdir."""
    from jfsed_jax.datasets import demo
    from jfsed_jax.datasets.preparation import prepare

    counts = dict(num_weak=_CLIPS, num_unlabelled=_CLIPS, num_strong=_CLIPS, num_validation=1)
    demo.render(folder / "data", progress=False, **counts)
    features = folder / "features"
    front_end = FrontEnd(**config.front_end)
    prepare(folder / "data", front_end, features_dir=features, progress=False)
    (folder / "config.py").write_text(
        "import json\nfrom ml_collections import ConfigDict\n\n\ndef get_config():\n"
        f"    return ConfigDict(json.loads({config.to_json()!r}))\n"
    )
    return [
        *(sys.executable, "-m", "jfsed_jax", "train", f"--config={folder / 'config.py'}"),
        *(f"--data={folder / 'data'}", f"--features={features}"),
    ]


def time_start(command: Sequence[str], folder: Path, limit: float = LIMIT) -> tuple[float, float]:
    """Seconds until a training's first step is done, of the wall and of CPU; then it is killed.

    Args:
      command: ``jfsed-jax train`` without ``--workdir``.
      folder: for the workdir, a new one, and the cache of compiled programs.
      limit: seconds after which it is given up.

    Raises:
      RuntimeError: it ended before, or did not come so far.
    """
    from jfsed_jax.training.steps import FIRST  # needs the libraries of data sets, as it does

    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "programs")}
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        since = time.monotonic()
        process = subprocess.Popen(
            [*command, f"--workdir={workdir}/run"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        timer = threading.Timer(limit, process.kill)
        timer.start()
        try:
            assert process.stderr is not None
            last = "nothing"
            for line in process.stderr:
                if FIRST in line:
                    seconds = time.monotonic() - since
                    break
                last = line.strip() or last
            else:
                if time.monotonic() - since >= limit:
                    raise RuntimeError(f"no first step within {max(limit, 0):.0f} s")
                raise RuntimeError(f"no first step: the process said {json.dumps(last[-200:])}")
        finally:
            timer.cancel()
            process.kill()
            process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used
