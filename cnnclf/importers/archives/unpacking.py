"""Unpacking with manners: a folder that is whole or not there, and bounds on what goes into it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cnnclf.errors import DataError, DeviceError
from cnnclf.files import format_bytes, free_bytes
from cnnclf.importers.formats.folders import FOLDER_IMPORTERS, explain_folder
from cnnclf.importers.importer import ImportOptions, Listing, Record
from cnnclf.progress import Progress

_DISK_BLOCK_BYTES: Final = 4096


@contextmanager
def whole_or_nothing(folder: Path) -> Iterator[None]:
    """Make `folder` for the work inside, and remove it with its content if that work fails.

    Raises:
        DataError: `folder` is there already and not empty.
        OSError: It cannot be made; whoever chose the place knows what to say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DataError(f"expected an empty folder to unpack into, but {folder} is not empty")
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class Budget:
    """What may still be written into a folder before its disk is full.

    Args:
        source: What is being unpacked, for the message.
        folder: An existing folder on the disk that is written to.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self._free_bytes = free_bytes(folder)
        self._left_bytes = self._free_bytes
        self._left_files = _free_files(folder)

    def spend(self, size_bytes: int, *, files: int = 1) -> None:
        """Count `files` files of together `size_bytes` bytes, before they are written.

        Raises:
            DeviceError: They do not fit on the disk.
        """
        self._left_bytes -= max(size_bytes, files * _DISK_BLOCK_BYTES)
        if self._left_bytes < 0:
            needed = self._free_bytes - self._left_bytes
            raise DeviceError(
                f"expected room for {format_bytes(needed)} or more to unpack {self._source}, but "
                f"{format_bytes(self._free_bytes)} are free at {self._folder}",
                "free some space, or give --out a folder on another disk",
            )
        if self._left_files is not None:
            self._left_files -= files
            if self._left_files < 0:
                raise DeviceError(
                    f"expected room for all the files of {self._source}, but the disk of "
                    f"{self._folder} has no free inodes for them",
                    "remove some files, or give --out a folder on another disk",
                )


def list_unpacked_folder(
    source: Path, unpack_dir: Path, options: ImportOptions, progress: Progress
) -> Listing:
    """List the class folders or split folders that a source was unpacked to.

    Args:
        source: What was unpacked, for messages.
        unpack_dir: Where it is now.
        options: As for any importer.
        progress: As for any importer.

    Raises:
        DataError: There are no such folders, or (when the records are consumed) no files in them.
    """
    for importer in FOLDER_IMPORTERS:
        if importer.recognize(unpack_dir):
            listing = importer.read(unpack_dir, unpack_dir, options, progress)
            listing.records = _one_or_more(source, listing.records)
            listing.unpacked = True
            return listing
    # What is wrong with the folder is wrong with the source, and the folder is about to go.
    raise name_source(explain_folder(unpack_dir), there=unpack_dir, here=source)


def name_source(error: DataError, *, there: Path, here: Path) -> DataError:
    """Return an error about `there`, a folder of ours that is about to go, as one about `here`."""
    old, new = str(there), str(here)
    return DataError(error.message.replace(old, new), error.hint.replace(old, new))


def _one_or_more(source: Path, records: Iterator[Record]) -> Iterator[Record]:
    first = next(records, None)
    if first is None:
        raise DataError(f"expected images in class folders, but {source} holds none")
    yield first
    yield from records


def _free_files(folder: Path) -> int | None:
    if not hasattr(os, "statvfs"):
        return None
    status = os.statvfs(folder)
    # Some file systems keep no count of inodes and say 0.
    return status.f_favail if status.f_files else None
