"""What glibc does with memory that XLA frees on a CPU; on other platforms nothing is done."""

import ctypes
from contextlib import suppress


def keep_freed_memory() -> None:
    """Asks glibc to keep what XLA frees.

    Every step allocates and frees gigabytes of activations. By default each of them goes back to
    the kernel and is faulted in again page by page, which can take as long as the arithmetic.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for parameter, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1), (-2, 2**28)):
            mallopt(parameter, value)  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD


def release_freed_memory() -> None:
    """Gives what is free now back to the system, once.

    Compilation takes hundreds of megabytes that no step needs.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
