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

_CLIPS = 12  # of each training set, rendered: how many there are changes little
_WARM = 3  # starts with a warm cache, of which the median is told
_LIMIT = 600.0  # seconds after which a start is given up


def rows(config) -> list[dict[str, Any]]:
    """Time to the first step, with a cold and with a warm cache of compiled programs.

    From the start of a process of its own to the end of its first step, on data that are prepared:
    some rendered clips, so that reading a large set is not in it.

    Args:
      config: of the run, as ``configs/base.py`` lays it out.

    Returns:
      Two rows, as `benchmarking.benchmark` has them; one that says why there is none.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="jfsed_jax_start_") as folder:
            command = _prepared(config, Path(folder))
            cold = time_start(command, Path(folder))
            warm = [time_start(command, Path(folder)) for _ in range(_WARM)]
    except ImportError as error:
        return [{"name": "start-up", "skipped": f"{error.name} is not installed"}]
    except RuntimeError as error:
        return [{"name": "start-up", "skipped": str(error)}]
    medians = np.median(warm, axis=0).tolist()
    return [
        _row("start, warm", medians, "a process's first step done, programs cached"),
        _row("start, cold", cold, "the same, all compiled"),
    ]


def _row(name: str, seconds: Sequence[float], note: str) -> dict[str, Any]:
    return {
        "name": name,
        "ours": {"seconds": seconds[0], "cpu_seconds": seconds[1], "calls": 1},
        "note": note,
    }


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


def time_start(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds until a training's first step is done, of the wall and of CPU; then it is killed.

    Args:
      command: ``jfsed-jax train`` without ``--workdir``.
      folder: for the workdir, a new one, and the cache of compiled programs.

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
        timer = threading.Timer(_LIMIT, process.kill)
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
                raise RuntimeError(f"no first step: the process said {json.dumps(last[-200:])}")
        finally:
            timer.cancel()
            process.kill()
            process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used
