"""PSDS and intersection F1 through the libraries that define them (extra `psds`)."""

import importlib.util
import json
import sys
import types
import warnings
from pathlib import Path

import pytest

from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.sed import intersection, psds, score_checks, score_files, tables, uncertainty
from jfsed_jax.sed.events import Event, merge_overlaps

SHARED = Path(__file__).parents[3] / "shared/data"
DESED = SHARED / "reference/desed_validation"
DCASE_2019 = SHARED / "dcase2019/metadata/validation/validation.tsv"
needs_both = pytest.mark.skipif(
    not (DESED.exists() and DCASE_2019.exists()), reason=f"no {DESED} or no {DCASE_2019}"
)
# psds_eval 0.5.3; Python shows nobody such a warning of a library.
OLD_NUMPY = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
CLASSES = ("Cat", "Dog")
DURATIONS = {"a.wav": 10.0, "b.wav": 10.0}
REFERENCE = [
    Event("a.wav", 1.0, 3.0, "Cat"),
    Event("a.wav", 2.0, 4.0, "Cat"),  # overlaps: joined
    Event("b.wav", 5.0, 6.0, "Dog"),
]


@pytest.fixture
def sed_scores_eval():
    if importlib.util.find_spec("sed_scores_eval") is None:
        pytest.skip("the extra psds is not installed")


@pytest.fixture
def sed_psds_eval(sed_scores_eval):
    if importlib.util.find_spec("psds_eval") is None:
        pytest.skip("the extra psds is not installed")


def test_steps_of_events():
    edges, steps = score_files.steps_of_events(REFERENCE[:2], CLASSES, duration=10.0)
    assert edges.tolist() == [0, 1, 2, 3, 4, 10]
    assert steps.T.tolist() == [[0, 1, 1, 1, 0], [0] * 5]


def test_intersection_f1_by_hand(sed_scores_eval):
    estimates = [
        Event("a.wav", 1.5, 4.0, "Cat"),
        Event("b.wav", 5.4, 6.4, "Dog"),  # 0.6 of each lies in the other
        Event("b.wav", 0.0, 1.0, "Dog"),
    ]
    result, counts = intersection.intersection_f1(
        REFERENCE, estimates, durations=DURATIONS, classes=CLASSES
    )
    assert result["classwise"] == {"Cat": pytest.approx(100), "Dog": pytest.approx(200 / 3)}
    assert result["macro"] == pytest.approx(250 / 3)
    assert result["precision"]["micro"] == pytest.approx(200 / 3)
    # The joined cat of a.wav; the dog of b.wav and one that is none.
    assert counts.tolist() == [[[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 2, 1]]]
    # A class of which nothing is detected scores zero.
    result, _ = intersection.intersection_f1(
        REFERENCE, estimates[:1], durations=DURATIONS, classes=CLASSES
    )
    assert result["classwise"] == {"Cat": pytest.approx(100), "Dog": 0}
    assert result["macro"] == pytest.approx(50)


def test_a_class_without_reference_events_is_not_in_the_mean(sed_scores_eval, tmp_path):
    estimates = [
        Event("a.wav", 1.5, 4.0, "Cat"),
        Event("b.wav", 5.4, 6.4, "Dog"),
        *(Event("b.wav", start, start + 1.0, "Cow") for start in (0.0, 0.5, 3.0)),
    ]
    classes = ("Cat", "Cow", "Dog")
    result, counts = intersection.intersection_f1(
        REFERENCE, estimates, durations=DURATIONS, classes=classes
    )
    assert result["classwise"] == {"Cat": pytest.approx(100), "Cow": None, "Dog": 100}
    assert result["macro"] == pytest.approx(100)
    # 2 found of 2, and 2 that are false: of the three cows two are one.
    assert result["micro"] == pytest.approx(100 * 4 / 6)
    assert result["notes"] == [
        "Intersection-F1 is undefined for Cow (no reference): not in the mean"
    ]
    assert counts[:, 1].tolist() == [[0, 0, 0], [0, 2, 0]]
    sampled = uncertainty.sample_scores([{"intersection_f1": counts}], num_resamples=0)
    for average in ("macro", "micro"):
        value = sampled[f"intersection_f1/{average}"].value
        assert value == pytest.approx(result[average])


@OLD_NUMPY
def test_operating_points_with_overlaps_by_hand(sed_psds_eval):
    whole = [Event("a.wav", 1.0, 4.0, "Cat"), REFERENCE[2]]
    halves = [Event("a.wav", 2.2, 4.0, "Cat"), Event("a.wav", 1.0, 2.5, "Cat"), REFERENCE[2]]
    for points in ([whole], [halves], [halves, whole, [], []]):
        result = psds.psds_of_operating_points(points, REFERENCE, DURATIONS)
        assert [result[name]["value"] for name in psds.SCENARIOS] == [1.0, 1.0]


@OLD_NUMPY
def test_overlaps_are_noted_once_for_each_kind_of_table(sed_psds_eval, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    joined = merge_overlaps(REFERENCE)
    tables.write_events("r.tsv", REFERENCE)
    tables.write_events("e.tsv", [*joined, joined[1]._replace(onset=5.5)])
    tables.write_events("points/0.1.tsv", joined)
    tables.write_events("points/0.2.tsv", [joined[1], *REFERENCE])
    tables.write_events("points/0.3.tsv", REFERENCE)
    tables.write_table("d.tsv", ["filename", "duration"], list(DURATIONS.items()))
    files = ["--reference=r.tsv", "--estimates=e.tsv", "--compare=points/0.3.tsv"]
    psds_of = ["--psds", "--durations=d.tsv", "--operating_points=points"]
    assert cli.main(["score", *files, *psds_of, "--json=s.json"]) == 0
    overlaps, so = "the event overlaps or touches another of its class", "PSDS and intersection F1"
    notes = json.loads(Path("s.json").read_text())["info"]["notes"]
    assert [note.rpartition("; ")[0] for note in notes] == [
        f"r.tsv, row 3 (a.wav, Cat): {overlaps}",
        f"e.tsv, row 4 (b.wav, Dog): {overlaps}",
        # The dog of row 2 is that of row 5.
        f"points/0.2.tsv, row 4 (a.wav, Cat): {overlaps}, as 2 more do",
    ]
    assert all(note.endswith(f"; {so} count what they join to") for note in notes)


@pytest.fixture
def stub_psds_eval(monkeypatch):
    """psds_eval's place, with what it is given and what it may warn of."""
    stub = types.SimpleNamespace(tables=[], warning=None)

    class Evaluator:
        def __init__(self, *criteria, ground_truth, metadata):
            stub.tables.append(ground_truth)

        def add_operating_point(self, table):
            stub.tables.append(table)

        def psds(self, *parameters):
            warnings.warn(stub.warning, FutureWarning, stacklevel=1)
            return types.SimpleNamespace(value=0.5)

    stub.PSDSEval = Evaluator
    monkeypatch.setitem(sys.modules, "psds_eval", stub)
    return stub


def test_one_warning_of_psds_eval_is_kept_from_users_and_no_other(stub_psds_eval):
    pytest.importorskip("pandas")
    stub_psds_eval.warning = "DataFrame.fillna with 'method' is deprecated and will raise"
    psds.psds_of_operating_points([REFERENCE], REFERENCE, DURATIONS)
    stub_psds_eval.warning = "Something else will raise"
    with pytest.warns(FutureWarning, match="Something else"):
        psds.psds_of_operating_points([REFERENCE], REFERENCE, DURATIONS)


def test_psds_eval_is_given_no_overlaps_and_no_list_twice(stub_psds_eval):
    pytest.importorskip("pandas")
    stub_psds_eval.warning = "DataFrame.fillna with 'method' is deprecated"
    joined = merge_overlaps(REFERENCE)
    cows = [*joined, Event("a.wav", 0.0, 1.0, "Cow")]
    result = psds.psds_of_operating_points([REFERENCE, joined, cows], REFERENCE, DURATIONS)
    given = [[Event(*row) for row in table.to_numpy()] for table in stub_psds_eval.tables]
    assert given == [joined, joined, merge_overlaps(cows)] * 2
    assert result["psds1"]["notes"] == ["PSDS is undefined for Cow (no reference)"]


@pytest.mark.parametrize("compiler", [True, False])
def test_without_the_extra_one_line_says_what_to_install(compiler, monkeypatch, tmp_path):
    """And, since no wheel exists, that a compiler comes first where there is none."""
    monkeypatch.setitem(sys.modules, "sed_scores_eval", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "c++ -O2")
    if compiler:
        (tmp_path / "c++").touch(mode=0o755)
    with pytest.raises(InputError, match="pip install") as error:
        intersection.intersection_f1(REFERENCE, [], durations=DURATIONS, classes=CLASSES)
    assert ("there is no c++: install a" in str(error.value)) != compiler


@needs_both
def test_what_dcase_2019_overlaps_joins_to_is_what_desed_corrected_it_to():
    table = tables.read_events(DCASE_2019)
    corrected = tables.read_events(DESED / "validation.tsv").events
    assert merge_overlaps(table.events) == sorted(corrected) and len(table.events) == 4236
    (note,) = score_checks.overlap_notes([("validation.tsv", table)])
    assert note.startswith(
        "validation.tsv, row 150 (Y2DF8mtDke8k_460.000_470.000.wav, Dishes): the event overlaps or "
        "touches another of its class, as 11 more do; PSDS and"
    )
    assert (
        score_checks.overlap_notes([("corrected", tables.EventTable(corrected, [], [], []))]) == []
    )


@needs_both
@OLD_NUMPY
def test_published_operating_points(sed_psds_eval, tmp_path, capsys):
    """With DCASE 2019's own labels; the scores were published with DESED's, without overlaps."""
    out = tmp_path / "scores.json"
    code = cli.main(
        [
            "score",
            "--psds",
            f"--reference={DCASE_2019}",
            f"--json={out}",
            f"--estimates={DESED / 'student_predictions_0.5.csv'}",
            f"--durations={DESED / 'validation_durations.tsv'}",
            f"--operating_points={DESED / 'student_operating_points'}",
        ]
    )
    assert code == 0
    result = json.loads(out.read_text())
    assert round(result["intersection_f1"]["macro"], 4) == 63.7417
    points = result["psds_operating_points"]
    assert round(points["psds1"]["value"], 6) == 0.334469
    assert round(points["psds2"]["value"], 6) == 0.528100  # psds_eval 0.5.3
    # Of the operating points 27 events begin in the silence that short clips are padded with.
    late, overlaps = result["info"]["notes"]
    assert "predictions_th_0.01.tsv, row 75" in late and "as 26 more do" in late
    assert "validation.tsv, row 150" in overlaps
    captured = capsys.readouterr()
    assert "PSDS2  0.528100   from operating points" in captured.out and captured.err == ""
