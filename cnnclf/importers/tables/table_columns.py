"""Which column of a table is what: by option, by name, or by what its cells hold."""

import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.layouts.folder_view import is_image_name
from cnnclf.importers.layouts.split_words import read_split_name
from cnnclf.importers.tables.cell_values import (
    CellError,
    SplitRule,
    as_flag,
    as_label,
    as_text,
    find_separator,
    find_split_rule,
    readable,
    text_values,
)
from cnnclf.importers.tables.text_table import Table
from cnnclf.names import name_some

Holds = Callable[[str], bool]
Rows = Sequence[Mapping[str, Any]]

# The first one in a table counts, so that class names win over class numbers.
_SYNONYMS: Final = {
    "path": (
        "path", "filepath", "file_path", "filename", "file_name", "file", "files", "filepaths",
        "filenames", "full_path", "relative_path", "image_path", "img_path", "image_file",
        "image_filename", "image_name", "img_name", "image", "images", "img", "picture", "photo",
        "source_ref", "imagegcsuri", "name", "image_id", "imageid", "img_id", "image_index",
        "id_code", "fname", "id",
    ),
    "label": (
        "label", "labels", "class_name", "displayname", "label_name", "category_name", "class",
        "classes", "category", "target", "species", "breed", "breed_name", "diagnosis", "dx",
        "emotion", "variety", "tag", "tags", "choice", "y", "class_id", "class_index", "classid",
        "label_id", "labelid", "category_id", "finding_labels", "ground_truth", "id",
    ),
    "split": (
        "split", "splits", "subset", "partition", "set", "data_set", "dataset", "usage", "phase",
        "is_valid", "is_val", "is_validation", "is_test", "is_train", "ml_use", "fold",
        "kfold",
    ),
    "group": (
        "group", "groups", "group_id", "subject", "subject_id", "patient", "patient_id",
        "patientid", "lesion_id", "individual_id", "participant_id", "case_id",
    ),
}  # fmt: skip
_MOST: Final = 0.5


@dataclass(frozen=True)
class TableColumns:
    """The meaning of the columns of a table.

    Args:
        names: Name of the column by meaning (path, label, split, group).
        one_hot: Names of columns that are classes, each 1 where an image is of that class.
        rule: What the cells of the split column mean.
        separator: What separates several labels in a cell; "" for one label.
        warnings: What the user may have to act on.
        takes_first: Whether an image of several classes is of the first one; else it has no label.
    """

    names: dict[str, str]
    one_hot: tuple[str, ...] = ()
    rule: SplitRule | None = None
    separator: str = ""
    warnings: tuple[str, ...] = ()
    takes_first: bool = False

    def label_of(self, row: Mapping[str, Any]) -> str:
        """Return the label of a row; "" for none.

        Raises:
            CellError: The cell is no text, or several columns are 1.
        """
        if self.one_hot:
            ones = [name for name in self.one_hot if as_flag(str(row.get(name, "")))]
            if len(ones) > 1 and not self.takes_first:
                raise CellError(f"has several labels: {name_some(ones, 3)}")
            return readable(ones[0] if ones else "")
        text = readable(as_text("label", row.get(self.names["label"])))
        if self.separator:
            text = text.split(self.separator)[0].strip()
        return as_label(text)

    def spoken(self, kind: str = "columns") -> str:
        """Return which column is read as what."""
        named = [f"{name!r} as {meaning}" for meaning, name in self.names.items()]
        if self.one_hot:
            named.append(f"the label from one column per class ({name_some(self.one_hot)})")
        return f"the {kind} {', '.join(named)}"


def name_columns(header: Sequence[str]) -> dict[str, str]:
    """Return the columns whose names tell what they are, by meaning."""
    known: dict[str, str] = {}
    for name in header:
        known.setdefault(_plain(name), name)
    found: dict[str, str] = {}
    for meaning, synonyms in _SYNONYMS.items():
        for synonym in synonyms:
            if synonym in known and known[synonym] not in found.values():
                found[meaning] = known[synonym]
                break
    return found


def choose_columns(
    table: Table, rows: Rows, *, options: ImportConfig, holds: Holds
) -> TableColumns:
    """Find the meaning of the columns.

    Args:
        table: The table.
        rows: Its first rows.
        options: `path_column` and so on decide; `first_label` allows several labels in a cell.
        holds: Tells whether there is a file of a name.

    Raises:
        DataError: No column is that of the paths or that of the labels, several may be it, or the
            cells hold several labels.
    """
    _check_header(table, holds)
    names = name_columns(table.header) | _given(table, options)
    names["path"] = _choose_path(table, rows, names, options, holds)
    if names.get("label") == names["path"]:
        del names["label"]
    names = {meaning: names[meaning] for meaning in _SYNONYMS if meaning in names}
    if "split" not in names and (found := _find_split(table, rows, names)):
        names["split"] = found
    one_hot: tuple[str, ...] = ()
    if "label" not in names:
        one_hot = _find_one_hot(table, rows, names, options)
        if not one_hot:
            names["label"] = _find_label(table, rows, names)
    warnings, rule = [], None
    if "split" in names:
        values = text_values(rows, names["split"])
        rule = find_split_rule(names["split"], values, given=options.splits)
        if rule is None:
            seen = name_some(list(dict.fromkeys(value for value in values if value)))
            unused = names.pop("split")
            warnings.append(
                f"the column {unused!r} ({seen}) names neither train, val nor test: not used; "
                "--splits train=VALUE,val=VALUE says what its values are"
            )
    separator = _check_separator(table, rows, names, options)
    if not options.label_column and not options.classes_file and "label" in names:
        warnings += _find_class_names(table, rows, names)
    return TableColumns(
        names, one_hot, rule, separator, tuple(warnings), takes_first=options.first_label
    )


def _check_header(table: Table, holds: Holds) -> None:
    """Refuse a first line that names a file, because its row would be lost, and CSV of VIA."""
    if table.delimiter and "region_attributes" in table.header:
        raise DataError(
            f"{table.path} is CSV of VIA, with its attributes as JSON in cells",
            "export or save the project as JSON in VIA, and import that",
        )
    named = [name for name in table.header if is_image_name(name) and holds(name)]
    if table.has_header and named:
        raise DataError(
            f"the first line of {table.path} is no header, because there is a file {named[0]!r}",
            "add --no-header; columns are then numbered: --path-column 1 --label-column 2",
        )


def _given(table: Table, options: ImportConfig) -> dict[str, str]:
    given = {
        "path": options.path_column,
        "label": options.label_column,
        "split": options.split_column,
        "group": options.group_column,
    }
    return {
        meaning: _find_given(table, meaning, name)
        for meaning, name in given.items()
        if name is not None
    }


def _find_given(table: Table, meaning: str, name: str) -> str:
    for column in table.header:
        if column == name or _plain(column) == _plain(name):
            return column
    raise DataError(
        f"--{meaning}-column {name}: {table.path} has no such column",
        f"it has {spoken_header(table)}",
    )


def _choose_path(
    table: Table, rows: Rows, names: Mapping[str, str], options: ImportConfig, holds: Holds
) -> str:
    """Return the column of the paths: the named one, unless only another one names files."""
    named = names.get("path")
    others = {names[key] for key in ("label", "split", "group") if key in names}
    if named and (options.path_column or _count_files(rows, named, holds)):
        return named
    hits = {
        column: count
        for column in table.header
        if column != named and (column not in others or column == names.get("label"))
        if (count := _count_files(rows, column, holds)) > _MOST * min(len(rows), _TRIES)
    }
    suffixed = [name for name in hits if any(map(is_image_name, text_values(rows, name)))]
    if len(suffixed) == 1:
        return suffixed[0]
    if len(hits) > 1:
        raise DataError(
            f"several columns of {table.path} name files: {name_some(list(hits))}",
            "choose with --path-column",
        )
    if hits:
        return next(iter(hits))
    if named:
        return named
    if addresses := [each for each in table.header if _ADDRESS.match(_first_text(rows, each))]:
        raise DataError(
            f"the column {addresses[0]!r} of {table.path} holds addresses: import downloads none",
            "download the images, and add a column of their file names",
        )
    raise DataError(
        f"no column of {table.path} is named like one of paths or names files: "
        f"{spoken_header(table)}",
        "give --root DIR if the files are in another folder, or --path-column; --no-header if its "
        "first line is no header",
    )


_TRIES: Final = 50
_ADDRESS: Final = re.compile(r"(https?|s3|gs|ftp)://")


def _first_text(rows: Rows, column: str) -> str:
    return next(iter(text_values(rows, column)), "")


def _count_files(rows: Rows, column: str, holds: Holds) -> int:
    values = [value for value in text_values(rows[:_TRIES], column) if value]
    return sum(holds(value) for value in values)


def _find_one_hot(
    table: Table, rows: Rows, names: Mapping[str, str], options: ImportConfig
) -> tuple[str, ...]:
    """Return the columns that are 1 for the images of one class and 0 for all others."""
    flags = {}
    for column in table.header:
        if column in names.values():
            continue
        cells = [as_flag(value) for value in text_values(rows, column)]
        if cells and None not in cells and (len(set(cells)) > 1 or not any(cells)):
            flags[column] = cells
    if len(flags) < 2:
        return ()
    sums = [sum(map(bool, row)) for row in zip(*flags.values(), strict=True)]
    if max(sums) > 1 and not options.first_label:
        line = sums.index(max(sums)) + 2
        raise DataError(
            f"{table.path} is a multi-label table: row {line} is 1 in {max(sums)} of the columns "
            f"{name_some(list(flags))}",
            _ONE_LABEL,
        )
    return tuple(flags) if max(sums) else ()


_ONE_LABEL: Final = (
    "cnnclf gives each image one label; --first-label uses the first of each, or choose a column "
    "with --label-column"
)


def _find_label(table: Table, rows: Rows, names: Mapping[str, str]) -> str:
    """Return the only column with few different values."""
    found = []
    for column in table.header:
        values = [value for value in text_values(rows, column) if value]
        distinct = len(set(values))
        if column not in names.values() and 2 <= distinct <= len(values) / 2:
            found.append(column)
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"several columns of {table.path} may be that of the labels: {name_some(found)}",
            "choose with --label-column",
        )
    raise DataError(
        f"no column of {table.path} holds labels: {spoken_header(table)}",
        "give it a column named label, or name one with --label-column; a list of images without "
        "labels is for cnnclf predict",
    )


def _find_split(table: Table, rows: Rows, names: Mapping[str, str]) -> str:
    """Return the only column whose cells are nothing but names of splits; "" for none."""
    found = []
    for column in table.header:
        values = {value for value in text_values(rows, column) if value}
        readings = [read_split_name(value) for value in values]
        if (
            column not in names.values()
            and len({reading.split for reading in readings}) > 1
            and all(reading.split and not reading.rest for reading in readings)
        ):
            found.append(column)
    return found[0] if len(found) == 1 else ""


def _find_class_names(table: Table, rows: Rows, names: Mapping[str, str]) -> list[str]:
    """Report a column that names the classes if those of the labels are numbers."""
    numbers = text_values(rows, names["label"])
    if not all(map(str.isdecimal, numbers)):
        return []
    for column in table.header:
        words = text_values(rows, column)
        if column in names.values() or not all(words) or any(map(str.isdecimal, words)):
            continue
        pairs = set(zip(numbers, words, strict=True))
        if 1 < len(set(numbers)) == len(set(words)) == len(pairs) <= len(words) / 2:
            found = f"the labels are the numbers of {names['label']!r}; {column!r} has their names"
            return [f"{found}: --label-column {shlex.quote(column)}"]
    return []


def _check_separator(
    table: Table, rows: Rows, names: Mapping[str, str], options: ImportConfig
) -> str:
    if "label" not in names:
        return ""
    values = text_values(rows, names["label"])
    separator = find_separator(names["label"], values) or ""
    if separator and not options.first_label:
        several = [value for value in values if separator in value]
        common = Counter(several).most_common(1)[0][0]
        raise DataError(
            f"{table.path} is a multi-label table: {len(several):,} of the first {len(values):,} "
            f"rows have several labels, such as {common!r}",
            _ONE_LABEL,
        )
    return separator


def _plain(name: str) -> str:
    return "_".join(name.casefold().replace("-", " ").replace("_", " ").split())


def spoken_header(table: Table) -> str:
    """Return the first names of the columns for messages."""
    return ", ".join(repr(name[:40]) for name in table.header[:10]) or "none"


def find_named_split(
    table: Table, others: Sequence[str], *, options: ImportConfig
) -> tuple[str, SplitRule] | None:
    """Return the column of splits among some columns, and what its cells mean."""
    named = options.split_column or name_columns(others).get("split")
    if named is None or named not in table.header:
        return None
    rule = find_split_rule(named, text_values(table.sample(), named), given=options.splits)
    return None if rule is None else (named, rule)


def require_folder(root: Path) -> Path:
    """Check --root.

    Raises:
        DataError: It is not a folder.
    """
    if not root.is_dir():
        raise DataError(f"--root {root}: not a folder", "give the folder that holds the files")
    return root
