"""Disks and quotas that are full: recognized in any error, and said in one line."""

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cnnclf.errors import CnnclfError, DeviceError, RunError, with_causes

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
# Libraries pass on the message of the system, if anything.
_FULL_WORDS = tuple(map(os.strerror, _FULL))
_PROBE_BYTES = 1 << 20

TEMPORARY_HINT = "set TMPDIR to a writable directory"


class DiskFullError(DeviceError):
    """A disk or quota is full."""


@contextlib.contextmanager
def reporting_full_disk(target: Path, *directories: Path) -> Iterator[None]:
    """Report a full disk as the cause if a library fails to write in the block.

    Libraries raise various errors then: OpenVINO about streams, TensorFlow about exhausted
    resources. So after an error, the disks themselves are tested.

    Args:
        target: What is written, for the message.
        *directories: Where it is written; the directory of temporary files is tested too.

    Raises:
        DiskFullError: The block failed and a disk is full.
    """

    def report(_: object, error: BaseException | None, __: object) -> None:
        is_foreign = isinstance(error, Exception) and not isinstance(error, CnnclfError)
        if error is None or not (is_foreign or isinstance(error, (RunError, DiskFullError))):
            return
        if is_disk_full(error):
            raise _full_error(target) from error
        if any(os.strerror(errno.EFBIG) in str(each) for each in with_causes(error)):
            raise _limit_error(target) from error
        places = list(directories)
        with contextlib.suppress(FileNotFoundError):  # there is no directory of temporary files
            places.append(Path(tempfile.gettempdir()))
        for place in places:
            fault = _try_to_write(place)
            if fault is not None and (is_full(fault) or fault.errno == errno.EFBIG):
                error_of = _full_error if is_full(fault) else _limit_error
                raise error_of(target if place in directories else place) from error

    with contextlib.ExitStack() as stack:
        stack.push(report)
        yield


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, says that a disk or quota is full."""
    return any(
        isinstance(each, DiskFullError)
        or (isinstance(each, OSError) and is_full(each))
        or any(words in str(each) for words in _FULL_WORDS)
        for each in with_causes(error)
    )


def check_writable(path: Path, hint: str = "choose another --out") -> None:
    """Refuse a path that cannot be made or changed, before anything is computed for it.

    Args:
        path: Need not exist.
        hint: What to do instead.

    Raises:
        RunError: The directory, or the nearest one above that exists, is closed to the user, or it
            would be below a file.
    """
    whole = path.absolute()
    # Not Path.exists, which raises an error below a folder that may not be entered.
    place = next(each for each in (whole, *whole.parents) if os.path.exists(each))  # noqa: PTH110
    if not place.is_dir():
        if place != whole:
            raise RunError(f"cannot write {path}: {place} is a file, not a directory", hint)
        place = whole.parent
    own = os.access in os.supports_effective_ids
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=own):
        raise RunError(f"cannot write {path}: {place} is closed to you", hint)


def write_error(
    path: Path, error: OSError, *, hint: str = "choose a writable directory with --out"
) -> CnnclfError:
    """Return the error that says in one line why a file cannot be written.

    Args:
        path: The file or directory.
        error: Of the system.
        hint: What to do unless the disk is full.
    """
    if is_full(error):
        return _full_error(path)
    if is_temporary(error):
        return DeviceError(str(error.strerror), TEMPORARY_HINT)
    if error.errno == errno.EFBIG:
        return DeviceError(
            f"the file size limit was reached: cannot write {path}",
            "raise the limit with ulimit -f, or write to another file system",
        )
    return RunError(f"cannot write {path}: {error.strerror or error}", hint)


def is_full(error: OSError) -> bool:
    """Return whether an error of the system says that a disk or quota is full."""
    return error.errno in _FULL


def is_temporary(error: OSError) -> bool:
    """Return whether an error says that there is no place for temporary files (`tempfile`)."""
    return "temporary directory" in (error.strerror or "")


def _full_error(path: Path) -> DiskFullError:
    return DiskFullError(f"the disk is full: cannot write {path}", "free some space and try again")


def _limit_error(path: Path) -> DiskFullError:
    return DiskFullError(
        f"the file size limit was reached: cannot write {path}", "raise it with ulimit -f"
    )


def _try_to_write(directory: Path) -> OSError | None:
    """Write a little more, which alone shows that a quota is full; return what prevented it."""
    probe = directory / f".{secrets.token_hex(4)}.cnnclf-probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return None
