"""Files that are whole or not there."""

import os
from pathlib import Path

from jfsed_jax.errors import InputError


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file in one piece and makes its folder; text is UTF-8.

    A reader, and whoever comes after a kill or a full disk, finds the old file or the new one. What
    is no regular file, as a pipe, a terminal or a link, is written as it is and not replaced.

    Raises:
      InputError: it cannot be written; what was there stays.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(data)
        else:
            _replace(path, data)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def _replace(path: Path, data: bytes) -> None:
    # Of this process: two that write the same file do not share a half.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
