"""Patterns such as `photos/**/*.jpg`, matched lazily and in natural order."""

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from cnnclf.names import sort_in_chunks


def has_wildcard(text: str) -> bool:
    """Return whether a text is a pattern."""
    return _WILDCARD.search(text) is not None


def match_pattern(pattern: str, *, sort_at_once: int) -> Iterator[str]:
    """Yield the matches of a pattern, folder by folder in natural order.

    Patterns with `**` match files only: folders among the matches contain other matches.

    Args:
        pattern: With `*`, `?`, `[...]` or `**`; hidden entries match only by their full name.
        sort_at_once: How many names of a folder are sorted together.
    """
    path = PurePath(pattern)
    parts = path.parts[1:] if path.anchor else path.parts
    matches = _match_parts(path.anchor, parts, sort_at_once)
    if "**" in parts[:-1]:
        return (match for match in matches if not Path(match).is_dir())
    return matches


def join_names(folder: str, name: str) -> str:
    """Join a folder and a name in it; the folder keeps its spelling."""
    separator = "" if not folder or folder.endswith(os.sep) else os.sep
    return folder + separator + name.rstrip("/")


_WILDCARD = re.compile(r"[*?[]")


def _match_parts(folder: str, parts: tuple[str, ...], sort_at_once: int) -> Iterator[str]:
    if not parts:
        yield folder or "."
        return
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _match_parts(folder, rest, sort_at_once)
        if rest:  # otherwise the folder itself is yielded and searched recursively
            for name in sort_in_chunks(_list_matches(folder), sort_at_once):
                # Linked folders are skipped, as they may form a cycle.
                path = join_names(folder, name)
                if name.endswith("/") and not Path(path).is_symlink():
                    yield from _match_parts(path, parts, sort_at_once)
    elif has_wildcard(head):
        matches = re.compile(fnmatch.translate(head)).match
        for name in sort_in_chunks(_list_matches(folder), sort_at_once):
            if matches(name.rstrip("/")) and (name.endswith("/") or not rest):
                yield from _match_parts(join_names(folder, name), rest, sort_at_once)
    elif os.path.lexists(join_names(folder, head)):
        yield from _match_parts(join_names(folder, head), rest, sort_at_once)


def _list_matches(folder: str) -> Iterator[str]:
    """List the entries of a folder that a pattern can match; folders end in a slash."""
    try:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry.name + ("/" if entry.is_dir() else "")
    except OSError:  # as in a shell, a folder that cannot be listed has no matches
        return
