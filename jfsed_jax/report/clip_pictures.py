"""Pictures of clips: the log-mel and below it, on the same time axis, one lane per class.

Axis letters: ``T`` frames, ``F`` mel bands.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib.image
import numpy as np

from jfsed_jax.report.charts import Key
from jfsed_jax.report.formatting import label_text, significant, ticks
from jfsed_jax.report.rendering import hash_source, own_file, page_policy


class Lane(NamedTuple):
    """What is known of one class in one clip; times in seconds, posterior <float>[T] or None."""

    label: str
    reference: Sequence[tuple[float, float]] = ()
    predicted: Sequence[tuple[float, float]] = ()
    posterior: np.ndarray | None = None


class LaneEvent(NamedTuple):
    """A bar: its kind, left edge and width in percent of the axis, what a pointer is told."""

    kind: str
    left: str
    width: str
    tip: str


class DrawnLane(NamedTuple):
    """A lane: its name and raw label, the posterior's outline in `frames` by 100, its bars."""

    name: str
    label: str
    outline: str
    frames: int
    events: list[LaneEvent]
    described: str


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


def clip_picture(
    name: str,
    mel: np.ndarray | None,
    lanes: Sequence[Lane],
    *,
    seconds: float,
    note: str = "",
    sound: str = "",
) -> ClipPicture:
    """Draws a clip.

    Args:
      name: shown above the picture, usually the file name.
      mel: <float>[T, F] log-mel, or None for no picture.
      lanes: one per class; see `Lane`.
      seconds: length of the time axis.
      note: a few words beside the name.
      sound: the clip's audio as a data URI.
    """
    shown = mel is not None and mel.size > 0
    marks = ticks(0.0, seconds, 10 if seconds > 5 else 5)
    spacing = 100 * (marks[1] - marks[0]) / seconds if len(marks) > 1 else 100.0
    return ClipPicture(
        name=name,
        note=note,
        image=png_source(np.asarray(mel).T) if shown else "",
        bands=mel.shape[1] if mel is not None and shown else 0,
        lanes=[_drawn(lane, seconds) for lane in lanes],
        times=[(significant(t), f"{100 * t / seconds:.2f}") for t in marks],
        spacing=f"{spacing:.3f}",
        sound=sound,
        seconds=seconds,
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


def clip_keys(*, predicted: bool = True, posterior: bool = True) -> list[Key]:
    """What the bars and the area in a `ClipPicture` are."""
    keys = [Key("reference", "reference")]
    if predicted:
        keys.append(Key("predicted", "predicted"))
    if posterior:
        keys.append(Key("posterior (full height is 1)", "posterior"))
    return keys


def png_source(image: np.ndarray, colours: str = "magma") -> str:
    """A picture as a data URI; `image` is <float>[rows, columns], its first row at the bottom."""
    image = np.nan_to_num(np.asarray(image, np.float32), posinf=0.0, neginf=0.0)
    low, high = np.percentile(image, [2, 99.8])
    scaled = np.clip((image - low) / max(float(high - low), 1e-6), 0.0, 1.0)
    buffer = io.BytesIO()
    # 48 shades: the eye sees no steps, and the file is less than half the size.
    matplotlib.image.imsave(
        buffer, np.round(scaled * 47) / 47, cmap=colours, vmin=0.0, vmax=1.0, origin="lower",
        format="png", pil_kwargs={"optimize": True},
    )  # fmt: skip
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


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
    described = (
        f"{lane.label}: reference {_spans(lane.reference)}; predicted {_spans(lane.predicted)}"
    )
    name, frames = label_text(lane.label), 0 if lane.posterior is None else len(lane.posterior)
    return DrawnLane(name, lane.label, _outline(lane.posterior), frames, events, described)


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
    return ", ".join(f"{onset:.2f}–{offset:.2f} s" for onset, offset in spans) or "none"
