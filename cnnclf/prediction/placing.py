"""Sorts files into class folders: copy, link or move, never overwriting, never losing a file."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from cnnclf.errors import UsageError
from cnnclf.files import safe_name
from cnnclf.prediction.rows import UNKNOWN


class Placer:
    """Puts files into folders named like their labels.

    A name that is taken gets a number: `a.jpg`, `a-2.jpg`, `a-3.jpg`.

    Args:
        mode: A row of `MODES`.
        directory: The parent of the class folders; made when the first file comes.
        labels: All labels of the model.
        dry_run: Change nothing, say only where files would go (numbers are left out).

    Raises:
        UsageError: The directory is a file.
    """

    def __init__(
        self, mode: str, directory: Path, labels: Sequence[str], *, dry_run: bool = False
    ) -> None:
        if directory.exists() and not directory.is_dir():
            raise UsageError(
                f"expected a folder to {mode} into, {directory} is a file", f"give --{mode}-to DIR"
            )
        self.mode = mode
        self.directory = directory
        self.dry_run = dry_run
        self._folders = name_folders(labels)
        self._numbers: dict[tuple[str, str], int] = {}

    def place(self, path: str, label: str) -> str:
        """Put one file into the folder of its label.

        Args:
            path: The file.
            label: One of the labels, or `unknown`.

        Returns:
            Where it lies now; its own path if it was there already.

        Raises:
            OSError: It cannot be placed; the file itself is where it was.
        """
        source = Path(path)
        folder = self.directory / self._folders[label]
        if folder.exists() and source.parent.resolve() == folder.resolve():
            return path
        if self.dry_run:
            return str(folder / source.name)
        source.stat()  # a file that is gone leaves no claim
        folder.mkdir(parents=True, exist_ok=True)
        target = self._claim(folder, source.name)
        try:
            MODES[self.mode](source, target)
        except BaseException:
            # A claim that was not filled is empty; nothing that has content is ever removed.
            with contextlib.suppress(OSError):
                if target.stat().st_size == 0 and source.exists():
                    target.unlink()
            raise
        return str(target)

    def _claim(self, folder: Path, name: str) -> Path:
        """Make an empty file of a free name; whoever comes next finds the name taken."""
        key = (str(folder), name.casefold())
        number = self._numbers.get(key, 1)
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 (keeps names such as ".a.b" whole)
        while True:
            target = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
            try:
                target.open("xb").close()
            except FileExistsError:
                number += 1
                self._numbers[key] = number
                continue
            return target


def name_folders(labels: Sequence[str]) -> dict[str, str]:
    """Name a folder for each label and for `unknown`.

    Returns:
        Label to one legal file name; different labels have names that differ in more than case.
    """
    folders: dict[str, str] = {}
    used: set[str] = set()
    for label in dict.fromkeys([*labels, UNKNOWN]):
        stem = safe_name(label, fallback="class")
        name, number = stem, 1
        while name.casefold() in used:
            number += 1
            name = f"{stem}-{number}"
        used.add(name.casefold())
        folders[label] = name
    return folders


def _copy(source: Path, target: Path) -> None:
    temporary = _temporary(target)
    try:
        with source.open("rb") as reader, temporary.open("xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        with contextlib.suppress(OSError):  # not every file system keeps times and modes
            shutil.copystat(source, temporary)
        os.replace(temporary, target)  # noqa: PTH105 (replaces our own claim)
    finally:
        temporary.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    temporary = _temporary(target)
    temporary.symlink_to(source.absolute())
    os.replace(temporary, target)  # noqa: PTH105 (replaces our own claim)


def _move(source: Path, target: Path) -> None:
    if source.is_symlink():
        # Moved as it is, a relative link would point elsewhere.
        _link(source.resolve(), target)
        source.unlink()
        return
    try:
        os.replace(source, target)  # noqa: PTH105 (replaces our own claim)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    _copy(source, target)
    if _digest(source) != _digest(target):
        target.unlink()
        raise OSError(errno.EIO, "the copy on the other file system differs", str(target))
    source.unlink()


# Word of the option to what it does with a file and a claimed, empty target.
MODES: dict[str, Callable[[Path, Path], None]] = {"copy": _copy, "link": _link, "move": _move}


def _temporary(target: Path) -> Path:
    return target.with_name(f".{secrets.token_hex(6)}.tmp")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
