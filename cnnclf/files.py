"""Atomic writing of files and directories, strict JSON, checksums, and room on disks.

Files are written under a temporary name in the same directory and renamed, so that no partial file
is ever seen. A directory is replaced by two renames, so that one complete version always exists.
"""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import re
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, TextIO

from cnnclf.bounded import check_regular, name_kind, parse_json, read_bytes
from cnnclf.errors import RunError
from cnnclf.full_disks import is_full, write_error


def safe_name(text: str, *, fallback: str) -> str:
    """Turn any text into a file name that is valid on all common systems."""
    name = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "-", text).strip(" .-")
    while len(os.fsencode(name)) > 120:
        name = name[:-1]
    return name.rstrip(" .-") or fallback


def read_json(path: Path, *, hint: str = "") -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: It is missing, unreadable, too large, not JSON or not an object.
    """
    try:
        value = parse_json(read_bytes(path))
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}", hint) from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: it is not valid JSON ({error})", hint) from error
    if not isinstance(value, dict):
        raise RunError(
            f"{path} is damaged: expected a JSON object, received {name_kind(value)}", hint
        )
    return value


def check_version(record: Mapping[str, Any], newest: int, *, path: Path) -> None:
    """Check that this version of cnnclf can read a file.

    Args:
        record: Content of the file, with the field `version`.
        newest: The newest format version that this program reads.
        path: The file, for the message.

    Raises:
        RunError: The format version is newer, missing or invalid.
    """
    version = record.get("version")
    if not isinstance(version, int) or version < 1:
        known = "1" if newest == 1 else f"1 to {newest}"
        fault = f"expected format version {known}, received {version!r:.40}"
        if version is None:
            fault = "its format version is missing"
        raise RunError(f"{path} is damaged: {fault}", "copy it again from its origin")
    if version > newest:
        raise RunError(
            f"{path} was written by a newer version of cnnclf: its format version is {version}, "
            f"this version reads up to {newest}",
            "python -m pip install --upgrade cnnclf",
        )


def write_text_atomic(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; undecodable file names keep their bytes."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))


def write_json_atomic(path: Path, value: Any) -> None:
    """Write strict JSON atomically; NaN and infinity become null."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(json_bytes(value, indent=2) + b"\n")


def create_json(path: Path, value: Any, *, hint: str = "") -> None:
    """Write strict JSON into a new file; of several processes that do so together, one succeeds.

    Args:
        path: The file; its parents are made.
        value: As for `json_bytes`.
        hint: What to do if another process was faster.

    Raises:
        DeviceError: The disk is full.
        RunError: The file exists, or cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(json_bytes(value, indent=2) + b"\n")
        try:
            try:
                path.hardlink_to(temporary)  # so it is never seen without its content
            except FileExistsError:
                raise
            except OSError:  # the file system has no hard links
                path.touch(exist_ok=False)
        except FileExistsError as error:
            raise RunError(f"another process has just made {path}", hint) from error


def write_csv_atomic(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file atomically; the first row is the heading."""
    text = io.StringIO()
    write = open_csv(text)
    for row in rows:
        write(tuple(row))
    write_text_atomic(path, text.getvalue())


def open_csv(file: TextIO) -> Callable[[Sequence[object]], object]:
    """Return a function that writes a row of text and numbers; any text survives a round trip."""
    plain = csv.writer(file, lineterminator="\n").writerow
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow

    def write(row: Sequence[object]) -> object:
        # A bare "\r" is a line end for readers, but the writer does not quote it.
        odd = any(isinstance(cell, str) and "\r" in cell for cell in row)
        return (quoted if odd else plain)(row)

    return write


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Encode strict UTF-8 JSON of what `plain` converts; NaN becomes null."""
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # A lone surrogate (an undecodable byte of a file name) becomes its own JSON escape.
    return text.encode("utf-8", "backslashreplace")


def plain(value: Any) -> Any:
    """Convert a value to the types of JSON: dict, list, str, int, float, bool and None.

    Args:
        value: Mappings, iterables, dataclasses, enums, paths, NumPy scalars and arrays.

    Returns:
        The plain value; numbers that are not finite become None.

    Raises:
        TypeError: The value has no plain form.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | str | int):
        return value
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, without importing NumPy
        return plain(value.tolist())
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(each) for key, each in value.items()}
    if isinstance(value, Iterable):
        return [plain(each) for each in value]
    raise TypeError(f"expected a value that JSON can hold, received {type(value).__name__}")


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Return the checksum of a file.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name with the same suffix; it replaces `path` if the block succeeds.

    The parent directory is created. A device or pipe such as /dev/stdout is written directly.

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
        if is_full(error) or error.filename == str(temporary):
            raise write_error(path, error) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # must not hide the error above
            temporary.unlink()


def remove_abandoned(directory: Path, pattern: str, *, hours: float = 1) -> None:
    """Remove what killed processes have left; running ones change their files all the time.

    Args:
        directory: Where it is; need not exist.
        pattern: Of the names of temporary files or directories.
        hours: Since its last change.
    """
    for left in directory.glob(pattern):
        with contextlib.suppress(OSError):  # gone, or still open on Windows
            if time.time() - left.stat().st_mtime < hours * 3600:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


@contextlib.contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory next to `target`; it replaces `target` if the block succeeds.

    Raises:
        DeviceError: The disk is full.
        RunError: The directory cannot be written.
    """
    with staging_directory(target) as temporary:
        yield temporary
        replace_directory_atomic(temporary, target)


@contextlib.contextmanager
def staging_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory next to `target`; it is removed unless the block moves it.

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
        if is_full(error) or str(error.filename).startswith(str(temporary)):
            raise write_error(target, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_directory_atomic(temporary: Path, target: Path) -> None:
    """Replace a directory by a finished one.

    At every moment, either `target` or its predecessor, under a hidden name, is complete; readers
    use `find_whole_directory`. If `target` is a link, the directory that it points to is replaced.

    Args:
        temporary: The finished directory, on the same file system; it is moved.
        target: Its new place; may exist.

    Raises:
        RunError: `target` cannot be moved, as a mount point cannot.
    """
    place, old = follow_link(target), _beside(target, "old")
    if place.exists():
        # What an interrupted call has left is removed only while a complete target exists.
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
    """Find the directory that `replace_directory_atomic` has written.

    Returns:
        `target`; its predecessor if the process was killed between the two renames; else None.
    """
    if target.is_dir():
        return target
    return next((path for path in (_beside(target, "old"), target) if path.is_dir()), None)


def follow_link(target: Path) -> Path:
    """Resolve a path that is a link or has no name of its own; return others unchanged.

    Args:
        target: Such as `.` or a link to a directory.
    """
    is_named = target.name not in {"", ".."}
    # Not Path.resolve, which fails for links that form a circle.
    return target if is_named and not target.is_symlink() else Path(os.path.realpath(target))


def free_bytes(directory: Path) -> int:
    """Return how many bytes are free on the disk of a directory, which need not exist yet."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(existing).free


def format_bytes(count: float) -> str:
    """Format a size with about three digits, such as 18.8 MB (1 MB = 1,000,000 bytes)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return (
                f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:.1f} TB"


def check_replaceable(target: Path) -> None:
    """Check, before the work is done, that a directory can be replaced by a finished one.

    Raises:
        RunError: It is a mount point or the current directory, where a shell would be left in a
            deleted directory.
    """
    place = follow_link(target)
    what = None
    if os.path.ismount(place):
        what = "a mount point"
    elif place.is_dir() and place.samefile(os.curdir):
        what = "the current directory"
    if what is not None:
        raise RunError(
            f"{target} is {what} and cannot be replaced",
            f"use a directory inside it: --out {shlex.quote(str(target / 'NAME'))}",
        )


def list_target(path: Path) -> list[str]:
    """Return the names in a directory that is to be written, sorted; none if there is none yet.

    Raises:
        RunError: It is a file, or cannot be read.
    """
    try:
        return sorted(entry.name for entry in path.iterdir()) if path.exists() else []
    except OSError as error:
        raise write_error(path, error) from error


def _beside(target: Path, what: str) -> Path:
    """Return a hidden name next to a directory that no user would choose."""
    place = follow_link(target)
    return place.with_name(f".{place.name}.cnnclf-{what}")
