"""The table of filters by name, and filters from files.

A filter is laid over the image as it is, not mirrored: what layers of Keras compute and call
convolution is cross-correlation.
"""

import csv
import io
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnclf.bounded import MAX_SETTINGS_BYTES, read_bytes
from cnnclf.errors import DataError, UsageError
from cnnclf.names import suggest

MAX_SIDE = 31
_NUMBERS = re.compile(r"[-+0-9., ;]+")
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Kernel:
    """The weights of a filter.

    Args:
        name: For captions.
        weights: float64 [height, width], the same for all channels; or [height, width, C].
        bias: Added to the sum.
    """

    name: str
    weights: Weights
    bias: float = 0.0

    def normalized(self) -> "Kernel":
        """Return it divided by its sum, or by the sum of absolute values where that is 0.

        Raises:
            DataError: All its weights are 0.
        """
        total = float(self.weights.sum())
        if abs(total) < 1e-12 * float(np.abs(self.weights).sum()):
            total = 0.0
        total = total or float(np.abs(self.weights).sum())
        if not total:
            raise DataError(f"the kernel {self.name} has only zeros and cannot be normalized")
        return Kernel(self.name, self.weights / total, self.bias)


@dataclass(frozen=True)
class NamedFilter:
    """A row of the table.

    Args:
        name: For users.
        summary: What it shows.
        make: Returns its weights for a side.
        is_sized: Whether it can have any side.
        is_odd: Whether its side must be odd, at least 3.
    """

    name: str
    summary: str
    make: Callable[[int], Weights]
    is_sized: bool = False
    is_odd: bool = False


def find_kernel(text: str, *, size: int | None = None) -> Kernel:
    """Find a filter by name, or read it from a CSV file.

    Args:
        text: A name of `FILTERS` or the path of a file with the ending .csv.
        size: Side of the kernel; None for 3.

    Raises:
        UsageError: There is no such filter, or it cannot have this size.
        DataError: The file is not a rectangle of numbers.
    """
    if text.lower().endswith(".csv"):
        if size is not None:
            raise UsageError(f"--kernel-size {size}: {text} has a size of its own")
        return Kernel(Path(text).name, _read_csv(Path(text)))
    row = next((row for row in FILTERS if row.name == text), None)
    if row is None:
        names = [row.name for row in FILTERS]
        hint = suggest(text, names, count=2)
        if _NUMBERS.fullmatch(text):
            rows = [",".join(re.findall(r"[^, ]+", row)) for row in text.split(";")]
            hint = f"printf '%s\\n' {shlex.join(rows)} > kernel.csv; then --filter kernel.csv"
        if Path(text).is_dir():
            hint = f"name the filter, such as {text}:block1_conv1:0; cnnclf describe lists layers"
        raise UsageError(
            f"--filter {text}: expected one of {', '.join(names)}, a file that ends in .csv, or "
            "RUN:LAYER:INDEX",
            hint,
        )
    _check_size(row, size)
    return Kernel(row.name, row.make(size or 3))


def _check_size(row: NamedFilter, size: int | None) -> None:
    if size is None or (size == 3 and not row.is_sized):
        return
    if not row.is_sized:
        sized = ", ".join(each.name for each in FILTERS if each.is_sized)
        raise UsageError(
            f"--kernel-size {size}: {row.name} is always 3x3", f"these have any size: {sized}"
        )
    if row.is_odd and (size % 2 == 0 or size < 3):
        raise UsageError(f"--kernel-size {size}: {row.name} needs an odd number of at least 3")


def _read_csv(path: Path) -> Weights:
    try:
        text = read_bytes(path, max_bytes=MAX_SETTINGS_BYTES).decode("utf-8-sig")
    except OSError as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"the kernel {path} cannot be read: {reason}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the kernel {path} is not text in UTF-8") from error
    hint = "one row of the kernel per line, numbers separated by commas, such as 0,-1,0"
    separator = next((each for each in ";\t" if each in text), ",")
    lines = list(csv.reader(io.StringIO(text), delimiter=separator))
    rows: list[list[float]] = []
    for number, cells in enumerate(lines, 1):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError as error:
            reason = str(error).removeprefix("could not convert string to float: ")
            raise DataError(
                f"the kernel {path}, line {number}: {reason} is not a number", hint
            ) from error
        if len(rows[-1]) != len(rows[0]):
            raise DataError(
                f"the kernel {path} is not a rectangle: line {number} has {len(rows[-1])} numbers, "
                f"the first {len(rows[0])}",
                hint,
            )
    weights = np.array(rows, np.float64)
    if not rows or max(weights.shape) > MAX_SIDE or not np.isfinite(weights).all():
        shown = "x".join(map(str, weights.shape)) if rows else "nothing"
        raise DataError(
            f"the kernel {path}: expected 1x1 to {MAX_SIDE}x{MAX_SIDE} finite numbers, "
            f"received {shown}",
            hint,
        )
    return weights


def _blur(size: int) -> Weights:
    return np.full((size, size), 1 / size**2)


def _binomial(size: int) -> Weights:
    line = np.ones(1)
    for _ in range(size - 1):
        line = np.convolve(line, [1.0, 1.0])
    return line


def _gaussian(size: int) -> Weights:
    """Return binomial coefficients, which a Gaussian approaches as they get more."""
    line = _binomial(size)
    weights: Weights = np.outer(line, line) / line.sum() ** 2
    return weights


def _sobel_x(size: int) -> Weights:
    """Return a difference across, smoothed in both directions (Sobel and Feldman, 1968)."""
    return np.outer(_binomial(size), np.convolve(_binomial(size - 2), [-1.0, 0.0, 1.0]))


def _sobel_y(size: int) -> Weights:
    weights: Weights = _sobel_x(size).T
    return weights


def _identity(size: int) -> Weights:
    weights = np.zeros((size, size))
    weights[(size - 1) // 2, (size - 1) // 2] = 1.0
    return weights


def _fixed(*rows: tuple[float, float, float]) -> Callable[[int], Weights]:
    return lambda _size: np.array(rows, np.float64)


FILTERS: tuple[NamedFilter, ...] = (
    NamedFilter("blur", "mean of the window", _blur, is_sized=True),
    NamedFilter("gaussian", "mean with more weight in the middle", _gaussian, is_sized=True),
    NamedFilter(
        "sharpen", "more contrast to the neighbors", _fixed((0, -1, 0), (-1, 5, -1), (0, -1, 0))
    ),
    NamedFilter("sobel-x", "edges that run down", _sobel_x, is_sized=True, is_odd=True),
    NamedFilter("sobel-y", "edges that run across", _sobel_y, is_sized=True, is_odd=True),
    NamedFilter("laplacian", "edges and points", _fixed((0, 1, 0), (1, -4, 1), (0, 1, 0))),
    NamedFilter(
        "emboss", "relief, lit from the upper left", _fixed((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
    ),
    NamedFilter("identity", "the image itself", _identity, is_sized=True),
)
