"""Keeps looking for new files, and takes one only when nobody writes to it any more.

Looking means listing, so it works on every file system, also on those of other machines.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cnnclf.errors import UsageError
from cnnclf.prediction.inputs import PAUSE, Found, ImageInputs
from cnnclf.prediction.path_set import PathSet
from cnnclf.prediction.patterns import has_wildcard
from cnnclf.prediction.rows import Prediction

_POLL_S = 1.0
_LOOKING_SHARE = 0.2  # of the time at most; listing a million files takes seconds
_SETTLED_S = 2.0
_EMPTY_S = 30.0  # some programs make a file long before they fill it
_OLD_S = 60.0
_MOST_WAITING = 10_000


class _Look(NamedTuple):
    """How a file looked, and since when (monotonic, seconds)."""

    size: int
    mtime_ns: int
    since_s: float


class FolderWatch:
    """Gives the files that are there, then for ever those that come.

    A file is taken when its size and time of change have been the same for 2 seconds (30 if it is
    empty), or when it was last changed a minute ago. A path is given once, whatever becomes of the
    file; only where files are moved away may one of the same name come again.

    Args:
        inputs: Folders and patterns, as `check_watchable` wants them.
        seen: The paths that need not be given; those that are given are added.
        is_moving: The files are moved away.
        sleep: Waits so many seconds.
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
        self._waiting: dict[str, _Look] = {}

    def find(self) -> Iterator[Found]:
        """Give new files as they come, and `PAUSE` before each wait; never ends."""
        while True:
            looked_s = 0.0
            began_s = time.monotonic()
            for found in self._look():
                looked_s += time.monotonic() - began_s
                yield found
                began_s = time.monotonic()
            looked_s += time.monotonic() - began_s
            yield PAUSE
            self._sleep(max(_POLL_S, looked_s / _LOOKING_SHARE))

    def accept(self, prediction: Prediction) -> bool:
        """Take note of what became of a file.

        Returns:
            False if it could not be read because it is being written again: it comes once more.
        """
        path = prediction.path
        if prediction.error and _was_just_changed(path):
            self._seen.take(path)
            return False
        if self._is_moving and not os.path.lexists(path):
            self._seen.take(path)
        return True

    def _look(self) -> Iterator[Found]:
        """List everything once and give what is new and settled."""
        waiting: dict[str, _Look] = {}
        for found in self._inputs.find():
            if found.path in self._seen:
                continue
            if found.error or self._is_settled(found.path, waiting):
                self._seen.add(found.path)
                yield found
        self._waiting = waiting

    def _is_settled(self, path: str, waiting: dict[str, _Look]) -> bool:
        try:
            status = os.stat(path)  # noqa: PTH116 (called for every file)
        except FileNotFoundError:
            return False  # it came and went
        except OSError:
            return True  # reading it will say why
        if time.time() - status.st_mtime > _OLD_S:
            return True
        now_s = time.monotonic()
        look = _Look(status.st_size, status.st_mtime_ns, now_s)
        before = self._waiting.get(path)
        if before is not None and before[:2] == look[:2]:
            look = before
        if now_s - look.since_s >= (_SETTLED_S if look.size else _EMPTY_S):
            return True
        if len(waiting) < _MOST_WAITING:  # the others wait for the next look
            waiting[path] = look
        return False


def check_watchable(inputs: Sequence[str]) -> None:
    """Refuse what new files cannot come to.

    Raises:
        UsageError: One is neither a folder nor a pattern.
    """
    for item in inputs:
        is_list = item == "-" or item.startswith("@")
        if is_list or not (Path(item).is_dir() or has_wildcard(item)):
            raise UsageError(
                f"expected folders or patterns to watch, received {item}",
                "give a folder, or leave --watch out",
            )


def _was_just_changed(path: str) -> bool:
    try:
        age_s = time.time() - os.stat(path).st_mtime  # noqa: PTH116 (called for every failure)
    except OSError:
        return False
    return 0 <= age_s < _SETTLED_S
