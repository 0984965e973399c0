"""What cannot be written is refused before the work; what can be is left as it is until then."""

import itertools
import os
from pathlib import Path

import pytest

from jfsed_jax.cli import main as cli
from jfsed_jax.cli import process

FILES = {
    "inspect": ["--data=d", "--output"],
    "predict": ["--workdir=w", "a.wav", "--output"],
    "score": ["--reference=r", "--estimates=e", "--json"],
    "postprocess": ["--scores=s", "--output"],
    "benchmark": ["--json"],
}
CONFIG = f"--config={Path(__file__).parents[2]}/configs/pts.py:tiny"
FOLDERS = {
    "evaluate": ["--workdir=w", "--score_files"],
    "predict: audacity": ["--workdir=w", "a.wav", "--audacity"],
    "predict: raven": ["--workdir=w", "a.wav", "--raven"],
    "predict: scores": ["--workdir=w", "a.wav", "--save_scores"],
    "predict: pages": ["--workdir=w", "a.wav", "--page"],
    "openmix": ["--esc10=a", "--fsdd=b", "--out"],
    # A command with several such flags has a line for each.
    "evaluate: workdir": ["--workdir"],
    "evaluate: features": ["--workdir=w", "--features"],
    "report": ["--workdir"],
    "demo": ["--workdir"],
    "train": [CONFIG, "--data=d", "--workdir"],
    "train: features": [CONFIG, "--data=d", "--workdir=w", "--features"],
    "reproduce": ["--table=1", "--data=d", "--workdir"],
    "reproduce: features": ["--table=1", "--data=d", "--workdir=w", "--features"],
    "prepare": ["--data=d", "--features"],
    "inspect: features": ["--data=d", "--features"],
}
COMMANDS = FILES | FOLDERS


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command that writes to a path, up to its body: its status and what the body got."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")

    def call(name, path):
        started, command = [], name.partition(":")[0]
        body = cli.COMMANDS[command]._replace(run=lambda args: started.append(args) or 0)
        monkeypatch.setitem(cli.COMMANDS, command, body)
        return cli.main([command, *COMMANDS[name], str(path)]), started

    return call


@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_that_is_none_is_refused_before_the_work(name, run, capsys):
    for path in ("file/new", "file/new/deeper", "n" * 300):
        assert run(name, path) == (2, [])
        error = capsys.readouterr().err
        assert (
            error.count("\n") == 1 and f"argument {COMMANDS[name][-1]}: {path} cannot be" in error
        )
    assert run(name, "file" if name in FOLDERS else ".") == (2, [])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_new_place_is_made_by_the_work_and_not_before(name, run, tmp_path):
    status, started = run(name, "new/deeper/place")
    assert status == 0 and len(started) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_there_stays_until_its_successor_is_made(name, run, tmp_path):
    assert run(name, "file")[0] == 0
    assert (tmp_path / "file").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["predict", "evaluate"])
def test_an_empty_value_is_none(name, run):
    assert run(name, "")[0] == 0


@pytest.mark.parametrize("name", FILES)
def test_a_recording_is_not_written_over(name, run, tmp_path, capsys):
    """As in ``--output a.wav b.wav``, where the flag has lost its value."""
    for path in ("a.wav", "b.FLAC"):
        (tmp_path / path).write_text("kept")
        assert run(name, path) == (2, [])
        assert f"{path} cannot be written: that is the name of a rec" in capsys.readouterr().err


def test_predict_does_not_write_over_what_it_labels(tmp_path, monkeypatch, capsys):
    """Whatever it is called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "start_jax_as_trained", lambda workdir: pytest.fail("started"))
    (tmp_path / "a.caf").write_text("kept")
    (tmp_path / "link").symlink_to("a.caf")
    for path in ("a.caf", "link"):
        command = ["predict", "--workdir=w", f"--output={path}", "gone.wav", "./a.caf"]
        assert cli.main(command) == 2
        assert f"--output={path} is a file to be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["r.tsv", "e.tsv", "c.tsv", "d.tsv", "s.tsv", "t.tsv", "f/a.tsv", "p/a.tsv"]
)
def test_tables_are_not_written_over_by_what_is_made_of_them(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in "fp":
        (tmp_path / folder).mkdir()
    (tmp_path / name).write_text("kept")
    (tmp_path / "link").symlink_to(name)
    given = ["--reference=r.tsv", "--estimates=e.tsv", "--compare=c.tsv", "--durations=d.tsv"]
    score = ["score", *given, "--scores=f", "--operating_points=p", "--json"]
    postprocess = ["postprocess", "--scores=f", "--strong=s.tsv", "--tags=t.tsv", "--output"]
    commands = [c for c in (score, postprocess) if f"={name.partition('/')[0]}" in " ".join(c)]
    assert commands
    for command, path in itertools.product(commands, (name, "link")):
        assert cli.main([*command, path]) == 2
        assert f"{command[-1]}={path} is a file to be read" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "kept"


def test_predict_only_reads_the_run(tmp_path, run, monkeypatch):
    """Somebody else's, on a disk that is read."""
    monkeypatch.setitem(COMMANDS, "predict: workdir", ["a.wav", "--workdir"])
    assert run("predict: workdir", "file")[0] == 0


def test_links_and_pipes_are_written_through(run, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for a reader
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "new").symlink_to("not-yet")
    with open(os.devnull, "w") as nowhere:
        # In the folder of the last one nothing can be made.
        for path in ("pipe", "link", "new", os.devnull, f"/dev/fd/{nowhere.fileno()}"):
            assert run("score", path)[0] == 0
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "astray").symlink_to("nowhere/file")
    for path, reason in ("loop", "Too many levels"), ("astray", "No such file or directory"):
        assert run("score", path) == (2, [])
        assert f"{path} cannot be written: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_without_permission_is_refused(name, run, tmp_path, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.access(locked, os.W_OK):
        pytest.skip("nothing is forbidden to this user")
    assert run(name, "locked/new") == (2, [])
    assert "locked/new cannot be written: Permission denied" in capsys.readouterr().err
