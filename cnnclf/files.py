"""Reading and writing files so that no half file is ever left behind, for every room.

Files are written under a temporary name in the same directory and renamed; directories are swapped
so that at every moment one whole one is there.
"""

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnclf.errors import CnnclfError, DeviceError, RunError

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
# Libraries give the system's words, if any.
_FULL_WORDS = tuple(map(os.strerror, _FULL))
_PROBE_BYTES = 1 << 20


class DiskFullError(DeviceError):
    """A disk has no room for what is to be written."""


def safe_name(text: str, *, fallback: str) -> str:
    """Turn any text into one file name that is legal on the common systems.

    Args:
        text: Any text.
        fallback: Used when nothing of the text is left.
    """
    name = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "-", text).strip(" .-")
    while len(os.fsencode(name)) > 120:
        name = name[:-1]
    return name.rstrip(" .-") or fallback


def read_json(path: Path, *, hint: str = "") -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: It is missing, unreadable, not JSON or not an object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}", hint) from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: it is not JSON ({error})", hint) from error
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: expected an object, not {type(value).__name__}", hint)
    return value


def check_version(record: Mapping[str, Any], newest: int, path: Path) -> None:
    """Refuse a file of a newer format version, or of none.

    Args:
        record: An object with the field `version`.
        newest: The newest version that this program reads.
        path: Where it comes from, for the message.
    """
    version = record.get("version")
    if not isinstance(version, int) or version < 1:
        raise RunError(
            f"{path} is damaged: expected a format version of 1 to {newest}, received {version!r}",
            "copy it again from where it was made",
        )
    if version > newest:
        raise RunError(
            f"{path} was written by a newer cnnclf: its format version is {version}, "
            f"this one reads up to {newest}",
            "upgrade with: pip install --upgrade cnnclf",
        )


def write_text_atomic(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all; undecodable file names keep their bytes."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))


def write_json_atomic(path: Path, value: Any) -> None:
    """Write strict JSON whole or not at all: NaN and infinity become null."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(json_bytes(value, indent=2) + b"\n")


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Encode strict UTF-8 JSON; paths, NumPy scalars and arrays are allowed, NaN becomes null."""
    text = json.dumps(_to_json(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # A lone surrogate (an undecodable byte of a file name) becomes its own JSON escape.
    return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name with the same suffix; it replaces `path` when the block succeeds.

    The parent directory is made. A device or pipe such as /dev/stdout is written directly.

    Raises:
        DeviceError: The disk is full.
        RunError: The file cannot be written.
    """
    target = path.resolve() if path.is_symlink() else path
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target
        return
    temporary = target.with_name(f".{target.stem[:80]}.{secrets.token_hex(4)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        os.replace(temporary, target)  # noqa: PTH105 (says what it does)
    except OSError as error:
        if _is_full(error) or error.filename == str(temporary):
            raise write_error(path, error) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # the error that matters is the one above
            temporary.unlink()


@contextlib.contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Give an empty directory beside `target`; it replaces `target` when the block succeeds.

    Raises:
        DeviceError: The disk is full.
        RunError: The directory cannot be written.
    """
    with passing_directory(target) as temporary:
        yield temporary
        replace_directory_atomic(temporary, target)


@contextlib.contextmanager
def passing_directory(target: Path) -> Iterator[Path]:
    """Give an empty directory beside `target`; what the block does not move away is removed.

    Raises:
        DeviceError: The disk is full.
        RunError: The directory cannot be written.
    """
    temporary = _beside(target, "new")
    try:
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        yield temporary
    except OSError as error:
        if _is_full(error) or str(error.filename).startswith(str(temporary)):
            raise write_error(target, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_directory_atomic(temporary: Path, target: Path) -> None:
    """Put a finished directory in the place of another one.

    At every moment `target` or its predecessor, under a hidden name of ours, is whole; readers use
    `find_whole_directory`. A link stays: what it leads to is replaced.

    Args:
        temporary: The finished directory, on the same file system; it is moved.
        target: Where it shall be; may exist.

    Raises:
        RunError: `target` cannot be moved, as a mount point cannot.
    """
    place, old = follow_link(target), _beside(target, "old")
    if place.exists():
        # Only with a whole target at hand may a left-over of an earlier kill go.
        if old.exists():
            shutil.rmtree(old)
        try:
            place.rename(old)
        except OSError as error:
            raise write_error(target, error) from error
    temporary.rename(place)
    if old.exists():
        shutil.rmtree(old)


def find_whole_directory(target: Path) -> Path | None:
    """The directory that `replace_directory_atomic` left at `target`, or None.

    Returns:
        `target`; its predecessor if a kill came between the two renames.
    """
    if target.is_dir():
        return target
    return next((path for path in (_beside(target, "old"), target) if path.is_dir()), None)


def follow_link(target: Path) -> Path:
    """Give a place that has a name and is no link; most are as they are.

    Args:
        target: Where something shall be, such as `.` or a link to a directory.
    """
    is_named = target.name not in {"", ".."}
    # Not Path.resolve, which fails where links lead in a circle.
    return target if is_named and not target.is_symlink() else Path(os.path.realpath(target))


def free_bytes(directory: Path) -> int:
    """Return how many bytes are free on the disk of a directory, which need not exist yet."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(existing).free


def format_bytes(count: float) -> str:
    """Give a size with about three digits, such as 18.8 MB (1 MB = 1,000,000 bytes)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return (
                f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:.1f} TB"


def check_replaceable(target: Path) -> None:
    """Refuse a directory that cannot be replaced by a finished one, before work goes into that.

    Raises:
        RunError: It is a mount point, or where the process stands: a shell there would be left in a
            directory that is gone.
    """
    place = follow_link(target)
    what = None
    if os.path.ismount(place):
        what = "a mount point"
    elif place.is_dir() and place.samefile(os.curdir):
        what = "the current directory"
    if what is not None:
        raise RunError(
            f"expected a directory that can be made or replaced, received {target}, which is "
            f"{what}",
            f"give one in it: --out {shlex.quote(str(target / 'NAME'))}",
        )


@contextlib.contextmanager
def telling_full_disk(target: Path, *directories: Path) -> Iterator[None]:
    """Let the code of others write; if it fails and a disk is full, say that that is why.

    What they raise then may be anything: OpenVINO speaks of streams, TensorFlow of exhausted
    resources. So the disks are tried.

    Args:
        target: What is being written, for the message.
        *directories: Where to; where temporary files are is tried as well.

    Raises:
        DiskFullError: The block failed and a disk is full.
    """

    def tell(_: object, error: BaseException | None, __: object) -> None:
        is_of_others = isinstance(error, Exception) and not isinstance(error, CnnclfError)
        if error is None or not (is_of_others or isinstance(error, (RunError, DiskFullError))):
            return
        if is_disk_full(error):
            raise _full_error(target) from error
        places = list(directories)
        with contextlib.suppress(FileNotFoundError):  # of a system without temporary files
            places.append(Path(tempfile.gettempdir()))
        for place in places:
            if not _has_room(place):
                raise _full_error(target if place in directories else place) from error

    with contextlib.ExitStack() as stack:
        stack.push(tell)
        yield


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error, or one that led to it, says that a disk or quota is used up."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, DiskFullError) or (isinstance(chain, OSError) and _is_full(chain)):
            return True
        if any(words in str(chain) for words in _FULL_WORDS):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def write_error(path: Path, error: OSError) -> CnnclfError:
    """Say in one line why a file cannot be written."""
    if _is_full(error):
        return _full_error(path)
    if error.errno == errno.EFBIG:
        return DeviceError(
            f"the file may not grow any more: cannot write {path}",
            "raise the limit with ulimit -f, or write to another file system",
        )
    return RunError(
        f"cannot write {path}: {error.strerror or error}",
        "give a place where you may write with --out",
    )


def _beside(target: Path, what: str) -> Path:
    """Name a directory of ours beside another one, as no user names theirs."""
    place = follow_link(target)
    return place.with_name(f".{place.name}.cnnclf-{what}")


def _is_full(error: OSError) -> bool:
    return error.errno in _FULL


def _full_error(path: Path) -> DiskFullError:
    return DiskFullError(f"the disk is full: cannot write {path}", "free some space and try again")


def _has_room(directory: Path) -> bool:
    """Tell whether a little more can be written; a quota is known to no other question."""
    probe = directory / f".{secrets.token_hex(4)}.cnnclf-probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return not _is_full(error)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return True


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, without importing NumPy
        return _to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
