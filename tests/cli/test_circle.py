"""The circle of a person with recordings: label them, correct the labels, train on them, label."""

import learning_problem as problem
import numpy as np
import soundfile

from jfsed_jax.cli import main as cli
from jfsed_jax.sed.tables import read_events

PITCH = 1250  # Hz; the stored run takes it for a beep, which has 1500 Hz


def render(path, events, seed):
    """`problem.render`, and whistles, which are beeps of another pitch."""
    known = [event for event in events if event[0] != "Whistle"]
    waveform = problem.render(known, 200, seed)
    for label, start, stop, level in events:
        if label == "Whistle":
            times = np.arange((stop - start) * problem.FRAME) / problem.RATE
            here = slice(start * problem.FRAME, stop * problem.FRAME)
            waveform[here] += level * np.sqrt(2) * np.sin(2 * np.pi * PITCH * times)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, problem.RATE)


FIRST = [
    ("Beep", 5, 13, 0.1),
    ("Whistle", 20, 29, 0.1),
    ("Hum", 40, 58, 0.1),
    ("Hiss", 70, 82, 0.1),
    ("Whistle", 100, 110, 0.1),
    ("Beep", 120, 128, 0.1),
    ("Hum", 140, 157, 0.1),
    ("Hiss", 170, 182, 0.1),
]
SECOND = [
    ("Hiss", 5, 15, 0.1),
    ("Beep", 30, 38, 0.1),
    ("Whistle", 60, 69, 0.1),
    ("Hum", 80, 97, 0.1),
    ("Whistle", 130, 140, 0.1),
    ("Beep", 160, 168, 0.1),
]


def labels_at(table, events, label):
    """What the events of a kind are called in a table: those that cover their middles."""
    found = read_events(table).events
    middles = [(start + stop) / 2 / problem.FRAMES_PER_SECOND
               for own, start, stop, _ in events if own == label]  # fmt: skip
    return [
        {event.event_label for event in found if event.onset <= middle < event.offset}
        for middle in middles
    ]


def test_two_corrected_labels_are_learnt(learnt_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audio = tmp_path / "data/audio/train/synthetic"
    render(audio / "garden.wav", FIRST, seed=1)
    render(tmp_path / "other.wav", SECOND, seed=2)

    labels = "data/metadata/train/synthetic"
    predict = ["predict", f"--workdir={learnt_run}", "--output=first.tsv", f"--audacity={labels}"]
    assert cli.main([*predict, str(audio / "garden.wav")]) == 0
    track = tmp_path / labels / "garden.txt"
    lines = [line.split("\t") for line in track.read_text().splitlines()]
    changed = 0
    for line in lines:
        middle = (float(line[0]) + float(line[1])) / 2 * problem.FRAMES_PER_SECOND
        if any(own == "Whistle" and start <= middle < stop for own, start, stop, _ in FIRST):
            line[2] = "Whistle"
            changed += 1
    assert changed == 2, lines
    track.write_text("".join("\t".join(line) + "\n" for line in lines))

    config = f"--config={problem.__file__}"
    assert cli.main(["prepare", config, "--data=data", "--features=features"]) == 0
    assert cli.main([
        "train", config, "--data=data", "--features=features", "--workdir=second_run",
        f"--init_from={learnt_run}", "--config.batch.weak=0", "--config.batch.unlabelled=0",
        "--config.loss.clip_labels=labelled", "--config.epochs=1",
        "--config.optimiser.schedule_arguments.epochs=100", "--config.evaluation.holdout=0",
    ]) == 0  # fmt: skip
    predict = ["predict", "--workdir=second_run", "--checkpoint=latest", "--output=second.tsv"]
    assert cli.main([*predict, "other.wav"]) == 0
    assert labels_at("second.tsv", SECOND, "Whistle") == [{"Whistle"}] * 2
    for label in ("Beep", "Hum", "Hiss"):
        assert all(label in found for found in labels_at("second.tsv", SECOND, label))
