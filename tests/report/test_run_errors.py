"""Why a class fails, on the page of a run: worked out by hand for a few events."""

import json
from pathlib import Path

import numpy as np
import pytest
from html_page import ParsedPage

from jfsed_jax.errors import InputError
from jfsed_jax.report import run_errors, run_tags
from jfsed_jax.report.listings import Link
from jfsed_jax.report.operating_points import tag_chart
from jfsed_jax.report.run_clips import kept_clips, typical_clips
from jfsed_jax.report.run_errors import class_errors
from jfsed_jax.report.run_page import write_report
from jfsed_jax.report.run_scores import class_scores
from jfsed_jax.report.run_tags import tag_confusions, taken_map
from jfsed_jax.runs.saved_run import read_run
from jfsed_jax.sed import tables
from jfsed_jax.sed.events import Event

CLASSES = ["Cat", "Dog", "Old_car", "Owl"]
CLIPS = ["a.wav", "b.wav", "c.wav"]
# Cat: one hit. Dog: a hit, a wrong offset, two that one estimate merges, a missed one, a false
# alarm. Of old cars one is claimed and none is there; of owls there is nothing.
REFERENCE = [
    Event("a.wav", 1, 2, "Cat"),
    Event("a.wav", 1, 2, "Dog"), Event("a.wav", 4, 6, "Dog"),
    Event("b.wav", 1, 2, "Dog"), Event("b.wav", 3, 4, "Dog"), Event("c.wav", 8, 9, "Dog"),
]  # fmt: skip
ESTIMATES = [
    Event("a.wav", 1, 2, "Cat"),
    Event("a.wav", 1.1, 2, "Dog"), Event("a.wav", 4, 8, "Dog"), Event("b.wav", 1, 4, "Dog"),
    Event("c.wav", 1, 2, "Dog"), Event("c.wav", 1, 3, "Old_car"),
]  # fmt: skip


def write_split(folder: Path, reference=REFERENCE, estimates=ESTIMATES, names=CLIPS) -> None:
    folder.mkdir(parents=True)
    tables.write_events(folder / "reference.tsv", reference, filenames=names)
    tables.write_events(folder / "events.tsv", estimates, filenames=names)
    (folder / "scores.json").write_text("{}")


def keep(folder: Path, names, worst, **arrays) -> None:
    mel = np.zeros((len(names), 20, 4), np.float16)
    np.savez(folder / "examples.npz", filenames=np.array(names), mel=mel, worst=worst, **arrays)


@pytest.fixture
def run(tmp_path) -> Path:
    meta = {"classes": CLASSES, "front_end": {"clip_seconds": 10.0}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    write_split(tmp_path / "eval/validation")
    return tmp_path


def errors_of(folder: Path):
    run = read_run(folder)
    return class_errors(run, kept_clips(run, None))


def test_events_by_kind(run):
    (split,) = errors_of(run)
    assert [own.name for own in split.classes] == ["Dog", "Cat", "Old car"]
    names = [row[0] for row in split.listing.rows]
    anchors = {own.name: f"#{own.anchor}" for own in split.classes}
    assert names == [Link(name, anchors[name]) for name in ("Cat", "Dog", "Old car")] + ["Owl"]
    (scores,) = class_scores(read_run(run), {split.folder: split.places})
    assert [row[0] for row in scores.scores.rows] == names
    assert split.listing.columns[1:] == [
        "Event-F1", "Reference", "hit", "wrong boundaries", "split", "merged", "missed",
        "Predicted", "false alarms",
    ]  # fmt: skip
    assert [row[1:] for row in split.listing.rows] == [
        ["100.0", 1, 1, 0, 0, 0, 0, 1, 0],
        ["22.2", 5, 1, 1, 0, 2, 1, 4, 1],
        ["–", 0, 0, 0, 0, 0, 0, 1, 1],
        ["–", 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    dog = split.classes[0]
    assert dog.summary == "Event-F1 22.2, 1 of 5 hit"
    titles = dict(zip(dog.counts.columns, zip(*dog.counts.rows, strict=True), strict=True))
    assert titles == {
        "": ("Reference", "Predicted"), "hit": (1, 1), "wrong onset": (0, 0),
        "wrong offset": (1, 1), "both wrong": (0, 0), "split": (0, 0), "merged": (2, 1),
        "missed": (1, None), "false alarm": (None, 1), "all": (5, 4),
    }  # fmt: skip
    # Of five references and a false alarm.
    assert [(part.tip, part.width) for part in dog.bar] == [
        ("hit: 1", "16.67"), ("wrong boundaries: 1", "16.67"), ("merged: 2", "33.33"),
        ("missed: 1", "16.67"), ("false alarms: 1", "16.67"),
    ]  # fmt: skip


def test_another_rule_has_its_counts_and_no_sections(run):
    write_split(run / "eval-esp/validation", estimates=[])
    own, other = errors_of(run)
    assert (own.title, other.title) == ("Validation · own rule", "Validation · esp")
    assert own.classes and not other.classes
    assert [row[:2] for row in other.listing.rows[:2]] == [["Cat", "0.0"], ["Dog", "0.0"]]


def test_clips_with_most_errors_are_drawn_once(run):
    """Of dogs b has two merged references and their estimate, a the wrong offset, c the rest."""
    keep(run / "eval/validation", CLIPS, [False, True, True])
    (split,) = errors_of(run)
    dog, cat, car = split.classes
    shown = [(clip.errors, clip.name, clip.picture is not None) for clip in dog.clips]
    assert sorted(shown) == [
        ("1 × missed, 1 × false alarm", "c.wav", True),
        ("2 × wrong offset", "a.wav", False),  # it is typical, and drawn with its like
        ("3 × merged", "b.wav", True),
    ]
    assert not cat.clips
    assert [(clip.errors, clip.picture) for clip in car.clips] == [("1 × false alarm", None)]
    page = ParsedPage(write_report(run).read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert sum(attributes.get("class") == "clip" for _, attributes in page.tags) == 3
    folded = [a for tag, a in page.tags if tag == "details" and a.get("class") == "why"]
    assert ["open" in a for a in folded] == [True, False, False]
    saved = read_run(run)
    (typical,) = typical_clips(saved, kept_clips(saved, None))
    assert [clip.picture.name for clip in typical.shown + typical.rest] == ["a.wav"]


def test_a_link_to_a_class_unfolds_it(run, visit):
    page = visit(write_report(run), ready=False)
    (_, cat, _) = errors_of(run)[0].classes
    place = page.locator(f"#{cat.anchor}")
    assert not place.is_visible()
    page.click(f"a[href='#{cat.anchor}'] >> nth=0")
    place.wait_for(state="visible")


def test_of_a_recording_a_clip_has_the_errors_of_its_time(run):
    events = [Event("long.wav", 1, 2, "Dog"), Event("long.wav", 13, 14, "Dog")]
    write_split(run / "eval/eval", events, [], ["long.wav"])
    keep(
        run / "eval/eval", ["long.wav@0", "long.wav@20"], [True, True],
        recordings=np.array(["long.wav"] * 2), starts=np.array([0.0, 20.0]),
    )  # fmt: skip
    (dog,) = errors_of(run)[1].classes
    assert [(clip.errors, clip.name) for clip in dog.clips] == [("1 × missed", "long.wav@0")]


def test_of_a_whole_clip_what_ends_behind_it_is_an_error_too(run):
    """As of a system that pads its clips."""
    write_split(run / "eval/eval", [Event("a.wav", 10.1, 10.4, "Dog")], [], ["a.wav"])
    keep(run / "eval/eval", ["a.wav"], [True])
    assert [clip.errors for clip in errors_of(run)[1].classes[0].clips] == ["1 × missed"]


def write_tags(folder: Path, clip, reference) -> None:
    np.savez(
        folder / "posteriors.npz", filenames=np.array(CLIPS), clip=np.array(clip, np.float32),
        clip_reference=np.array(reference), frames=np.zeros((3, 5, 4), np.float32),
    )  # fmt: skip


def test_what_a_class_is_taken_for_and_where_its_tags_are_taken(run):
    """Dogs: found in a; in b a cat is tagged and not there; in c nothing is, and no dog. At 0.5 an
    owl is not tagged."""
    folder = run / "eval/validation"
    clip = [[0.9, 0.8, 0, 0.1], [0.7, 0.4, 0, 0.5], [0, 0.1, 0, 0]]
    write_tags(folder, clip, [[1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]])
    saved = read_run(run)
    dog, cat, _ = errors_of(run)[0].classes
    assert dog.taken == (
        "Of 3 clips with it, 1 are tagged with it. 1 of the 2 others has wrong tags: Cat in 1."
    )
    assert cat.taken == "Of 1 clips with it, 1 are tagged with it."
    (chart,) = dog.charts
    assert chart.note == ("above 0.5: precision 100 %, recall 33 %",)
    assert any(shape.tip == chart.note[0] for shape in chart.shapes)
    (chart,) = cat.charts
    assert chart.note == ("above 0.5: precision 50 %, recall 100 %",)
    assert tag_chart(saved.splits[0], 2) is None and tag_chart(saved.splits[0], 3) is None
    write_tags(folder, np.array(clip) / 2, [[1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]])
    dog = errors_of(run)[0].classes[0]
    assert dog.charts[0].note == ("no posterior exceeds 0.5",)
    assert dog.taken.endswith("None of the 3 others has wrong tags.")


def write_curves(folder: Path, **changes) -> None:
    """Of dogs a curve whose best is at 0.6, of the weights and windows that were scored."""
    info = {"checkpoint_step": 7, "postprocess": "avg", "thresholds": [0.5, 0.3, 0.5, 0.5]}
    (folder / "eval/validation/scores.json").write_text(json.dumps({"info": info}))
    curve = {"events": 5, "event_f1": [10.0, 30.0, 20.0]}
    content = {"step": 7, "postprocess": "avg", "clips": 9, "thresholds": [0.2, 0.6, 0.8]}
    content |= {"classes": {"Dog": curve}} | changes
    (folder / "thresholds.json").write_text(json.dumps(content))


def test_what_another_threshold_would_change(run):
    how = "is drawn where training held out strong clips"
    assert how in ParsedPage(write_report(run).read_text(encoding="utf-8")).words
    write_curves(run)
    text = write_report(run).read_text(encoding="utf-8")
    assert how not in ParsedPage(text).words and "<title>used: 0.30</title>" in text
    dog, cat, _ = errors_of(run)[0].classes
    assert [chart.note for chart in dog.charts + cat.charts] == [
        (
            "15.0 at 0.30, which is used; 30.0 at 0.60",
            "9 clips that training held out, 5 events: one hit is about 20 points",
        )
    ]


def test_of_a_decoder_file_no_curves_are_asked_for(run):
    scores = run / "eval/validation/scores.json"
    scores.write_text('{"info": {"decoder_file": {"decoder": "median"}}}')
    words = ParsedPage(write_report(run).read_text(encoding="utf-8")).words
    assert "is drawn where training held out" not in words


def test_of_classes_that_fail_alike_that_with_more_events_comes_first(run):
    events = [Event("a.wav", n, n + 1, label) for label in ("Cat", "Dog", "Dog") for n in (1, 5)]
    write_split(run / "eval/eval", events, [])
    assert [own.label for own in errors_of(run)[1].classes] == ["Dog", "Cat"]


@pytest.mark.parametrize("other", [{"step": 6}, {"postprocess": "esp"}])
def test_curves_of_other_weights_or_windows_are_not_shown(run, other):
    write_curves(run, **other)
    assert not errors_of(run)[0].classes[0].charts


@pytest.mark.parametrize("damage", [{"classes": 3}, {"thresholds": [0.1]}, {"clips": None}])
def test_damaged_curves_are_named(run, damage):
    write_curves(run, **damage)
    with pytest.raises(InputError, match="thresholds.json is damaged: expected clips"):
        errors_of(run)


def test_maps_of_tags_by_head_and_events(run, monkeypatch):
    """Figures 5 and 6 beside them; those of the clip head once for all rules."""
    write_tags(run / "eval/validation", np.eye(3, 4), np.eye(3, 4))
    write_split(run / "eval-esp/validation")
    write_tags(run / "eval-esp/validation", np.eye(3, 4), np.eye(3, 4))
    own, other = tag_confusions(read_run(run))
    assert [len(own.maps), len(own.figures), len(other.maps), len(other.figures)] == [2, 2, 1, 1]
    # By events dogs are in all clips, and found in all; the old car is of c alone.
    dog = own.maps[1].rows[1]
    assert ([cell.text for cell in dog.cells], dog.clips) == (["", "100", "", "", ""], 3)
    dog = own.figures[1].rows[1]
    assert [cell.text for cell in dog.cells] == ["17", "67", "17", "", ""]
    monkeypatch.setattr(run_tags, "_MANY", 3)
    assert not any(split.figures for split in tag_confusions(read_run(run)))


def test_a_map_of_missed_clips_by_hand():
    reference = np.array([[1, 0], [1, 0], [1, 0], [1, 1]], bool)
    tagged = np.array([[1, 0], [0, 1], [0, 0], [1, 1]], bool)
    found = taken_map(["A", "B"], reference, tagged, caption="t")
    assert [[cell.text for cell in row.cells] for row in found.rows] == [
        ["50", "25", "25"],
        ["", "100", ""],
    ]
    assert found.columns == ["A", "B", "no wrong tag"]


def test_many_classes_are_folded_and_those_with_the_lowest_scores_have_curves(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(run_errors, "_CURVES", 2)
    names = [f"class {i:02d}" for i in range(15)]
    (tmp_path / "meta.json").write_text(json.dumps({"classes": names}))
    events = [Event("a.wav", i, i + 1, name) for i, name in enumerate(names)]
    folder = tmp_path / "eval/validation"
    write_split(folder, events, events[:1], ["a.wav"])
    np.savez(
        folder / "posteriors.npz", filenames=np.array(["a.wav"]), clip=np.ones((1, 15)),
        clip_reference=np.ones((1, 15)),
    )  # fmt: skip
    (split,) = errors_of(tmp_path)
    assert [own.label for own in split.classes] == [*names[1:], names[0]]
    assert [len(own.charts) for own in split.classes] == [1, 1] + [0] * 13
    assert "3 more classes" in ParsedPage(write_report(tmp_path).read_text(encoding="utf-8")).words
