"""What was found is written alike everywhere: the same order, the same decimals, no loss."""

import json

import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.sed import predictions, tables
from jfsed_jax.sed.confidence import Confidence
from jfsed_jax.sed.events import Event

EVENTS = [
    Event("b.wav", 1 / 3, 2 / 3, "Dog"),
    Event("a.wav", 5.0, 6.0004, "Cat"),
    Event("a.wav", 0.5, 2.0, "Dog"),
    Event("a.wav", 0.5, 2.0, "Cat"),
]
SURE = [
    Confidence(0.12345, 0.5),
    Confidence(0.1, 1.0),
    Confidence(0.61, 0.7),
    Confidence(float("nan"), 0.9),
]
TSV = """\
filename\tonset\toffset\tevent_label\tconfidence_mean\tconfidence_max
z.wav\t\t\t\t\t
a.wav\t0.500\t2.000\tCat\tnan\t0.900
a.wav\t0.500\t2.000\tDog\t0.610\t0.700
a.wav\t5.000\t6.000\tCat\t0.100\t1.000
b.wav\t0.333\t0.667\tDog\t0.123\t0.500
"""
ROUNDED = [
    Event("a.wav", 0.5, 2.0, "Cat"),
    Event("a.wav", 0.5, 2.0, "Dog"),
    Event("a.wav", 5.0, 6.0, "Cat"),
    Event("b.wav", 0.333, 0.667, "Dog"),
]


def test_a_table_by_hand(tmp_path):
    path = tmp_path / "new" / "events.tsv"
    predictions.write_predictions(path, EVENTS, SURE, filenames=["z.wav", "a.wav"])
    assert path.read_text() == TSV
    table = tables.read_events(path)
    assert table.events == ROUNDED
    assert table.filenames == ["z.wav", "a.wav", "b.wav"]
    assert not table.problems
    predictions.write_predictions(path, EVENTS, filenames=["z.wav", "a.wav"])
    assert path.read_text() == "".join(
        "\t".join(line.split("\t")[:4]) + "\n" for line in TSV.splitlines()
    )


def test_csv_is_read_back(tmp_path):
    path = tmp_path / "events.csv"
    comma = Event("a, b.wav", 0.0, 1.0, 'Dog, "big"')
    predictions.write_predictions(path, [*EVENTS, comma], [*SURE, SURE[0]])
    assert tables.read_events(path).events == [ROUNDED[3], *ROUNDED[:3], comma]
    assert path.read_text().splitlines()[1] == "b.wav,0.333,0.667,Dog,0.123,0.500"


def test_json_lines_are_objects_with_the_same_decimals():
    text = predictions.format_predictions(
        EVENTS, SURE, filenames=["z.wav", "a.wav"], form="jsonl"
    ).decode()
    lines = text.splitlines()
    assert lines[3] == (
        '{"filename": "a.wav", "onset": 5.000, "offset": 6.000, "event_label": "Cat", '
        '"confidence_mean": 0.100, "confidence_max": 1.000}'
    )
    objects = [json.loads(line) for line in lines]
    assert objects[0]["filename"] == "z.wav"
    assert objects[0]["onset"] is objects[1]["confidence_mean"] is None
    keys = tables.EVENT_COLUMNS
    assert [Event(*(o[key] for key in keys)) for o in objects[1:]] == ROUNDED


def test_parquet_has_the_numbers_and_types_of_the_table():
    import io

    import pyarrow.parquet

    data = predictions.format_predictions(
        EVENTS, SURE, filenames=["z.wav", "a.wav"], form="parquet"
    )
    table = pyarrow.parquet.read_table(io.BytesIO(data))
    assert table.column_names == TSV.splitlines()[0].split("\t")
    assert [str(kind) for kind in table.schema.types] == ["string", *["double"] * 2, "string"] + [
        "double"
    ] * 2
    rows = table.to_pylist()
    assert rows[0]["filename"] == "z.wav"
    assert rows[0]["onset"] is rows[1]["confidence_mean"] is None
    assert [Event(*(row[key] for key in tables.EVENT_COLUMNS)) for row in rows[1:]] == ROUNDED


@pytest.mark.parametrize("form", ["tsv", "csv", "jsonl"])
def test_pieces_of_recordings_make_the_whole(form):
    whole = predictions.format_predictions(EVENTS, SURE, filenames=["z.wav", "a.wav"], form=form)
    pieces = [
        predictions.format_predictions(
            [event for event in EVENTS if event.filename == name],
            [sure for event, sure in zip(EVENTS, SURE, strict=True) if event.filename == name],
            filenames=[name],
            form=form,
            header=not i,
        )
        for i, name in enumerate(["z.wav", "a.wav", "b.wav"])
    ]
    assert b"".join(pieces) == whole


def test_the_suffix_tells_the_form(tmp_path):
    for name in ("x", "x.tsv", "x.TXT"):
        assert predictions.table_form(name) == "tsv"
    assert predictions.table_form("x.y.CSV") == "csv"
    assert predictions.table_form("x.ndjson") == "jsonl"
    with pytest.raises(InputError, match=r"events.xlsx: expected.*\.parquet"):
        predictions.write_predictions(tmp_path / "events.xlsx", EVENTS)
    predictions.write_predictions(tmp_path / "events.xlsx", EVENTS, form="csv")
    assert (tmp_path / "events.xlsx").read_text().startswith("filename,onset")


def test_names_that_are_no_text_are_written(tmp_path):
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    for form in predictions.FORMS:
        predictions.write_predictions(tmp_path / form, [], filenames=[name], form=form)
    assert b"caf\\udce9.wav" in (tmp_path / "tsv").read_bytes()
    for form in ("audacity", "raven"):
        events = [Event(name, 0.0, 1.0, "Dog")]
        (path,) = predictions.write_label_files(tmp_path, events, form=form).values()
        assert path.read_text().endswith("Dog\n")


def test_a_row_is_a_line_whatever_the_recording_is_called(tmp_path):
    names = ["a\nb.wav", "a\rb.wav", "a\tb.wav"]
    events = [Event(name, 0.0, 1.0, "Dog") for name in names]
    for form in ("tsv", "csv"):
        predictions.write_predictions(tmp_path / f"events.{form}", events, form=form)
        read = tables.read_events(tmp_path / f"events.{form}").filenames
        assert read == ["a\\nb.wav", "a\\rb.wav", "a\tb.wav"]
    data = predictions.format_predictions(events, form="jsonl").decode()
    assert [json.loads(line)["filename"] for line in data.split("\n")[:-1]] == names


def test_audacity_by_hand(tmp_path):
    paths = predictions.write_label_files(
        tmp_path, EVENTS, form="audacity", filenames=["deep/z.wav", "a.wav"]
    )
    assert paths == {
        "deep/z.wav": tmp_path / "deep" / "z.txt",
        "a.wav": tmp_path / "a.txt",
        "b.wav": tmp_path / "b.txt",
    }
    assert paths["deep/z.wav"].read_text() == ""
    assert paths["a.wav"].read_text() == "0.500\t2.000\tCat\n0.500\t2.000\tDog\n5.000\t6.000\tCat\n"


def test_raven_by_hand(tmp_path):
    paths = predictions.write_label_files(
        tmp_path, EVENTS, SURE, form="raven", filenames=["z.wav"], band=(50, 16000)
    )
    header = (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
        "Begin File\tFile Offset (s)\tAnnotation"
    )
    sure = "\tconfidence_mean\tconfidence_max\n"
    assert paths["z.wav"] == tmp_path / "z.selections.txt"
    assert paths["z.wav"].read_text() == header + sure
    rows = (
        "1\tSpectrogram 1\t1\t0.500\t2.000\t50.0\t16000.0\ta.wav\t0.500\tCat\tnan\t0.900\n"
        "2\tSpectrogram 1\t1\t0.500\t2.000\t50.0\t16000.0\ta.wav\t0.500\tDog\t0.610\t0.700\n"
        "3\tSpectrogram 1\t1\t5.000\t6.000\t50.0\t16000.0\ta.wav\t5.000\tCat\t0.100\t1.000\n"
    )
    assert paths["a.wav"].read_text() == header + sure + rows
    predictions.write_raven(tmp_path / "a", EVENTS[:1])
    row = "1\tSpectrogram 1\t1\t0.333\t0.667\t0.0\t8000.0\tb.wav\t0.333\tDog\n"
    assert (tmp_path / "a").read_text() == f"{header}\n{row}"


def test_no_event_becomes_a_point(tmp_path):
    path = tmp_path / "a.txt"
    predictions.write_audacity(path, [Event("a.wav", 1.0001, 1.0004, "Dog")])
    assert path.read_text() == "1.000\t1.001\tDog\n"


@pytest.mark.parametrize(
    ("names", "file"),
    [(["a.wav", "a.flac"], "a.txt"), (["/x/a.wav", "/y/a.wav"], "a.txt"), (["../a.wav", "a"], "a")],
)
def test_recordings_do_not_share_a_label_file(tmp_path, names, file):
    with pytest.raises(InputError, match=f"{names[0]} and {names[1]} .* {tmp_path}/{file}"):
        predictions.write_label_files(tmp_path, [], form="audacity", filenames=names)
    assert not list(tmp_path.iterdir())


def test_a_label_file_stays_in_its_folder(tmp_path):
    names = ["../../etc/x.wav", "/abs/y.wav", "in/z.v2.wav", "Y1_12.000_22.000"]
    paths = predictions.label_paths(tmp_path, names, "audacity")
    assert [str(path.relative_to(tmp_path)) for path in paths.values()] == [
        "x.txt",
        "y.txt",
        "in/z.v2.txt",
        "Y1_12.000_22.000.txt",
    ]


def test_a_label_with_a_tab_is_refused(tmp_path):
    event = Event("a.wav", 0.0, 1.0, "Dog\tbig")
    for write in (predictions.write_audacity, predictions.write_raven):
        with pytest.raises(InputError, match=r"'Dog\\tbig' has a tab"):
            write(tmp_path / "a.txt", [event])
    assert not (tmp_path / "a.txt").exists()
