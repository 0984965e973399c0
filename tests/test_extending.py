"""docs/extending.md, carried out: what it tells a reader to add is added and trained."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks():
    """The first three pieces of Python of the page: the loss, the line, the config."""
    text = (ROOT / "docs" / "extending.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.S)[:3]


def test_the_documented_example(tmp_path):
    loss, line, config = blocks()
    package = tmp_path / "jfsed_jax"
    shutil.copytree(ROOT / "jfsed_jax", package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "losses.py").open("a") as file:
        file.write("\n\n" + loss)
    step = (package / "train_step.py").read_text()
    anchor = '        "dfd_mse": ('
    assert step.count(anchor) == 1
    (package / "train_step.py").write_text(step.replace(anchor, line + anchor))
    (package / "configs" / "pts_dfd_cosine.py").write_text(config)

    # One step of it, and the term by hand: maps that are equal but for a factor are at distance 0,
    # opposite ones at 2.
    script = """
        import jax, jax.numpy as jnp, numpy as np
        import jfsed_jax
        from jfsed_jax import losses, train_step
        from jfsed_jax.configs import pts_dfd_cosine

        assert jfsed_jax.__file__.startswith(PLACE), jfsed_jax.__file__
        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3)), jnp.float32)
        found = losses.cosine_distance(jnp.concatenate([x, x]), jnp.concatenate([3 * x, -x]))
        np.testing.assert_allclose(found, [0, 0, 2, 2], atol=1e-5)

        config = pts_dfd_cosine.get_config("tiny")
        few = dict(filters=(4, 4), kernels=(3, 3), convs=(1, 1), gru_layers=1)
        config.teacher.update(few, pools=((10, 8), (10, 4)), dropout=0.0)
        config.student.update(few, pools=((1, 8), (1, 8)))
        config.augmentation = dict.fromkeys(config.augmentation, 0.0)
        system = train_step.make_system(
            config, num_classes=2, steps_per_epoch=1, axis_name=None
        )
        config.front_end.hop_length, config.front_end.clip_seconds = 735, 100 / 60
        batch = {
            "mel": np.ones((2, 100, 64), np.float16),
            "clip_labels": np.ones((2, 2), np.float32),
            "frame_labels": np.zeros((2, 100, 2), np.uint8),
            "is_weak": np.zeros(2, np.float32),
            "is_strong": np.zeros(2, np.float32),
        }
        state = train_step.initial_state(system, config, jax.random.key(0))
        step = jax.jit(lambda *args: train_step.train_step(*args, system=system))
        state, metrics = step(state, batch, jax.random.key(0))
        assert 0 <= metrics["distillation/dfd_cosine"] <= 2, metrics
        assert np.isfinite(metrics["loss"]), metrics
    """
    script = f"PLACE = {str(tmp_path)!r}\n" + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
