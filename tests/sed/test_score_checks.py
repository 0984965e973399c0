"""What `score` refuses before it scores, and what it notes: nothing here needs the extra `psds`."""

import json

import pytest

from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.sed import intersection, psds, score_checks, score_files, tables
from jfsed_jax.sed.events import Event

REFERENCE = [Event("a.wav", 1.0, 3.0, "Cat"), Event("b.wav", 5.0, 6.0, "Dog")]
HEADER = "onset\toffset\tCat\tDog\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Reference, a system's events, durations, an operating point and score files of two clips."""
    monkeypatch.chdir(tmp_path)
    for name in ("r.tsv", "e.tsv", "points/0.5.tsv"):
        tables.write_events(name, REFERENCE)
    tables.write_table("d.tsv", ["filename", "duration"], [["a.wav", 10], ["b.wav", 10]])
    (tmp_path / "scores").mkdir()
    for name in "ab":
        (tmp_path / f"scores/{name}.tsv").write_text(HEADER + "0\t10\t0.5\t0.25\n")
    return tmp_path


SCORE = ["score", "--reference=r.tsv", "--estimates=e.tsv"]
PSDS = [*SCORE, "--psds", "--durations=d.tsv"]


def refusal(arguments, capsys):
    """The one line of a command that prints nothing else."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def notes(arguments, capsys):
    """The notes that a command prints before its tables, which are those of its JSON."""
    assert cli.main([*arguments, "--json=s.json"]) == 0
    printed = capsys.readouterr().out.partition("\n\n")[0].splitlines()[1:]
    with open("s.json") as file:
        assert printed == [f"note: {note}" for note in json.load(file)["info"]["notes"]]
    return printed


# Refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SCORE, "--scores=scores"], "--durations is missing, which --scores needs"),
        ([*SCORE, "--operating_points=points"], "--durations is missing, which --operating_points"),
        ([*SCORE, "--psds"], "--durations is missing, which --psds needs"),
        ([*SCORE, "--classes=Cat,Dog,Cat"], "the class 'Cat' is named 2 times"),
        ([*PSDS, "--operating_points=none"], "none holds no .tsv file"),
        ([*PSDS, "--scores=points"], "expected rows and the columns onset, offset and one per"),
    ],
)
def test_flags_that_do_not_fit(folder, arguments, message, capsys):
    assert message in refusal(arguments, capsys)


@pytest.mark.parametrize("flags", ["--scores=more", "--compare_scores=more", "--processed=more"])
@pytest.mark.parametrize(
    ("name", "header", "message"),
    [
        ("a", HEADER, "more: the clip 'b' has no score file"),
        ("abc", HEADER, "more: the clip 'c' has a score file but no duration"),
        ("ab", HEADER.replace("Dog", "Cow"), "no column for the class 'Dog'; found Cat, Cow"),
    ],
)
def test_a_folder_that_does_not_fit_is_named(folder, flags, name, header, message, capsys):
    (folder / "more").mkdir()
    for clip in name:
        (folder / f"more/{clip}.tsv").write_text(header + "0\t10\t0.5\t0.25\n")
    own = [] if flags.startswith("--scores") else ["--scores=scores"]
    assert message in refusal([*PSDS, *own, flags], capsys)


@pytest.mark.parametrize("table", ["points/0.5.tsv", "points/0.7.tsv"])
@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Event("c.wav", 1.0, 2.0, "Cat"), "row 3: the clip 'c.wav' is not among the 2"),
        (Event("a.wav", 1.0, 2.0, "Cow"), "row 3: the label 'Cow' is not one of Cat, Dog"),
        (Event("b.wav", 900.0, 1001.0, "Dog"), "row 3: the event is from 900 to 1001 s"),
    ],
)
def test_an_operating_point_that_does_not_fit_is_named(folder, table, event, message, capsys):
    tables.write_events(table, [REFERENCE[0], event])
    assert f"{table}, {message}" in refusal([*PSDS, "--operating_points=points"], capsys)


def test_psds_needs_the_duration_of_every_clip(folder, capsys):
    tables.write_events("r.tsv", REFERENCE, filenames=["c.wav", "d.wav"])
    expected = "d.tsv: no row for the clip 'c.wav' and 1 others; --psds needs one"
    assert expected in refusal(PSDS, capsys)
    assert cli.main([*SCORE, "--durations=d.tsv"]) == 0


def test_clips_that_would_share_a_score_file_are_refused():
    with pytest.raises(InputError, match="'a.wav' and 'a.flac' would both have the score file a"):
        intersection.intersection_f1(
            REFERENCE[:1], [], durations={"a.wav": 1.0, "a.flac": 1.0}, classes=["Cat"]
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda d: intersection.intersection_f1(
                REFERENCE[:1], REFERENCE, durations=d, classes=["Cat"]
            ),
            "the label 'Dog' is not one of Cat",
        ),
        (
            lambda d: intersection.intersection_f1(
                [], REFERENCE, durations=d, classes=["Cat", "Dog"]
            ),
            "no reference events",
        ),
        (
            lambda d: psds.psds_of_operating_points([REFERENCE], REFERENCE[:1], d),
            "reference events of two classes; found those of Cat alone",
        ),
        (
            lambda d: psds.psds_of_operating_points(
                [REFERENCE, [Event("c.wav", 0.0, 1.0, "Cat")]], REFERENCE, d
            ),
            "the clip 'c.wav' has events but no duration",
        ),
    ],
)
def test_what_has_no_psds_or_intersection_f1(call, message):
    with pytest.raises(InputError, match=message):
        call({"a.wav": 10.0, "b.wav": 10.0})


# Milliseconds ------------------------------------------------------------------------------------


def in_milliseconds(events):
    return [e._replace(onset=1000 * e.onset, offset=1000 * e.offset) for e in events]


@pytest.mark.parametrize("table", ["r.tsv", "e.tsv", "other.tsv"])
def test_milliseconds_are_refused_where_lengths_are_known(folder, table, capsys):
    tables.write_events("other.tsv", REFERENCE)
    tables.write_events(table, in_milliseconds(REFERENCE))
    error = refusal([*SCORE, "--durations=d.tsv", "--compare=other.tsv"], capsys)
    expected = "row 2: the event is from 1000 to 3000 s, its clip of 10 s; expected seconds"
    assert f"{table}, {expected}: are these milliseconds?" in error


def test_milliseconds_are_noted_where_lengths_are_not_known(folder, capsys):
    assert notes(SCORE, capsys) == []
    # Events of a second; in milliseconds they do not last long enough to be told by that alone.
    short = [e._replace(offset=e.onset + 0.25) for e in REFERENCE]
    tables.write_events("r.tsv", short)
    tables.write_events("e.tsv", in_milliseconds(short))
    (note,) = notes(SCORE, capsys)
    assert note.startswith("note: events end at 3250 s in e.tsv and at 3.25 s in r.tsv, in the med")
    tables.write_events("e.tsv", REFERENCE)
    tables.write_events("r.tsv", in_milliseconds(short))
    (note,) = notes(SCORE, capsys)
    assert note.startswith("note: events end at 4.5 s in e.tsv and at 3250 s in r.tsv, in the med")
    # Both alike: by how long they last.
    for name in ("r.tsv", "e.tsv"):
        tables.write_events(name, in_milliseconds(REFERENCE))
    expected = "events last 1500 s in the median; are these milliseconds?"
    assert notes(SCORE, capsys) == [f"note: r.tsv: {expected}", f"note: e.tsv: {expected}"]


def test_strong_labels_in_milliseconds_are_noted(folder, capsys):
    tables.write_events("strong.tsv", in_milliseconds(REFERENCE))
    for command in (
        ["windows", "--strong=strong.tsv"],
        ["postprocess", "--scores=scores", "--strong=strong.tsv", "--output=o.tsv"],
    ):
        assert cli.main(command) == 0
        assert "note: strong.tsv: events last 1500 s in the median" in capsys.readouterr().out


def test_a_recording_of_a_day_is_no_mistake(folder, capsys):
    tables.write_table("d.tsv", ["filename", "duration"], [["a.wav", 86400], ["b.wav", 86400]])
    day = [Event("a.wav", 1.0, 3.0, "Cat"), Event("b.wav", 0.0, 200.0, "Dog")]
    tables.write_events("r.tsv", day)
    tables.write_events("e.tsv", [*day, Event("a.wav", 80_000.0, 86_400.0, "Dog")])
    assert notes([*SCORE, "--durations=d.tsv"], capsys) == []


def test_padding_is_not_refused_but_noted(folder, capsys):
    tables.write_table("d.tsv", ["filename", "duration"], [["a.wav", 2.0], ["b.wav", 5.0]])
    late = "the event begins where its clip has ended"
    assert notes([*SCORE, "--durations=d.tsv"], capsys) == [
        f"note: r.tsv, row 3 (b.wav, Dog): {late}",
        f"note: e.tsv, row 3 (b.wav, Dog): {late}",
    ]
    many = [Event("a.wav", 2.0 + i, 2.5 + i, "Cat") for i in range(3)]
    tables.write_events("e.tsv", many)
    last = notes([*SCORE, "--durations=d.tsv"], capsys)[-1]
    assert last == f"note: e.tsv, row 2 (a.wav, Cat): {late}, as 2 more do"


def test_an_event_may_end_a_hundred_clips_out_but_not_further():
    (path, table), durations = ("t.tsv", tables.EventTable(REFERENCE, [2, 3], [], [])), {}
    for length, refused in ((0.03, False), (0.0299, True)):
        durations["a.wav"] = length
        if refused:
            with pytest.raises(InputError, match="t.tsv, row 2"):
                score_checks.check_times([(path, table)], durations)
        else:
            score_checks.check_times([(path, table)], durations)


def test_score_files_in_milliseconds_are_refused(folder, capsys):
    (folder / "scores/b.tsv").write_text(HEADER + "0\t1001\t0.5\t0.25\n")
    message = refusal([*PSDS, "--scores=scores"], capsys)
    assert "scores/b.tsv: the segments end at 1001 s, the clip at 10 s; expected seconds" in message
    (folder / "scores/b.tsv").write_text(HEADER + "0\t1000\t0.5\t0.25\n")
    score_checks.check_segments(score_files.read_score_files("scores"), {"b.wav": 10.0})


def test_segments_that_end_elsewhere_than_their_clip_are_noted(folder):
    rows = "".join(f"{i}\t{i + 1}\t0.5\t0.25\n" for i in range(10))
    for name in "ab":
        (folder / f"scores/{name}.tsv").write_text(HEADER + rows)
    files = score_files.read_score_files("scores")
    for seconds, off in (9.0, False), (11.0, False), (8.9, True), (11.1, True):
        found = score_checks.segment_notes(files, {"a.wav": 10.0, "b.wav": seconds, "c.wav": 1.0})
        expected = f"scores/b.tsv: the segments end at 10 s, the clip at {seconds:g} s"
        assert found == [expected] * off
    found = score_checks.segment_notes(files, {"a.wav": 5.0, "b.wav": 5.0})
    assert found == ["scores/a.tsv: the segments end at 10 s, the clip at 5 s; 1 more differ so"]


@pytest.mark.parametrize(("factor", "noted"), [(99, 0), (100, 1), (1 / 99, 0), (1 / 100, 1)])
def test_times_a_hundredfold_are_another_unit(factor, noted):
    first = [Event("a", 0.0, 1.0, "Cat")]
    other = [Event("a", 0.0, factor, "Cat")]
    assert len(score_checks.unit_notes({"first": first, "other": other, "none": []})) == noted
