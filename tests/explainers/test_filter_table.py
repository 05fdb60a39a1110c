"""Filters by name and from files."""

from pathlib import Path

import numpy as np
import pytest

from cnnclf.errors import DataError, UsageError
from cnnclf.explainers.convolution import Sliding, convolve
from cnnclf.explainers.filter_table import FILTERS, find_kernel

# What each gives for a flat image of ones, and for a ramp that rises by 1 per column.
FLAT = {"sobel-x": 0.0, "sobel-y": 0.0, "laplacian": 0.0}
RAMP = {"sobel-x": 8.0, "sobel-y": 0.0, "laplacian": 0.0}


@pytest.mark.parametrize("row", FILTERS, ids=lambda row: row.name)
def test_every_filter_keeps_or_removes_what_is_flat(row: object) -> None:
    name = getattr(row, "name", "")
    kernel = find_kernel(name)
    flat = convolve(np.ones((6, 6, 1)), kernel, sliding=Sliding()).summed
    np.testing.assert_allclose(flat, FLAT.get(name, 1.0), atol=1e-12)
    if name in RAMP:
        ramp = np.tile(np.arange(6.0), (6, 1))[:, :, None]
        found = convolve(ramp, kernel, sliding=Sliding()).summed
        np.testing.assert_allclose(found, RAMP[name], atol=1e-12)


@pytest.mark.parametrize("name", [row.name for row in FILTERS if row.is_sized])
def test_sized_filters_keep_their_sum_with_their_size(name: str) -> None:
    for size in (3, 5, 7):
        kernel = find_kernel(name, size=size)
        assert kernel.weights.shape == (size, size)
        assert float(kernel.weights.sum()) == pytest.approx(FLAT.get(name, 1.0))


def test_normalizing_divides_by_the_sum_or_by_absolute_values(tmp_path: Path) -> None:
    assert find_kernel("emboss").normalized().weights.sum() == pytest.approx(1)
    assert np.abs(find_kernel("sobel-x").normalized().weights).sum() == pytest.approx(1)
    path = tmp_path / "zeros.csv"
    path.write_text("0,0\n0,0\n")
    with pytest.raises(DataError, match="only zeros"):
        find_kernel(str(path)).normalized()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_kernel_from_a_file(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "own.csv"
    rows = [["1", " -2.5", "3"], ["4", "5e-1", "6"]]
    path.write_text("\n".join(separator.join(row) for row in rows) + "\n\n")
    assert find_kernel(str(path)).weights.tolist() == [[1, -2.5, 3], [4, 0.5, 6]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"1,2\n3\n", "line 2 has 1 numbers, the first 2"),
        (b"1,2\n3,x\n", "line 2: 'x' is not a number"),
        (b"1,\n", "line 1: '' is not a number"),
        (b"", "received nothing"),
        (b"1,nan\n", "finite numbers"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"1," * 40 + b"1\n", "received 1x41"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_is_no_rectangle_of_numbers(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "own.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        find_kernel(str(path))


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("sobel", None, "expected one of blur"),
        ("sharpen", 5, "always 3x3"),
        ("sobel-y", 4, "an odd number of at least 3"),
        ("sobel-y", 1, "an odd number of at least 3"),
    ],
)
def test_a_filter_that_does_not_exist(name: str, size: int | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_kernel(name, size=size)


def test_a_run_alone_is_no_filter(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_kernel(str(tmp_path))
    assert f"such as {tmp_path}:block1_conv1:0" in caught.value.hint
