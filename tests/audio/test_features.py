"""The front end against librosa, on rendered and on real audio, eager and jitted."""

import functools
from pathlib import Path

import defaults
import librosa
import numpy as np
import pytest
import soundfile

from jfsed_jax.audio import host
from jfsed_jax.audio.device import log_mel_jax
from jfsed_jax.audio.front_end import mel_basis
from jfsed_jax.audio.host import fit_length, log_mel
from jfsed_jax.audio.reading import load_audio, read_audio
from jfsed_jax.errors import InputError

REALMIX = Path(__file__).parents[3] / "shared/data/realmix/audio"
FRONT_ENDS = {
    "paper": defaults.front_end(),
    "mean_teacher": defaults.front_end(hop_length=511, win_length=2048),
    "guided_learning": defaults.front_end(hop_length=882),
    "16k": defaults.front_end(
        sample_rate=16000, n_fft=512, win_length=400, hop_length=160, fmax=8000.0
    ),
}


def reference(waveform, front_end):
    """librosa's own melspectrogram, in float64."""
    mel = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        win_length=front_end.win_length,
        n_mels=front_end.n_mels,
        fmin=front_end.fmin,
        fmax=front_end.fmax,
        power=1.0,
    )
    return np.log(mel.T[: front_end.num_frames] + front_end.log_offset)


def rendered(front_end, seconds=2.0, seed=0):
    """Noise that is loud at low frequencies and faint at high ones, with a chirp across it."""
    time = np.arange(int(seconds * front_end.sample_rate)) / front_end.sample_rate
    noise = np.random.default_rng(seed).normal(size=(2, time.size))
    brown = np.cumsum(noise[0])
    brown = (brown - brown.mean()) / np.abs(brown).max()
    chirp = np.sin(2 * np.pi * (300 + 900 * time) * time)
    return (0.4 * brown + 0.05 * chirp + 1e-4 * noise[1]).astype(np.float32)


def test_frames_of_a_clip():
    assert [front_end.num_frames for front_end in FRONT_ENDS.values()] == [600, 864, 500, 1000]
    assert defaults.front_end().frame_rate == 60.0
    for front_end in FRONT_ENDS.values():
        silence = np.zeros(front_end.num_samples, np.float32)
        assert log_mel(silence, front_end).shape == (front_end.num_frames, 64)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_host_equals_librosa(name):
    front_end = FRONT_ENDS[name]
    waveform = rendered(front_end)
    mel = log_mel(waveform, front_end)
    assert mel.dtype == np.float32
    expected = reference(waveform, front_end)[: len(mel)]
    np.testing.assert_allclose(mel, expected, rtol=0, atol=1e-5)


def hostile(kind, front_end):
    """Half a second that float32 alone would get wrong in places, or nearly."""
    time = np.arange(front_end.sample_rate // 2) / front_end.sample_rate
    noise = np.random.default_rng(0).normal(size=time.size)
    spectrum = np.fft.rfft(noise)
    high, low = spectrum.copy(), spectrum
    high[: int(0.9 * len(high))] = 0
    low[len(low) // 10 :] = 0
    match kind:
        case "tone beside silence":
            wave = np.where(time < 0.25, np.sin(2 * np.pi * 1000 * time), 0)
        case "high tone":
            wave = np.sin(2 * np.pi * 0.23 * np.arange(time.size))
        case "click":
            wave = np.eye(1, time.size, time.size // 3)[0]
        case "loud click just before a frame":
            begin = 4 * front_end.hop_length - (front_end.win_length + 1) // 2
            wave = 9e5 * np.eye(1, time.size, begin)[0]  # where the window is 0
        case "DC":
            wave = np.ones_like(time)
        case "one bit":
            wave = 2.0**-15 * np.sign(noise)
        case "silence":
            wave = np.zeros_like(time)
        case "loud low, faint high":
            wave = np.sin(2 * np.pi * 60 * time) + 1e-5 * np.sin(2 * np.pi * 6000 * time)
        case "high noise":
            wave = np.fft.irfft(high) / np.abs(np.fft.irfft(high)).max()
        case "low noise":
            wave = np.fft.irfft(low) / np.abs(np.fft.irfft(low)).max()
        case "absurdly loud":
            wave = 9e5 * np.fft.irfft(low) / np.abs(np.fft.irfft(low)).max()
    return np.pad(wave, (0, time.size - wave.size)).astype(np.float32)


HOSTILE = ("tone beside silence", "high tone", "click", "DC", "one bit", "silence")
HOSTILE += ("loud low, faint high", "high noise", "low noise", "absurdly loud")
HOSTILE += ("loud click just before a frame",)


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_host_equals_librosa_where_float32_would_not(name, kind):
    waveform = hostile(kind, FRONT_ENDS[name])
    mel = log_mel(waveform, FRONT_ENDS[name])
    expected = reference(waveform, FRONT_ENDS[name])[: len(mel)]
    np.testing.assert_allclose(mel, expected, rtol=0, atol=5e-5)


def test_few_frames_are_transformed_again_in_float64(monkeypatch):
    """Of a recording none; of a pure tone the 14 that lie in it (its ends are clicks)."""
    again = []
    original = host._filtered

    def spy(frames, basis):
        again.append(len(frames) if frames.dtype == np.float64 else 0)
        return original(frames, basis)

    monkeypatch.setattr(host, "_filtered", spy)
    front_end = FRONT_ENDS["paper"]
    log_mel(rendered(front_end), front_end)
    assert sum(again) == 0
    log_mel(hostile("tone beside silence", front_end), front_end)
    assert sum(again) == 14


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("jitted", [False, True])
def test_device_equals_librosa_on_rendered_audio(name, jitted):
    jax = pytest.importorskip("jax")
    front_end = FRONT_ENDS[name]
    function = functools.partial(log_mel_jax, front_end=front_end)
    function = jax.jit(function) if jitted else function
    waveforms = np.stack([rendered(front_end, seed=seed) for seed in range(2)])
    mel = np.asarray(function(waveforms))
    for waveform, found in zip(waveforms, mel, strict=True):
        expected = reference(waveform, front_end)[: len(found)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.skipif(not REALMIX.is_dir(), reason="the real recordings of ../shared are not here")
@pytest.mark.parametrize("jitted", [False, True])
def test_device_equals_librosa_on_real_audio(jitted):
    jax = pytest.importorskip("jax")
    front_end = defaults.front_end()
    function = functools.partial(log_mel_jax, front_end=front_end)
    function = jax.jit(function) if jitted else function
    for path in sorted(REALMIX.glob("**/*.ogg"))[:: 32 if jitted else 190]:
        waveform = fit_length(load_audio(path, 44100), front_end)
        expected = log_mel(waveform, front_end)
        np.testing.assert_allclose(
            np.asarray(function(waveform)), expected, rtol=0, atol=1e-4, err_msg=path.name
        )


def test_mel_basis_equals_librosa():
    for front_end in FRONT_ENDS.values():
        expected = librosa.filters.mel(
            sr=front_end.sample_rate, n_fft=front_end.n_fft, n_mels=64, fmax=front_end.fmax
        )
        np.testing.assert_allclose(mel_basis(front_end).T, expected, atol=1e-8)


def test_features_do_not_depend_on_the_number_of_threads():
    """A product of dense matrices does: one float16 of twenty clips, by 0.0039."""
    threads = pytest.importorskip("threadpoolctl").threadpool_limits
    front_end = defaults.front_end()
    waveform = rendered(front_end, seconds=10.0)
    found = []
    for number in (1, 2, 4):
        with threads(number):
            found.append(log_mel(waveform, front_end))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_fit_length_pads_with_silence_and_cuts():
    front_end = defaults.front_end(clip_seconds=0.5)
    ones = np.ones(44100, np.float32)
    assert len(fit_length(ones, front_end)) == 22050
    short = fit_length(ones[:100], front_end)
    assert len(short) == 22050 and short.sum() == 100


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 96000])
def test_any_sample_rate_keeps_a_tone_in_its_band(tmp_path, rate):
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    soundfile.write(tmp_path / "a.wav", tone, rate)
    waveform = load_audio(tmp_path / "a.wav", 44100)
    assert len(waveform) == 44100 and waveform.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(waveform))
    assert spectrum.argmax() == 1000
    assert abs(np.abs(waveform[4000:-4000]).max() - 0.5) < 0.01


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_width_and_channels(tmp_path, subtype, channels):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (8000, channels))
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype=subtype)
    recording = read_audio(tmp_path / "a.wav", 16000)
    assert recording[1:] == (0.5, 16000, channels, subtype)
    width = 1 / 64 if subtype == "PCM_U8" else 1e-4
    np.testing.assert_allclose(recording.waveform, samples.mean(1), atol=width)
    decoded, _ = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    np.testing.assert_array_equal(recording.waveform, decoded.mean(1))


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".WAV"])
def test_other_containers(tmp_path, suffix):
    soundfile.write(tmp_path / f"a{suffix}", rendered(defaults.front_end()), 44100)
    assert len(load_audio(tmp_path / f"a{suffix}", 44100)) == 88200


def test_the_beginning_of_a_long_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(80000) / 2, 8000)
    recording = read_audio(tmp_path / "a.wav", 8000, max_seconds=0.5)
    assert recording.duration == 10.0 and len(recording.waveform) == 4000


def write(path, samples, rate=16000, **options):
    soundfile.write(path, samples, rate, **options)


def half(path, keep=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


@pytest.mark.parametrize(
    "kind, message",
    [
        ("missing", "cannot be read (No such file"),
        ("zero bytes", "empty, 0 bytes"),
        ("text", "not audio but text"),
        ("html", "HTML"),
        ("noise", "cannot be decoded"),
        ("truncated wav", "cut short, its header announces 32000 bytes of sound and 15978 are"),
        ("truncated flac", ""),
        ("device", "a device, not a file"),
        ("no samples", "too short, 0.000 s"),
        ("0.05 s", "too short, 0.050 s"),
        ("nan", "samples, the first at 0.500 s (KIND)"),
        ("inf", "samples, the first at 0.500 s (KIND)"),
    ],
)
def test_bad_audio_is_named(tmp_path, kind, message):
    path = tmp_path / "a.wav"
    second = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    match kind:
        case "zero bytes":
            path.touch()
        case "text":
            path.write_text("filename\tonset\toffset\n" * 9)
        case "html":
            path.write_text("<!DOCTYPE html><html>404</html>")
        case "noise":
            path.write_bytes(np.random.default_rng(0).bytes(5000))
        case "truncated wav":
            write(path, second)
            half(path)
        case "truncated flac":
            path = tmp_path / "a.flac"
            write(path, second)
            half(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "no samples":
            write(path, second[:0])
        case "0.05 s":
            write(path, second[:800])
        case "nan" | "inf":
            second[8000] = float(kind)
            write(path, second, subtype="FLOAT")
    with pytest.raises(InputError) as error:
        load_audio(path, 16000)
    assert str(path) in str(error.value)
    assert message.replace("KIND", kind) in str(error.value)
    assert "\n" not in str(error.value)


def test_wav_of_unknown_length_is_not_cut_short(tmp_path):
    """A wav written to a pipe announces 0xFFFFFFFF bytes."""
    path = tmp_path / "a.wav"
    write(path, np.ones(16000) / 2)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff" * 4
    path.write_bytes(data)
    assert len(load_audio(path, 16000)) == 16000


def test_front_end_that_cannot_work_is_refused():
    with pytest.raises(InputError, match="hop_length <= win_length"):
        defaults.front_end(win_length=4096)
    with pytest.raises(InputError, match="win_length >= 2"):
        defaults.front_end(win_length=1, hop_length=1)
    for wrong in ({"sample_rate": 44000}, {"fmin": 22050.0}, {"fmin": -1.0}):
        with pytest.raises(InputError, match="fmax"):
            defaults.front_end(**wrong)
