"""Decoder files: what is written is read again; what is no decoder file is refused in a line."""

import json
import os

import numpy as np
import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.sed.decoder_files import TunedDecoder, read_decoder, window_frames, write_decoder
from jfsed_jax.sed.events import Event

DOG = {"threshold": 0.1 + 0.2, "window": 0.3}
TUNED = TunedDecoder("median", 2, {"Dog": DOG, "Cat": {"threshold": 0.5, "window": 0.1}}, {"n": 3})


def test_what_is_written_is_read_again(tmp_path):
    write_decoder(tmp_path / "d.json", TUNED)
    assert read_decoder(tmp_path / "d.json") == TUNED
    assert list(json.loads((tmp_path / "d.json").read_text())) == [
        "format", "decoder", "medians", "classes", "tuned",
    ]  # fmt: skip


def test_change_points_have_settings_of_their_own(tmp_path):
    settings = {"threshold": 0.4, "filter": 0.5, "merge_absolute": 0.1, "merge_relative": 2.0}
    tuned = TunedDecoder("change_points", 0, {"Dog": settings}, {})
    write_decoder(tmp_path / "d.json", tuned)
    assert read_decoder(tmp_path / "d.json") == tuned
    frames = np.zeros((1, 40, 1))
    frames[0, :20] = 0.45
    assert tuned.decode(["Dog"], 20.0)(None, frames, ["a"]) == [Event("a", 0.0, 1.0, "Dog")]
    in_frames = tuned.decode(["Dog"], 20.0, time_rate=1.0)
    assert in_frames(None, frames, ["a"]) == [Event("a", 0.0, 20.0, "Dog")]


@pytest.mark.parametrize("rate", [10.0, 15.625, 29.97, 60.0])
def test_windows_are_the_same_frames_at_their_rate_and_the_nearest_odd_ones_at_others(rate):
    frames = np.arange(1, 400, 2)
    assert window_frames(frames / rate, rate).tolist() == frames.tolist()
    assert window_frames(0.3, 10 * rate) % 2 == 1
    assert window_frames(np.array([0.0, 0.29, 0.3, 0.31]), 20.0).tolist() == [1, 5, 7, 7]


def test_it_decodes_by_class_whatever_their_order(tmp_path):
    frames = np.zeros((1, 40, 2))
    frames[0, 10:20, 0], frames[0, 30:32, 0] = 0.45, 1.0  # Cat: below 0.5, and too short for Dog
    frames[0, 10:20, 1], frames[0, 30:32, 1] = 0.45, 1.0
    decode = TUNED.decode(["Cat", "Dog"], 20.0)
    expected = [Event("a", 1.5, 1.6, "Cat"), Event("a", 0.5, 1.0, "Dog")]
    assert decode(None, frames, ["a"]) == expected
    in_frames = TUNED.decode(["Cat", "Dog"], 20.0, time_rate=1.0)
    assert in_frames(None, frames, ["a"])[1] == Event("a", 10.0, 20.0, "Dog")


def test_other_classes_are_refused():
    with pytest.raises(InputError, match="d.json has no settings for 'Bird'"):
        TUNED.check_classes(["Dog", "Cat", "Bird"], "d.json")
    with pytest.raises(InputError, match="d.json is for 'Cat' too"):
        TUNED.check_classes(["Dog"], "d.json")


def changed(**changes):
    content = {"format": 1, "decoder": "median", "medians": 2, "classes": {"Dog": DOG}}
    return json.dumps({k: v for k, v in (content | changes).items() if v is not ...})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\udcff", "is not JSON"),
        ("[1]", "is no decoder file"),
        ('{"event_f1": {}}', "is no decoder file"),
        (changed(format=2), "has format 2"),
        (changed(format=True), "has format True"),
        (changed(decoder="mean"), "the decoder is 'mean'"),
        (changed(decoder=["median"]), "the decoder is"),
        (changed(medians=...), "medians is None"),
        (changed(medians=10**6), "medians is 1000000"),
        (changed(classes={}), "classes is {}"),
        (changed(classes=[DOG]), "classes is"),
        (changed(classes={"Dog": 0.5}), "'Dog' has 0.5; expected threshold, window"),
        (changed(classes={"Dog": {"threshold": 0.5}}), "'Dog' has .'threshold'.; expected"),
        (changed(classes={"Dog": DOG | {"x": 1}}), "expected threshold, window"),
        (changed(classes={"Dog": DOG | {"threshold": 1.01}}), "threshold 1.01; expected 0 to 1"),
        (changed(classes={"Dog": DOG | {"threshold": float("nan")}}), "threshold nan"),
        (changed(classes={"Dog": DOG | {"threshold": True}}), "threshold True"),
        (changed(classes={"Dog": DOG | {"window": "1"}}), "window '1'; expected 0 to 60"),
        (changed(classes={"Dog": DOG | {"window": 1e300}}), "window 1e"),
        (changed(classes={"Dog": DOG | {"window": -(10**400)}}), "window -1000"),
        (changed(classes={"a\n" * 99: 1}), r"'a\\na"),
        (changed(tuned=[]), "tuned is"),
        (changed(windows=[3]), "has 'windows', which no decoder file has"),
        ('{"format": 1, "format": 1}', "'format' is there twice"),
    ],
)
def test_what_is_no_decoder_file_is_refused_in_a_line(tmp_path, text, expected):
    path = tmp_path / "d.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=expected) as raised:
        read_decoder(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400


def test_what_is_not_there_or_endless(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_decoder(path)
    (tmp_path / "long.json").write_bytes(b" " * (2**24 + 1))
    with pytest.raises(InputError, match="more than 16777216 bytes"):
        read_decoder(tmp_path / "long.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputError, match="a FIFO .*, not a file"):
        read_decoder(tmp_path / "pipe.json")
