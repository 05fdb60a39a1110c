"""Reading files that anybody may have written: regular files, of bounded size, without surprises.

A path in a manifest, a bundle or on the command line may lead to `/dev/zero`, a FIFO that nobody
writes to, or a document made to exhaust its parser. Every file that is read whole is read here.

So are the members of tar files, which are never unpacked: FILE.tar/OFFSET+SIZE/NAME is a path like
any other here, and no file can have it, as there are no files below a file.
"""

import csv
import errno
import json
import os
import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple, TypeVar

from cnnclf.errors import RunError

_Row = TypeVar("_Row")

MAX_DOCUMENT_BYTES = 64 << 20
"""Largest JSON document: a plan or manifest description of ours has a few MB at most."""

MAX_SETTINGS_BYTES = 1 << 20
"""Largest TOML file."""

MAX_IMAGE_BYTES = 2**30
"""Largest image file: each thread holds one in memory."""

# tomllib takes time with the square of the parts of one key.
_MAX_DOTS_IN_A_LINE = 100
_MAX_INTEGER = 2**63 - 1

_KINDS = (
    (stat.S_ISDIR, "it is a directory"),
    (stat.S_ISCHR, "it is a device, not a regular file"),
    (stat.S_ISBLK, "it is a device, not a regular file"),
    (stat.S_ISFIFO, "it is a pipe, not a regular file"),
    (stat.S_ISSOCK, "it is a socket, not a regular file"),
)


_SLICE: Final = re.compile(r"(.+?\.tar[^/\\]*)[/\\](\d{1,18})\+(\d{1,18})[/\\].", re.DOTALL)


class TarSlice(NamedTuple):
    """The content of a member of a tar file that is not compressed.

    Args:
        file: The tar file.
        offset: Bytes before the content.
        size: Bytes of it.
    """

    file: Path
    offset: int
    size: int

    def name(self, member: str) -> str:
        """Return the path that stands for this slice, whose last parts tell what it is."""
        return f"{self.file.as_posix()}/{self.offset}+{self.size}/{member}"


def find_slice(path: Path | str) -> TarSlice | None:
    """Return the part of a tar file that a path stands for; None for every other path."""
    text = os.fspath(path)
    found = _SLICE.match(text) if ".tar" in text else None
    if found is None or not os.path.isfile(found[1]):  # noqa: PTH113 - of a million paths
        return None
    return TarSlice(Path(found[1]), int(found[2]), int(found[3]))


def check_regular(path: Path, *, max_bytes: int | None = None) -> os.stat_result:
    """Look at a file without opening it.

    Args:
        path: Links are followed. Of a member of a tar file, the size is its own, and all else that
            of the tar file.
        max_bytes: Largest size; None for any.

    Raises:
        OSError: It does not exist, is no regular file, or is larger; `strerror` says which.
    """
    part = find_slice(path)
    try:
        found = (part.file if part else path).stat()
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, "not a valid file name", repr(str(path))) from error
    for is_kind, words in _KINDS:
        if is_kind(found.st_mode):
            number = errno.EISDIR if is_kind is stat.S_ISDIR else errno.EINVAL
            raise OSError(number, words, str(path))
    if part is not None:
        if part.offset + part.size > found.st_size:
            raise OSError(errno.EIO, f"{part.file.name} ends before it", str(path))
        times = {"st_mtime": found.st_mtime, "st_mtime_ns": found.st_mtime_ns}
        found = os.stat_result((*found[:6], part.size, *found[7:10]), times)
    if max_bytes is not None and found.st_size > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes:,} bytes", str(path))
    return found


def read_bytes(path: Path, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Read a regular file whole.

    Args:
        path: Links are followed.
        max_bytes: Largest size.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger; `strerror` says which.
    """
    size = check_regular(path, max_bytes=max_bytes).st_size
    if (part := find_slice(path)) is not None:
        with part.file.open("rb") as file:
            file.seek(part.offset)
            return file.read(part.size)
    with path.open("rb") as file:
        # Files of /proc have no size until they are read.
        data = file.read((size or max_bytes) + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes:,} bytes", str(path))
    return data


def is_inside(name: object) -> bool:
    """Tell whether a name from a file names something below the directory of that file.

    Args:
        name: As the file has it, of any type; with "/" between folders.
    """
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        return False
    path = PurePath(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts


def parse_json(data: bytes | str) -> Any:
    """Parse strict JSON.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or holds NaN, an infinity or an integer
            beyond 64 bits.
    """
    try:
        return json.loads(data, parse_int=_parse_int, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: It is not TOML (`tomllib.TOMLDecodeError`), is nested too deeply, or has a key
            of too many parts or an integer beyond 64 bits.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > _MAX_DOTS_IN_A_LINE:
            raise ValueError(f"too many dots in one line (at line {number})")
    try:
        content = tomllib.loads(text)
        _check_integers(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # Python refuses more than 4,300 decimal digits
        raise ValueError("an integer beyond 64 bits") from error
    return content


def describe_fault(error: Exception) -> str:
    """Say in one line what is wrong with the content of a document of ours.

    Args:
        error: What its parser raised: of pydantic, of ours, or of Python, whose words are replaced.
    """
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"])) or "a value"
        if fault["type"] == "missing":
            return f"{name} is missing"
        return f"{name} cannot be {repr(fault['input'])[:80]}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    if isinstance(error, LookupError | TypeError | AttributeError | OverflowError):
        return "a value is missing, or of a wrong type"
    return " ".join(str(error).split())


def read_table(
    path: Path,
    parse: Callable[[dict[str, str]], _Row],
    *,
    hint: str = "copy the whole run directory again",
) -> list[_Row]:
    """Read a CSV table that a run wrote.

    Args:
        path: The file; bytes that are not UTF-8 become surrogates.
        parse: Turns the cells of a row, by the names in the first line, into what is returned. May
            raise LookupError, TypeError or ValueError.
        hint: What to do if it is damaged.

    Raises:
        RunError: It is missing or damaged; the message names the line.
    """
    try:
        check_regular(path)
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file)
            try:
                return [parse(_check_whole(row)) for row in rows]
            except (LookupError, TypeError, ValueError, csv.Error) as error:
                raise RunError(
                    f"{path} is damaged: line {rows.reader.line_num} is not a row of it", hint
                ) from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}", hint) from error


def _check_whole(row: dict[str, str]) -> dict[str, str]:
    """Refuse a line with fewer cells than there are names, as of a file that was cut, or more."""
    if None in row or None in row.values():
        raise ValueError
    return row


def name_kind(value: object) -> str:
    """Return what a value of a document is, in words: "a list", "null"."""
    return _KIND_WORDS[type(value)]


_KIND_WORDS: Final = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _check_integers(value: object) -> None:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_integers(each)
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise ValueError


def _parse_int(digits: str) -> int:
    # A 64-bit number has at most 20 characters; int() is slow with many and refuses very many.
    if len(digits) > 20 or abs(value := int(digits)) > _MAX_INTEGER:
        raise ValueError(f"an integer beyond 64 bits ({digits[:24]}...)")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
