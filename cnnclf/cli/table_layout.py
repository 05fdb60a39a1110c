"""Widths of tables and lines on a terminal, and values as JSON."""

import dataclasses
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Any

from cnnclf.cli.words import count_cells


def plain(value: Any) -> Any:
    """Convert a value to the types of JSON: dict, list, str, int, float, bool and None.

    Args:
        value: Mappings, iterables, dataclasses, enums, paths, NumPy scalars and arrays.

    Returns:
        The plain value; numbers that are not finite become None.

    Raises:
        TypeError: The value has no plain form.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | str | int):
        return value
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, without importing NumPy
        return plain(value.tolist())
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(each) for key, each in value.items()}
    if isinstance(value, Iterable):
        return [plain(each) for each in value]
    raise TypeError(f"expected a value that JSON can hold, received {type(value).__name__}")


def fits(columns: Sequence[str], cells: Sequence[Sequence[str]], *, width: int) -> bool:
    """Return whether a table fits into a width without breaking words."""
    needed = _word_widths(columns, cells)
    return sum(needed) + 2 * (len(needed) - 1) <= width


def squeeze(columns: Sequence[str], cells: Sequence[Sequence[str]], *, width: int) -> list[int]:
    """Take from the columns with most room until they fit; words, such as names, stay whole."""
    widths, needed = natural_widths(columns, cells), _word_widths(columns, cells)
    for _ in range(sum(widths) + 2 * (len(widths) - 1) - width):
        roomiest = max(range(len(widths)), key=lambda at: widths[at] - needed[at])
        widths[roomiest] -= 1
    return widths


def natural_widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column with nothing broken."""
    return [max(map(count_cells, column)) for column in zip(columns, *cells, strict=True)]


def _word_widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    """Count the cells that the longest word of each column takes."""
    return [
        max((count_cells(word) for cell in column for word in cell.split(" ")), default=0)
        for column in zip(columns, *cells, strict=True)
    ]


def right_aligned(count: int, values: Sequence[Sequence[object]]) -> list[bool]:
    """Return for each column whether it has numbers only."""

    def is_numeric(column: int) -> bool:
        seen = [row[column] for row in values if row[column] is not None]
        return bool(seen) and all(
            isinstance(each, int | float) and not isinstance(each, bool) for each in seen
        )

    return [is_numeric(column) for column in range(count)]


def wrap_line(text: str, width: int | None) -> list[str]:
    """Break a line at spaces; longer words stay whole, for the terminal to break."""
    if width is None or len(text) <= width:
        return [text]
    indent = " " * min(len(text) - len(text.lstrip()), width // 2)
    return textwrap.wrap(
        text.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    ) or [""]
