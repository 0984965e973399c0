"""Label files as Audacity and Raven write them, as people change them, and as they come to harm."""

import os
import re

import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.sed import label_files, predictions, recording_names, tables
from jfsed_jax.sed.confidence import Confidence
from jfsed_jax.sed.events import Event

# The example of Audacity's manual, "Importing and Exporting Labels", with its frequency ranges.
AUDACITY = """\
1.000000\t1.000000\tThis point was clicked at 6928.456055 Hz
\\\t6928.456055\t6928.456055
2.000000\t2.500000\tLow frequency undefined, High frequency 6334.588867 Hz
\\\t-1.000000\t6334.588867
3.000000\t3.500000\tDog
\\\t8908.015625\t-1.000000
"""
PLAIN = "0.500000\t2.000000\tDog\n5.000000\t6.250000\tRunning water\n"
PLAIN_EVENTS = [Event("a", 0.5, 2.0, "Dog"), Event("a", 5.0, 6.25, "Running water")]
# Two views, measurements, nine decimals, an annotation: what Raven Pro saves.
RAVEN = """\
Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t\
Delta Time (s)\tAvg Power Density (dB FS/Hz)\tAnnotation
1\tWaveform 1\t1\t6.709509878\t15.096397225\t1739.012\t3798.813\t8.3869\t\tDog
1\tSpectrogram 1\t1\t6.709509878\t15.096397225\t1739.012\t3798.813\t8.3869\t-75.87\tDog
2\tWaveform 1\t1\t29.383026016\t40.257059266\t1587.060\t4136.485\t10.8740\t\tCat
2\tSpectrogram 1\t1\t29.383026016\t40.257059266\t1587.060\t4136.485\t10.8740\t-75.64\tCat
"""
RAVEN_EVENTS = [
    Event("a", 6.709509878, 15.096397225, "Dog"),
    Event("a", 29.383026016, 40.257059266, "Cat"),
]
COLUMNS = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
DCASE = "filename\tonset\toffset\tevent_label\nb.wav\t0.5\t2\tDog\nc.wav\t\t\t\n"


def write(tmp_path, content, name="a.txt"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lost(table):
    return [(problem.row, problem.reason) for problem in table.problems if problem.skipped]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.rstrip("\n"),
        PLAIN.replace(".", ","),
        PLAIN.replace("\t", "  "),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n5", "\n\\\t-1.000000\t6334.588867\n5"),
        "\n" + PLAIN.replace("\n", "\t\n\n"),
    ],
)
def test_one_label_track_in_many_clothes(tmp_path, content):
    path = write(tmp_path, content)
    table = label_files.read_labels(path, classes=["Dog", "Running water"])
    assert table.events == PLAIN_EVENTS
    assert table.filenames == ["a"]
    text = content.decode("utf-16") if content[:2] == b"\xff\xfe" else None
    lines = re.split("\r\n|\n", text or (content if isinstance(content, str) else PLAIN))
    assert [re.sub(r"^(\d+),", r"\1.", lines[row - 1])[:3] for row in table.rows] == ["0.5", "5.0"]


def test_the_manual_of_audacity(tmp_path):
    table = label_files.read_labels(write(tmp_path, AUDACITY), strict=False)
    assert [(e.onset, e.offset, e.event_label[:5]) for e in table.events] == [
        (2.0, 2.5, "Low f"),
        (3.0, 3.5, "Dog"),
    ]
    assert table.rows == [3, 5]
    ((row, reason),) = lost(table)
    assert row == 1
    assert "point label" in reason
    with pytest.raises(InputError, match=r"a.txt, row 1: a point label.*clicked at"):
        label_files.read_labels(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2.5\tDog", "point label"),
        ("2.5", "point label"),
        ("2.5\t2.50\tDog", "point label"),
        ("2\t1\tDog", "onset must lie before"),
        ("-1\t1\tDog", "negative"),
        ("1\tinf\tDog", "in seconds"),
        ("1\t1,234.5\tDog", "in seconds"),
        ("1\t2e9\tDog", "expected seconds from"),
        ("1\t2\t", "no event label"),
        ("1\t2", "no event label"),
        ("1\t2\tdog", "not one of Dog, Running water"),
        ("1\t2\tDog\t0.93", "with tabs between"),
        ("00:00:01,000 --> 00:00:02,000", "with tabs between"),
    ],
)
def test_a_label_that_cannot_be_used_costs_itself(tmp_path, line, reason):
    path = write(tmp_path, f"{PLAIN}{line}\n")
    table = label_files.read_labels(path, classes=["Dog", "Running water"], strict=False)
    assert table.events == PLAIN_EVENTS
    ((row, found),) = lost(table)
    assert row == 3
    assert reason in found
    with pytest.raises(InputError, match=r"a.txt, row 3: "):
        label_files.read_labels(path, classes=["Dog", "Running water"])


def test_a_header_above_labels_costs_its_line_alone(tmp_path):
    table = label_files.read_labels(write(tmp_path, f"start\tend\tlabel\n{PLAIN}"), strict=False)
    assert table.events == PLAIN_EVENTS
    assert [row for row, _ in lost(table)] == [1]


@pytest.mark.parametrize(
    "content",
    [
        RAVEN,
        RAVEN.replace("\n", "\r\n"),
        RAVEN.replace("Annotation", "Species"),
        re.sub(r"(\d)\.(\d)", r"\1,\2", RAVEN),
        "\n".join(line for line in RAVEN.splitlines() if "Waveform" not in line),
    ],
)
def test_a_selection_counts_once_in_whichever_views(tmp_path, content):
    table = label_files.read_labels(write(tmp_path, content))
    assert table.events == RAVEN_EVENTS
    assert table.filenames == ["a"]
    assert not lost(table)


def test_selections_that_differ_count_each(tmp_path):
    # Tables that were put together have numbers twice.
    rows = ["1\tSpectrogram 1\t1\t0\t1\t0\t9\tDog", "1\tSpectrogram 1\t1\t2\t3\t0\t9\tDog"]
    table = label_files.read_labels(write(tmp_path, "\n".join([f"{COLUMNS}Annotation", *rows])))
    assert [event.onset for event in table.events] == [0.0, 2.0]


def test_a_sequence_of_files_is_told_apart(tmp_path):
    # Files of 60 s, opened as one sound: Begin Time runs on, File Offset begins anew.
    content = (
        f"{COLUMNS}Begin File\tEnd File\tFile Offset (s)\tAnnotation\n"
        "1\tSpectrogram 1\t1\t10.1\t12.3\t0\t9\tx_0.wav\tx_0.wav\t10.1\tDog\n"
        "2\tSpectrogram 1\t1\t70.1\t72.3\t0\t9\tx_1.wav\tx_1.wav\t10.1\tDog\n"
        "3\tSpectrogram 1\t1\t119\t121.5\t0\t9\tx_1.wav\tx_2.wav\t59\tCat\n"
    )
    table = label_files.read_labels(write(tmp_path, content))
    assert table.events == [
        Event("x_0.wav", 10.1, 12.3, "Dog"),
        Event("x_1.wav", 10.1, 12.3, "Dog"),
        Event("x_1.wav", 59.0, 61.5, "Cat"),
    ]
    assert table.filenames == ["x_0.wav", "x_1.wav"]
    ((row, found),) = [(p.row, p.found) for p in table.problems]
    assert (row, found) == (4, "x_2.wav")
    windows = content.replace("Begin File", "Begin Path").replace("x_", "D:\\rec\\x_")
    assert label_files.read_labels(write(tmp_path, windows)).events == table.events
    with pytest.raises(InputError, match=r"of 2 files \(x_0.wav, x_1.wav, ...\).*File Offset"):
        label_files.read_labels(write(tmp_path, content.replace("File Offset (s)", "Other")))
    empty = write(tmp_path, content.replace("\t59\t", "\t\t"))
    assert lost(label_files.read_labels(empty, strict=False))[0][0] == 4


def test_what_column_has_the_labels(tmp_path):
    row = "1\tSpectrogram 1\t1\t0\t1\t0\t9\tDog\tbark\n"
    table = label_files.read_labels(write(tmp_path, f"{COLUMNS}Species\tCall type\n{row}"))
    assert table.events == [Event("a", 0.0, 1.0, "Dog")]
    assert "'species' are taken" in table.problems[0].reason
    with pytest.raises(InputError, match=r"a.txt: expected .*of labels, Annotation; found .*notes"):
        label_files.read_labels(write(tmp_path, f"{COLUMNS}Notes\tNumber\n{row}"))


def test_flawed_selections_cost_themselves(tmp_path):
    rows = [
        "1\tSpectrogram 1\t1\t0\t1\t0\t9\tDog",
        "2\tSpectrogram 1\t1\tx\t1\t0\t9\tDog",
        "3\tSpectrogram 1\t1\t0\t1\t0\t9\t",
        "3\tWaveform 1\t1\t0\t1\t0\t9\t",
        "4\tSpectrogram 1\t1\t0\t1\t0\t9\tDog\tmore",
        "5\tSpectrogram 1\t1\t0\t1\t0\t9\tBird",
        "6",
    ]
    path = write(tmp_path, "\n".join([f"{COLUMNS}Annotation", *rows]))
    table = label_files.read_labels(path, classes=["Dog"], strict=False)
    assert table.events == [Event("a", 0.0, 1.0, "Dog")]
    assert [row for row, _ in lost(table)] == [3, 4, 6, 7, 8]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x00\x01", "not a text file"),
        ("Dear diary,\n", "no label file.*Dear diary"),
        ("<html>\n<body>\n", "no label file"),
        ("WEBVTT\n\n00:01.000 --> 00:04.000\nDog\n", "no label file"),
        (b"RIFF\xe4$\x07WAVEfmt \x10", "no label file"),
        ("filename\tonset\tevent_label\n", "missing or repeated: offset"),
        ("This is no table\n", "expected columns filename onset"),
    ],
)
def test_what_is_no_label_file_says_so_in_one_line(tmp_path, content, found):
    path = write(tmp_path, content)
    for strict in (True, False):
        with pytest.raises(InputError, match=found) as caught:
            label_files.read_labels(path, strict=strict)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_empty_files(tmp_path):
    assert label_files.read_labels(write(tmp_path, "")).filenames == ["a"]
    header = f"{COLUMNS}Annotation\n"
    table = label_files.read_labels(write(tmp_path, header, "b.selections.txt"))
    assert (table.events, table.filenames) == ([], ["b"])
    with pytest.raises(InputError, match=r"c.tsv is empty"):
        label_files.read_labels(write(tmp_path, "", "c.tsv"))


def test_a_table_is_read_as_before(tmp_path):
    for content in (DCASE, DCASE.replace("\t", ","), DCASE.partition("\n")[2]):
        path = write(tmp_path, content)
        assert label_files.read_labels(path) == tables.read_events(path)
    # What begins with a number is no label of Audacity for that: an index, a time, a name.
    header = "filename\tonset\toffset\tevent_label"
    for content in (
        f"\t{header}\n0\t5\t0.5\t2\tDog\n",
        "onset\toffset\tevent_label\tfilename\n0.5\t2\tDog\t5\n",
        f"{header}\tmean\n5\t0.5\t2\tDog\t0.9\n",
        "5\t0.5\t2\tDog\n",
    ):
        table = label_files.read_labels(write(tmp_path, content))
        assert table.events == [Event("5", 0.5, 2.0, "Dog")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_table_may_come_through_a_pipe(tmp_path):
    read, write_end = os.pipe()
    with os.fdopen(write_end, "w") as pipe:
        pipe.write(DCASE)
    try:
        table = label_files.read_labels(f"/dev/fd/{read}")
    finally:
        os.close(read)
    assert table.filenames == ["b.wav", "c.wav"]


@pytest.mark.parametrize(
    ("name", "recording"),
    [
        ("a.txt", "a"),
        ("x/a.TSV", "a"),
        ("a.wav.txt", "a.wav"),
        ("a.labels.txt", "a"),
        ("a.selections.txt", "a"),
        ("a.Table.1.selections.txt", "a"),
        ("a.BirdNET.selection.table.txt", "a"),
        ("a.BirdNET.results.txt", "a"),
        ("Y1_12.000_22.000.txt", "Y1_12.000_22.000"),
        ("a.v2", "a.v2"),
        (".labels.txt", ".labels"),
        ("a.labels.labels.txt", "a.labels"),
        ("a.selection.table.1.selections.txt", "a.selection"),
    ],
)
def test_a_label_file_is_called_after_its_recording(name, recording):
    assert recording_names.recording_of(name) == recording


def test_a_folder_mixes_all_kinds(tmp_path):
    write(tmp_path, PLAIN, "a.txt")
    write(tmp_path, DCASE, "table.tsv")
    write(tmp_path, RAVEN, "deep/r.Table.1.selections.txt")
    write(tmp_path, "", "deep/silent.txt")
    for name in (".hidden.txt", ".git/x.txt", "a.wav", "a.aup3"):
        write(tmp_path, "no labels", name)
    (tmp_path / "deep" / "back").symlink_to(tmp_path)
    parts = label_files.read_label_files(tmp_path)
    assert [os.path.relpath(path, tmp_path) for path, _ in parts] == [
        "a.txt",
        "deep/r.Table.1.selections.txt",
        "deep/silent.txt",
        "table.tsv",
    ]
    table = label_files.read_labels(tmp_path)
    assert table.filenames == ["a", "deep/r", "deep/silent", "b.wav", "c.wav"]
    assert len(table.events) == len(table.rows) == 5
    assert not table.problems


def test_one_bad_file_costs_itself(tmp_path):
    write(tmp_path, PLAIN, "a.txt")
    write(tmp_path, b"\0", "b.txt")
    (tmp_path / "c.txt").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "d.txt")
    write(tmp_path, "Dear diary,", "e.txt")
    table = label_files.read_labels(tmp_path, strict=False)
    assert table.events == PLAIN_EVENTS
    assert table.filenames == ["a"]
    names = [(os.path.basename(p.file), p.row, p.found) for p in table.problems if p.skipped]
    assert names == [(f"{x}.txt", 0, f"{x}.txt") for x in "bcde"]
    with pytest.raises(InputError, match=r"b.txt is not a text file"):
        label_files.read_labels(tmp_path)


def test_a_recording_with_two_files_is_refused(tmp_path):
    write(tmp_path, PLAIN, "a.txt")
    write(tmp_path, RAVEN, "a.selections.txt")
    write(tmp_path, PLAIN, "b.txt")
    write(tmp_path, DCASE, "table.tsv")
    with pytest.raises(InputError, match=r"a.selections.txt.*a.txt has labels of this.*'a'"):
        label_files.read_labels(tmp_path)
    table = label_files.read_labels(tmp_path, strict=False)
    assert table.filenames == ["c.wav"]
    assert not table.events
    assert [p.found for p in table.problems if p.skipped] == ["a", "a", "b", "b.wav"]


def test_a_folder_without_label_files(tmp_path):
    write(tmp_path, "x", "a.wav")
    with pytest.raises(InputError, match=r"holds no label file; expected .*\.txt, \.tsv, \.csv"):
        label_files.read_labels(tmp_path)
    with pytest.raises(InputError, match=r"gone.txt cannot be read"):
        label_files.read_labels(tmp_path / "gone.txt")


@pytest.mark.parametrize("form", ["audacity", "raven"])
@pytest.mark.parametrize("sure", [None, Confidence(0.25, 0.5)])
def test_what_was_written_is_read_back(tmp_path, form, sure):
    events = [
        Event("a.wav", 0.0, 0.017, 'say "hi", twice'),
        Event("a.wav", 0.0, 86399.999, "Dog"),
        Event("a.wav", 3.25, 9.5, "Müll"),
        Event("in/b.v2.flac", 1.0, 2.0, "\\"),
    ]
    names = [*dict.fromkeys(event.filename for event in events), "none.wav"]
    confidences = None if sure is None else [sure] * len(events)
    predictions.write_label_files(tmp_path, events, confidences, form=form, filenames=names)
    table = label_files.read_labels(tmp_path)
    if form == "audacity":  # a label track does not name its recording
        events = [e._replace(filename=recording_names.recording_stem(e.filename)) for e in events]
        names = [recording_names.recording_stem(name) for name in names]
    else:
        names[2] = "none"
    assert table.events == events
    assert table.filenames == names
    assert not table.problems


HOSTILE = [
    *("y.wav", "in/y.labels.wav", "y.labels.flac", "y.label.wav", "y.selections.wav"),
    *("y.table.1.wav", "y.BirdNET.wav", "y.birdnet.results.mp3", "y.selection.table.wav"),
    *(
        "y.selection.wav",
        "z.selection.table",
        "z.labels",
        "z.Table.1",
        "z.selections",
        "z.selection",
    ),
    *("y.wav.wav", "y.txt.wav", "y.v2", "y_12.000_22.000", " y .wav", "a\\y.wav", "a,y.wav"),
    *('"y".wav', "a\ty.wav", "a\ny.wav", "a\ry.wav", "y\u3000.wav", "\u2028y.wav", "caf\udce9.wav"),
]


@pytest.mark.parametrize("form", ["audacity", "raven"])
@pytest.mark.parametrize("silent", [False, True])
def test_a_recording_gets_its_own_labels_back_whatever_it_is_called(tmp_path, form, silent):
    """None is read as another one's, as `y.labels.txt` would be `y`'s; with and without events."""
    events = [Event(name, 1.0, 2.0 + i, "Dog") for i, name in enumerate(HOSTILE)]
    written = [] if silent else events
    paths = predictions.write_label_files(tmp_path, written, form=form, filenames=HOSTILE)
    assert len(set(paths.values())) == len(HOSTILE)
    table = label_files.read_labels(tmp_path)
    stems = [recording_names.recording_stem(name) for name in HOSTILE]
    assert sorted(map(recording_names.recording_stem, table.filenames)) == sorted(stems)
    found = {recording_names.recording_stem(event.filename): event[1:] for event in table.events}
    assert found == dict(
        zip(stems, [] if silent else [event[1:] for event in events], strict=False)
    )
    assert not table.problems


def test_only_a_name_that_ends_like_a_label_file_keeps_its_suffix(tmp_path):
    names = ["in/y.labels.wav", "y.table.1.wav", "z.labels", "y.wav"]
    audacity, raven = (
        [path.relative_to(tmp_path).as_posix() for path in paths.values()]
        for paths in (
            predictions.label_paths(tmp_path, names, form) for form in ("audacity", "raven")
        )
    )
    assert audacity == ["in/y.labels.wav.txt", "y.table.1.txt", "z.labels.labels.txt", "y.txt"]
    assert raven == [
        *("in/y.labels.selections.txt", "y.table.1.wav.selections.txt"),
        *("z.labels.selections.txt", "y.selections.txt"),
    ]


def test_names_without_folders_and_suffixes():
    names = ["in/a.wav", "D:\\rec\\b.FLAC", "c.v2", "d"]
    assert list(label_files.by_stem("t.tsv", names).values()) == ["a", "b", "c.v2", "d"]
    with pytest.raises(InputError, match=r"t.tsv: 'x/a.wav' and 'y/a.flac' have the same .* 'a'"):
        label_files.by_stem("t.tsv", ["x/a.wav", "y/a.flac"])
