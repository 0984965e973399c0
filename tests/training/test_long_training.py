"""Recordings of 3 to 40 s, strong and weak, train and are evaluated: where every label is."""

from collections import Counter

import learning_problem as problem
import numpy as np
import soundfile

import jfsed_jax as jf
from jfsed_jax.runs.workdir import read_json

STRONG = {"a.wav": 3, "b.wav": 10, "c.wav": 24, "d.wav": 40}
WEAK = {"e.wav": (3, ""), "f.wav": (12, "no"), "g.wav": (30, "yes")}
VALIDATION = {"h.wav": 4, "i.wav": 17, "j.wav": 33}
EVERY = 4.5  # seconds from one event to the next, and so some go past an edge at 10, 20 or 30 s
LENGTH = 2.0


def events_of(name, seconds):
    """(name, onset, offset, class), one class after the other."""
    onsets = np.arange(0.5, seconds - LENGTH, EVERY)
    return [(name, t, t + LENGTH, list(problem.LENGTHS)[i % 3]) for i, t in enumerate(onsets)]


def write(folder):
    """A data folder; the events of its strong and of its validation set."""
    rng = np.random.default_rng(0)
    lengths = {f"train/synthetic/{name}": s for name, s in STRONG.items()}
    lengths |= {f"train/weak/{name}": s for name, (s, _) in WEAK.items()}
    lengths |= {f"validation/{name}": s for name, s in VALIDATION.items()}
    for name, seconds in lengths.items():
        path = folder / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(seconds * problem.RATE), problem.RATE)
    strong = [event for name, s in STRONG.items() for event in events_of(name, s)]
    validation = [event for name, s in VALIDATION.items() for event in events_of(name, s)]
    header = [("filename", "onset", "offset", "event_label")]
    tables = {
        "train/synthetic": header + strong,
        "validation/validation": header + validation,
        "train/weak": [
            ("filename", "event_labels", "throughout"),
            *((name, "Beep,Hum", throughout) for name, (_, throughout) in WEAK.items()),
        ],
    }
    for name, rows in tables.items():
        path = folder / "metadata" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return strong, validation


def test_every_label_is_accounted_for(tmp_path, caplog):
    strong, validation = write(tmp_path / "data")
    config = problem.config()
    config.front_end.clip_seconds = 10.0
    config.batch = dict(weak=2, unlabelled=2, strong=4)
    config.update(epochs=1, steps_per_epoch=2)
    config.evaluation.holdout = 0.3
    features = tmp_path / "features"
    jf.fit(config, tmp_path / "data", tmp_path / "run", features_dir=features)

    detector = jf.load(tmp_path / "run")
    prepared = jf.prepare_for(detector)
    clips = prepared.splits["synthetic"]
    assert Counter(clips.filenames) == {"a.wav": 1, "b.wav": 1, "c.wav": 3, "d.wav": 4}
    items = [clips[i] for i in range(len(clips))]
    # 0.5, 5, 9.5 (past an edge), 14, 18.5 (past one), 23, 27.5, 32, 36.5.
    edges = [event for event in strong if event[1] // 10 < event[2] // 10]
    assert len(strong) == 1 + 2 + 5 + 9 and len(edges) == 4
    assert sum(len(item["labels"]) for item in items) == len(strong) + len(edges)
    seconds = sum((item["offsets"] - item["onsets"]).sum() for item in items)
    assert seconds == LENGTH * len(strong)
    assert max(item["offsets"].max() for item in items) <= 10
    weak, unlabelled = prepared.splits["weak"], prepared.splits["unlabel_in_domain"]
    assert Counter(weak.filenames) == {"e.wav": 1, "g.wav": 3}
    assert all(weak[i]["clip_labels"].sum() == 2 for i in range(4))
    assert Counter(unlabelled.filenames) == {"f.wav": 2}
    assert "1, now 2 unlabelled clips: f.wav" in caplog.text
    # A third of four weak and of nine strong clips: recordings are held out whole.
    held = {kind: total - detector.meta["clips"][kind] for kind, total in
            (("weak", len(weak)), ("strong", len(clips)))}  # fmt: skip
    assert held["weak"] in (1, 3) and held["strong"] in (1, 2, 3, 4)
    assert detector.meta["clips"]["unlabelled"] == 2

    scores = jf.evaluate(detector, prepared, detector.workdir)
    counts = scores["event_f1"]["counts"]
    listed = Counter(label for *_, label in validation)
    assert len(validation) == 1 + 4 + 7
    assert {label: counts[label]["reference"] for label in listed} == listed
    assert scores["info"]["num_clips"] == 3
    saved = np.load(detector.workdir.split("validation").posteriors)
    # One clip of 4 s; clips that overlap by half in 17 s and in 33 s.
    heard = Counter(name.split("@")[0] for name in saved["filenames"].tolist())
    assert heard == {"h.wav": 1, "i.wav": 3, "j.wav": 6}
    assert read_json(detector.workdir.split("validation").scores) == scores
