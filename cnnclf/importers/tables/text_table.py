"""The rows of a table in a text file: CSV with any delimiter, or JSON lines."""

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

from cnnclf.bounded import check_regular, parse_json
from cnnclf.errors import DataError
from cnnclf.importers.archives.packed import read_start

TABLE_SUFFIXES: Final = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".manifest"})
SAMPLE_ROWS: Final = 1000
"""Rows that are looked at to find the meaning of the columns."""

_DELIMITERS: Final = (",", ";", "\t", "|", " ")
_DELIMITER_ROWS: Final = 20
_START_BYTES: Final = 4
_MAX_LINE_CHARACTERS: Final = 2**20

TableRow = dict[str, Any] | str
"""The cells by the names of their columns, or why the row cannot be read."""


@dataclass(frozen=True)
class Table(ABC):
    """A table in a file.

    Args:
        path: The file.
        delimiter: Between the columns of a text; "" if the rows name their columns.
        header: Names of the columns in order, or keys of the first objects; "1", "2", ... if the
            file has no header.
        has_header: Whether the first line is one.
    """

    path: Path
    delimiter: str
    header: tuple[str, ...]
    has_header: bool = True

    @property
    def kind(self) -> str:
        """Return what `header` has the names of."""
        return "columns"

    @abstractmethod
    def rows(self) -> Iterator[tuple[int, TableRow]]:
        """Yield each row with the number of its first line, from 1."""

    def require_rows(self) -> None:
        """Check that there is at least one row.

        Raises:
            DataError: There is none.
        """
        if next(self.rows(), None) is None:
            named = ", ".join(self.header)
            raise DataError(
                f"{self.path} has no rows" + (f", only the header {named[:200]}" if named else ""),
                "add a row for each image, or export the table again",
            )

    def sample(self) -> list[dict[str, Any]]:
        """Return the first rows that can be read."""
        rows = islice(self.rows(), SAMPLE_ROWS)
        return [row for _, row in rows if isinstance(row, dict)]


@dataclass(frozen=True)
class TextTable(Table):
    """A table in a text file: CSV with any delimiter, or JSON lines."""

    @property
    def kind(self) -> str:
        """Return what `header` has the names of."""
        return "columns" if self.delimiter else "keys"

    def rows(self) -> Iterator[tuple[int, TableRow]]:
        """Yield each row with the number of its first line.

        Raises:
            DataError: The file is binary, has endless lines, or a quotation mark is not closed.
        """
        with _open(self.path) as file:
            if self.delimiter:
                yield from self._csv_rows(file)
            else:
                yield from _read_json(self.path, file)

    def _csv_rows(self, file: TextIO) -> Iterator[tuple[int, TableRow]]:
        rows = _read_csv(self.path, file, self.delimiter)
        if self.has_header:
            next(rows, None)
        width = len(self.header)
        for line, row in rows:
            if len(row) > width and any(row[width:]):
                what = "the header" if self.has_header else "the first line"
                yield line, f"has {len(row)} columns, {what} {width}"
            elif row:
                yield line, dict(zip(self.header, row, strict=False))


def open_table(path: Path, *, has_header: bool = True) -> TextTable:
    """Find out how a file is written.

    Args:
        path: The file.
        has_header: Whether its first line names the columns.

    Raises:
        DataError: It cannot be read, is empty, or is no text.
    """
    with _open(path) as file:
        first = next((line for line in _lines(path, file) if line.strip()), "")
        file.seek(0)
        if first.lstrip().startswith("{"):
            rows = (row for _, row in islice(_read_json(path, file), SAMPLE_ROWS))
            keys = dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row)
            return TextTable(path, "", tuple(keys))
        delimiter = _find_delimiter(path, file)
        file.seek(0)
        names = next(_read_csv(path, file, delimiter), (0, []))[1]
    if not has_header:
        names = [str(number) for number in range(1, len(names) + 1)]
    return TextTable(path, delimiter, tuple(names), has_header)


def looks_like_text(path: Path) -> bool:
    """Return whether a file can be read and is not empty."""
    return bool(read_start(path, _START_BYTES))


def _find_delimiter(path: Path, file: TextIO) -> str:
    """Return what gives the most columns, the same number in the header as in the other rows."""
    best, most = ",", 1
    for delimiter in _DELIMITERS:
        file.seek(0)
        try:
            rows = [row for _, row in islice(_read_csv(path, file, delimiter), _DELIMITER_ROWS)]
        except DataError:
            continue
        width = len(rows[0]) if rows else 0
        even = sum(len(row) == width for row in rows) * 2 > len(rows)
        # Text has spaces, so they count only if nothing else separates anything.
        if width > most and even and (delimiter != " " or most == 1):
            best, most = delimiter, width
    return best


def _open(path: Path) -> TextIO:
    start = read_start(path, _START_BYTES)
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        check_regular(path)
        # File names need not be UTF-8: other bytes are kept as surrogates.
        return path.open(encoding=encoding, errors="surrogateescape", newline="")
    except OSError as error:
        raise DataError(f"cannot read the table {path}: {error.strerror}") from error


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Yield lines; refuse binary files and lines that would fill the memory."""
    for number in range(1, 2**62):
        try:
            line = file.readline(_MAX_LINE_CHARACTERS)
        except UnicodeError as error:
            raise DataError(f"line {number} of {path} is not text") from error
        if not line:
            return
        if "\0" in line or len(line) >= _MAX_LINE_CHARACTERS:
            fault = "holds binary data" if "\0" in line else "is longer than a million characters"
            raise DataError(f"line {number} of {path} {fault}")
        yield line


def _read_csv(path: Path, file: TextIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the number of its first line."""
    reader = csv.reader(_lines(path, file), delimiter=delimiter, skipinitialspace=True)
    start = 1
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield start, [field.strip() for field in row]
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"line {start} of {path} is not a valid row: {error}",
            "look for a quotation mark that is not closed",
        ) from error


def _read_json(path: Path, file: TextIO) -> Iterator[tuple[int, TableRow]]:
    """Yield line numbers, each with the object or the fault of the line."""
    for number, line in enumerate(_lines(path, file), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            yield number, f"is not JSON: {error}"
            continue
        yield number, _flatten(row) if isinstance(row, dict) else "is not a JSON object"


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """Add what the objects in a row hold, under the last words of their keys.

    So labeling services write labels: {"label-metadata": {"class-name": "cat"}}. Keys of the row
    itself come first; several values of one key are joined, as several labels in a cell are.
    """
    inner: dict[str, Any] = {}
    for value in row.values():
        if isinstance(value, dict):
            for key, text in value.items():
                name = key.rpartition("/")[2]
                if isinstance(text, str | int) and name not in row:
                    old = inner.setdefault(name, text)
                    inner[name] = text if old == text else f"{old}|{text}"
    return row | inner if inner else row
