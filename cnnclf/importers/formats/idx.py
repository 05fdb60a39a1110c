"""The IDX format of MNIST and similar data sets: a file of images and a file of labels.

Format: two zero bytes, a byte for the number type, a byte for the number of dimensions, each
dimension as a big-endian 32-bit integer, then the numbers (LeCun, Cortes and Burges, "The MNIST
database of handwritten digits", 1998).
"""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.errors import DataError
from cnnclf.importers.archives.packed import PackedReader, check_growth
from cnnclf.importers.formats.arrays import (
    SCALE_RULE,
    Part,
    Pixels,
    block_length,
    check_image_shape,
    index_labels,
    scale_samples,
    spoken_shape,
    unpack_parts,
)
from cnnclf.importers.importer import ImportJob, Listing, path_importer, read_classes_file


def recognize_idx(source: Path) -> str | None:
    """Recognize a file of IDX images, or a folder with at least one."""
    if source.is_file():
        return "it starts as an IDX file of images" if _is_images(_find(source)) else None
    if not source.is_dir():
        return None
    try:
        found = [file for file in _find_all(source) if _is_images(file)]
    except DataError:
        return None  # reported when the folder is read
    return f"it holds IDX images ({found[0].path.name})" if found else None


def read_idx(source: Path, job: ImportJob) -> Listing:
    """Unpack one IDX pair, or all pairs of a folder.

    The words train, t10k, test and val in the file names give the split.

    Raises:
        DataError: Images have no labels, or files are damaged or do not belong together.
    """
    pairs = _find_pairs(source)
    classes_file = job.options.classes_file or _find_classes_file(pairs[0][0].path.parent)
    classes = read_classes_file(classes_file) if classes_file else None
    values = {images.path.name: _read_labels(labels) for images, labels in pairs}
    names, indices = index_labels(source, values, classes=classes)
    parts = [_part(images, indices[images.path.name]) for images, _ in pairs]
    listing = unpack_parts(source, parts, names=names, job=job)
    for images, labels in pairs:
        listing.remarks.append(f"labels of {images.path.name}: {labels.path.name}")
    if classes_file:
        listing.remarks.append(f"class names: {classes_file.name}")
    if any(images.dtype != np.uint8 for images, _ in pairs):
        listing.remarks.append(SCALE_RULE)
    return listing


@dataclass(frozen=True)
class _IdxFile:
    path: Path
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def offset(self) -> int:
        return 4 + 4 * len(self.shape)

    @property
    def sample_bytes(self) -> int:
        size = self.dtype.itemsize
        for side in self.shape[1:]:
            size *= side
        return size

    @property
    def key(self) -> str:
        """The part that the names of an image file and its label file share."""
        return _key(self.path.name)


_TYPES: Final = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_ROLE_WORDS: Final = re.compile(r"\.gz$|images?|labels?|idx\d*|ubyte|[^a-z0-9]")
_SPLIT_WORDS: Final = (("train", "train"), ("t10k", "test"), ("test", "test"), ("val", "val"))
_CLASSES_FILES: Final = ("classes.txt", "labels.txt")
_MAX_OTHERS: Final = 200
_MAX_DIMENSIONS: Final = 4


def _key(name: str) -> str:
    return _ROLE_WORDS.sub("", name.lower())


def _find(path: Path) -> _IdxFile | None:
    """Read the header of an IDX file; None if the file is not IDX."""
    try:
        with PackedReader(path) as reader:
            start = reader.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES:
                return None
            dimensions = start[3]
            sides = reader.read(4 * dimensions)
    except DataError:
        return None
    if not 1 <= dimensions <= _MAX_DIMENSIONS or len(sides) < 4 * dimensions:
        return None
    shape = struct.unpack(f">{dimensions}I", sides)
    return _IdxFile(path, np.dtype(_TYPES[start[2]]), shape)


def _find_all(folder: Path) -> list[_IdxFile]:
    """Read the headers of the IDX files in a folder; many files of other kinds end the search."""
    found: dict[str, _IdxFile] = {}
    others = 0
    for name in _names(folder):
        path = folder / name
        if name.startswith(".") or not path.is_file():
            continue
        file = _find(path)
        if file is not None:
            # The same file with and without compression counts once; "x" sorts before "x.gz".
            found.setdefault(name.removesuffix(".gz"), file)
            continue
        others += 1
        if others > _MAX_OTHERS:
            break
    return list(found.values())


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error


def _find_partners(given: _IdxFile) -> list[_IdxFile]:
    """Read the headers of the files next to `given` with a matching name."""
    folder = given.path.parent
    alike = [name for name in _names(folder) if _key(name) == given.key]
    found = (_find(folder / name) for name in alike if (folder / name).is_file())
    return [file for file in found if file is not None]


def _is_images(file: _IdxFile | None) -> bool:
    return file is not None and len(file.shape) in (3, 4)


def _find_pairs(source: Path) -> list[tuple[_IdxFile, _IdxFile]]:
    given = _find(source) if source.is_file() else None
    if source.is_file() and (given is None or not _is_images(given)):
        fault = f"holds {spoken_shape(given.shape)} values" if given else "has no IDX header"
        raise DataError(
            f"{source} is not an IDX file of images (3 or 4 dimensions): it {fault}",
            "give the image file, or the folder that holds it and its label file",
        )
    files = _find_partners(given) if given else _find_all(source)
    images = [given] if given else [file for file in files if _is_images(file)]
    labels = {file.key: file for file in files if len(file.shape) == 1}
    if not images:
        raise DataError(f"{source} holds no IDX files of images")
    pairs = []
    for file in images:
        if file.key not in labels:
            known = ", ".join(sorted(f.path.name for f in labels.values())) or "none"
            raise DataError(
                f"no label file matches {file.path} by name; label files found: {known}",
                "put it in the same folder, named like train-labels-idx1-ubyte for "
                "train-images-idx3-ubyte",
            )
        pairs.append((file, labels[file.key]))
    for one, two in pairs:
        _check_pair(one, two)
    return pairs


def _find_classes_file(folder: Path) -> Path | None:
    return next((folder / name for name in _CLASSES_FILES if (folder / name).is_file()), None)


def _check_pair(images: _IdxFile, labels: _IdxFile) -> None:
    check_image_shape(str(images.path), images.shape[1:])
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"expected integer labels in {labels.path}, received {labels.dtype.name}")
    if images.shape[0] != labels.shape[0] or not labels.shape[0]:
        raise DataError(
            f"expected as many labels as images, at least one, received {images.shape[0]} images "
            f"in {images.path} and {labels.shape[0]} labels in {labels.path}"
        )
    for file in (images, labels):
        _check_size(file)


def _check_size(file: _IdxFile) -> None:
    # Before anything is allocated for the sizes that the header claims.
    promised = file.offset + file.shape[0] * file.sample_bytes
    with PackedReader(file.path) as reader:
        if reader.packing:
            check_growth(file.path, unpacked_bytes=promised, packed_bytes=reader.packed_bytes)
        elif reader.packed_bytes != promised:
            raise DataError(
                f"{file.path} is damaged or truncated: it has {reader.packed_bytes} bytes, by its "
                f"header {promised}",
                "download or make it again",
            )


def _read_labels(file: _IdxFile) -> npt.NDArray[np.int64]:
    with PackedReader(file.path) as reader:
        reader.seek(file.offset)
        data = reader.read_exactly(file.shape[0] * file.sample_bytes)
        reader.expect_end()
    return np.frombuffer(data, file.dtype).astype(np.int64)


def _part(images: _IdxFile, class_indices: npt.NDArray[np.int64]) -> Part:
    name = images.path.name
    words = (split for word, split in _SPLIT_WORDS if word in name.lower())
    part = Part(name, next(words, ""), class_indices, lambda: _blocks(images, part.faults))
    return part


def _blocks(file: _IdxFile, faults: dict[int, str]) -> Iterator[Pixels]:
    length = block_length(file.sample_bytes)
    with PackedReader(file.path) as reader:
        reader.seek(file.offset)
        for start in range(0, file.shape[0], length):
            count = min(length, file.shape[0] - start)
            data = reader.read_exactly(count * file.sample_bytes)
            block = np.frombuffer(data, file.dtype).reshape(count, *file.shape[1:])
            pixels, bad = scale_samples(block)
            faults.update({start + position: reason for position, reason in bad.items()})
            yield pixels
        reader.expect_end()


IDX: Final = path_importer(
    "idx",
    "IDX images and labels (MNIST and similar), gzipped or not",
    recognize=recognize_idx,
    read=read_idx,
    unpacks=True,
    is_inside=True,
)
