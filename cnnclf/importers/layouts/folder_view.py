"""Looking at the folders of a source, each of them once."""

import re
from itertools import zip_longest
from pathlib import Path
from typing import Final

from cnnclf.images.formats import SUFFIXES
from cnnclf.images.sound_files import SOUND_SUFFIXES
from cnnclf.importers.layouts.split_words import is_neutral
from cnnclf.importers.walk import Walk

IMAGE_SUFFIXES: Final = (
    *SUFFIXES,
    ".npy",
    *SOUND_SUFFIXES,
)
LIST_SUFFIXES: Final = (".csv", ".tsv", ".txt", ".jsonl")
_NOTES: Final = (*LIST_SUFFIXES, ".json", ".mat", ".md", ".pdf", ".py", ".xml", ".yaml", ".yml")
_SAMPLE: Final = 50


class FolderView:
    """The folders below a source; paths are relative to it, with "/" between folders."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.walk = Walk(source)
        self._seen: dict[str, tuple[list[str], list[str], int]] = {}

    def filled(self, path: str) -> list[str]:
        """Return the paths of the folders in a folder that have files somewhere below them."""
        return self._look(path)[0]

    def files(self, path: str) -> list[str]:
        """Return the paths of some files directly in a folder, and of all that may be tables."""
        return self._look(path)[1]

    def count_files(self, path: str) -> int:
        """Return the number of files directly in a folder."""
        return self._look(path)[2]

    def names(self, path: str) -> list[str]:
        """Return the names of `filled`."""
        return [name_of(below) for below in self.filled(path)]

    def has_images(self, path: str) -> bool:
        """Return whether one of the first files directly in a folder is named like an image."""
        return any(map(is_image_name, self.files(path)))

    def has_images_below(self, path: str) -> bool:
        """Return whether any file below a folder is named like an image."""
        return any(is_image_name(file) for file in Walk(self.source).all_files(path))

    def holds_notes(self, path: str) -> bool:
        """Return whether there are only some files that say something about images elsewhere."""
        files = self.files(path)
        are_all = len(files) == self.count_files(path) <= _SAMPLE and not self.filled(path)
        return are_all and all(file.casefold().endswith(_NOTES) for file in files)

    def is_flat(self, path: str) -> bool:
        """Return whether a folder holds only images, or one such folder that repeats its name."""
        folders = self.filled(path)
        if not folders:
            return self.has_images(path)
        inner = name_of(folders[0])
        same = inner.casefold() == name_of(path).casefold() or is_neutral(inner)
        return len(folders) == 1 and same and self.is_flat(folders[0])

    def spoken(self, path: str) -> str:
        """Return a path for messages, with the name of the source in front of the first folder."""
        return f"{self.source / path}" if path else f"{self.source}"

    def same_files(self, one: str, other: str) -> bool:
        """Return whether the same names are below two folders."""
        pairs = zip_longest(
            Walk(self.source).all_files(one), Walk(self.source).all_files(other), fillvalue=""
        )
        return all(a[len(one) :] == b[len(other) :] for a, b in pairs)

    def _look(self, path: str) -> tuple[list[str], list[str], int]:
        if path not in self._seen:
            # Class folders may hold a million files: only some names are kept.
            folders, files, count = self.walk.glance(path, limit=_SAMPLE, keep=LIST_SUFFIXES)
            filled = [below for below in folders if self.walk.has_files(below)]
            self._seen[path] = filled, files, count
        return self._seen[path]


def is_image_name(path: str) -> bool:
    """Return whether a file is named like an image."""
    return path.casefold().endswith(IMAGE_SUFFIXES)


def find_in_path(expression: str, path: str) -> str:
    """Return the first group, or all, of what an expression finds in the name or else the path."""
    match = re.search(expression, name_of(path)) or re.search(expression, path)
    if match is None:
        return ""
    return (match[1] if match.re.groups else match[0]) or ""


def name_of(path: str) -> str:
    """Return the last part of a path."""
    return path.rpartition("/")[2]


def parent_of(path: str) -> str:
    """Return the folder of a path; "" is the source."""
    return path.rpartition("/")[0]
