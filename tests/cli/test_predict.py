"""The command that labels recordings, with a stored run that has learnt: see `learning_problem`."""

import json
import os
import re

import learning_problem as problem
import numpy as np
import pytest
import soundfile

import jfsed_jax as jf
from jfsed_jax.cli import main as cli
from jfsed_jax.inference.journal import Journal
from jfsed_jax.sed import label_files
from jfsed_jax.training import interrupt


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with four recordings in it, which is where the command runs."""
    monkeypatch.chdir(tmp_path)
    whole = problem.recording()
    (tmp_path / "in" / "sub").mkdir(parents=True)
    half = len(whole) // 2
    parts = {"a.wav": whole, "b.flac": whole[:half], "sub/c.wav": whole[half:], "d.wav": whole}
    for name, waveform in parts.items():
        soundfile.write(tmp_path / "in" / name, waveform, problem.RATE)
    return tmp_path


NAMES = ["in/a.wav", "in/b.flac", "in/d.wav", "in/sub/c.wav"]


def predict(run, *arguments):
    return cli.main(["predict", f"--workdir={run}", *map(str, arguments)])


def expected_events(run, names):
    """By the library, one file at a time; as the table has them, to a millisecond and by time."""
    detector = jf.load(run)
    events = [event for name in names for event in sorted(jf.detect(detector, name))]
    return [event._replace(onset=round(event.onset, 3), offset=round(event.offset, 3))
            for event in events]  # fmt: skip


def test_a_folder_is_labelled_in_every_form(learnt_run, place, capsys):
    forms = ["--audacity=aud", "--raven=rav", "--save_scores=scores", "--page=pages"]
    assert predict(learnt_run, "--output=events.tsv", *forms, "in") == 0
    table = jf.read_events("events.tsv")
    expected = expected_events(learnt_run, NAMES)
    assert table.filenames == NAMES and len(expected) > 30
    assert table.events == expected
    stems = {name: name.rpartition(".")[0] for name in NAMES}
    for folder in ("aud", "rav"):
        found = label_files.read_labels(folder).events
        assert {event.filename.rpartition(".")[0] or event.filename for event in found} == {
            stem for stem in stems.values()
        }
        assert [event[1:] for event in found] == [event[1:] for event in expected]
    for name, stem in stems.items():
        scores = np.loadtxt(f"scores/{stem}.tsv", skiprows=1)
        assert scores[-1, 1] == pytest.approx(soundfile.info(name).duration)
        page = (place / "pages" / f"{stem}.html").read_text()
        assert os.path.basename(name) in page
    assert not (place / "events.tsv.journal").exists()

    capsys.readouterr()
    assert predict(learnt_run, "--output=events.jsonl", "--classes=Hum", "in/a.wav") == 0
    rows = [json.loads(line) for line in (place / "events.jsonl").read_text().splitlines()]
    hums = [event for event in expected if event[0] == "in/a.wav" and event.event_label == "Hum"]
    assert [(row["onset"], row["event_label"]) for row in rows] == [(e.onset, "Hum") for e in hums]
    assert predict(learnt_run, "in/a.wav", "--threshold=1") == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["in/a.wav" + "\t" * 5]


def test_nine_bad_files_among_good_ones_are_nine_lines(learnt_run, place, capsys):
    """What each of them once did: bombs ended the command, a FIFO would wait for ever."""
    good = place / "in" / "a.wav"
    data = good.read_bytes()
    bad = place / "bad"
    bad.mkdir()
    soundfile.write(bad / "flac.flac", problem.recording(), problem.RATE)
    flac = bytearray((bad / "flac.flac").read_bytes())
    flac[21:26] = bytes([flac[21] | 0x0F, 255, 255, 255, 255])  # 2 ** 36 - 1 samples
    (bad / "flac.flac").write_bytes(flac)
    (bad / "cut.wav").write_bytes(data[: len(data) // 2])
    (bad / "rate.wav").write_bytes(data[:24] + bytes([1, 0, 0, 0]) + data[28:])
    (bad / "text.wav").write_text("hello")
    (bad / "empty.wav").touch()
    soundfile.write(bad / "nan.wav", np.full(8000, np.nan, np.float32), 8000, subtype="FLOAT")
    os.mkfifo(bad / "fifo.wav")
    (bad / "loop.wav").symlink_to("loop.wav")
    names = [f"bad/{name}" for name in sorted(os.listdir(bad))] + ["bad/gone.wav"]
    assert len(names) == 9
    mixed = [*names[:4], *NAMES[:2], *names[4:], *NAMES[2:]]
    assert predict(learnt_run, "--output=events.tsv", *mixed) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    told = [line.split("\t")[0] for line in error.splitlines() if "\t" in line]
    assert told == names
    assert error.splitlines()[-1].endswith("9 of 13 files could not be used, see above")
    assert jf.read_events("events.tsv").filenames == NAMES

    # Once they are mended, only they are labelled.
    for name in names:
        (place / name).unlink(missing_ok=True)
        (place / name).write_bytes(data)
    heard = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "add", lambda self, labelled: heard.append(labelled.path))
        # flac.flac is a wav now, which libsndfile does not mind
        assert predict(learnt_run, "--output=events.tsv", "--resume", *mixed) == 0
    assert heard == names
    assert jf.read_events("events.tsv").filenames == mixed


def test_an_interrupt_costs_nothing_that_was_done(learnt_run, place, capsys, monkeypatch):
    """A signal that comes while the second recording is read, then the same command again."""
    stop = interrupt.Stop()
    add = Journal.add

    def add_and_signal(self, labelled):
        add(self, labelled)
        stop.signum = 15

    class Signalled:
        def __enter__(self):
            return stop

        def __exit__(self, *_):
            pass

    # Of a batch a clip, so that the first recording is done before the last one is read.
    monkeypatch.setattr("jfsed_jax.inference.prediction._BATCH", 1)
    with monkeypatch.context() as patch:
        patch.setattr(interrupt, "stop_on_signals", Signalled)
        patch.setattr(Journal, "add", add_and_signal)
        assert predict(learnt_run, "--output=events.tsv", "in") == 128 + 15
    error = capsys.readouterr().err
    # How many depends on the devices, each of which gets a clip of a batch.
    told = re.search(r"stopped, (\d) of 4 recordings are labelled; .* with --resume goes on", error)
    done = int(told[1])
    assert 1 <= done < 4
    assert jf.read_events("events.tsv").filenames == NAMES[:done]
    assert predict(learnt_run, "--output=events.tsv", "in") == 2
    assert "--resume, or delete it" in capsys.readouterr().err
    assert predict(learnt_run, "--output=events.tsv", "--threshold=0.4", "--resume", "in") == 2
    assert "was begun with threshold 0.5, now it is 0.4" in capsys.readouterr().err
    assert predict(learnt_run, "--output=events.tsv", "--resume", "in") == 0
    assert jf.read_events("events.tsv").events == expected_events(learnt_run, NAMES)


def test_corrected_labels_are_not_written_over(learnt_run, place, capsys):
    command = ["--audacity=aud", "--output=events.tsv", "in/a.wav"]
    assert predict(learnt_run, *command) == 0
    track = place / "aud/in/a.txt"
    written = track.read_text()
    track.write_text("1\t2\tmine\n")
    assert predict(learnt_run, *command) == 2
    assert "aud/in/a.txt is there, perhaps with corrections" in capsys.readouterr().err
    assert track.read_text() == "1\t2\tmine\n"
    assert predict(learnt_run, *command, "--overwrite") == 0
    assert track.read_text() == written
    track.unlink()
    track.symlink_to(place / "in/d.wav")
    assert predict(learnt_run, *command, "--overwrite") == 2
    assert soundfile.info(place / "in/d.wav").frames


def test_a_bad_file_is_a_line_whatever_it_is_called(learnt_run, place, capsys):
    """In the table of failures, in that of events and in all that is written of good ones."""
    names = ["in/1\n2.wav", "in/1\t2.wav", os.fsdecode(b"in/\xff.wav")]
    for name in names:
        (place / name).write_text("hello")
    assert predict(learnt_run, *names, "in/b.flac") == 2
    output, error = capsys.readouterr()
    told = [line for line in error.splitlines() if "\tnot audio but text" in line]
    shown = ["in/1\\n2.wav", "in/1\\t2.wav", "in/\\udcff.wav"]
    assert [line.split("\t")[0] for line in told] == shown
    assert {line.split("\t")[0] for line in output.splitlines()} == {"filename", "in/b.flac"}
    for name in names:
        (place / name).write_bytes((place / "in/b.flac").read_bytes())
    own = ["--audacity=aud", "--save_scores=s", "--page=p"]
    assert predict(learnt_run, *names, *own) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == 3 * (len(output.splitlines()) - 1)
    assert {row.split(".wav")[0] for row in rows} == {"in/1\\n2", '"in/1\t2', "in/\\udcff"}
    assert [len(os.listdir(place / folder / "in")) for folder in ("aud", "s", "p")] == [3] * 3


def test_clips_end_to_end_are_heard_as_files(learnt_run, place, capsys):
    """Events, and how sure, are those of the files where no median reaches over a cut."""
    rate, size = problem.RATE, problem.CLIP_FRAMES * problem.FRAME
    whole = np.tile(problem.recording(), 3)
    (place / "cut").mkdir()
    for i in range(0, len(whole), size):
        soundfile.write(place / "cut" / f"{i:06d}.wav", whole[i : i + size], rate)
    soundfile.write(place / "whole.wav", whole, rate)

    def away(table):
        """Rows of events at least 3 frames from a cut, in the time of the whole recording."""
        found, clip = set(), size / rate
        for line in (place / table).read_text().splitlines()[1:]:
            filename, onset, offset, *others = line.split("\t")
            name = os.path.basename(filename).removesuffix(".wav")
            start = 0 if name == "whole" else int(name) / rate
            onset, offset = (round(start + float(time), 3) for time in (onset, offset))
            begin = onset // clip * clip
            if begin + 0.12 <= onset and offset <= begin + clip - 0.12:
                found.add((onset, offset, *others))
        return found

    assert predict(learnt_run, "--output=files.tsv", "cut") == 0
    assert predict(learnt_run, "--output=none.tsv", "--overlap=0", "whole.wav") == 0
    assert predict(learnt_run, "--output=half.tsv", "whole.wav") == 0
    files, none, half = (away(f"{name}.tsv") for name in ("files", "none", "half"))
    assert files == none != half and len(files) > 10


def test_a_resume_is_of_the_same_recordings_from_the_same_place(
    learnt_run, place, capsys, monkeypatch
):
    (place / "in/bad.wav").write_text("hello")
    command = ["--output=events.tsv", "in/bad.wav"]
    assert predict(learnt_run, *command, *NAMES[:2]) == 2
    # Another sound under the name is heard again; what is not named any more stays in the table.
    soundfile.write(place / "in/a.wav", np.zeros(problem.RATE), problem.RATE)
    assert predict(learnt_run, *command, "in/a.wav", "--resume") == 2
    table = jf.read_events("events.tsv")
    assert table.filenames == ["in/a.wav", "in/b.flac"]
    assert {event.filename for event in table.events} == {"in/b.flac"}
    monkeypatch.chdir(place / "in")
    capsys.readouterr()
    assert predict(learnt_run, "--output=../events.tsv", "--resume", "a.wav") == 2
    assert "was begun with folder" in capsys.readouterr().err


def test_what_the_files_of_a_recording_hold(learnt_run, place, capsys):
    """A recording of more than a minute: windows in seconds, thresholds as asked, sound, band."""
    rate = problem.RATE
    soundfile.write(place / "long.wav", np.tile(problem.recording(), 10)[: 62 * rate], rate)
    outputs = ["--page=sub/page.html", "--raven=rav", "--output=e.tsv", "--threshold=Hum=0.6"]
    assert predict(learnt_run, *outputs, "long.wav") == 0
    page = (place / "sub/page.html").read_text()
    data = json.loads(
        re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)[1]
    )
    assert data["windows"] == [1, 1, 1]  # of 1, 2 and 3 frames, in tenths of a second
    assert data["thresholds"] == [0.5, 0.5, 0.6]
    assert page.count("data:image/png") + str(data).count("iVBOR") >= 2
    assert 'src="../long.wav"' in page
    assert predict(learnt_run, *outputs, "--embed_audio", "--overwrite", "long.wav") == 0
    assert "data:audio/ogg;base64,T2dnU" in (place / "sub/page.html").read_text()
    row = (place / "rav/long.selections.txt").read_text().splitlines()[1].split("\t")
    assert row[5:8] == ["0.0", "4000.0", "long.wav"]


def test_raw_samples_are_told_in_a_line(learnt_run, place, capsys):
    (place / "in/x.raw").write_bytes(bytes(1000))
    assert predict(learnt_run, "--output=events.tsv", "in/x.raw", "in/a.wav") == 2
    assert "in/x.raw\traw samples, whose rate no header says" in capsys.readouterr().err
    assert jf.read_events("events.tsv").filenames == ["in/a.wav"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--resume", "a.wav"], "--resume goes on with an --output"),
        (["--embed_audio", "a.wav"], "--embed_audio is for a --page"),
        (["--page=page.html", "in"], "one page, and there are 4 recordings: name a folder"),
        (["--audacity=aud", "in/a.wav", "in/a.flac"], "would both have the file aud/in/a.txt"),
        (["--audacity=both", "--raven=both", "in"], "would have two label files: name two"),
        (["--output=s/in/a.tsv", "--save_scores=s", "in"], "is a file of one recording too"),
        (["--classes=Cow", "in"], "no class Cow; expected some of Beep, Hiss, Hum"),
        (["--classes=", "in"], "no classes are named: expected some of Beep, Hiss, Hum, or all"),
        (["--output=events.xls", "in"], "expected a name that ends in .tsv, .csv, .jsonl"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_work(learnt_run, place, capsys, arguments, reason):
    assert predict(learnt_run, *arguments) == 2
    assert reason in capsys.readouterr().err
    assert os.listdir(place) == ["in"]


def test_what_a_person_should_know_of_a_recording(learnt_run, place, caplog):
    """A rate below the model's is noted; no event ends after the sound, as its last frame may."""
    rate = problem.RATE
    sound = problem.recording()[: int(0.47 * rate)]  # 11.75 frames, of which the last is a beep's
    soundfile.write(place / "same.wav", sound, rate)
    soundfile.write(place / "low.wav", sound[::2], rate // 2)
    assert predict(learnt_run, "--output=e.tsv", "same.wav", "low.wav") == 0
    notes = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [
        note for note in notes if "1 recordings, the first low.wav, are sampled at less" in note
    ]
    [event] = [e for e in jf.read_events("e.tsv").events if e.filename == "same.wav"]
    assert event.event_label == "Beep" and event.offset == 0.47
