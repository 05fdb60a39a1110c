"""What is written for each picture: the row, its columns, and the files of rows."""

import contextlib
import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from cnnclf.errors import DeviceError, UsageError
from cnnclf.files import json_bytes, write_error

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one picture.

    Args:
        path: The file, as found.
        ranking: (label, probability 0..1) of the most likely classes, best first; empty on error.
        is_unknown: The best probability is below the threshold.
        placed: Where the file was copied, linked or moved to; empty if it was not.
        error: Why there is no ranking, or why the file was not placed; empty if all went well.
    """

    path: str
    ranking: tuple[tuple[str, float], ...] = ()
    is_unknown: bool = False
    placed: str = ""
    error: str = ""

    @property
    def label(self) -> str:
        """The best label, or `unknown` below the threshold; empty on error."""
        if not self.ranking:
            return ""
        return UNKNOWN if self.is_unknown else self.ranking[0][0]


class Columns(NamedTuple):
    """Which columns the rows of one prediction have.

    Args:
        top_k: How many classes are named, at least 1.
        nearest: Name the best label also when the answer is `unknown`.
        placed: Name where the file went.
    """

    top_k: int
    nearest: bool = False
    placed: bool = False

    def names(self) -> list[str]:
        """The headings."""
        names = ["path", "label", "probability"]
        if self.nearest:
            names.append("nearest")
        for rank in range(2, self.top_k + 1):
            names += [f"label_{rank}", f"probability_{rank}"]
        if self.placed:
            names.append("placed")
        return [*names, "error"]

    def cells(self, prediction: Prediction) -> list[str | float | None]:
        """The values below the headings; None where there is nothing to say."""
        ranking = prediction.ranking
        cells: list[str | float | None] = [prediction.path, prediction.label or None]
        cells.append(_rounded(ranking[0][1]) if ranking else None)
        if self.nearest:
            cells.append(ranking[0][0] if ranking else None)
        for rank in range(1, self.top_k):
            label, probability = ranking[rank] if rank < len(ranking) else (None, None)
            cells += [label, None if probability is None else _rounded(probability)]
        if self.placed:
            cells.append(prediction.placed or None)
        return [*cells, prediction.error or None]


class RowWriter(Protocol):
    """Takes one row after the other."""

    def write(self, prediction: Prediction) -> None:
        """Write a row."""


class CsvRows:
    """Rows as CSV with a heading.

    Args:
        write: Takes text.
        columns: What the rows hold.
    """

    def __init__(self, write: Callable[[str], object], columns: Columns) -> None:
        self._writer = csv.writer(_Sink(write), lineterminator="\n")
        self._columns = columns
        self._writer.writerow(columns.names())

    def write(self, prediction: Prediction) -> None:
        """Write a row; what is None becomes an empty cell."""
        self._writer.writerow(self._columns.cells(prediction))


class JsonlRows:
    """Rows as JSON objects, one a line.

    Args:
        write: Takes text.
        columns: What the rows hold.
    """

    def __init__(self, write: Callable[[str], object], columns: Columns) -> None:
        self._write = write
        self._columns = columns

    def write(self, prediction: Prediction) -> None:
        """Write a row."""
        self._write(row_json(prediction, self._columns) + "\n")


ROW_FORMATS: dict[str, Callable[[Callable[[str], object], Columns], RowWriter]] = {
    ".csv": CsvRows,
    ".jsonl": JsonlRows,
}


def row_json(prediction: Prediction, columns: Columns) -> str:
    """Give a row as one line of JSON."""
    row = dict(zip(columns.names(), columns.cells(prediction), strict=True))
    return json_bytes(row).decode()


def check_row_file(path: Path) -> None:
    """Refuse a file of rows whose name does not say its format.

    Raises:
        UsageError: The suffix is no row of `ROW_FORMATS`, or the path is a folder.
    """
    if path.suffix.lower() not in ROW_FORMATS:
        raise UsageError(
            f"expected a file name that ends in {' or '.join(ROW_FORMATS)}, received {path}",
            f"for example: --out {path.with_suffix('.csv')}" if path.name else "",
        )
    if path.is_dir():
        raise UsageError(f"expected a file to write, {path} is a folder", "give another --out")


@contextlib.contextmanager
def open_rows(path: Path, columns: Columns) -> Iterator[RowWriter]:
    """Open a file of rows, its format by its suffix.

    Rows go to `path.partial`, which takes the place of `path` in the end. If the work is broken
    off, `path` stays as it was and the rows so far stay in `path.partial`.

    Raises:
        UsageError: See `check_row_file`.
        DeviceError: The disk is full.
        RunError: The file cannot be written.
    """
    check_row_file(path)
    partial = path.with_name(path.name + ".partial")
    if path.exists() and not path.is_file():  # a pipe or device
        partial = path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = ROW_FORMATS[path.suffix.lower()](file.write, columns)
            yield rows
        if partial != path:
            os.replace(partial, path)  # noqa: PTH105 (says what it does)
    except OSError as error:
        problem = write_error(path, error)
        if isinstance(problem, DeviceError) or error.filename in {str(partial), str(path.parent)}:
            raise problem from error
        raise


class _Sink:
    """What csv needs of a file."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write


def _rounded(probability: float) -> float:
    # Six significant digits: more would be noise, fewer decimals would hide small probabilities.
    return float(f"{probability:.6g}")
