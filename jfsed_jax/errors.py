"""The one exception for bad input from a user."""


class InputError(ValueError):
    """Bad input: the message is one line that names file and row, what was found, and what to do.

    The command line prints the message without a traceback and exits with status 2.
    """
