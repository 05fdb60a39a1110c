"""The three standard streams, made safe before a command runs: closed, full, or read by nobody."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cnnclf.errors import DeviceError


def secure_streams() -> None:
    """Let progress be dropped where stderr takes nothing, and tell where stdout is closed.

    A descriptor that a shell closed (`2>&-`) is filled first: the next file that a library opens
    would get its number, and with it what others write to stderr.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = ClosedStream()
    else:
        sys.stdout = NamedStream(sys.stdout, "stdout")
    for stream in (sys.stdout, sys.stderr):
        # A file name that the console cannot show must not end the program.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = DroppingStream(sys.stderr)


class ClosedStream:
    """Stands for a stdout that is closed: a caller that writes to it gets an error that says so."""

    encoding = "utf-8"

    def write(self, _text: str) -> int:
        """Refuse.

        Raises:
            DeviceError: Always.
        """
        raise DeviceError("stdout is closed: redirect it, > FILE or > /dev/null")

    def flush(self) -> None:
        """Do nothing: nothing was written."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return False


class NamedStream:
    """A stream whose errors name it: those of the system name only files that are opened."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        """Write; what cannot be written is an error with the name."""
        with self._naming():
            return int(self._stream.write(text))

    def flush(self) -> None:
        """Flush what was written."""
        with self._naming():
            self._stream.flush()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = error.filename or self._name
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class DroppingStream:
    """A stderr that never ends a run: once it takes nothing more, what comes is dropped.

    Args:
        stream: The stream; None if it is closed.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._takes_more = stream is not None

    def write(self, text: str) -> int:
        """Write, or drop what cannot be written: the disk is full, or the reader is gone."""
        if self._takes_more:
            try:
                self._stream.write(text)
            except (OSError, ValueError):  # ValueError: it was closed meanwhile
                self._drop()
        return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        if self._takes_more:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._drop()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._takes_more and bool(self._stream.isatty())

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            if name == "encoding":
                return "utf-8"
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _drop(self) -> None:
        """Lead the descriptor nowhere: the interpreter flushes what is buffered when it ends."""
        self._takes_more = False
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
