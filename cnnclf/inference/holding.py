"""Signals that wait for the end of a step which must not be done by half."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Who asks again after this time is not kept waiting: the step may hang, on a network's disk.
_PATIENCE_S = 1.0


@contextlib.contextmanager
def holding_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect only behind the with statement.

    One that comes again a second or more after the first takes effect at once. Does nothing outside
    the main thread, where Python delivers no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = _Held()
    held.begin()
    try:
        yield
    finally:
        held.end()


class _Held:
    """Stands before the handlers of the signals that are held."""

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._kept: tuple[int, FrameType | None] | None = None
        self._since_s = 0.0
        self._has_ended = False

    def begin(self) -> None:
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):  # what is ignored, or ends the process by itself, stays so
                self._handlers[number] = handler
                signal.signal(number, self._take)

    def end(self) -> None:
        self._has_ended = True  # one that comes while handlers are put back is passed on
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._kept is not None:
            number, frame = self._kept
            self._handlers[number](number, frame)

    def _take(self, number: int, frame: FrameType | None) -> None:
        is_first = self._kept is None
        if self._has_ended or (not is_first and time.monotonic() - self._since_s >= _PATIENCE_S):
            self._handlers[number](number, frame)
        elif is_first:
            self._kept, self._since_s = (number, frame), time.monotonic()
