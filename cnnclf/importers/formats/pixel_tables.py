"""Tables whose cells are pixels: one column per pixel (MNIST), or all of them in one cell (FER)."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.formats.arrays import (
    Part,
    Pixels,
    block_length,
    check_image_shape,
    unpack_parts,
)
from cnnclf.importers.importer import ImportJob, Listing, path_importer
from cnnclf.importers.tables.cell_values import (
    CellError,
    UnnamedSplitError,
    as_label,
    as_text,
    readable,
    report_given_splits,
)
from cnnclf.importers.tables.table_columns import find_named_split, name_columns, spoken_header
from cnnclf.importers.tables.text_table import (
    TABLE_SUFFIXES,
    TextTable,
    looks_like_text,
    open_table,
)
from cnnclf.names import natural_key

_MIN_PIXELS: Final = 16
_FIRST_ROWS: Final = 16  # that tell fractions from whole numbers: one image may be black
_SPLITS: Final = ("", "train", "val", "test")


@dataclass(frozen=True)
class _PixelLayout:
    """Where the pixels of a table are.

    Args:
        table: The table.
        columns: Names of the columns of pixels; a single one holds all of them.
        shape: [H, W] or [H, W, C] of each image.
        factor: What the numbers are multiplied by.
    """

    table: TextTable
    columns: tuple[str, ...]
    shape: tuple[int, ...]
    factor: float

    def numbers(self, row: dict[str, Any]) -> npt.NDArray[np.float64]:
        """Return the pixels of a row as float64 [pixels].

        Raises:
            CellError: They are of another number, or not from 0 to 255.
        """
        texts = _split_pixels(row, self.columns)
        if len(texts) != math.prod(self.shape):
            raise CellError(f"has {len(texts):,} pixels, the first row {math.prod(self.shape):,}")
        try:
            values = np.array(texts, np.float64) * self.factor
        except ValueError:
            raise CellError("has a pixel that is not a number") from None
        if not (values >= 0).all() or not (values <= 255).all():
            raise CellError("has a pixel that is not from 0 to 255")
        return values


def recognize_pixel_table(source: Path) -> str | None:
    """Recognize a table with a column `pixels`, or with very many columns of small numbers."""
    if source.suffix.lower() not in TABLE_SUFFIXES or not looks_like_text(source):
        return None
    try:
        layout = _find_pixels(open_table(source))
    except DataError:
        return None
    if layout is None:
        return None
    shape = " x ".join(map(str, layout.shape))
    if len(layout.columns) == 1:
        return f"its column {layout.columns[0]!r} holds images of {shape}"
    return f"its columns hold the pixels of images of {shape}"


def read_pixel_table(source: Path, job: ImportJob) -> Listing:
    """Unpack the images of a table.

    Raises:
        DataError: It has no pixels or no labels.
    """
    table = open_table(source, has_header=job.options.header)
    table.require_rows()
    layout = _find_pixels(table)
    if layout is None:
        raise DataError(
            f"no columns of pixels in {source}: {spoken_header(table)}",
            "name the columns label and pixel0, pixel1, ..., or label and pixels",
        )
    content = _read_labels(layout, job)
    parts = [
        Part(split or source.name, split, indices, _blocks(layout, content, split))
        for split, indices in content.indices().items()
    ]
    listing = unpack_parts(source, parts, names=content.labels, job=job)
    listing.skipped += content.faults
    listing.unneeded += content.unneeded
    listing.warnings += content.warnings
    listing.remarks.append(f"{source.name}: read {content.label_column!r} as label")
    if content.split_column:
        listing.remarks.append(f"{source.name}: read {content.split_column!r} as split")
    return listing


@dataclass
class _Content:
    """The labels and splits of all rows.

    Attributes:
        label_column: Name of the column.
        split_column: Name of the column; "" if there is none.
        labels: In the order of the class indices.
        classes: Class index by row that can be used.
        splits: Split by row, index into `_SPLITS`; -1 for a row that cannot be used.
        faults: (place, reason) of the rows that cannot be used.
        unneeded: Likewise of those of splits that --splits does not name.
        warnings: About --splits.
    """

    label_column: str
    split_column: str
    labels: tuple[str, ...] = ()
    classes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    splits: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    faults: list[tuple[str, str]] = field(default_factory=list)
    unneeded: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def indices(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return the class indices of each split that has rows."""
        found = {split: self.classes[self.splits == at] for at, split in enumerate(_SPLITS)}
        return {split: indices for split, indices in found.items() if len(indices)}


def _find_pixels(table: TextTable) -> _PixelLayout | None:
    found = (row for _, row in table.rows() if isinstance(row, dict))
    rows = list(islice(found, _FIRST_ROWS))
    if not rows:
        return None
    columns = _pixel_columns(table, rows[0])
    every = [_split_pixels(row, columns) for row in rows] if columns else [[]]
    shape = _shape_of(len(every[0]))
    if shape is None:
        return None
    first, *others = (_read_numbers(texts) for texts in every)
    if first is None:
        return None
    check_image_shape(str(table.path), shape)
    values = np.concatenate([first, *(each for each in others if each is not None)])
    is_fraction = bool((values <= 1).all() and values.any())
    return _PixelLayout(table, columns, shape, 255.0 if is_fraction else 1.0)


def _read_numbers(texts: list[str]) -> npt.NDArray[np.float64] | None:
    try:
        return np.array(texts, np.float64)
    except ValueError:
        return None


def _pixel_columns(table: TextTable, first: dict[str, Any]) -> tuple[str, ...]:
    for name in table.header:
        if name.casefold().strip() in {"pixels", "pixel", "image", "img", "data"}:
            cell = str(first.get(name, ""))
            if len(cell.replace(",", " ").split()) >= _MIN_PIXELS:
                return (name,)
    if len(table.header) <= _MIN_PIXELS:
        return ()
    numbered = [name for name in table.header if name and name[-1].isdigit()]
    if not table.has_header:  # the label is the first column, as in the CSV files of MNIST
        numbered = list(table.header[1:])
    return tuple(numbered) if len(numbered) >= _MIN_PIXELS else ()


def _split_pixels(row: dict[str, Any], columns: tuple[str, ...]) -> list[str]:
    if len(columns) > 1:
        return [str(row.get(name, "")) for name in columns]
    return str(row.get(columns[0], "")).strip("[]").replace(",", " ").split()


def _shape_of(pixels: int) -> tuple[int, ...] | None:
    """Return the shape of a square image, gray or RGB."""
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if pixels >= _MIN_PIXELS and side * side * channels == pixels:
            return (side, side) if channels == 1 else (side, side, 3)
    return None


def _read_labels(layout: _PixelLayout, job: ImportJob) -> _Content:
    """Read the label and the split of each row, reading the file once."""
    table = layout.table
    others = [name for name in table.header if name not in layout.columns]
    content = _Content(_label_column(table, others, job.options), "")
    rule = None
    named = find_named_split(table, others, options=job.options)
    if named:
        content.split_column, rule = named
    names = job.read_classes()
    seen: dict[str, int] = {}
    classes, splits = bytearray(), bytearray()
    values, unnamed = set[str](), Counter[str]()
    for line, row in table.rows():
        try:
            if isinstance(row, str):
                raise CellError(row)
            label = as_label(readable(as_text("label", row.get(content.label_column))))
            if not label:
                raise CellError("has no label")
            text = readable(as_text("split", row.get(content.split_column))) if rule else ""
            values.add(as_label(text).casefold())
            split = rule.read(text) if rule else ""
            layout.numbers(row)
        except CellError as error:
            found = content.faults
            if isinstance(error, UnnamedSplitError):
                unnamed[error.split] += 1
                found = content.unneeded
            found.append((f"{table.path.name}:{line}", f"line {line}: {error}"))
            splits += b"\xff"
            continue
        classes += np.int64(seen.setdefault(_name(label, names), len(seen))).tobytes()
        splits.append(_SPLITS.index(split))
    content.warnings = report_given_splits(rule, named=values, unnamed=unnamed)
    order = list(names) if names else sorted(seen, key=natural_key)
    place = np.array([order.index(label) for label in seen], np.int64)
    content.labels = tuple(order)
    content.classes = place[np.frombuffer(bytes(classes), np.int64)]
    every = np.frombuffer(bytes(splits), np.int8)
    content.splits = every[every >= 0]
    return content


def _name(label: str, names: tuple[str, ...] | None) -> str:
    if names is None or label in names:
        return label
    if label.isdecimal() and len(label) < 10 and int(label) < len(names):
        return names[int(label)]
    raise DataError(f"the label {label!r} is not in the classes file", "add it to --classes-file")


def _label_column(table: TextTable, others: list[str], options: ImportConfig) -> str:
    if options.label_column is not None:
        if options.label_column not in table.header:
            raise DataError(
                f"--label-column {options.label_column}: {table.path} has no such column",
                f"it has {spoken_header(table)}",
            )
        return options.label_column
    named = name_columns(others).get("label")
    if named or (others and not table.has_header):
        return named or others[0]
    raise DataError(
        f"{table.path} has pixels but no column of labels, only {', '.join(others) or 'pixels'}",
        "name it with --label-column; --no-header if its first line is no header; images without "
        "labels cannot be imported",
    )


def _blocks(layout: _PixelLayout, content: _Content, split: str) -> Any:
    """Return a function that yields the images of a split, some at a time."""
    wanted = _SPLITS.index(split)
    faulty = {place for place, _ in (*content.faults, *content.unneeded)}
    size = block_length(math.prod(layout.shape))

    def blocks() -> Iterator[Pixels]:
        waiting: list[npt.NDArray[np.float64]] = []
        splits = iter(content.splits)
        for line, row in layout.table.rows():
            if f"{layout.table.path.name}:{line}" in faulty or isinstance(row, str):
                continue
            if next(splits) != wanted:
                continue
            waiting.append(layout.numbers(row))
            if len(waiting) == size:
                yield _to_pixels(waiting, layout)
                waiting = []
        if waiting:
            yield _to_pixels(waiting, layout)

    return blocks


def _to_pixels(rows: list[npt.NDArray[np.float64]], layout: _PixelLayout) -> Pixels:
    return np.rint(np.stack(rows)).astype(np.uint8).reshape(len(rows), *layout.shape)


PIXEL_TABLE: Final = path_importer(
    "pixel-table",
    "CSV with the pixels of each image in its columns or in one cell",
    recognize=recognize_pixel_table,
    read=read_pixel_table,
    unpacks=True,
)
