"""Tables of paths and labels: CSV, TSV or similar with a header, or JSON lines."""

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, Final, TextIO

from cnnclf.bounded import check_regular, parse_json
from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.archives.packed import read_start
from cnnclf.importers.importer import (
    Importer,
    Listing,
    Record,
    read_classes_file,
)
from cnnclf.importers.layouts.split_words import read_split_name, settle_eval
from cnnclf.importers.source import Source
from cnnclf.importers.walk import list_visible
from cnnclf.progress import Progress, Silent

TABLE_SUFFIXES: Final = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})


def recognize_table(source: Source) -> str | None:
    """Recognize text whose first line names a column of paths and one of labels."""
    path = source.path
    if path is None or not read_start(path, _START_BYTES):
        return None
    try:
        layout = _find_layout(path)
    except DataError:
        if path.suffix.lower() in TABLE_SUFFIXES:
            return f"its name ends in {path.suffix}"
        return None
    return f"its first line names {layout.spoken()}"


def read_table(
    source: Source,
    unpack_dir: Path,  # noqa: ARG001 - nothing to unpack
    *,
    options: ImportConfig,
    progress: Progress,  # noqa: ARG001 - the pipeline shows it
) -> Listing:
    """List the images of a table; paths in it are relative to its folder.

    A row that is wrong, or whose file is missing, is skipped with its line number. With a classes
    file, integer labels are line numbers of it, from 0.

    Raises:
        DataError: The file is not such a table (at once), or is damaged (when the records are
            consumed).
    """
    path = source.require_path()
    layout = _find_layout(path)
    classes = read_classes_file(options.classes_file) if options.classes_file else None
    listing = Listing(root=source.within or path.parent, records=iter(()), labels=classes)
    listing.remarks.append(f"{path.name}: read {layout.spoken()}")
    reader = _Reader(path, layout, classes, source.within, listing)
    listing.records = reader.records()
    return listing


def _find_inside(folder: Source, options: ImportConfig) -> Source | None:
    """Find the only table in a folder, if it names at least one image that exists."""
    children = list_visible(folder.require_path())
    tables = [file for file in children if file.suffix.lower() in TABLE_SUFFIXES]
    if len(tables) != 1:
        return None
    table = Source(os.fspath(tables[0]), tables[0], within=folder.within)
    if not recognize_table(table):
        return None
    listing = read_table(table, folder.require_path(), options=options, progress=Silent())
    return None if next(listing.records, None) is None else table


@dataclass(frozen=True)
class _Layout:
    """The meaning of the columns.

    Args:
        delimiter: Between the columns; "" for JSON lines.
        columns: Name of the column by meaning (path, label, split, group).
        header: Names of all columns in order; empty for JSON lines.
    """

    delimiter: str
    columns: dict[str, str]
    header: tuple[str, ...]

    def spoken(self) -> str:
        """Return which column is read as what."""
        named = (f"{name!r} as {meaning}" for meaning, name in self.columns.items())
        return f"{'the keys' if not self.delimiter else 'the columns'} {', '.join(named)}"


class _RowError(Exception):
    """One row cannot be used; the others can."""


@dataclass
class _Reader:
    source: Path
    layout: _Layout
    classes: tuple[str, ...] | None
    within: Path | None
    listing: Listing

    def records(self) -> Iterator[Record]:
        """Yield the good rows and put the bad ones into the listing."""
        with _open(self.source) as file:
            rows = _read_json(self.source, file) if not self.layout.delimiter else self._csv(file)
            for line, row in rows:
                where = f"{self.source.name}:{line}"
                try:
                    if isinstance(row, str):
                        raise _RowError(row)
                    values = {k: _as_text(k, row.get(c)) for k, c in self.layout.columns.items()}
                    if _is_utf8(values["path"], "surrogateescape"):
                        where = values["path"] or where
                    yield self._record(values)
                except _RowError as error:
                    self.listing.skipped.append((where, f"line {line}: {error}"))

    def _csv(self, file: TextIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
        header = self.layout.header
        rows = _read_csv(self.source, file, self.layout.delimiter)
        next(rows)
        for line, row in rows:
            if len(row) > len(header):
                yield line, f"has {len(row)} columns, the header {len(header)}"
            elif row:
                yield line, dict(zip(header, row, strict=False))

    def _record(self, values: dict[str, str]) -> Record:
        path, label = values["path"], values["label"]
        group, named = values.get("group", ""), values.get("split", "")
        split = settle_eval(read_split_name(named).split, ())
        if not path or not label:
            raise _RowError(f"has no {'label' if path else 'path'}")
        if not (_is_utf8(label) and _is_utf8(group)):
            raise _RowError("its text is not UTF-8; save the table as UTF-8")
        if named and not split:
            raise _RowError(f"the split {named!r} is not train, val or test")
        return Record(
            path=self._find(path),
            label=self._name_label(label),
            split=split,
            group=group,
        )

    def _find(self, path: str) -> str:
        """Return the path of an existing file, relative to the root of the listing."""
        folder = os.fspath(self.source.parent)
        for candidate in (path, path.replace("\\", "/")):
            found = os.path.join(folder, candidate)  # noqa: PTH118 - paid for each row
            if not os.path.isfile(found):  # noqa: PTH113
                continue
            if self.within is None:
                return candidate
            inside = os.path.relpath(found, self.within)
            if inside.split(os.sep, 1)[0] == "..":
                raise _RowError("the path leads out of the archive")
            return PurePath(inside).as_posix()
        raise _RowError("no such file")

    def _name_label(self, label: str) -> str:
        if self.classes is None or label in self.classes:
            return label
        if label.isdecimal() and len(label) < 10 and int(label) < len(self.classes):
            return self.classes[int(label)]
        raise _RowError(f"the label {label!r} is not in the classes file")


# The first one in a table counts, so that class names win over class numbers.
_SYNONYMS: Final = {
    "path": (
        "path", "filepath", "file_path", "filename", "file_name", "file", "files", "filepaths",
        "filenames", "image_path", "img_path", "image_file", "image_name", "image", "images", "img",
        "picture", "photo", "name", "image_id", "id",
    ),
    "label": (
        "label", "labels", "class_name", "label_name", "category_name", "class", "classes",
        "category", "target", "species", "tag", "y", "class_id", "class_index", "label_id",
    ),
    "split": ("split", "splits", "subset", "partition", "set", "data_set"),
    "group": ("group", "groups", "group_id", "subject", "subject_id", "patient", "patient_id"),
}  # fmt: skip
_DELIMITERS: Final = (",", ";", "\t", "|")
_START_BYTES: Final = 4
_SAMPLE_ROWS: Final = 100
_MAX_LINE_CHARACTERS: Final = 2**20


def _find_layout(source: Path) -> _Layout:
    """Find the meaning of the columns in the first line.

    Raises:
        DataError: It names no column of paths or none of labels.
    """
    with _open(source) as file:
        first = next((line for line in _lines(source, file) if line.strip()), "")
        file.seek(0)
        if first.lstrip().startswith("{"):
            rows = (row for _, row in islice(_read_json(source, file), _SAMPLE_ROWS))
            names = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
            columns = _find_columns(names)
            if {"path", "label"} <= columns.keys():
                return _Layout("", columns, ())
        else:
            names = [first.strip()[:80]]
            for delimiter in _DELIMITERS:
                file.seek(0)
                header = next(_read_csv(source, file, delimiter), (0, []))[1]
                columns = _find_columns(header)
                if {"path", "label"} <= columns.keys():
                    return _Layout(delimiter, columns, tuple(header))
    raise DataError(
        f"the first line of {source} does not name the columns path and label, but "
        f"{', '.join(repr(name) for name in names[:10])}",
        "give it a header such as path,label or path,label,split,group",
    )


def _find_columns(names: Iterable[str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for name in names:
        known.setdefault(
            "_".join(name.casefold().replace("-", " ").replace("_", " ").split()), name
        )
    return {
        meaning: next(known[synonym] for synonym in synonyms if synonym in known)
        for meaning, synonyms in _SYNONYMS.items()
        if not known.keys().isdisjoint(synonyms)
    }


def _open(source: Path) -> TextIO:
    start = read_start(source, _START_BYTES)
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        check_regular(source)
        # File names need not be UTF-8: other bytes are kept as surrogates.
        return source.open(encoding=encoding, errors="surrogateescape", newline="")
    except OSError as error:
        raise DataError(f"cannot read the table {source}: {error.strerror}") from error


def _lines(source: Path, file: TextIO) -> Iterator[str]:
    """Yield lines; refuse binary files and lines that would fill the memory."""
    for number in range(1, 2**62):
        try:
            line = file.readline(_MAX_LINE_CHARACTERS)
        except UnicodeError as error:
            raise DataError(f"line {number} of {source} is not text") from error
        if not line:
            return
        if "\0" in line or len(line) >= _MAX_LINE_CHARACTERS:
            fault = "holds binary data" if "\0" in line else "is longer than a million characters"
            raise DataError(f"line {number} of {source} {fault}")
        yield line


def _read_csv(source: Path, file: TextIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the number of its first line."""
    reader = csv.reader(_lines(source, file), delimiter=delimiter, skipinitialspace=True)
    start = 1
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield start, [field.strip() for field in row]
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"line {start} of {source} is not a valid row: {error}",
            "look for a quotation mark that is not closed",
        ) from error


def _read_json(source: Path, file: TextIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield line numbers, each with the object or the fault of the line."""
    for number, line in enumerate(_lines(source, file), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            yield number, f"is not JSON: {error}"
            continue
        yield number, row if isinstance(row, dict) else "is not a JSON object"


def _as_text(meaning: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise _RowError(f"the {meaning} is {str(value)[:40]!r}, not text or an integer")


def _is_utf8(text: str, errors: str = "strict") -> bool:
    try:
        text.encode("utf-8", errors)
    except UnicodeEncodeError:
        return False
    return True


TABLE: Final = Importer(
    "table",
    "CSV, TSV or JSONL with path, label, and optionally split and group",
    recognize_table,
    read_table,
    find_inside=_find_inside,
)
