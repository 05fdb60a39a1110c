"""The cache directory: imported sources, decoded pixels and other files that can be recreated."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from cnnclf.bounded import parse_json, read_bytes
from cnnclf.errors import CnnclfError
from cnnclf.workspaces import is_in_use

CACHE_VARIABLE = "CNNCLF_CACHE_DIR"

CACHE_KINDS = {
    "datasets": "imported sources",
    "stores": "decoded images",
    "features": "features of frozen layers",
    "engine-cache": "models converted for an engine",
    "paces": "measured speeds of training",
    "layers": "layers of backbones",
    "nearest": "features of training images that explain compares",
    "checks": "measurements of images by cnnclf check",
    "jobs": "notes on finished predictions",
}
"""The directories of the cache, and what each holds."""

_DESCRIPTIONS = ("dataset.json", "form.json")  # of an entry that is a directory


@dataclass(frozen=True)
class CacheEntry:
    """One thing in the cache that can be made again.

    Args:
        kind: A key of `CACHE_KINDS`.
        name: Its name.
        source: Of what it was made, if it says so.
        paths: The file or directory, or the files that belong together.
        size_bytes: What they take on the disk.
        used_s: When one of them was last read or written, in seconds since the epoch.
        is_unfinished: Whether it is incomplete, from a process that was killed.
    """

    kind: str
    name: str
    source: str
    paths: tuple[Path, ...]
    size_bytes: int
    used_s: float
    is_unfinished: bool

    def remove(self) -> None:
        """Remove it; what another process removed meanwhile is no error.

        An unfinished directory that a process is working in stays.

        Raises:
            OSError: It cannot be removed.
        """
        for path in self.paths:
            with suppress(FileNotFoundError):
                if path.is_dir() and not path.is_symlink():
                    if not (self.is_unfinished and is_in_use(path)):
                        shutil.rmtree(path)
                else:
                    path.unlink()


def cache_dir() -> Path:
    """Return the cache directory: `CNNCLF_CACHE_DIR`, or else the user's cache of the system.

    It need not exist yet.
    """
    given = os.environ.get(CACHE_VARIABLE, "")
    if given:
        return Path(given).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("cnnclf", appauthor=False))


def list_cache(kinds: tuple[str, ...] = tuple(CACHE_KINDS)) -> list[CacheEntry]:
    """List what is in the cache, the largest first.

    Args:
        kinds: Which directories of it, keys of `CACHE_KINDS`.
    """
    entries = []
    for kind in kinds:
        groups: dict[str, list[Path]] = {}
        for path in _children(cache_dir() / kind):
            groups.setdefault(_group_name(path), []).append(path)
        entries += [_describe(kind, name, tuple(paths)) for name, paths in groups.items()]
    return sorted(entries, key=lambda entry: (-entry.size_bytes, entry.name))


def _children(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _group_name(path: Path) -> str:
    """Name what belongs together: `KEY.json` describes `KEY.u8`, or `KEY-0.features` and so on."""
    if path.is_dir() or path.name.startswith("."):
        return path.name
    stem = path.name.partition(".")[0]
    return stem.rpartition("-")[0] if path.suffix == ".features" else stem


def _describe(kind: str, name: str, paths: tuple[Path, ...]) -> CacheEntry:
    size, used = 0, 0.0
    for path in paths:
        for file in _files(path):
            with suppress(OSError):  # removed meanwhile
                found = file.lstat()
                size += found.st_size
                used = max(used, found.st_atime, found.st_mtime)
    used = used or time.time()
    return CacheEntry(kind, name, _read_source(paths), paths, size, used, name.startswith("."))


def _read_source(paths: tuple[Path, ...]) -> str:
    """Read of what an entry was made: "source" of its description, which may name a path."""
    inside = [path / name for path in paths for name in _DESCRIPTIONS]
    for path in (*paths, *inside):
        if path.suffix == ".json":
            with suppress(OSError, ValueError, KeyError, TypeError, CnnclfError):
                source = parse_json(read_bytes(path))["source"]
                return str(source["path"] if isinstance(source, dict) else source)
    return ""


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir() or path.is_symlink():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
