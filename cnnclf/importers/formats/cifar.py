"""The binary version of CIFAR-10 and CIFAR-100.

Format: records of one class byte (CIFAR-100: a coarse and a fine one) and 3072 bytes of a 32 x 32
image, all of red, then green, then blue (Krizhevsky, "Learning Multiple Layers of Features from
Tiny Images", 2009).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnclf.errors import DataError
from cnnclf.importers.archives.packed import PackedReader, read_start
from cnnclf.importers.formats.arrays import Part, Pixels, index_labels, unpack_parts
from cnnclf.importers.importer import ImportJob, Listing, path_importer, read_classes_file


class _Variant(NamedTuple):
    name: str
    files: tuple[tuple[str, str], ...]  # (pattern of the file names, split)
    label_bytes: int  # the last of them is the class
    classes_file: str
    python_files: tuple[str, ...]  # the files of the version with pickles

    @property
    def record_bytes(self) -> int:
        return self.label_bytes + _PIXEL_BYTES


_VARIANTS: Final = (
    _Variant(
        "CIFAR-10",
        (("data_batch_*.bin", "train"), ("test_batch.bin", "test")),
        1,
        "batches.meta.txt",
        ("data_batch_1", "batches.meta"),
    ),
    _Variant(
        "CIFAR-100",
        (("train.bin", "train"), ("test.bin", "test")),
        2,
        "fine_label_names.txt",
        ("train", "meta"),
    ),
)
_SIDE: Final = 32
_PIXEL_BYTES: Final = 3 * _SIDE * _SIDE
_BLOCK_LENGTH: Final = 256


def recognize_cifar(source: Path) -> str | None:
    """Recognize a folder with files of the right names and a whole number of records."""
    variant = _find_variant(source)
    if variant is not None:
        return f"it holds the binary files of {variant.name}"
    if _has_pickles(source):
        return "it holds the Python version of CIFAR"
    return None


def read_cifar(source: Path, job: ImportJob) -> Listing:
    """Unpack the images of a folder with the binary version; CIFAR-100 with its fine labels.

    Raises:
        DataError: The files are damaged, or belong to the Python version.
    """
    variant = _find_variant(source)
    if variant is None and _has_pickles(source):
        raise DataError(
            f"{source} holds the Python version of CIFAR, whose files can run code when they are "
            "read",
            'download the "binary version (suitable for C programs)" from the CIFAR page',
        )
    if variant is None:
        raise DataError(
            f"{source} holds no binary files of CIFAR with complete records",
            "give the folder with data_batch_1.bin to data_batch_5.bin, or with train.bin",
        )
    found = {split: _files(source, pattern) for pattern, split in variant.files}
    for path in (path for files in found.values() for path in files):
        _check_size(variant, path)
    values = {split: _read_labels(variant, files) for split, files in found.items() if files}
    classes_file = job.options.classes_file or source / variant.classes_file
    classes = read_classes_file(classes_file) if classes_file.is_file() else None
    names, indices = index_labels(source, values, classes=classes)
    parts = [_part(variant, split, found[split], indices[split]) for split in values]
    listing = unpack_parts(source, parts, names=names, job=job)
    listing.remarks.append(f"{variant.name}, binary version: {len(parts)} splits as distributed")
    return listing


def _files(source: Path, pattern: str) -> list[Path]:
    return [path for path in sorted(source.glob(pattern)) if path.is_file()]


def _find_variant(source: Path) -> _Variant | None:
    if not source.is_dir():
        return None
    for variant in _VARIANTS:
        files = [path for pattern, _ in variant.files for path in _files(source, pattern)]
        if any(_is_whole(variant, path) for path in files):
            return variant
    return None


def _is_whole(variant: _Variant, path: Path) -> bool:
    records, rest = divmod(path.stat().st_size, variant.record_bytes)
    return records > 0 and not rest


def _check_size(variant: _Variant, path: Path) -> None:
    if not _is_whole(variant, path):
        raise DataError(
            f"{path} is truncated: its {path.stat().st_size} bytes are not a whole number of "
            f"records of {variant.record_bytes} bytes",
            "download the file again",
        )


def _has_pickles(source: Path) -> bool:
    return any(
        all(read_start(source / name, 1) == b"\x80" for name in variant.python_files)
        for variant in _VARIANTS
    )


def _records(variant: _Variant, files: list[Path]) -> Iterator[npt.NDArray[np.uint8]]:
    for path in files:
        with PackedReader(path) as reader:
            left = reader.packed_bytes // variant.record_bytes
            while left:
                count = min(left, _BLOCK_LENGTH)
                data = reader.read_exactly(count * variant.record_bytes)
                yield np.frombuffer(data, np.uint8).reshape(count, variant.record_bytes)
                left -= count


def _read_labels(variant: _Variant, files: list[Path]) -> npt.NDArray[np.int64]:
    column = variant.label_bytes - 1
    labels = [block[:, column].astype(np.int64) for block in _records(variant, files)]
    return np.concatenate(labels)


def _part(
    variant: _Variant, split: str, files: list[Path], class_indices: npt.NDArray[np.int64]
) -> Part:
    def blocks() -> Iterator[Pixels]:
        for block in _records(variant, files):
            planes = block[:, variant.label_bytes :].reshape(-1, 3, _SIDE, _SIDE)
            yield planes.transpose(0, 2, 3, 1)

    return Part(split, split, class_indices, blocks)


CIFAR: Final = path_importer(
    "cifar",
    "CIFAR-10 or CIFAR-100, binary version",
    recognize=recognize_cifar,
    read=read_cifar,
    unpacks=True,
    is_inside=True,
)
