"""A dataset on disk: `manifest.csv` (one row per image) and `dataset.json`, and both in memory.

In memory the manifest is columnar (`manifest_columns.py`); on disk it is read and written as a
stream (`manifest_rows.py`). Rows may be edited by hand: the fingerprint is computed from the rows
as read.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

import cnnclf
from cnnclf.bounded import parse_json, read_bytes
from cnnclf.data.bit_depth import ValueRange, find_bits, to_range
from cnnclf.data.description import (
    DATASET_NAME,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST_NAME,
    VERSIONED,
    load_description,
    write_description,
)
from cnnclf.data.manifest_columns import Fingerprint, Manifest, read_manifest
from cnnclf.data.manifest_rows import SPLITS, Row, read_rows, write_rows
from cnnclf.data.moved import find_moved
from cnnclf.errors import DataError
from cnnclf.files import hash_file
from cnnclf.images.decode import ReducedImage, reduce_image
from cnnclf.images.input_spec import KINDS
from cnnclf.images.oddities import count_oddities
from cnnclf.names import count_of

__all__ = [
    "SKIPPED_NAME",
    "SPLITS",
    "Counts",
    "Dataset",
    "Manifest",
    "Row",
    "Saved",
    "is_broken_dataset",
    "is_dataset",
    "load_dataset",
    "save_dataset",
]

SKIPPED_NAME: Final = "skipped.csv"
Counts = dict[str, dict[str, int]]


class ImportedFile(NamedTuple):
    """A file, and the SHA-256 of its bytes at the import; "" if that is not known."""

    path: Path
    sha256: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """An imported dataset.

    Args:
        directory: The directory of `dataset.json` and `manifest.csv`.
        root: The folder that the paths of the manifest are relative to.
        labels: Names of the classes; the index in this tuple is the class index.
        manifest: The images.
        source: The source, how it was read, and why; as in `dataset.json`.
        fingerprint: sha256 over the labels and each row's path, label, split and sha256.
        shown_range: Values that `reduce` makes black and white, as in `InputSpec`; "auto" for those
            that training would choose.
    """

    directory: Path
    root: Path
    labels: tuple[str, ...]
    manifest: Manifest
    source: dict[str, Any]
    fingerprint: str
    shown_range: ValueRange | Literal["auto"] | None = "auto"

    def __len__(self) -> int:
        return len(self.manifest)

    def __repr__(self) -> str:
        """Say what a notebook shows; not the paths of all images."""
        labels = count_of(len(self.labels), "class")
        return f"Dataset({str(self.directory)!r}: {count_of(len(self), 'image')} of {labels})"

    @property
    def name(self) -> str:
        """The name of its directory, without the key at the end of directories in the cache."""
        return re.sub(r"-[0-9a-f]{16}$", "", self.directory.resolve().name)

    @property
    def place(self) -> str:
        """What users know it by: its directory, or the source of one in the cache."""
        is_cached = self.name != self.directory.resolve().name
        return str(self.source.get("path", self.directory) if is_cached else self.directory)

    @property
    def kind(self) -> str:
        """What the files hold, as in `InputSpec`; datasets of early versions hold images."""
        kind = self.source.get("kind", "image")
        return kind if kind in KINDS else "image"

    @property
    def bands(self) -> tuple[int, ...] | None:
        """The channels of its images that are used, as in `InputSpec`.

        Raises:
            DataError: Those in `dataset.json` are none.
        """
        found = self.source.get("channels")
        if found is None:
            return None
        is_list = isinstance(found, list) and len(found) in (1, 3)
        if not is_list or not all(type(each) is int and 0 <= each < 4096 for each in found):
            raise DataError(
                f"{self.directory / DATASET_NAME} is damaged: expected channels as one or three "
                f"numbers, received {found!r}",
                "import the source again",
            )
        return tuple(found)

    @cached_property
    def value_range(self) -> ValueRange | None:
        """`shown_range`, where it is "auto" from the images."""
        if self.shown_range != "auto":
            return self.shown_range
        found = find_bits(self)
        return None if found is None else to_range(found[0])

    def reduce(self, source: Path | bytes, side: int, *, name: str = "") -> ReducedImage:
        """Decode one of its files with the values and channels of training, in a small size.

        Raises:
            ImageError: The file cannot be read, is not an image, or is damaged.
        """
        return self.reducer(source, side, name=name)

    @property
    def reducer(self) -> Callable[..., ReducedImage]:
        """What `reduce` calls, for other processes: it is small, whatever the dataset is."""
        return partial(reduce_image, kind=self.kind, bands=self.bands, value_range=self.value_range)

    def oddities(self) -> Counter[str]:
        """Count images by what is unusual about their pixels."""
        return count_oddities(self.manifest.notes)

    def file(self, row: int) -> Path:
        """Return the file of a row of the manifest."""
        return self.root / self.manifest.paths[row]

    def imported_file(self, row: int) -> ImportedFile:
        """Return the file of a row with its checksum."""
        return ImportedFile(self.file(row), self.manifest.sha256[row])

    def list_files(self, rows: Iterable[int], *, together: int) -> Iterator[list[ImportedFile]]:
        """Yield the files of rows, several together, for processes that need no more of a dataset.

        Args:
            rows: Of the manifest.
            together: How many files are in a list, at most; at least 1.
        """
        files = map(self.imported_file, rows)
        return iter(lambda: list(islice(files, together)), [])

    def select_split(self, split: str) -> npt.NDArray[np.intp]:
        """Return the rows of a split, or of `all`; there must be at least one.

        Raises:
            UsageError: There is no split of this name.
            DataError: The split has no images.
        """
        rows = self.manifest.select(split)
        if not len(rows):
            filled = [name for name in SPLITS if len(self.manifest.select(name))]
            raise DataError(
                f"the split {split} of {self.place} has no images; splits with images: "
                f"{' and '.join(filled) or 'none'}",
                f"use --split {filled[-1]}" if filled else "import the source again",
            )
        return rows

    def counts(self) -> Counts:
        """Count the images by split and label; every split has every label, possibly with 0."""
        return {
            split: {
                label: int(count)
                for label, count in zip(
                    self.labels,
                    np.bincount(
                        self.manifest.class_indices[self.manifest.select(split)],
                        minlength=len(self.labels),
                    ),
                    strict=True,
                )
            }
            for split in SPLITS
        }


class Saved(NamedTuple):
    """The counts of `save_dataset`."""

    counts: Counts
    fingerprint: str
    rows: int


def is_dataset(path: Path) -> bool:
    """Return whether a path is a dataset directory."""
    try:
        found = parse_json(read_bytes(path / DATASET_NAME))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT


def is_broken_dataset(path: Path) -> bool:
    """Return whether a directory has our manifest, but no description that `is_dataset` reads."""
    if is_dataset(path):
        return False
    try:
        next(read_rows(path / MANIFEST_NAME), None)
    except DataError:
        return False
    return True


def load_dataset(directory: Path) -> Dataset:
    """Load a dataset directory.

    Images that were moved together with it are found where they are now.

    Raises:
        DataError: It is not a dataset directory, is damaged or from a newer version, or the folder
            with its images is missing.
    """
    if not os.path.lexists(directory):  # no error below a folder that may not be entered
        raise DataError(
            f"the dataset {directory} does not exist",
            "check the path; if it was moved, move it back, or its runs along with it",
        )
    found = load_description(directory)
    root = directory / found["root"]
    hint = "restore it, or import it from its new path: cnnclf import FOLDER --out NEW_DATASET"
    try:
        is_there = root.is_dir()
    except OSError as error:  # such as a name that is too long
        text = f"cannot find the folder with the images of {directory}: {error.strerror}: {root}"
        raise DataError(text, hint) from error
    labels = tuple(found["labels"])
    fingerprint = Fingerprint(labels)
    manifest = read_manifest(directory / found["manifest"], labels, fingerprint=fingerprint)
    if not is_there:
        moved = find_moved(root, beside=directory, is_it=partial(_holds_images, manifest=manifest))
        if moved is None:
            text = f"the folder with the images of {directory} does not exist: {root}"
            raise DataError(text, hint)
        root = moved
    return Dataset(
        directory=directory,
        root=root,
        labels=labels,
        manifest=manifest,
        source=found["source"],
        fingerprint=fingerprint.hexdigest(),
    )


def _holds_images(root: Path, *, manifest: Manifest) -> bool:
    """Return whether some images of a manifest are in a folder, with the same bytes."""
    count = len(manifest.paths)
    rows = {0, count // 2, count - 1} if count else set()
    try:
        return bool(rows) and all(
            hash_file(root / manifest.paths[row]) == manifest.sha256[row] for row in rows
        )
    except OSError:
        return False


def save_dataset(
    directory: Path,
    rows: Iterable[Row],
    *,
    labels: tuple[str, ...],
    root: Path | str,
    source: Mapping[str, Any],
    version: Mapping[str, Any] | None = None,
    name: str = "",
) -> Saved:
    """Write `manifest.csv` row by row and then `dataset.json` into an existing directory.

    Args:
        directory: Where to write.
        rows: Consumed as a stream.
        labels: In the order of the class indices.
        root: An absolute path, or one relative to `directory` if the images are inside.
        source: The source, how it was read, and why.
        version: Of a manifest that was changed: its name and those before; see
            `manifest_versions`.
        name: Of the dataset, if the directory will be renamed.

    Raises:
        DeviceError: The disk is full.
        RunError: The directory cannot be written.
    """
    counts: Counts = {split: dict.fromkeys(labels, 0) for split in SPLITS}
    fingerprint = Fingerprint(labels)
    written = 0

    def counted() -> Iterator[Row]:
        nonlocal written
        for row in rows:
            fingerprint.add(row.path, row.label, split=row.split, sha256=row.sha256)
            if row.split:
                counts[row.split][row.label] += 1
            written += 1
            yield row

    write_rows(directory / (version["manifest"] if version else MANIFEST_NAME), counted())
    description = {
        "format": FORMAT,
        "version": VERSIONED if version else FORMAT_VERSION,
        "labels": labels,
        "counts": counts,
        "root": root if isinstance(root, str) else root.as_posix(),
        "source": dict(source),
        "fingerprint": fingerprint.hexdigest(),
        "cnnclf": cnnclf.__version__,
    }
    write_description(directory, description | dict(version or {}), name=name)
    return Saved(counts, fingerprint.hexdigest(), written)
