"""What is written for each image: the row, its columns, and the texts that rows become."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

UNKNOWN = "unknown"

Cell = str | float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one image.

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
    """Which columns the rows of a job have.

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

    def cells(self, prediction: Prediction) -> list[Cell]:
        """The values below the headings; None where there is nothing to say."""
        ranking = prediction.ranking
        cells: list[Cell] = [prediction.path, prediction.label or None]
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

    def flush(self) -> None:
        """Hand all rows written so far to the system."""


class KeptRow(NamedTuple):
    """A row read again.

    Args:
        cells: The values below the headings of the columns.
        end: Where it ends in the file, in bytes.
    """

    cells: dict[str, Cell]
    end: int


@dataclass(frozen=True)
class RowFormat:
    """How rows are written and read again.

    Args:
        heading: The text above the rows.
        line: The text of a row, with its end of line.
        read: Gives the rows of a file from where it stands, until one is cut off or damaged.
    """

    heading: Callable[[Columns], str]
    line: Callable[[Prediction, Columns], str]
    read: Callable[[BinaryIO, Columns], Iterator[KeptRow]]


def csv_heading(columns: Columns) -> str:
    """Give the names of the columns as a line of CSV."""
    return _csv_line(list(columns.names()))


def csv_line(prediction: Prediction, columns: Columns) -> str:
    """Give a row as a line of CSV; what is None becomes an empty cell."""
    return _csv_line(columns.cells(prediction))


def json_line(prediction: Prediction, columns: Columns) -> str:
    """Give a row as a line of JSON."""
    row = dict(zip(columns.names(), columns.cells(prediction), strict=True))
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    # A lone surrogate (an undecodable byte of a file name) becomes its own JSON escape.
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


def _csv_line(cells: list[Cell]) -> str:
    return ",".join(map(_csv_cell, cells)) + "\n"


_QUOTED = re.compile(r'[,"\r\n]')


def _csv_cell(cell: Cell) -> str:
    # Python's own writer leaves a carriage return bare, which its reader then refuses.
    if isinstance(cell, str):
        return '"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell
    return "" if cell is None else repr(cell)


def _read_csv(file: BinaryIO, columns: Columns) -> Iterator[KeptRow]:
    names = columns.names()
    end = file.tell()
    is_whole = False

    def lines() -> Iterator[str]:
        nonlocal end, is_whole
        for line in file:
            end += len(line)
            is_whole = line.endswith(b"\n")
            yield line.decode("utf-8", "surrogateescape")

    rows = csv.reader(lines(), strict=True)
    while True:
        try:
            cells = next(rows, None)
        except csv.Error:  # cut off within quotes, or not written by this program
            return
        if cells is None or not is_whole or len(cells) != len(names):
            return
        yield KeptRow({name: cell or None for name, cell in zip(names, cells, strict=True)}, end)


def _read_json(file: BinaryIO, columns: Columns) -> Iterator[KeptRow]:
    names = columns.names()
    end = file.tell()
    for line in file:
        end += len(line)
        try:
            row = json.loads(line)
        except ValueError:
            return
        if not line.endswith(b"\n") or not isinstance(row, dict) or list(row) != names:
            return
        yield KeptRow(row, end)


def _no_heading(_columns: Columns) -> str:
    return ""


CSV = RowFormat(csv_heading, csv_line, _read_csv)
JSON_LINES = RowFormat(_no_heading, json_line, _read_json)


def _rounded(probability: float) -> float:
    # Six significant digits: more would be noise, fewer decimals would hide small probabilities.
    return float(f"{probability:.6g}")
