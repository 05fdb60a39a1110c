"""Patterns such as `photos/**/*.jpg`, matched lazily and in natural order."""

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import PurePath

from cnnclf.importers.walk import is_virtual
from cnnclf.names import sort_in_chunks


def has_wildcard(text: str) -> bool:
    """Return whether a text is a pattern."""
    return _WILDCARD.search(text) is not None


def match_pattern(pattern: str, *, sort_at_once: int) -> Iterator[str]:
    """Yield the matches of a pattern, folder by folder in natural order.

    Patterns with `**` match files only: folders among the matches contain other matches. What
    cannot be read is yielded too, if something in it could match, so that it is reported.

    Args:
        pattern: With `*`, `?`, `[...]` or `**`; hidden entries match only by their full name.
        sort_at_once: How many names of a folder are sorted together.
    """
    path = PurePath(pattern)
    parts = path.parts[1:] if path.anchor else path.parts
    unread: dict[str, bool] = {}
    matches = _match_parts(path.anchor, parts, sort_at_once, unread)
    if "**" in parts[:-1]:
        # Not Path.is_dir, which raises an error in a folder that may not be entered.
        return (match for match in matches if match in unread or not os.path.isdir(match))  # noqa: PTH112
    return matches


def join_names(folder: str, name: str) -> str:
    """Join a folder and a name in it; the folder keeps its spelling."""
    separator = "" if not folder or folder.endswith(os.sep) else os.sep
    return folder + separator + name.rstrip("/")


_WILDCARD = re.compile(r"[*?[]")


def _match_parts(
    folder: str, parts: tuple[str, ...], sort_at_once: int, unread: dict[str, bool]
) -> Iterator[str]:
    """Yield the matches below a folder.

    Args:
        folder: Where to look; "" is the working directory.
        parts: The pattern from here on.
        sort_at_once: How many names of a folder are sorted together.
        unread: Receives folders that cannot be listed, and whether they were yielded.
    """
    if not parts:
        yield folder or "."
        return
    head, rest = parts[0], parts[1:]
    if head == "**" and rest[:1] == ("**",):  # the same as one, which would match twice
        yield from _match_parts(folder, rest, sort_at_once, unread)
    elif head == "**":
        # A folder that is a match itself is searched recursively by the caller.
        below = _folders_below(folder, sort_at_once, unread) if rest else (folder,)
        for each in below:
            yield from _match_parts(each, rest, sort_at_once, unread)
        yield from _report(unread)
    elif has_wildcard(head):
        matches = re.compile(fnmatch.translate(head)).match
        for name in _sort_matches(folder, sort_at_once, unread):
            if matches(name.rstrip("/")) and (name.endswith("/") or not rest):
                yield from _match_parts(join_names(folder, name), rest, sort_at_once, unread)
        yield from _report(unread)
    elif _may_exist(join_names(folder, head)):
        yield from _match_parts(join_names(folder, head), rest, sort_at_once, unread)


def _report(unread: dict[str, bool]) -> Iterator[str]:
    for folder in [folder for folder, is_reported in unread.items() if not is_reported]:
        unread[folder] = True
        yield folder


def _folders_below(folder: str, sort_at_once: int, unread: dict[str, bool]) -> Iterator[str]:
    """Yield a folder and all folders below it; links are skipped, as they may form a cycle."""
    yield folder
    levels = [(folder, _sort_matches(folder, sort_at_once, unread))]
    while levels:
        here, names = levels[-1]
        name = next(names, None)
        if name is None:
            levels.pop()
        elif name.endswith("/") and not os.path.islink(path := join_names(here, name)):  # noqa: PTH114
            yield path
            levels.append((path, _sort_matches(path, sort_at_once, unread)))


def _sort_matches(folder: str, sort_at_once: int, unread: dict[str, bool]) -> Iterator[str]:
    return sort_in_chunks(_list_matches(folder, unread), sort_at_once)


def _list_matches(folder: str, unread: dict[str, bool]) -> Iterator[str]:
    """List the entries of a folder that a pattern can match; folders end in a slash."""
    try:
        if is_virtual(folder or "."):
            unread.setdefault(folder, False)
            return
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry.name + ("/" if _is_folder(entry) else "")
    except (FileNotFoundError, NotADirectoryError):  # as in a shell, no matches
        return
    except OSError:
        unread.setdefault(folder or ".", False)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # opening it will report why
        return False


def _may_exist(path: str) -> bool:
    """Return whether a path exists, or lies where that cannot be seen."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:  # opening it will report why
        return True
    return True
