"""Tables are read as people write them, and flaws are named by file and row."""

import errno
import os

import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.sed import tables
from jfsed_jax.sed.events import Event

CLEAN = "filename\tonset\toffset\tevent_label\na.wav\t0.5\t1.25\tDog\nb.wav\t\t\t\n"
EVENTS = [Event("a.wav", 0.5, 1.25, "Dog")]


def write(tmp_path, content):
    path = tmp_path / "table.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        CLEAN,
        CLEAN.replace("\n", "\r\n"),
        CLEAN.replace("\n", "\r"),
        CLEAN.replace("\t", ","),
        b"\xef\xbb\xbf" + CLEAN.encode(),
        CLEAN.replace("filename", "Filename "),
        ",event_label,onset,offset,filename\n0,Dog,0.5,1.25,a.wav\n1,,,,b.wav\n",
        "event_label\tonset\toffset\tfilename\tindex\nDog\t0.5\t1.25\ta.wav\t1\n\t\t\tb.wav\t2\n",
        CLEAN.replace("b.wav\t\t\t\n", "b.wav"),
        CLEAN.replace("b.wav\t\t\t\n", "\n\nb.wav\tnan\tNaN\tnan\n\n"),
    ],
)
def test_one_table_in_many_clothes(tmp_path, content):
    table = tables.read_events(write(tmp_path, content), classes=["Dog"])
    assert table.events == EVENTS
    assert table.filenames == ["a.wav", "b.wav"]
    assert table.rows == [2]
    assert not any(problem.skipped for problem in table.problems)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("filename onset offset event_label\na.wav 0.5 1.25 Dog\n", "spaces"),
        ("filename\tonset\toffset\tevent_label\na.wav 0.5 1.25  Dog\n", "spaces"),
        ("a.wav\t0.5\t1.25\tDog\n", "no header"),
        (b"filename\tonset\toffset\tevent_label\na.wav\t0.5\t1.25\tDog\n\xe9.wav\n", "Latin-1"),
    ],
)
def test_flaws_with_one_reading_keep_the_row(tmp_path, content, reason):
    table = tables.read_events(write(tmp_path, content))
    assert table.events == EVENTS
    assert [reason in problem.reason for problem in table.problems] == [True]
    assert not table.problems[0].skipped


@pytest.mark.parametrize(
    ("before", "end", "found"), [(b"\xef\xbb\xbf", b"\n", "byte-order mark"), (b"", b"\r\n", "CR")]
)
def test_what_is_of_the_whole_file_is_noted_at_its_first_row(tmp_path, before, end, found):
    rows = [b"filename\tonset\toffset\tevent_label", b"a.wav\t0.5\t1.25\tDog"]
    table = tables.read_events(write(tmp_path, before + end.join(rows) + end))
    assert table.events == EVENTS
    assert [(problem.row, problem.found) for problem in table.problems] == [(1, found)]


@pytest.mark.parametrize(
    ("row", "reason", "found"),
    [
        ("a.wav\t2\t1\tDog", "onset must lie before", "2 1"),
        ("a.wav\t1\t1\tDog", "onset must lie before", "1 1"),
        ("a.wav\t-1\t1\tDog", "negative", "-1"),
        ("a.wav\tx\t1\tDog", "in seconds", "x 1"),
        ("a.wav\t0,5\t1\tDog", "in seconds", "0,5 1"),
        ("a.wav\t0\tinf\tDog", "in seconds", "0 inf"),
        ("a.wav\t0\t\tDog", "in seconds", "0 "),
        ("a.wav\t1.7e9\t1.8e9\tDog", "seconds from the start of the clip", "1.8e9"),
        ("a.wav\t0\t1\t", "no event label", ""),
        ("a.wav\t0\t1\tDogs", "not one of Dog, Cat", "Dogs"),
        ("\t0\t1\tDog", "no file name", "\t0\t1\tDog"),
        ("a.wav\t0\t1\tDog\tCat", "5 fields", "a.wav\t0\t1\tDog\tCat"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, reason, found):
    path = write(tmp_path, CLEAN + row + "\nc.wav\t0\t1\tCat\n")
    table = tables.read_events(path, classes=["Dog", "Cat"], strict=False)
    assert table.events == [*EVENTS, Event("c.wav", 0, 1, "Cat")]
    (problem,) = table.problems
    assert (problem.file, problem.row, problem.found) == (str(path), 4, found)
    assert reason in problem.reason and problem.skipped
    with pytest.raises(InputError, match=f"{path}, row 4: .*{reason}"):
        tables.read_events(path, classes=["Dog", "Cat"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"RIFF\0\0\0\0WAVE", "not a text file"),
        (b"filename\tonset\toffset\na.wav\t0\t1\n", "event_label"),
        (b"filename\tonset\tonset\toffset\tevent_label\n", "onset"),
        (b"file\tstart\tend\tlabel\na.wav\t0\t1\tDog\n", "expected columns"),
    ],
)
def test_an_unusable_file_is_refused_in_both_strengths(tmp_path, content, message):
    path = write(tmp_path, content)
    for strict in (True, False):
        with pytest.raises(InputError, match=message):
            tables.read_events(path, strict=strict)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="none.tsv cannot be read: No such file"):
        tables.read_events(tmp_path / "none.tsv")
    with pytest.raises(InputError, match="cannot be read"):
        tables.read_events(tmp_path)


def test_tags(tmp_path):
    path = write(
        tmp_path,
        "filename\tevent_labels\na.wav\tDog,Cat\nb.wav\tDog, Dog\nc.wav\t\n"
        "d.wav\tDog,Cow\na.wav\tCat,Pig\n",
    )
    table = tables.read_tags(path, classes=["Dog", "Cat", "Pig"], strict=False)
    assert table.tags == {"a.wav": ("Dog", "Cat", "Pig"), "b.wav": ("Dog",), "c.wav": ()}
    assert table.rows == {"a.wav": 2, "b.wav": 3, "c.wav": 4}
    assert [(p.row, p.skipped) for p in table.problems] == [(3, False), (5, True), (6, False)]
    with pytest.raises(InputError, match="row 5: .*found 'Cow'"):
        tables.read_tags(path, classes=["Dog", "Cat", "Pig"])


@pytest.mark.parametrize("row", ['a.wav,"Dog,Cat"', "a.wav,Dog,Cat"])
def test_tags_as_csv(tmp_path, row):
    path = write(tmp_path, f"filename,event_labels\n{row}\n")
    assert tables.read_tags(path).tags == {"a.wav": ("Dog", "Cat")}


def test_a_list_of_files_may_hold_spaces_in_names(tmp_path):
    path = write(tmp_path, "filename\na b.wav\nc.wav\n")
    table = tables.read_table(path, ["filename"])
    assert [row.fields["filename"] for row in table.rows] == ["a b.wav", "c.wav"]
    assert table.problems == []


def test_durations(tmp_path):
    assert tables.read_durations(write(tmp_path, "filename\tduration\na.wav\t9.5\n")) == {
        "a.wav": 9.5
    }
    with pytest.raises(InputError, match="row 2: .*found 'ten'"):
        tables.read_durations(write(tmp_path, "filename\tduration\na.wav\tten\n"))
    twice = "filename\tduration\na.wav\t9.5\na.wav\t9.50\n"
    assert tables.read_durations(write(tmp_path, twice)) == {"a.wav": 9.5}
    with pytest.raises(
        InputError, match="row 4: expected one duration of a.wav; found 3 after 9.5"
    ):
        tables.read_durations(write(tmp_path, twice + "a.wav\t3\n"))


def test_what_is_written_reads_back_the_same(tmp_path):
    events = [
        Event("a.wav", 0.1 + 0.2, 1 / 3 + 5, "Dog"),
        Event('odd "name", b.wav', 0.0, 10.0, "Cat"),
        Event("é.wav", 1e-7, 1e3, "Dog"),
    ]
    path = tmp_path / "new" / "events.tsv"
    tables.write_events(path, events, filenames=["z.wav", "a.wav", "z.wav"])
    table = tables.read_events(path)
    assert table.events == events
    assert table.filenames == [*(event.filename for event in events), "z.wav"]
    assert path.read_text().splitlines()[2].endswith("\t0.000\t10.000\tCat")
    tags = {"a.wav": ("Dog", "Cat"), "b.wav": ()}
    tables.write_tags(path, tags)
    assert tables.read_tags(path).tags == tags


def test_a_label_with_a_comma_is_not_written_as_two(tmp_path):
    """In a table of events it can be."""
    path, label = tmp_path / "table.tsv", "Vehicle, train"
    with pytest.raises(InputError, match=r"table\.tsv: the label 'Vehicle, train' of b\.wav has a"):
        tables.write_tags(path, {"a.wav": iter(["Dog"]), "b.wav": ["Dog", label]})
    assert not path.exists()
    tables.write_tags(path, {"a.wav": iter(["Dog"])})
    assert tables.read_tags(path).tags == {"a.wav": ("Dog",)}
    tables.write_events(path, [Event("b.wav", 0.0, 1.0, label)])
    assert tables.read_events(path).events[0].event_label == label


def test_a_table_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "events.tsv"
    tables.write_events(path, [Event("a.wav", 0.0, 1.0, "Dog")])

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="events.tsv cannot be written: No space left on device"):
        tables.write_events(path, [])
    assert len(tables.read_events(path).events) == 1


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a\nb.wav", "a\\nb.wav"),
        ("a\rb.wav", "a\\rb.wav"),
        ("a\x85\u2028\x0b\x1fb.wav", "a\x85\u2028\x0b\x1fb.wav"),
        ("a\tb.wav", "a\tb.wav"),
        ("a\xa0b\u3000é.wav", "a\xa0b\u3000é.wav"),
    ],
)
def test_a_row_is_a_line_whatever_is_in_it(tmp_path, name, read):
    """Rows that a line end would break would be read as other clips; a tab is quoted."""
    path = tmp_path / "events.tsv"
    events = [Event(name, 0.0, 1.0, "Dog"), Event("c.wav", 0.0, 1.0, "Dog")]
    tables.write_events(path, events, filenames=[name + name])
    assert path.read_text().count("\n") == 4
    table = tables.read_events(path)
    assert table.events == [events[0]._replace(filename=read), events[1]]
    assert table.filenames == [read, "c.wav", read + read]
    assert not table.problems


def test_a_problem_is_one_line_whatever_its_file_is_called():
    problem = tables.Problem("a\nb\r\u3000.txt", 3, "1\n2", "c\nd has it too")
    assert str(problem) == "a\\nb\\r\u3000.txt, row 3: c\\nd has it too; found '1\\n2'"


def test_names_that_are_not_text_are_written_as_escapes(tmp_path):
    path = tmp_path / "list.tsv"
    tables.write_table(path, ["filename", "found"], [["a\udcff.wav", "é"]])
    assert path.read_bytes() == b"filename\tfound\na\\udcff.wav\t\xc3\xa9\n"
