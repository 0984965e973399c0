"""Decoders whose settings are tuned, as JSON files: written by `tune`, read by other commands.

    {"format": 1, "decoder": "median", "medians": 2,
     "classes": {"Dog": {"threshold": 0.41, "window": 0.35}, ...},
     "tuned": {what on, by which score, how good}}

Lengths are in seconds, so that a file serves posteriors of any frame rate.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jfsed_jax.atomic import write_whole
from jfsed_jax.audio.decoding import check_file
from jfsed_jax.errors import InputError
from jfsed_jax.sed.change_points import ChangePoints, change_point_decoder
from jfsed_jax.sed.postprocessing import Decode, median_decoder

# By the names that ``config.postprocess.decoder`` can have, and files.
DECODERS: dict[str, Callable[..., Decode]] = {
    "median": median_decoder,
    "change_points": change_point_decoder,
}
FORMAT = 1
LONGEST = 60.0  # seconds of a window
# Of each decoder the settings of a class, and from where to where they may be.
SETTINGS: dict[str, dict[str, tuple[float, float]]] = {
    "median": {"threshold": (0, 1), "window": (0, LONGEST)},
    "change_points": {
        "threshold": (0, 1),
        "filter": (0, LONGEST),
        "merge_absolute": (0, 1),
        "merge_relative": (0, 1000),
    },
}
_LARGEST = 2**24  # bytes that are read


@dataclass(frozen=True)
class TunedDecoder:
    """A decoder with settings of its own for each class.

    Attributes:
      decoder: a key of `SETTINGS`.
      medians: how many median filters; 0 of a decoder that has none.
      classes: the settings of each class, lengths in seconds.
      tuned: what is known of the tuning; it decides nothing.
    """

    decoder: str
    medians: int
    classes: Mapping[str, Mapping[str, float]]
    tuned: Mapping[str, Any]

    def decisive(self) -> dict[str, Any]:
        """All that decides which events are found, as JSON."""
        classes = {label: dict(settings) for label, settings in self.classes.items()}
        return {"decoder": self.decoder, "medians": self.medians, "classes": classes}

    def of(self, name: str, classes: Sequence[str]) -> np.ndarray:
        """A setting <float64>[C] of these classes."""
        return np.array([self.classes[label][name] for label in classes], np.float64)

    def check_classes(self, classes: Sequence[str], where: str) -> None:
        """InputError if it is for other classes than these."""
        missing = [label for label in classes if label not in self.classes]
        unknown = [label for label in self.classes if label not in classes]
        if missing or unknown:
            what = (
                f"has no settings for {missing[0]!r}" if missing else f"is for {unknown[0]!r} too"
            )
            raise InputError(
                f"{where} {what}; expected the classes {', '.join(classes)}, as it was tuned on "
                f"{', '.join(self.classes)}"
            )

    def decode(
        self, classes: Sequence[str], frame_rate: float, *, time_rate: float | None = None
    ) -> Decode:
        """The decoder.

        Args:
          classes: C labels; see `check_classes`.
          frame_rate: frames per second of the posteriors.
          time_rate: frames in one unit of the events' times: 1 tells frames, None seconds.
        """
        thresholds = self.of("threshold", classes)
        if self.decoder == "median":
            return median_decoder(
                window_frames(self.of("window", classes), frame_rate),
                classes=classes,
                frame_rate=time_rate or frame_rate,
                threshold=thresholds,
                medians=self.medians,
            )
        return change_point_decoder(
            None,
            classes=classes,
            frame_rate=frame_rate,
            threshold=thresholds,
            settings=[
                ChangePoints(**{name: self.classes[label][name] for name in ChangePoints._fields})
                for label in classes
            ],
            time_rate=time_rate,
        )


def window_frames(seconds: np.ndarray, frame_rate: float) -> np.ndarray:
    """The odd number of frames that is nearest to a median window, <int64> of the same shape."""
    return 2 * (np.asarray(seconds) * frame_rate / 2).astype(np.int64) + 1


def format_settings(tuned: TunedDecoder) -> str:
    """The settings as a text table; lengths in seconds."""
    width = max(map(len, tuned.classes))
    names = list(SETTINGS[tuned.decoder])
    lines = [f"{'class':{width}}" + "".join(f"  {name:>14}" for name in names)]
    for label, settings in tuned.classes.items():
        lines.append(f"{label:{width}}" + "".join(f"  {settings[name]:14.4f}" for name in names))
    return "\n".join(lines)


def write_decoder(path: str | Path, tuned: TunedDecoder) -> None:
    """Writes the file in one piece; InputError if that cannot be."""
    content = {"format": FORMAT, **tuned.decisive(), "tuned": dict(tuned.tuned)}
    write_whole(Path(path), json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_decoder(path: str | Path) -> TunedDecoder:
    """Reads and checks a file; InputError says what is wrong with it, in one line."""
    path = Path(path)
    check_file(path)
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > _LARGEST:
        raise InputError(f"{path} has more than {_LARGEST} bytes; {_EXPECTED}")
    try:
        content = json.loads(data, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); {_EXPECTED}") from error
    if not isinstance(content, dict) or "format" not in content:
        raise InputError(f"{path} is no decoder file; {_EXPECTED}")
    found = content["format"]
    if found != FORMAT or isinstance(found, bool):
        raise InputError(
            f"{path} has format {_shown(found)}, this version of jfsed_jax knows {FORMAT}"
        )
    if unknown := content.keys() - {"format", "decoder", "medians", "classes", "tuned"}:
        raise InputError(f"{path} has {_shown(min(unknown))}, which no decoder file has")
    decoder, classes = content.get("decoder"), content.get("classes")
    if not isinstance(decoder, str) or decoder not in SETTINGS:
        raise InputError(
            f"{path}: the decoder is {_shown(decoder)}; expected one of {', '.join(SETTINGS)}"
        )
    medians = content.get("medians")
    if type(medians) is not int or not 0 <= medians <= 9:
        raise InputError(f"{path}: medians is {_shown(medians)}; expected 0 to 9")
    if not isinstance(classes, dict) or not classes:
        raise InputError(f"{path}: classes is {_shown(classes)}; expected settings by label")
    for label, settings in classes.items():
        _check_settings(f"{path}: {_shown(label)}", settings, SETTINGS[decoder])
    notes = content.get("tuned", {})
    if not isinstance(notes, dict):
        raise InputError(f"{path}: tuned is {_shown(notes)}; expected an object")
    return TunedDecoder(decoder, medians, classes, notes)


_EXPECTED = "expected a file that jfsed-jax tune wrote"


def _check_settings(where: str, settings: Any, expected: Mapping[str, tuple[float, float]]) -> None:
    if not isinstance(settings, dict) or set(settings) != set(expected):
        names = sorted(settings) if isinstance(settings, dict) else settings
        raise InputError(f"{where} has {_shown(names)}; expected {', '.join(expected)}")
    for name, (lowest, highest) in expected.items():
        value = settings[name]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not lowest <= value <= highest
            or math.isnan(value)
        ):
            raise InputError(
                f"{where} has {name} {_shown(value)}; expected {lowest:g} to {highest:g}"
            )


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{_shown(twice)} is there twice")
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
