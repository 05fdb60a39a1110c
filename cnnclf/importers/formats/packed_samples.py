"""Samples out of a larger file, one by one: the content of an image, and its label."""

import contextlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cnnclf.bounded import TarSlice
from cnnclf.importers.archives.unpacking import Budget
from cnnclf.importers.importer import Record, read_classes_file

PACKED_NAME: Final = "samples.tar"

_NOT_IN_NAMES: Final = re.compile(r'[\x00-\x1f<>:"/\\|?*\x7f\ud800-\udfff]')
_NAMES: Final = ("classnames.txt", "class_names.txt", "classes.txt", "labels.txt")


class SampleWriter(contextlib.AbstractContextManager["SampleWriter"]):
    """Writes samples into one tar file, from which they are read: a million files would be slow.

    Args:
        source: The file or folder that they come from, for messages.
        folder: Made here.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._budget = Budget(source, folder)
        self._file = (folder / PACKED_NAME).open("wb")
        self._written = 0

    def write(self, content: bytes, *, name: str, label: str, split: str) -> Record:
        """Write one sample, which can be read when this returns.

        Raises:
            DeviceError: The disk is full.
        """
        number = f"{self._written:07d}-{name.rpartition('/')[2]}"
        member = "/".join(map(safe_part, filter(None, [split, label, number])))
        info = tarfile.TarInfo(member)
        info.size = len(content)
        head = info.tobuf(tarfile.GNU_FORMAT)
        size = len(head) + len(content)
        padding = bytes(-size % tarfile.BLOCKSIZE)
        self._budget.spend(size + len(padding), files=0)
        offset = self._file.tell() + len(head)
        self._file.writelines((head, content, padding))
        self._file.flush()
        self._written += 1
        path = TarSlice(Path(PACKED_NAME), offset, len(content)).name(member)
        return Record(path, label, split)

    def __exit__(self, *exc: object) -> None:
        with self._file:
            self._file.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of a tar file


def find_class_names(folder: Path, classes_file: Path | None) -> tuple[str, ...] | None:
    """Return the labels of class numbers: those of --classes-file, or of a file beside the samples.

    Raises:
        DataError: The file cannot be read.
    """
    path = classes_file or next(iter(_find_name_files(folder)), None)
    return None if path is None else read_classes_file(path)


def describe_files(files: Sequence[Path]) -> Iterator[str]:
    """Yield texts that change when a file does, or the class names beside the first of them."""
    for path in [*files, *(_find_name_files(files[0].parent) if files else ())]:
        try:
            status = path.stat()
        except OSError:
            continue
        yield json.dumps([os.fspath(path), status.st_size, status.st_mtime_ns])


def _find_name_files(folder: Path) -> list[Path]:
    return [folder / name for name in _NAMES if (folder / name).is_file()]


def safe_part(name: str) -> str:
    """Return a part of a path that is a valid name everywhere."""
    return _NOT_IN_NAMES.sub("_", name).strip(" .")[-80:] or "_"
