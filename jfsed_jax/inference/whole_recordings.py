"""Labelled clips as they are scored: those of one recording as the recording, and not one by one.

For training a recording is cut into clips end to end. Here its log-mel is cut as `recordings` cuts
that of a person's recording: into clips that overlap by half, whose frames are cross-faded. A
recording of one clip is that clip.

Axis letters: ``W`` clips that the models hear, ``R`` recordings, ``T`` frames, ``T'`` frames of the
student, ``F`` mel bands, ``C`` classes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jfsed_jax.datasets.extraction import clip_start
from jfsed_jax.datasets.selection import Clips
from jfsed_jax.inference.prediction import Posteriors
from jfsed_jax.sed.events import Event, cut_events
from jfsed_jax.sed.postprocessing import Decode


class Stretch(NamedTuple):
    """Clips of a recording that follow one another, and what the models hear of them.

    Attributes:
      filename: of the recording.
      clips: positions in the source.
      start, end: seconds of the recording.
      heard: of the W clips those of this stretch.
      num_frames: T of its sound.
    """

    filename: str
    clips: list[int]
    start: float
    end: float
    heard: range
    num_frames: int


class WholeRecordings:
    """What the models hear of a source, <float16>[T, F] each, and what follows from their answers.

    Attributes:
      recordings: R names, in the order of the source.
      filenames: W names, for messages and files; of a recording that was cut with the second at
        which a clip begins, as ``a.wav@5``.
      stretches: one for each recording, or more where only some of its clips are in the source.
    """

    def __init__(self, source: Clips, stride: int):
        """Args: the clips; frames of the front end in one of the student's."""
        self._source = source
        self._stride = stride
        # Sources that come from elsewhere, not from a data folder, say no more of their clips.
        self._clips: Sequence[Any] = getattr(source, "clips", ())
        self._front_end: Any = getattr(source, "front_end", None)
        self.recordings = list(dict.fromkeys(source.filenames))
        self.stretches: list[Stretch] = []
        self.filenames: list[str] = []
        self._places: list[tuple[Stretch, int]] = []  # of each heard clip, its first frame
        for clips in self._runs():
            self._add(clips)

    def _runs(self) -> list[list[int]]:
        runs: list[list[int]] = []
        for i, name in enumerate(self._source.filenames):
            before = runs[-1][-1] if runs else None
            if (
                before is not None
                and self._source.filenames[before] == name
                and self._number(i) == self._number(before) + 1
            ):
                runs[-1].append(i)
            else:
                runs.append([i])
        return runs

    def _number(self, i: int) -> int:
        """Of a clip in its recording."""
        if not self._clips or not self._clips[i].start:
            return 0
        return round(self._clips[i].start / clip_start(1, self._front_end))

    def _add(self, clips: list[int]) -> None:
        name, first = self._source.filenames[clips[0]], len(self._places)
        number = self._number(clips[0])
        start = end = 0.0
        num_frames, steps = 0, range(1)
        if self._front_end is not None:
            start = clip_start(number, self._front_end)
            end = clip_start(number + len(clips), self._front_end)
        if len(clips) > 1:
            size, info = self._front_end.num_frames, self._clips[clips[0]].info
            frames = -(-round(info.duration * self._front_end.sample_rate)
                       // self._front_end.hop_length)  # fmt: skip
            num_frames = min(frames - number * size, len(clips) * size)
            steps = range(1 + -(-max(num_frames - size, 0) // self._hop))
        heard = range(first, first + len(steps))
        stretch = Stretch(name, clips, start, end, heard, num_frames)
        self.stretches.append(stretch)
        for step in steps:
            frame = step * self._hop if step else 0
            self._places.append((stretch, frame))
            begin = start + (frame / self._front_end.frame_rate if frame else 0)
            cut = len(clips) > 1 or number
            self.filenames.append(f"{name}@{begin:g}" if cut else name)

    @property
    def _hop(self) -> int:
        return max(self._front_end.num_frames // 2 // self._stride, 1) * self._stride

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> np.ndarray:
        stretch, frame = self._places[i]
        if len(stretch.clips) == 1:
            return self._source[stretch.clips[0]]["mel"]
        size = self._front_end.num_frames
        touched = stretch.clips[frame // size : (frame + size - 1) // size + 1]
        mel = np.concatenate([self._source[clip]["mel"] for clip in touched])[frame % size :][:size]
        silence = np.log(np.float32(self._front_end.log_offset))
        return np.pad(mel, ((0, size - len(mel)), (0, 0)), constant_values=silence)

    def span(self, i: int) -> tuple[str, float, float]:
        """Recording, start and end in seconds of what the models hear as clip `i`."""
        stretch, frame = self._places[i]
        if len(stretch.clips) == 1:
            return stretch.filename, stretch.start, stretch.end
        start = stretch.start + frame / self._front_end.frame_rate
        return stretch.filename, start, start + clip_start(1, self._front_end)

    def tags(self, output: Posteriors) -> np.ndarray:
        """Clip posteriors <float>[R, C]: of a recording that was cut the greatest of its clips."""
        place = {name: i for i, name in enumerate(self.recordings)}
        tags = np.zeros((len(place), output.clip.shape[1]), output.clip.dtype)
        for stretch in self.stretches:
            own = output.clip[stretch.heard.start : stretch.heard.stop].max(axis=0)
            tags[place[stretch.filename]] = np.maximum(tags[place[stretch.filename]], own)
        return tags

    def frames(self, output: Posteriors, stretch: Stretch, gate: bool) -> np.ndarray:
        """Frame posteriors <float>[T', C] of a stretch, cross-faded as those of `recordings`.

        With `gate`, each clip's frames are multiplied by its own tags before.
        """
        own = slice(stretch.heard.start, stretch.heard.stop)
        frames = output.frames[own]
        if gate:
            frames = frames * (output.clip[own] > 0.5)[:, None, :]
        if len(stretch.clips) == 1:
            return frames[0]
        length, step = frames.shape[1], self._hop // self._stride
        fade = 1 - np.abs(np.linspace(-1, 1, length + 2)[1:-1, None])
        total = np.zeros(((len(frames) - 1) * step + length, frames.shape[2]))
        weight = np.zeros((len(total), 1))
        for number, values in enumerate(frames):
            total[number * step : number * step + length] += fade * values
            weight[number * step : number * step + length] += fade
        return (total / weight)[: -(-stretch.num_frames // self._stride)].astype(np.float32)

    def events(self, output: Posteriors, decode: Decode, gate: bool) -> list[Event]:
        """The events of the R recordings, in their time."""
        if len(self.recordings) == len(self) and not any(own.start for own in self.stretches):
            return decode(output.clip, output.frames, self.recordings)
        found: list[Event] = []
        alone = [stretch for stretch in self.stretches if len(stretch.clips) == 1]
        if rows := [stretch.heard.start for stretch in alone]:
            numbers = [str(i) for i in range(len(alone))]
            for event in decode(output.clip[rows], output.frames[rows], numbers):
                found.append(_moved(event, alone[int(event.filename)]))
        for stretch in self.stretches:
            if len(stretch.clips) > 1:
                frames = self.frames(output, stretch, gate)
                events = decode(None, frames[None], [stretch.filename])
                found += [_moved(event, stretch) for event in events]
        place = {name: i for i, name in enumerate(self.recordings)}
        return sorted(found, key=lambda event: place[event.filename])

    def reference(self, published: Sequence[Event]) -> list[Event]:
        """Of published events those of the R recordings: all of them, as they are.

        Of a recording of which some clips are elsewhere, what lies in those that are here.
        """
        held = Counter(self._source.filenames)
        known = {clip.filename: clip.info.clips for clip in self._clips}
        parts = {name for name in held if held[name] < known.get(name, 1)}
        found = [event for event in published if event.filename in held.keys() - parts]
        for stretch in self.stretches:
            if stretch.filename in parts:
                own = [event for event in published if event.filename == stretch.filename]
                cut = cut_events(own, stretch.start, stretch.end)
                found += [_moved(event, stretch) for event in cut]
        return found


def _moved(event: Event, stretch: Stretch) -> Event:
    """From a stretch's time to its recording's."""
    onset, offset = event.onset + stretch.start, event.offset + stretch.start
    return Event(stretch.filename, onset, offset, event.event_label)


def each_clip(source: Clips, published: Sequence[Event]) -> tuple[list[str], list[Event]]:
    """Names of the clips of a source, each another one, and published events cut to them."""
    clips: Sequence[Any] = getattr(source, "clips", ())
    front_end: Any = getattr(source, "front_end", None)
    held = Counter(source.filenames)
    own: dict[str, list[Event]] = {name: [] for name in held}
    for event in published:
        if event.filename in own:
            own[event.filename].append(event)
    names, found = [], []
    for i, name in enumerate(source.filenames):
        events = own[name]
        if clips and clips[i].info.clips > 1:
            start = clips[i].start
            end = start + clip_start(1, front_end)
            name = f"{name}@{start:g}"
            events = [event._replace(filename=name) for event in cut_events(events, start, end)]
        names.append(name)
        found += events
    return names, found
