"""Windows against published values and hand-worked ones."""

from pathlib import Path

import defaults
import numpy as np
import pytest

from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.sed import tables, window_rules
from jfsed_jax.sed.events import DCASE2019_CLASSES, Event

STRONG = Path(__file__).parents[3] / "shared/data/dcase2019/metadata/train/synthetic.tsv"
needs_dcase = pytest.mark.skipif(not STRONG.exists(), reason=f"no DCASE 2019 metadata: {STRONG}")


def dcase_durations():
    return window_rules.durations_by_class(tables.read_events(STRONG).events, DCASE2019_CLASSES)


def sizes(durations, rule, frame_rate=60, **kwargs):
    return window_rules.window_sizes(
        durations, rule, frame_rate=frame_rate, options=defaults.rule_options(), **kwargs
    ).tolist()


def class_windows(durations, frame_rate=60, **changes):
    return window_rules.class_windows(
        durations, frame_rate=frame_rate, options=defaults.rule_options(**changes)
    )


@needs_dcase
@pytest.mark.parametrize(
    ("frame_rate", "expected"),
    [
        (50, [17, 42, 17, 9, 16, 74, 85, 64, 18, 87]),
        (60, [21, 51, 21, 11, 19, 90, 103, 77, 22, 105]),
    ],
)
def test_avg_windows_are_those_of_guided_learning(frame_rate, expected):
    assert sizes(dcase_durations(), "avg", frame_rate) == expected


@needs_dcase
def test_windows_command(capsys):
    command = ["windows", f"--strong={STRONG}"]
    assert cli.main([*command, "--bootstrap=3"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    table, stability = [line for line in lines if line[:1] == ["Blender"]]
    assert table[1:3] == ["540", "2.58"] and table[-3:] == ["5", "51", "25"]
    assert len(stability) == 5
    for flags, message in [
        (["--knee=elbow"], "knee"),
        (["--frame_rate=0"], "frame_rate"),
        (["--strong=none.tsv"], "none.tsv cannot be read"),
    ]:
        assert cli.main([*command, *flags]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@needs_dcase
def test_esp_windows_of_dcase_2019(capsys):
    """Every knee counts, as in the paper's table 3; of the config and of the command."""
    expected = [13, 25, 17, 7, 11, 47, 68, 55, 19, 17]
    assert sizes(dcase_durations(), "esp") == expected
    assert cli.main(["windows", f"--strong={STRONG}"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [int(row[-1]) for row in rows if row and row[0] in DCASE2019_CLASSES] == expected


@needs_dcase
def test_windows_of_dcase_2019_with_clear_knees_alone():
    windows = class_windows(dcase_durations(), clear_knee=0.3)
    assert [w.esp for w in windows] == [13, 25, 17, 7, 11, 90, 103, 77, 19, 105]
    unclear = [window.label for window in windows if not window.clear_knee]
    assert unclear == [
        "Electric_shaver_toothbrush",
        "Frying",
        "Running_water",
        "Vacuum_cleaner",
    ]
    assert all(w.esp == w.avg and w.knee_index == w.num_events for w in windows if not w.clear_knee)
    assert sizes(dcase_durations(), "fixed") == [5] * 10


def test_durations_are_from_onset_to_offset_and_sorted():
    events = [
        Event("a.wav", 3, 5, "Cat"),
        Event("b.wav", 1, 1.5, "Cat"),
        Event("a.wav", 0, 9, "Cow"),
    ]
    found = window_rules.durations_by_class(events, ["Cat", "Dog"])
    assert {label: lengths.tolist() for label, lengths in found.items()} == {
        "Cat": [0.5, 2],
        "Dog": [],
    }


def test_chord_knee_by_hand():
    # CDF points (0, 0), (.1, .25), (.2, .5), (.3, .75), (1, 1): .75 - .3 above the chord.
    lengths = np.array([1, 2, 3, 4, 11.0])
    index, height = window_rules.chord_knee(lengths)
    assert (index, height) == (4, pytest.approx(0.45))
    (window,) = class_windows({"a": np.repeat(lengths, 20)})
    assert window.clear_knee and window.knee == 4.0 and window.knee_index == 80
    assert window.esp == int(int(2.5 * 60) * 0.333)
    assert window.avg == int(int(4.2 * 60) * 0.333)


@pytest.mark.parametrize(
    ("frame_rate", "eta", "avg", "esp"),
    [
        (60, 0.333, 83, 49),  # int(int(4.2 * 60) * 0.333), int(int(2.5 * 60) * 0.333)
        (43, 0.333, 59, 35),  # 4.2 s are 180 frames, 2.5 s are 107: truncated before eta, too
        (43, 0.5, 90, 53),
        (22050 / 512, 0.5, 90, 53),
        (10, 0.25, 10, 6),
        (100, 2.0, 840, 500),
    ],
)
def test_windows_at_another_hop_and_another_eta(frame_rate, eta, avg, esp):
    """Of durations of 4.2 s in the mean, and of 2.5 s up to the knee."""
    durations = {"a": np.repeat([1, 2, 3, 4, 11.0], 20), "b": np.array([])}
    (window, without) = class_windows(durations, frame_rate, eta=eta, fixed_frames=9)
    assert (window.avg, window.esp, window.fixed) == (avg, esp, 9)
    assert (without.avg, without.esp, without.fixed) == (9, 9, 9)
    options = defaults.rule_options(eta=eta)
    for rule, expected in ("avg", avg), ("esp", esp):
        found = window_rules.window_sizes(durations, rule, frame_rate=frame_rate, options=options)
        assert found[0] == expected
    # Of durations that are all alike every resample is the same.
    resampled = window_rules.resampled_knees(
        np.full(8, 4.2), frame_rate=frame_rate, options=options, num_resamples=3
    )
    assert resampled[:, 2].tolist() == [avg] * 3


def test_ties_at_the_knee_all_count():
    assert window_rules.chord_knee(np.array([1.0, 2, 2, 2, 10]))[0] == 4


def test_mode_knee_is_the_densest_duration():
    lengths = np.sort(np.concatenate([np.full(50, 2.0), np.linspace(1, 10, 30)]))
    index = window_rules.mode_knee(lengths)
    assert 1.8 <= lengths[index - 1] <= 2.2


@pytest.mark.parametrize("seed", range(3))
def test_uniform_durations_have_no_clear_knee(seed):
    lengths = np.random.default_rng(seed).uniform(0.5, 10, 400)
    (window,) = class_windows({"a": lengths}, clear_knee=0.3)
    assert not window.clear_knee and window.esp == window.avg


def test_a_knee_however_low_counts_by_default():
    # Heights above the chord: 0, 1/4 - 1/5, 1/2 - 2/5, 3/4 - 4/5, 0.
    (window,) = class_windows({"a": np.array([1.0, 3, 5, 9, 11])})
    assert window.height == pytest.approx(0.1)
    assert window.clear_knee and (window.knee_index, window.knee) == (3, 5.0)
    assert window.esp == int(int(3.0 * 60) * 0.333) == 59
    assert window.avg == int(int(5.8 * 60) * 0.333) == 115


def test_resampled_knees():
    rng = np.random.default_rng(0)
    lengths = np.sort(np.concatenate([rng.uniform(0.2, 1, 300), rng.uniform(1, 10, 30)]))
    kwargs = {"frame_rate": 60, "options": defaults.rule_options(), "num_resamples": 50, "seed": 1}
    found = window_rules.resampled_knees(lengths, **kwargs)
    again = window_rules.resampled_knees(lengths, **kwargs)
    np.testing.assert_array_equal(found, again)
    knee, share, window, height = found.mean(axis=0)
    index, expected_height = window_rules.chord_knee(lengths)
    assert knee == pytest.approx(lengths[index - 1], abs=0.2)
    assert share == pytest.approx(index / 330, abs=0.05)
    assert window == pytest.approx(
        window_rules.window_size(lengths[:index], frame_rate=60, eta=0.333), abs=2
    )
    assert height == pytest.approx(expected_height, abs=0.03)


@pytest.mark.parametrize("lengths", [[], [2.0], [2.0, 2.0, 2.0]])
@pytest.mark.parametrize("knee", ["chord", "mode"])
def test_classes_with_nothing_to_learn_from(lengths, knee):
    (window,) = class_windows({"a": np.array(lengths)}, knee=knee, fixed_frames=7)
    assert not window.clear_knee
    assert window.avg == window.esp == (39 if lengths else 7)
    if not lengths:
        assert (window.knee_index, window.knee, window.mean) == (0, 0, 0)


def test_intervals_of_knees_as_text():
    """From the 5th to the 95th percentile of each: of three values 0.1 of a step from the ends."""
    found = np.array([[1.0, 0.2, 11, 0.1], [2.0, 0.3, 21, 0.2], [3.0, 0.4, 31, 0.3]])
    assert window_rules.format_stability({"Cat": found}).splitlines() == [
        "class  knee in s     N_c / N       window     height",
        "Cat  1.10-2.90     0.21-0.39      12-30     0.11-0.29",
    ]


def test_a_window_is_at_least_one_frame():
    (window,) = class_windows({"a": np.array([0.01, 0.02])}, frame_rate=0.6)
    assert window.avg == window.esp == 1


def test_wrong_names():
    with pytest.raises(InputError, match="expected one of esp, avg, fixed"):
        sizes({}, "none")
    with pytest.raises(InputError, match="expected one of chord, mode"):
        class_windows({}, knee="elbow")


def test_a_rule_of_ones_own():
    def longest(lengths, *, frame_rate, options):
        return int(lengths[-1] * frame_rate) + options.fixed_frames

    rules = window_rules.RULES | {"longest": longest}
    durations = {"a": np.array([2.0, 0.5]), "b": np.array([])}
    # 2 s at 60 frames/s and the fixed 5; without events the fixed 5.
    assert sizes(durations, "longest", rules=rules) == [125, 5]
    assert sizes(durations, "avg", rules=rules) == [int(75 * 0.333), 5]
    with pytest.raises(InputError, match="expected one of esp, avg, fixed$"):
        sizes(durations, "longest")


def test_the_report_of_a_class_holds_the_windows_of_its_rules():
    lengths = np.repeat([1, 2, 3, 4, 11.0], 20)
    durations = {"a": lengths, "b": np.array([2.0])}
    windows = class_windows(durations)
    for rule in window_rules.RULES:
        assert [getattr(window, rule) for window in windows] == sizes(durations, rule)
    assert [window.label for window in windows] == ["a", "b"]


def test_a_clear_knee_exceeds_the_height_that_was_asked_for():
    # By hand: .75 - .3 above the chord.
    durations = {"a": np.array([1, 2, 3, 4, 11.0])}
    (window,) = class_windows(durations, clear_knee=0.449)
    assert (window.clear_knee, window.knee_index, window.knee) == (True, 4, 4.0)
    (window,) = class_windows(durations, clear_knee=0.451)
    assert (window.clear_knee, window.knee_index, window.knee) == (False, 5, 11.0)


def test_a_knee_of_just_the_height_that_was_asked_for_is_not_clear():
    # CDF points (0, 0), (.125, .25), (.25, .5), (.5, .75), (1, 1): .5 - .25 above the chord.
    durations = {"a": np.array([1, 2, 3, 5, 9.0])}
    (window,) = class_windows(durations, clear_knee=0.25)
    assert (window.height, window.clear_knee, window.knee_index) == (0.25, False, 5)


def test_the_knee_that_the_options_name_is_used():
    # Dense at 1 s, and bent at 2 s, after 90 of 100.
    lengths = np.sort(np.concatenate([np.full(50, 1.0), np.linspace(1, 2, 40), np.full(10, 9.0)]))
    densest = window_rules.mode_knee(lengths)
    assert 50 < densest < 70
    for knee, index in (("chord", 90), ("mode", densest)):
        (window,) = class_windows({"a": lengths}, knee=knee)
        assert window.clear_knee and window.knee_index == index
        resampled = window_rules.resampled_knees(
            lengths, frame_rate=60, options=defaults.rule_options(knee=knee), num_resamples=50
        )
        assert resampled[:, 1].mean() == pytest.approx(index / 100, abs=0.05)
