"""The rendered demo set: repeatable to the byte, and labelled where it sounds."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from jfsed_jax.datasets import demo
from jfsed_jax.errors import InputError
from jfsed_jax.sed.events import DCASE2019_CLASSES

COUNTS = {"num_weak": 2, "num_unlabelled": 1, "num_strong": 3, "num_validation": 2}


def _digests(directory):
    files = (p for p in sorted(directory.rglob("*")) if p.is_file())
    return {
        str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo")
    return demo.render(directory, seed=3, workers=1, progress=False, **COUNTS)


def test_layout_and_audio_format(rendered):
    audio = sorted(str(p.relative_to(rendered)) for p in rendered.rglob("*.flac"))
    assert audio == [
        "audio/train/synthetic/synthetic_0000.flac",
        "audio/train/synthetic/synthetic_0001.flac",
        "audio/train/synthetic/synthetic_0002.flac",
        "audio/train/unlabel_in_domain/unlabel_in_domain_0000.flac",
        "audio/train/weak/weak_0000.flac",
        "audio/train/weak/weak_0001.flac",
        "audio/validation/validation_0000.flac",
        "audio/validation/validation_0001.flac",
    ]
    for path in rendered.rglob("*.flac"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.frames) == (44100, 1, 441000)
        assert info.subtype == "PCM_16"
    columns = {
        "metadata/train/weak.tsv": ["filename", "event_labels"],
        "metadata/train/unlabel_in_domain.tsv": ["filename"],
        "metadata/train/synthetic.tsv": ["filename", "onset", "offset", "event_label"],
        "metadata/validation/validation.tsv": ["filename", "onset", "offset", "event_label"],
    }
    for table, expected in columns.items():
        assert list(pd.read_csv(rendered / table, sep="\t").columns) == expected
    assert not list(rendered.rglob("*.part"))


def test_weak_labels_are_the_classes_that_sound(rendered):
    rows = pd.read_csv(rendered / "metadata/train/weak.tsv", sep="\t")
    for index, row in enumerate(rows.itertuples()):
        planned = {event.label for event in demo.plan_clip(3, "weak", index)}
        assert set(row.event_labels.split(",")) == planned <= set(DCASE2019_CLASSES)


def test_same_seed_same_bytes_with_any_number_of_workers_and_clips(rendered, tmp_path):
    more = {**COUNTS, "num_weak": 3, "num_strong": 4}
    demo.render(tmp_path, seed=3, workers=2, progress=False, **more)
    first, second = _digests(rendered), _digests(tmp_path)
    audio = [name for name in first if name.endswith(".flac")]
    assert all(first[name] == second[name] for name in audio)
    # Streams must not collide: every clip is another one.
    assert len({second[name] for name in second if name.endswith(".flac")}) == 10
    other = demo.render_clip(4, "weak", 0, demo.plan_clip(4, "weak", 0))
    assert not np.array_equal(other, demo.render_clip(3, "weak", 0, demo.plan_clip(3, "weak", 0)))


def test_an_interrupted_render_goes_on_where_it_was(rendered, tmp_path):
    demo.render(tmp_path, seed=3, workers=1, progress=False, **COUNTS)
    kept = tmp_path / "audio/train/weak/weak_0000.flac"
    lost = tmp_path / "audio/train/weak/weak_0001.flac"
    before = kept.stat().st_mtime_ns
    lost.unlink()
    (tmp_path / "metadata/train/weak.tsv").unlink()
    demo.render(tmp_path, seed=3, workers=1, progress=False, **COUNTS)
    assert kept.stat().st_mtime_ns == before
    assert _digests(tmp_path) == _digests(rendered)


def test_a_folder_that_holds_something_else_is_refused(rendered, tmp_path):
    with pytest.raises(InputError, match="another demo set"):
        demo.render(rendered, seed=4, progress=False, **COUNTS)
    (tmp_path / "audio").mkdir()
    with pytest.raises(InputError, match="no demo.json"):
        demo.render(tmp_path, progress=False, **COUNTS)
    with pytest.raises(InputError, match="cannot be made"):
        demo.render(rendered / "demo.json", progress=False, **COUNTS)
    assert json.loads((rendered / "demo.json").read_text())["seed"] == 3


def test_the_energy_lies_between_onset_and_offset(rendered):
    rows = pd.read_csv(rendered / "metadata/train/synthetic.tsv", sep="\t")
    for index in range(COUNTS["num_strong"]):
        plan = demo.plan_clip(3, "synthetic", index)
        clip_rows = rows[rows.filename == demo.clip_name("synthetic", index)]
        assert len(clip_rows) == len(plan)
        audio, _ = soundfile.read(
            rendered / "audio/train/synthetic" / demo.clip_name("synthetic", index)
        )
        for event, row in zip(plan, clip_rows.itertuples(), strict=True):
            assert (event.label, row.onset, row.offset) == (
                row.event_label,
                pytest.approx(event.onset),
                pytest.approx(event.offset),
            )
            alone = demo.render_clip(3, "synthetic", index, [event], background=False)
            start, stop = round(row.onset * 44100), round(row.offset * 44100)
            assert not alone[:start].any() and not alone[stop:].any()
            assert np.square(alone[start:stop]).sum() > 0
        # The file is the mix of the parts, to half a step of 16 bits.
        mix = demo.render_clip(3, "synthetic", index, plan)
        assert np.abs(audio - mix).max() <= 1 / 32768


@pytest.mark.parametrize("label", DCASE2019_CLASSES)
def test_a_class_sounds_from_its_onset_to_its_offset(label):
    character = demo.CHARACTERS[label]
    for number, seconds in enumerate((character.shortest, character.median, character.longest)):
        length = round(seconds * demo.SAMPLE_RATE)
        sound = demo.render_event(label, length, np.random.default_rng(number))
        assert sound.shape == (length,) and sound.dtype == np.float32
        assert np.isfinite(sound).all()
        assert np.mean(np.square(sound)) == pytest.approx(1.0, rel=1e-3)
        # Within 25 dB of its own level in its first and in its last 60 ms, and nowhere silent for
        # longer than 0.2 s: one event, heard from end to end.
        edge = round(0.06 * demo.SAMPLE_RATE)
        for part in (sound[:edge], sound[-edge:]):
            assert np.mean(np.square(part)) > 10**-2.5
        block = round(0.05 * demo.SAMPLE_RATE)
        level = np.square(sound[: length // block * block]).reshape(-1, block).mean(1)
        quiet = "".join("q" if value < 10**-3.0 else "-" for value in level)
        assert "qqqqq" not in quiet


def test_plans_keep_their_promises():
    for index in range(200):
        plan = demo.plan_clip(0, "synthetic", index)
        assert 1 <= len(plan) <= 4
        assert sum(demo.CHARACTERS[event.label].lasting for event in plan) <= demo.MAX_LASTING
        for event in plan:
            assert 0 <= event.onset < event.offset <= demo.CLIP_SECONDS
            assert event.offset - event.onset >= 0.25 - 1e-9
        for first in plan:
            for second in plan:
                if first.label == second.label and first.onset < second.onset:
                    assert second.onset - first.offset >= demo.SAME_CLASS_GAP - 1e-9
