"""Rows: the prediction for one image, its columns, and how rows are written as text."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO, NamedTuple, Protocol

from cnnclf.bounded import parse_json
from cnnclf.inference.ranking import RankedLabels, Ranking

Cell = str | float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one file.

    Args:
        path: The file, as found.
        ranking: The most probable labels, best first; empty on error.
        is_unknown: The best probability is below the threshold.
        label_set: The labels that hold the true one at a promised rate; () if not asked for.
        familiar: How familiar the image is, 0..1; None where that is not known.
        is_unfamiliar: The image is unlike anything learned.
        placed: Where the file was copied, linked or moved to; empty if it was not.
        error: Why there is no ranking, or why the file was not placed; empty on success.
    """

    path: str
    ranking: Ranking = ()
    is_unknown: bool = False
    label_set: tuple[str, ...] = ()
    familiar: float | None = None
    is_unfamiliar: bool = False
    placed: str = ""
    error: str = ""

    @classmethod
    def of_answer(cls, path: str, answer: RankedLabels) -> "Prediction":
        """Join a path and the answer for its image."""
        return cls(
            path,
            answer.ranking,
            is_unknown=answer.is_unknown,
            label_set=answer.label_set,
            familiar=answer.familiar,
            is_unfamiliar=answer.is_unfamiliar,
            error="" if answer.ranking else "the model's output is not a number",
        )

    @property
    def label(self) -> str:
        """The best label, or `unknown` below the threshold; empty on error."""
        return RankedLabels(self.ranking, self.is_unknown).label


class RowColumns(NamedTuple):
    """The columns of the rows of a job.

    Args:
        top_k: How many classes are named, at least 1.
        nearest: Whether there is a column for the best label, also when the label is `unknown`.
        placed: Whether there is a column for the new path of a sorted file.
        csv_safe: Whether CSV cells that a spreadsheet would take for a formula get an apostrophe.
        classes: Labels with a column for their probability instead of the best ones; () for none.
        identity: What the first column holds: `path`, `name` (of the file) or `stem`; with the last
            two there is no column for errors.
        sets: How sets of labels are made, if there is a column for them.
        familiar: How familiarity is used, if there is a column for it.
        views: The views of each image whose logits are averaged.
    """

    top_k: int
    nearest: bool = False
    placed: bool = False
    csv_safe: bool = False
    classes: tuple[str, ...] = ()
    identity: str = "path"
    sets: str = ""
    familiar: str = ""
    views: str = "none"

    def names(self) -> list[str]:
        """Return the column names."""
        if self.identity == "path":
            return ["path", *self._middle_names(), "error"]
        return ["id", *self._middle_names()]

    def numbers(self) -> list[str]:
        """Return the names of the columns that hold probabilities."""
        familiar = ["familiar"] if self.familiar else []
        if self.classes:
            return [*self._class_names(), *familiar]
        return [*(name for name in self.names() if name.startswith("probability")), *familiar]

    def cells(self, prediction: Prediction) -> list[Cell]:
        """Return the values of a row; None for an empty cell."""
        if self.identity == "path":
            middle = self._middle_cells(prediction)
            return [prediction.path, *middle, prediction.error or None]
        path = PurePath(prediction.path)
        name = path.stem if self.identity == "stem" else path.name
        return [name, *self._middle_cells(prediction)]

    def _class_names(self) -> list[str]:
        taken = {"path", "id", "set", "familiar", "placed", "error"}
        return [f"{label} (class)" if label in taken else label for label in self.classes]

    def _middle_names(self) -> list[str]:
        if self.classes:
            return [*self._class_names(), *self._last_names()]
        names = ["label", "probability"]
        if self.nearest:
            names.append("nearest")
        for rank in range(2, self.top_k + 1):
            names += [f"label_{rank}", f"probability_{rank}"]
        return [*names, *self._last_names()]

    def _last_names(self) -> list[str]:
        columns = {"set": self.sets, "familiar": self.familiar, "placed": self.placed}
        return [name for name, is_there in columns.items() if is_there]

    def _last_cells(self, prediction: Prediction) -> list[Cell]:
        labels = (label.replace("|", "\\|") for label in prediction.label_set)
        familiar = prediction.familiar
        cells: dict[str, Cell] = {
            "set": "|".join(labels) or None,
            "familiar": None if familiar is None else _rounded(familiar),
            "placed": prediction.placed or None,
        }
        return [cells[name] for name in self._last_names()]

    def _middle_cells(self, prediction: Prediction) -> list[Cell]:
        ranking = prediction.ranking
        if self.classes:
            known = {label: _rounded(probability) for label, probability in ranking}
            found: list[Cell] = [known.get(label) for label in self.classes]
            return [*found, *self._last_cells(prediction)]
        cells: list[Cell] = [prediction.label or None]
        cells.append(_rounded(ranking[0][1]) if ranking else None)
        if self.nearest:
            cells.append(ranking[0][0] if ranking else None)
        for rank in range(1, self.top_k):
            label, probability = ranking[rank] if rank < len(ranking) else (None, None)
            cells += [label, None if probability is None else _rounded(probability)]
        return [*cells, *self._last_cells(prediction)]


class RowWriter(Protocol):
    """Writes rows one by one."""

    def write(self, prediction: Prediction) -> None:
        """Write a row."""

    def flush(self) -> None:
        """Hand all rows written so far to the operating system."""


class KeptRow(NamedTuple):
    """A row that was read back.

    Args:
        cells: Column name to value.
        end: Its end in the file, in bytes.
    """

    cells: dict[str, Cell]
    end: int


@dataclass(frozen=True)
class RowFormat:
    """How rows are written and read back.

    Args:
        heading: Returns the text above the rows.
        line: Returns the text of a row, including its newline.
        read: Yields rows from the current position of a file, up to the first that is incomplete or
            damaged.
    """

    heading: Callable[[RowColumns], str]
    line: Callable[[Prediction, RowColumns], str]
    read: Callable[[BinaryIO, RowColumns], Iterator[KeptRow]]


def csv_heading(columns: RowColumns) -> str:
    """Return the column names as a line of CSV."""
    return _csv_line(list(columns.names()))


def csv_line(prediction: Prediction, columns: RowColumns) -> str:
    """Return a row as a line of CSV; None becomes an empty cell."""
    cells = columns.cells(prediction)
    return _csv_line([_quote_formula(cell) for cell in cells] if columns.csv_safe else cells)


def json_line(prediction: Prediction, columns: RowColumns) -> str:
    """Return a row as a line of JSON."""
    row = dict(zip(columns.names(), columns.cells(prediction), strict=True))
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    # A lone surrogate (an undecodable byte of a file name) becomes its own JSON escape.
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


def _csv_line(cells: list[Cell]) -> str:
    return ",".join(map(_csv_cell, cells)) + "\n"


_QUOTED = re.compile(r'[,"\r\n]')

# A cell that begins like this is a formula for a spreadsheet. Cells that were quoted, or look as
# if they were, get one more apostrophe, so that reading takes away exactly what writing added.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def _quote_formula(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _unquote_formula(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _csv_cell(cell: Cell) -> str:
    # Python's csv.writer does not quote a lone carriage return, which csv.reader then rejects.
    if isinstance(cell, str):
        return '"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell
    return "" if cell is None else repr(cell)


def _read_csv(file: BinaryIO, columns: RowColumns) -> Iterator[KeptRow]:
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
        except csv.Error:  # incomplete within quotes, or not written by this program
            return
        if cells is None or not is_whole or len(cells) != len(names):
            return
        if columns.csv_safe:
            cells = [_unquote_formula(cell) for cell in cells]
        yield KeptRow({name: cell or None for name, cell in zip(names, cells, strict=True)}, end)


def _read_json(file: BinaryIO, columns: RowColumns) -> Iterator[KeptRow]:
    names = columns.names()
    end = file.tell()
    for line in file:
        end += len(line)
        try:
            row = parse_json(line)
        except ValueError:
            return
        if not line.endswith(b"\n") or not isinstance(row, dict) or list(row) != names:
            return
        yield KeptRow(row, end)


CSV = RowFormat(csv_heading, csv_line, _read_csv)
JSON_LINES = RowFormat(lambda _columns: "", json_line, _read_json)


def _rounded(probability: float) -> float:
    # Six significant digits: more would be noise, a fixed number of decimals would hide small
    # probabilities.
    return float(f"{probability:.6g}")
