"""Tables of paths and labels: CSV, TSV or similar, or JSON lines."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.importer import (
    Importer,
    ImportJob,
    Listing,
    Record,
    compose_label,
    names_others,
)
from cnnclf.importers.layouts.split_words import describe_unread, name_splits, read_split_name
from cnnclf.importers.source import Source
from cnnclf.importers.tables.cell_values import (
    CellError,
    UnnamedSplitError,
    as_label,
    as_text,
    readable,
    report_given_splits,
)
from cnnclf.importers.tables.file_index import FileIndex, NotFoundError
from cnnclf.importers.tables.repeated_rows import COPY, RepeatedRows
from cnnclf.importers.tables.table_columns import (
    TableColumns,
    choose_columns,
    name_columns,
    require_folder,
)
from cnnclf.importers.tables.text_table import TABLE_SUFFIXES, Table, looks_like_text, open_table
from cnnclf.importers.walk import list_visible
from cnnclf.progress import Silent

METADATA: Final = "metadata"
"""Name, without its suffix, of the table in folders of images from the Hugging Face Hub."""

SAMPLED: Final = 50
"""First rows that tell whether a table labels the files beside it."""


def recognize_table(source: Source) -> str | None:
    """Recognize text whose first line names a column of paths and one of labels."""
    path = source.path
    if path is None or not looks_like_text(path):
        return None
    try:
        names = name_columns(open_table(path).header)
    except DataError:
        names = {}
    if {"path", "label"} <= names.keys():
        return f"its first line names {TableColumns(names).spoken()}"
    return f"its name ends in {path.suffix}" if path.suffix.lower() in TABLE_SUFFIXES else None


def read_table(source: Source, job: ImportJob) -> Listing:
    """List the images of a table; paths in it are relative to its folder, or to `options.root`.

    A row that is wrong, contradicts an earlier one or whose file is missing is skipped with its
    line number; copies of a row count once. With a classes file, integer labels are line numbers of
    it, from 0.

    Raises:
        DataError: The file is not such a table (at once), or is damaged (when the records are
            consumed).
    """
    path, options = source.require_path(), job.options
    if path.is_dir():
        found = [each for each in list_visible(path) if each.stem == METADATA]
        if splits := find_split_tables(source, options):
            return _read_splits(splits, source, job)
        if len(found) != 1:
            raise DataError(f"expected a table, received the folder {path}", "name the table")
        path = found[0]
    listing = list_rows(open_table(path, has_header=options.header), source, job=job)
    if source.within is None:
        listing.remarks += _name_other_splits(path, options)
    return listing


def _name_other_splits(path: Path, options: ImportConfig) -> list[str]:
    """Say which tables beside one of a split have the other splits."""
    tables = find_split_tables(Source(os.fspath(path.parent), path.parent), options).values()
    if path not in tables:
        return []
    return [describe_unread([each.name for each in tables if each != path], path.parent)]


def find_split_tables(folder: Source, options: ImportConfig) -> dict[str, Path]:
    """Find tables in a folder that each list the images of a split; empty for fewer than two."""
    path = folder.require_path()
    named = name_splits(
        each for each in list_visible(path) if each.suffix.lower() in TABLE_SUFFIXES
    )
    usable = {
        split: table
        for split, table in named.items()
        if sample_rows(Source(os.fspath(table), table, within=folder.within), options)
    }
    return usable if len(usable) > 1 else {}


def sample_rows(table: Source, options: ImportConfig) -> list[Record]:
    """Return the first images of a table; none unless it has half of what its rows name."""
    try:
        source = table.require_path()
        opened = open_table(source, has_header=options.header)
        listing = list_rows(opened, table, job=ImportJob(source.parent, options, Silent()))
        return keep_known(listing, islice(listing.records, SAMPLED))
    except DataError:
        return []


def keep_known(listing: Listing, records: Iterable[Record]) -> list[Record]:
    """Return the images of a listing; none unless there are half of those that it names."""
    found = list(records)
    return found if len(found) >= len(listing.skipped) else []


def _read_splits(splits: dict[str, Path], source: Source, job: ImportJob) -> Listing:
    """List the images of several tables, each for its split unless it names others."""
    parts = {
        split: list_rows(open_table(path, has_header=job.options.header), source, job=job)
        for split, path in splits.items()
    }
    first = next(iter(parts.values()))
    whole = Listing(root=first.root, labels=first.labels)

    def records() -> Iterator[Record]:
        known: dict[int, str] = {}  # hashes, as there may be a million
        for split, part in parts.items():
            part.skipped, part.unneeded, part.lost_labels = (
                whole.skipped,
                whole.unneeded,
                whole.lost_labels,
            )
            part.empty = whole.empty
            name = splits[split].name
            for record in part.records:
                earlier = known.setdefault(hash(os.path.normpath(record.path)), name)
                if earlier == name:
                    yield replace(record, split=record.split or split)
                else:
                    reason = f"{name} line {record.line}: {earlier} has it, which counts"
                    whole.lose(record.path, reason, label=record.label)
            whole.remarks += part.remarks
            whole.warnings += part.warnings

    whole.records = records()
    return whole


def list_rows(
    table: Table, source: Source, *, job: ImportJob, classes: tuple[str, ...] | None = None
) -> Listing:
    """List the images of an open table, as `read_table` does.

    Args:
        table: The table.
        source: What it was opened from.
        job: How it is read; its classes file comes before `classes`.
        classes: Names of the class numbers.

    Raises:
        DataError: As `read_table`.
    """
    path, options = table.path, job.options
    table.require_rows()
    is_free = source.within is None or options.root in (source.within, *path.parents)
    root = require_folder(options.root) if options.root and is_free else path.parent
    index = FileIndex(root, within=source.within, split=read_split_name(path.stem).split)
    columns = choose_columns(table, table.sample(), options=options, holds=index.holds)
    classes = job.read_classes() or classes
    listing = Listing(
        root=source.within or Path(os.path.abspath(root)),  # noqa: PTH100 - keeps links
        labels=classes,
        remarks=[f"{path.name}: read {columns.spoken(table.kind)}"],
        warnings=list(columns.warnings),
    )
    listing.records = _Reader(table, columns, index, classes, listing).records()
    return listing


def _find_inside(folder: Source, options: ImportConfig) -> Source | None:
    """Find the only table in a folder that names at least one image that exists, or one a split."""
    if find_split_tables(folder, options):
        return folder
    found, job = [], ImportJob(folder.require_path(), options, Silent())
    for file in list_visible(folder.require_path()):
        if file.suffix.lower() not in TABLE_SUFFIXES:
            continue
        table = Source(os.fspath(file), file, within=folder.within)
        try:
            if next(read_table(table, job).records, None) is not None:
                found.append(table)
        except DataError:
            continue
    return found[0] if len(found) == 1 else None


@dataclass
class _Reader:
    table: Table
    columns: TableColumns
    index: FileIndex
    classes: tuple[str, ...] | None
    listing: Listing
    converted: bool = False
    unnamed: Counter[str] = field(default_factory=Counter)
    named: set[str] = field(default_factory=set)
    known: RepeatedRows = field(default_factory=RepeatedRows)

    def records(self) -> Iterator[Record]:
        """Yield the good rows and put the bad ones into the listing."""
        for line, row in self.table.rows():
            where, label = f"{self.table.path.name}:{line}", ""
            try:
                if isinstance(row, str):
                    raise CellError(row)
                path = self._cell(row, "path")
                if path and _can_encode(path, "surrogateescape"):
                    where = path
                label = self._label(row)
                record = self._record(row, path, label=label, line=line)
                fault = self.known.add(record)
                if not fault:
                    yield record
                elif fault != COPY:
                    self.listing.lose(where, fault, label=label)
            except (CellError, NotFoundError) as error:
                self._skip(where, f"line {line}: {error}", error, label)
        self._report()

    def _report(self) -> None:
        self.listing.warnings += report_given_splits(
            self.columns.rule, named=self.named, unnamed=self.unnamed
        )
        if copies := self.known.describe_copies():
            self.listing.remarks.append(f"{self.table.path.name}: {copies}")
        if self.converted:
            self.listing.remarks.append(
                f"{self.table.path.name}: text that is not UTF-8 was read as Windows-1252"
            )

    def _skip(self, where: str, reason: str, error: Exception, label: str) -> None:
        if isinstance(error, UnnamedSplitError):
            self.unnamed[error.split] += 1
            self.listing.unneeded.append((where, reason))
        else:
            self.listing.lose(where, reason, label=label)

    def _cell(self, row: dict[str, Any], meaning: str) -> str:
        name = self.columns.names.get(meaning)
        return as_text(meaning, row.get(name)) if name is not None else ""

    def _label(self, row: dict[str, Any]) -> str:
        label = self.columns.label_of(row)
        name = self.columns.names.get("label", "")
        self.converted = self.converted or not _can_encode(str(row.get(name, "")))
        return self._name_label(label)

    def _record(self, row: dict[str, Any], path: str, *, label: str, line: int) -> Record:
        if not path or not label:
            raise CellError(f"has no {'label' if path else 'path'}")
        group, split = (self._readable(self._cell(row, each)) for each in ("group", "split"))
        rule = self.columns.rule
        self.named.add(as_label(split).casefold())
        return Record(
            path=self._find(path),
            label=label,
            split=rule.read(split) if rule else "",
            group=group,
            line=line,
        )

    def _readable(self, text: str) -> str:
        changed = readable(text)
        self.converted = self.converted or changed != text
        return changed

    def _find(self, path: str) -> str:
        try:
            return self.index.take(path)
        except NotFoundError:
            spoken = self._readable(path)
            if spoken == path:
                raise
            return self.index.take(spoken)

    def _name_label(self, label: str) -> str:
        if not label or self.classes is None:
            return label
        label = compose_label(label)
        if label in self.classes:
            return label
        if label.isdecimal() and len(label) < 10 and int(label) < len(self.classes):
            return self.classes[int(label)]
        raise CellError(f"the label {label!r} is not in the classes file")


def _can_encode(text: str, errors: str = "strict") -> bool:
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
    names_files=names_others,
)
