"""The page of a run: complete, self-contained, escaped, and clear about what is missing."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import defaults
import markupsafe
import numpy as np
import pytest
from html_page import ParsedPage

from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.report import run_curves, run_figures, run_scores
from jfsed_jax.report import run_page as report
from jfsed_jax.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Series, line_chart
from jfsed_jax.report.clip_pictures import Lane, clip_picture
from jfsed_jax.report.formatting import tick_labels
from jfsed_jax.report.heat_maps import confusion_map, confusion_matrix
from jfsed_jax.report.listings import Bar, Code, Listing, Noted
from jfsed_jax.report.rendering import environment
from jfsed_jax.runs import saved_run as run_files
from jfsed_jax.sed import scoring, tables, window_rules
from jfsed_jax.sed.events import DCASE2019_CLASSES, Event

EVIL = '<script>alert("x")</script>&\'.wav'
RATE = 60.0


def make_workdir(
    workdir: Path,
    *,
    classes: tuple[str, ...] = DCASE2019_CLASSES,
    splits: dict[str, int] | None = None,
    examples: int = 4,
    num_epochs: int = 40,
    steps_per_epoch: int = 50,
    odd_name: str | None = None,
    seed: int = 0,
) -> Path:
    """A workdir as a finished run leaves it, with made-up but believable content."""
    rng = np.random.default_rng(seed)
    workdir.mkdir(parents=True, exist_ok=True)
    durations = {
        label: np.sort(
            np.clip(rng.lognormal(rng.uniform(-1.0, 1.6), rng.uniform(0.4, 0.9), 150), 0.2, 10)
        ).round(3)
        for label in classes
    }
    options = {"frame_rate": RATE, "options": defaults.rule_options()}
    windows = window_rules.class_windows(durations, **options)
    front_end = {"sample_rate": 44100, "hop_length": 735, "n_mels": 64, "clip_seconds": 10.0}
    _write_json(
        workdir / "meta.json",
        {
            "system": "pts_tfd_afl_esp",
            "data": "demo",
            "classes": list(classes),
            "front_end": front_end,
            "frame_rate": RATE,
            "windows": {
                rule: window_rules.window_sizes(durations, rule, **options).tolist()
                for rule in window_rules.RULES
            },
            "window_details": [window._asdict() for window in windows],
            "durations": {label: times.tolist() for label, times in durations.items()},
            "steps_per_epoch": steps_per_epoch,
            "clips": {"weak": 240, "unlabelled": 1200, "strong": 300},
        },
    )
    _write_json(
        workdir / "config.json",
        {
            "epochs": num_epochs,
            "loss": {"tau": 15.0},
            "optimiser": {"learning_rate": 1.8e-3, "decay": 0.8},
            "eta": 1 / 3,
        },
    )
    _write_metrics(workdir / "metrics.jsonl", rng, num_epochs, steps_per_epoch)
    for split, num_clips in (splits or {"validation": 60}).items():
        _write_split(workdir / "eval" / split, rng, classes, num_clips, examples, odd_name)
    return workdir


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_metrics(path: Path, rng: np.random.Generator, epochs: int, per_epoch: int) -> None:
    lines = []
    for step in range(10, epochs * per_epoch + 1, 10):
        x = step / per_epoch
        decay = np.exp(-x / 9)
        row = {
            "kind": "train",
            "step": step,
            "epoch": int((step - 1) // per_epoch),
            "learning_rate": 1.8e-3 * 0.8 ** (x // 10),
            "alpha": 1 - 0.996 ** max(x - 30, 0),
            "beta": float(np.exp(-5 * (1 - min(x / 20, 1)) ** 2)),
            "clips_per_second": float(rng.normal(52, 3)),
        }
        for term, height in (("weak", 0.4), ("strong", 0.15)):
            for model, scale in (("teacher", 0.8), ("student", 1.0)):
                noise = rng.normal(1, 0.06)
                row[f"{term}/{model}"] = float(height * scale * (0.15 + decay) * noise)
        row["consistency/teacher_to_student"] = float(0.3 * (0.3 + decay) * rng.normal(1, 0.07))
        row["consistency/student_to_teacher"] = float(0.2 * (0.3 + decay) * rng.normal(1, 0.07))
        row["distillation/tfd"] = float((1.2 * (0.2 + np.exp(-x / 14))) * rng.normal(1, 0.05))
        row["loss"] = sum(v for k, v in row.items() if k.startswith(("weak", "strong", "con")))
        row["loss"] += row["beta"] * row["distillation/tfd"]
        lines.append(row)
        if step % (per_epoch * 2) == 0:
            rise = 1 - np.exp(-x / 10)
            scores = {
                "event_f1": float(58 * rise + rng.normal(0, 1.6)),
                "segment_f1": float(77 * rise + rng.normal(0, 1.2)),
                "at_f1": float(88 * rise + rng.normal(0, 1.0)),
            }
            total = scores["event_f1"] + scores["at_f1"]
            epoch = row["epoch"]
            lines.append(
                {"kind": "validation", "step": step, "epoch": epoch, "selection": total, **scores}
            )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _write_split(
    folder: Path,
    rng: np.random.Generator,
    classes: tuple[str, ...],
    num_clips: int,
    examples: int,
    odd_name: str | None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"soundscape_{i:04d}.wav" for i in range(num_clips)]
    if odd_name is not None:
        names[0] = odd_name
    skill = rng.uniform(0.55, 0.97, len(classes))
    reference, estimates = [], []
    clip = rng.beta(0.6, 9, (num_clips, len(classes)))
    frames = rng.beta(0.5, 14, (num_clips, 600, len(classes)))
    truth = np.zeros((num_clips, len(classes)), np.uint8)
    for n, name in enumerate(names):
        for label in rng.choice(
            len(classes), size=min(len(classes), 1 + rng.binomial(2, 0.35)), replace=False
        ):
            onset = rng.uniform(0, 8)
            offset = min(10.0, onset + rng.lognormal(0.3, 0.7))
            reference.append(Event(name, round(onset, 3), round(offset, 3), classes[label]))
            truth[n, label] = 1
            taken = label if rng.random() < skill[label] else int(rng.integers(len(classes)))
            if rng.random() < 0.9:
                start = max(0.0, onset + rng.normal(0, 0.13))
                stop = min(10.0, max(start + 0.1, offset + rng.normal(0, 0.2)))
                estimates.append(Event(name, start, stop, classes[taken]))
                clip[n, taken] = rng.uniform(0.55, 1.0)
                t = np.arange(600) / RATE
                rise = 1 / (1 + np.exp(-(t - start) * 12)) / (1 + np.exp((t - stop) * 9))
                frames[n, :, taken] = np.maximum(frames[n, :, taken], 0.95 * rise)
    tables.write_events(folder / "reference.tsv", reference, filenames=names)
    tables.write_events(folder / "events.tsv", estimates)
    np.savez_compressed(
        folder / "posteriors.npz",
        filenames=np.array(names),
        clip=clip.astype(np.float32),
        frames=frames.astype(np.float16),
        classes=np.array(classes),
        frame_rate=np.float64(RATE),
        clip_reference=truth,
    )
    np.savez_compressed(
        folder / "examples.npz",
        filenames=np.array(names[:examples]),
        mel=np.stack(
            [_mel(rng, [e for e in reference if e.filename == n]) for n in names[:examples]]
        )
        if examples
        else np.zeros((0, 600, 64), np.float16),
    )

    scores = scoring.score(reference, estimates, filenames=names, classes=classes, tags=clip > 0.5)
    info = {"split": folder.name, "postprocess": "esp", "num_clips": num_clips}
    _write_json(folder / "scores.json", {**scores, "info": {**info, "checkpoint_step": 1900}})


def _mel(rng: np.random.Generator, events: list[Event]) -> np.ndarray:
    """A log-mel [600, 64] with harmonics where the events are."""
    mel = rng.normal(-7, 0.5, (600, 64)) - np.linspace(0, 2, 64)
    for event in events:
        start, stop = int(event.onset * RATE), max(int(event.offset * RATE), 1)
        t = np.arange(start, min(stop, 600))
        for band in range(int(rng.integers(4, 16)), 60, int(rng.integers(6, 11))):
            wobble = (band + 1.5 * np.sin(t / 9)).astype(int).clip(0, 63)
            mel[t, wobble] += 4 * np.exp(-band / 40)
            mel[t, (wobble + 1).clip(0, 63)] += 2.5 * np.exp(-band / 40)
    return mel.astype(np.float16)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run")
    return make_workdir(path, splits={"eval": 12, "validation": 20}, examples=2)


@pytest.fixture(scope="module")
def text(workdir) -> str:
    return report.write_report(workdir).read_text(encoding="utf-8")


def test_every_part_is_there(text):
    parsed = ParsedPage(text)
    sections = [attributes["id"] for tag, attributes in parsed.tags if tag == "section"]
    expected = ["clips", "classes", "errors", "tagging", "training", "durations", "run"]
    assert sections == expected
    links = [attributes["href"] for tag, attributes in parsed.tags if tag == "a"]
    assert links[: len(sections)] == [f"#{section}" for section in sections]
    places = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    assert {link.removeprefix("#") for link in links} <= places
    assert not parsed.open
    for word in (
        "pts_tfd_afl_esp", "Trained on demo for 40 epochs", "Validation", "Evaluation", "Event-F1",
        "AT-F1 from events", "Electric shaver toothbrush", "Macro", "Micro", "teacher → student",
        "Learning rate", "soundscape_0001.wav", "Precision and recall", "none",
    ):  # fmt: skip
        assert word in parsed.words, word
    assert 'class="missing"' not in text
    for kind in ("best", "stage", "mean", "knee", "esp"):
        assert f'<path class="mark {kind}"' in text
    assert '<path class="span"' in text and '<i class="swatch window">' in text
    assert parsed.words.index("Validation") < parsed.words.index("Evaluation")


def test_headline_scores_are_those_of_the_file(workdir, text):
    scores = json.loads((workdir / "eval/validation/scores.json").read_text())
    shown = re.findall(r"<span>([^<]*)</span><b>([^<]*)</b>", text)[:4]
    keys = ("event_f1", "segment_f1", "at_f1", "at_f1_events")
    names = ("Event-F1", "Segment-F1", "AT-F1", "AT-F1 from events")
    expected = [(n, f"{scores[k]['macro']:.1f}") for k, n in zip(keys, names, strict=True)]
    assert shown == expected


def test_rates_end_in_the_averages_of_the_file(tmp_path):
    rates = {"precision": {"macro": 10.0, "micro": 20.0}, "recall": {"macro": 30.0, "micro": 40.0}}
    (tmp_path / "eval/validation").mkdir(parents=True)
    _write_json(tmp_path / "meta.json", {"classes": ["Dog"]})
    event_f1 = {"macro": 15.0, "micro": 80 / 3, "classwise": {"Dog": 15.0}, **rates}
    _write_json(tmp_path / "eval/validation/scores.json", {"event_f1": event_f1})
    (scores,) = run_scores.class_scores(run_files.read_run(tmp_path))
    assert scores.rates.columns == ["Class", "Event, precision", "Event, recall"]
    assert scores.rates.footer == [["Macro", "10.0", "30.0"], ["Micro", "20.0", "40.0"]]


def test_self_contained(text):
    for tag, attributes in ParsedPage(text).tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                assert value.startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"https?:|@import|url\(", text)


def test_nothing_is_named_twice(text):
    tags = ParsedPage(text).tags
    assert sum(tag == "svg" for tag, _ in tags) > 20
    named = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(named) == len(set(named)) > sum(tag == "section" for tag, _ in tags)


def test_same_files_same_page(workdir, text):
    assert report.write_report(workdir).read_text(encoding="utf-8") == text
    assert sorted(path.name for path in workdir.glob("*report*")) == ["report.html"]
    assert not list(workdir.glob(".*"))


def test_everything_is_escaped(tmp_path):
    classes = (EVIL, "Dog & <b>cat</b>", "]]></style><script>")
    path = make_workdir(
        tmp_path / "<i>run", classes=classes, splits={EVIL.replace("/", ""): 9}, odd_name=EVIL
    )
    meta = json.loads((path / "meta.json").read_text())
    evil = {"system": EVIL, "data": EVIL, "clips": {EVIL: 3}}
    _write_json(path / "meta.json", meta | evil)
    _write_json(path / "config.json", {EVIL: EVIL})
    _write_json(
        path / "adaptive_weights.json",
        {
            "epoch": 20,
            "gamma": 2.0,
            "focal_form": "paper",
            "clips": {EVIL: 3},
            "classes": classes,
            "probability": [3, 1, 2],
            "weight": [1, 2, 3],
        },
    )
    with (path / "metrics.jsonl").open("a") as file:
        file.write(
            json.dumps({"kind": "train", "step": 9999, f"weak/{EVIL}": 1.0, EVIL: 2.0}) + "\n"
        )
    text = report.write_report(path).read_text(encoding="utf-8")
    parsed = ParsedPage(text)
    assert "<script" not in text and "<b>cat" not in text and "<i>run" not in text
    assert not parsed.open
    assert EVIL in parsed.words  # in an element
    values = [value for _, attributes in parsed.tags for value in attributes.values() if value]
    assert f"Log-mel of {EVIL}" in values  # in an attribute
    svg = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert markupsafe.escape(EVIL) in svg and "<script" not in svg


def drawn(macro: str, *values: object) -> str:
    """What a macro of the pages makes of plain data."""
    source = "{% import 'macros.html' as ui %}{{ ui." + macro + "(*values) }}"
    return environment().from_string(source).render(values=values)


def test_cells_are_escaped():
    cells = [Code("<a>"), "a<b", None, 3, Noted(5, "<i>"), Bar(50.0), Bar(None)]
    made = drawn("table", Listing("<b>", ["<u>"], [cells], class_='"x'))
    assert '<table class="&#34;x">' in made
    assert "<caption>&lt;b&gt;</caption>" in made and '<th scope="col">&lt;u&gt;</th>' in made
    assert made.count("<tr>") == 2 and "<tfoot>" not in made
    assert (
        '<tr><th scope="row"><code>&lt;a&gt;</code></th><td>a&lt;b</td><td></td><td>3</td>'
        "<td>5<small>&lt;i&gt;</small></td>"
        '<td class="bar" style="--fill:0.500">50.0</td>'
        '<td class="bar" style="--fill:0.000">–</td></tr>'
    ) in made


def test_what_is_measured_has_charts_where_it_is_logged(tmp_path):
    def titles(**values):
        rows = [{"kind": "train", "step": n, "loss": 1.0, **values} for n in (1, 2)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
        charts = run_curves.training_curves(run_files.read_run(tmp_path))
        return {c.title: [key.text for key in c.keys] or c.described for c in charts}

    alone = titles(**{"distillation/tfd": 0.5})
    assert alone.keys() == {"Loss: the weighted sum", "Distillation of features: TFD"}
    place = "measures/distillation/tfd/"
    values = {"teacher_norm": 8.0, "student_norm": 7.0, "relative_distance": 0.9}
    values |= {"teacher_rank": 3.0, "student_rank": 2.0}
    found = titles(**{"distillation/tfd": 0.5}, **{place + k: v for k, v in values.items()})
    relative = "Distillation, TFD: relative distance (0: equal, 1: at right angles)"
    assert found.pop(relative).endswith("relative distance ends at 0.9.")
    both = ["teacher", "student"]
    assert found == alone | {
        "Distillation, TFD: norms of the mapped features": both,
        "Distillation, TFD: rank of the mapped features (1: one direction)": both,
    }
    # And what an objective of one's own measures.
    own = titles(**{"measures/heard/low": 1.0, "measures/heard/high": 2.0, "measures/gain": 3.0})
    assert own["Measured: heard"] == ["high", "low"]
    assert own["Measured"].endswith("gain ends at 3.")
    assert len(own) == 3


def test_missing_parts_are_named(tmp_path):
    _write_json(tmp_path / "meta.json", {"system": "pts", "classes": ["Dog"]})
    words = ParsedPage(report.write_report(tmp_path).read_text(encoding="utf-8")).words
    assert f"Nothing is scored yet: jfsed-jax evaluate --workdir {tmp_path}" in words
    assert "There are no tags yet: jfsed-jax evaluate" in words
    assert "There are no example clips yet: jfsed-jax evaluate" in words
    assert "Nothing is logged yet: jfsed-jax train" in words
    assert "There are no windows yet: jfsed-jax train" in words


@pytest.mark.parametrize(
    "gone",
    ["config.json", "meta.json", "metrics.jsonl"]
    + [f"eval/validation/{name}" for name in (
        "scores.json", "events.tsv", "reference.tsv", "posteriors.npz", "examples.npz"
    )],
)  # fmt: skip
def test_any_file_may_be_missing(tmp_path, gone):
    path = make_workdir(tmp_path, splits={"validation": 3}, examples=1, num_epochs=4)
    (path / gone).unlink()
    assert not ParsedPage(report.write_report(path).read_text(encoding="utf-8")).open


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("meta.json", b"{"),
        ("meta.json", b"[1]"),
        ("meta.json", b'{"classes": 3}'),
        ("meta.json", b'{"classes": ["Dog"], "frame_rate": 0}'),
        ("meta.json", b'{"classes": ["Dog"], "front_end": {"clip_seconds": "ten"}}'),
        ("config.json", b"\xff\xfe"),
        ("meta.json", b'{"window_details": [{"label": "Dog"}], "durations": {}}'),
        ("adaptive_weights.json", b'{"epoch": 3}'),
        ("eval/validation/scores.json", b'{"event_f1": 3}'),
        ("eval/validation/scores.json", b'{"info": 3}'),
        ("eval/validation/scores.json", b'{"event_f1": {"macro": "high"}}'),
        ("eval/validation/posteriors.npz", b"PK\x03\x04 cut short"),
        ("eval/validation/examples.npz", b""),
        ("eval/validation/events.tsv", b"filename\tonset\tevent_label\n"),
        ("eval/validation/events.tsv", b"filename\tonset\toffset\tevent_label\na.wav\t2\t1\tDog\n"),
        ("eval/validation/events.tsv", b"filename\tonset\toffset\tevent_label\na.wav\t1\t2\tDog\n"),
    ],
)
def test_damaged_file_is_named(tmp_path, capsys, file, content):
    path = make_workdir(tmp_path, splits={"validation": 3}, examples=1, num_epochs=4)
    (path / file).write_bytes(content)
    assert cli.main(["report", f"--workdir={path}"]) == 2
    message = capsys.readouterr().err
    assert file in message and message.count("\n") == 1
    assert not (path / "report.html").exists()


def test_arrays_of_another_class_list_are_refused(tmp_path):
    path = make_workdir(tmp_path, splits={"validation": 3}, examples=1)
    meta = json.loads((path / "meta.json").read_text())
    _write_json(path / "meta.json", meta | {"classes": meta["classes"][:-1]})
    with pytest.raises(InputError, match=r"posteriors.npz: expected 'clip' of shape \[3, 9\]"):
        report.write_report(path)


def test_metrics_of_a_run_that_was_killed(tmp_path):
    lines = [
        {"kind": "train", "step": 1, "loss": 3.0},
        {"kind": "train", "step": 2, "loss": 2.0},
        {"kind": "validation", "step": 2, "selection": 5.0},
        {"kind": "train", "step": 2, "loss": 1.0},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"kind": "tra'
    (tmp_path / "metrics.jsonl").write_text(text)
    run = run_files.read_run(tmp_path)
    assert [(row["step"], row["loss"]) for row in run.train] == [(1, 3.0), (2, 1.0)]
    assert len(run.validation) == 1


@pytest.mark.parametrize("damaged", ["nonsense", '{"kind": "train", "loss": 1.0}', "[1]"])
def test_a_damaged_row_of_the_metrics_costs_that_row_alone(tmp_path, damaged, caplog):
    rows = ['{"kind": "train", "step": 1, "loss": 3.0}', damaged]
    rows += ['{"kind": "train", "step": 3, "loss": 1.0}', ""]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows))
    assert [row["step"] for row in run_files.read_run(tmp_path).train] == [1, 3]
    assert "metrics.jsonl, row 2: expected a JSON object" in caplog.text


def test_a_flipped_bit_of_the_arrays_is_damage(tmp_path):
    """Any bit: what is not seen by chance is a name or a date of the archive."""
    path = make_workdir(tmp_path, splits={"validation": 3}, examples=1, num_epochs=4)
    file = path / "eval/validation/posteriors.npz"
    whole = file.read_bytes()
    refused = 0
    for position in range(0, len(whole), max(1, len(whole) // 200)):
        flipped = bytearray(whole)
        flipped[position] ^= 4
        file.write_bytes(flipped)
        try:
            run_files.read_run(path)
        except InputError as error:
            assert "posteriors.npz" in str(error)
            refused += 1
    assert refused > 100


def test_confusion_matrix_by_hand():
    # Clips: A alone, right; A taken for B; A and B, tagged B and C; C, nothing; none, tagged A.
    reference = [[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]]
    predicted = [[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]]
    expected = [[1.0, 1.5, 0.5, 0.0], [0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]]
    np.testing.assert_array_equal(
        confusion_matrix(np.array(reference), np.array(predicted)), expected
    )


def test_confusion_map_by_hand():
    # Clips: A, right; A taken for B; B, nothing, twice; none, tagged A.
    reference = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]], bool)
    tagged = np.array([[1, 0], [0, 1], [0, 0], [0, 0], [1, 0]], bool)
    drawn_map = confusion_map(["A", "B"], reference, tagged, caption="t")
    assert [[cell.text for cell in row.cells] for row in drawn_map.rows] == [
        ["50", "50", ""],
        ["", "", "100"],
    ]
    assert [row.clips for row in drawn_map.rows] == [2, 2]
    assert drawn_map.note == "Not shown: 1 clips without a true class."


def test_confusion_rows_sum_to_the_clips_of_a_class():
    rng = np.random.default_rng(0)
    reference, predicted = rng.random((2, 50, 7)) < 0.3
    matrix = confusion_matrix(reference, predicted)
    np.testing.assert_allclose(matrix.sum(axis=1), reference.sum(axis=0))


@pytest.mark.parametrize(("tau", "marked"), [(2.0, True), (-1.0, False)])
def test_the_focal_stage_is_marked_where_a_run_has_one(tmp_path, tau, marked):
    path = make_workdir(tmp_path, splits={"validation": 3}, examples=0, num_epochs=4)
    _write_json(path / "config.json", {"epochs": 4, "loss": {"tau": tau}})
    text = report.write_report(path).read_text(encoding="utf-8")
    assert ("focal from here" in text) == ('<path class="mark stage"' in text) == marked


@pytest.mark.parametrize("chooser", ["validation", "holdout"])
def test_the_clips_that_chose_the_weights_are_named(tmp_path, chooser):
    path = make_workdir(tmp_path, splits={"validation": 3}, examples=0, num_epochs=4)
    _write_json(path / "config.json", {"epochs": 4, "evaluation": {"select_on": chooser}})
    words = ParsedPage(report.write_report(path).read_text(encoding="utf-8")).words
    on_scored = chooser == "validation"
    assert ("did best on the validation clips, which are scored too." in words) == on_scored
    assert ("did best on the held-out clips." in words) != on_scored


def test_of_equally_good_weights_the_later_ones_are_told(tmp_path):
    """As `evaluate` loads them: `checkpoints.choose_step`."""
    rows = [
        {"kind": "validation", "step": s, "selection": v}
        for s, v in ((1, 5), (2, 9), (3, 9), (4, 8))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_curves.best_row(run_files.read_run(tmp_path))["step"] == 3


def _write_durations(path: Path, durations: dict[str, np.ndarray]) -> None:
    """The meta.json of a run with strong labels of these durations in seconds."""
    options = {"frame_rate": RATE, "options": defaults.rule_options()}
    windows = window_rules.class_windows(durations, **options)
    _write_json(
        path,
        {
            "classes": list(durations),
            "frame_rate": RATE,
            "window_details": [window._asdict() for window in windows],
            "durations": {label: times.tolist() for label, times in durations.items()},
        },
    )


@pytest.mark.parametrize(("count", "first"), [(12, "c0"), (13, "c12")])
def test_of_many_classes_the_commonest_is_shown_first(tmp_path, count, first):
    # Class i has i + 1 events.
    durations = {f"c{i}": np.linspace(1.0, 2.0, i + 1) for i in range(count)}
    _write_durations(tmp_path / "meta.json", durations)
    found = run_figures.class_durations(run_files.read_run(tmp_path))
    assert found.charts[0].title == first
    assert [row[0] for row in found.listing.rows] == list(durations)


def test_duration_figure_marks_mean_knee_and_window(tmp_path):
    # 9 events of 1 s and one of 9 s: the knee is at 1 s after 9 events, the mean is 1.8 s.
    _write_durations(tmp_path / "meta.json", {"Dog": np.array([0.9] + [1.0] * 8 + [9.0])})
    text = report.write_report(tmp_path).read_text(encoding="utf-8")
    words = ParsedPage(text).words
    assert "knee 1.00 s (9 of 10)" in words
    assert "avg 35 frames (0.58 s), ESP 19 (0.32 s)" in words
    assert "<title>mean of all: 1.79 s</title>" in text
    # The plot ends at 1.02 * 9 s.
    knee = re.search(
        r'transform="translate\(([\d.]+) ([\d.]+)\)"><title>knee: 1.00 s</title>', text
    )
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    assert float(knee[1]) == pytest.approx(LEFT + across * 1.0 / 9.18, abs=0.06)
    assert float(knee[2]) == pytest.approx(HEIGHT - BOTTOM - up * 0.9, abs=0.06)


def test_clip_lanes_share_the_time_axis():
    lane = Lane("Dog", [(2.5, 5.0)], [(9.0, 12.0)], np.array([0.0, 0.0, 1.0, 0.5]))
    figure = drawn("clip", clip_picture("a.wav", np.zeros((600, 64)), [lane], seconds=10.0))
    assert 'class="event reference" style="left:25.00%;width:25.00%"' in figure
    assert 'class="event predicted" style="left:90.00%;width:10.00%"' in figure
    assert 'd="M0 100V100H2V0H3V50H4V100Z"' in figure
    assert "Dog: reference 2.50–5.00 s; predicted 9.00–12.00 s" in figure


def test_events_outside_the_clip_have_no_width():
    lane = Lane("Dog", [(-2.0, -1.0)], [(11.0, 12.0)])
    (drawn_lane,) = clip_picture("a.wav", None, [lane], seconds=10.0).lanes
    assert [event.width for event in drawn_lane.events] == ["0.00", "0.00"]


def test_clips_that_are_heard_bring_a_script_and_the_policy_that_lets_it_run(tmp_path):
    make_workdir(tmp_path, splits={"validation": 4}, examples=2, num_epochs=4, odd_name=EVIL)
    path = tmp_path / "eval/validation/examples.npz"
    kept = dict(np.load(path))
    # Of the first clip; the second has none.
    np.savez(path, **kept, sound=np.frombuffer(b"OggS", np.uint8), sound_ends=np.array([4, 4]))
    text = report.write_report(tmp_path).read_text(encoding="utf-8")
    page = ParsedPage(text)
    assert not page.open
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (policy,) = [a["content"] for _, a in page.tags if "http-equiv" in a]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert dict(part.split(" ", 1) for part in policy.split("; ")) == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "media-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    (sound,) = [attributes for tag, attributes in page.tags if tag == "audio"]
    assert sound["src"] == "data:audio/ogg;base64,T2dnUw=="
    assert sound["aria-label"] == f"Sound of {EVIL}"
    lanes = [a for _, a in page.tags if a.get("class") == "lanes"]
    assert [a.get("data-seconds") for a in lanes] == ["10.0", None]


def test_many_classes_are_folded(tmp_path):
    classes = tuple(f"class_{i:02d}" for i in range(50))
    path = make_workdir(tmp_path, classes=classes, splits={"validation": 20}, examples=6)
    text = report.write_report(path).read_text(encoding="utf-8")
    assert "38 more classes" in text and "2 more clips" in text
    assert 'class="matrix dense"' in text
    assert len(text) < 2_000_000


def test_chart_of_constant_and_missing_values():
    step = np.arange(3.0)
    flat = Series("flat", step, np.zeros(3))
    holes = Series("holes", step, np.array([1.0, np.nan, np.inf]))
    none = Series("none", step[:0], step[:0])
    for series in ([flat, holes, none], []):
        chart = drawn("chart", line_chart("t", series, x_label="x", y_label="y"))
        assert "nan" not in chart and "inf" not in chart


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], (["0.0", "0.5", "1.0"], "")),
        ([0, 5e-4, 1e-3], (["0.0", "0.5", "1.0"], "×10⁻³")),
        ([0, 2e-4], (["0", "2"], "×10⁻⁴")),
        ([0, 20000], (["0", "20\u202f000"], "")),
        ([0], (["0"], "")),
    ],
)
def test_tick_labels(values, expected):
    assert tick_labels(values) == expected


def test_command_prints_the_path(workdir, capsys):
    assert cli.main(["report", "--workdir", str(workdir)]) == 0
    assert capsys.readouterr().out.strip() == str(workdir / "report.html")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--workdir is missing"),
        (["--workdir=absent"], "absent: no such folder"),
        (["--workdir=."], "holds no run"),
        (["--workdir=.", "extra"], "unexpected argument 'extra'"),
    ],
)
def test_command_refuses(tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_report_needs_no_jax():
    script = """
import importlib, pkgutil, sys
from jfsed_jax import report
for module in pkgutil.iter_modules(report.__path__, "jfsed_jax.report."):
    importlib.import_module(module.name)
assert "matplotlib.figure" in sys.modules
print(*{"jax", "flax", "matplotlib.pyplot"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert not done.stdout.strip()
