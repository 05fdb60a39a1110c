"""The arrays of a NumPy archive (.npz), read in blocks and no further than their headers say."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from cnnclf.errors import DataError
from cnnclf.files import format_bytes
from cnnclf.images.npy_header import NpyHeader, read_npy_header
from cnnclf.importers.archives.packed import check_growth, damaged, zip_faults
from cnnclf.importers.formats.arrays import Numbers, block_length


@dataclass(frozen=True)
class NpzArray:
    """An array in the archive, not read yet."""

    source: Path
    member: str
    header: NpyHeader

    @property
    def key(self) -> str:
        """Name of the array."""
        return array_key(self.member)

    @property
    def count(self) -> int:
        """Number of samples: the first dimension."""
        return self.header.shape[0] if self.header.shape else 0

    def blocks(self) -> Iterator[Numbers]:
        """Yield the array in blocks along its first dimension."""
        header = self.header
        if header.in_columns:
            # The numbers of one sample are scattered over the file.
            yield from np.array_split(self.read(), max(1, self.count // _BLOCK_LENGTH))
            return
        shape = header.shape[1:]
        item_bytes = math.prod(shape) * header.dtype.itemsize
        length = block_length(item_bytes)
        with self._open() as member:
            for start in range(0, self.count, length):
                count = min(length, self.count - start)
                data = _read_exactly(self.source, member, count * item_bytes)
                yield np.frombuffer(data, header.dtype).reshape(count, *shape)

    def read(self) -> Numbers:
        """Return the whole array."""
        header = self.header
        if header.size_bytes > _MAX_WHOLE_BYTES:
            raise DataError(
                f"{self.key} of {self.source} has {format_bytes(header.size_bytes)}; at most "
                f"{format_bytes(_MAX_WHOLE_BYTES)} can be read at once",
                "save images in C order: numpy.ascontiguousarray(x)",
            )
        with self._open() as member:
            data = _read_exactly(self.source, member, header.size_bytes)
        order: Any = "F" if header.in_columns else "C"
        return np.frombuffer(data, header.dtype).reshape(header.shape, order=order)

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with zip_faults(self.source):
            archive = zipfile.ZipFile(self.source)
        with archive:
            with zip_faults(self.source):
                member = archive.open(self.member)
                member.read(self.header.offset)
            with member:
                yield member


def find_arrays(source: Path) -> dict[str, NpzArray]:
    """Read the headers of all arrays and check their sizes before anything is allocated."""
    arrays = {}
    packed_bytes = source.stat().st_size
    with zip_faults(source), zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise DataError(f"{source} is encrypted")
            check_growth(source, unpacked_bytes=info.file_size, packed_bytes=packed_bytes)
            with archive.open(info) as member:
                header = read_npy_header(member.read, f"{array_key(info.filename)} of {source}")
            if header.offset + header.size_bytes != info.file_size:
                reason = f"{info.filename} does not have the size of its array"
                raise damaged(source, "zip", reason=reason)
            arrays[array_key(info.filename)] = NpzArray(source, info.filename, header)
    return arrays


def array_key(member: str) -> str:
    """Return the name of an array, as `numpy.load` gives it."""
    return member.removesuffix(".npy")


_BLOCK_LENGTH: Final = 256
_MAX_WHOLE_BYTES: Final = 2**31


def _read_exactly(source: Path, member: IO[bytes], size: int) -> bytes:
    with zip_faults(source):
        data = member.read(size)
    if len(data) < size:
        raise damaged(source, "zip", reason="an array ends too early")
    return data
