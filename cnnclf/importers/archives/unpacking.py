"""Unpacking: the folder is complete or absent, and never larger than the disk has room for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cnnclf.errors import DataError, DeviceError
from cnnclf.files import format_bytes, free_bytes
from cnnclf.importers.formats.folders import choose_folder_importer
from cnnclf.importers.importer import ImportJob, Listing, Record
from cnnclf.importers.source import Source

_DISK_BLOCK_BYTES: Final = 4096


@contextmanager
def whole_or_nothing(folder: Path) -> Iterator[None]:
    """Make `folder` for the block, and remove it with its content if the block fails.

    Raises:
        DataError: `folder` exists and is not empty.
        OSError: It cannot be made; the caller, who chose the place, handles that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DataError(f"cannot unpack into {folder}: the folder is not empty")
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class Budget:
    """How much may still be written into a folder before its disk is full.

    Args:
        source: The archive or arrays, for messages.
        folder: An existing folder on the disk to write to.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self._free_bytes = free_bytes(folder)
        self._left_bytes = self._free_bytes
        self._left_files = _free_files(folder)

    def spend(self, size_bytes: int, *, files: int = 1) -> None:
        """Count `files` files of `size_bytes` bytes in total, before they are written.

        Raises:
            DeviceError: They do not fit on the disk.
        """
        self._left_bytes -= max(size_bytes, files * _DISK_BLOCK_BYTES)
        if self._left_bytes < 0:
            needed = self._free_bytes - self._left_bytes
            raise DeviceError(
                f"not enough disk space to unpack {self._source}: it needs {format_bytes(needed)} "
                f"or more, and {format_bytes(self._free_bytes)} is free at {self._folder}",
                "free some space, or give --out a folder on another disk",
            )
        if self._left_files is not None:
            self._left_files -= files
            if self._left_files < 0:
                raise DeviceError(
                    f"the disk of {self._folder} has not enough free inodes for the files of "
                    f"{self._source}",
                    "remove some files, or give --out a folder on another disk",
                )


def list_unpacked_folder(source: Path, job: ImportJob) -> Listing:
    """List the class folders or split folders that a source was unpacked to.

    Raises:
        DataError: There are no such folders, or (when the records are consumed) no files in them.
    """
    try:
        importer, _ = choose_folder_importer(job.unpack_dir, job.options)
    except DataError as error:
        # The folder is about to be removed, so the message must name the source.
        raise name_source(error, there=job.unpack_dir, here=source) from error
    # The format that was given named the archive.
    listing = importer.read(Source.of(job.unpack_dir), job.replace_options(format=None))
    listing.records = _one_or_more(source, listing.records)
    listing.unpacked = True
    return listing


def name_source(error: DataError, *, there: Path, here: Path) -> DataError:
    """Turn an error about `there`, a temporary folder of ours, into one about `here`."""
    old, new = str(there), str(here)
    return DataError(error.message.replace(old, new), error.hint.replace(old, new))


def _one_or_more(source: Path, records: Iterator[Record]) -> Iterator[Record]:
    first = next(records, None)
    if first is None:
        raise DataError(f"the class folders of {source} hold no files")
    yield first
    yield from records


def _free_files(folder: Path) -> int | None:
    if not hasattr(os, "statvfs"):
        return None
    status = os.statvfs(folder)
    # Some file systems do not count inodes and report 0.
    return status.f_favail if status.f_files else None
