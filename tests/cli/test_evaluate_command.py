"""What evaluate says of a decoder and writes for it, with a stub in place of a trained system."""

import pytest
from stub_detector import CLASSES, StubClips, active, make_detector, make_prepared

from jfsed_jax.cli import detection, process
from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.inference import detector as detectors
from jfsed_jax.inference import evaluation
from jfsed_jax.sed.decoder_files import TunedDecoder, write_decoder
from jfsed_jax.sed.events import Event

NOTHING_MERGED = {"filter": 0.1, "merge_absolute": 0.0, "merge_relative": 1.0}


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    """Runs the command over a detector whose config has these changes; its status and text."""
    reference = [Event(f"{i}.wav", 3 / 60, 15 / 60, "Cat") for i in range(10)]
    clips = StubClips([active(20, (3, 15))] * 10, reference=reference)
    prepared = make_prepared(validation=clips, synthetic=clips)
    monkeypatch.setattr(process, "start_jax_as_trained", lambda _: None)
    monkeypatch.setattr(evaluation, "prepare_for", lambda *_: prepared)

    def run(*flags, **changes):
        made = make_detector(tmp_path, meta={"clips": {"strong": 8}}, **changes)
        monkeypatch.setattr(detectors, "load", lambda *_, **__: made)
        status = cli.main(["evaluate", f"--workdir={tmp_path}", "--bootstrap=0", *flags])
        return status, "".join(capsys.readouterr()), made.workdir.thresholds.exists()

    return run


def test_of_a_decoder_file_it_is_said_what_it_is_and_no_other_thresholds_are_told(
    evaluate, tmp_path
):
    settings = {label: {"threshold": 0.5} | NOTHING_MERGED for label in CLASSES}
    told = {"reference": "v.tsv", "metric": "event_f1"}
    write_decoder(tmp_path / "d.json", TunedDecoder("change_points", 0, settings, told))
    status, text, curves = evaluate(f"--decoder={tmp_path / 'd.json'}")
    assert status == 0 and not curves
    assert "d.json (change points of a decoder file, tuned for event_f1 on v.tsv)\n" in text
    status, text, curves = evaluate()
    assert status == 0 and curves and "validation, avg windows\n" in text


def test_change_points_have_no_windows(evaluate):
    changes = {"postprocess.decoder": "change_points"}
    status, text, _ = evaluate(**changes)
    assert status == 0 and "validation, change points\n" in text
    status, text, _ = evaluate("--postprocess=esp", **changes)
    assert status == 2 and "--postprocess=esp names windows, and the decoder of" in text


def test_a_member_that_cannot_be_scored_costs_no_other(tmp_path, monkeypatch, capsys):
    for m in range(3):
        (tmp_path / f"members/{m}").mkdir(parents=True)
        (tmp_path / f"members/{m}/config.json").write_text("{}")
    scored = []

    def evaluate(args):
        if args.workdir.endswith("1"):
            raise InputError("members/1 holds no checkpoint")
        scored.append((args.workdir, args.score_files))

    monkeypatch.setattr(detection, "_evaluate", evaluate)
    out = tmp_path / "out"
    assert cli.main(["evaluate", f"--workdir={tmp_path}", f"--score_files={out}"]) == 2
    assert scored == [(str(tmp_path / f"members/{m}"), out / f"member{m}") for m in (0, 2)]
    assert "jfsed-jax evaluate: members/1 holds no checkpoint" in capsys.readouterr().err
