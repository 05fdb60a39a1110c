"""Folders that were moved together with what names them by an absolute path.

A project is renamed, or copied to another machine: its images, datasets and runs still lie as they
did to each other. What is found there counts only if its content is the one that was named.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cnnclf.data.description import load_description
from cnnclf.errors import DataError

_LEVELS: Final = 6  # above what names the folder
_PARTS: Final = 6  # of its path that stayed the same


def find_moved(path: Path, *, beside: Path, is_it: Callable[[Path], bool]) -> Path | None:
    """Find a folder where it lies if it was moved together with another one.

    Args:
        path: Its absolute path before.
        beside: Where the other one is now.
        is_it: Tells whether a path is that folder.

    Returns:
        The path; None if there is no such folder.
    """
    for parent in beside.absolute().parents[:_LEVELS]:
        for count in range(1, min(len(path.parts), _PARTS + 1)):
            candidate = parent.joinpath(*path.parts[-count:])
            if candidate != path and is_it(candidate):
                return candidate
    return None


def find_dataset(path: Path, fingerprint: str, *, beside: Path) -> Path:
    """Return the path of a dataset: the one that is named, or where it was moved to.

    Args:
        path: Its path before.
        fingerprint: Of its content.
        beside: What names it: a run or a search.
    """

    def is_it(place: Path) -> bool:
        try:
            return bool(load_description(place).get("fingerprint") == fingerprint)
        except DataError:
            return False

    if path.exists():
        return path
    return find_moved(path, beside=beside, is_it=is_it) or path
