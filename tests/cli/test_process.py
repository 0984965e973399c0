"""What libraries say beside an error that the command tells in one line."""

import logging
import sys
import threading

import pytest

from jfsed_jax.cli import process


@pytest.fixture
def passed_on(monkeypatch):
    """What the hooks that were there before get."""
    found = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    for _ in range(2):  # as in a process with several commands
        process.say_errors_once()
    return found


def test_a_thread_that_keeps_its_error_for_others_prints_no_traceback(passed_on):
    class Keeps(threading.Thread):
        def run(self):
            self.exception = OSError("disk full")
            raise self.exception

    def loses():
        raise OSError("nobody asks for it")

    for thread in (Keeps(), threading.Thread(target=loses)):
        thread.start()
        thread.join()
    assert [str(failed.exc_value) for failed in passed_on] == ["nobody asks for it"]


def test_writes_that_ended_with_another_print_no_traceback(passed_on):
    class Unraisable:
        object = err_msg = exc_traceback = None

        def __init__(self, error):
            self.exc_type, self.exc_value = type(error), error

    for error in (RuntimeError("Event loop is closed"), RuntimeError("else"), OSError("else")):
        sys.unraisablehook(Unraisable(error))
    assert [failed.exc_type for failed in passed_on] == [RuntimeError, OSError]
    assert str(passed_on[0].exc_value) == "else"


@pytest.mark.parametrize(
    ("path", "name", "level", "error", "wanted"),
    [
        ("/lib/orbax/checkpoint/x.py", "absl", logging.ERROR, True, False),  # raised, too
        ("/lib/orbax/checkpoint/x.py", "absl", logging.ERROR, False, True),
        ("/lib/asyncio/base_events.py", "asyncio", logging.ERROR, True, False),
        ("/lib/other.py", "absl", logging.ERROR, True, True),
        ("/lib/other.py", "absl", logging.INFO, False, False),
        (process.__file__, "absl", logging.INFO, True, True),
    ],
)
def test_the_log_has_what_is_told_nowhere_else(path, name, level, error, wanted):
    info = (OSError, OSError("x"), None) if error else None
    record = logging.LogRecord(name, level, path, 1, "message", None, info)
    assert bool(process._is_wanted(record)) == wanted
