"""Arrays in NumPy's own format, one sample per file in class folders, such as spectrograms.

Format: NumPy enhancement proposal 1, "A simple file format for NumPy arrays". Only plain numbers
and text are read; pickled objects could run code. Headers are parsed here because NumPy's parser
trusts them (docs/decisions/0010-reading-sources-ourselves.md).
"""

import ast
import math
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.hardware import count_usable_cpus
from cnnclf.importers.archives.packed import PackedReader, read_start
from cnnclf.importers.archives.unpacking import Budget, list_unpacked_folder, whole_or_nothing
from cnnclf.importers.formats.arrays import (
    SCALE_RULE,
    check_image_shape,
    encode_pngs,
    scale_samples,
)
from cnnclf.importers.importer import Listing, path_importer
from cnnclf.importers.walk import MAX_DEPTH, Walk
from cnnclf.progress import Progress

MAGIC: Final = b"\x93NUMPY"


class NpyHeader(NamedTuple):
    """The header of an array.

    Args:
        dtype: Type of the numbers or the text, never objects.
        shape: Dimensions of the array, each 0 or more.
        in_columns: Whether the first index runs fastest (Fortran order).
        offset: Bytes before the first number.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    in_columns: bool
    offset: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(read: Callable[[int], bytes], name: str) -> NpyHeader:
    """Read the header of an array; the numbers follow.

    Args:
        read: Returns the next bytes, like the method of a file.
        name: Name of the array, for messages.

    Raises:
        DataError: It is not an array, or one of objects or records.
    """
    start = read(8)
    length_bytes = read(2 if start[6:7] == b"\x01" else 4)
    length = int.from_bytes(length_bytes, "little")
    if len(start) < 8 or not start.startswith(MAGIC) or length > _MAX_HEADER_BYTES:
        raise DataError(f"{name} is not an array in NumPy's format")
    text = read(length)
    try:
        fields = ast.literal_eval(text.decode("utf-8" if start[6] > 2 else "latin-1").strip())
        described, in_columns, shape = (fields[key] for key in _HEADER_KEYS)
        sides = tuple(int(side) for side in shape)
    except _HEADER_ERRORS as error:
        raise DataError(f"the header of {name} is damaged") from error
    if not isinstance(described, str) or not _PLAIN_TYPES.fullmatch(described):
        raise DataError(
            f"expected an array of plain numbers in {name}, received {str(described)[:40]!r}",
            "save it again as an array of numbers: numpy.save(path, numpy.stack(samples))",
        )
    if any(side < 0 for side in sides) or len(sides) > _MAX_DIMENSIONS:
        raise DataError(f"the header of {name} is damaged: shape {sides[:8]}")
    offset = len(start) + len(length_bytes) + length
    return NpyHeader(np.dtype(described), sides, bool(in_columns), offset)


def recognize_npy(source: Path) -> str | None:
    """Recognize folders whose first files are mostly arrays."""
    if not source.is_dir():
        return None
    files = list(islice(_some_files(source, depth=4), 16))
    arrays = [path for path in files if read_start(path, len(MAGIC)) == MAGIC]
    if 2 * len(arrays) <= len(files) or not files:
        return None
    return f"its folders hold NumPy arrays ({arrays[0].name})"


def read_npy(
    source: Path, unpack_dir: Path, *, options: ImportConfig, progress: Progress
) -> Listing:
    """Write each array x.npy as the image x.npy.png in the same tree of folders, and read that.

    Raises:
        DataError: No array could be written, or the folders are not class folders.
    """
    # The dataset that is being written may be inside the source.
    walk = Walk(source, ignored=frozenset({unpack_dir.parent.name}))
    workers = options.threads or count_usable_cpus()
    skipped: list[tuple[str, str]] = []
    scaled = 0
    with whole_or_nothing(unpack_dir):
        budget = Budget(source, unpack_dir)
        files = walk.all_files()
        with (
            progress.task("unpacking", walk.count_files(), unit="arrays") as task,
            ThreadPoolExecutor(workers, thread_name_prefix="unpack") as pool,
        ):
            while batch := list(islice(files, _BATCH)):
                sizes = pool.map(lambda path: _size_bytes(source / path), batch)
                budget.spend(sum(sizes) // _MAX_ITEM_BYTES, files=len(batch))
                for path in batch:
                    if path.count("/") < MAX_DEPTH:
                        (unpack_dir / path).parent.mkdir(parents=True, exist_ok=True)
                outcomes = pool.map(lambda path: _convert(source, path, unpack_dir), batch)
                for path, outcome in zip(batch, outcomes, strict=True):
                    if isinstance(outcome, str):
                        skipped.append((path, outcome))
                    else:
                        scaled += outcome
                task.advance(len(batch))
        listing = list_unpacked_folder(source, unpack_dir, options=options, progress=progress)
    listing.skipped[:0] = [*walk.skipped, *skipped]
    listing.unneeded[:0] = walk.unneeded
    listing.remarks[:0] = walk.remarks()
    if scaled:
        listing.remarks.append(f"{scaled} arrays: {SCALE_RULE}")
    return listing


_HEADER_KEYS: Final = ("descr", "fortran_order", "shape")
_HEADER_ERRORS: Final = (
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
)
_PLAIN_TYPES: Final = re.compile(r"[<>|=]?(b1|i[1248]|u[1248]|f[248]|S\d{1,4}|U\d{1,4})")
_MAX_HEADER_BYTES: Final = 10_000
_MAX_DIMENSIONS: Final = 8
_BATCH: Final = 512
_MAX_ITEM_BYTES: Final = 8  # of which one remains in an image


def _some_files(folder: Path, *, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_file():
                    yield Path(entry.path)
                elif depth and entry.is_dir():
                    yield from islice(_some_files(Path(entry.path), depth=depth - 1), 4)
    except OSError:
        return  # reported when the folder is read


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _convert(source: Path, path: str, unpack_dir: Path) -> bool | str:
    """Write one array as an image; return whether it was scaled, or why it was skipped."""
    if path.count("/") >= MAX_DEPTH:
        return f"more than {MAX_DEPTH} folders deep"
    try:
        array = _load(source / path)
    except DataError as error:
        return error.message
    pixels, faults = scale_samples(array[None])
    if faults:
        return faults[0]
    (data,) = encode_pngs(pixels)
    (unpack_dir / f"{path}.png").write_bytes(data)
    return array.dtype not in (np.uint8, np.bool_)


def _load(path: Path) -> npt.NDArray[Any]:
    with PackedReader(path) as reader:
        header = read_npy_header(reader.read, path.name)
        if header.dtype.kind not in "biuf":
            raise DataError(f"expected numbers in {path.name}, received text")
        shape = header.shape
        if len(shape) == 3 and shape[0] == 1 and shape[2] > 4:
            shape = shape[1:]
        check_image_shape(path.name, shape)
        if not reader.packing and header.offset + header.size_bytes != reader.packed_bytes:
            raise DataError(
                f"{path.name} is damaged or truncated: it has {reader.packed_bytes} bytes, by its "
                f"header {header.offset + header.size_bytes}"
            )
        data = reader.read_exactly(header.size_bytes)
        reader.expect_end()
    order: Any = "F" if header.in_columns else "C"
    return np.frombuffer(data, header.dtype).reshape(shape, order=order)


NPY_FOLDERS: Final = path_importer(
    "npy-folders",
    "NumPy arrays (.npy), one sample each, in class folders",
    recognize=recognize_npy,
    read=read_npy,
    unpacks=True,
    is_inside=True,
)
