"""From people's recordings, of any number and length, to their events.

A recording is decoded, transformed and cut into clips as it is read; clips of all recordings fill
the same batches; what comes back is cross-faded and kept on disk. So memory depends neither on how
long a recording is nor on what its header promises.

Axis letters: ``B`` clips, ``N`` samples, ``T`` frames, ``T'`` frames of the student, ``F`` mel
bands, ``C`` classes.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jfsed_jax.audio.decoding import open_audio
from jfsed_jax.audio.device import log_mel_jax
from jfsed_jax.audio.host import framed, log_mel, mel_frames
from jfsed_jax.audio.reading import resampled
from jfsed_jax.errors import InputError
from jfsed_jax.inference.detector import OVERLAP, Detector
from jfsed_jax.inference.prediction import Posteriors, batches
from jfsed_jax.method.state import Variables
from jfsed_jax.sed.events import Event
from jfsed_jax.sed.postprocessing import Decode

# What a bad file, or a place where nothing can be written, raises: it costs that recording alone.
COST_ONE = (InputError, MemoryError, OSError, RuntimeError)
_AHEAD = 4  # blocks of log-mel that are worked on while the models hear those before


@dataclass(frozen=True)
class Heard:
    """What was heard in a recording.

    Attributes:
      path: as it was given.
      seconds: its length.
      sample_rate: of the file, in Hz; None for a waveform.
      frames: <float32>[T', C] gated posteriors, T' the recording's length in frames of the student.
        On disk, and gone with the array.
      failure: why it could not be heard to its end; then there are no frames.
    """

    path: str
    seconds: float = 0.0
    sample_rate: int | None = None
    frames: np.ndarray | None = None
    failure: str | None = None


@dataclass(frozen=True)
class _Clip:
    """A clip of the recording of that number, and after the last one what is known of it."""

    recording: int
    path: str
    mel: np.ndarray | None = None
    heard: Heard | None = None
    num_frames: int = 0


def make_listen(detector: Detector) -> Callable[[Variables, jax.Array], Posteriors]:
    """A jitted ``(variables, waveform [B, N]) -> Posteriors``, the log-mel on the device too.

    N samples at the front end's rate: a clip, or another length whose frames the models can pool.
    """

    @jax.jit
    def listen(variables: Variables, waveform: jax.Array) -> Posteriors:
        return detector.posteriors_of(variables, log_mel_jax(waveform, detector.front_end))

    return listen


def hear(
    detector: Detector,
    paths: Iterable[str | Path],
    *,
    overlap: float = OVERLAP,
    on_mel: Callable[[str, np.ndarray], None] | None = None,
    on_seconds: Callable[[float], None] | None = None,
) -> Iterator[Heard]:
    """Gated frame posteriors of recordings, one after the other, whatever becomes of one of them.

    A recording longer than a clip is cut into clips that overlap. Each clip's frames are multiplied
    by its own tags (figure 4; not where ``config.postprocess.gate`` is off), then clips are
    cross-faded: a frame counts more the closer it is to the middle of a clip.

    Args:
      detector: a trained system.
      paths: audio files of any sample rate, channels and length.
      overlap: share of a clip that the next one hears too, from 0 to below 1. At 0 clips lie end to
        end, and each is heard as a file of its own.
      on_mel: gets each path and, block by block, its log-mel <float32>[T, F].
      on_seconds: gets the length of each block that was read.

    Raises:
      InputError: no such overlap.
    """
    step = detector.clip_hop(overlap)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:

        def clips() -> Iterator[_Clip]:
            for number, path in enumerate(map(str, paths)):
                seen = partial(on_mel, path) if on_mel else None
                try:
                    with open_audio(path) as source:
                        rate = source.sample_rate
                        blocks = _told(source.blocks, rate, on_seconds)
                        blocks = resampled(blocks, rate, detector.front_end.sample_rate)
                        for clip in _clips(detector, step, number, path, blocks, pool, seen):
                            if clip.heard:
                                heard = Heard(path, clip.heard.seconds, rate)
                                clip = replace(clip, heard=heard)
                            yield clip
                except COST_ONE as error:
                    yield _Clip(number, path, heard=Heard(path, failure=failure_of(path, error)))

        yield from _faded(detector, step, clips())


def recording_posteriors(
    detector: Detector, waveform: np.ndarray, *, overlap: float = OVERLAP
) -> np.ndarray:
    """Gated frame posteriors of a waveform of any length, see `hear`.

    Args:
      detector: a trained system.
      waveform: <float32>[N] at the front end's sample rate.
      overlap: see `hear`.

    Returns:
      <float32>[T', C], T' the recording's length in frames of the student.

    Raises:
      InputError: posteriors are not finite.
    """
    step = detector.clip_hop(overlap)
    with ThreadPoolExecutor(1) as pool:
        clips = _clips(detector, step, 0, "the waveform", [waveform], pool)
        [heard] = _faded(detector, step, clips)
    return np.array(_frames_of(heard))


def detect(
    detector: Detector,
    path: str | Path,
    *,
    rule: str | None = None,
    decode: Decode | None = None,
) -> list[Event]:
    """The events of an audio file of any sample rate, channels and length.

    Args:
      detector: a trained system.
      path: the file; its name as given becomes the events' file name.
      rule: of the median windows; the config's if None.
      decode: in place of the config's decoder; it gets None for the clip posteriors, since the
        frames are gated already.

    Raises:
      InputError: the file cannot be used, or its posteriors are not finite.
    """
    decode = decode or detector.decoder(rule)
    [heard] = hear(detector, [path])
    return decode(None, _frames_of(heard)[None], [str(path)])


def failure_of(path: str, error: Exception) -> str:
    """Why a recording could not be labelled: its path, then the reason."""
    said = str(error) if isinstance(error, InputError) else repr(error)
    return said if said.startswith(f"{path}: ") else f"{path}: {said}"


def _frames_of(heard: Heard) -> np.ndarray:
    if heard.frames is None:
        raise InputError(heard.failure or "nothing was heard")
    return heard.frames


def _told(blocks, rate: int, on_seconds) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block
        if on_seconds:
            on_seconds(len(block) / rate)


def _clips(
    detector: Detector,
    step: int,
    number: int,
    path: str,
    blocks: Iterable[np.ndarray],
    pool: ThreadPoolExecutor,
    on_mel: Callable[[np.ndarray], Any] | None = None,
) -> Iterator[_Clip]:
    """The clips of a waveform in blocks, `step` frames apart, and its length."""
    front_end = detector.front_end
    clip_frames = front_end.num_frames
    hop = step * detector.time_stride
    samples = num_frames = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal samples
        for block in blocks:
            samples += len(block)
            yield block

    def needed(frames: int) -> int:
        # One clip, and one more for every started step beyond it. What the last one lacks is
        # silence and no edge: the padding of a short training clip is digital silence too.
        nonlocal num_frames
        num_frames = frames
        return clip_frames + hop * -(-max(frames - clip_frames, 0) // hop)

    def pieces() -> Iterator[np.ndarray]:
        # End to end clips are what files of a clip would be, each with silence around it.
        size, held = clip_frames * front_end.hop_length, np.zeros(0, np.float32)
        for block in counted():
            held = np.concatenate([held, block])
            while len(held) > size:
                yield held[:size]
                held = held[size:]
        needed(-(-samples // front_end.hop_length))
        yield np.pad(held, (0, size - len(held)))

    parts = framed(counted(), front_end, clip_frames, needed)
    transform = partial(mel_frames, front_end=front_end)
    if hop == clip_frames:
        parts, transform = pieces(), partial(log_mel, front_end=front_end)
    held, given = np.zeros((0, front_end.n_mels), np.float32), 0
    for mel in _ahead(pool, transform, parts):
        if on_mel:
            # Before the end is reached all frames are the recording's own.
            on_mel(mel[: max(num_frames - given, 0)] if num_frames else mel)
            given += len(mel)
        held = np.concatenate([held, mel])
        while len(held) >= clip_frames:
            yield _Clip(number, path, held[:clip_frames])
            held = held[hop:]
    heard = Heard(path, samples / front_end.sample_rate)
    yield _Clip(number, path, heard=heard, num_frames=num_frames)


def _ahead(pool: ThreadPoolExecutor, function, items: Iterable[Any]) -> Iterator[Any]:
    """`map` in threads, in order, a few items ahead of who asks."""
    waiting: deque = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _faded(detector: Detector, step: int, clips: Iterable[_Clip]) -> Iterator[Heard]:
    """Clips of recordings, in order, to what was heard in each."""
    answered = batches(detector.posteriors_of, detector.variables, clips, lambda clip: clip.mel)
    for _, own in groupby(answered, lambda pair: pair[0].recording):
        pairs = iter(own)
        first = next(pairs)
        try:
            heard = _joined(detector, step, chain([first], pairs))
        except OSError as error:  # of the file that keeps the posteriors; those of reading are told
            path, folder = first[0].path, tempfile.gettempdir()
            heard = Heard(path, failure=f"{path}: {folder} cannot keep its posteriors ({error})")
        yield heard


def _joined(
    detector: Detector, step: int, answered: Iterable[tuple[_Clip, Posteriors | None]]
) -> Heard:
    """One recording: its clips gated, cross-faded and put end to end."""
    classes, gate = len(detector.classes), detector.config.postprocess.gate
    total = weight = fade = np.zeros((0, 1))
    heard, num_frames, failure = None, 0, None
    with tempfile.TemporaryFile() as file:
        for started, (clip, output) in enumerate(answered):
            if output is None:  # the last one
                heard, num_frames = clip.heard, clip.num_frames
                break
            if not (np.isfinite(output.clip).all() and np.isfinite(output.frames).all()):
                failure = failure or (
                    f"the posteriors of the clip from {started * step / detector.frame_rate:.3f} s "
                    "are not finite: the model's weights or batch statistics have diverged, so "
                    "take another checkpoint"
                )
            gated = output.frames * (output.clip > 0.5) if gate else output.frames
            if not started:
                fade = 1 - np.abs(np.linspace(-1, 1, len(gated) + 2)[1:-1, None])
                total, weight = np.zeros((len(gated), classes)), np.zeros((len(gated), 1))
            else:  # what no further clip covers is done
                file.write((total[:step] / weight[:step]).astype(np.float32).tobytes())
                total = np.concatenate([total[step:], np.zeros((step, classes))])
                weight = np.concatenate([weight[step:], np.zeros((step, 1))])
            total += fade * gated
            weight += fade
        assert heard is not None
        if heard.failure or failure:
            return Heard(heard.path, failure=heard.failure or f"{heard.path}: {failure}")
        file.write((total / weight).astype(np.float32).tobytes())
        file.flush()
        # A student that drops what is left over by its pooling may have given one frame less.
        length = min(-(-num_frames // detector.time_stride), file.tell() // (4 * classes))
        # It keeps the file, which has no name, as long as it is there.
        frames = np.memmap(file, np.float32, "r", shape=(length, classes))
    return Heard(heard.path, heard.seconds, heard.sample_rate, frames)
