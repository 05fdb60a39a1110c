"""Sorts files into class folders: copy, link or move, never overwriting, never losing a file."""

import contextlib
import errno
import filecmp
import io
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from cnnclf.bounded import MAX_IMAGE_BYTES, check_regular, find_slice, read_bytes
from cnnclf.errors import UsageError
from cnnclf.files import hash_file, safe_name
from cnnclf.inference.ranking import UNKNOWN


class Placer:
    """Copies, links or moves files into class folders.

    A name that is taken gets a number: `a.jpg`, `a-2.jpg`, `a-3.jpg`. A copy of the same content or
    a link to the same file, which the same command made before, stays the only one.

    Args:
        mode: A key of `MODES`.
        directory: The parent of the class folders; created with the first file.
        labels: All labels of the model.
        dry_run: Change nothing and only return where files would go (without numbers).

    Raises:
        UsageError: The directory is a file.
    """

    def __init__(
        self, mode: str, directory: Path, *, labels: Sequence[str], dry_run: bool = False
    ) -> None:
        if directory.exists() and not directory.is_dir():
            raise UsageError(
                f"cannot {mode} files into {directory}: it is a file, not a folder",
                f"give a folder: --{mode}-to DIR",
            )
        self.mode = mode
        self.directory = directory
        self.dry_run = dry_run
        self._folders = name_folders(labels)
        self._numbers: dict[tuple[str, str], int] = {}

    @property
    def is_moving(self) -> bool:
        """Whether files disappear from where they were found."""
        return self.mode == "move" and not self.dry_run

    def place(self, path: str, label: str) -> str:
        """Place a file in the folder of its label.

        Returns:
            The new path; the same path if the file is already in that folder.

        Raises:
            OSError: The file cannot be placed; it is still at its old path.
        """
        source = Path(path)
        folder = self.directory / self._folders[label]
        if folder.exists() and source.parent.resolve() == folder.resolve():
            return path
        if self.dry_run:
            return str(folder / source.name)
        if self.mode != "copy" and find_slice(source):
            raise OSError(errno.EINVAL, f"in a tar file it cannot be {_DONE[self.mode]}", path)
        check_regular(source)  # if the file is gone, no name is claimed
        folder.mkdir(parents=True, exist_ok=True)
        target, is_there = self._claim(folder, source)
        if is_there:
            return str(target)
        try:
            MODES[self.mode](source, target)
        except BaseException:
            # An unused claim is empty; a file with content is never removed.
            with contextlib.suppress(OSError):
                if target.stat().st_size == 0 and source.exists():
                    target.unlink()
            raise
        return str(target)

    def _claim(self, folder: Path, source: Path) -> tuple[Path, bool]:
        """Create an empty file under a free name, so that no other process takes the name.

        Returns:
            The path, and whether the file was placed there before.
        """
        key = (str(folder), source.name.casefold())
        number = self._numbers.get(key, 1)
        stem, suffix = os.path.splitext(source.name)  # noqa: PTH122 (keeps ".a.b" whole)
        while True:
            target = folder / (source.name if number == 1 else f"{stem}-{number}{suffix}")
            try:
                target.open("xb").close()
            except FileExistsError:
                if _was_placed(self.mode, source, target=target):
                    return target, True
                number += 1
                continue
            self._numbers[key] = number + 1
            return target, False


def _was_placed(mode: str, source: Path, *, target: Path) -> bool:
    """Return whether a target is what the same command made of the same file."""
    if mode == "link":
        return target.is_symlink() and target.readlink() == source.absolute()
    if mode != "copy" or target.is_symlink() or find_slice(source):
        return False
    with contextlib.suppress(OSError):
        return target.stat().st_size > 0 and filecmp.cmp(source, target, shallow=False)
    return False


def name_folders(labels: Sequence[str]) -> dict[str, str]:
    """Choose a folder name for each label and for `unknown`.

    Returns:
        Label to a valid file name; the names differ in more than case.
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
        with _open(source) as reader, temporary.open("xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        with contextlib.suppress(OSError):  # not every file system stores times and modes
            shutil.copystat(source, temporary)
        os.replace(temporary, target)  # noqa: PTH105 (replaces our own claim)
    finally:
        temporary.unlink(missing_ok=True)


def _open(source: Path) -> BinaryIO:
    if find_slice(source):
        return io.BytesIO(read_bytes(source, max_bytes=MAX_IMAGE_BYTES))
    return source.open("rb")


def _link(source: Path, target: Path) -> None:
    temporary = _temporary(target)
    temporary.symlink_to(source.absolute())
    os.replace(temporary, target)  # noqa: PTH105 (replaces our own claim)


def _move(source: Path, target: Path) -> None:
    if source.is_symlink():
        # Moved unchanged, a relative link would point elsewhere.
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
    if hash_file(source) != hash_file(target):
        target.unlink()
        raise OSError(errno.EIO, "the copy on the other file system differs", str(target))
    source.unlink()


# Name of the option to a function of a file and a claimed, empty target.
MODES: dict[str, Callable[[Path, Path], None]] = {"copy": _copy, "link": _link, "move": _move}


_DONE = {"link": "linked to", "move": "moved"}


def _temporary(target: Path) -> Path:
    return target.with_name(f".{secrets.token_hex(6)}.tmp")
