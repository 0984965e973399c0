"""Exported programs beside `predict`; what docs/export.md prints is what runs here."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.export
import learning_problem as problem
import numpy as np
import pytest
import soundfile
from stub_detector import ByMel, make_detector

import jfsed_jax as jf
from jfsed_jax.audio.host import log_mel
from jfsed_jax.cli import main as cli
from jfsed_jax.errors import InputError
from jfsed_jax.inference import export
from jfsed_jax.inference.recordings import recording_posteriors
from jfsed_jax.method.system import Models

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
CODE = dict(re.findall(r"^```python (\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def run(learnt_run, tmp_path_factory):
    """A folder with a run that has learnt something, and a recording of three clips and a bit."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "run").symlink_to(learnt_run)
    soundfile.write(folder / "recording.wav", problem.recording(), problem.RATE)
    return folder


@pytest.fixture(scope="module")
def detector(run):
    return jf.load(run / "run")


def mels(detector, count):
    front_end = detector.front_end
    waveforms = np.random.default_rng(0).normal(0, 0.1, (count, front_end.num_samples))
    return np.stack([log_mel(np.float32(waveform), front_end) for waveform in waveforms])


def test_a_process_with_jax_alone_finds_what_predict_finds(run, detector, tmp_path):
    """The page's code, where neither this package nor what it builds on can be imported."""
    command = ["export", f"--workdir={run / 'run'}", f"--output={tmp_path / 'detector.stablehlo'}"]
    assert cli.main([*command, "--postprocess=avg", "--threshold=Hiss=0.4"]) == 0
    waveform, _ = soundfile.read(run / "recording.wav", dtype="float32")
    np.save(tmp_path / "waveform.npy", waveform)
    barred = ["jfsed_jax", "flax", "optax", "orbax", "ml_collections", "librosa", "absl"]
    script = f"import sys\nsys.modules.update(dict.fromkeys({barred}))\n"
    script += CODE["loader"] + CODE["events"]
    script += """
found = posteriors(np.load("waveform.npy"), program, about)
np.save("frames.npy", found)
json.dump(list(events(found, about)), open("events.json", "w"))
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120)
    frames = np.load(tmp_path / "frames.npy")
    np.testing.assert_allclose(frames, recording_posteriors(detector, waveform), atol=1e-5)
    found = [tuple(event) for event in json.loads((tmp_path / "events.json").read_text())]
    decode = detector.decoder("avg", np.array([0.5, 0.4, 0.5]))
    expected = jf.detect(detector, run / "recording.wav", decode=decode)
    assert len(found) == 10 and sorted(found) == sorted(event[1:4] for event in expected)


def test_a_program_from_log_mel_takes_any_number_of_clips(detector):
    stored = export.export_program(detector, "mel").serialize()
    program = jax.export.deserialize(stored)
    mel = mels(detector, 3)
    for count in 1, 3:
        clip, frames = program.call(mel[:count])
        expected = detector.posteriors(list(mel[:count]))
        np.testing.assert_allclose(clip, expected.clip, atol=1e-6)
        np.testing.assert_allclose(frames, expected.frames, atol=1e-6)
    with_teacher = export.export_program(replace(detector, tags="teacher"), "mel").serialize()
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(detector.variables["teacher"]))
    assert len(stored) < len(with_teacher) - weights


@pytest.mark.parametrize(("model", "tags"), [("student", "teacher"), ("mean", None)])
def test_posteriors_are_those_of_the_model_and_the_tags_asked_for(run, model, tags):
    detector = jf.load(run / "run", model=model, tags=tags)
    mel = mels(detector, 1)
    clip, frames = export.export_program(detector, "mel").call(mel)
    expected = detector.posteriors(list(mel))
    np.testing.assert_allclose(clip, expected.clip, atol=1e-6)
    np.testing.assert_allclose(frames, expected.frames, atol=1e-6)


def test_no_platform_needs_a_call_that_another_jax_may_lack(detector, tmp_path):
    """Nor that of kernels that a system was trained with; they are made for 16 hidden units."""
    student = detector.models.student.clone(gru_hidden=16, gru_loop="pallas")
    mel = np.zeros((1, detector.front_end.num_frames, detector.front_end.n_mels), np.float32)
    shapes = jax.eval_shape(student.init, jax.random.key(0), mel)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    models = Models(None, student, alone=True)
    program = export.export_program(replace(detector, models=models, variables={"student": zeros}))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert set(re.findall(r"custom_call @(\w+)", program.mlir_module())) == {"shape_assertion"}


def test_the_page_log_mel_is_the_one_that_the_models_learnt_from(detector):
    space: dict = {}
    exec(CODE["mel"], space)
    waveform = problem.recording().astype(np.float32)
    about = export.describe(detector)
    found = space["log_mel"](waveform, about["front_end"])
    np.testing.assert_allclose(found, log_mel(waveform, detector.front_end), atol=1e-4)


def test_what_stands_beside_a_program(tmp_path):
    """Clips of 7 frames, 2 to one of the posteriors: half a clip is 3 frames, less one is 2."""
    detector = make_detector(
        tmp_path,
        num_frames=7,
        stride=2,
        meta={"windows": {"avg": [2, 5], "fixed": [7, 7]}},
        **{"postprocess.threshold": 0.25},
    )
    about = export.describe(detector)
    assert about["clips"] == {
        "samples": 7 * 735,
        "hop": 2 * 735,
        "margin": 2 * 735,  # of half a spectrum of 2048 samples
        "frames": 4,
        "hop_frames": 1,
        "samples_per_frame": 2 * 735,
    }
    assert about["windows"] == [3, 5] and about["thresholds"] == [0.25, 0.25]
    assert (about["gate"], about["medians"], about["frame_rate"]) == (0.5, 2, 30.0)
    assert export.describe(detector, "fixed")["windows"] == [7, 7]
    each = np.array([0.5, 0.75])
    assert export.describe(detector, threshold=each)["thresholds"] == [0.5, 0.75]
    assert jf.FrontEnd(**about["front_end"]) == detector.front_end
    open_gate = {"postprocess.gate": False, "postprocess.decoder": "mine:decode"}
    own = export.describe(make_detector(tmp_path, **open_gate))
    assert (own["gate"], own["decoder"]) == (None, "mine:decode")
    assert not {"thresholds", "medians"} & own.keys()


def test_a_program_that_is_not_whole_leaves_no_description(tmp_path, monkeypatch):
    detector, path = make_detector(tmp_path), tmp_path / "a.stablehlo"
    beside = export.write_export(detector, path, "mel", ["cpu"])
    about = json.loads(beside.read_text())
    assert about["program"]["platforms"] == ["cpu"]
    assert about["program"]["input"] == {"name": "mel", "shape": ["B", 20, 64]}
    assert about["program"]["outputs"][1] == {"name": "frames", "shape": ["B", 20, 2]}

    def full(path, content):
        raise InputError(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(export, "write_whole", full)
    with pytest.raises(InputError, match="No space left"):
        export.write_export(detector, path, "mel", ["cpu"])
    assert not beside.exists()


class CallsHome(ByMel):
    """A model of one's own that runs Python of this process."""

    def __call__(self, mel, train=False):
        return super().__call__(jax.pure_callback(np.asarray, mel, mel, vmap_method="sequential"))


class CountsClips(ByMel):
    """A model that does otherwise with many clips."""

    def __call__(self, mel, train=False):
        return super().__call__(mel * 2 if mel.shape[0] >= 9 else mel)


def test_what_cannot_be_exported_is_said_in_a_line(tmp_path):
    detector = make_detector(tmp_path)
    with pytest.raises(InputError, match="a.onnx: ONNX takes log-mel and no waveform; ask for"):
        export.write_export(detector, tmp_path / "a.onnx")
    with pytest.raises(InputError, match="input 'audio': expected one of waveform, mel"):
        export.export_program(detector, "audio")
    with pytest.raises(InputError, match="platform 'gpu': expected some of cpu, cuda, tpu, rocm"):
        export.export_program(detector, "mel", ["gpu"])
    calls_home = replace(detector, models=Models(None, CallsHome()))
    with pytest.raises(InputError, match=r"cannot be exported for cpu, cuda, tpu: .*callback"):
        export.write_export(calls_home, tmp_path / "a.stablehlo", "mel")
    counts_clips = replace(detector, models=Models(None, CountsClips()))
    with pytest.raises(InputError, match=r"cannot be exported .* comparison 'B' >= '9' is inconcl"):
        export.write_export(counts_clips, tmp_path / "a.stablehlo", "mel")


def test_onnx_without_its_extra_says_what_to_install(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    command = ["export", f"--workdir={run / 'run'}", f"--output={tmp_path / 'a.onnx'}"]
    assert cli.main([*command, "--input=mel"]) == 2
    assert "pip install 'jfsed_jax[onnx]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # jax2onnx imports many packages
@pytest.mark.parametrize("model", ["student", "mean"])
def test_onnx_gives_the_posteriors_of_jax(run, model, tmp_path):
    pytest.importorskip("jax2onnx", reason="the extra [onnx] is not installed")
    detector = jf.load(run / "run", model=model)
    export.write_export(detector, tmp_path / "detector.onnx", "mel")
    mel = mels(detector, 3)
    for count in 1, 3:
        space = {"mel": mel[:count]}
        code = CODE["onnx"].replace("detector.onnx", str(tmp_path / "detector.onnx"))
        exec(code, space)
        expected = detector.posteriors(list(mel[:count]))
        np.testing.assert_allclose(space["clip"], expected.clip, atol=1e-5)
        np.testing.assert_allclose(space["frames"], expected.frames, atol=1e-5)
