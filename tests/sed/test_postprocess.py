"""Medians against scipy, decisions against hand-worked ones, invariants."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from jfsed_jax.errors import InputError
from jfsed_jax.sed import postprocessing as pp
from jfsed_jax.sed.events import Event, frames_to_events


def test_wrong_values():
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


def test_white_noise_goes_through_both_medians():
    """On smooth posteriors the second median changes next to nothing."""
    frames = np.random.default_rng(0).uniform(size=(4, 400, 3))
    windows, classes, names = np.array([3, 7, 21]), ["x", "y", "z"], ["a", "b", "c", "d"]
    expected = frames > 0.5
    events = []
    for medians in range(4):
        found = pp.postprocess(None, frames, windows, medians=medians)
        np.testing.assert_array_equal(found.decisions, expected)
        decode = pp.median_decoder(windows, classes=classes, frame_rate=60.0, medians=medians)
        events.append(decode(None, frames, names))
        assert events[-1] == [
            event
            for name, active in zip(names, expected, strict=True)
            for event in frames_to_events(active, classes, frame_rate=60.0, filename=name)
        ]
        if medians == 2:
            twice = expected
        before = expected
        expected = np.stack(
            [
                ndimage.median_filter(before[:, :, c].astype(np.uint8), (1, size), mode="reflect")
                for c, size in enumerate(windows)
            ],
            axis=-1,
        ).astype(bool)
        if medians < 2:
            assert np.all(np.any(expected != before, axis=(0, 1)))  # in every class
    # Figure 4 has two, wherever nobody asks for another number.
    common = {"classes": classes, "frame_rate": 60.0}
    assert pp.median_decoder(windows, **common)(None, frames, names) == events[2]
    assert pp.detect_events(None, frames, windows, filenames=names, **common) == events[2]
    decisions = pp.postprocess(None, frames, windows).decisions
    np.testing.assert_array_equal(decisions, twice)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.5, np.array([0.5, 0.25])])
def test_a_posterior_of_exactly_its_threshold_is_not_active(dtype, threshold):
    exactly = np.broadcast_to(np.asarray(threshold, dtype), 2)
    above = np.nextafter(exactly, dtype(1))
    frames = np.stack([exactly, above, above, exactly])[None]
    found = pp.postprocess(None, frames, np.array([1, 1]), threshold=threshold)
    assert found.decisions[0].T.tolist() == [[False, True, True, False]] * 2
    assert found.tags.tolist() == [[True, True]]
    assert not pp.postprocess(
        None, frames[:, ::3], np.array([1, 1]), threshold=threshold
    ).tags.any()
    # A clip's tag too: of half a probability nothing is said.
    half = np.array([[0.5, np.nextafter(dtype(0.5), dtype(1))]], dtype)
    gated = pp.postprocess(half, np.ones((1, 4, 2), dtype), np.array([1, 1]))
    assert gated.tags.tolist() == [[False, True]]


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


def test_no_frames_stay_none():
    assert pp.binary_median(np.zeros((2, 0), bool), 5).shape == (2, 0)


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


@pytest.mark.parametrize("threshold", [0.5, np.array([0.2, 0.7])])
def test_the_papers_decoder_is_detect_events(threshold):
    frames = ndimage.gaussian_filter1d(np.random.default_rng(2).uniform(size=(3, 90, 2)), 2, 1)
    clip, names = np.array([[0.9, 0.9], [0.1, 0.9], [0.9, 0.4]]), ["a", "b", "c"]
    kwargs = {"classes": ["x", "y"], "frame_rate": 30.0, "threshold": threshold}
    decode: pp.Decode = pp.median_decoder(np.array([3, 5]), **kwargs)
    for gate in (clip, None):
        expected = pp.detect_events(gate, frames, np.array([3, 5]), filenames=names, **kwargs)
        assert decode(gate, frames, names) == expected and expected
