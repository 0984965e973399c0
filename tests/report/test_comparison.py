"""Runs beside one another: differences that were worked out by hand, and a page that is safe."""

import base64
import json

import numpy as np
import pytest
from html_page import ParsedPage
from scored_workdir import write_log, write_scored
from test_escaping import ATTACKS, check_links, shape

from jfsed_jax.cli import main as cli
from jfsed_jax.report.comparison import (
    compare_runs,
    config_differences,
    gaps,
    other_differences,
    verdict,
)
from jfsed_jax.report.comparison_clips import clip_errors, differing_clips, most_different
from jfsed_jax.report.comparison_curves import mean_of_seeds, shared_charts
from jfsed_jax.report.comparison_page import findings, render_comparison, signed
from jfsed_jax.report.comparison_text import format_comparison

# One dog in each of four clips, one cat in the last.
REFERENCE = {f"{n}.wav": [(2.0, 4.0, "Dog")] for n in range(4)}
REFERENCE["3.wav"] = [(2.0, 4.0, "Dog"), (6.0, 8.0, "Cat")]
# Half of the dogs: precision 100, recall 50, F1 66.7. No cat: 0. Macro 33.3, micro 2 * 2 / 7.
HALF = {"0.wav": REFERENCE["0.wav"], "1.wav": REFERENCE["1.wav"]}
# All dogs, one of them in two pieces, neither of which has both boundaries: 3 of 4 found in 5
# events, F1 2 * 3 / 9 = 66.7. The cat: 100. Macro 83.3, micro 2 * 4 / 11.
MOST = {**REFERENCE, "1.wav": [(2.0, 2.5, "Dog"), (3.5, 4.0, "Dog")]}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(*names, **kwargs):
    return compare_runs(names, split="eval", **{"num_resamples": 200} | kwargs)


def order(compared):
    return most_different(
        *(clip_errors(compared.counts, f"{of}_f1") for of in ("event", "segment"))
    )


# Scores and their differences ---------------------------------------------------------------------


def test_differences_are_those_of_the_counts(here):
    write_scored(here / "half", REFERENCE, HALF)
    write_scored(here / "most", REFERENCE, MOST)
    compared = compare("half", "most")
    first, second = compared.estimates
    for key, before, after in (
        ("event_f1/macro", 100 / 3, 250 / 3),
        ("event_f1/micro", 400 / 7, 800 / 11),
        ("event_f1/classwise/Dog", 200 / 3, 200 / 3),
        ("event_f1/classwise/Cat", 0, 100),
    ):
        assert first[key].value == pytest.approx(before)
        assert second[key].value == pytest.approx(after)
        assert second[key].against_first.difference == pytest.approx(after - before)
        assert first[key].against_first is None
    assert compared.scores == ["event_f1", "segment_f1", "at_f1_events"]


def test_a_difference_in_every_draw_is_told_from_noise_and_the_first_is_what_counts(here):
    # Each clip has its dog in one run and no event in the other, whatever is drawn.
    dogs = {f"{n}.wav": [(2.0, 4.0, "Dog")] for n in range(6)}
    write_scored(here / "all", dogs, dogs, classes=["Dog"])
    write_scored(here / "none", dogs, {}, classes=["Dog"])
    better, worse = compare("none", "all"), compare("all", "none")
    assert verdict(better.estimates[1]["event_f1/macro"]) == "better"
    assert verdict(worse.estimates[1]["event_f1/macro"]) == "worse"
    text = "all is better than none in Event-F1 (+100.0, +100.0 to +100.0)"
    assert findings(better)[0].startswith(text)
    assert "told from noise" in format_comparison(better).replace("not told", "")
    # Drawn around 0 at 50 %, here at the ends and without a width.
    for compared, place in ((better, "100.0%"), (worse, "0.0%")):
        style = f'style="--l:{place};--w:0.0%;--d:{place}"'
        assert style in render_comparison(compared)


def test_without_an_interval_nothing_is_better(here):
    """Of clips that are too few, or not drawn at all."""
    write_scored(here / "half", REFERENCE, HALF)
    write_scored(here / "most", REFERENCE, MOST)
    for resamples, note in ((100, "fewer than six clips differ"), (0, "Without resamples")):
        compared = compare("half", "most", num_resamples=resamples)
        said = "most is without an interval in Event-F1 (+50.0),"
        assert findings(compared)[0].startswith(said)
        page = ParsedPage(render_comparison(compared)).words
        assert note in page and "+50.0 (no interval)" in page
        assert "told from noise" not in format_comparison(compared)


def test_identical_runs_differ_by_nothing_which_is_not_told_from_noise(here):
    write_scored(here / "a", REFERENCE, MOST)
    write_scored(here / "b", REFERENCE, MOST)
    compared = compare("a", "b")
    for estimate in compared.estimates[1].values():
        assert estimate.against_first.difference == 0
        assert verdict(estimate) == ""
    assert findings(compared) == ["b scores the same as a on every clip."]
    assert config_differences(compared.systems) == other_differences(compared.systems) == []
    text = format_comparison(compared)
    assert "nothing differs" in text
    assert "told from noise" not in text.replace("not told from noise", "")
    assert not differing_clips(compared, 9).pictures
    assert (
        "every clip all runs have as many errors" in ParsedPage(render_comparison(compared)).words
    )


def test_the_order_of_clips_and_classes_in_the_files_changes_nothing(here):
    tags = {name: (0.9, 0.1) for name in REFERENCE}
    other = {name: (0.1, 0.9) for name in reversed(REFERENCE)}
    write_scored(here / "a", REFERENCE, HALF, tags=tags)
    write_scored(here / "b", REFERENCE, MOST, tags=tags)
    turned = dict(reversed(REFERENCE.items()))
    write_scored(here / "c", turned, MOST, classes=("Cat", "Dog"), tags=other)
    straight, crooked = compare("a", "b"), compare("a", "c")
    assert straight.scores == ["event_f1", "segment_f1", "at_f1", "at_f1_events"]
    assert straight.estimates == crooked.estimates
    assert order(straight) == order(crooked)


def test_a_score_that_a_run_lacks_is_left_out_with_a_word(here):
    tags = {name: (0.9, 0.1) for name in REFERENCE}
    write_scored(here / "a", REFERENCE, HALF, tags=tags)
    write_scored(here / "b", REFERENCE, MOST)
    compared = compare("a", "b")
    assert compared.scores == ["event_f1", "segment_f1", "at_f1_events"]
    said = "AT-F1 (clip head) is left out: not known of b."
    assert gaps(compared) == [said]
    assert said in ParsedPage(render_comparison(compared)).words
    assert f"note: {said}" in format_comparison(compared)
    write_scored(here / "c", REFERENCE, MOST)
    assert gaps(compare("b", "c")) == []


def test_a_class_has_its_items_in_the_reference_and_chance_its_share(here):
    write_scored(here / "half", REFERENCE, HALF)
    for n in range(2):
        write_scored(here / f"none{n}", REFERENCE, {}, mine=n)
    page = ParsedPage(render_comparison(compare("half", "none0", "none1"))).words
    assert "Dog 4" in page and "Cat 1" in page
    # Of two classes and two systems beside the first.
    assert "about 0.2 of 4 intervals" in page


def test_seeds_are_averaged_clip_by_clip_and_score_by_score(here):
    for seed, found in enumerate((HALF, MOST)):
        write_scored(here / f"x-seed{seed}", REFERENCE, found, seed=seed)
    write_scored(here / "none", REFERENCE, {}, loss={"tau": 9.0})
    compared = compare("none", "x-seed0", "x-seed1")
    assert compared.labels == ["none", "x"]
    assert compared.estimates[1]["event_f1/macro"].value == pytest.approx((100 / 3 + 250 / 3) / 2)
    # Errors of half: 0, 0, 1, 2 (missed); of most: 0, 3 (one missed, two made up), 0, 0.
    np.testing.assert_array_equal(
        clip_errors(compared.counts, "event_f1"), [[1, 1, 1, 2], [0, 1.5, 0.5, 1]]
    )
    (picture,), _ = differing_clips(compared, 1)
    assert picture.note == "events missed or made up: 1 of none, 0 of x"


# What differs -------------------------------------------------------------------------------------


def test_configs_are_compared_as_they_would_be_written_today(here):
    # A run that was written before there was a key has what it stood for then.
    student = {"filters": [16]}
    write_scored(here / "old", REFERENCE, {}, student=student, loss={"before_dropout": False})
    write_scored(here / "same", REFERENCE, {}, student=student, cpu_devices=7)
    write_scored(here / "new", REFERENCE, {}, seed=3, student=student | {"dropout": 0.5},
                 teacher=student, loss={"before_dropout": True}, mine={"x": "<b>"})  # fmt: skip
    assert [s.label for s in compare("old", "same").systems] == ["old", "same"]
    assert config_differences(compare("old", "same").systems) == []
    rows = {row.name: row.values for row in config_differences(compare("old", "new").systems)}
    assert rows == {
        "student.dropout": (None, "0.5"),
        "loss.before_dropout": ("false", "true"),
        "teacher": (None, "1 value"),
        "mine": (None, "1 value"),
        "seed": ("0", "3"),
    }


def test_what_else_differs(here):
    data = {"digests": {"weak": "0123456789"}, "frame_rate": 60.0, "clips": {"weak": 10}}
    write_scored(here / "a", REFERENCE, {}, meta=data)
    write_scored(here / "b", REFERENCE, {}, rule="esp", meta=data | {"frame_rate": 12.5})
    write_log(here / "a", [{"kind": "train", "step": 1500, "loss": 1.0}])
    rows = {row.name: row.values for row in other_differences(compare("a", "b").systems)}
    assert rows == {
        "Steps trained": ("1\u202f500", None),
        "Frames per second": ("60", "12.5"),
        "Median windows": ("avg", "esp"),
    }


def test_a_config_that_is_not_there_is_no_difference(here):
    for name, tau in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        write_scored(here / name, REFERENCE, HALF, loss={"tau": tau}, student={"x": tau})
    (here / "c/config.json").unlink()
    rows = {row.name: row.values for row in config_differences(compare("a", "b", "c").systems)}
    assert rows == {"loss.tau": ("1.0", "2.0", "?"), "student.x": ("1.0", "2.0", "?")}
    compared = compare("c", "b")
    assert config_differences(compared.systems) == []
    assert gaps(compared) == ["Values of the config are not known without config.json: c."]
    assert "nothing that is known differs" in format_comparison(compared)


def test_what_parts_most_comes_first_and_seeds_say_whose_a_value_is(here):
    for n in range(3):
        write_scored(here / f"r{n}", REFERENCE, HALF, mine=n // 2, tau=n)
        write_scored(here / f"s{n}", REFERENCE, HALF, seed=n, info={"checkpoint_step": 9 - n})
    systems = compare("r0", "r1", "r2", "s0", "s1", "s2").systems
    assert [row.name for row in config_differences(systems)] == ["tau", "mine", "seed"]
    (row,) = other_differences(systems)
    assert row.values == ("100", "100", "100", "9; 8; 7 (seeds 0, 1, 2)")


def test_many_systems_are_ranked_and_told_in_few_columns(here):
    found = {"none": {}, "half": HALF, "most": MOST, "all": REFERENCE}
    for n, (name, events) in enumerate(found.items()):
        write_scored(here / name, REFERENCE, events, loss={"tau": n // 2})
    compared = compare(*found)
    assert [compared.labels[i] for i in compared.ranked] == ["all", "most", "half", "none"]
    text = format_comparison(compared)
    assert max(map(len, text.splitlines())) < 130
    assert "loss.tau  0 (1, 2)  1 (3, 4)" in text
    page = ParsedPage(render_comparison(compared)).words
    assert page.index("all 100") < page.index("none 0.0 the others are compared to it")
    assert "is better than" not in page
    # Of a class the reference, and those that found something.
    (picture, *_), _ = differing_clips(compared, 1)
    assert [lane.name for lane in picture.lanes] == ["Dog", "most", "all", "Cat", "most", "all"]


def test_decoder_files_that_differ_are_told(here):
    for name, threshold in (("a", 0.25), ("b", 0.75)):
        decoder = {"decoder": "median", "classes": {"Dog": {"threshold": threshold}}}
        info = {"postprocess": "decoder file", "decoder_file": decoder}
        write_scored(here / name, REFERENCE, {}, info=info)
    (row,) = other_differences(compare("a", "b").systems)
    assert row.name == "Decoder file" and "0.25" in row.values[0] and "0.75" in row.values[1]


# Clips --------------------------------------------------------------------------------------------


def test_clips_are_ordered_by_errors_and_show_the_lists_lane_by_lane(here):
    write_scored(here / "half", REFERENCE, HALF)
    write_scored(here / "most", REFERENCE, MOST, examples=["1.wav"])
    compared = compare("half", "most")
    # Errors 0, 0, 1, 2 and 0, 3, 0, 0: on 0.wav they do not differ.
    assert order(compared) == [1, 3, 2]
    pictures, keys = differing_clips(compared, 2)
    assert [key.kind for key in keys] == ["reference", "predicted", "predicted wrong", "level"]
    assert [picture.name for picture in pictures] == ["1.wav", "3.wav"]
    assert [bool(picture.image) for picture in pictures] == [True, False]
    assert [(lane.name, len(lane.events)) for lane in pictures[1].lanes] == [
        ("Dog", 1), ("half", 0), ("most", 1), ("Cat", 1), ("half", 0), ("most", 1),
    ]  # fmt: skip
    kinds = [[event.kind for event in lane.events] for lane in pictures[0].lanes]
    assert kinds == [["reference"], ["predicted"], ["predicted wrong", "predicted wrong"]]
    described = "Dog, most: 2.00–2.50 s (no hit), 3.50–4.00 s (no hit)"
    assert pictures[0].lanes[2].described == described


def test_equal_differences_of_events_are_ordered_by_their_seconds(here):
    clips = {name: [(0.0, 9.0, "Dog")] for name in ("short.wav", "long.wav")}
    found = {"short.wav": [(0.0, 8.9, "Dog")], "long.wav": [(0.0, 3.0, "Dog")]}
    write_scored(here / "a", clips, {"short.wav": [(0.0, 8.0, "Dog")]})
    write_scored(here / "b", clips, {})
    compared = compare("a", "b")
    # A miss against a miss with a false alarm in one clip, nothing in both in the other.
    assert order(compared) == [0]
    write_scored(here / "c", clips, found)
    errors = {
        name: clip_errors(compare("b", "c").counts, name) for name in ("event_f1", "segment_f1")
    }
    np.testing.assert_array_equal(errors["event_f1"], [[1, 1], [0, 2]])
    assert order(compare("b", "c")) == [0, 1]
    assert errors["segment_f1"].tolist() == [[9, 9], [0, 6]]


def test_clips_of_other_lengths_have_the_axis_of_the_longest_and_sounds_of_their_own(here):
    write_scored(here / "a", REFERENCE, HALF, meta={"front_end": {"clip_seconds": 4.0}})
    write_scored(here / "b", REFERENCE, {}, examples=["1.wav", "0.wav"])
    path = here / "b/eval/eval/examples.npz"
    np.savez(path, **np.load(path), sound=np.frombuffer(b"onetwo", np.uint8), sound_ends=[3, 6])
    pictures, _ = differing_clips(compare("a", "b"), 2)
    assert [(own.name, own.seconds) for own in pictures] == [("0.wav", 10.0), ("1.wav", 10.0)]
    sounds = [base64.b64decode(own.sound.partition(",")[2]) for own in pictures]
    assert sounds == [b"two", b"one"]


# Curves -------------------------------------------------------------------------------------------


def test_curves_of_seeds_are_means_where_all_have_a_value():
    logs = [
        [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 4.0}, {"step": 3, "loss": None}],
        [{"step": 2, "loss": 8.0}, {"step": 3, "loss": 1.0}],
    ]
    assert mean_of_seeds(logs, "loss") == [(2, 6.0)]
    assert mean_of_seeds(logs[:1], "loss") == [(1, 2.0), (2, 4.0)]


def test_charts_go_by_epochs_where_all_agree_on_them_and_a_run_keeps_its_colour(here):
    rows = [
        {"kind": "train", "step": step, "loss": 3.0, "student/weak": 1.0} for step in (50, 100)
    ] + [{"kind": "validation", "step": 100, "selection": 80.0}]
    for name, length, keep in (
        ("a", 50, ("loss",)),
        ("b", 50, ("loss", "student/weak")),
        ("c", 25, ()),
    ):
        write_scored(here / name, REFERENCE, {}, meta={"steps_per_epoch": length},
                     loss={"tau": float(len(name + str(length)))}, mine=name)  # fmt: skip
        write_log(here / name, [
            {k: v for k, v in row.items() if "/" not in k or k in keep} for row in rows
        ])  # fmt: skip
    charts = shared_charts(compare("a", "b").systems)
    assert [chart.title for chart in charts] == [
        "What selects the checkpoint", "Loss: the weighted sum", "Labels: the student: weak"
    ]  # fmt: skip
    assert [chart.note for chart in charts] == [(), (), ("logged by b",)]
    curves = [shape.class_ for shape in charts[2].shapes if shape.class_.startswith("curve")]
    assert curves[-1].startswith("curve c1")
    names = {s.text for chart in charts for s in chart.shapes if "axis-name" in s.class_}
    assert "epoch " in {f"{name.strip()} " for name in names}
    other = shared_charts(compare("a", "c").systems)
    assert "step" in {s.text.strip() for s in other[0].shapes if "axis-name" in s.class_}


# The command and its page -------------------------------------------------------------------------


def test_the_command_prints_the_comparison_and_writes_the_page(here, capsys):
    write_scored(here / "half", REFERENCE, HALF)
    write_scored(here / "most", REFERENCE, MOST, loss={"tau": 2.0})
    assert cli.main(["compare", "--split=eval", "--bootstrap=100", "half", "most"]) == 0
    out = capsys.readouterr().out
    for text in (
        "4 clips of eval, 2 classes, 100 resamples of the clips\n",
        "loss.tau",
        "most minus half, points",
        "Event-F1           macro  +50.0000",
    ):
        assert text in out
    assert out.endswith("\ncompare.html\n")
    page = ParsedPage((here / "compare.html").read_text(encoding="utf-8"))
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == ["differences", "scores", "classes", "training", "clips"]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [f"#{name}" for name in sections]
    assert not page.open
    assert "Evaluation: 4 clips, 2 classes" in page.words
    assert "Event-F1 macro 33.3" in page.words and "+50.0" in page.words
    assert "loss.tau" in page.words and "No run has a log" in page.words
    check_links(page)


def test_one_clip_many_runs_and_nothing_found(here):
    clip = {"a.wav": []}
    for n in range(10):
        write_scored(here / f"r{n}", clip, {}, mine=n)
    compared = compare(*(f"r{n}" for n in range(10)))
    page = ParsedPage(render_comparison(compared))
    assert "r0 and 9 others" in page.words
    assert compared.estimates[3]["event_f1/macro"].value is None
    assert "Event-F1           macro  undefined" in format_comparison(compared)


def test_a_refusal_is_one_line(here, capsys):
    write_scored(here / "a", REFERENCE, {})
    assert cli.main(["compare", "a"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "nothing to compare" in captured.err
    assert not (here / "compare.html").exists()


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0"), (-0.04, "0.0"), (0.05001, "+0.1"), (-1.25, "−1.2")]
)
def test_signs(value, text):
    assert signed(value) == text


def hostile(folder, text: str) -> tuple[ParsedPage, str]:
    """Page and text of runs that say `text` wherever they can."""
    name, label = text.replace("/", "∕"), text.replace("\n", " ")  # a table's cell is one line
    reference = {f"{label}.wav": [(1.0, 2.0, f"{label} a")], "b.wav": [(1.0, 2.0, "b")]}
    for i, found in enumerate(({}, reference)):
        run = folder / f"{name}{i}"
        write_scored(
            run, reference, found, classes=(f"{label} a", "b"), rule=text,
            examples=[f"{label}.wav"],
            meta={"data": text + str(i), "clips": {text: i}, "digests": {text: f"{i}{text}"}},
            system=text, **{text: i, "loss": {text: [text, i]}},
        )  # fmt: skip
        write_log(run, [{"kind": "train", "step": 1, "loss": 1.0, f"{name}/{name}": 1.0}])
    compared = compare(str(folder / f"{name}0"), str(folder / f"{name}1"), num_resamples=5)
    return ParsedPage(render_comparison(compared)), format_comparison(compared)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[ParsedPage, str]:
    return hostile(tmp_path_factory.mktemp("plain"), "word")


@pytest.mark.parametrize("attack", [*ATTACKS, "two\nlines"])
def test_whatever_a_run_says_is_text(tmp_path, plain, attack):
    page, text = hostile(tmp_path, attack)
    assert not page.open
    assert shape(page) == shape(plain[0])
    check_links(page)
    assert len(text.splitlines()) == len(plain[1].splitlines())


def test_long_names_are_cut_in_the_terminal_alone(here):
    name = "n" * 200
    write_scored(here / name, REFERENCE, {}, mine="x" * 300)
    write_scored(here / "b", REFERENCE, {})
    compared = compare("b", name)
    text = format_comparison(compared)
    assert max(len(line) for line in text.split("\n")[8:]) < 320
    assert json.dumps("x" * 300) in ParsedPage(render_comparison(compared)).words


def test_values_that_are_cut_do_not_look_alike(here):
    for name in "ab":
        write_scored(here / name, REFERENCE, HALF, mine="x" * 300 + name)
    (line,) = [of for of in format_comparison(compare("a", "b")).split("\n") if "mine" in of]
    assert line.split() == ["mine", '…xxxxxxxxa"', '…xxxxxxxxb"']
