"""Finds the images that a user means by files, folders, patterns and lists, one by one.

Only names are looked at, never content: a file that turns out to be no image is found here and
refused by the decoder. The first of a million files is given long before the last is listed.
"""

import itertools
import os
import stat
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Final, NamedTuple

from cnnclf.errors import DataError
from cnnclf.importers.walk import Walk
from cnnclf.prediction.path_lists import ByteStream, read_list
from cnnclf.prediction.patterns import has_wildcard, join_names, match_pattern
from cnnclf.prediction.sharding import Shard
from cnnclf.progress import Progress, Silent

# What lies beside images in folders. A name with any other ending, or none, is tried.
# fmt: off
NO_IMAGES = frozenset({
    ".7z", ".avi", ".bz2", ".conf", ".css", ".csv", ".db", ".doc", ".docx", ".gz", ".h5",
    ".htm", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".keras", ".log", ".m4v", ".md",
    ".mkv", ".mov", ".mp3", ".mp4", ".npy", ".npz", ".onnx", ".parquet", ".partial", ".pdf",
    ".pickle", ".pkl", ".ppt", ".pptx", ".py", ".rar", ".rst", ".sh", ".sqlite", ".tar",
    ".tex", ".tgz", ".tmp", ".toml", ".tsv", ".txt", ".wav", ".webm", ".xls", ".xlsx", ".xml",
    ".xmp", ".xz", ".yaml", ".yml", ".zip",
})
# fmt: on
_GIVE_WAY_EVERY, _GIVE_WAY_S = 1000, 0.002


class Found(NamedTuple):
    """One path to predict, as the user or the folder spells it.

    Args:
        path: The file; undecodable bytes are surrogates, as `os.fsdecode` makes them.
        error: Why it cannot even be opened; empty if nothing is known against it.
    """

    path: str
    error: str = ""


PAUSE: Final = Found("")
"""Given by a source that has to wait: what it gave before shall not be held back meanwhile."""


class NoImagesError(DataError):
    """The inputs were searched, and nothing is there; not even a name that could get a row."""


@dataclass
class ImageInputs:
    """The images that the arguments of a command mean.

    Args:
        inputs: Files, folders (searched through, in natural order, without hidden entries),
            patterns with `*`, `?`, `[...]`, `**`, `@FILE` for a list of paths
            and `-` for a list on stdin. Lists hold one path a line, or NUL-separated paths;
            relative paths are looked for in the working directory, then beside the list.
        stdin: Where `-` reads from.
        passed_over: A folder not to search, because results are written there.
        progress: Is told what was passed over.
        shard: Give only the paths of this part.
        sort_at_once: Names of one folder that are held and sorted together, at least 1. A larger
            folder comes in pieces of so many names, each in natural order.
        may_be_empty: Finding nothing is no error.
    """

    inputs: Sequence[str]
    stdin: ByteStream | None = None
    passed_over: Path | None = None
    progress: Progress = field(default_factory=Silent)
    shard: Shard | None = None
    sort_at_once: int = 20_000
    may_be_empty: bool = False

    def find(self) -> Iterator[Found]:
        """Give every path lazily, with an error for what is missing.

        Raises:
            NoImagesError: Nothing at all is found, whatever the shard.
            DataError: The same, and something that was named is missing; or a list cannot be read.
        """
        found = self._find()
        return found if self.shard is None else filter(self._is_ours, found)

    def first(self) -> Iterator[Found]:
        """Like `find`, but looks for the first path at once, so that its error comes early."""
        found = self.find()
        return itertools.chain(list(itertools.islice(found, 1)), found)

    def count(self, stop: threading.Event) -> int | None:
        """Count the paths without opening an image.

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
            for _ in replace(self, progress=Silent(), sort_at_once=1).find():
                total += 1
                # Giving way now and then: it is the images that somebody waits for.
                if stop.wait(_GIVE_WAY_S) if total % _GIVE_WAY_EVERY == 0 else stop.is_set():
                    return None
        except DataError:  # the search that counts for something says so, too
            return None
        return total

    def _is_ours(self, found: Found) -> bool:
        return found is PAUSE or self.shard is None or self.shard.owns(found.path)

    def _find(self) -> Iterator[Found]:
        search = _Search(self.passed_over, self.sort_at_once)
        missing: list[Found] = []
        has_found = False
        for item in self.inputs:
            for found in search.expand(item, self.stdin):
                if found is PAUSE:
                    # Before anything is found there is nothing to hold back.
                    yield from [found] if has_found else []
                    continue
                if found.error and not has_found and found.path == item:
                    missing.append(found)
                    continue
                has_found = True
                yield from missing
                missing.clear()
                yield found
        search.report(self.progress)
        if not has_found and not self.may_be_empty:
            gone = [found for found in missing if not has_wildcard(found.path)]
            kind = DataError if gone else NoImagesError
            reasons = [f"{found.path}: {found.error}" for found in missing[:1]]
            raise kind(
                f"expected images, found none in {', '.join(self.inputs[:5])}"
                + "".join(f" ({reason})" for reason in reasons),
                "give files, folders, patterns in quotes, @list.txt, or - for a list on stdin",
            )


class _Search:
    """One pass over the inputs; remembers what it passed over."""

    def __init__(self, passed_over: Path | None, sort_at_once: int) -> None:
        self._skipped: Counter[str] = Counter()
        self._remarks: list[str] = []
        self._passed_over = passed_over and passed_over.resolve()
        self._sort_at_once = sort_at_once
        self._place: tuple[str | None, bool] = (None, False)

    def expand(self, item: str, stdin: ByteStream | None) -> Iterator[Found]:
        """Give the paths that one argument means."""
        if item == "-":
            if stdin is None:
                raise DataError("expected a list of paths on stdin, there is no stdin")
            for path in read_list(stdin, "on stdin"):
                yield from self._take(path) if path else (PAUSE,)
        elif item.startswith("@"):
            yield from self._expand_list(Path(item[1:]))
        elif os.path.lexists(item) or not has_wildcard(item):
            yield from self._take(item)
        else:
            matches = match_pattern(item, sort_at_once=self._sort_at_once)
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
            progress.note(f"passed over {files} in folders, no images by name ({kinds})")
        for remark in dict.fromkeys(self._remarks):
            progress.note(remark)

    def _expand_list(self, path: Path) -> Iterator[Found]:
        try:
            with path.open("rb") as stream:
                for entry in read_list(stream, str(path)):
                    if not entry:
                        yield PAUSE
                        continue
                    beside = path.parent / entry
                    is_beside = not os.path.lexists(entry) and os.path.lexists(beside)
                    yield from self._take(str(beside) if is_beside else entry)
        except OSError as error:
            raise DataError(
                f"cannot read the list {path}: {error.strerror}",
                "@FILE reads paths from FILE; write ./@NAME for an image of that name",
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
        walk = Walk(Path(folder), sort_at_once=self._sort_at_once)
        for name in walk.all_files():
            yield from self._drain(walk, folder)
            suffix = PurePath(name).suffix.lower()
            if self._passed_over and self._is_passed_over(folder, name):
                continue
            if suffix in NO_IMAGES:
                self._skipped[suffix] += 1
            else:
                yield Found(join_names(folder, name))
        yield from self._drain(walk, folder)
        self._remarks += walk.remarks()

    def _drain(self, walk: Walk, folder: str) -> Iterator[Found]:
        for name, reason in walk.skipped:
            yield Found(folder if name == "." else join_names(folder, name), reason)
        walk.skipped.clear()

    def _is_passed_over(self, folder: str, name: str) -> bool:
        """Tell whether a file lies where results are written; asks once for each folder."""
        place = name.rpartition("/")[0]
        if place != self._place[0]:
            real = Path(folder, place).resolve()
            self._place = (place, self._passed_over in {real, *real.parents})
        return self._place[1]
