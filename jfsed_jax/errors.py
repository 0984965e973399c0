"""The one exception for bad input from a user, and text on one line, as its message is."""

import re

# Line ends, tabs and the like; what stands for bytes that are no UTF-8.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class InputError(ValueError):
    """Bad input: the message is one line that names file and row, what was found, and what to do.

    The command line prints the message without a traceback and exits with status 2.
    """


def one_line(text: str) -> str:
    """With escapes, as ``\\n``, in place of line ends, tabs and what else cannot be printed."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
