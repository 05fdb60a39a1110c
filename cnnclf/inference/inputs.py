"""Finds the pictures that a user means by files, folders, patterns and lists, one by one.

Only names are looked at, never content: a file that turns out to be no picture is found here and
refused by the decoder. Memory is bounded by the largest single folder, not by their number.
"""

import codecs
import fnmatch
import itertools
import os
import re
import stat
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import NamedTuple, Protocol

from cnnclf.data.importers.base import natural_key
from cnnclf.data.importers.walk import Walk
from cnnclf.errors import DataError
from cnnclf.progress import Progress, Silent

# What lies beside pictures in folders. A name with any other ending, or none, is tried.
# fmt: off
NO_PICTURES = frozenset({
    ".7z", ".avi", ".bz2", ".conf", ".css", ".csv", ".db", ".doc", ".docx", ".gz", ".h5",
    ".htm", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".keras", ".log", ".m4v", ".md",
    ".mkv", ".mov", ".mp3", ".mp4", ".npy", ".npz", ".onnx", ".partial", ".pdf", ".pickle",
    ".pkl", ".ppt", ".pptx", ".py", ".rar", ".rst", ".sh", ".sqlite", ".tar", ".tex", ".tgz",
    ".tmp", ".toml", ".tsv", ".txt", ".wav", ".webm", ".xls", ".xlsx", ".xml", ".xmp", ".xz",
    ".yaml", ".yml", ".zip",
})
# fmt: on
_CHUNK_BYTES = 1 << 16


class Found(NamedTuple):
    """One path to predict, as the user or the folder spells it.

    Args:
        path: The file; undecodable bytes are surrogates, as `os.fsdecode` makes them.
        error: Why it cannot even be opened; empty if nothing is known against it.
    """

    path: str
    error: str = ""


class ByteStream(Protocol):
    """What a list is read from: a file opened in binary mode, or the buffer of stdin."""

    def read1(self, size: int = -1, /) -> bytes:
        """Read what is there, at most `size` bytes; empty at the end."""


@dataclass
class ImageInputs:
    """The pictures that the arguments of a command mean.

    Args:
        inputs: Files, folders (searched through, in natural order, without hidden entries),
            patterns with `*`, `?`, `[...]`, `**`, `@FILE` for a list of paths
            and `-` for a list on stdin. Lists hold one path a line, or NUL-separated paths;
            relative paths are looked for in the working directory, then beside the list.
        stdin: Where `-` reads from.
        passed_over: A folder not to search, because results are written there.
        progress: Is told what was passed over.
    """

    inputs: Sequence[str]
    stdin: ByteStream | None = None
    passed_over: Path | None = None
    progress: Progress = field(default_factory=Silent)

    def find(self) -> Iterator[Found]:
        """Give every path lazily, with an error for what is missing.

        Raises:
            DataError: Nothing at all is found, or a list cannot be read.
        """
        search = _Search(self.passed_over)
        missing: list[Found] = []
        has_found = False
        for item in self.inputs:
            for found in search.expand(item, self.stdin):
                if found.error and not has_found and found.path == item:
                    missing.append(found)
                    continue
                has_found = True
                yield from missing
                missing.clear()
                yield found
        search.report(self.progress)
        if not has_found:
            reasons = [f"{found.path}: {found.error}" for found in missing[:1]]
            raise DataError(
                f"expected pictures, found none in {', '.join(self.inputs[:5])}"
                + "".join(f" ({reason})" for reason in reasons),
                "give files, folders, patterns in quotes, @list.txt, or - for a list on stdin",
            )

    def first(self) -> Iterator[Found]:
        """Like `find`, but looks for the first path at once, so that its error comes early."""
        found = self.find()
        return itertools.chain([next(found)], found)

    def count(self, stop: threading.Event) -> int | None:
        """Count the paths without opening a picture.

        Args:
            stop: Ends the counting early when set.

        Returns:
            The count; None if it was stopped or a list can be read only once.
        """
        lists = [item for item in self.inputs if item.startswith("@")]
        if "-" in self.inputs or not all(Path(item[1:]).is_file() for item in lists):
            return None
        total = 0
        try:
            for _ in ImageInputs(self.inputs, passed_over=self.passed_over).find():
                total += 1
                if stop.is_set():
                    return None
        except DataError:  # the search that counts for something says so, too
            return None
        return total


def read_list(stream: ByteStream, name: str) -> Iterator[str]:
    """Read paths from a list as they come, one a line or NUL-separated.

    Args:
        stream: The list.
        name: What the list is called, for the message.

    Raises:
        DataError: It is UTF-16 text, which some shells of Windows write.
    """
    chunk = stream.read1(_CHUNK_BYTES)
    if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            f"expected a list of paths in UTF-8, the list {name} is UTF-16",
            "save it as UTF-8 and try again",
        )
    rest = chunk.removeprefix(codecs.BOM_UTF8)
    separator = b"\0" if b"\0" in rest else b"\n"
    while chunk:
        *lines, rest = rest.split(separator)
        yield from _paths(lines, separator)
        chunk = stream.read1(_CHUNK_BYTES)
        rest += chunk
    yield from _paths([rest], separator)


def _paths(lines: list[bytes], separator: bytes) -> Iterator[str]:
    for line in lines:
        path = line.rstrip(b"\r") if separator == b"\n" else line
        if path.strip():
            yield os.fsdecode(path)


class _Search:
    """One pass over the inputs; remembers what it passed over."""

    def __init__(self, passed_over: Path | None) -> None:
        self._skipped: Counter[str] = Counter()
        self._remarks: list[str] = []
        self._passed_over = passed_over and passed_over.resolve()
        self._place: tuple[str | None, bool] = (None, False)

    def expand(self, item: str, stdin: ByteStream | None) -> Iterator[Found]:
        """Give the paths that one argument means."""
        if item == "-":
            if stdin is None:
                raise DataError("expected a list of paths on stdin, there is no stdin")
            for path in read_list(stdin, "on stdin"):
                yield from self._take(path)
        elif item.startswith("@"):
            yield from self._expand_list(Path(item[1:]))
        elif os.path.lexists(item) or not _has_wildcard(item):
            yield from self._take(item)
        else:
            matches = _match_pattern(item)
            first = next(matches, None)
            if first is None:
                yield Found(item, "no file matches this pattern")
                return
            for path in itertools.chain([first], matches):
                yield from self._take(path)

    def report(self, progress: Progress) -> None:
        """Say what was passed over."""
        if self._skipped:
            kinds = ", ".join(f"{suffix} {count}" for suffix, count in self._skipped.most_common(5))
            total = sum(self._skipped.values())
            files = "1 file" if total == 1 else f"{total:,} files"
            progress.note(f"passed over {files} in folders, no pictures by name ({kinds})")
        for remark in dict.fromkeys(self._remarks):
            progress.note(remark)

    def _expand_list(self, path: Path) -> Iterator[Found]:
        try:
            with path.open("rb") as stream:
                for entry in read_list(stream, str(path)):
                    beside = path.parent / entry
                    is_beside = not os.path.lexists(entry) and os.path.lexists(beside)
                    yield from self._take(str(beside) if is_beside else entry)
        except OSError as error:
            raise DataError(
                f"cannot read the list {path}: {error.strerror}",
                "@FILE reads paths from FILE; write ./@NAME for a picture of that name",
            ) from error

    def _take(self, path: str) -> Iterator[Found]:
        """Give a file as it is, a folder's content, or what is wrong."""
        try:
            status = os.stat(path)  # noqa: PTH116 (the spelling of the path is kept)
        except FileNotFoundError:
            is_link = os.path.lexists(path)
            yield Found(path, "broken link" if is_link else "no such file or folder")
        except (OSError, ValueError) as error:
            yield Found(path, getattr(error, "strerror", None) or str(error))
        else:
            if stat.S_ISDIR(status.st_mode):
                self._place = (None, False)
                yield from self._walk(path)
            elif stat.S_ISREG(status.st_mode):
                yield Found(path)
            else:
                yield Found(path, "neither a file nor a folder")

    def _walk(self, folder: str) -> Iterator[Found]:
        walk = Walk(Path(folder))
        for name in walk.all_files():
            yield from self._drain(walk, folder)
            suffix = PurePath(name).suffix.lower()
            if self._passed_over and self._is_passed_over(folder, name):
                continue
            if suffix in NO_PICTURES:
                self._skipped[suffix] += 1
            else:
                yield Found(_join(folder, name))
        yield from self._drain(walk, folder)
        self._remarks += walk.remarks()

    def _drain(self, walk: Walk, folder: str) -> Iterator[Found]:
        for name, reason in walk.skipped:
            yield Found(folder if name == "." else _join(folder, name), reason)
        walk.skipped.clear()

    def _is_passed_over(self, folder: str, name: str) -> bool:
        """Tell whether a file lies where results are written; asks once for each folder."""
        place = name.rpartition("/")[0]
        if place != self._place[0]:
            real = Path(folder, place).resolve()
            self._place = (place, self._passed_over in {real, *real.parents})
        return self._place[1]


_WILDCARD = re.compile(r"[*?[]")


def _has_wildcard(text: str) -> bool:
    return _WILDCARD.search(text) is not None


def _match_pattern(pattern: str) -> Iterator[str]:
    """Give what a pattern matches, in natural order folder by folder.

    Patterns with `**` give files only: the folders among the matches hold other matches.
    """
    path = PurePath(pattern)
    parts = path.parts[1:] if path.anchor else path.parts
    matches = _match_parts(path.anchor, parts)
    if "**" in parts[:-1]:
        return (match for match in matches if not Path(match).is_dir())
    return matches


def _match_parts(folder: str, parts: tuple[str, ...]) -> Iterator[str]:
    if not parts:
        yield folder or "."
        return
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _match_parts(folder, rest)
        if rest:  # without a rest the folder itself is given, and will be searched through
            for name in _list_matches(folder):
                # Linked folders are left out, as they may lead back up.
                path = _join(folder, name)
                if name.endswith("/") and not Path(path).is_symlink():
                    yield from _match_parts(path, parts)
    elif _has_wildcard(head):
        matches = re.compile(fnmatch.translate(head)).match
        for name in _list_matches(folder):
            if matches(name.rstrip("/")) and (name.endswith("/") or not rest):
                yield from _match_parts(_join(folder, name), rest)
    elif os.path.lexists(_join(folder, head)):
        yield from _match_parts(_join(folder, head), rest)


def _list_matches(folder: str) -> list[str]:
    """List what a pattern can match in a folder, in natural order; a folder ends in a slash."""
    try:
        with os.scandir(folder or ".") as entries:
            names = [
                entry.name + ("/" if entry.is_dir() else "")
                for entry in entries
                if not entry.name.startswith(".")
            ]
    except OSError:  # as in a shell, what cannot be listed holds no match
        return []
    return sorted(names, key=natural_key)


def _join(folder: str, name: str) -> str:
    separator = "" if not folder or folder.endswith(os.sep) else os.sep
    return folder + separator + name.rstrip("/")
