"""Score files: there and back, against sed_scores_eval's own reader, and to events."""

import importlib.util

import defaults
import numpy as np
import pytest

from jfsed_jax.atomic import write_whole
from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.sed import postprocessing as postprocess
from jfsed_jax.sed import score_files, scoring, tables, window_rules
from jfsed_jax.sed.events import Event

CLASSES = ("Cat", "Dog")
NAMES = ("a_0.000_10.000.wav", "b.wav")


def posteriors(frames=40):
    rng = np.random.default_rng(0)
    noise = rng.uniform(size=(len(NAMES), frames // 8, len(CLASSES)))
    return np.repeat(noise, 8, axis=1).astype(np.float32)


def write(directory, frames, frame_rate=60.0, **kwargs):
    score_files.write_score_files(
        directory, frames, filenames=NAMES, classes=CLASSES, frame_rate=frame_rate, **kwargs
    )
    return directory


def test_score_files_survive_writing_and_reading(tmp_path):
    frames = posteriors()
    files = score_files.read_score_files(write(tmp_path, frames))
    assert files.classes == CLASSES
    assert files.clips == ["a_0.000_10.000", "b"]
    for scores, times, expected in zip(files.scores, files.times, frames, strict=True):
        np.testing.assert_array_equal(scores.astype(np.float32), expected)
        np.testing.assert_array_equal(times, np.arange(41) / 60.0)
    assert score_files.frame_rate_of(files) == pytest.approx(60)


def test_a_long_recording_is_written_as_a_short_one_a_few_rows_at_a_time(tmp_path, monkeypatch):
    """The same bytes whatever a block holds, and none of them longer than that."""
    frames, durations = posteriors(40), {"b.wav": 0.255}
    whole = write(tmp_path / "whole", frames, durations=durations)
    sizes = []

    def counting(path, content):
        blocks = list(content)
        sizes.extend(block.count(b"\n") for block in blocks)
        write_whole(path, iter(blocks))

    monkeypatch.setattr(score_files, "write_whole", counting)
    for rows in (7, 16, 20):
        monkeypatch.setattr(score_files, "_ROWS", rows)
        sizes.clear()
        parts = write(tmp_path / str(rows), frames, durations=durations)
        assert max(sizes) <= rows + 1 and sum(sizes) == 1 + 40 + 1 + 16  # with the headers
        for name in ("a_0.000_10.000.tsv", "b.tsv"):
            assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_a_file_that_cannot_be_written_to_its_end_is_not_there(tmp_path, monkeypatch):
    """As on a disk that gets full: what was there stays."""

    def full(*arguments):
        yield b"onset\n"
        raise OSError(28, "No space left on device")

    write(tmp_path, posteriors())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(score_files, "_blocks", full)
    with pytest.raises(InputError, match="tsv cannot be written: No space left"):
        write(tmp_path, posteriors(80))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_last_segment_that_is_cut_short_does_not_count(tmp_path):
    (tmp_path / "a.tsv").write_text("onset\toffset\tCat\n0\t0.02\t0.1\n0.02\t0.025\t0.1\n")
    assert score_files.frame_rate_of(score_files.read_score_files(tmp_path)) == pytest.approx(50)


def test_frames_past_the_end_of_a_clip_are_left_out(tmp_path):
    files = score_files.read_score_files(write(tmp_path, posteriors(), durations={"b.wav": 0.255}))
    assert len(files.scores[0]) == 40
    assert len(files.scores[1]) == 16
    assert files.times[1][-1] == 0.255
    assert score_files.frame_rate_of(files) == pytest.approx(60)


def test_sed_scores_eval_reads_ours_and_we_read_its(tmp_path):
    if importlib.util.find_spec("sed_scores_eval") is None:
        pytest.skip("the extra psds is not installed")
    scoring.load_sed_eval()
    from sed_scores_eval import io
    from sed_scores_eval.base_modules.scores import create_score_dataframe

    frames = posteriors()
    theirs = io.read_sed_scores(write(tmp_path / "ours", frames))
    assert sorted(theirs) == ["a_0.000_10.000", "b"]
    np.testing.assert_allclose(theirs["b"][list(CLASSES)], frames[1], rtol=1e-7)
    tables_of_clips = {
        clip: create_score_dataframe(values, np.arange(41) * 0.02, list(CLASSES))
        for clip, values in zip(theirs, frames, strict=True)
    }
    io.write_sed_scores(tables_of_clips, tmp_path / "theirs")
    files = score_files.read_score_files(tmp_path / "theirs")
    np.testing.assert_array_equal(files.scores[1], frames[1])
    assert score_files.frame_rate_of(files) == pytest.approx(50)


def test_events_are_those_of_the_array_with_the_times_of_the_files(tmp_path):
    frames = posteriors(400)
    windows = np.array([5, 12])
    clip = np.array([[0.9, 0.9], [0.1, 0.9]])
    expected = postprocess.detect_events(
        clip, frames, windows, filenames=NAMES, classes=CLASSES, frame_rate=60.0
    )
    files = score_files.read_score_files(write(tmp_path, frames))
    decode = postprocess.median_decoder(windows, classes=CLASSES, frame_rate=1.0)
    found = score_files.decode_files(files, decode, filenames=NAMES, clip=clip)
    assert found == expected and len(found) > 5


def test_clips_of_different_lengths(tmp_path):
    frames = np.full((2, 60, 2), 0.9)
    files = score_files.read_score_files(write(tmp_path, frames, durations={NAMES[0]: 0.5}))
    decode = postprocess.median_decoder(np.array([3, 3]), classes=CLASSES, frame_rate=1.0)
    found = score_files.decode_files(files, decode, filenames=NAMES)
    assert [(e.filename, e.offset) for e in found] == [
        (NAMES[0], 0.5),
        (NAMES[0], 0.5),
        (NAMES[1], 1.0),
        (NAMES[1], 1.0),
    ]


@pytest.mark.parametrize("step", [1, -1])
def test_events_come_in_the_order_of_the_files(tmp_path, step):
    # The second clip is the shorter one, in either order of the two.
    names = NAMES[::step]
    found = score_files.read_score_files(
        write(tmp_path, np.full((2, 60, 2), 0.9), durations={names[1]: 0.5})
    )
    files = score_files.ScoreFiles(
        CLASSES, found.clips[::step], found.times[::step], found.scores[::step]
    )
    decode = postprocess.median_decoder(np.array([3, 3]), classes=CLASSES, frame_rate=1.0)
    events = score_files.decode_files(files, decode, filenames=names)
    assert [(e.filename, e.offset) for e in events] == [(names[0], 1.0)] * 2 + [(names[1], 0.5)] * 2


def test_a_decoder_of_ones_own_in_place_of_the_papers(tmp_path):
    files = score_files.read_score_files(
        write(tmp_path, np.full((2, 60, 2), 0.9), durations={NAMES[0]: 0.5})
    )
    seen = []

    def middle_half(clip, frames, filenames):
        """The second and third quarter of every clip, for classes whose clip score is high."""
        seen.append((clip.tolist(), frames.shape, list(filenames)))
        length = frames.shape[1]
        return [
            Event(name, length / 4, 3 * length / 4, CLASSES[c])
            for name, tags in zip(filenames, clip, strict=True)
            for c in np.flatnonzero(tags > 0.5)
        ]

    found = score_files.decode_files(
        files, middle_half, filenames=NAMES, clip=np.array([[0.9, 0.1], [0.2, 0.8]])
    )
    # The first clip has 30 segments of 1/60 s, so that a quarter is 7.5 of them.
    assert found == [Event(NAMES[0], 0.125, 0.375, "Cat"), Event(NAMES[1], 0.25, 0.75, "Dog")]
    assert seen == [([[0.9, 0.1]], (1, 30, 2), [NAMES[0]]), ([[0.2, 0.8]], (1, 60, 2), [NAMES[1]])]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="tsv cannot be written: "):
        write(tmp_path / "file", posteriors())


HEADER = "onset\toffset\tCat\tDog\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected rows and the columns"),
        (b"onset\xff", "not a score file"),
        ('onset\toffset\t"Cat\n' + "0\t1\t0.5\n" * 20000, "not a score file"),
        (HEADER + "0\t1\t0.5\n", "row 2: expected 4 numbers; found '0 1 0.5'"),
        ("onset\toffset\n0\t1\n", "expected rows and the columns"),
        (HEADER, "expected rows and the columns"),
        (HEADER + "0\t1\t0.5\tx\n", "row 2: expected 4 numbers"),
        (HEADER + "0\t1\t0.5\tnan\n", "row 2: expected 4 numbers"),
        (HEADER + "0\t1\t0.5\t0.5\n2\t3\t0.5\t0.5\n", "row 3: expected a segment that begins"),
        (HEADER + "0\t0\t0.5\t0.5\n", "row 2: expected a segment"),
        ("onset\toffset\tCat\tCow\n0\t1\t0.5\t0.5\n", "z.tsv: the classes are Cat Cow"),
    ],
)
def test_bad_score_files_are_named(tmp_path, content, message):
    write(tmp_path, posteriors())
    (tmp_path / "z.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        score_files.read_score_files(tmp_path)


def test_segments_of_several_lengths_are_refused(tmp_path):
    (tmp_path / "a.tsv").write_text(
        HEADER + "0\t1\t0.5\t0.5\n1\t2\t0.5\t0.5\n2\t4\t0.5\t0.5\n4\t5\t0.5\t0.5\n"
    )
    files = score_files.read_score_files(tmp_path)
    with pytest.raises(InputError, match=r"a.tsv, row \d: expected segments of"):
        score_files.frame_rate_of(files)


def test_a_last_segment_that_is_longer_is_refused(tmp_path):
    rows = [f"{onset}\t{offset}\t0.5\t0.5\n" for onset, offset in ((0, 1), (1, 2), (2, 4))]
    (tmp_path / "a.tsv").write_text(HEADER + "".join(rows))
    with pytest.raises(InputError, match=r"a.tsv, row 4: expected segments of 1.0+ s.*2 to 4"):
        score_files.frame_rate_of(score_files.read_score_files(tmp_path))


@pytest.mark.parametrize("rate", [60.0, 25.0])
def test_postprocess_command(tmp_path, rate, capsys):
    frames = posteriors(400)
    scores = write(tmp_path / "scores", frames, rate)
    strong = tmp_path / "strong.tsv"
    rows = [(f"{i}.wav", 0, 0.2 + 0.3 * (i % 10), CLASSES[i % 2]) for i in range(40)]
    tables.write_table(strong, tables.EVENT_COLUMNS, rows)
    tags = tmp_path / "tags.tsv"
    tables.write_tags(tags, {NAMES[0]: ["Cat"], NAMES[1]: ["Cat", "Dog"]})
    output = tmp_path / "events.tsv"
    command = ["postprocess", f"--scores={scores}", f"--output={output}"]
    assert cli.main([*command, f"--strong={strong}", f"--tags={tags}", "--postprocess=avg"]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    durations = window_rules.durations_by_class(tables.read_events(strong).events, CLASSES)
    windows = window_rules.window_sizes(
        durations, "avg", frame_rate=rate, options=defaults.rule_options()
    )
    assert [int(row[-2]) for row in printed if row[:1] in (["Cat"], ["Dog"])] == windows.tolist()
    expected = postprocess.detect_events(
        np.array([[1, 0], [1, 1]]),
        frames,
        windows,
        filenames=NAMES,
        classes=CLASSES,
        frame_rate=rate,
    )
    found = tables.read_events(output).events
    assert found == expected and {e.filename for e in found} == set(NAMES)

    assert cli.main([*command, "--postprocess=fixed", "--fixed=1", "--extension=.ogg"]) == 0
    assert {e.filename for e in tables.read_events(output).events} == {
        "a_0.000_10.000.ogg",
        "b.ogg",
    }
    capsys.readouterr()
    for arguments, message in [
        (command, "--strong is missing"),
        (["postprocess", "--postprocess=fixed", "--output=x"], "--scores is missing"),
        ([*command, "--postprocess=best"], "postprocess"),
        ([*command, "--postprocess=fixed", "--threshold=2"], "threshold"),
        ([*command, "--postprocess=fixed", "--scores=none"], "none is not a folder"),
    ]:
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("Y1_12.000_22.000.wav", "Y1_12.000_22.000"),
        ("Y1_12.000_22.000", "Y1_12.000_22.000"),  # as sed_scores_eval does not: ..._22
        ("a.mp3", "a"),
        ("a", "a"),
        ("v1.b/a", "v1.b/a"),
        ("take.no 2", "take.no 2"),
        (".wav", ".wav"),
    ],
)
def test_the_name_of_a_clip(filename, name):
    assert score_files.clip_name(filename) == name


def test_clips_without_an_extension_keep_their_names(tmp_path):
    names = ["Y1_12.000_22.000", "Y1_12.000_22.500"]
    score_files.write_score_files(
        tmp_path, posteriors(), filenames=names, classes=CLASSES, frame_rate=60.0
    )
    assert score_files.read_score_files(tmp_path).clips == names


def test_one_clip_does_not_overwrite_another(tmp_path):
    with pytest.raises(InputError, match=r"'b.flac' and 'b.wav' would both .* b.tsv"):
        score_files.write_score_files(
            tmp_path, posteriors(), filenames=["b.flac", "b.wav"], classes=CLASSES, frame_rate=60.0
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("row", "found"), [("0.5\t1.01", "1.01 for Dog"), ("-3.2\t0.5", "-3.2 for Cat")]
)
@pytest.mark.parametrize("command", ["postprocess", "score"])
def test_logits_are_no_posteriors(tmp_path, command, row, found, capsys):
    scores, events = tmp_path / "scores", tmp_path / "events.tsv"
    scores.mkdir()
    (scores / "a.tsv").write_text(HEADER + f"0\t1\t0\t1\n1\t2\t{row}\n")
    tables.write_events(events, [Event("a.wav", 0.0, 1.0, "Cat")])
    durations = tmp_path / "d.tsv"
    tables.write_table(durations, ["filename", "duration"], [["a.wav", 2]])
    flags = {
        "postprocess": ["--postprocess=fixed", f"--output={events}"],
        "score": [
            f"--reference={events}",
            f"--estimates={events}",
            "--psds",
            f"--durations={durations}",
        ],
    }
    assert cli.main([command, f"--scores={scores}", *flags[command]]) == 2
    error = capsys.readouterr().err
    assert f"a.tsv, row 3: expected posteriors from 0 to 1; found {found}; if these are" in error


def test_the_last_bits_of_a_mean_are_no_logits(tmp_path):
    (tmp_path / "a.tsv").write_text(HEADER + "0\t1\t1.0000002\t-1e-7\n")
    assert score_files.read_score_files(tmp_path).scores[0].tolist() == [[1.0000002, -1e-7]]


def test_a_class_that_has_two_columns_is_named(tmp_path):
    (tmp_path / "a.tsv").write_text("onset\toffset\tCat\tDog\tCat\n0\t1\t0.5\t0.5\t0.5\n")
    with pytest.raises(InputError, match="a.tsv: the column Cat is there 2 times"):
        score_files.read_score_files(tmp_path)
