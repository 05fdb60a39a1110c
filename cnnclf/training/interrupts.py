"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever it happens to be. If that is a callback of the garbage
collector or a destructor, the exception is printed and forgotten, and a long fit goes on. Here the
signal is also noted, and each training step asks.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Notes the signals that end a run while a with statement runs, besides what they do already.

    Does nothing outside the main thread, where Python delivers no signals.
    """

    def __init__(self) -> None:
        self._noted = False
        self._previous: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._previous[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

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
