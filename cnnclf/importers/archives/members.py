"""The members of an archive on their way to the disk: which are written, where, and how.

No member is written by the code of `zipfile` or `tarfile`: they only find the bytes, which are
copied into files that must be new, below a folder that is new. So no link, owner, mode or device
can come out of an archive, and nothing that exists is overwritten. A name that leads out of the
folder is no accident: it refuses the whole archive.
"""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cnnclf.errors import DataError
from cnnclf.importers.archives.unpacking import Budget


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
        self._droppings = 0

    def place(self, name: str) -> str | None:
        """Return the path of a member below the folder; None if it is not to be written.

        Raises:
            DataError: The name is absolute or leads out of the folder.
        """
        parts = [part for part in _SEPARATORS.split(name) if part not in ("", ".")]
        if ".." in parts or _ABSOLUTE.match(name):
            raise DataError(
                f"expected names inside of the archive, but {self._source} holds {name!r}, which "
                "would be written outside of the folder it is unpacked to; nothing was unpacked",
                "do not trust this file; ask whoever made it for another",
            )
        if not parts:
            return None
        if os.sep == "\\" and ":" in name:
            self.skip(name, "no name that a file can have here")
            return None
        if parts[-1].startswith("._") or not _DROPPINGS.isdisjoint(map(str.casefold, parts)):
            self._droppings += 1
            return None
        return "/".join(parts)

    def write(self, path: str, size_bytes: int, chunks: Iterable[bytes]) -> None:
        """Write one file to a path that `place` returned.

        Args:
            path: Where, below the folder.
            size_bytes: How large it will be, counted against the room on the disk beforehand.
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
        """Make a folder, which may stay empty, at a path that `place` returned."""
        self._budget.spend(0)
        try:
            self._make_folder(path)
        except (OSError, ValueError) as error:
            self.skip(path, _why_no_name(error))

    def skip(self, name: str, reason: str) -> None:
        """Put a member on the list of those that were not written."""
        try:
            name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            name = name.encode("utf-8", "backslashreplace").decode()
        self.skipped.append((name.replace("\0", "\\0"), reason))

    def remarks(self) -> list[str]:
        """Return what was passed over, in words."""
        if not self._droppings:
            return []
        count = self._droppings
        return [f"passed over {count} files of macOS or Windows in the archive (such as ._*)"]

    def _make_folder(self, folder: str) -> None:
        if folder not in self._folders:
            os.makedirs(f"{self._root}/{folder}", exist_ok=True)  # noqa: PTH103
            self._folders.add(folder)


_SEPARATORS: Final = re.compile(r"[/\\]" if os.sep == "\\" else r"/")
_ABSOLUTE: Final = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_DROPPINGS: Final = frozenset({"__macosx", ".ds_store", "thumbs.db", "desktop.ini"})
_BAD_NAMES: Final = {
    errno.EEXIST: "the archive holds another file of this name",
    errno.EISDIR: "the archive holds a folder of this name",
    errno.ENOTDIR: "the archive holds a file with the name of its folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EINVAL: "no name that a file can have here",
    errno.EILSEQ: "no name that a file can have here",
}


def _why_no_name(error: OSError | ValueError) -> str:
    """Say why a file of this name cannot be made; any other trouble is not the archive's."""
    if isinstance(error, ValueError):
        return "no name that a file can have"
    if error.errno not in _BAD_NAMES:
        raise error
    return _BAD_NAMES[error.errno]
