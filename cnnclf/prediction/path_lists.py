"""Lists of paths, read as they come from a file or a pipe."""

import codecs
import os
import select
from collections.abc import Iterator
from typing import Protocol

from cnnclf.errors import DataError

_CHUNK_BYTES = 1 << 16
_MAX_PATH_BYTES = 1 << 20
_PATIENCE_S = 0.5
# How the most frequent kinds of images begin. So may a path, but not with a NUL soon after it.
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
_HEADER_BYTES = 16


class ByteStream(Protocol):
    """The source of a list: a file opened in binary mode, or the buffer of stdin."""

    def read1(self, size: int = -1, /) -> bytes:
        """Read what is available, at most `size` bytes; empty at the end."""


def read_list(stream: ByteStream, name: str) -> Iterator[str]:
    """Read paths from a list as they come, one per line or NUL-separated.

    Yields:
        Paths; an empty string before waiting for more input.

    Raises:
        DataError: The list is UTF-16 text, which some Windows shells write, or an image, or an
            entry is longer than any path.
    """
    chunk = stream.read1(_CHUNK_BYTES)
    if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            f"the list of paths {name} is encoded in UTF-16, not in UTF-8",
            "save it as UTF-8 and try again",
        )
    if chunk.startswith(_IMAGES) and b"\0" in chunk[:_HEADER_BYTES]:
        raise DataError(
            f"the list of paths {name} is an image",
            "give the path of the image: cnnclf predict RUN IMAGE",
        )
    rest = chunk.removeprefix(codecs.BOM_UTF8)
    separator = b"\0" if b"\0" in rest else b"\n"
    while chunk:
        *lines, rest = rest.split(separator)
        yield from _paths(lines, separator)
        if len(rest) > _MAX_PATH_BYTES:
            raise DataError(
                f"the list of paths {name} has an entry of more than {_MAX_PATH_BYTES:,} bytes",
                "give a list with one path per line",
            )
        if _is_silent(stream):
            yield ""
        chunk = stream.read1(_CHUNK_BYTES)
        rest += chunk
    yield from _paths([rest], separator)


def _paths(lines: list[bytes], separator: bytes) -> Iterator[str]:
    for line in lines:
        path = line.rstrip(b"\r") if separator == b"\n" else line
        if path.strip():
            yield os.fsdecode(path)


def _is_silent(stream: ByteStream) -> bool:
    """Return whether nothing arrives for half a second; False where that is unknown."""
    try:
        number = stream.fileno()  # type: ignore[attr-defined]
        return not select.select([number], [], [], _PATIENCE_S)[0]
    except (AttributeError, OSError, ValueError):  # no file descriptor, or select needs a socket
        return False
