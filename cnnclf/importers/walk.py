"""Walking through folders of any size and state: loops, missing permissions, odd or hidden names.

The names of only one folder are in memory at a time, or fewer if requested. No folder is entered
twice on one path, and everything skipped is reported: single files as (path, reason), the rest as
remarks.
"""

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cnnclf.data.manifest import is_dataset
from cnnclf.names import count_of, name_some, natural_key, sort_in_chunks
from cnnclf.runs.run_names import PLAN_FILE, RECORD_FILE

# Files that operating systems create in folders; treated as hidden.
_SYSTEM_NAMES: Final = frozenset(
    {
        "$recycle.bin",
        "@eadir",
        "__macosx",
        "__pycache__",
        "desktop.ini",
        "icon\r",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)

_VIRTUAL: Final = ("/proc", "/sys", "/sys/fs/cgroup", "/dev")  # but not /dev/shm, a RAM disk
_IS_VIRTUAL: Final = "on a virtual file system, which is not searched"
_LEADS_BACK: Final = "the link leads back to a folder above it"

MAX_DEPTH: Final = 100
"""How many folders deep files are written; the standard library cannot remove 1,000."""


class Walk:
    """Walks through the folders below a root in natural order.

    Paths are relative to the root, with "/" between folders; "" is the root itself.

    Args:
        root: Where to start.
        ignored: Names of folders to skip without a remark (those being written at the moment).
        sort_at_once: How many names of one folder are sorted together; see `sort_in_chunks`.

    Attributes:
        skipped: (path, reason) of everything that cannot be read, in the order found.
        unneeded: (path, reason) of what is skipped without a loss: links that lead back.
    """

    def __init__(
        self,
        root: Path,
        *,
        ignored: frozenset[str] = frozenset(),
        sort_at_once: int = sys.maxsize,
    ) -> None:
        self.skipped: list[tuple[str, str]] = []
        self.unneeded: list[tuple[str, str]] = []
        self._sort_at_once = sort_at_once
        self._root = os.fspath(root)
        self._ignored = ignored
        self._hidden_folders: dict[str, None] = {}
        self._own_folders: dict[str, None] = {}
        self._hidden_files = 0

    def look(self, path: str = "") -> tuple[list[str], list[str]]:
        """Return the paths of the folders and of the files in a folder, in natural order."""
        folders, files = [], []
        for name in self._names(path):
            if not name.endswith("/"):
                files.append(join(path, name))
            elif not self._is_own(below := join(path, name[:-1])):
                folders.append(below)
        return folders, files

    def glance(
        self, path: str, *, limit: int, keep: tuple[str, ...]
    ) -> tuple[list[str], list[str], int]:
        """Look at a folder of any size in bounded memory.

        Args:
            path: The folder.
            limit: How many files are returned, the first ones found.
            keep: Suffixes, in lower case, of files that are returned in any case.

        Returns:
            The paths of the folders in natural order, those of some files, and the number of files.
        """
        folders: list[str] = []
        files: list[str] = []
        count = 0
        for name in self._scan(path):
            if name.endswith("/"):
                folders.append(name[:-1])
                continue
            count += 1
            if len(files) < limit or name.casefold().endswith(keep):
                files.append(join(path, name))
        folders.sort(key=natural_key)
        below = [join(path, name) for name in folders]
        return [each for each in below if not self._is_own(each)], sorted(files), count

    def all_files(self, path: str = "") -> Iterator[str]:
        """Yield the paths of the files in a folder and the folders below it."""
        above = self._identify_above(path)
        if self._identify(path) in above:
            self.unneeded.append((path, _LEADS_BACK))
            return
        # For each level: the path, the folder (device and inode), and the names still to visit.
        levels = [(path, self._identify(path), self._names(path))]
        while levels:
            here, _, rest = levels[-1]
            name = next(rest, None)
            if name is None:
                levels.pop()
            elif not name.endswith("/"):
                yield join(here, name)
            else:
                below = join(here, name[:-1])
                identity = self._identify(below)
                if identity and identity in {*above, *(level[1] for level in levels)}:
                    self.unneeded.append((below, _LEADS_BACK))
                elif not self._is_own(below):
                    levels.append((below, identity, self._names(below)))

    def count_files(self, path: str = "") -> int:
        """Count roughly the files that `all_files` will yield; fast, in constant memory."""
        return sum(1 for _ in self._find_files(path))

    def has_files(self, path: str = "") -> bool:
        """Return whether there is any file below a folder; fast, in constant memory."""
        return next(self._find_files(path), None) is not None

    def remarks(self) -> list[str]:
        """Return remarks on what was skipped so far without a row of its own."""
        remarks = []
        if self._hidden_folders:
            names = name_some(list(self._hidden_folders))
            remarks.append(f"hidden folders skipped: {names}")
        if self._own_folders:
            names = name_some(list(self._own_folders))
            remarks.append(f"datasets and runs of cnnclf skipped: {names}")
        if self._hidden_files:
            remarks.append(f"{count_of(self._hidden_files, 'hidden file')} skipped")
        return remarks

    def _find_files(self, path: str) -> Iterator[str]:
        """Yield the files below a folder in any order, each folder once."""
        quiet = Walk(Path(self._root), ignored=self._ignored)
        seen = self._identify_above(path)
        waiting = [path]
        while waiting:
            here = waiting.pop()
            identity = quiet._identify(here)
            if identity in seen or (here and quiet._is_own(here)):
                continue
            seen.add(identity)
            for name in quiet._scan(here):
                if name.endswith("/"):
                    waiting.append(join(here, name[:-1]))
                else:
                    yield join(here, name)

    def _names(self, path: str) -> Iterator[str]:
        """Yield the visible names in a folder in natural order; folders end in "/"."""
        return sort_in_chunks(self._scan(path), self._sort_at_once)

    def _scan(self, path: str) -> Iterator[str]:
        try:
            if not path and is_virtual(self._root):
                self.skipped.append((".", _IS_VIRTUAL))
                return
            with os.scandir(os.path.join(self._root, path)) as entries:  # noqa: PTH118 (speed)
                for entry in entries:
                    name = self._classify(entry, path)
                    if name:
                        yield name
        except OSError as error:
            self.skipped.append((path or ".", f"the folder cannot be read: {error.strerror}"))

    def _classify(self, entry: "os.DirEntry[str]", path: str) -> str:
        """Return the name, with "/" at the end for a folder, or "" for a skipped entry."""
        try:
            is_folder = entry.is_dir()
            is_virtual = is_folder and entry.stat().st_dev in _virtual_devices()
            is_file = not is_folder and entry.is_file()
        except OSError as error:
            self.skipped.append((join(path, entry.name), str(error.strerror)))
            return ""
        if entry.name.startswith(".") or entry.name.casefold() in _SYSTEM_NAMES:
            if is_folder and entry.name not in self._ignored:
                self._hidden_folders[join(path, entry.name)] = None
            self._hidden_files += is_file
            return ""
        if is_file:
            return entry.name
        if is_folder and not is_virtual:
            return f"{entry.name}/"
        if is_virtual:
            reason = _IS_VIRTUAL
        elif os.path.exists(entry.path):  # noqa: PTH110 (it may be a name that is no text)
            reason = "not a regular file"
        else:
            reason = "the link leads nowhere"
        self.skipped.append((join(path, entry.name), reason))
        return ""

    def _is_own(self, path: str) -> bool:
        """Return whether a folder is a dataset or run that cnnclf wrote."""
        folder = Path(self._root, path)
        # Not Path.is_file, which raises an error for a folder that may not be entered.
        own = all(os.path.isfile(folder / name) for name in (RECORD_FILE, PLAN_FILE))  # noqa: PTH113
        if own or is_dataset(folder):
            self._own_folders[path] = None
            return True
        return False

    def _identify_above(self, path: str) -> set[tuple[int, int] | None]:
        """Return the folders above a folder."""
        parts = path.split("/") if path else []
        return {self._identify("/".join(parts[:end])) for end in range(len(parts))} - {None}

    def _identify(self, path: str) -> tuple[int, int] | None:
        try:
            found = os.stat(os.path.join(self._root, path))  # noqa: PTH116, PTH118 (speed)
        except OSError:
            return None  # `_names` reports why
        return found.st_dev, found.st_ino


def is_virtual(folder: str) -> bool:
    """Return whether a folder is on a virtual file system such as /proc.

    Raises:
        OSError: It cannot be found.
    """
    return os.stat(folder).st_dev in _virtual_devices()  # noqa: PTH116


@functools.cache
def _virtual_devices() -> frozenset[int]:
    """Return the devices of /proc and the like, whose files the kernel makes up, without end."""
    mounted = [name for name in _VIRTUAL if os.path.ismount(name)]
    return frozenset(os.stat(name).st_dev for name in mounted)  # noqa: PTH116


def list_visible(folder: Path) -> list[Path]:
    """Return the paths in a folder that are not hidden, sorted; none if it cannot be read.

    Listing its files later reports why.
    """
    try:
        return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    except OSError:
        return []


def join(folder: str, name: str) -> str:
    """Join a folder, "" for the source, and a name."""
    return f"{folder}/{name}" if folder else name
