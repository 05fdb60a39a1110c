"""Ctrl-C and SIGTERM: noted so that none is lost, or deferred until a step is complete.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a callback of the garbage
collector or a destructor the exception is printed and dropped, and a long fit continues:
`Interrupts` notes the signal, and each training step checks for it. Between two writes that belong
together it would leave half of the work: `deferring_signals` delays it until the block ends.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# A second signal after this time takes effect at once: the step may hang, as on a network disk.
_PATIENCE_S = 1.0

_Handlers = dict[int, Callable[[int, FrameType | None], Any]]


class Interrupts:
    """Notes Ctrl-C and SIGTERM while a with statement runs, then calls their usual handlers.

    Does nothing outside the main thread, where Python delivers no signals.
    """

    def __init__(self) -> None:
        self._noted = False
        self._previous: _Handlers = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            _install(self._note, self._previous)
        return self

    def __exit__(self, *exc: object) -> None:
        _restore(self._previous)

    def check(self) -> None:
        """Raise KeyboardInterrupt again if a signal came and its exception was dropped.

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
    """Defer Ctrl-C and SIGTERM until the with statement ends.

    A second signal that comes a second or more after the first takes effect at once. Does nothing
    outside the main thread, where Python delivers no signals.
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
    """Handles the signals while they are deferred."""

    def __init__(self) -> None:
        self._previous: _Handlers = {}
        self._pending: tuple[int, FrameType | None] | None = None
        self._since_s = 0.0
        self._has_ended = False

    def begin(self) -> None:
        _install(self._defer, self._previous)

    def end(self) -> None:
        self._has_ended = True  # a signal that comes while handlers are restored is passed on
        _restore(self._previous)
        if self._pending is not None:
            number, frame = self._pending
            self._previous[number](number, frame)

    def _defer(self, number: int, frame: FrameType | None) -> None:
        is_first = self._pending is None
        if self._has_ended or (not is_first and time.monotonic() - self._since_s >= _PATIENCE_S):
            self._previous[number](number, frame)
        elif is_first:
            self._pending, self._since_s = (number, frame), time.monotonic()


def _install(handle: Callable[[int, FrameType | None], Any], previous: _Handlers) -> None:
    """Install a handler for the signals and store the previous handlers in `previous`."""
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler):  # ignored signals and those with the default action are unchanged
            previous[number] = handler
            signal.signal(number, handle)


def _restore(previous: _Handlers) -> None:
    for number, handler in previous.items():
        signal.signal(number, handler)
