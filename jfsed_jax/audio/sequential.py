"""Audio files as libsndfile decodes them, from the beginning to the end."""

import os
from pathlib import Path

import numpy as np
import soundfile

from jfsed_jax.audio.containers import announces_length, check_rest

_UNKNOWN = 2**63 - 1  # frames, of a FLAC that was written to a pipe


class SequentialFile(soundfile.SoundFile):
    """A file that is not sought in: soundfile does after each block, which needs a length.

    Attributes:
      length: frames that its header announces; None if it does not.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises what `soundfile.SoundFile` does."""
        super().__init__(os.fsencode(path))  # for a file name need not be text
        self.path, self._handle, self._done = path, None, 0
        guessed = self.format == "MP3" and not announces_length(path)
        self.length = None if guessed or self.frames == _UNKNOWN else self.frames
        if self.format in ("MP3", "FLAC"):
            # libsndfile ends at the length that it was told or has guessed.
            self.close()
            self._handle = os.open(path, os.O_RDONLY)
            super().__init__(self._handle)

    def seekable(self) -> bool:
        """That it is not."""
        return False

    def block(self, count: int) -> np.ndarray:
        """The next frames <float32>[N, channels], at most so many; at the end none.

        Raises:
          InputError: libsndfile ends before the file does.
        """
        # Asked for more than it has, libsndfile reads on and drops what it then has too much.
        count = min(count, self.frames - self._done)
        if self.subtype == "PCM_16":  # as libsndfile converts it, to the bit, in less time
            samples = self.read(count, "int16", always_2d=True)
            samples = np.multiply(samples, np.float32(2**-15), dtype=np.float32)
        else:
            samples = self.read(count, "float32", always_2d=True)
        self._done += len(samples)
        if not len(samples) and self._handle is not None:
            known = "its header" if self.length is not None else "a guess from its beginning"
            with open(self.path, "rb") as file:
                check_rest(self.path, file, os.lseek(self._handle, 0, os.SEEK_CUR), known=known)
        return samples
