"""Who is training in a run directory: a lock that ends with its process, on any host.

A process id says little: in a container every process is number 1, and on another host it means
nothing. The lock is `flock` on a file in the run directory. Where the file system has no locks,
the holder touches the file every few seconds, and a file that nobody touches counts as free.
The file holds the number of the process and its host, which are shown and decide nothing.
"""

import contextlib
import errno
import json
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnclf.errors import RunError
from cnnclf.files import read_json
from cnnclf.full_disks import write_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
FORCE_HINT = "wait for it; if that process is gone for sure, add --force to --resume"

_BEAT_S = 5.0
_SILENT_S = 60.0
_TRIES, _TRY_S = 5, 0.05
_WITHOUT_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_HELD: set[Path] = set()  # by this process


@contextlib.contextmanager
def holding_run(
    directory: Path, *, busy: str = "run {} is still training", hint: str = FORCE_HINT
) -> Iterator[None]:
    """Hold the lock of a run directory while the with statement runs.

    Args:
        directory: The run directory, which must exist.
        busy: What is said of a directory that another process holds.
        hint: What to do then.

    Raises:
        RunError: Another process holds it, or the directory cannot be written.
        DeviceError: The disk is full.
    """
    place, path = directory.resolve(), directory / LOCK_FILE
    is_recent = _is_recent(directory)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise write_error(path, error, hint="check the owner and mode of that directory") from error
    stopped = threading.Event()
    try:
        is_free = place not in _HELD and _take(descriptor, is_recent=is_recent)
        if not is_free or not _is_named(descriptor, path):  # the holder removes it when it ends
            raise RunError(f"{busy.format(directory)} ({describe_holder(directory)})", hint)
        _sign(descriptor)
        beat = threading.Thread(target=_beat, args=(descriptor, stopped), daemon=True)
        beat.start()
        _HELD.add(place)
        try:
            yield
        finally:
            _HELD.discard(place)
            stopped.set()
            beat.join()
            with contextlib.suppress(OSError):  # Windows keeps the name of an open file
                if _is_named(descriptor, path):
                    path.unlink()
    finally:
        os.close(descriptor)


def is_held(directory: Path) -> bool | None:
    """Tell whether somebody is training in a run directory; None if there was never a lock."""
    if directory.resolve() in _HELD:
        return True
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR)
    except OSError:  # a run of before there were locks, or one that may only be read
        return _is_recent(directory) or None
    try:
        return not _lock(descriptor, shared=True, is_recent=_is_recent(directory))
    finally:
        os.close(descriptor)


def describe_holder(
    directory: Path, *, record: Mapping[str, Any] | None = None, signs: Sequence[Path] = ()
) -> str:
    """Say which process holds a run directory, and when it last gave a sign of life.

    Args:
        directory: The run directory.
        record: Its `pid` and `host`, for a lock that does not say them.
        signs: Files that the holder writes, too.
    """
    known = record or {}
    with contextlib.suppress(RunError):  # no lock, or one of an earlier version
        known = read_json(directory / LOCK_FILE)
    who, pid = "another process", known.get("pid")
    if pid is not None:
        who = f"process {pid} on {known.get('host') or 'an unknown host'}"
    times = []
    for path in (directory / LOCK_FILE, *signs):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    if not times:
        return who
    return f"{who}, last sign of life {max(0.0, time.time() - max(times)):,.0f} s ago"


def remove_lock(directory: Path) -> None:
    """Remove the lock file, even if another process holds the lock."""
    (directory / LOCK_FILE).unlink(missing_ok=True)


def _take(descriptor: int, *, is_recent: bool) -> bool:
    """Take the lock; who only looks at it (`is_held`) has it for a moment."""
    for _ in range(_TRIES):
        if _lock(descriptor, shared=False, is_recent=is_recent):
            return True
        time.sleep(_TRY_S)
    return False


def _lock(descriptor: int, *, shared: bool, is_recent: bool) -> bool:
    """Take the lock if it is free; it is given back when the descriptor is closed."""
    if fcntl is None:
        return not is_recent
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _WITHOUT_LOCKS and not is_recent
    return True


def _is_named(descriptor: int, path: Path) -> bool:
    """Tell whether a descriptor is still the file of a name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _is_recent(directory: Path) -> bool:
    """Tell whether the holder gave a sign of life lately."""
    try:
        return time.time() - (directory / LOCK_FILE).stat().st_mtime < _SILENT_S
    except OSError:
        return False


def _sign(descriptor: int) -> None:
    """Write into the lock who holds it."""
    content = json.dumps({"pid": os.getpid(), "host": platform.node()})
    with contextlib.suppress(OSError):  # the disk is full; training will notice
        os.ftruncate(descriptor, 0)
        os.write(descriptor, content.encode())


def _beat(descriptor: int, stopped: threading.Event) -> None:
    while True:
        with contextlib.suppress(OSError):  # the disk is gone or full; training will notice
            os.utime(descriptor)
        if stopped.wait(_BEAT_S):
            return
