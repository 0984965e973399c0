"""Progress: a bar for a person, lines for a log file."""

import io
import sys

from jfsed_jax import progress


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self):
        return True


def test_a_log_file_gets_one_line_from_a_short_task(capsys):
    for _ in progress.progress_bar(range(1000), desc="counting", unit="clip"):
        pass
    text = capsys.readouterr().err
    (line,) = text.splitlines()
    assert line.startswith("counting: 100% 1000/1000 [")
    assert text == f"{line}\n"  # neither \r nor padding


def test_a_log_file_gets_a_line_at_each_interval(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.progress_bar(total=6, initial=2, desc="training", unit="step") as bar:
        for _ in range(4):
            bar.update()
    text = capsys.readouterr().err
    assert [line.split()[2] for line in text.splitlines()] == ["3/6", "4/6", "5/6", "6/6", "6/6"]
    assert "\r" not in text


def test_text_behind_the_numbers_draws_no_line_of_its_own(capsys):
    with progress.progress_bar(total=100, desc="training") as bar:
        for step in range(100):
            bar.update()
            bar.set_postfix_str(f"loss {step}")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("loss 99]")


def test_bars_at_the_same_time_move_no_cursor(capsys):
    with progress.progress_bar(total=1, desc="outer") as outer:
        for _ in progress.progress_bar(range(2), desc="inner"):
            pass
        outer.update()
    text = capsys.readouterr().err
    assert [line.split(":")[0] for line in text.splitlines()] == ["inner", "outer"]
    assert "\x1b" not in text


def test_nothing_is_left_or_shown_where_it_is_not_wanted(capsys):
    for kwargs in ({"leave": False}, {"disable": True}):
        for _ in progress.progress_bar(range(3), desc="quiet", **kwargs):
            pass
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in progress.progress_bar(range(3), desc="counting"):
        pass
    assert "\rcounting: 100%|" in terminal.getvalue()
