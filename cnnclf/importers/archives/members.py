"""Writing the members of an archive to disk: which are written, where, and how.

`zipfile` and `tarfile` only find the bytes of a member, which are copied into a new file in a new
folder. So no link, owner, mode or device comes out of an archive, and nothing is overwritten. A
name that leads out of the folder is no accident: the whole archive is refused
(docs/decisions/0010-reading-sources-ourselves.md compares the extraction of the standard library).
"""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cnnclf.errors import DataError
from cnnclf.importers.archives.unpacking import Budget
from cnnclf.importers.walk import MAX_DEPTH


class Members:
    """Writes members into a folder.

    Args:
        source: The archive, for messages.
        folder: An existing, empty folder.

    Attributes:
        written: How many files were written.
        skipped: (name, reason) of each member that was not written.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.written = 0
        self.skipped: list[tuple[str, str]] = []
        self._source = source
        self._root = os.fspath(folder)
        self._budget = Budget(source, folder)
        self._folders: set[str] = {""}
        self._system_files = 0

    def place(self, name: str) -> str | None:
        """Return the path of a member below the folder; None if it must not be written.

        Raises:
            DataError: The name is absolute or leads out of the folder.
        """
        parts = [part for part in _SEPARATORS.split(name) if part not in ("", ".")]
        if ".." in parts or _ABSOLUTE.match(name):
            raise DataError(
                f"{self._source} holds {name!r}, which would be written outside the folder it is "
                "unpacked to; nothing was unpacked",
                "do not trust this file; get it from another source",
            )
        if not parts:
            return None
        if len(parts) > MAX_DEPTH:
            self.skip(name, f"more than {MAX_DEPTH} folders deep")
            return None
        if os.sep == "\\" and ":" in name:
            self.skip(name, "not a valid file name on this system")
            return None
        if parts[-1].startswith("._") or not _SYSTEM_FILES.isdisjoint(map(str.casefold, parts)):
            self._system_files += 1
            return None
        return "/".join(parts)

    def write(self, path: str, size_bytes: int, *, chunks: Iterable[bytes]) -> None:
        """Write one file to a path that `place` returned.

        Args:
            path: Where, below the folder.
            size_bytes: Its size, checked against the free space on the disk first.
            chunks: Its content; may raise `DataError`.
        """
        self._budget.spend(size_bytes)
        try:
            self._make_folder(path.rpartition("/")[0])
            file = open(f"{self._root}/{path}", "xb")  # noqa: PTH123, SIM115 - paid for each file
        except (OSError, ValueError) as error:
            self.skip(path, _why_no_name(error))
            return
        with file:
            file.writelines(chunks)
        self.written += 1

    def write_folder(self, path: str) -> None:
        """Make a folder, possibly empty, at a path that `place` returned."""
        self._budget.spend(0)
        try:
            self._make_folder(path)
        except (OSError, ValueError) as error:
            self.skip(path, _why_no_name(error))

    def skip(self, name: str, reason: str) -> None:
        """List a member as skipped."""
        try:
            name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            name = name.encode("utf-8", "backslashreplace").decode()
        self.skipped.append((name.replace("\0", "\\0"), reason))

    def remarks(self) -> list[str]:
        """Return remarks on the files that were skipped without a row of their own."""
        if not self._system_files:
            return []
        count = self._system_files
        return [f"{count} system files of macOS or Windows in the archive skipped (such as ._*)"]

    def _make_folder(self, folder: str) -> None:
        if folder not in self._folders:
            os.makedirs(f"{self._root}/{folder}", exist_ok=True)  # noqa: PTH103
            self._folders.add(folder)


_SEPARATORS: Final = re.compile(r"[/\\]" if os.sep == "\\" else r"/")
_ABSOLUTE: Final = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_SYSTEM_FILES: Final = frozenset({"__macosx", ".ds_store", "thumbs.db", "desktop.ini"})
_BAD_NAMES: Final = {
    errno.EEXIST: "the archive holds another file of this name",
    errno.EISDIR: "the archive holds a folder of this name",
    errno.ENOTDIR: "the archive holds a file with the name of its folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EINVAL: "not a valid file name on this system",
    errno.EILSEQ: "not a valid file name on this system",
}


def _why_no_name(error: OSError | ValueError) -> str:
    """Return why a file of this name cannot be made; raise errors that have another cause."""
    if isinstance(error, ValueError):
        return "not a valid file name"
    if error.errno not in _BAD_NAMES:
        raise error
    return _BAD_NAMES[error.errno]
