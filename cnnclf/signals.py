"""Signals that end a run: noted so that none gets lost, or deferred until a step is whole.

Python raises KeyboardInterrupt wherever it happens to be. If that is a callback of the garbage
collector or a destructor, the exception is printed and forgotten, and a long fit goes on:
`Interrupts` notes the signal, and each training step asks. If it is between two writes that belong
together, half of them is done: `deferring_signals` lets it wait.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Who asks again after this time is not kept waiting: the step may hang, on a network's disk.
_PATIENCE_S = 1.0

_Handlers = dict[int, Callable[[int, FrameType | None], Any]]


class Interrupts:
    """Notes the signals that end a run while a with statement runs, besides what they do already.

    Does nothing outside the main thread, where Python delivers no signals.
    """

    def __init__(self) -> None:
        self._noted = False
        self._previous: _Handlers = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            _take_over(self._note, self._previous)
        return self

    def __exit__(self, *exc: object) -> None:
        _give_back(self._previous)

    def check(self) -> None:
        """Raise what a signal raised, if that got lost.

        Raises:
            KeyboardInterrupt: A signal came since the with statement began.
        """
        if self._noted:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
        self._previous[number](number, frame)


@contextlib.contextmanager
def deferring_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect only behind the with statement.

    One that comes again a second or more after the first takes effect at once. Does nothing outside
    the main thread, where Python delivers no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    deferred = _Deferred()
    deferred.begin()
    try:
        yield
    finally:
        deferred.end()


class _Deferred:
    """Stands before the handlers of the signals that are deferred."""

    def __init__(self) -> None:
        self._handlers: _Handlers = {}
        self._kept: tuple[int, FrameType | None] | None = None
        self._since_s = 0.0
        self._has_ended = False

    def begin(self) -> None:
        _take_over(self._take, self._handlers)

    def end(self) -> None:
        self._has_ended = True  # one that comes while handlers are put back is passed on
        _give_back(self._handlers)
        if self._kept is not None:
            number, frame = self._kept
            self._handlers[number](number, frame)

    def _take(self, number: int, frame: FrameType | None) -> None:
        is_first = self._kept is None
        if self._has_ended or (not is_first and time.monotonic() - self._since_s >= _PATIENCE_S):
            self._handlers[number](number, frame)
        elif is_first:
            self._kept, self._since_s = (number, frame), time.monotonic()


def _take_over(handle: Callable[[int, FrameType | None], Any], previous: _Handlers) -> None:
    """Let `handle` have the signals, and note in `previous` whose they were."""
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler):  # what is ignored, or ends the process by itself, stays so
            previous[number] = handler
            signal.signal(number, handle)


def _give_back(previous: _Handlers) -> None:
    for number, handler in previous.items():
        signal.signal(number, handler)
