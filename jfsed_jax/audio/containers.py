"""What the headers of audio files announce, compared with what is there.

libsndfile goes by the size of the file: of a download that stopped it reads a part, and of what
lies behind the end that a header names it reads nothing. It notes some of that in a log, but not
for every container, and a long comment or a cover picture fills the log first.
"""

import os
import re
import shlex
import zlib
from pathlib import Path
from typing import IO, Literal, NamedTuple

from jfsed_jax.errors import InputError

_SLACK = 64  # bytes; some writers count a header as sound
_LOOSE = 2048  # bytes that are not looked into; the longest frame of an MP3 has 1441
_MANY = 10_000  # chunks; of a lie there could be a billion
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")  # of music players, behind the sound
# Lengths that say: written to a pipe, to its end. The last two are arecord's.
_OPEN = (2**32 - 1, 2**63 - 1, 2**64 - 1, 0x7FFFFF00, 0x80000000)
_SOX = range(0x7FFFF000 - _SLACK, 0x7FFFF000 + 1)  # its own such length, less what is no sample
_SOUND = (b"data", b"SSND", b"BODY")
_IGNORE = "-ignore_length 1 "  # ffmpeg reads a wav to the end of the file
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _Chunks(NamedTuple):
    """How the chunks of a container follow each other: name, size, content.

    Attributes:
      begin: of the first chunk.
      order: of the bytes of a size.
      name, size: bytes that they take.
      counts_itself: whether a chunk's size has its name and size in it.
      align: bytes at whose multiples chunks begin.
    """

    begin: int
    order: Literal["little", "big"]
    name: int = 4
    size: int = 4
    counts_itself: bool = False
    align: int = 2


_WAV, _IFF = _Chunks(12, "little"), _Chunks(12, "big")
_CONTAINERS = {
    **{b"RIFF": _WAV, b"RF64": _WAV, b"BW64": _WAV, b"RIFX": _IFF},
    b"FORM": _IFF,  # AIFF, 8SVX
    b"riff": _Chunks(40, "little", name=16, size=8, counts_itself=True, align=8),  # W64
    b"caff": _Chunks(8, "big", size=8, align=1),
}
_LONG = (b"RF64", b"BW64")  # their length stands elsewhere, in 64 bits


class _Chunk(NamedTuple):
    name: bytes
    begin: int  # of its content
    size: int
    end: int  # where another one begins


def conversion(path: str | Path, options: str = "") -> str:
    """The command that makes another file of this one, as a message has it."""
    path = Path(path)
    other = path.stem + (".wav" if path.suffix.lower() == ".flac" else ".flac")
    return f"ffmpeg {options}-i {_quoted(path.name)} {_quoted(other)}"


def _quoted(name: str) -> str:
    """A file name for a shell, in one line even where it has several or is no text."""
    if name.isprintable():
        return shlex.quote(name)
    letters = (letter if letter.isalnum() else os.fsencode(letter) for letter in name)
    escaped = (
        letter if isinstance(letter, str) else "".join(f"\\x{byte:02x}" for byte in letter)
        for letter in letters
    )
    return f"$'{''.join(escaped)}'"


def check_whole(path: str | Path) -> None:
    """Compares the sound that the header of an audio file announces with what is there.

    Of wav, RF64, W64, AIFF, CAF and AU by their bytes, of Ogg by its pages. Not of FLAC and MP3:
    what they announce is compared with what is decoded.

    Raises:
      InputError: it is cut short or damaged, or libsndfile would read a part of it.
      OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        kind = file.read(4)
        if kind == b"OggS":
            _check_pages(path, file)
        elif kind in _CONTAINERS:
            _check_chunks(path, file, kind)
        elif kind in (b".snd", b"dns."):  # AU
            order: Literal["big", "little"] = "big" if kind == b".snd" else "little"
            begin, size = (int.from_bytes(file.read(4), order) for _ in range(2))
            if not _is_open(size):
                _check_size(path, size, _length(file) - begin)
                check_rest(path, file, begin + size)


def check_rest(
    path: str | Path, file: IO[bytes], at: int, *, known: str = "its header", options: str = ""
) -> None:
    """That no more than tags, padding or a few bytes follow what is read of an audio file.

    Args:
      path, file: it, and opened.
      at: to where it is read.
      known: what says that it ends there.
      options: of the ffmpeg that would read the rest.

    Raises:
      InputError: more follows.
    """
    rest = _length(file) - at
    if rest <= _LOOSE:
        return
    file.seek(max(at - 4, 0))  # a decoder has read the next header
    begins = file.read(_LOOSE)
    if any(begins[8:]) and not any(tag in begins[:16] for tag in _TAGS):
        raise InputError(
            f"{path}: {known} says that the sound ends {rest} bytes before the file does; if they "
            f"are sound, convert it: {conversion(path, options)}"
        )


def announces_length(path: str | Path) -> bool:
    """Whether an MP3 has a header that counts its frames, by Xing; else libsndfile guesses."""
    with open(path, "rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":  # four times seven bits
            file.seek(10 + sum(byte << 7 * (3 - n) for n, byte in enumerate(head[6:10])))
        else:
            file.seek(0)
        found = re.search(rb"(?:Xing|Info)...(.)(....)", file.read(4096), re.DOTALL)
    return found is not None and bool(found[1][0] & 1) and any(found[2])


def _check_size(path: str | Path, announced: int, there: int) -> None:
    if announced > there + _SLACK:
        raise InputError(
            f"{path}: cut short, its header announces {announced} bytes of sound and "
            f"{max(there, 0)} are there; copy or download it again"
        )


def _check_chunks(path: str | Path, file: IO[bytes], kind: bytes) -> None:
    chunks, length = _CONTAINERS[kind], _length(file)
    options = "" if kind in (b"FORM", b"riff", b"caff") else _IGNORE
    if chunks.size == 4 and kind not in _LONG and length > 2**32 + 2**20:
        advice = f"convert it: {conversion(path, options)}" if options else "record it in parts"
        raise InputError(
            f"{path}: larger than the 4 GB that its header can say, so where it ends is not "
            f"known; {advice}"
        )
    at, long_size = chunks.begin, 0
    for _ in range(_MANY):
        chunk = _read_chunk(file, at, chunks)
        if chunk is None:
            return  # libsndfile names what it misses
        if chunk.name in _SOUND:
            break
        if chunk.name == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little")
        at = chunk.end
    else:
        raise InputError(f"{path}: damaged, no sound in its first {_MANY} chunks; copy it again")
    size = long_size if kind in _LONG and chunk.size == 2**32 - 1 else chunk.size
    if kind == b"caff" and _is_open(size):
        raise InputError(
            f"{path}: its header leaves open how long it is, which libsndfile does not read; "
            f"convert it: {conversion(path)}"
        )
    if _is_open(size) or (kind == b"FORM" and not size):
        return
    _check_size(path, size, length - chunk.begin)
    at = chunk.begin + size
    for _ in range(_MANY):
        behind = _read_chunk(file, at, chunks)
        named = behind is not None and re.fullmatch(rb"[ -~]{4}", behind.name)
        if behind is None or not named or behind.end > length + _SLACK:
            break
        at = behind.end
    check_rest(path, file, at, options=options)


def _read_chunk(file: IO[bytes], at: int, chunks: _Chunks) -> _Chunk | None:
    """The chunk that begins there, or by alignment a little behind; None at the file's end."""
    at += -at % chunks.align
    if at >= _length(file):
        return None
    file.seek(at)
    header = file.read(chunks.name + chunks.size)
    size = int.from_bytes(header[chunks.name :], chunks.order)
    if chunks.counts_itself and not _is_open(size):
        size = max(size - len(header), 0)
    begin = at + len(header)
    return _Chunk(header[:4], begin, size, begin + size)


def _is_open(size: int) -> bool:
    return size in _OPEN or size in _SOX


def _length(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _check_pages(path: str | Path, file: IO[bytes]) -> None:
    """That every page of an Ogg is there and as it was written, and of one sound (RFC 3533)."""
    before: dict[bytes, tuple[int, bytes]] = {}  # of each stream: number and time of its last page
    unfinished: set[bytes] = set()
    sounding = False
    at = 0
    file.seek(0)
    while True:
        head = file.read(27)
        if before and not unfinished and head[:4] != b"OggS":
            return check_rest(path, file, at, known="its last page")
        if head[:4] != b"OggS"[: len(head)]:
            raise InputError(
                f"{path}: damaged, no page of Ogg begins at byte {at}; copy or download it again"
            )
        lacing = file.read(head[26]) if len(head) == 27 else b""
        page = head + lacing + file.read(sum(lacing))
        if len(head) < 27 or len(page) < 27 + head[26] + sum(lacing):
            raise InputError(
                f"{path}: cut short, it ends before its last page; copy or download it again, or, "
                f"if that is all there is, convert it: {conversion(path)}"
            )
        stream, number = page[14:18], int.from_bytes(page[18:22], "little")
        if page[5] & 2:  # a stream begins
            if sounding:
                raise InputError(
                    f"{path}: several recordings one after another, of which only the first would "
                    f"be read; convert it: {conversion(path)}"
                )
            unfinished.add(stream)
        else:
            sounding = True
        # A stream that was tuned into has its headers and then pages of later numbers.
        last, time = before.get(stream, (number - 1, bytes(8)))
        if _checksum(page) != page[22:26] or (number != last + 1 and any(time)):
            raise InputError(
                f"{path}: damaged at byte {at}, where a page of Ogg is not as it was written or "
                "one is missing; copy or download it again"
            )
        before[stream] = number, page[6:14]
        if page[5] & 4:  # it ends
            unfinished.discard(stream)
        at += len(page)


def _checksum(page: bytes) -> bytes:
    """Of a page of Ogg: zlib's CRC-32 with the bits of each byte and of the sum turned round."""
    turned = (page[:22] + bytes(4) + page[26:]).translate(_TURNED)
    value = zlib.crc32(turned, 0xFFFFFFFF) ^ 0xFFFFFFFF  # zlib begins and ends with all ones
    return int(f"{value:032b}"[::-1], 2).to_bytes(4, "little")
