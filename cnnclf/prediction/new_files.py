"""Polls for new files and yields each one once it is no longer being written.

Polling lists the folders, so it works on every file system, including network file systems.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cnnclf.errors import UsageError
from cnnclf.prediction.inputs import PAUSE, Found, ImageInputs
from cnnclf.prediction.path_set import PathSet
from cnnclf.prediction.patterns import has_wildcard
from cnnclf.prediction.rows import Prediction
from cnnclf.progress import Silent

_POLL_S = 1.0
_MAX_SCAN_FRACTION = 0.2  # of the time; listing a million files takes seconds
_SETTLED_S = 2.0
_EMPTY_S = 30.0  # some programs create a file long before they fill it
_OLD_S = 60.0
_MAX_UNSETTLED = 10_000


class _State(NamedTuple):
    """The state of a file, and since when it has been so (monotonic, seconds)."""

    size: int
    mtime_ns: int
    since_s: float


class FolderWatch:
    """Yields existing files, then new ones, without end.

    A file is ready when its size and modification time have been stable for 2 seconds (30 if it is
    empty), or when it was last modified more than a minute ago. Each path is yielded once; only
    where files are moved away may a new file of the same name follow.

    Args:
        inputs: Folders and patterns, see `check_watchable`.
        seen: The paths to skip; yielded paths are added.
        is_moving: Whether the files are moved away.
        sleep: Sleeps for the given number of seconds.
    """

    def __init__(
        self,
        inputs: ImageInputs,
        seen: PathSet,
        *,
        is_moving: bool = False,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._inputs = inputs
        self._seen = seen
        self._is_moving = is_moving
        self._sleep = sleep
        self._unsettled: dict[str, _State] = {}

    def find(self) -> Iterator[Found]:
        """Yield new files as they come, and `PAUSE` before each wait; never ends."""
        while True:
            scanned_s = 0.0
            began_s = time.monotonic()
            for found in self._scan():
                scanned_s += time.monotonic() - began_s
                yield found
                began_s = time.monotonic()
            scanned_s += time.monotonic() - began_s
            yield PAUSE
            self._sleep(max(_POLL_S, scanned_s / _MAX_SCAN_FRACTION))

    def accept(self, prediction: Prediction) -> bool:
        """Decide whether a prediction is final.

        Returns:
            False if the file could not be read because it is being written again; it will be
            yielded once more.
        """
        path = prediction.path
        if prediction.error and _was_just_changed(path):
            self._seen.take(path)
            return False
        if self._is_moving and not os.path.lexists(path):
            self._seen.take(path)
        return True

    def _scan(self) -> Iterator[Found]:
        """List everything once and yield new files that are settled."""
        unsettled: dict[str, _State] = {}
        for found in self._inputs.find():
            if found.path in self._seen:
                continue
            if found.error or self._is_settled(found.path, unsettled):
                self._seen.add(found.path)
                yield found
        self._unsettled = unsettled
        # What is skipped is said once, not every second; a `Silent` keeps what it receives.
        self._inputs = replace(self._inputs, progress=Silent())

    def _is_settled(self, path: str, unsettled: dict[str, _State]) -> bool:
        try:
            status = os.stat(path)  # noqa: PTH116 (called for every file)
        except FileNotFoundError:
            return False  # it is gone again
        except OSError:
            return True  # decoding will report the error
        if time.time() - status.st_mtime > _OLD_S:
            return True
        now_s = time.monotonic()
        state = _State(status.st_size, status.st_mtime_ns, now_s)
        before = self._unsettled.get(path)
        if before is not None and before[:2] == state[:2]:
            state = before
        if now_s - state.since_s >= (_SETTLED_S if state.size else _EMPTY_S):
            return True
        if len(unsettled) < _MAX_UNSETTLED:  # the others are recorded by a later scan
            unsettled[path] = state
        return False


def check_watchable(inputs: Sequence[str]) -> None:
    """Check that new files can appear in all inputs.

    Raises:
        UsageError: An input is neither a folder nor a pattern.
    """
    for item in inputs:
        is_list = item == "-" or item.startswith("@")
        if is_list or not (Path(item).is_dir() or has_wildcard(item)):
            raise UsageError(
                f"expected folders or patterns with --watch, received {item}",
                "give a folder, or remove --watch",
            )


def _was_just_changed(path: str) -> bool:
    try:
        age_s = time.time() - os.stat(path).st_mtime  # noqa: PTH116 (called for every failure)
    except OSError:
        return False
    return 0 <= age_s < _SETTLED_S
