"""Patterns such as `photos/**/*.jpg`, matched lazily and in natural order."""

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from cnnclf.names import sort_in_chunks


def has_wildcard(text: str) -> bool:
    """Tell whether a text is a pattern."""
    return _WILDCARD.search(text) is not None


def match_pattern(pattern: str, *, sort_at_once: int) -> Iterator[str]:
    """Give what a pattern matches, in natural order folder by folder.

    Patterns with `**` give files only: the folders among the matches hold other matches.

    Args:
        pattern: With `*`, `?`, `[...]` or `**`; hidden entries are matched only by name.
        sort_at_once: Names of one folder that are held and sorted together.
    """
    path = PurePath(pattern)
    parts = path.parts[1:] if path.anchor else path.parts
    matches = _match_parts(path.anchor, parts, sort_at_once)
    if "**" in parts[:-1]:
        return (match for match in matches if not Path(match).is_dir())
    return matches


def join_names(folder: str, name: str) -> str:
    """Join a folder, as it is spelled, and a name in it."""
    separator = "" if not folder or folder.endswith(os.sep) else os.sep
    return folder + separator + name.rstrip("/")


_WILDCARD = re.compile(r"[*?[]")


def _match_parts(folder: str, parts: tuple[str, ...], most: int) -> Iterator[str]:
    if not parts:
        yield folder or "."
        return
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _match_parts(folder, rest, most)
        if rest:  # without a rest the folder itself is given, and will be searched through
            for name in sort_in_chunks(_list_matches(folder), most):
                # Linked folders are left out, as they may lead back up.
                path = join_names(folder, name)
                if name.endswith("/") and not Path(path).is_symlink():
                    yield from _match_parts(path, parts, most)
    elif has_wildcard(head):
        matches = re.compile(fnmatch.translate(head)).match
        for name in sort_in_chunks(_list_matches(folder), most):
            if matches(name.rstrip("/")) and (name.endswith("/") or not rest):
                yield from _match_parts(join_names(folder, name), rest, most)
    elif os.path.lexists(join_names(folder, head)):
        yield from _match_parts(join_names(folder, head), rest, most)


def _list_matches(folder: str) -> Iterator[str]:
    """List what a pattern can match in a folder; a folder ends in a slash."""
    try:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry.name + ("/" if entry.is_dir() else "")
    except OSError:  # as in a shell, what cannot be listed holds no match
        return
