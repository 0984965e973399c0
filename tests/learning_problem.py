"""A problem that a very small system learns in seconds: three sounds that any ear tells apart.

A beep (a tone), a hiss (high noise) and a hum (low harmonics), one to four of them in a clip of two
seconds over faint noise, made from a seed by NumPy alone. Edges lie on frames of the student, which
has 25 a second. Some clips have no hum but a blip of one, which strong training clips alone call a
hum: the frames learn that it is one, the tags that it is not, and so the gate removes it. `store`
trains the run that test_learning.py labels a recording with.
"""

import tarfile
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import soundfile

import jfsed_jax as jf
from jfsed_jax.datasets.preparation import prepare
from jfsed_jax.runs import checkpoints
from jfsed_jax.runs.workdir import Workdir

RATE, FRAMES_PER_SECOND, CLIP_FRAMES = 8000, 25, 50
FRAME = RATE // FRAMES_PER_SECOND
BLIP = 4
# Shortest, longest length in frames. Of the hums one in four is a long one: their knee is below it.
LENGTHS = {"Beep": [(5, 9)], "Hiss": [(9, 17)], "Hum": [(14, 20)] * 3 + [(40, 46)]}
CLIPS = {"weak": 64, "unlabel_in_domain": 24, "synthetic": 64, "validation": 32}
EPOCHS, STEPS_PER_EPOCH = 4, 40
STORED = Path(__file__).parent / "learnt" / "run.tar.xz"


def sound(label: str, length: int, rng: np.random.Generator) -> np.ndarray:
    """One event of `length` samples, of root mean square about 1."""
    times = np.arange(length) / RATE
    if label == "Hiss":
        return np.diff(rng.standard_normal(length + 1)) / np.sqrt(2)
    pitches = (1500,) if label == "Beep" else (150, 300, 450)
    return sum(np.sin(2 * np.pi * pitch * times) for pitch in pitches) / np.sqrt(len(pitches) / 2)


def render(events, frames: int, seed: int) -> np.ndarray:
    """A waveform with events (label, first frame, frame after the last, level)."""
    rng = np.random.default_rng(seed)
    waveform = 0.005 * rng.standard_normal(frames * FRAME)
    for label, start, stop, level in events:
        waveform[start * FRAME : stop * FRAME] += level * sound(label, (stop - start) * FRAME, rng)
    return waveform


def draw(rng: np.random.Generator) -> list[tuple[str, int, int, float]]:
    """The events of a clip; of one class at least 5 frames apart."""
    found: list[tuple[str, int, int, float]] = []
    for _ in range(rng.integers(1, 5)):
        label = str(rng.choice(list(LENGTHS)))
        spans = LENGTHS[label]
        length = int(rng.integers(*spans[rng.integers(len(spans))], endpoint=True))
        start = int(rng.integers(0, CLIP_FRAMES - length, endpoint=True))
        own = [event for event in found if event[0] == label]
        if all(start >= stop + 5 or start + length <= begin - 5 for _, begin, stop, _ in own):
            found.append((label, start, start + length, float(rng.uniform(0.05, 0.2))))
    if all(label != "Hum" for label, *_ in found) and rng.random() < 0.7:
        start = int(rng.integers(0, CLIP_FRAMES - BLIP, endpoint=True))
        found.append(("Hum", start, start + BLIP, float(rng.uniform(0.05, 0.2))))
    return found


def write_data(folder: Path) -> None:
    """A data folder in the layout of DCASE 2019."""
    places = {"weak": "train/weak", "unlabel_in_domain": "train/unlabel_in_domain",
              "synthetic": "train/synthetic", "validation": "validation"}  # fmt: skip
    tables = {"weak": "train/weak", "unlabel_in_domain": "train/unlabel_in_domain",
              "synthetic": "train/synthetic", "validation": "validation/validation"}  # fmt: skip
    for number, (split, count) in enumerate(CLIPS.items()):
        rng = np.random.default_rng(number)
        audio = folder / "audio" / places[split]
        audio.mkdir(parents=True)
        strong = split in ("synthetic", "validation")
        header = ["filename", "onset", "offset", "event_label"] if strong else ["filename"]
        rows = [header + ["event_labels"] * (split == "weak")]
        for i in range(count):
            name, events = f"{split}{i}.wav", draw(rng)
            clip = render(events, CLIP_FRAMES, seed=1000 * number + i)
            if split != "synthetic":
                events = [event for event in events if event[2] - event[1] > BLIP]
            soundfile.write(audio / name, clip, RATE)
            if strong:
                rows += [[name, *[""] * 3]] * (not events)
                rows += [[name, start / FRAMES_PER_SECOND, stop / FRAMES_PER_SECOND, label]
                         for label, start, stop, _ in events]  # fmt: skip
            else:
                tags = ",".join(sorted({event[0] for event in events}))
                rows.append([name, tags] if split == "weak" else [name])
        table = folder / "metadata" / f"{tables[split]}.tsv"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))


def ruined(epochs: float):
    """A schedule: at first the rate as it is, from epoch `epochs` on far too high a one."""
    return lambda epoch: jnp.where(epoch < epochs, 1.0, 100.0)


def config():
    """The paper's complete system, very small; in its last epoch the rate ruins it."""
    config = jf.load_config("pts_tfd_afl_esp:tiny")
    config.front_end.update(sample_rate=RATE, clip_seconds=CLIP_FRAMES / FRAMES_PER_SECOND,
                            hop_length=FRAME // 2, win_length=FRAME, n_fft=512, n_mels=16,
                            fmax=RATE / 2)  # fmt: skip
    few = dict(kernels=(3, 3), convs=(1, 1), gru_layers=1, dropout=0.0, pooling="mean")
    config.teacher.update(few, filters=(8, 16), pools=((5, 4), (2, 2)))
    # Two frames of the log-mel to one of the posteriors.
    config.student.update(few, filters=(8, 16), pools=((2, 4), (1, 2)))
    config.batch = dict(weak=8, unlabelled=2, strong=8)
    config.epochs, config.steps_per_epoch = EPOCHS, STEPS_PER_EPOCH
    config.optimiser.update(learning_rate=1e-2, ema_decay=0.9, schedule="learning_problem:ruined",
                            schedule_arguments=dict(epochs=EPOCHS - 1))  # fmt: skip
    config.augmentation.update(time_shift=0.5, mix=0.0, gain_db=3.0, filter_db=0.0)
    config.loss.distillation_dims = 8
    return config


def get_config(size: str = ""):
    """`config`, for ``--config tests/learning_problem.py``."""
    return config()


def train(folder: Path) -> Path:
    """Renders, prepares and trains in an empty folder; the workdir."""
    write_data(folder / "data")
    page = config()
    front_end = jf.FrontEnd(**page.front_end)
    # One process: to start others takes longer.
    prepare(folder / "data", front_end, features_dir=folder / "features", workers=1, progress=False)
    jf.fit(page, folder / "data", folder / "run", features_dir=folder / "features")
    return folder / "run"


# What sounds in a recording of three clips and a bit, in frames, and how loud. For the stored run
# no posterior and no tag of it is within 0.12 of 0.5: rounding moves no event.
RECORDING_FRAMES = 163
SOUNDS = [
    ("Beep", 6, 12, 0.07),
    ("Hum", 16, 33, 0.07),
    ("Beep", 38, 47, 0.07),
    # Two frames: the esp window of 3 keeps them, the avg one of 5 does not.
    ("Hum", 49, 51, 0.07),
    ("Hum", 55, 79, 0.07),
    ("Hum", 83, 92, 0.07),
    ("Hiss", 95, 105, 0.07),
    # A window of 3 keeps two frames.
    ("Hiss", 109, 111, 0.07),
    # A blip, which the gate removes.
    ("Hum", 121, 125, 0.07),
    # Posteriors of 0.34 at most, and of 0.64 in one frame; the beep between them tags their clips.
    ("Beep", 132, 135, 0.014),
    ("Beep", 138, 146, 0.07),
    ("Beep", 150, 153, 0.02),
    ("Hiss", 155, 163, 0.07),
]


def recording() -> np.ndarray:
    """`SOUNDS` as a waveform."""
    return render(SOUNDS, RECORDING_FRAMES, seed=7)


def store() -> None:
    """Trains, and keeps of the run what labelling needs: its best checkpoint.

    ``python tests/learning_problem.py`` calls it; the levels in `SOUNDS` are chosen for the run
    that is stored, so another one may need others.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = train(Path(folder))
        with checkpoints.open_manager(Workdir(run)) as manager:
            best = run / "checkpoints" / str(checkpoints.choose_step(manager, "best"))
        STORED.parent.mkdir(exist_ok=True)
        with tarfile.open(STORED, "w:xz") as archive:
            for path in (run / "config.json", run / "meta.json", best):
                archive.add(path, path.relative_to(run), filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    store()
