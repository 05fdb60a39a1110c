"""Files that list the labels of the images beside them, as val_annotations.txt of Tiny ImageNet."""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from cnnclf.bounded import check_regular
from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.importer import Record
from cnnclf.importers.layouts.folder_view import LIST_SUFFIXES, FolderView, is_image_name, name_of
from cnnclf.importers.tables.cell_values import CellError, as_text
from cnnclf.importers.tables.file_index import FileIndex
from cnnclf.importers.tables.table_columns import choose_columns, name_columns
from cnnclf.importers.tables.text_table import TextTable, open_table
from cnnclf.importers.walk import join

_DEFAULTS: Final = ImportConfig()
_ROWS: Final = 20
_MAX_BYTES: Final = 256 << 20


class LabelList(NamedTuple):
    """Images of a split whose labels are in a file.

    Args:
        folder: Path of the folder of the images.
        table: Path of the file: a name of an image, then its label, in the columns of each line.
        split: Of all of them.
    """

    folder: str
    table: str
    split: str


def find_label_list(view: FolderView, path: str, *, split: str = "") -> LabelList | None:
    """Find such a file in a folder of images without classes, or in its only sub-folder."""
    folders = view.filled(path)
    folder = path if view.has_images(path) else folders[0] if len(folders) == 1 else None
    if folder is None or view.filled(folder):
        return None
    tables = [file for file in view.files(path) if file.casefold().endswith(LIST_SUFFIXES)]
    for table in tables:
        try:
            if _lists(view.source / table, view.source / folder):
                return LabelList(folder, table, split)
        except PermissionError:
            if len(tables) == 1:
                raise
            # Of many, it may be the label of one image, which is then named.
    return None


def _lists(table: Path, folder: Path) -> bool:
    """Return whether the first rows name mostly images of the folder."""
    rows = list(islice(_read(table), _ROWS))
    named = [name for _, name, _ in rows if is_image_name(name)]
    return sum((folder / name).is_file() for name in named) > len(rows) / 2


def read_label_list(source: Path, found: LabelList) -> Iterator[Record]:
    """Yield the images that are listed.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        for line, name, label in _read(source / found.table):
            yield Record(join(found.folder, name), label, found.split, line=line)
    except OSError as error:
        raise DataError(f"cannot read {source / found.table}: {error.strerror}") from error


def _read(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield lines, names and labels of a table with a header, or the first two columns of lines."""
    check_regular(path, max_bytes=_MAX_BYTES)
    try:
        table = open_table(path)
        is_table = "path" in name_columns(table.header)
    except DataError:
        is_table = False
    if is_table:
        yield from _read_table(table)
        return
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        start = file.readline(2**16)
        file.seek(0)
        delimiter = next((each for each in "\t,; " if each in start), ",")
        lines = (line.replace("\0", "") for line in file)
        rows = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        for line, row in enumerate(rows, start=1):
            if len(row) > 1 and row[0].strip() and row[1].strip():
                yield line, name_of(row[0].strip()), row[1].strip()


def _read_table(table: TextTable) -> Iterator[tuple[int, str, str]]:
    index = FileIndex(table.path.parent)
    columns = choose_columns(table, table.sample(), options=_DEFAULTS, holds=index.holds)
    for line, row in table.rows():
        try:
            if isinstance(row, dict) and (label := columns.label_of(row)):
                yield line, name_of(as_text("path", row.get(columns.names["path"]))), label
        except CellError:
            continue  # its image is then reported as not listed
