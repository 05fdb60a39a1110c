"""Reading compressed files that may be damaged or hostile: limited, forward only."""

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

from cnnclf.bounded import check_regular
from cnnclf.errors import DataError
from cnnclf.files import format_bytes

MAX_GROWTH: Final = 200
"""Maximum ratio of unpacked to packed bytes in a source of images; text and drawings stay below
50, bombs begin at 1000."""

HARMLESS_BYTES: Final = 100 * 2**20
"""No maximum ratio applies to what unpacks to fewer bytes than this."""

MAX_READ_BYTES: Final = 2**28
"""Maximum number of bytes to read at once: a gray image of 16384 x 16384 pixels."""


def check_growth(source: Path, *, unpacked_bytes: int, packed_bytes: int) -> None:
    """Refuse a bomb: a small file that unpacks into a huge one.

    Raises:
        DataError: More than `HARMLESS_BYTES`, and more than `MAX_GROWTH` times the packed size.
    """
    if unpacked_bytes > HARMLESS_BYTES and unpacked_bytes > MAX_GROWTH * packed_bytes:
        raise DataError(
            f"{source} unpacks from {format_bytes(packed_bytes)} to "
            f"{format_bytes(unpacked_bytes)} or more; images may grow at most {MAX_GROWTH} times",
            "if you trust the file, unpack it yourself and import the folder",
        )


class PackedReader:
    """Reads a file from its start to its end, unpacking gzip, bzip2 or xz on the way.

    Any fault in the packed bytes becomes a `DataError` that names the file. The reader only moves
    forward, so that no header can send a parser in circles.

    Args:
        path: The file; its first bytes, not its name, tell how it is packed.

    Attributes:
        packing: `gzip`, `bzip2`, `xz`, or "" if the file is not packed.
        packed_bytes: Size of the file.
        last: What `read` returned last.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = b""
        self._position = 0
        try:
            self.packed_bytes = check_regular(path).st_size
            file = path.open("rb")
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        self.packing = packing_of(file.read(6))
        file.seek(0)
        self._file = file
        self._stream: IO[bytes] = self._unpacked(file)

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, fewer only at the end of the file."""
        if not 0 <= size <= MAX_READ_BYTES:
            raise self.fault(f"it requests {size} bytes at once")
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
            DataError: The file ends earlier.
        """
        data = self.read(size)
        if len(data) < size:
            raise self.fault("it ends too early")
        return data

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Move forward to `position`, counted from the start of the unpacked file."""
        if whence != io.SEEK_SET or position < self._position:
            raise self.fault("a header points backwards")
        if not self.packing:
            self._position = self._file.seek(position)
        while self._position < position and self.read(min(_SKIP_BYTES, position - self._position)):
            pass
        return self._position

    def tell(self) -> int:
        """Return how many unpacked bytes were read or skipped."""
        return self._position

    def expect_end(self) -> None:
        """Check that everything was read, and at the end of a packed file its checksum.

        Raises:
            DataError: More bytes follow.
        """
        if self.read(1):
            raise self.fault("more bytes follow after its end")

    def drain(self) -> None:
        """Read a packed file to its end, where its checksum is verified."""
        while self.packing and self.read(_SKIP_BYTES):
            pass

    def fault(self, reason: str) -> DataError:
        """Return the error for this file."""
        return damaged(self.path, self.packing, reason=reason)

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
        # Unpacking takes as much memory as the header of the xz stream says: up to 4 GiB.
        try:
            lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES).decompress(file.read(4096), 1)
        except (lzma.LZMAError, EOFError) as error:
            file.close()
            raise self.fault(str(error)) from error
        file.seek(0)


def read_start(path: Path, size: int) -> bytes:
    """Return the first bytes of a file; b"" if it cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""  # reported when the file is read


def packing_of(start: bytes) -> str:
    """Return `gzip`, `bzip2` or `xz` for the first (at least 6) bytes of a file, or ""."""
    for magic, packing in _PACKINGS:
        if start.startswith(magic):
            return packing
    return ""


@contextmanager
def zip_faults(source: Path) -> Iterator[None]:
    """Turn the errors of reading a damaged zip file into one `DataError`; for reading only."""
    try:
        yield
    except NotImplementedError as error:
        raise DataError(
            f"the zip file {source} is packed in a way that is not supported: {error}",
            "unpack it with another program and import the folder",
        ) from error
    except _ZIP_ERRORS as error:
        raise damaged(source, "zip", reason=str(error) or type(error).__name__) from error


def damaged(source: Path, kind: str, *, reason: str) -> DataError:
    """Return the error for a file that violates its format."""
    file = f"the {kind} file {source}" if kind else f"{source}"
    return DataError(f"{file} is damaged or truncated: {reason}", "download or make it again")


_PACKINGS: Final = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"))
_XZ_MEMORY_BYTES: Final = 2**30
_SKIP_BYTES: Final = 2**20
_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
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
