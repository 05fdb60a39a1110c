"""Rows of a table that name a file again: copies of an earlier row, and contradictions of it."""

import os
from typing import Final

from cnnclf.importers.importer import Record
from cnnclf.names import count_of

COPY: Final = "copy"
"""Instead of what is wrong with a row: it says the same as an earlier one."""

_MAX_LINES: Final = 5
_BITS: Final = 32
_MASK: Final = 2**_BITS - 1


class RepeatedRows:
    """The files that the rows of a table have named so far.

    Two integers are kept of each, as there may be a million: hashes of its path, and of its label,
    its split and group with the line.
    """

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._copies = 0
        self._lines: list[str] = []

    def add(self, record: Record) -> str:
        """Note a row.

        Returns:
            "" for the first row of a file, `COPY` for one that says the same as the first, or what
            is wrong with it, to follow the line of both: "lines 2 and 9: ...".
        """
        facts = (record.label, (record.split, record.group))
        label, place = (hash(fact) & _MASK for fact in facts)
        mine = record.line << 2 * _BITS | label << _BITS | place
        first = self._known.setdefault(hash(os.path.normpath(record.path)), mine)
        line = first >> 2 * _BITS
        if line == record.line:
            return ""
        if (first ^ mine) & (1 << 2 * _BITS) - 1 == 0:
            self._copies += 1
            self._lines += [str(record.line)] * (len(self._lines) < _MAX_LINES)
            return COPY
        fault = "labels" if (first ^ mine) >> _BITS & _MASK else "splits or groups"
        return f"lines {line} and {record.line}: give the file two {fault}, the first counts"

    def describe_copies(self) -> str:
        """Return how many rows were copies, and the first lines; "" for none."""
        if not self._copies:
            return ""
        verb = "repeats" if self._copies == 1 else "repeat"
        more = ", ..." if self._copies > len(self._lines) else ""
        return (
            f"{count_of(self._copies, 'row')} {verb} an earlier one, and each image counts once: "
            f"line{'s' * (self._copies > 1)} {', '.join(self._lines)}{more}"
        )
