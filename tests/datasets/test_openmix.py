"""openmix: what may be mixed with what, labels that are true, the same samples everywhere.

The recordings are stand-ins made here, under the names of the real ones, as PCM: it is decoded to
the same integers by every library. ``JFSED_OPENMIX`` names a folder with ``esc10`` and ``fsdd``,
the two real sets, where they are at hand.
"""

import hashlib
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import defaults
import numpy as np
import pytest
import soundfile

from jfsed_jax import datasets
from jfsed_jax.cli import main as cli
from jfsed_jax.datasets import openmix, openmix_plan, openmix_sources, selection
from jfsed_jax.datasets.openmix_plan import GAP, GROUPS, REHEARSAL, SPLITS, Draws
from jfsed_jax.datasets.openmix_sources import BACKGROUND, BLOCK, SPEECH, Source
from jfsed_jax.errors import InputError
from jfsed_jax.sed.tables import read_events, read_table

COUNTS = {"weak": 8, "unlabel_in_domain": 3, "synthetic": 8, "validation": 2, "eval": 2}
TAKES = openmix_sources.TAKES  # the stand-ins have fewer
REAL = os.environ.get("JFSED_OPENMIX")
CC0 = "([CC0](http://creativecommons.org/publicdomain/zero/1.0/))"
SAMPLING = "([CC-Sampling+](http://creativecommons.org/licenses/sampling+/1.0/))"


def bursts(name, seconds, rate):
    """<int16>[N]: silence, noise of a second or less, silence, a shorter noise, silence."""
    size = round(seconds * rate)
    noise = (Draws(name).words(size) >> np.uint64(52)).astype(np.int64) - 2048
    loud = np.zeros(size, np.int64)
    loud[size // 10 : size * 5 // 10] = 4
    loud[size * 7 // 10 : size * 9 // 10] = 3
    return (noise * loud).astype(np.int16)


def write(path, samples, rate):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, format="WAV", subtype="PCM_16")


@pytest.fixture(scope="module")
def takes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openmix_sources, "TAKES", 2)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory, takes):
    """ESC-10 with four recordings of each class in a fold, some of them two cuts; FSDD."""
    root = tmp_path_factory.mktemp("recordings")
    lines = ["# ESC-10", "**File naming scheme:**"]
    for folder in openmix_sources.FOLDERS:
        lines.append(f"**{folder}**:")
        for fold in range(1, 6):
            kind = int(folder[:3])
            cuts = [f"{fold}-{kind}{fold}{n}-A" for n in range(4)] + [f"{fold}-{kind}{fold}0-B"]
            for name in cuts:
                path = root / f"esc10/{folder}/{name}.ogg"
                write(path, bursts(name, 1.2, 44100), 44100)
                credit = f"[{name} (a).wav](http://x/) by *someone* {CC0}"
                lines.append(
                    f"- **[{name}.ogg](http://x/{name}.ogg)**:  clip derived from {credit}"
                )
    lines.append(
        f"- **[1-99-A.ogg](http://x)**:  clip derived from [z](http://x/) by *z* {SAMPLING}"
    )
    (root / "esc10/README.md").write_text("\n".join(lines), encoding="utf-8")
    for speaker in openmix_sources.SPEAKERS:
        for digit in range(10):
            for take in range(2):
                name = f"{digit}_{speaker}_{take}"
                write(root / f"fsdd/recordings/{name}.wav", bursts(name, 0.4, 8000), 8000)
    return root / "esc10", root / "fsdd"


@pytest.fixture(scope="module")
def mixed(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("mixed")
    return openmix.mix(*folders, out, counts=COUNTS, workers=1, progress=False)


@pytest.fixture(scope="module")
def planner(folders):
    sources = openmix_sources.find_sources(*folders)
    found = {source.path: openmix._analyse(folders, source)[1] for source in sources}
    return openmix_plan.Planner(sources, found)


@pytest.fixture(scope="module")
def plans(planner):
    return {(name, i): planner.plan(name, i) for name, s in SPLITS.items() for i in range(s.clips)}


def pieces(plans, *splits):
    return [
        piece
        for (split, _), plan in plans.items()
        if split in splits
        for event in plan
        for piece in event.pieces
    ]


def samples(folder, split, index):
    audio, rate = soundfile.read(folder / openmix.clip_path(split, index), dtype="int16")
    assert rate == 44100
    return audio


def source_rows(folder):
    return [cells for _, cells in read_table(folder / "sources.tsv", openmix.SOURCE_COLUMNS).rows]


def text_digest(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


# What may be in what ----------------------------------------------------------------------------


def test_the_published_set_has_the_sizes_it_is_published_with():
    sizes = {name: split.clips for name, split in SPLITS.items()}
    assert sizes == {
        "weak": 160, "unlabel_in_domain": 960, "synthetic": 160, "validation": 240, "eval": 240
    }  # fmt: skip


def test_no_recording_and_no_speaker_crosses_from_training_to_validation_or_evaluation(plans):
    parts = [("weak", "unlabel_in_domain", "synthetic"), ("validation",), ("eval",)]
    for what in ("origin", "fold", "path"):
        found = [{getattr(piece.source, what) for piece in pieces(plans, *part)} for part in parts]
        assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]
    folds = {name: {piece.source.fold for piece in pieces(plans, name)} for name in SPLITS}
    assert folds == {
        "weak": {"2", "jackson"},
        "synthetic": {"1", "george"},
        "unlabel_in_domain": {"1", "2", "3", "george", "jackson", "lucas", "nicolas"},
        "validation": {"4", "theo"},
        "eval": {"5", "yweweler"},
    }


def test_the_rehearsal_holds_half_of_fold_3_and_a_speaker_out_and_nothing_that_is_reported(
    planner, plans
):
    # 60 clips a set: enough to hear every recording that it may use.
    rehearsal = openmix_plan.Planner(planner._sources, planner._sounding, REHEARSAL)
    heard = {
        split: {
            (piece.source.fold, piece.source.origin)
            for index in range(60)
            for event in rehearsal.plan(split, index)
            for piece in event.pieces
        }
        for split in REHEARSAL
    }
    training = heard["weak"] | heard["synthetic"] | heard["unlabel_in_domain"]
    assert not training & heard["validation"]
    assert {fold for fold, _ in heard["validation"]} == {"3", "nicolas"}
    assert "3" in {fold for fold, _ in heard["unlabel_in_domain"]}
    reported = {"4", "5", "theo", "yweweler"}
    assert not reported & {fold for own in heard.values() for fold, _ in own}
    for split in ("weak", "synthetic"):
        assert all(rehearsal.plan(split, i) == plans[split, i] for i in range(8))


def test_a_labelled_clip_keeps_to_its_group_of_recordings(plans):
    for split in ("weak", "synthetic"):
        groups = [set() for _ in range(GROUPS)]
        for (name, index), plan in plans.items():
            if name == split:
                groups[index % GROUPS] |= {p.source.origin for e in plan for p in e.pieces}
        assert len(set.union(*groups)) == sum(map(len, groups))


def test_cuts_of_one_recording_are_dealt_together_and_classes_evenly():
    cuts = [("a", 4), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]
    sources = [
        Source(f"{label}{name}{i}", f"{label}{name}", label, "1", "")
        for label in ("Dog", "Rain")
        for name, count in cuts
        for i in range(count)
    ]
    group_of = openmix_plan.deal(sources)
    for label in ("Dog", "Rain"):
        filled = Counter(group_of[source.origin] for source in sources if source.label == label)
        assert sorted(filled.values()) == [1, 1, 2, 4]
    assert group_of["Doga"] != group_of["Raina"]  # the largest of all classes not in one


def test_classes_and_events_of_a_clip(plans):
    number = Counter()
    occurs = Counter()
    for plan in plans.values():
        background, *events = plan
        assert background.label == BACKGROUND and -46 <= background.level <= -34
        labels = {event.label for event in events}
        number[len(labels)] += 1
        occurs.update(labels)
        for event in events:
            assert 0 <= event.onset < event.offset <= 1000 and 6 <= event.level <= 24
        for label in labels:
            own = [event for event in events if event.label == label]
            assert len(own) <= (1 if label in openmix_plan.LASTING else 4)
            for before, after in zip(own, own[1:], strict=False):
                assert after.onset - before.offset >= GAP
    assert len(occurs) == 10
    total = number.total()
    assert [number[n] / total for n in (1, 2, 3)] == pytest.approx([0.40, 0.42, 0.18], abs=0.04)
    # 1.78 classes in a clip, of eleven parts; Speech has two of them.
    assert occurs[SPEECH] / total == pytest.approx(0.31, abs=0.04)
    others = [occurs[label] / total for label in occurs if label != SPEECH]
    assert min(others) > 0.12 and max(others) < 0.21


# Labels that are true ---------------------------------------------------------------------------


def test_silence_around_a_recording_is_no_part_of_an_event(folders, planner):
    # Of 1.2 s, 0.12 to 0.6 s and 0.84 to 1.08 s are noise.
    source = next(s for s in planner._sources if s.label == "Dog")
    _, sounds = openmix._analyse(folders, source)
    assert openmix_plan.stretches(sounds, 15) == [(12, 60), (84, 108)]
    assert openmix_plan.stretches(sounds, 30) == [(12, 108)]


def test_an_event_sounds_from_onset_to_offset_and_nowhere_else(folders, plans):
    for key in [("synthetic", i) for i in range(12)] + [("eval", 0)]:
        background, *events = plans[key]
        quiet = background._replace(level=-70)  # so that nothing is turned down
        alone = openmix.mix_clip(folders, key, [quiet])
        for event in events:
            both = openmix.mix_clip(folders, key, [quiet, event])
            changed = np.flatnonzero(both != alone)
            assert changed[0] // BLOCK == event.onset
            assert changed[-1] // BLOCK == event.offset - 1
            # Each end is heard: within 25 dB of the event's own level in its second block.
            sound = openmix.mix_event(folders, event).astype(float)
            for edge in (sound[BLOCK : 2 * BLOCK], sound[-2 * BLOCK : -BLOCK]):
                assert np.mean(edge**2) > np.mean(sound**2) * 10**-2.5


def test_levels_are_those_planned(folders, plans):
    for key in [("synthetic", i) for i in range(6)]:
        background, *events = plans[key]
        quiet = background._replace(level=-60)
        alone = openmix.mix_clip(folders, key, [quiet]).astype(float)
        power = np.mean(alone**2)
        assert 10 * np.log10(power / 2**30) == pytest.approx(-60, abs=0.3)
        for event in events:
            both = openmix.mix_clip(folders, key, [quiet, event])
            sound = (both - alone)[event.onset * BLOCK : event.offset * BLOCK]
            level = 10 * np.log10(np.mean(sound**2) / 2**30) + 60
            assert level == pytest.approx(event.level, abs=0.1)


def test_a_lasting_sound_ends_as_it_begins_not_in_a_pause(planner):
    sources = [s for s in planner._sources if s.label == "Rain"]
    for i in range(40):
        source = sources[i % len(sources)]
        event = planner._lasting(Draws("pause", i), "Rain", source)
        (piece,) = event.pieces
        sounds = planner._sounding[source.path][piece.first : piece.stop]
        at, begin, end = openmix_plan.repeated(len(sounds), piece.start, piece.length)[-1]
        assert sounds[piece.start] and sounds[end - 1]
        assert at + end - begin == piece.length


def test_a_short_recording_is_repeated_until_the_event_is_filled():
    # A part of 20 blocks passes into its start in 5.
    assert openmix_plan.crossfade(20) == 5 and openmix_plan.crossfade(1000) == 50
    assert openmix_plan.repeated(20, 8, 10) == [(0, 8, 18)]
    assert openmix_plan.repeated(20, 8, 40) == [(0, 8, 20), (7, 0, 20), (22, 0, 18)]


# The same samples everywhere --------------------------------------------------------------------


def test_random_integers_are_those_of_splitmix64():
    draws = Draws()
    draws._state = 1234567
    # Of the reference implementation in C.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [draws.below(2**64) for _ in range(3)] == expected
    draws, alone = Draws("x"), Draws("x")
    words = draws.words(4)
    alone._state = alone.below(2**64)
    assert words.tolist() == [alone.below(2**64) for _ in range(4)]


def test_draws_keep_to_their_limits():
    draws = Draws("limits")
    assert {draws.between((-2, 1)) for _ in range(200)} == {-2, -1, 0, 1}
    found = Counter(draws.choose("abc", (1, 0, 3)) for _ in range(4000))
    assert found["b"] == 0 and found["c"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_powers_of_ten():
    for decibels in range(-70, 40):
        numerator, denominator = openmix_sources.power_ratio(decibels)
        assert numerator / denominator == pytest.approx(10 ** (decibels / 10), rel=1e-8)


def test_upsampling_keeps_a_tone():
    time = np.arange(8000) / 8000
    for hertz in (200, 1000, 3000):
        tone = np.rint(10000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)
        found = openmix_sources.upsample(tone)
        assert found.dtype == np.int16 and len(found) == 44100
        expected = 10000 * np.sin(2 * np.pi * hertz * np.arange(44100) / 44100)
        inner = slice(200, -200)
        assert np.abs(found[inner] - expected[inner]).max() < 60


def test_the_filter_is_the_stored_one():
    # Its coefficients come from sine and cosine, the only numbers that are not integers.
    found = openmix_sources.upsampling_filter()
    assert found.shape == (441, 32)
    assert openmix_sources.digest(found.astype(np.int16)) == "023fa9b3"


def test_halves_are_rounded_up_and_a_loud_clip_is_turned_down_as_a_whole():
    half = 2**15
    sums = np.array([half - 1, half, -half, -half - 1, 3 * half])
    assert openmix.to_int16(sums).tolist() == [0, 1, 0, -1, 2]
    loud = np.array([40000, -60000, 30, 0]) << 16
    # Times 29490 / 60000.
    assert openmix.to_int16(loud).tolist() == [19660, -29490, 15, 0]


def test_noise_is_brown_and_without_a_mean():
    noise = openmix.brown_noise(Draws("noise"), 441000).astype(float)
    assert abs(noise.mean()) < 0.05 * noise.std()
    power = np.abs(np.fft.rfft(noise)) ** 2
    octave = [power[low * 10 : low * 20].sum() for low in (100, 200, 400, 800)]
    falls = 10 * np.log10(np.array(octave[:-1]) / octave[1:])
    assert falls == pytest.approx(3, abs=1)  # dB an octave, of the sum over it


def test_labels_and_samples_are_the_stored_ones(mixed):
    tables = [(mixed / split.table).read_text() for split in SPLITS.values()]
    assert text_digest(*tables, (mixed / "sources.tsv").read_text()) == "924ed16ae0e8d3c8"
    found = {
        f"{split} {index}": openmix_sources.digest(samples(mixed, split, index))
        for split, index in [("weak", 0), ("unlabel_in_domain", 1), ("synthetic", 7), ("eval", 1)]
    }
    assert found == {
        "weak 0": "67a030e2",
        "unlabel_in_domain 1": "3bfa6768",
        "synthetic 7": "f9e33240",
        "eval 1": "35c42ce9",
    }


def test_any_number_of_processes_and_of_clips_gives_the_same(mixed, folders, tmp_path):
    more = COUNTS | {"weak": 9, "eval": 3}
    openmix.mix(*folders, tmp_path, counts=more, workers=2, progress=False)
    for split, count in COUNTS.items():
        for index in range(count):
            path = openmix.clip_path(split, index)
            assert (tmp_path / path).read_bytes() == (mixed / path).read_bytes()


@pytest.mark.skipif(not REAL, reason="JFSED_OPENMIX names no folder with esc10 and fsdd")
def test_the_published_set(tmp_path, monkeypatch):
    monkeypatch.setattr(openmix_sources, "TAKES", TAKES)
    folders = Path(REAL, "esc10"), Path(REAL, "fsdd")
    sources = openmix_sources.find_sources(*folders)
    found = [(source, openmix._analyse(folders, source)) for source in sources]
    assert openmix_sources.differing([(source, value) for source, (value, _) in found]) == []
    planner = openmix_plan.Planner(sources, {s.path: blocks for s, (_, blocks) in found})
    keys = [(name, i) for name, split in SPLITS.items() for i in range(split.clips)]
    plans = {key: planner.plan(*key) for key in keys}
    openmix._write_labels(tmp_path, plans)
    openmix._write_sources(tmp_path, plans)
    tables = [(tmp_path / split.table).read_text() for split in SPLITS.values()]
    assert text_digest(*tables, (tmp_path / "sources.tsv").read_text()) == "33b01e82ac2b3c52"
    clips = [
        openmix_sources.digest(openmix.mix_clip(folders, key, plans[key]))
        for key in keys
        if key[1] < 2
    ]
    assert " ".join(clips) == (
        "59f95016 08b3f056 ff7369c0 848b0737 650ed54b 31080b40 bef60dc1 1c1345b6 389d3c00 12fd0258"
    )


# Files ------------------------------------------------------------------------------------------


def test_layout_tables_and_sources(mixed, planner):
    for split, count in COUNTS.items():
        names = sorted(path.name for path in (mixed / SPLITS[split].audio).glob("*.flac"))
        assert names == [openmix.clip_name(split, index) for index in range(count)]
        info = soundfile.info(mixed / openmix.clip_path(split, 0))
        assert (info.samplerate, info.channels, info.frames) == (44100, 1, 441000)
    weak = dict(
        line.split("\t") for line in (mixed / SPLITS["weak"].table).read_text().splitlines()[1:]
    )
    for index in range(COUNTS["weak"]):
        labels = {event.label for event in planner.plan("weak", index)[1:]}
        assert weak[openmix.clip_name("weak", index)].split(",") == sorted(labels)
    strong = read_events(mixed / SPLITS["eval"].table)
    planned = [
        (openmix.clip_name("eval", index), event.onset / 100, event.offset / 100, event.label)
        for index in range(COUNTS["eval"])
        for event in planner.plan("eval", index)[1:]
    ]
    assert [tuple(event) for event in strong.events] == planned
    rows = source_rows(mixed)
    assert len({row["filename"] for row in rows}) == sum(COUNTS.values())
    for row in rows:
        assert re.fullmatch(r"(freesound/\d+|fsdd/\d_[a-z]+_\d)", row["source"])
    assert not list(mixed.rglob("*.tmp"))


def test_prepare_finds_nothing_to_complain_of(mixed, tmp_path):
    front_end = defaults.front_end(n_mels=8)
    prepared = datasets.prepare(
        mixed, front_end, features_dir=tmp_path, workers=1, progress=False, strict=True
    )
    # So few clips have some classes once, which could be misspelt; nothing else.
    problems = (tmp_path / "problems.tsv").read_text().splitlines()[1:]
    assert all("this class occurs in one row" in line for line in problems)
    assert {name: len(clips) for name, clips in prepared.splits.items()} == COUNTS
    assert any("sources.tsv" in line for line in prepared.conventions)
    assert datasets.load(tmp_path).splits["weak"].clips[0].origins  # without the data folder
    for split in ("weak", "synthetic"):
        clips = prepared.splits[split]
        train, held = selection.holdout_split(clips, 0.2, seed=0)
        assert len(held) == 2 and len(train) == 6
        origins = [
            {origin for i in part.indices for origin in clips.clips[i].origins}
            for part in (train, held)
        ]
        assert origins[1] and not origins[0] & origins[1]


def test_every_recording_is_credited_and_none_that_may_not_be_copied(mixed):
    page = (mixed / "CREDITS.md").read_text()
    files = {row["file"] for row in source_rows(mixed) if row["event_label"] != SPEECH}
    for path in files:
        name = Path(path).stem
        assert page.count(f"`{path}`") == 1
        assert f"[{name} (a).wav](http://x/) by *someone* {CC0}" in page
    assert "CC BY-SA 4.0" in page and "george" in page
    assert "1-99-A" not in page and "ampling" not in page


def test_an_interrupted_mix_goes_on_where_it_was(mixed, folders, tmp_path):
    def again():
        return openmix.mix(*folders, tmp_path, counts=COUNTS, workers=1, progress=False)

    def times():
        return {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}

    again()
    lost = [openmix.clip_path("synthetic", 3), "sources.tsv", SPLITS["weak"].table]
    for name in lost:
        (tmp_path / name).unlink()
    before = times()
    again()
    after = times()
    audio = [path for path in before if path.suffix == ".flac"]
    assert {path: after[path] for path in audio} == {path: before[path] for path in audio}
    for name in lost:
        assert (tmp_path / name).read_bytes() == (mixed / name).read_bytes()
    again()
    assert times() == after


# Bad input --------------------------------------------------------------------------------------


def test_a_folder_that_holds_something_else_is_refused(mixed, folders, tmp_path, monkeypatch):
    def mix(directory=mixed, counts=COUNTS):
        openmix.mix(*folders, directory, counts=counts, workers=1, progress=False)

    with pytest.raises(InputError, match="differs in clips .*delete the folder or choose"):
        mix(counts=COUNTS | {"weak": 4})
    with pytest.raises(InputError, match="differs in rehearsal"):
        openmix.mix(*folders, mixed, rehearsal=True, counts=COUNTS, progress=False)
    (tmp_path / "audio").mkdir()
    with pytest.raises(InputError, match="found audio but no openmix.json.*another folder"):
        mix(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file; expected a folder"):
        mix(tmp_path / "file")
    monkeypatch.setattr(openmix, "VERSION", 0)
    with pytest.raises(InputError, match="differs in openmix .*found 1, expected 0"):
        mix()
    assert json.loads((mixed / "openmix.json").read_text())["openmix"] == 1


def test_a_set_begun_with_other_recordings_is_not_gone_on_with(mixed, folders, monkeypatch):
    changed = openmix._analyse
    monkeypatch.setattr(openmix, "_analyse", lambda *given: ("00000000", changed(*given)[1]))
    with pytest.raises(InputError, match="differs in recordings"):
        openmix.mix(*folders, mixed, counts=COUNTS, workers=1, progress=False)


def test_wrong_folders_are_told_what_is_missing_and_where_to_get_it(folders, tmp_path, capsys):
    esc10, fsdd = folders
    out = tmp_path / "out"

    def message(*given):
        arguments = zip(("--esc10", "--fsdd", "--out"), (*given, out), strict=True)
        assert cli.main(["openmix", *(f"{flag}={value}" for flag, value in arguments)]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        return text

    text = message(tmp_path, tmp_path)  # both at once
    assert "looked for README.md and the recordings that it credits" in text
    assert "there is no README.md" in text
    assert "karolpiczak/ESC-10, commit 553c8f1" in text
    assert "as 'recordings/0_george_0.wav'; 120 of 120 files are missing" in text
    assert "Jakobovski/free-spoken-digit-dataset, commit 26eb9aa" in text
    (tmp_path / "README.md").write_text("ESC-10 has moved to ESC-50", encoding="utf-8")
    text = message(tmp_path, fsdd)
    assert "README.md credits none; get" in text and "--fsdd" not in text
    (tmp_path / "README.md").write_bytes((esc10 / "README.md").read_bytes())
    text = message(tmp_path, fsdd)
    assert "'001 - Dog bark/1-110-A.ogg'; 250 of 250 files are missing" in text
    assert not out.exists()


def test_a_recording_that_cannot_be_decoded_is_named(tmp_path):
    path = tmp_path / "1-2-A.ogg"
    path.write_bytes(b"version https://git-lfs")
    with pytest.raises(InputError, match=r"1-2-A.ogg cannot be decoded .*copy it again"):
        openmix_sources.read_samples(path)
    for data, rate in (np.ones((100, 2), np.int16), 44100), (np.ones(100, np.int16), 16000):
        write(tmp_path / "x.wav", data, rate)
        with pytest.raises(InputError, match="expected sound, mono at 44100 or 8000 Hz"):
            openmix_sources.read_samples.__wrapped__(tmp_path / "x.wav")


def test_a_decoder_that_differs_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(openmix.logging, "warning", lambda text, *args: told.append(text % args))
    sources = [Source("a/1-1-A.ogg", "freesound/1", "Dog", "1", "")] + [
        Source(f"recordings/{digit}_theo_0.wav", f"fsdd/{digit}_theo_0", SPEECH, "theo", "theo")
        for digit in range(2)
    ]
    found = list(zip(sources, ("11111111", "22222222", "33333333"), strict=True))
    monkeypatch.setattr(openmix_sources, "ESC10_DIGESTS", {"1-1-A": "11111111"})
    speakers = openmix_sources.speaker_digests(found)
    monkeypatch.setattr(openmix_sources, "FSDD_DIGESTS", speakers)
    openmix._tell_differences(found)
    assert told == []
    openmix._tell_differences([(source, "44444444") for source in sources])
    (text,) = told
    assert text.startswith("2 recordings or speakers are decoded to other samples")
    assert "1-1-A, theo" in text


def test_the_stored_digests_are_of_all_recordings_that_may_be_copied():
    stored = openmix_sources.ESC10_DIGESTS
    assert len(stored) == 398 and not stored.keys() & {"1-40730-A", "2-96460-A"}
    assert set(openmix_sources.FSDD_DIGESTS) == set(openmix_sources.SPEAKERS)


# The hold-out by source -------------------------------------------------------------------------


def clips(*origins):
    """A source of clips mixed from recordings that are letters."""
    own = [
        SimpleNamespace(filename=f"{i}.flac", origins=tuple(letters))
        for i, letters in enumerate(origins)
    ]

    class Clips(list):
        filenames = [f"{i}.flac" for i in range(len(own))]

    source = Clips(own)
    source.clips = own
    return source


def test_clips_that_share_a_recording_are_held_out_together():
    # a-b-c are joined by the third clip, d and e stand alone, the last names none.
    source = clips("ab", "c", "bc", "d", "dd", "e", "")
    assert selection._sharing(source) == [[0, 1, 2], [3, 4], [5], [6]]
    found = set()
    for seed in range(20):
        train, held = selection.holdout_split(source, 0.3, seed)
        assert sorted(train.indices + held.indices) == list(range(7))
        for group in [0, 1, 2], [3, 4]:
            assert len(set(group) & set(held.indices)) in (0, len(group))
        assert 1 <= len(held) <= 3
        found.add(tuple(held.indices))
    assert len(found) > 2
    assert selection.holdout_split(source, 0.0, 0)[1].indices == []


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_what_clips_reach_through_recordings_they_share(seed):
    """By the definition: the closure of sharing one, as a matrix; 40 clips of 45 recordings."""
    rng = np.random.default_rng(seed)
    of = rng.random((40, 45)) < 0.025
    of[:, 44] = of[:, 3]  # two that always come together
    reached = np.eye(40, dtype=bool) | (of.astype(int) @ of.T > 0)
    for _ in range(6):  # 2 to the 6 steps are more than there are clips
        reached = reached.astype(int) @ reached > 0
    expected = sorted({tuple(np.flatnonzero(row).tolist()) for row in reached})
    assert 1 < len(expected) < 40
    source = clips(*(tuple(f"r{i}" for i in np.flatnonzero(row)) for row in of))
    assert selection._sharing(source) == [list(group) for group in expected]


def test_groups_are_found_in_steps_that_grow_as_the_clips_do():
    def steps(count):
        """Lines of the module that are run for so many clips, two of one recording."""
        source, lines = clips("a", "a", *([f"r{i}"] for i in range(count))), 0

        def trace(frame, event, _):
            nonlocal lines
            lines += event == "line"
            return trace if frame.f_code.co_filename == selection.__file__ else None

        selection._sharing(source)  # what is loaded once
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            assert len(selection._sharing(source)) == count + 1
        finally:
            sys.settrace(before)
        return lines

    assert steps(400) < 3 * steps(200)


def test_the_smallest_group_is_held_out_if_all_are_too_large():
    source = clips(*"aaaaaaaaabb")
    for seed in range(4):
        assert selection.holdout_split(source, 0.1, seed)[1].indices == [9, 10]


def test_clips_that_all_share_recordings_are_held_out_one_by_one_and_it_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(selection.logging, "warning", lambda text, *args: told.append(text % args))
    held = selection.holdout_split(clips("ab", "bc", "cd", "da", "a"), 0.4, 0)[1]
    assert len(held) == 2
    assert told and "all 5 clips" in told[0]


@pytest.mark.parametrize("named", [False, True])
def test_other_folders_are_split_as_ever(named):
    source = clips(*[""] * 20)
    if not named:
        del source.clips
    held = selection.holdout_split(source, 0.2, 3)[1]
    assert held.indices == sorted(np.random.default_rng(3).permutation(20)[:4].tolist())


def test_a_table_of_that_name_that_is_something_else_is_noted(mixed, tmp_path):
    (tmp_path / "audio").symlink_to(mixed / "audio")
    (tmp_path / "metadata").symlink_to(mixed / "metadata")
    (tmp_path / "sources.tsv").write_text("who\twhere\tx\nme\there\t1\n")
    folder = datasets.folder.read_folder(tmp_path)
    (problem,) = [p for p in folder.problems if p.file == "sources.tsv"]
    assert problem.reason.startswith("not used: ") and not problem.skipped
    assert not any(clip.origins for split in folder.splits.values() for clip in split.clips)
