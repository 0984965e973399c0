"""The notebook runs from top to bottom on a small work directory, and shows what it promises."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import jfsed_jax
from jfsed_jax.sed import tables
from jfsed_jax.sed.events import DCASE2019_CLASSES, Event, events_to_frames

nbformat = pytest.importorskip("nbformat", reason="needs the extra 'notebook'")
nbclient = pytest.importorskip("nbclient", reason="needs the extra 'notebook'")

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "demo.ipynb"
FRAME_RATE = 60.0


def write_run(workdir: Path) -> None:
    """What training and evaluation leave behind: two clips, one event each, flickering frames."""
    names = ["first.wav", "second.wav"]
    events = [Event(names[0], 2.0, 5.0, "Blender"), Event(names[1], 1.0, 1.5, "Dog")]
    truth = np.stack(
        [
            events_to_frames([e], DCASE2019_CLASSES, num_frames=600, frame_rate=FRAME_RATE)
            for e in events
        ]
    )
    rng = np.random.default_rng(0)
    flicker = rng.random(truth.shape) < 0.02
    frames = np.where(truth.astype(bool) ^ flicker, 0.9, 0.1)
    clip = truth.max(axis=1).astype(np.float32)
    saved = workdir / "eval" / "validation"
    saved.mkdir(parents=True)
    (workdir / "data" / "audio").mkdir(parents=True)
    noise = rng.normal(0, 0.1, 4000)
    soundfile.write(workdir / "data" / "audio" / names[0], noise, 8000)
    windows = [5] * len(DCASE2019_CLASSES)
    meta = {
        "system": "pts_tfd_afl_esp",
        "classes": list(DCASE2019_CLASSES),
        "windows": {"fixed": windows, "avg": windows, "esp": windows},
    }
    (workdir / "meta.json").write_text(json.dumps(meta))
    (saved / "scores.json").write_text(json.dumps({"info": {"postprocess": "esp"}}))
    tables.write_events(saved / "reference.tsv", events)
    np.savez(
        saved / "posteriors.npz",
        filenames=np.array(names),
        classes=np.array(DCASE2019_CLASSES),
        clip=clip,
        frames=frames.astype(np.float16),
        frame_rate=np.float64(FRAME_RATE),
        clip_reference=clip.astype(np.uint8),
    )
    mel = rng.normal(size=(2, 600, 64)).astype(np.float16)
    np.savez(saved / "examples.npz", filenames=np.array(names), mel=mel)


def test_runs_from_top_to_bottom(tmp_path, monkeypatch):
    write_run(tmp_path)
    monkeypatch.setenv("JFSED_WORKDIR", str(tmp_path))
    monkeypatch.delenv("JFSED_DATA", raising=False)
    # The kernel is another process, started in notebooks/: it must import this very package.
    monkeypatch.setenv("PYTHONPATH", str(Path(jfsed_jax.__file__).parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    outputs = {
        cell.id: [
            {"text/plain": output.text} if output.output_type == "stream" else output.data
            for output in cell.outputs
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert "audio" in outputs["choose"][0]["text/html"]
    assert all(any("image/png" in o for o in outputs[cell]) for cell in ("draw", "turn", "curve"))
    text = "".join(o.get("text/plain", "") for o in outputs["turn"])
    # The run's windows of 5 frames remove the flicker; without a filter each flicker is an event.
    assert "as the run did: 1 events in this clip, 2 in all, Event-F1 100.0" in text
    changed = int(text.split("changed: ")[1].split()[0])
    assert changed > 5


def test_is_stored_without_outputs():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
