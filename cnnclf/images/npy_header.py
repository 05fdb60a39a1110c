"""The headers of arrays in NumPy's own format, which anybody may have written.

Format: NumPy enhancement proposal 1, "A simple file format for NumPy arrays". Only plain numbers
and text are read; pickled objects could run code. Headers are parsed here because NumPy's parser
trusts them (docs/decisions/0010-reading-sources-ourselves.md).
"""

import ast
import math
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from cnnclf.errors import DataError

MAGIC: Final = b"\x93NUMPY"


class NpyHeader(NamedTuple):
    """The header of an array.

    Args:
        dtype: Type of the numbers or the text, never objects.
        shape: Dimensions of the array, each 0 or more.
        in_columns: Whether the first index runs fastest (Fortran order).
        offset: Bytes before the first number.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    in_columns: bool
    offset: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(read: Callable[[int], bytes], name: str) -> NpyHeader:
    """Read the header of an array; the numbers follow.

    Args:
        read: Returns the next bytes, like the method of a file.
        name: Name of the array, for messages.

    Raises:
        DataError: It is not an array, or one of objects or records.
    """
    start = read(8)
    length_bytes = read(2 if start[6:7] == b"\x01" else 4)
    length = int.from_bytes(length_bytes, "little")
    if len(start) < 8 or not start.startswith(MAGIC) or length > _MAX_HEADER_BYTES:
        raise DataError(f"{name} is not an array in NumPy's format")
    text = read(length)
    try:
        fields = ast.literal_eval(text.decode("utf-8" if start[6] > 2 else "latin-1").strip())
        described, in_columns, shape = (fields[key] for key in _HEADER_KEYS)
        sides = tuple(int(side) for side in shape)
    except _HEADER_ERRORS as error:
        raise DataError(f"the header of {name} is damaged") from error
    if not isinstance(described, str) or not _PLAIN_TYPES.fullmatch(described):
        raise DataError(
            f"expected an array of plain numbers in {name}, received {str(described)[:40]!r}",
            "save it again as an array of numbers: numpy.save(path, numpy.stack(samples))",
        )
    if any(side < 0 for side in sides) or len(sides) > _MAX_DIMENSIONS:
        raise DataError(f"the header of {name} is damaged: shape {sides[:8]}")
    offset = len(start) + len(length_bytes) + length
    return NpyHeader(np.dtype(described), sides, bool(in_columns), offset)


_HEADER_KEYS: Final = ("descr", "fortran_order", "shape")
_HEADER_ERRORS: Final = (
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
)
_PLAIN_TYPES: Final = re.compile(r"[<>|=]?(b1|i[1248]|u[1248]|f[248]|S\d{1,4}|U\d{1,4})")
_MAX_HEADER_BYTES: Final = 10_000
_MAX_DIMENSIONS: Final = 8
