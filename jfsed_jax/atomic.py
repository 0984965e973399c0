"""Files that are whole or not there."""

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file in one piece and makes its folder; text is UTF-8.

    A reader, and whoever comes after a kill or a full disk, finds the old file or the new one.

    Raises:
      OSError: it cannot be written; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():  # a terminal or a pipe, as /dev/stdout
        path.write_bytes(data)
        return
    # Of this process: two that write the same file do not share a half.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
