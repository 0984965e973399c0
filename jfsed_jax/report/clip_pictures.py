"""Pictures of clips: the log-mel and below it, on the same time axis, one lane per class.

Axis letters: ``T`` frames, ``F`` mel bands.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jfsed_jax.report.charts import Key
from jfsed_jax.report.formatting import label_text, significant, ticks
from jfsed_jax.report.listings import Listing
from jfsed_jax.report.rendering import hash_source, own_file, page_policy
from jfsed_jax.report.spectrograms import Contrast, frequency_ticks, png_source


class Lane(NamedTuple):
    """What is known of one class in one clip; times in seconds, posterior <float>[T] or None.

    `threshold` is drawn over the posterior, if it is not None.
    """

    label: str
    reference: Sequence[tuple[float, float]] = ()
    predicted: Sequence[tuple[float, float]] = ()
    posterior: np.ndarray | None = None
    threshold: float | None = 0.5


class LaneEvent(NamedTuple):
    """A bar: its kind, left edge and width in percent of the axis, what a pointer is told."""

    kind: str
    left: str
    width: str
    tip: str


class DrawnLane(NamedTuple):
    """A drawn lane.

    Attributes:
      name, label: as shown, and the raw label.
      outline: of the posterior in `frames` by 100, "" for none.
      threshold: how far below the top it lies, "" for none.
      events: the bars.
      described: in a sentence.
      words: reference, predicted and the highest posterior, "" where there is none.
    """

    name: str
    label: str
    outline: str
    frames: int
    threshold: str
    events: list[LaneEvent]
    described: str
    words: tuple[str, str, str]


class ClipPicture(NamedTuple):
    """A drawn clip.

    Attributes:
      name: usually the file name.
      note: a few words beside it.
      image: the log-mel as a data URI, "" for none.
      bands: F.
      lanes: one per class.
      times: of the axis, (text, position in percent).
      spacing: of the times, in percent.
      sound: the clip's audio as a data URI, "" for none.
      seconds: of the axis.
      scale: of the log-mel, (kHz, height in percent); empty where its bands are not known.
    """

    name: str
    note: str
    image: str
    bands: int
    lanes: list[DrawnLane]
    times: list[tuple[str, str]]
    spacing: str
    sound: str
    seconds: float
    scale: list[tuple[str, str]]

    @property
    def listing(self) -> Listing | None:
        """What pointers are told and heights show, for those who have neither."""
        if not self.lanes:
            return None
        names = ("Reference", "Predicted", "Highest posterior")
        kept = [k for k in range(3) if any(lane.words[k] for lane in self.lanes)]
        rows = [[lane.label, *(lane.words[k] or "–" for k in kept)] for lane in self.lanes]
        columns = ["Class", *(names[k] for k in kept)]
        return Listing("Events from onset to offset", columns, rows, class_="text")


def clip_picture(
    name: str,
    mel: np.ndarray | None,
    lanes: Sequence[Lane],
    *,
    seconds: float,
    note: str = "",
    sound: str = "",
    contrast: Contrast | None = None,
    band_hz: Sequence[float] = (),
) -> ClipPicture:
    """Draws a clip.

    Args:
      name: shown above the picture, usually the file name.
      mel: <float>[T, F] log-mel, or None for no picture.
      lanes: one per class; see `Lane`.
      seconds: length of the time axis.
      note: a few words beside the name.
      sound: the clip's audio as a data URI.
      contrast: of all clips that are compared; the clip's own if None.
      band_hz: <float>[F] centres of the mel bands.
    """
    shown = mel is not None and mel.size > 0
    marks = ticks(0.0, seconds, 10 if seconds > 5 else 5)
    step = marks[1] - marks[0] if len(marks) > 1 else seconds
    # The axis ends with its length; a tick that this would touch goes.
    times = [*(t for t in marks if t <= seconds - 0.7 * step), seconds]
    bands = mel.shape[1] if mel is not None and shown else 0
    return ClipPicture(
        name=name,
        note=note,
        image=png_source(np.asarray(mel).T, contrast) if shown else "",
        bands=bands,
        lanes=[_drawn(lane, seconds) for lane in lanes],
        times=[(significant(t), f"{100 * t / seconds:.2f}") for t in times],
        spacing=f"{100 * step / seconds:.3f}",
        sound=sound,
        seconds=seconds,
        scale=frequency_ticks(band_hz) if bands == len(band_hz) else [],
    )


class ClipPlayer(NamedTuple):
    """The script that moves a cursor over clips that are heard, and the policy that lets it run."""

    script: str
    policy: str


def clip_player(pictures: Iterable[ClipPicture]) -> ClipPlayer | None:
    """For a page with these clips; None if none has sound, since the page then needs no script."""
    if not any(picture.sound for picture in pictures):
        return None
    script = own_file("player.js", "clips.js")
    # Bars and cells are placed by style attributes, of which a hash would allow none.
    policy = page_policy(script=hash_source(f"\n{script}"), style="'unsafe-inline'", media="data:")
    return ClipPlayer(script, policy)


def clip_keys(
    *, predicted: bool = True, posterior: bool = True, contrast: Contrast | None = None
) -> list[Key]:
    """What the bars, the area, the line and the colours in a `ClipPicture` are."""
    keys = [Key("reference", "reference")]
    if predicted:
        keys.append(Key("predicted", "predicted"))
    if posterior:
        keys.append(Key("posterior (full height is 1)", "posterior"))
        keys.append(Key("threshold", "threshold"))
    if contrast is not None:
        keys.append(Key(f"log-mel, {contrast.text}", "level"))
    return keys


def _drawn(lane: Lane, seconds: float) -> DrawnLane:
    events = []
    for kind, spans in (("reference", lane.reference), ("predicted", lane.predicted)):
        for onset, offset in spans:
            width = 100 * (min(offset, seconds) - max(onset, 0.0)) / seconds
            events.append(
                LaneEvent(
                    kind,
                    f"{100 * max(onset, 0.0) / seconds:.2f}",
                    f"{max(width, 0.0):.2f}",
                    f"{kind}: {onset:.2f}–{offset:.2f} s",
                )
            )
    reference, predicted = _spans(lane.reference), _spans(lane.predicted)
    return DrawnLane(
        name=label_text(lane.label),
        label=lane.label,
        outline=_outline(lane.posterior),
        frames=0 if lane.posterior is None else len(lane.posterior),
        threshold="" if lane.threshold is None else f"{100 * (1 - lane.threshold):.3g}",
        events=events,
        described=f"{lane.label}: reference {reference or 'none'}; predicted {predicted or 'none'}",
        words=(reference, predicted, _highest(lane.posterior)),
    )


def _highest(posterior: np.ndarray | None) -> str:
    if posterior is None or not len(posterior):
        return ""
    return f"{np.nan_to_num(np.asarray(posterior, np.float64)).max():.2f}"


def _outline(posterior: np.ndarray | None) -> str:
    """The area under a posterior <float>[T] as the ``d`` of a path, T by 100."""
    if posterior is None or not len(posterior):
        return ""
    values = np.clip(np.nan_to_num(np.asarray(posterior, np.float64)), 0.0, 1.0)
    # A run of equal (rounded) values is one step of the outline.
    levels = np.round(100 * (1 - values)).astype(int)
    changes = np.flatnonzero(np.diff(levels)) + 1
    path = f"M0 100V{levels[0]}" + "".join(f"H{t}V{levels[t]}" for t in changes)
    return f"{path}H{len(values)}V100Z"


def _spans(spans: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{onset:.2f}–{offset:.2f} s" for onset, offset in spans)
