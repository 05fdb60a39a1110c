"""Samples out of a larger file, one by one: the content of an image, and its label."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cnnclf.importers.archives.members import Members
from cnnclf.importers.importer import Listing, Record, read_classes_file

_NOT_IN_NAMES: Final = re.compile(r'[\x00-\x1f<>:"/\\|?*\x7f\ud800-\udfff]')
_NAMES: Final = ("classnames.txt", "class_names.txt", "classes.txt", "labels.txt")


class SampleWriter:
    """Writes samples as SPLIT/LABEL/NUMBER-NAME below a folder.

    Args:
        source: The file or folder that they come from, for messages.
        folder: Made here.
        listing: Receives what cannot be written.
    """

    def __init__(self, source: Path, folder: Path, *, listing: Listing) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._members = Members(source, folder)
        self._listing = listing
        self._written = 0

    def write(self, content: bytes, *, name: str, label: str, split: str) -> Record | None:
        """Write one sample; None if the name is impossible, which the listing then says.

        Raises:
            DeviceError: The disk is full.
        """
        parts = [split, _safe(label), f"{self._written:07d}-{_safe(name.rpartition('/')[2])}"]
        path = "/".join(filter(None, parts))
        self._members.write(path, len(content), chunks=[content])
        self._written += 1
        if self._members.skipped:
            self._listing.lose(*self._members.skipped.pop(), label=label)
            return None
        return Record(path, label, split)


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


def _safe(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name).strip(" .")[-80:] or "_"
