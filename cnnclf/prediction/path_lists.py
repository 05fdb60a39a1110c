"""Lists of paths, read as they come from a file or a pipe."""

import codecs
import os
import select
from collections.abc import Iterator
from typing import Protocol

from cnnclf.errors import DataError

_CHUNK_BYTES = 1 << 16
_PATIENCE_S = 0.5


class ByteStream(Protocol):
    """What a list is read from: a file opened in binary mode, or the buffer of stdin."""

    def read1(self, size: int = -1, /) -> bytes:
        """Read what is there, at most `size` bytes; empty at the end."""


def read_list(stream: ByteStream, name: str) -> Iterator[str]:
    """Read paths from a list as they come, one a line or NUL-separated.

    Args:
        stream: The list.
        name: What the list is called, for the message.

    Yields:
        Paths; an empty text where the rest has to be waited for.

    Raises:
        DataError: It is UTF-16 text, which some shells of Windows write.
    """
    chunk = stream.read1(_CHUNK_BYTES)
    if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            f"expected a list of paths in UTF-8, the list {name} is UTF-16",
            "save it as UTF-8 and try again",
        )
    rest = chunk.removeprefix(codecs.BOM_UTF8)
    separator = b"\0" if b"\0" in rest else b"\n"
    while chunk:
        *lines, rest = rest.split(separator)
        yield from _paths(lines, separator)
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
    """Tell whether nothing comes for a moment; False where that cannot be known."""
    try:
        number = stream.fileno()  # type: ignore[attr-defined]
        return not select.select([number], [], [], _PATIENCE_S)[0]
    except (AttributeError, OSError, ValueError):  # not a file of the system, or not a pipe there
        return False
