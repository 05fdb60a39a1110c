"""The rows of `manifest.csv`, read and written as a stream."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from cnnclf.bounded import check_regular
from cnnclf.errors import DataError
from cnnclf.files import atomic_path, open_csv

SPLITS: Final = ("train", "val", "test")
_MAX_SIDE: Final = 2**31 - 1


class Row(NamedTuple):
    """One line of `manifest.csv`; the names of the fields are its header.

    Args:
        path: Relative to the root of the dataset, with "/" between folders.
        label: One of the labels of the dataset.
        split: One of `SPLITS`, or "" for none.
        width: Pixels, after the EXIF orientation is applied.
        height: Pixels, likewise.
        mode: Pillow's mode of the file.
        sha256: Of the bytes of the file, 64 hexadecimal digits.
        group: Images of one group share a split; "" if none.
        note: What is unusual about the file; "" for nothing.
    """

    path: str
    label: str
    split: str
    width: int
    height: int
    mode: str
    sha256: str
    group: str
    note: str


def write_rows(
    path: Path, rows: Iterable[Sequence[object]], *, header: Sequence[str] = Row._fields
) -> None:
    """Write a manifest, or another table, as a stream; the file appears only when complete."""
    encoding: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with atomic_path(path) as partial, partial.open("w", **encoding) as file:
        write = open_csv(file)
        write(header)
        for row in rows:
            write(row)


def read_rows(path: Path) -> Iterator[Row]:
    """Read a manifest as a stream; only numbers and columns are checked.

    Raises:
        DataError: The file cannot be read or is not a manifest; with the line.
    """
    reader = None
    try:
        check_regular(path)
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            missing = [name for name in Row._fields if name not in header]
            if missing:
                raise DataError(
                    f"columns are missing in {path}: {', '.join(missing)}",
                    "import the source again",
                )
            order = [header.index(name) for name in Row._fields]
            for cells in reader:
                name, label, split, width, height, *rest = [cells[i] for i in order]
                yield Row(name, label, split, _count(width), _count(height), *rest)
    except OSError as error:
        raise DataError(
            f"cannot read the manifest {path}: {error.strerror}",
            "import the source again",
        ) from error
    except (ValueError, IndexError, csv.Error) as error:
        line = reader.line_num if reader else 0
        raise DataError(
            f"expected {len(Row._fields)} cells with integers for width and height in line {line} "
            f"of {path}: {error}",
            "fix the line or import the source again",
        ) from error


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= _MAX_SIDE:
        raise ValueError(f"{text[:24]} is not a number of pixels")
    return value
