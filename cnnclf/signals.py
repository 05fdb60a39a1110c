"""Ctrl-C, SIGTERM and SIGHUP: noted so that none is lost, or deferred until a step is complete.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a callback of the garbage
collector or a destructor the exception is printed and dropped, and a long fit continues:
`Interrupts` notes the signal, and each training step checks for it. Between two writes that belong
together it would leave half of the work: `deferring_signals` delays it until the block ends.
The process of the command line takes the signals with `EndOfProcess`.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

# SIGTERM comes from a scheduler that stops a job, SIGHUP from a terminal that is closed.
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

# A second signal after this time takes effect at once: the step may hang, as on a network disk.
_PATIENCE_S = 1.0

_Handlers = dict[int, Callable[[int, FrameType | None], Any]]


class EndOfProcess:
    """Turns the signals of a process into one KeyboardInterrupt after another, and none too many.

    Once the outcome is being reported, further signals change nothing; when the process only has
    to leave, they end it at once. A second Ctrl-C so never shows a traceback.

    Attributes:
        is_noted: Whether a signal came.
    """

    def __init__(self) -> None:
        self.is_noted = False
        self._is_reporting = False
        self._exit_code: int | None = None
        self._has_signals = False

    def take_signals(self) -> None:
        """Install the handlers; a signal that is ignored stays so, as under nohup."""
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        sys.unraisablehook = self._show_unraisable
        if not self._has_signals:  # hooks run in reverse order: this one after all others
            atexit.register(self._finish)
        self._has_signals = True

    def report(self) -> None:
        """Let no further signal change the outcome."""
        self._is_reporting = True

    def leave(self, code: int) -> None:
        """Let a further signal end the process at once, with this code.

        What was registered to run at the end runs; then the process ends without the interpreter
        taking itself apart, which takes a second with TensorFlow and does nothing for the user.
        """
        self._exit_code = code

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.is_noted = True
        if self._exit_code is not None:
            os._exit(self._exit_code)
        if not self._is_reporting:
            raise KeyboardInterrupt

    def _finish(self) -> None:
        """Keep the exit code: Python restores the default handlers when it is torn down."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self._exit_code is None:
            return
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
                stream.flush()
        os._exit(self._exit_code)

    def _show_unraisable(self, unraisable: Any) -> None:
        """Say nothing of an interrupt that Python drops in a destructor: it is noted."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)


process_end = EndOfProcess()


class Interrupts:
    """Notes the signals while a with statement runs, then calls their usual handlers.

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
    """Defer Ctrl-C, SIGTERM and SIGHUP until the with statement ends.

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
