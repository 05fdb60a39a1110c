"""Reading packed files that may be damaged or hostile: bounded, forward only, errors named."""

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, Self

from cnnclf.errors import DataError
from cnnclf.files import format_bytes

MAX_GROWTH: Final = 200
"""Unpacked bytes for each packed byte that a source of images may have; text and drawn images
stay below 50, bombs begin at 1000."""

HARMLESS_BYTES: Final = 100 * 2**20
"""What is smaller than this when unpacked may have grown as much as it likes."""

MAX_READ_BYTES: Final = 2**28
"""The most that is read in one piece: an image of 16384 x 16384 gray pixels."""


def check_growth(source: Path, *, unpacked_bytes: int, packed_bytes: int) -> None:
    """Refuse a bomb: a small file that unpacks into a huge one.

    Raises:
        DataError: More than `HARMLESS_BYTES`, and more than `MAX_GROWTH` times the packed size.
    """
    if unpacked_bytes > HARMLESS_BYTES and unpacked_bytes > MAX_GROWTH * packed_bytes:
        raise DataError(
            f"expected images that unpack to at most {MAX_GROWTH} times their packed size, but "
            f"{source} with {format_bytes(packed_bytes)} unpacks to "
            f"{format_bytes(unpacked_bytes)} or more",
            "if you trust the file, unpack it yourself and import the folder",
        )


class PackedReader:
    """Reads a file from its start to its end, unpacking gzip, bzip2 or xz on the way.

    Whatever is wrong with the packed bytes becomes a `DataError` that names the file. It moves
    forward only, so that no header can send a parser in circles.

    Args:
        path: The file; its first bytes, not its name, decide how it is packed.

    Attributes:
        packing: `gzip`, `bzip2`, `xz`, or "" when the file is not packed.
        packed_bytes: Size of the file.
        last: What `read` returned last.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = b""
        self._position = 0
        try:
            file = path.open("rb")
        except OSError as error:
            raise DataError(f"expected a readable file, but {path}: {error.strerror}") from error
        self.packed_bytes = path.stat().st_size
        self.packing = packing_of(file.read(6))
        file.seek(0)
        self._file = file
        self._stream: IO[bytes] = self._unpacked(file)

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, fewer only at the end of the file."""
        if not 0 <= size <= MAX_READ_BYTES:
            raise self.fault(f"it asks for {size} bytes at once")
        try:
            data = self._stream.read(size)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
            raise self.fault(str(error) or type(error).__name__) from error
        self.last = data
        self._position += len(data)
        if self.packing:
            check_growth(self.path, unpacked_bytes=self._position, packed_bytes=self.packed_bytes)
        return data

    def read_exactly(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            DataError: The file ends before.
        """
        data = self.read(size)
        if len(data) < size:
            raise self.fault("it ends too early")
        return data

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Go forward to `position`, counted from the start of the unpacked file."""
        if whence != io.SEEK_SET or position < self._position:
            raise self.fault("a header points backwards")
        if not self.packing:
            self._position = self._file.seek(position)
        while self._position < position and self.read(min(_SKIP_BYTES, position - self._position)):
            pass
        return self._position

    def tell(self) -> int:
        """Return how many unpacked bytes lie behind."""
        return self._position

    def expect_end(self) -> None:
        """Check that all is read; at the end of a packed file its checksum is proved too.

        Raises:
            DataError: There is more to read.
        """
        if self.read(1):
            raise self.fault("it goes on after its end")

    def drain(self) -> None:
        """Read a packed file to its end, where its checksum is proved."""
        while self.packing and self.read(_SKIP_BYTES):
            pass

    def fault(self, reason: str) -> DataError:
        """Return the error that says what is wrong with the file."""
        return damaged(self.path, self.packing, reason)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _unpacked(self, file: IO[bytes]) -> IO[bytes]:
        if self.packing == "gzip":
            return gzip.GzipFile(fileobj=file, mode="rb")  # type: ignore[return-value]
        if self.packing == "bzip2":
            return bz2.BZ2File(file, mode="rb")
        if self.packing == "xz":
            self._check_xz_memory(file)
            return lzma.LZMAFile(file, mode="rb")
        return file

    def _check_xz_memory(self, file: IO[bytes]) -> None:
        # The header of an xz stream says how much memory unpacking takes: up to 4 GiB.
        try:
            lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES).decompress(file.read(4096), 1)
        except (lzma.LZMAError, EOFError) as error:
            file.close()
            raise self.fault(str(error)) from error
        file.seek(0)


def read_start(path: Path, size: int) -> bytes:
    """Return the first bytes of a file; b"" if it is no file that can be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""  # what cannot be read is said when it is needed


def packing_of(start: bytes) -> str:
    """Return `gzip`, `bzip2` or `xz` for a file that starts with these bytes (6 suffice), or ""."""
    for magic, packing in _PACKINGS:
        if start.startswith(magic):
            return packing
    return ""


@contextmanager
def zip_faults(source: Path) -> Iterator[None]:
    """Turn what reading a damaged zip file raises into one `DataError`; for reading only."""
    try:
        yield
    except _ZIP_ERRORS as error:
        raise damaged(source, "zip", str(error) or type(error).__name__) from error


def damaged(source: Path, kind: str, reason: str) -> DataError:
    """Return the error for a file that is not as its format demands."""
    whole = f"whole {kind} file" if kind else "whole file"
    return DataError(
        f"expected a {whole}, but {source} is damaged or cut off: {reason}",
        "fetch or make the file again",
    )


_PACKINGS: Final = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"))
_XZ_MEMORY_BYTES: Final = 2**30
_SKIP_BYTES: Final = 2**20
_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)
