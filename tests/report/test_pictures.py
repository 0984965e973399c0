"""Pictures: one contrast, scales in kHz and dB, and in words what is drawn."""

import base64
import io

import matplotlib.image
import numpy as np
import pytest
from html_page import ParsedPage

from jfsed_jax.report.clip_pictures import Lane, clip_keys, clip_picture
from jfsed_jax.report.heat_maps import heat_map
from jfsed_jax.report.rendering import environment, render_template
from jfsed_jax.report.spectrograms import (
    FINE,
    Contrast,
    frequency_ticks,
    known_bands,
    png_source,
    shared_contrast,
)


def brightness(source: str) -> np.ndarray:
    """Of a data URI's picture, <float>[rows, columns], first row on top."""
    content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    return matplotlib.image.imread(io.BytesIO(content))[..., :3].sum(-1)


def test_clips_of_one_contrast_can_be_compared():
    quiet = np.linspace(-8, -5, 200).reshape(20, 10)
    loud = quiet + 3
    shared = shared_contrast([quiet, loud])
    # 98 % of what lies between -8 and -2: percentiles 2 and 99.8 of 400 values.
    assert shared == pytest.approx(Contrast(-7.88, -2.012), abs=0.03)
    seen = [brightness(png_source(mel, shared)) for mel in (quiet, loud)]
    assert seen[0].max() <= seen[1].min() + 0.1  # where the one ends the other begins
    own = [brightness(png_source(mel)) for mel in (quiet, loud)]
    np.testing.assert_array_equal(own[0], own[1])


def test_a_picture_has_its_first_row_at_the_bottom_and_all_its_shades():
    image = np.tile(np.linspace(0.0, 1.0, FINE)[:, None], (1, 3))
    seen = brightness(png_source(image, Contrast(0.0, 1.0)))
    assert (np.diff(seen[:, 0]) < 0).all() and len(np.unique(seen)) == FINE


def test_values_that_are_not_finite_are_dark_and_do_not_count():
    mel = np.array([[0.0, 1.0, np.nan, -np.inf]])
    assert shared_contrast([mel]) == pytest.approx((0.02, 0.998))
    seen = brightness(png_source(mel))
    assert seen[0, 2] == seen[0, 3] == seen.min() < seen[0, 1]
    assert shared_contrast([np.full((2, 2), -np.inf)]) is not None
    assert shared_contrast([]) is None


def test_decibels_of_a_contrast():
    # A natural logarithm of magnitudes: ten times as much is ln 10, or 20 dB.
    assert Contrast(-3 * np.log(10), np.log(10)).text == "−80 to 0 dB"
    assert "log-mel, −80 to 0 dB" in [
        key.text for key in clip_keys(contrast=Contrast(-4 * np.log(10), 0.0))
    ]


def test_octaves_stand_where_their_bands_do():
    # 16 bands of 500 Hz: that of 4 kHz is the eighth, whose middle is at 7.5 / 16. A number that
    # would be cut is left out.
    ticks = frequency_ticks(np.arange(500.0, 8001.0, 500.0))
    assert ticks == [("4", "46.9"), ("2", "21.9"), ("1", "9.4")]
    assert frequency_ticks([]) == []


def test_bands_are_known_of_a_whole_front_end_alone():
    front_end = {
        **{"sample_rate": 16000, "n_fft": 1024, "win_length": 640, "hop_length": 256},
        **{"n_mels": 64, "fmin": 0.0, "fmax": 8000.0, "clip_seconds": 10.0, "log_offset": 1e-4},
    }
    assert len(known_bands(front_end)) == 64
    for gone in front_end:
        assert not len(known_bands({k: v for k, v in front_end.items() if k != gone}))
    assert not len(known_bands(front_end | {"n_mels": "<b>"}))


@pytest.mark.parametrize(
    ("seconds", "texts"),
    [
        (10.0, [*map(str, range(11))]),
        (7.3, ["0", "1", "2", "3", "4", "5", "6", "7.3"]),
        (1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.1, ["0", "0.02", "0.04", "0.06", "0.08", "0.1"]),
    ],
)
def test_a_time_axis_ends_with_its_length(seconds, texts):
    times = clip_picture("a.wav", None, [], seconds=seconds).times
    assert [text for text, _ in times] == texts
    assert times[-1][1] == "100.00"


def test_what_is_drawn_of_a_clip_stands_in_a_table_too():
    lanes = [
        Lane("Dog", [(0.5, 1.25)], [], np.array([0.0, 0.25, 0.875])),
        Lane("Cat", [], [(2.0, 3.0), (4.0, 5.0)], np.array([1.0, 1.0, 1.0])),
    ]
    listing = clip_picture("a.wav", None, lanes, seconds=10.0).listing
    assert list(listing.columns) == ["Class", "Reference", "Predicted", "Highest posterior"]
    assert listing.rows == [
        ["Dog", "0.50–1.25 s", "–", "0.88"],
        ["Cat", "–", "2.00–3.00 s, 4.00–5.00 s", "1.00"],
    ]
    # Of a data set, nothing is predicted.
    only = clip_picture("a.wav", None, [Lane("Dog", [(0.5, 1.25)])], seconds=10.0).listing
    assert list(only.columns) == ["Class", "Reference"]
    assert clip_picture("a.wav", None, [], seconds=10.0).listing is None


def test_a_lane_has_the_line_of_its_threshold():
    posterior = np.array([0.0, 1.0])
    lanes = [Lane("a", posterior=posterior, threshold=p) for p in (0.5, 0.35, None)]
    picture = clip_picture("a.wav", None, lanes, seconds=1.0)
    drawn = environment().from_string('{% import "macros.html" as ui %}{{ ui.clip(picture) }}')
    lines = [
        attributes["d"]
        for tag, attributes in ParsedPage(drawn.render(picture=picture)).tags
        if tag == "path" and attributes.get("class") == "threshold"
    ]
    assert lines == ["M0 50H2", "M0 65H2"]
    # A posterior of 1 reaches the top of the lane.
    assert picture.lanes[0].outline == "M0 100V100H1V0H2V100Z"


def test_numbers_of_a_dense_map_stand_in_a_table():
    names = [f"c{i}" for i in range(20)]
    shares = np.zeros((20, 20))
    shares[3, [1, 5, 7]] = 0.25, 0.7, 0.004
    shares[4] = np.nan
    drawn = heat_map(names, names, shares, caption="Tags", counts=[1] * 20)
    assert drawn.listing.rows[3:5] == [["c3", "c5 70, c1 25"], ["c4", "–"]]
    few = heat_map(names[:2], names[:2], np.eye(2), caption="Tags", counts=[1, 1])
    assert few.listing is None


def test_a_page_without_a_script_allows_none():
    page = ParsedPage(
        render_template(
            "table.html", title="", description="", heading="", notes=[], links=[], maps=[],
            paired=None, listing=heat_map(
                ["a"], [str(i) for i in range(20)], np.ones((1, 20)), caption="c", counts=[1]
            ).listing,
        )
    )  # fmt: skip
    (policy,) = [a["content"] for _, a in page.tags if "http-equiv" in a]
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    assert parts["default-src"] == parts["script-src"] == parts["media-src"] == "'none'"
    # What scrolls can be reached by keys, and has a name.
    scrolls = [a for _, a in page.tags if a.get("class") == "scroll"]
    assert [(a["tabindex"], a["aria-label"]) for a in scrolls] == [("0", "c")]
