"""Parquet files with the images in them, as on the Hugging Face Hub, or with their paths.

The column of images holds their bytes, or a struct of bytes and path; the names of the classes are
in the metadata of the schema, under the key "huggingface".
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cnnclf.bounded import parse_json
from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.archives.packed import read_start
from cnnclf.importers.formats.packed_samples import SampleWriter, describe_files, find_class_names
from cnnclf.importers.formats.tables import list_rows
from cnnclf.importers.importer import ImportJob, Listing, Record, path_importer
from cnnclf.importers.layouts.split_words import read_split_name
from cnnclf.importers.source import Source
from cnnclf.importers.tables.cell_values import (
    CellError,
    SplitRule,
    UnnamedSplitError,
    as_label,
    as_text,
    find_split_rule,
    report_given_splits,
    text_values,
)
from cnnclf.importers.tables.table_columns import name_columns
from cnnclf.importers.tables.text_table import Table, TableRow
from cnnclf.importers.walk import Walk
from cnnclf.names import count_of, name_some
from cnnclf.packages import import_package

MAGIC: Final = b"PAR1"
_IMAGE_NAMES: Final = ("image", "img", "photo", "jpg", "png")
_ROWS: Final = 64
_TABLE_ROWS: Final = 10_000
_COLUMNS_HINT: Final = (
    "name the columns: --path-column for the bytes of the images, and --label-column"
)
_MAX_FILES: Final = 100_000
# train-00000-of-00004-0123456789abcdef.parquet
_PART: Final = re.compile(r"-\d+-of-\d+(-[0-9a-f]{8,})?$")


def recognize_parquet(source: Path) -> str | None:
    """Recognize a Parquet file, or a folder in which there are only such files, by its magic."""
    if source.is_dir():
        files = _list_files(source)
        return f"it holds Parquet files ({files[0]})" if files else None
    return "it is a Parquet file" if read_start(source, 4) == MAGIC else None


def read_parquet(source: Path, job: ImportJob) -> Listing:
    """List the rows of Parquet files, whose images are copied into one file when they are listed.

    Raises:
        DataError: A file is damaged, or has no column of images or of labels.
        MissingPackageError: pyarrow is not installed.
    """
    parquet = import_package("pyarrow.parquet", f"reading {source}")
    files = _find_files(source)
    if not files:
        raise DataError(f"{source} holds no Parquet files, or other files too", "name the file")
    opened = [(path, _open(parquet, path)) for path in files]
    if all(_names_paths(file.schema_arrow, job.options) for _, file in opened):
        return _list_paths(opened, job)
    listing = Listing(root=job.unpack_dir, unpacked=True)
    listing.total = sum(file.metadata.num_rows for _, file in opened)
    image, label, parts = _describe_parts(opened, listing, job.options)
    others = _find_others(parts, (image, label), options=job.options)
    listing.remarks += [f"read {column!r} as {meaning}" for meaning, column in others.names.items()]
    rows = _Rows(image, label, parts, others, listing)
    listing.records = rows.records(SampleWriter(source, job.unpack_dir))
    return listing


def _list_paths(opened: list[tuple[Path, Any]], job: ImportJob) -> Listing:
    """List the images of a table of paths, which stay where they are."""
    path, file = opened[0]
    if len(opened) > 1:
        raise DataError(
            f"{path.parent} holds {len(opened)} Parquet tables of paths, such as {path.name}",
            "give one of them, with --root for the folder of its images",
        )
    table = _ParquetTable(path, "", tuple(file.schema_arrow.names), file=file)
    label = job.options.label_column or name_columns(table.header).get("label", "")
    names = _read_class_names(file.schema_arrow.metadata, label)
    return list_rows(table, Source.of(path), job=job, classes=names)


@dataclass(frozen=True)
class _ParquetTable(Table):
    """A Parquet file of paths and labels."""

    file: Any = None

    def rows(self) -> Iterator[tuple[int, TableRow]]:
        """Yield each row with its number, from 1."""
        number = 0
        try:
            for batch in self.file.iter_batches(_TABLE_ROWS, columns=list(self.header)):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (OSError, ValueError) as error:  # pyarrow's errors are these
            raise DataError(f"{self.path} is damaged after {number} rows: {error}") from error


@dataclass(frozen=True)
class _Part:
    """One file, and the names of its class numbers."""

    path: Path
    file: Any
    names: tuple[str, ...] | None


def _describe_parts(
    opened: list[tuple[Path, Any]], listing: Listing, options: ImportConfig
) -> tuple[str, str, list[_Part]]:
    """Choose the columns, those of most rows; files without them are lost."""
    rows: Counter[tuple[str, str]] = Counter()
    faults = []
    for path, file in opened:
        try:
            rows[_choose_columns(file, path, options)] += file.metadata.num_rows
        except DataError as error:
            faults.append(error)
    if not rows:
        raise faults[0]
    image, label = rows.most_common(1)[0][0]
    parts = []
    for path, file in opened:
        schema = file.schema_arrow
        if lacking := [name for name in (image, label) if name not in schema.names]:
            listing.lose(
                path.name,
                f"has no column {name_some(lacking)}, as others have, only "
                f"{name_some(schema.names)}",
            )
        else:
            parts.append(_Part(path, file, _read_class_names(schema.metadata, label)))
    beside = find_class_names(parts[0].path.parent, options.classes_file)
    stored = dict.fromkeys(part.names for part in parts if part.names)
    default = next(iter(stored), beside)
    parts = [
        replace(part, names=beside if options.classes_file else part.names or default)
        for part in parts
    ]
    if beside and stored and beside not in stored and not options.classes_file:
        listing.warnings.append(
            f"the class names beside {parts[0].path.name} differ from those in it, which are used; "
            "--classes-file chooses others"
        )
    if len(stored) > 1 and not options.classes_file:
        listing.warnings.append(
            "Parquet files with different class names, each read with its own: "
            + "; ".join(name_some(names) for names in stored)
        )
    labels = dict.fromkeys(name for part in parts for name in part.names or ())
    listing.labels = tuple(labels) or None
    listing.remarks.append(
        f"read {count_of(len(parts), 'Parquet file')}: images of {image!r}, labels of "
        f"{label!r}" + (f" ({len(listing.labels)} class names)" if listing.labels else "")
    )
    return image, label, parts


@dataclass(frozen=True)
class _Others:
    """The columns besides those of images and labels: their names by meaning, split and group."""

    names: dict[str, str]
    rule: SplitRule | None


def _find_others(parts: list[_Part], used: tuple[str, str], *, options: ImportConfig) -> _Others:
    """Find the columns of splits, unless the names of files tell them, and of groups.

    Raises:
        DataError: There is no column of a given name.
    """
    known = {each.name: each for part in parts for each in part.file.schema_arrow}
    texts = [
        name
        for name, each in known.items()
        if name not in used and (_is_text(each) or "int" in str(each.type))
    ]
    given = {"split": options.split_column, "group": options.group_column}
    for meaning, column in given.items():
        if column is not None and column not in known:
            raise DataError(
                f"--{meaning}-column {column}: {parts[0].path} has no such column",
                f"it has {name_some(list(known))}",
            )
    names = {k: v for k, v in name_columns(texts).items() if k in given}
    if any(map(_split_of, parts)):
        names.pop("split", None)
    names |= {meaning: column for meaning, column in given.items() if column is not None}
    rule = None
    if "split" in names:
        column = names["split"]
        part = next(each for each in parts if column in each.file.schema_arrow.names)
        table = _ParquetTable(part.path, "", (column,), file=part.file)
        rule = find_split_rule(column, text_values(table.sample(), column), given=options.splits)
        if rule is None:
            del names["split"]
    return _Others(names, rule)


def _split_of(part: _Part) -> str:
    """Return the split that the name of a file tells; "" for none."""
    return read_split_name(_PART.sub("", part.path.stem)).split


@dataclass
class _Rows:
    image: str
    label: str
    parts: list[_Part]
    others: _Others
    listing: Listing
    named: set[str] = field(default_factory=set)
    unnamed: Counter[str] = field(default_factory=Counter)

    def records(self, writer: SampleWriter) -> Iterator[Record]:
        """Yield the rows that have an image and a label; the others are lost."""
        used: set[str] = set()
        with writer:
            for part in self.parts:
                split, number = _split_of(part), 0
                known = part.file.schema_arrow.names
                more = [name for name in self.others.names.values() if name in known]
                columns = list(dict.fromkeys((self.image, self.label, *more)))
                try:
                    for batch in part.file.iter_batches(_ROWS, columns=columns):
                        for row in batch.to_pylist():
                            number += 1
                            record = self._record(row, part, number, split=split, writer=writer)
                            if record is not None:
                                used.add(record.label)
                                yield record
                except (OSError, ValueError) as error:  # pyarrow's errors are these
                    self.listing.lose(part.path.name, f"damaged after {number} rows: {error}")
        self.listing.warnings += report_given_splits(
            self.others.rule, named=self.named, unnamed=self.unnamed
        )
        if self.listing.labels is not None:
            self.listing.labels = tuple(name for name in self.listing.labels if name in used)

    def _record(
        self, row: dict[str, Any], part: _Part, number: int, *, split: str, writer: SampleWriter
    ) -> Record | None:
        label = ""
        try:
            label = _find_label(row[self.label], part.names)
            content, name = _image_of(row[self.image])
            group = self._text(row, "group")
            split = self._read_split(row) or split
        except UnnamedSplitError as error:
            self.unnamed[error.split] += 1
            self.listing.unneeded.append((f"{part.path.name}:{number}", str(error)))
            return None
        except CellError as error:
            self.listing.lose(f"{part.path.name}:{number}", str(error), label=label)
            return None
        return replace(writer.write(content, name=name, label=label, split=split), group=group)

    def _text(self, row: dict[str, Any], meaning: str) -> str:
        column = self.others.names.get(meaning)
        return "" if column is None else as_text(meaning, row.get(column))

    def _read_split(self, row: dict[str, Any]) -> str:
        text = self._text(row, "split")
        self.named.add(as_label(text).casefold())
        return "" if self.others.rule is None else self.others.rule.read(text)


def _find_label(value: object, names: tuple[str, ...] | None) -> str:
    if names is not None and isinstance(value, int):
        if not 0 <= value < len(names):
            raise CellError(f"label {value} of {len(names)} class names")
        return names[value]
    label = as_label(as_text("label", value))
    if not label:
        raise CellError("no label")
    return label


def _find_files(source: Path) -> list[Path]:
    return [source / name for name in _list_files(source)] if source.is_dir() else [source]


def _list_files(folder: Path) -> list[str]:
    """Return the Parquet files below a folder; none if other files than texts are there."""
    found: list[str] = []
    for name in Walk(folder).all_files():
        if name.endswith(".parquet") and len(found) < _MAX_FILES:
            found.append(name)
        elif not name.endswith((".md", ".txt", ".json", ".gitattributes")):
            return []
    return found


def _open(parquet: Any, path: Path) -> Any:
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is damaged: {str(error).splitlines()[0]}", "fetch it again"
        ) from error


def _choose_columns(file: Any, path: Path, options: ImportConfig) -> tuple[str, str]:
    schema = file.schema_arrow
    image = options.path_column or next(
        (field.name for field in schema if _holds_images(field) and field.name in _IMAGE_NAMES),
        next((field.name for field in schema if _holds_images(field)), None),
    )
    label = options.label_column or name_columns(schema.names).get("label")
    for what, name in (("images", image), ("labels", label)):
        if name is None or name not in schema.names:
            raise DataError(
                f"{path} has no column of {what}" + (f" {name!r}" if name else "") + ", only "
                f"{name_some([f'{each.name} ({str(each.type)[:20]})' for each in schema])}",
                _COLUMNS_HINT,
            )
    return str(image), str(label)


def names_paths(source: Source, options: ImportConfig) -> bool:
    """Return whether the images are in other files, which Parquet files name."""
    parquet = import_package("pyarrow.parquet", f"reading {source}")
    files = _find_files(source.require_path())
    return bool(files) and all(
        _names_paths(_open(parquet, path).schema_arrow, options) for path in files
    )


def _names_paths(schema: Any, options: ImportConfig) -> bool:
    """Return whether there is no column of images, but one of text that names files."""
    if options.path_column:
        named = [each for each in schema if each.name == options.path_column]
        return any(_is_text(each) for each in named)
    texts = [each.name for each in schema if _is_text(each)]
    return not any(map(_holds_images, schema)) and "path" in name_columns(texts)


def _is_text(field: Any) -> bool:
    return "string" in str(field.type) and not str(field.type).startswith(("struct", "list"))


def _holds_images(field: Any) -> bool:
    kind = str(field.type)
    return kind in {"binary", "large_binary"} or (kind.startswith("struct") and "bytes" in kind)


def _read_class_names(metadata: Mapping[bytes, bytes] | None, label: str) -> tuple[str, ...] | None:
    try:
        document = parse_json((metadata or {}).get(b"huggingface", b"{}"))
        names = document["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list and len(set(names)) == len(names) else None


def _image_of(value: object) -> tuple[bytes, str]:
    """Return the content of an image and its name."""
    name = ""
    if isinstance(value, dict):
        name, value = str(value.get("path") or ""), value.get("bytes")
    if not isinstance(value, bytes) or not value:
        raise CellError("no image")
    return value, name or "image"


PARQUET: Final = path_importer(
    "parquet",
    "Parquet files with images in them, as on the Hugging Face Hub (needs pyarrow)",
    recognize=recognize_parquet,
    read=read_parquet,
    unpacks=True,
    is_inside=True,
    names_files=names_paths,
)._replace(describe_state=lambda source: describe_files(_find_files(source.require_path())))
