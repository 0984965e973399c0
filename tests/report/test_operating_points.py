"""Which thresholds and decoder a run's page tells, of scores of every kind."""

import numpy as np
import pytest
from scored_workdir import write_scored

from jfsed_jax.errors import InputError
from jfsed_jax.report.operating_points import misses_curves, thresholds_used
from jfsed_jax.report.run_clips import kept_clips
from jfsed_jax.report.run_scores import headlines
from jfsed_jax.runs.saved_run import read_run

CLIPS = {"a.wav": [(1.0, 2.0, "Dog")]}
PAGE = {"rule": "avg", "threshold": 0.3}
FILE = {"decoder": "median", "classes": {"Cat": {"threshold": 0.6}, "Dog": {"threshold": 0.9}}}
TOLD = {"reference": "v.tsv", "metric": "event_f1"}


def read(folder, info, **options):
    return read_run(write_scored(folder, CLIPS, CLIPS, info=info, postprocess=PAGE, **options))


@pytest.mark.parametrize(
    ("info", "used", "told"),
    [
        ({}, {"Dog": 0.3, "Cat": 0.3}, "windows from mean durations (avg)"),
        ({"thresholds": [0.2, 0.7]}, {"Dog": 0.2, "Cat": 0.7}, "thresholds tuned on the clips"),
        (
            {"decoder": "median", "decoder_file": FILE, "decoder_tuned": TOLD},
            {"Dog": 0.9, "Cat": 0.6},
            "median windows of a decoder file, tuned for event_f1 on v.tsv",
        ),
        # Of confidences, which no lane has.
        (
            {"decoder": "change_points", "decoder_file": FILE},
            {},
            "change points of a decoder file, weights",
        ),
        (
            {"decoder": "change_points", "postprocess": "change points"},
            {},
            "change points, weights",
        ),
        ({"decoder": "handed in"}, {}, "(avg)"),
    ],
)
def test_thresholds_are_those_that_decided(tmp_path, info, used, told):
    run = read(tmp_path / "w", info)
    assert thresholds_used(run, run.splits[0]) == used
    assert told in headlines(run)[0].conditions
    # Held-out clips help where it is the config's decoder and medians that are told of.
    assert misses_curves(run) == ("decoder_file" not in info and bool(used))


def test_lanes_have_the_thresholds_that_decided(tmp_path):
    folder = tmp_path / "w"
    write_scored(folder, CLIPS, CLIPS, postprocess=PAGE, examples=["a.wav"])
    np.savez(
        folder / "eval/eval/posteriors.npz",
        filenames=["a.wav"], clip=np.ones((1, 2)), frames=np.full((1, 20, 2), 0.5),
    )  # fmt: skip
    [[clip]] = kept_clips(read_run(folder), None)
    assert [lane.threshold for lane in clip.picture.lanes] == ["70"]


def test_damaged_thresholds_are_named(tmp_path):
    run = read(tmp_path / "w", {"thresholds": [0.1]})
    with pytest.raises(InputError, match=r"scores.json or .*config.json are damaged"):
        thresholds_used(run, run.splits[0])
