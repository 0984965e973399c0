"""Progress on stderr: a bar in a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

LINE_SECONDS = 30.0  # between two lines where stderr is no terminal


class _Lines:
    """A file for tqdm that makes each redrawing of the bar a line of its own."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Writes what is drawn; carriage returns, padding and empty lines are left out."""
        if text := text.strip():
            self._file.write(f"{text}\n")

    def flush(self) -> None:
        self._file.flush()


class _LogBar(tqdm):
    """A bar that other text behind its numbers does not draw sooner."""

    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        if not self.disable and time.time() - self.last_print_t >= self.mininterval:
            return super().refresh(*args, **kwargs)
        return None


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    desc: str,
    unit: str = "it",
    initial: int = 0,
    leave: bool = True,
    disable: bool = False,
) -> tqdm:
    """A tqdm bar; where stderr is no terminal, a line every 30 s and one at the end.

    Args:
      iterable: what to count; None for a bar that `update` moves.
      total: the number of items; by default ``len(iterable)``.
      desc: what goes on, in a word.
      unit: what is counted, singular.
      initial: how many items are done already.
      leave: keep the bar, or the last line, when all is done.
      disable: show nothing.
    """
    bar: type[tqdm] = tqdm
    kwargs: dict[str, Any] = {"dynamic_ncols": True}
    if not sys.stderr.isatty():
        # `miniters` keeps tqdm's own thread from drawing sooner, `delay` the first line from
        # saying 0 %; `ncols` 0 leaves the numbers without the bar; `position` 0 moves no cursor.
        bar = _LogBar
        kwargs = {
            "file": _Lines(sys.stderr),
            "mininterval": LINE_SECONDS,
            "miniters": 1,
            "delay": 1e-9,
            "ncols": 0,
            "position": 0,
        }
    return bar(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        leave=leave,
        disable=disable,
        **kwargs,
    )
