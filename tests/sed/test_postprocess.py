"""Windows against published values and hand-worked ones, medians against scipy, invariants."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.sed import postprocessing as pp
from jfsed_jax.sed import tables
from jfsed_jax.sed.events import DCASE2019_CLASSES, Event

STRONG = Path(__file__).parents[3] / "shared/data/dcase2019/metadata/train/synthetic.tsv"
needs_dcase = pytest.mark.skipif(not STRONG.exists(), reason=f"no DCASE 2019 metadata: {STRONG}")


def dcase_windows(frame_rate, **kwargs):
    durations = pp.durations_by_class(tables.read_events(STRONG).events, DCASE2019_CLASSES)
    return pp.class_windows(durations, frame_rate=frame_rate, **kwargs)


@needs_dcase
@pytest.mark.parametrize(
    ("frame_rate", "expected"),
    [
        (50, [17, 42, 17, 9, 16, 74, 85, 64, 18, 87]),
        (60, [21, 51, 21, 11, 19, 90, 103, 77, 22, 105]),
    ],
)
def test_avg_windows_are_those_of_guided_learning(frame_rate, expected):
    assert pp.window_sizes(dcase_windows(frame_rate), "avg").tolist() == expected


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
def test_esp_windows_of_dcase_2019():
    windows = dcase_windows(60)
    assert pp.window_sizes(windows, "esp").tolist() == [13, 25, 17, 7, 11, 90, 103, 77, 19, 105]
    unclear = [window.label for window in windows if not window.clear_knee]
    assert unclear == [
        "Electric_shaver_toothbrush",
        "Frying",
        "Running_water",
        "Vacuum_cleaner",
    ]
    assert all(w.esp == w.avg and w.knee_index == w.num_events for w in windows if not w.clear_knee)
    assert pp.window_sizes(windows, "fixed").tolist() == [5] * 10


def test_chord_knee_by_hand():
    # CDF points (0, 0), (.1, .25), (.2, .5), (.3, .75), (1, 1): .75 - .3 above the chord.
    lengths = np.array([1, 2, 3, 4, 11.0])
    index, height = pp.chord_knee(lengths)
    assert (index, height) == (4, pytest.approx(0.45))
    (window,) = pp.class_windows({"a": np.repeat(lengths, 20)}, frame_rate=60)
    assert window.clear_knee and window.knee == 4.0 and window.knee_index == 80
    assert window.esp == int(int(2.5 * 60) * 0.333)
    assert window.avg == int(int(4.2 * 60) * 0.333)


def test_ties_at_the_knee_all_count():
    assert pp.chord_knee(np.array([1.0, 2, 2, 2, 10]))[0] == 4


def test_mode_knee_is_the_densest_duration():
    lengths = np.sort(np.concatenate([np.full(50, 2.0), np.linspace(1, 10, 30)]))
    index = pp.mode_knee(lengths)
    assert 1.8 <= lengths[index - 1] <= 2.2


@pytest.mark.parametrize("seed", range(3))
def test_uniform_durations_have_no_clear_knee(seed):
    lengths = np.random.default_rng(seed).uniform(0.5, 10, 400)
    (window,) = pp.class_windows({"a": lengths}, frame_rate=60)
    assert not window.clear_knee and window.esp == window.avg


def test_resampled_knees():
    rng = np.random.default_rng(0)
    lengths = np.sort(np.concatenate([rng.uniform(0.2, 1, 300), rng.uniform(1, 10, 30)]))
    found = pp.resampled_knees(lengths, frame_rate=60, num_resamples=50, seed=1)
    again = pp.resampled_knees(lengths, frame_rate=60, num_resamples=50, seed=1)
    np.testing.assert_array_equal(found, again)
    knee, share, window, height = found.mean(axis=0)
    index, expected_height = pp.chord_knee(lengths)
    assert knee == pytest.approx(lengths[index - 1], abs=0.2)
    assert share == pytest.approx(index / 330, abs=0.05)
    assert window == pytest.approx(pp.window_size(lengths[:index], 60), abs=2)
    assert height == pytest.approx(expected_height, abs=0.03)


@pytest.mark.parametrize("lengths", [[], [2.0], [2.0, 2.0, 2.0]])
@pytest.mark.parametrize("knee", ["chord", "mode"])
def test_classes_with_nothing_to_learn_from(lengths, knee):
    (window,) = pp.class_windows({"a": np.array(lengths)}, frame_rate=60, knee=knee, fixed=7)
    assert not window.clear_knee
    assert window.avg == window.esp == (39 if lengths else 7)


def test_a_window_is_at_least_one_frame():
    (window,) = pp.class_windows({"a": np.array([0.01, 0.02])}, frame_rate=0.6)
    assert window.avg == window.esp == 1


def test_wrong_names_and_values():
    with pytest.raises(InputError, match="expected one of esp, avg, fixed"):
        pp.window_sizes([], "none")
    with pytest.raises(InputError, match="expected one of chord, mode"):
        pp.class_windows({}, frame_rate=60, knee="elbow")
    with pytest.raises(InputError, match="1 frame or more"):
        pp.odd_windows(np.array([3, 0]))
    with pytest.raises(InputError, match="from 0 to 1"):
        pp.postprocess(None, np.zeros((1, 2, 1)), np.array([1]), threshold=1.5)


def reference_postprocess(clip, frames, windows, threshold):
    """Figure 4 clip by clip and class by class, with scipy's median filter on the posteriors."""
    out = np.zeros(frames.shape, bool)
    for b in range(frames.shape[0]):
        for c in range(frames.shape[2]):
            size = int(windows[c]) | 1
            gated = frames[b, :, c].astype(np.float64) * (1.0 if clip is None else clip[b, c] > 0.5)
            smooth = ndimage.median_filter(gated, size=size, mode="reflect")
            decided = (smooth > threshold[c]).astype(np.uint8)
            out[b, :, c] = ndimage.median_filter(decided, size=size, mode="reflect")
    return out


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("gated", [True, False])
def test_postprocess_equals_scipy_clip_by_clip(dtype, gated):
    rng = np.random.default_rng(0)
    shape = (6, 150, 5)
    # Smooth noise, so that runs of many lengths occur.
    frames = ndimage.gaussian_filter1d(rng.normal(size=shape), 3, axis=1) * 3
    frames = (1 / (1 + np.exp(-frames))).astype(dtype)
    clip = rng.uniform(size=(6, 5)) if gated else None
    windows = np.array([1, 2, 7, 42, 290])
    threshold = np.array([0.5, 0.3, 0.5, 0.7, 0.5])
    detections = pp.postprocess(clip, frames, windows, threshold=threshold)
    expected = reference_postprocess(clip, frames, windows, threshold)
    np.testing.assert_array_equal(detections.decisions, expected)
    np.testing.assert_array_equal(detections.tags, expected.any(axis=1))
    assert expected.any() and not expected.all()


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 40))),
    st.integers(0, 50).map(lambda half: 2 * half + 1),
)
@example(np.array([[True, False]]), 17)
def test_binary_median_equals_scipy_and_mirrors(active, window):
    result = pp.binary_median(active, window)
    frames, half = active.shape[1], window // 2
    # The clip, its mirror image, the clip, ...: by hand, for scipy 1.17 reads past the end of its
    # buffer where the window is longer than two clips.
    mirrored = np.concatenate([active, active[:, ::-1]], axis=1)
    extended = mirrored[:, np.arange(-half, frames + half) % (2 * frames)]
    windows = np.lib.stride_tricks.sliding_window_view(extended, window, axis=1)
    np.testing.assert_array_equal(result, np.median(windows, axis=-1))
    if window <= 2 * frames:
        expected = ndimage.median_filter(active.astype(np.uint8), size=(1, window), mode="reflect")
        np.testing.assert_array_equal(result, expected.astype(bool))
    np.testing.assert_array_equal(pp.binary_median(active[:, ::-1], window), result[:, ::-1])


def test_window_one_is_the_identity():
    frames = np.random.default_rng(0).uniform(size=(2, 50, 3))
    decisions = pp.postprocess(None, frames, np.ones(3, int)).decisions
    np.testing.assert_array_equal(decisions, frames > 0.5)


@pytest.mark.parametrize("window", [1, 2, 3, 16, 42])
def test_mirrored_time_gives_mirrored_events(window):
    frames = ndimage.gaussian_filter1d(np.random.default_rng(1).uniform(size=(4, 120, 2)), 2, 1)
    frames[..., 1] += 0.05

    def events(x):
        found = pp.detect_events(
            None, x, np.array([window] * 2), filenames="abcd", classes=["x", "y"], frame_rate=60
        )
        return {
            (e.filename, round(e.onset * 60), round(e.offset * 60), e.event_label) for e in found
        }

    forward, backward = events(frames), events(frames[:, ::-1])
    assert forward and backward == {
        (f, 120 - off, 120 - on, label) for f, on, off, label in forward
    }


def test_gating_removes_untagged_classes():
    frames = np.full((2, 10, 2), 0.9)
    clip = np.array([[0.9, 0.5], [0.1, 0.51]])
    found = pp.detect_events(
        clip, frames, np.array([3, 3]), filenames=["a", "b"], classes=["x", "y"], frame_rate=10
    )
    assert found == [Event("a", 0.0, 1.0, "x"), Event("b", 0.0, 1.0, "y")]


def test_median_fills_gaps_and_drops_blips_by_hand():
    frames = np.array([0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 0])[None, :, None] * 0.8
    decisions = pp.postprocess(None, frames, np.array([3])).decisions[0, :, 0]
    assert decisions.astype(int).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]


def test_a_half_precision_posterior_meets_the_threshold_that_was_asked_for():
    frames = np.full((1, 4, 1), 0.3, np.float16)  # 0.300048828125
    assert pp.postprocess(None, frames, np.array([1]), threshold=0.3).decisions.all()
    assert not pp.postprocess(None, frames, np.array([1]), threshold=0.3001).decisions.any()
