"""What commands on labels read: tables, label files, folders of them; how their clips match."""

import json

import numpy as np
import pytest

from jfsed_jax.cli import main as cli
from jfsed_jax.sed import predictions, score_files
from jfsed_jax.sed.events import Event

EVENTS = [
    Event("in/a.wav", 0.5, 2.0, "Dog"),
    Event("in/a.wav", 3.0, 4.0, "Cat"),
    Event("b.flac", 1.0, 5.5, "Dog"),
]
NAMES = ["in/a.wav", "b.flac", "silent.wav"]


@pytest.fixture
def forms(tmp_path, monkeypatch):
    """The same events as a table, and as a folder of label files of either program."""
    monkeypatch.chdir(tmp_path)
    predictions.write_predictions("table.tsv", EVENTS, filenames=NAMES)
    for form in ("audacity", "raven"):
        predictions.write_label_files(form, EVENTS, form=form, filenames=NAMES)
    return ["table.tsv", "audacity", "raven"]


def score(*flags):
    assert cli.main(["score", *flags, "--json=scores.json"]) == 0
    with open("scores.json", encoding="utf-8") as file:
        return json.load(file)


def test_another_seed_draws_other_clips(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{b}.wav" for b in range(40)]
    events = [Event(name, 0.0, 1.0, "Dog") for name in names]
    predictions.write_predictions("r.tsv", events)
    predictions.write_predictions("e.tsv", events[::2], filenames=names)
    flags = ["--reference=r.tsv", "--estimates=e.tsv", "--bootstrap=150"]
    first, again, other = (score(*flags, f"--seed={seed}")["intervals"] for seed in (0, 0, 1))
    assert first == again != other


def test_whatever_the_form_the_scores_are_the_same(forms):
    for reference in forms:
        for estimates in forms:
            found = score(f"--reference={reference}", f"--estimates={estimates}", "--match=stem")
            assert found["event_f1"]["micro"] == 100.0
            assert found["info"]["num_clips"] == 3


def test_windows_come_of_whatever_form_the_labels_have(forms, tmp_path, capsys):
    """A single label file holds one recording's events, whose windows are others."""
    frames = np.zeros((60, 2), np.float32)
    frames[20:40, 1] = 0.9
    score_files.write_score_files(
        "scores", [frames], filenames=["a.wav"], classes=["Cat", "Dog"], frame_rate=10.0
    )
    printed, written = [], []
    for strong in [*forms, "audacity/b.txt", "raven/b.selections.txt"]:
        assert cli.main(["windows", f"--strong={strong}", "--frame_rate=10"]) == 0
        assert cli.main(["postprocess", "--scores=scores", f"--strong={strong}", "--output=e"]) == 0
        printed.append(capsys.readouterr().out)
        written.append((tmp_path / "e").read_text())
    assert printed[0] == printed[1] == printed[2] != printed[3] == printed[4]
    assert set(written) == {"filename\tonset\toffset\tevent_label\na.wav\t2.000\t4.000\tDog\n"}


def test_postprocess_writes_over_no_label_file(forms, tmp_path, capsys):
    score_files.write_score_files(
        "scores", [np.zeros((9, 1))], filenames=["a.wav"], classes=["Dog"], frame_rate=10.0
    )
    before = (tmp_path / "audacity/b.txt").read_text()
    command = ["postprocess", "--scores=scores", "--strong=audacity", "--output=audacity/b.txt"]
    assert cli.main(command) == 2
    assert "--output=audacity/b.txt is a file to be read" in capsys.readouterr().err
    assert (tmp_path / "audacity/b.txt").read_text() == before


def test_durations_and_compared_events_are_matched_too(forms):
    with open("durations.tsv", "w", encoding="utf-8") as file:
        file.write("filename\tduration\nx/a.mp3\t10\ny/b.mp3\t10\nsilent\t10\nmore.wav\t10\n")
    flags = ["--reference=audacity", "--estimates=table.tsv", "--compare=raven"]
    found = score(*flags, "--durations=durations.tsv", "--match=stem")
    assert found["info"]["num_clips"] == 4
    assert found["compare"]["event_f1"]["micro"] == 100.0


def refused(capsys, *flags):
    assert cli.main(["score", *flags]) == 2
    return capsys.readouterr().err


def test_clips_are_told_apart_unless_asked(forms, capsys):
    error = refused(capsys, "--reference=audacity", "--estimates=table.tsv")
    assert "table.tsv, row 2: the clip 'in/a.wav' is not scored, 'in/a' is; --match=stem" in error
    # Names that agree need no flag.
    assert score("--reference=audacity", "--estimates=audacity")["event_f1"]["micro"] == 100.0


def test_clips_that_would_become_one_are_refused(forms, capsys):
    predictions.write_predictions("two.tsv", [Event("x/a.wav", 0, 1, "Dog"), EVENTS[0]])
    for reference, estimates in (("two.tsv", "table.tsv"), ("table.tsv", "two.tsv")):
        flags = [f"--reference={reference}", f"--estimates={estimates}"]
        error = refused(capsys, *flags, "--match=stem")
        assert "two.tsv: 'x/a.wav' and 'in/a.wav' have the same base name 'a'" in error


def test_a_flaw_names_the_file_of_the_folder_and_its_row(forms, capsys):
    with open("audacity/b.txt", "a", encoding="utf-8") as file:
        file.write("7.5\t7.5\tDog\n")
    error = refused(capsys, "--reference=raven", "--estimates=audacity", "--match=stem")
    assert "audacity/b.txt, row 2: a point label" in error
    with open("audacity/b.txt", "w", encoding="utf-8") as file:
        file.write("1\t2\tDog\n3\t4\tBird\n")
    error = refused(capsys, "--reference=raven", "--estimates=audacity", "--match=stem")
    assert "audacity/b.txt, row 2: the label 'Bird' is not one of Cat, Dog" in error


def test_a_label_file_is_not_written_over(forms, capsys):
    flags = ["--reference=raven", "--estimates=audacity", "--json=audacity/in/a.txt"]
    assert "--json=audacity/in/a.txt is a file to be read" in refused(capsys, *flags)


def test_the_column_that_labels_are_taken_from_is_noted(forms):
    row = "1\tSpectrogram 1\t1\t0\t1\t0\t9\tDog\tbark\n"
    with open("a.txt", "w", encoding="utf-8") as file:
        columns = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)"
        file.write(f"{columns}\tHigh Freq (Hz)\tSpecies\tCall type\n{row}")
    found = score("--reference=a.txt", "--estimates=a.txt")
    assert len(found["info"]["notes"]) == 1
    assert "those of 'species' are taken" in found["info"]["notes"][0]


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "--estimates, --scores or --operating_points is missing"),
        (["--scores=scores"], "--durations is missing, which --scores needs"),
        (["--estimates=table.tsv", "--filters=0.5"], "--scores is missing, which --filters needs"),
        (["--estimates=table.tsv", "--collar=0"], "--scores is missing, which --collar needs"),
        (["--scores=s", "--segment=0"], "--segment: 0.0 is not number >= 0.001"),
        (
            ["--scores=s", "--filters=0,half"],
            "--filters: could not convert string to float: 'half'",
        ),
        (["--scores=s", "--compare=table.tsv"], "--estimates is missing, which --compare needs"),
        (["--estimates=table.tsv", "--scenario=dtx=1"], "'dtx=1' is none of dtc, gtc"),
        (["--estimates=table.tsv", "--scenario=dtc=2"], "dtc: 2.0 is not a number in the range"),
        (["--scores=s", "--scenario=dtc=0.5,dtc=0.6"], "--scenario: dtc is named twice"),
        (["--scores=s", "--compare_scores=t", "--processed=u"], "leave it out with --compare_sco"),
    ],
)
def test_flags_that_lack_others_are_refused(flags, message, forms, capsys):
    assert cli.main(["score", "--reference=table.tsv", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
