"""Widths of tables and lines on a terminal."""

import re
from collections.abc import Sequence
from typing import Literal

from cnnclf.cli.words import count_cells

_WORD = re.compile(r"(?<!\S)'[^']*'\S*|\S+")
_NUMBER = re.compile(r"[~+-]?\d[\d,.]*(e[+-]\d+)?( ([kMG]?B|bytes?|%))?|-|nan|inf")


def find_gap(
    columns: Sequence[str], cells: Sequence[Sequence[str]], *, width: int
) -> Literal[0, 1, 2]:
    """Return the spaces between columns with which a table fits without breaking words, or 0."""
    needed = _word_widths(columns, cells)
    room = width - sum(needed)
    gaps = len(needed) - 1
    return 2 if room >= 2 * gaps else 1 if room >= gaps else 0


def count_fitting(columns: Sequence[str], cells: Sequence[Sequence[str]], *, width: int) -> int:
    """Return how many of the first columns of a table fit without breaking words, at least 1."""
    for count in range(len(columns), 1, -1):
        if find_gap(columns[:count], [row[:count] for row in cells], width=width):
            return count
    return 1


def squeeze(
    columns: Sequence[str], cells: Sequence[Sequence[str]], *, width: int, gap: int
) -> list[int]:
    """Take from the columns with most room until they fit; words, such as names, stay whole."""
    widths, needed = natural_widths(columns, cells), _word_widths(columns, cells)
    for _ in range(sum(widths) + gap * (len(widths) - 1) - width):
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


def right_aligned(cells: Sequence[Sequence[str]]) -> list[bool]:
    """Return for each column of the rows whether it has only numbers, some with a unit."""
    return [
        set(column) != {"-"} and all(map(_NUMBER.fullmatch, column))
        for column in zip(*cells, strict=True)
    ]


def wrap_line(text: str, width: int | None) -> list[str]:
    """Break a line at spaces outside of quotes; longer words stay whole, for the terminal to break.

    Args:
        text: One line; its indentation is kept, also by the lines that follow the first.
        width: Columns; None for any.
    """
    if width is None or count_cells(text) <= width:
        return [text]
    indent = " " * min(len(text) - len(text.lstrip()), width // 2)
    return [indent + line for line in _fill(_WORD.findall(text), width - len(indent))]


def wrap_to_copy(text: str, width: int | None) -> str:
    """Fill a line with spaces, for a terminal to break between words and copy as one line.

    Args:
        text: The line.
        width: Columns; None for any.
    """
    if width is None:
        return text
    return _join_to_copy(wrap_line(text, width - 1), width)


def wrap_row(words: Sequence[str], width: int | None, *, indent: int) -> str:
    """Join words for a terminal to break only between them, below the last column of a table.

    Args:
        words: What stays whole.
        width: Columns; None for any.
        indent: Spaces before that column; words that it has no room for start at its left.
    """
    if width is None:
        return " ".join(words)
    return _join_to_copy(_fill(words, width - 1, indent=indent), width)


def _join_to_copy(lines: Sequence[str], width: int) -> str:
    # At least one space follows each line, or the words beside a break would be copied as one.
    filled = (line + " " * (-(count_cells(line) + 1) % width + 1) for line in lines[:-1])
    return "".join(filled) + lines[-1]


def _fill(words: Sequence[str], width: int, *, indent: int = 0) -> list[str]:
    lines = [words[0] if words else ""]
    for word in words[1:]:
        if count_cells(lines[-1]) + 1 + count_cells(word) <= width:
            lines[-1] += f" {word}"
        else:
            first = word.lstrip()
            fits = indent + count_cells(first) <= width
            lines.append(" " * (indent if fits else min(indent, 2)) + first)
    return lines
