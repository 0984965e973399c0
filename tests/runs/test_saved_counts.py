"""What each clip counts, of files that were worked out by hand; files that do not fit."""

import numpy as np
import pytest
from scored_workdir import write_scored

from jfsed_jax.errors import InputError
from jfsed_jax.runs.saved_counts import clip_head_tags, read_counts
from jfsed_jax.runs.saved_run import read_run

REFERENCE = {"a.wav": [(1.0, 2.0, "Dog")], "b.wav": [(3.0, 4.0, "Cat")], "c.wav": []}
# Found: the dog in a, a cat in c that is not there. Not found: the cat in b.
FOUND = {"a.wav": [(1.1, 2.1, "Dog")], "c.wav": [(0.0, 5.0, "Cat")]}
CLASSES, ORDER = ["Cat", "Dog"], ["c.wav", "b.wav", "a.wav"]
# Reference, estimated, matched of Cat and of Dog, in that order.
CAT_MADE_UP, CAT_MISSED, DOG_FOUND, NOTHING = [0, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]
EVENTS = np.array([[CAT_MADE_UP, NOTHING], [CAT_MISSED, NOTHING], [NOTHING, DOG_FOUND]])


def split_of(workdir, **kwargs):
    write_scored(workdir, REFERENCE, kwargs.pop("found", FOUND), **kwargs)
    return read_run(workdir).splits[0]


def save(folder, **changes):
    content = {"filenames": ORDER, "classes": CLASSES, "event_f1": EVENTS, "segment_f1": EVENTS}
    content |= changes
    np.savez(folder.counts, **{key: value for key, value in content.items() if value is not None})


def test_counts_follow_the_clips_and_classes_that_are_asked_for(tmp_path):
    tags = {"c.wav": (0.4, 0.6), "a.wav": (0.5, 0.1), "b.wav": (1, 1)}
    split = split_of(tmp_path / "W", tags=tags)
    counts = read_counts(split.folder, CLASSES, ORDER, clip_head_tags(split, ["Dog", "Cat"]))
    np.testing.assert_array_equal(counts["event_f1"], EVENTS)
    np.testing.assert_array_equal(counts["at_f1_events"], EVENTS)
    # 0.5 is no tag; the head's classes are those of the run, Dog first.
    tagged = [[CAT_MADE_UP, NOTHING], [[1, 1, 1], [0, 1, 0]], [NOTHING, [1, 0, 0]]]
    np.testing.assert_array_equal(counts["at_f1"], tagged)


def test_counts_that_evaluate_saved_are_read_in_the_same_order(tmp_path):
    folder = split_of(tmp_path / "W").folder
    seconds = 7 * EVENTS  # as no events of these files have
    save(folder, segment_f1=seconds, of_a_later_version=np.zeros(3))
    counts = read_counts(folder, CLASSES[::-1], ["b.wav", "a.wav", "c.wav"])
    np.testing.assert_array_equal(counts["segment_f1"], seconds[[1, 2, 0]][:, ::-1])
    assert set(counts) == {"event_f1", "segment_f1"}
    for content in (b"", b"PK", folder.counts.read_bytes()[:-30]):
        folder.counts.write_bytes(content)
        with pytest.raises(InputError, match=r"counts.npz is damaged"):
            read_counts(folder, CLASSES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"segment_f1": None}, r"expected the arrays .*\['segment_f1'\] missing"),
        ({"event_f1": EVENTS.sum(-1)}, r"integers of shape \(3, 2, 3\) in 'event_f1'"),
        ({"at_f1": EVENTS[:2]}, r"in 'at_f1', found int64 of \(2, 2, 3\)"),
        ({"event_f1": EVENTS * np.nan}, "found float64 of"),
        ({"event_f1": EVENTS.astype(str)}, "found <U"),
        ({"filenames": ["c.wav", "b.wav", "x.wav"]}, "of other clips or classes .'a.wav'"),
        ({"filenames": "c.wav"}, r"integers of shape \(1, 2, 3\)"),
        ({"event_f1": EVENTS[::-1] * [0, 1, 1]}, "counts 0 reference and 2 predicted events, refe"),
        ({"event_f1": EVENTS * [1, 2, 1]}, "2 reference and 4 pred.*have 2 and 2; delete it or ev"),
    ],
)
def test_counts_that_do_not_fit_are_refused(tmp_path, changes, said):
    folder = split_of(tmp_path / "W").folder
    save(folder, **changes)
    with pytest.raises(InputError, match=rf"counts.npz.*{said}"):
        read_counts(folder, CLASSES)


def test_tags_of_clips_that_were_cut_are_not_those_of_recordings(tmp_path):
    split = split_of(tmp_path / "W", tags={"a.wav_0": (1, 0), "a.wav_10": (0, 0)})
    assert clip_head_tags(split, CLASSES) is None


def test_events_of_a_clip_that_is_not_scored_name_their_row(tmp_path):
    folder = split_of(tmp_path / "W", found={"x.wav": [(1.0, 2.0, "Dog")]}).folder
    with pytest.raises(InputError, match=r"events.tsv, row 2: the clip 'x.wav'"):
        read_counts(folder, CLASSES)
