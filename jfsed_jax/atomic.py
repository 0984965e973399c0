"""Files that are whole or not there."""

import os
from collections.abc import Iterable
from pathlib import Path

from jfsed_jax.errors import InputError


def write_whole(path: Path, content: str | bytes | Iterable[bytes]) -> None:
    """Writes a file in one piece and makes its folder; text is UTF-8, blocks are written in turn.

    A reader, and whoever comes after a kill or a full disk, finds the old file or the new one. What
    is no regular file, as a pipe, a terminal or a link, is written as it is and not replaced.

    Raises:
      InputError: it cannot be written; what was there stays.
    """
    text = content.encode() if isinstance(content, str) else content
    blocks = [text] if isinstance(text, bytes) else text
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            with path.open("wb") as file:
                file.writelines(blocks)
        else:
            _replace(path, blocks)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def _replace(path: Path, blocks: Iterable[bytes]) -> None:
    # Of this process: two that write the same file do not share a half.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
