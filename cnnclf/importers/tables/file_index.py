"""Finding the files that a table names, however it writes their names."""

import os
import re
import unicodedata
from pathlib import Path, PurePath
from typing import Final
from urllib.parse import unquote

from cnnclf.importers.layouts.folder_view import is_image_name, name_of, parent_of
from cnnclf.importers.layouts.split_words import read_split_name
from cnnclf.importers.walk import Walk
from cnnclf.names import name_some

# Label Studio puts files that are uploaded there, with eight digits before their names.
_UPLOADED: Final = re.compile(r"data/upload/\d+/((?:[0-9a-f]{8}-)?(.+))")
_QUERY: Final = "?d="  # of Label Studio, before the path of a file that it did not upload


class NotFoundError(Exception):
    """No file, or more than one, is what a table names."""


class FileIndex:
    """The files below a folder, by the names that a table may give them.

    A name is looked up as it is; if there is no such file, the folder is walked once, and names are
    compared without regard to case, to the Unicode form of letters, to the suffix if the name has
    none, and to folders in front of it (`/home/me/data/cat/1.jpg` is `cat/1.jpg`).

    Args:
        folder: Where relative names start.
        within: A folder that no name may lead out of; None for no limit.
        split: The split that the table is of, if it says so: of train/1.jpg and test/1.jpg, 1 is
            the first one in train.csv.
    """

    def __init__(self, folder: Path, *, within: Path | None = None, split: str = "") -> None:
        self._folder = os.fspath(folder)
        self._within = within
        self._split = split
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        self._taken: dict[str, str] = {}
        self._walked = False

    def find(self, name: str) -> str:
        """Return the path of the file of a name, relative to the folder, or to `within`.

        Raises:
            NotFoundError: There is none, or there are several.
        """
        return self._place(self._find_as_named(name) or self._look_up(name))

    def take(self, name: str) -> str:
        """Return what `find` does; a file that was found by another name before is refused.

        Of train/1.jpg and test/1.jpg, a folder with 1.jpg holds one at most.

        Raises:
            NotFoundError: There is none, there are several, or it was found by another name.
        """
        found = self.find(name)
        if found != name:
            plain = _fold(name.replace("\\", "/"))
            first = self._taken.setdefault(found, plain)
            if first != plain:
                raise NotFoundError(f"no such file: {found} is {first} already")
        return found

    def holds(self, name: str) -> bool:
        """Return whether there is exactly one file of a name."""
        try:
            self.find(name)
        except NotFoundError:
            return False
        return True

    def _find_as_named(self, name: str) -> str | None:
        # A Path would cost more than the row itself.
        for candidate in (name, name.replace("\\", "/")):
            try:
                if os.path.isfile(os.path.join(self._folder, candidate)):  # noqa: PTH113, PTH118
                    return candidate
            except ValueError:  # a NUL in the name
                break
        return None

    def _is_special(self, name: str) -> bool:
        path = os.path.join(self._folder, name)  # noqa: PTH118
        try:
            return os.path.exists(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112
        except ValueError:  # a NUL in the name
            return False

    def _place(self, found: str) -> str:
        if self._within is None:
            return found
        inside = os.path.relpath(os.path.join(self._folder, found), self._within)  # noqa: PTH118
        if inside.split(os.sep, 1)[0] == "..":
            raise NotFoundError("the path leads out of the archive")
        return PurePath(inside).as_posix()

    def _look_up(self, name: str) -> str:
        self._walk()
        wanted = _fold(_without_query(name).replace("\\", "/")).strip("/")
        keys = [name_of(wanted)]
        if uploaded := _UPLOADED.fullmatch(wanted):
            keys, wanted = list(uploaded.groups()), uploaded[1]
        found = next(
            (
                found
                for key in keys
                if (found := self._by_name.get(key) or self._by_stem.get(key) or [])
            ),
            [],
        )
        if not found:
            raise NotFoundError("not a regular file" if self._is_special(name) else "no such file")
        best = _choose(found, parent_of(wanted))
        if not best:
            raise NotFoundError(f"no such file, only {name_some(found, 2)}")
        if len(best) > 1:
            exact = [path for path in best if path.endswith(name)]
            if len(exact) != 1 and self._split:
                exact = [path for path in best if self._is_of_split(path)]
            if len(exact) != 1:
                raise NotFoundError(f"fits more than one file: {name_some(best, 2)}")
            best = exact
        return best[0]

    def _is_of_split(self, path: str) -> bool:
        folders = parent_of(path).split("/")
        return any(read_split_name(folder).split == self._split for folder in folders)

    def _walk(self) -> None:
        if self._walked:
            return
        self._walked = True
        for path in Walk(Path(self._folder)).all_files():
            name = _fold(name_of(path))
            self._by_name.setdefault(name, []).append(path)
            if is_image_name(name):
                self._by_stem.setdefault(name.rpartition(".")[0], []).append(path)


def _choose(found: list[str], folders: str) -> list[str]:
    """Return the files whose folders agree best with those in front of a name."""
    wanted = folders.split("/") if folders else []
    if not wanted:
        return found
    scores: dict[int, list[str]] = {}
    for path in found:
        above = parent_of(_fold(path))
        parts = above.split("/") if above else []
        same = 0
        for one, other in zip(reversed(parts), reversed(wanted), strict=False):
            if one != other:
                break
            same += 1
        if same or not parts:
            scores.setdefault(same, []).append(path)
    return scores[max(scores)] if scores else []


def _without_query(name: str) -> str:
    before, mark, path = name.rpartition(_QUERY)
    return unquote(path) if mark and before else name


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
