"""Headers of arrays, among them damaged ones and ones that would run code."""

import io

import numpy as np
import pytest

from cnnclf.errors import DataError
from cnnclf.images.npy_header import MAGIC, read_npy_header


@pytest.mark.parametrize(
    "header",
    [
        b"",
        MAGIC,
        MAGIC + b"\1\0",
        MAGIC + b"\1\0\xff\xff{",
        MAGIC + b"\2\0\xff\xff\xff\xff{",
        MAGIC + b"\1\0\2\0{}",
        MAGIC + b"\1\0\x30\0" + b"[" * 48,
        *(
            MAGIC + b"\1\0" + len(text).to_bytes(2, "little") + text
            for text in (
                b"{'descr': '|u1', 'fortran_order': 0, 'shape': (-1, 2)}",
                b"{'descr': '|u1', 'fortran_order': 0, 'shape': 5}",
                b"{'descr': '|u1', 'fortran_order': 0, 'shape': (1,1,1,1,1,1,1,1,1)}",
                b"{'descr': '|O', 'fortran_order': 0, 'shape': (1,)}",
                b"{'descr': [('a', '<f4')], 'fortran_order': 0, 'shape': (1,)}",
                b"{'descr': '(9,9)f4', 'fortran_order': 0, 'shape': (1,)}",
                b"__import__('os').system('true')",
            )
        ),
    ],
)
def test_headers_that_are_refused(header: bytes) -> None:
    with pytest.raises(DataError, match="the file"):
        read_npy_header(io.BytesIO(header).read, "the file")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_the_format(version: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.zeros((3, 4), ">i2"), version=version)
    size = buffer.tell()
    buffer.seek(0)
    header = read_npy_header(buffer.read, "x")
    assert (header.dtype, header.shape, header.in_columns) == (np.dtype(">i2"), (3, 4), False)
    assert header.offset == buffer.tell()
    assert header.offset + header.size_bytes == size
