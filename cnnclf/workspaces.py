"""Directories for unfinished work: removed at the end or, after a kill, by the next command.

The owner holds `flock` on the directory, which ends with its process. So leftovers differ from what
is in use, on any host and whatever process ids mean. Where the file system has no
locks for directories, only what nobody has changed for a day counts as left over.
"""

import atexit
import contextlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_ABANDONED_S = 24 * 3600
_TRIES = 10
_PROCESS = "cnnclf"
_KIND = "working"


@contextlib.contextmanager
def workspace(parent: Path, name: str, *, kind: str) -> Iterator[Path]:
    """Yield a new hidden directory, which is removed with its content when the block ends.

    The block may rename it. Call `remove_leftovers` first to remove what a kill left.

    Args:
        parent: Where it is made; its parents are made, too.
        name: What it is for; part of its name.
        kind: The end of its name, which `remove_leftovers` looks for.

    Raises:
        OSError: It cannot be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    path, descriptor = _make(parent, name, kind)
    try:
        yield path
    finally:
        # Removed while it is still held, so that nobody else removes it at the same time.
        shutil.rmtree(path, ignore_errors=True)
        _close(descriptor)


def remove_leftovers(parent: Path, *, kind: str) -> list[Path]:
    """Remove the directories of this kind and user that no process works in.

    Args:
        parent: Where they are; need not exist.
        kind: As given to `workspace`.

    Returns:
        The directories that were removed.
    """
    pattern = re.compile(rf"\..*\.[0-9a-f]{{8}}\.{re.escape(kind)}")
    removed = []
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in entries if pattern.fullmatch(entry.name)]
    except OSError:
        return []
    for name in names:
        with _claiming(parent / name) as is_left:
            if is_left:
                shutil.rmtree(parent / name, ignore_errors=True)
                if not (parent / name).exists():
                    removed.append(parent / name)
    return removed


def is_in_use(path: Path) -> bool:
    """Return whether a process may be working in a directory that `workspace` made."""
    with _claiming(path) as is_left:
        return not is_left


def use_own_temporary_directory() -> None:
    """Keep the temporary files of this process and its libraries in a directory of their own.

    It is removed when the process ends; those of killed processes are removed now.
    """
    try:
        parent = Path(tempfile.gettempdir())
        remove_leftovers(parent, kind=_KIND)
        path, _ = _make(parent, _PROCESS, _KIND)
    except OSError:  # the disk is full or read-only; what needs temporary files reports that
        return
    owner = os.getpid()
    tempfile.tempdir = str(path)

    def remove() -> None:
        if os.getpid() == owner:  # not at the end of a forked process
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)


def _make(parent: Path, name: str, kind: str) -> tuple[Path, int | None]:
    """Make a directory and hold its lock; None where there are no locks."""
    for _ in range(_TRIES):
        path = parent / f".{name}.{secrets.token_hex(4)}.{kind}"
        path.mkdir(mode=0o700 if kind == _KIND else 0o777)
        descriptor = _open(path)
        # Another process may have taken it for a leftover before it was locked.
        is_locked = descriptor is None or _lock(descriptor) is not False
        if is_locked and path.is_dir():
            return path, descriptor
        _close(descriptor)
    raise FileExistsError(f"cannot keep a directory in {parent}")


@contextlib.contextmanager
def _claiming(path: Path) -> Iterator[bool]:
    """Hold a directory that no process works in; yield whether that is so."""
    descriptor = _open(path)
    try:
        is_free = None if descriptor is None else _lock(descriptor)
        yield _is_old(path) if is_free is None else is_free
    finally:
        _close(descriptor)


def _open(path: Path) -> int | None:
    """Open a directory of this user for its lock; None if there is none or it has no locks."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        return None
    return descriptor


def _lock(descriptor: int) -> bool | None:
    """Take the lock until the descriptor is closed; None if the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_old(path: Path) -> bool:
    """Return whether a directory of this user was not changed for a day."""
    try:
        found = path.lstat()
    except OSError:
        return False
    is_own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    return stat.S_ISDIR(found.st_mode) and is_own and time.time() - found.st_mtime > _ABANDONED_S


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
