"""Recordings longer than a clip: cut into clips, end to end, with every label accounted for."""

import json

import numpy as np
import pytest
from data_folder import (
    STRONG,
    TINY,
    WEAK,
    contents,
    make_folder,
    noise,
    prepare,
    rows,
    write_audio,
    write_text,
)

from jfsed_jax import datasets
from jfsed_jax.audio.host import log_mel
from jfsed_jax.datasets import extraction, pipeline, shards
from jfsed_jax.datasets.selection import holdout_split
from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import Event

# Clips have 1 s. Each event of s1 is in one clip, in two, in three, or past the end.
EVENTS = """\
s1.wav	0.2	0.4	Dog
s1.wav	0.9	1.0	Cat
s1.wav	0.8	1.3	Dog
s1.wav	1.5	3.25	Cat
s1.wav	2.0	2.5	Dog
s1.wav	3.2	3.9	Dog
"""


@pytest.fixture
def long(data):
    """The strong s1 has 3.3 s, the weak w1 2.5 s, the unlabelled u1 2 s and v0 2.2 s."""
    seconds = {"train/synthetic/s1": 3.3, "train/weak/w1": 2.5}
    seconds |= {"train/unlabel_in_domain/u1": 2.0, "validation/v0": 2.2}
    for number, (name, length) in enumerate(seconds.items()):
        write_audio(data / f"audio/{name}.wav", noise(length, seed=number))
    text = STRONG + "s0.wav\t0.1\t0.4\tDog\n" + EVENTS + "s2.wav\t0.2\t0.3\tDog\n"
    write_text(data / "metadata/train/synthetic.tsv", text)
    return data


def labels_of(clips):
    """(class, onset, offset) of each clip's events, to the millisecond."""
    found = []
    for item in (clips[i] for i in range(len(clips))):
        edges = zip(item["labels"], item["onsets"], item["offsets"], strict=True)
        found.append([(["Cat", "Dog"][c], round(a, 3), round(b, 3)) for c, a, b in edges])
    return found


def test_strong_labels_go_with_the_clips_and_are_cut_at_their_edges(long):
    prepared = prepare(long)
    clips = prepared.splits["synthetic"]
    assert clips.filenames == ["s0.wav", "s1.wav", "s1.wav", "s1.wav", "s1.wav", "s2.wav"]
    assert [clip.start for clip in clips.clips] == [0, 0, 1, 2, 3, 0]
    assert labels_of(clips)[1:5] == [
        [("Dog", 0.2, 0.4), ("Dog", 0.8, 1.0), ("Cat", 0.9, 1.0)],
        [("Dog", 0.0, 0.3), ("Cat", 0.5, 1.0)],
        [("Cat", 0.0, 1.0), ("Dog", 0.0, 0.5)],
        [("Cat", 0.0, 0.25), ("Dog", 0.2, 0.3)],
    ]
    tags = [clips[i]["clip_labels"].tolist() for i in range(6)]
    assert tags == [[0, 1], *[[1, 1]] * 4, [0, 1]]
    # In the recording's time, in one piece: what windows and scores are made of.
    assert Event("s1.wav", 1.5, 3.25, "Cat") in clips.events
    assert len(clips.reference) == 8 and clips.durations["s1.wav"] == 3.3
    counts = prepared.summary["synthetic"]
    wanted = {"listed": 3, "clips": 6, "long": 1, "events": 8, "shortened": 1, "dropped": 0}
    assert {key: counts.get(key, 0) for key in wanted} == wanted
    found = [row[2:] for row in rows(prepared) if "synthetic/s1" in row[0]]
    assert found == [["3.30 s", "a clip has 1 s; cut into 4 clips", "no"]]


def test_clips_lie_end_to_end_in_the_log_mel_of_the_recording(long):
    """So nothing is heard twice, and an edge between two clips is none."""
    prepared = prepare(long)
    samples = noise(3.3, seed=0)[:, 0]
    heard = extraction.read_audio(long / "audio/train/synthetic/s1.wav", 8000).waveform
    np.testing.assert_allclose(heard, samples, atol=1e-4)
    expected = log_mel(np.pad(heard, (0, 4 * 8000 - len(heard))), TINY)
    clips = prepared.splits["synthetic"]
    found = np.concatenate([clips[i]["mel"] for i in range(1, 5)])
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=1e-3)
    weak = prepared.splits["unlabel_in_domain"]
    assert [clip.filename for clip in weak.clips] == ["u0.wav", *["u1.wav"] * 2, *["w1.wav"] * 3]


def test_weak_labels_of_a_long_recording_are_not_guessed_and_not_lost_in_silence(long, caplog):
    prepared = prepare(long)
    assert prepared.splits["weak"].filenames == ["w0.wav", "w2.wav"]
    unlabelled = prepared.splits["unlabel_in_domain"]
    assert len(unlabelled) == 6 and all(clip.labels == () for clip in unlabelled.clips)
    # They are read from the shards of the weak set.
    expected, _ = extraction.extract_clips(long / "audio/train/weak/w1.wav", TINY)
    np.testing.assert_array_equal([unlabelled[i]["mel"] for i in range(3, 6)], expected)
    assert "do not say when" in caplog.text and "1, now 3 unlabelled clips: w1.wav" in caplog.text
    (lost,) = [row for row in rows(prepared) if row[4] == "yes"]
    assert lost[:3] == ["metadata/train/weak.tsv", "3", "Cat,Dog"]
    assert prepared.summary["weak"]["clips"] == 2
    assert prepared.summary["unlabel_in_domain"]["clips"] == 6
    with pytest.raises(InputError, match="1 flaws cost a clip or a label"):
        prepare(long, strict=True)
    assert datasets.load(prepared.directory).digests() == prepared.digests()


def test_weak_labels_that_hold_throughout_are_those_of_every_clip(long, caplog):
    text = (
        WEAK.replace("\n", "\tthroughout\n") + "w0.wav\tDog\t\nw1.wav\tCat,Dog\tyes\nw2.wav\tCat\n"
    )
    write_text(long / "metadata/train/weak.tsv", text)
    prepared = prepare(long, strict=True)
    weak = prepared.splits["weak"]
    assert weak.filenames == ["w0.wav", *["w1.wav"] * 3, "w2.wav"]
    assert [clip.labels for clip in weak.clips[1:4]] == [("Cat", "Dog")] * 3
    assert len(prepared.splits["unlabel_in_domain"]) == 3
    assert not caplog.records


@pytest.mark.parametrize("column", ["no", "", "perhaps"])
def test_of_labels_that_are_not_said_to_hold_throughout_none_is_used(long, column):
    text = f"filename\tevent_labels\tthroughout\nw0.wav\tDog\tyes\nw1.wav\tCat\t{column}\n"
    write_text(long / "metadata/train/weak.tsv", text + "w1.wav\tDog\tyes\n")
    prepared = prepare(long)
    assert prepared.splits["weak"].filenames == ["w0.wav"]
    noted = [row for row in rows(prepared) if "throughout is yes or no" in row[3]]
    assert [row[2] for row in noted] == [column] * (column == "perhaps")


def test_a_long_weak_recording_without_labels_is_one_in_which_no_class_occurs(long):
    write_text(long / "metadata/train/weak.tsv", WEAK + "w0.wav\tDog\nw1.wav\t\nw2.wav\tCat\n")
    assert len(prepare(long).splits["weak"]) == 5


def test_an_event_past_the_end_of_the_audio_is_a_loss_and_named(long, caplog):
    with open(long / "metadata/train/synthetic.tsv", "a") as file:
        file.write("s1.wav\t3.4\t3.8\tCat\n")
    write_text(long / "metadata/train/weak.tsv", WEAK + "w0.wav\tDog\nw2.wav\tCat\n")
    prepared = prepare(long)
    (lost,) = [row for row in rows(prepared) if row[4] == "yes"]
    assert lost[2:4] == [
        "3.4 3.8",
        "begins after the end of the audio at 3.3 s; dropped in training",
    ]
    assert "dropped in training: 1, of s1.wav" in caplog.text
    with pytest.raises(InputError, match="1 flaws cost a clip or a label"):
        prepare(long, strict=True)


@pytest.mark.parametrize(
    ("seconds", "clips"), [(0.5, 1), (1.0, 1), (1.09, 1), (1.11, 2), (2.0, 2), (2.09, 2), (2.2, 3)]
)
def test_what_is_left_over_is_a_clip_if_it_is_a_recording(seconds, clips):
    assert extraction.num_clips(seconds, TINY) == clips


def test_recordings_of_one_clip_are_stored_as_they_were(data):
    """A long one beside them changes the records of its own shard, and nothing is decoded twice."""
    before = contents(prepare(data).directory)
    write_audio(data / "audio/validation/v0.wav", noise(2.2))
    after = contents(prepare(data).directory)
    same = {name for name in before if before[name] == after.get(name)}
    assert {name.split("/")[0] for name in same if "/" in name} == {
        "weak", "unlabel_in_domain", "synthetic"
    }  # fmt: skip
    (name,) = [name for name in same if name.startswith("weak/") and name.endswith(".json")]
    manifest = json.loads(after[name])
    assert "clips" not in manifest["files"][0][3]


def test_nothing_is_done_twice_and_a_shard_with_a_long_recording_is_copied(long, decoded):
    directory = prepare(long).directory
    before, mels = contents(directory), prepare(long).splits["synthetic"]
    expected = [mels[i]["mel"] for i in range(6)]
    decoded.clear()
    assert contents(prepare(long).directory) == before and not decoded
    write_audio(long / "audio/train/synthetic/a.wav")
    with open(long / "metadata/train/synthetic.tsv", "a") as file:
        file.write("a.wav\t0.1\t0.2\tDog\n")
    clips = prepare(long).splits["synthetic"]
    assert decoded == ["a.wav"]
    np.testing.assert_array_equal([clips[i]["mel"] for i in range(1, 7)], expected)


def test_of_an_earlier_version_s_features_the_long_recordings_alone_are_made_anew(
    long, decoded, monkeypatch
):
    """It kept their first clip."""
    with monkeypatch.context() as patch:
        patch.setattr(extraction, "num_clips", lambda duration, front_end: 1)
        directory = prepare(long).directory
    assert len(datasets.load(directory).splits["synthetic"]) == 3
    decoded.clear()
    clips = prepare(long).splits["synthetic"]
    assert decoded == ["w1.wav", "u1.wav", "s1.wav", "v0.wav"]
    expected, _ = extraction.extract_clips(long / "audio/train/synthetic/s1.wav", TINY)
    np.testing.assert_array_equal([clips[i]["mel"] for i in range(1, 5)], expected)


def test_damage_to_a_clip_of_a_long_recording_costs_that_recording(long, decoded):
    prepared = prepare(long)
    before = contents(prepared.directory)
    mel = prepared.splits["synthetic"][3]["mel"]
    (shard,) = prepared.directory.glob("synthetic/*.array_record")
    damaged = bytearray(shard.read_bytes())
    damaged[damaged.index(mel.tobytes()) + 700] ^= 1
    shard.write_bytes(damaged)
    decoded.clear()
    assert contents(prepare(long, verify=True).directory) == before
    assert decoded == ["s1.wav"]
    assert shards.read_manifest(shard)


def test_clips_of_one_recording_are_held_out_together(tmp_path):
    """Else a run is selected by what it has all but heard."""
    data = tmp_path / "data"
    make_folder(data)
    text = STRONG
    for number in range(6):
        write_audio(data / f"audio/train/synthetic/s{number}.wav", noise(2.0, seed=number))
        text += f"s{number}.wav\t0.1\t1.9\tDog\n"
    write_text(data / "metadata/train/synthetic.tsv", text)
    clips = prepare(data).splits["synthetic"]
    for seed in range(5):
        train, held = holdout_split(clips, 0.4, seed)
        assert len(held) == 4 and not set(train.filenames) & set(held.filenames)


def test_batches_hold_the_labels_of_their_clips(long):
    strong = prepare(long).splits["synthetic"]
    arrays = pipeline.all_clips(
        {"strong": strong}, {"strong": 1}, num_classes=2, frame_rate=TINY.frame_rate
    )
    active = arrays["frame_labels"].sum(axis=1).tolist()
    # Frames of 10 ms: of cats 0.1 s and 1.75 s, of dogs 0.2 s, 0.5 s, 0.5 s and 0.1 s.
    assert active[1:5] == [[10, 40], [50, 30], [100, 50], [25, 10]]
