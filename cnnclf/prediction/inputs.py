"""Finds the images named by files, folders, patterns and lists, lazily.

Only names are examined, never content: the decoder rejects files that are not images. The first of
a million files is yielded long before the last is listed.
"""

import errno
import itertools
import os
import stat
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path, PurePath
from typing import BinaryIO, Final, NamedTuple

from cnnclf.bounded import find_slice
from cnnclf.data.manifest import is_dataset, load_dataset
from cnnclf.errors import DataError
from cnnclf.images.formats import FORMATS
from cnnclf.images.sound_files import SOUND_SUFFIXES
from cnnclf.importers.walk import Walk
from cnnclf.names import count_of, name_some
from cnnclf.prediction.path_lists import ByteStream, read_list
from cnnclf.prediction.path_set import PathSet
from cnnclf.prediction.patterns import has_wildcard, join_names, match_pattern
from cnnclf.prediction.sharding import Shard
from cnnclf.progress import Progress, Silent

_IMAGES: Final = frozenset(suffix for _, suffixes in FORMATS.values() for suffix in suffixes)
# Skipped in folders. Files with any other suffix, or none, are tried.
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
_ARRAYS: Final = frozenset({".npy"})
_NEVER_TRIED: Final = {
    "image": NO_IMAGES | _ARRAYS | set(SOUND_SUFFIXES),
    "array": (NO_IMAGES - _ARRAYS) | set(SOUND_SUFFIXES) | _IMAGES,
    "sound": (NO_IMAGES - set(SOUND_SUFFIXES)) | _ARRAYS | _IMAGES,
}
_GIVE_WAY_EVERY, _GIVE_WAY_S = 1000, 0.002


class Found(NamedTuple):
    """A path to predict, as it is spelled by the user or the folder.

    Args:
        path: The file; undecodable bytes are surrogates, as in `os.fsdecode`.
        error: Why it cannot be opened; empty if nothing is known to be wrong.
    """

    path: str
    error: str = ""


PAUSE: Final = Found("")
"""Yielded by a source before it waits: everything it yielded so far is to be processed first."""


class NoImagesError(DataError):
    """The inputs were searched and contain nothing, not even a name that could get a row."""


@dataclass
class ImageInputs:
    """The images named by the arguments of a command.

    Args:
        inputs: Files, folders (searched recursively in natural order, without hidden entries),
            datasets made by `cnnclf import` (their images),
            patterns with `*`, `?`, `[...]`, `**`, `@FILE` for a list of paths and `-` for a list on
            stdin. Lists contain one path per line, or NUL-separated paths; relative paths are
            looked up in the working directory, then next to the list.
        stdin: The stream that `-` reads.
        excluded: Folders that are not searched, because results are written there.
        progress: Receives a note about skipped files.
        shard: Restricts the paths to one shard.
        kind: What the files must hold, as in `InputSpec`.
        sort_at_once: How many names of a folder are sorted together, at least 1. A larger folder
            comes in chunks of this size, each in natural order.
        may_be_empty: Whether finding nothing is allowed.
        keep_repeated: Whether an input that is given twice is found twice.
    """

    inputs: Sequence[str]
    stdin: ByteStream | None = None
    excluded: Collection[Path] = ()
    progress: Progress = field(default_factory=Silent)
    shard: Shard | None = None
    kind: str = "image"
    sort_at_once: int = 20_000
    may_be_empty: bool = False
    keep_repeated: bool = False

    def find(self) -> Iterator[Found]:
        """Yield every path lazily, with an error for missing ones.

        Raises:
            NoImagesError: Nothing was found, regardless of the shard.
            DataError: Nothing was found and a named file is missing, or a list cannot be read.
        """
        found = self._find()
        return found if self.shard is None else filter(self._is_ours, found)

    def first(self) -> Iterator[Found]:
        """Like `find`, but finds the first path immediately, so that errors are raised early."""
        found = self.find()
        return itertools.chain(list(itertools.islice(found, 1)), found)

    def count(self, stop: threading.Event) -> int | None:
        """Count the paths without opening any image.

        Args:
            stop: Stops counting when set.

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
                # Yield the processor regularly: the predictions have priority.
                if stop.wait(_GIVE_WAY_S) if total % _GIVE_WAY_EVERY == 0 else stop.is_set():
                    return None
        except DataError:  # the search for predicting raises the same error
            return None
        return total

    def _is_ours(self, found: Found) -> bool:
        return found is PAUSE or self.shard is None or self.shard.owns(found.path)

    def _find(self) -> Iterator[Found]:
        inputs = self.inputs if self.keep_repeated else self._drop_repeated()
        named = {os.path.abspath(item) for item in inputs if not _is_list(item)}  # noqa: PTH100
        search = _Search(self.excluded, self.sort_at_once, self.kind, named=named)
        missing: list[Found] = []
        has_found = False
        # A pattern may match what another input finds, too; only a list may name a file twice.
        seen = PathSet() if len(inputs) > 1 and any(map(has_wildcard, inputs)) else None
        for item in inputs:
            results = search.expand(item, self.stdin)
            for found in results if seen is None or _is_list(item) else _take_new(results, seen):
                if found is PAUSE:
                    # Before the first path there is nothing to process.
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
            reasons += search.describe_written()
            raise kind(
                f"found no {self.kind}s in {', '.join(self.inputs[:5])}"
                + "".join(f" ({reason})" for reason in reasons),
                "give files, folders, quoted patterns, @list.txt, or - for a list on stdin",
            )

    def _drop_repeated(self) -> list[str]:
        """Return the inputs without those that repeat an earlier one; `a.jpg` is `./a.jpg`."""
        kept: dict[str, str] = {}
        for item in self.inputs:
            kept.setdefault(item if _is_list(item) else os.path.normpath(item), item)
        if repeats := len(self.inputs) - len(kept):
            self.progress.note(f"{count_of(repeats, 'path')} given more than once: labeled once")
        return list(kept.values())


def skip_done(found: Iterable[Found], done: PathSet) -> Iterator[Found]:
    """Skip the paths that are done, each as often as it is in the set; removes them from it."""
    for item in found:
        if item is PAUSE or not done.take(item.path):
            yield item


class _Search:
    """A single search of the inputs; remembers which files it skipped.

    Args:
        excluded: As of `ImageInputs`.
        sort_at_once: As of `ImageInputs`.
        kind: As of `ImageInputs`.
        named: Absolute paths of files and folders to skip in a folder above them: they are inputs,
            too, and each file is found once.
    """

    def __init__(
        self, excluded: Collection[Path], sort_at_once: int, kind: str, *, named: Collection[str]
    ) -> None:
        self._kind, self._named = kind, named
        self._skipped: Counter[str] = Counter()
        self._remarks: list[str] = []
        self._excluded = {folder.resolve() for folder in excluded}
        self._written: Counter[str] = Counter()  # files in those folders, by the folder
        self._sort_at_once = sort_at_once
        self._excluded_cache: tuple[str | None, bool] = (None, False)  # folder and the answer

    def expand(self, item: str, stdin: ByteStream | None) -> Iterator[Found]:
        """Yield the paths named by one argument."""
        if item == "-":
            if stdin is None:
                raise DataError("cannot read a list of paths from stdin: there is no stdin")
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
        """Report which files were skipped."""
        if self._skipped:
            kinds = ", ".join(f"{suffix} {count}" for suffix, count in self._skipped.most_common(5))
            total = sum(self._skipped.values())
            files = count_of(total, "file")
            what = f"not {self._kind}s by name"
            progress.note(f"skipped {files} in folders that are {what} ({kinds})")
        for remark in dict.fromkeys(self._remarks):
            progress.note(remark)

    def describe_written(self) -> list[str]:
        """Describe what was not searched, because results are written there."""
        if not self._written:
            return []
        files = count_of(self._written.total(), "file")
        folders = name_some(sorted(self._written), 3)
        return [f"skipped {files} in {folders}, where results are written"]

    def _expand_list(self, path: Path) -> Iterator[Found]:
        try:
            with path.open("rb") as stream:
                _refuse_device(stream)
                for entry in read_list(stream, str(path)):
                    if not entry:
                        yield PAUSE
                        continue
                    sibling = path.parent / entry
                    is_sibling = not os.path.lexists(entry) and os.path.lexists(sibling)
                    yield from self._take(str(sibling) if is_sibling else entry)
        except OSError as error:
            raise DataError(
                f"cannot read the list {path}: {error.strerror}",
                "@FILE reads paths from FILE; for an image with that name write ./@NAME",
            ) from error

    def _take(self, path: str) -> Iterator[Found]:
        """Yield a file, the content of a folder, or an error."""
        if find_slice(path):
            yield Found(path)
            return
        try:
            status = os.stat(path)  # noqa: PTH116 (the spelling of the path is kept)
        except FileNotFoundError:
            is_link = os.path.lexists(path)
            yield Found(path, _explain_missing(path, is_link=is_link))
        except (OSError, ValueError) as error:
            yield Found(path, getattr(error, "strerror", None) or str(error))
        else:
            if stat.S_ISDIR(status.st_mode):
                self._excluded_cache = (None, False)
                yield from self._samples(path) if is_dataset(Path(path)) else self._walk(path)
            elif stat.S_ISREG(status.st_mode):
                yield Found(path)
            else:
                yield Found(path, "not a regular file")

    def _samples(self, folder: str) -> Iterator[Found]:
        """Yield the images of a dataset that cnnclf imported, wherever they are."""
        dataset = load_dataset(Path(folder))
        self._remarks.append(
            f"{folder} is a dataset: its {count_of(len(dataset), 'image')} are predicted"
        )
        for row in range(len(dataset)):
            yield Found(str(dataset.file(row)))

    def _walk(self, folder: str) -> Iterator[Found]:
        above = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118
        named = {each[len(above) :] for each in self._named if each.startswith(above)}
        walk = Walk(Path(folder), sort_at_once=self._sort_at_once)
        for name in walk.all_files():
            yield from self._drain_errors(walk, folder)
            if named and not named.isdisjoint(accumulate(name.split("/"), "{}/{}".format)):
                continue
            suffix = PurePath(name).suffix.lower()
            if self._excluded and self._is_excluded(folder, name):
                if suffix not in _NEVER_TRIED[self._kind]:
                    place = os.path.normpath(join_names(folder, name.rpartition("/")[0]))
                    self._written[place] += 1
                continue
            if suffix in _NEVER_TRIED[self._kind]:
                self._skipped[suffix] += 1
            else:
                yield Found(join_names(folder, name))
        yield from self._drain_errors(walk, folder)
        self._remarks += walk.remarks()

    def _drain_errors(self, walk: Walk, folder: str) -> Iterator[Found]:
        for name, reason in (*walk.skipped, *walk.unneeded):
            yield Found(folder if name == "." else join_names(folder, name), reason)
        walk.skipped.clear()
        walk.unneeded.clear()

    def _is_excluded(self, folder: str, name: str) -> bool:
        """Return whether a file is in an excluded folder; resolves each folder once."""
        parent = name.rpartition("/")[0]
        if parent != self._excluded_cache[0]:
            real = Path(folder, parent).resolve()
            self._excluded_cache = (
                parent,
                not self._excluded.isdisjoint((real, *real.parents)),
            )
        return self._excluded_cache[1]


def _take_new(found: Iterable[Found], seen: PathSet) -> Iterator[Found]:
    """Skip what was found before, however it is spelled; remembers the rest."""
    for each in found:
        path = os.path.abspath(each.path)  # noqa: PTH100
        if path not in seen:
            seen.add(path)
            yield each


def _is_list(item: str) -> bool:
    return item == "-" or item.startswith("@")


def _refuse_device(stream: BinaryIO) -> None:
    """Refuse a list that may never end; files, pipes and terminals are welcome."""
    mode = os.fstat(stream.fileno()).st_mode
    if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not stream.isatty()):
        raise OSError(errno.EINVAL, "it is a device, not a file or pipe")


def _explain_missing(path: str, *, is_link: bool) -> str:
    if "://" in path:
        return "an address, which is not downloaded"
    return "broken link" if is_link else "no such file or folder"
