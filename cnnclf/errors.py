"""The errors that users see, and their exit codes.

Every error that the user can fix is a `CnnclfError`: its message says what happened, with the value
or path, and its hint names the command or option that helps. The command line prints these as two
lines and exits with the code; any other exception is a bug.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """The exit status of the process."""

    OK = 0
    BUG = 1
    USAGE = 2
    DATA = 3
    CONFIG = 4
    MISSING_PACKAGE = 5
    DEVICE = 6
    SOME_FAILED = 7
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class CnnclfError(Exception):
    """An error that the user can fix.

    Args:
        message: What happened, with the value or path, in one line without a full stop.
        hint: The command or option that fixes it, in one line; empty if there is none.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CnnclfError):
    """The command was called with invalid or conflicting arguments."""

    exit_code = ExitCode.USAGE


class DataError(CnnclfError):
    """A source, dataset or image is invalid or damaged."""

    exit_code = ExitCode.DATA


class ImageError(DataError):
    """One image cannot be decoded; a batch continues without it."""


class ConfigError(CnnclfError):
    """A setting is unknown, has the wrong type or is out of range."""

    exit_code = ExitCode.CONFIG


class RunError(CnnclfError):
    """A run directory, checkpoint or bundle is missing, damaged or incompatible."""

    exit_code = ExitCode.CONFIG


class DivergedError(RunError):
    """The loss of a training became NaN or infinite."""


class MissingPackageError(CnnclfError):
    """A Python package that is needed is not installed."""

    exit_code = ExitCode.MISSING_PACKAGE


class DeviceError(CnnclfError):
    """Not enough memory or disk space, or a device that cannot be used."""

    exit_code = ExitCode.DEVICE


# Out-of-memory errors of the backends, known without importing them: module, class, text within.
_EXHAUSTED = (
    ("tensorflow", "ResourceExhaustedError", ""),
    ("tensorflow", "InternalError", "out of memory"),
    ("torch", "OutOfMemoryError", ""),
    ("jaxlib", "XlaRuntimeError", "RESOURCE_EXHAUSTED"),
    ("jax", "JaxRuntimeError", "RESOURCE_EXHAUSTED"),
    ("numpy", "_ArrayMemoryError", ""),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python or of a backend says that there is not enough memory."""
    kind = type(error)
    return isinstance(error, MemoryError) or any(
        kind.__module__.partition(".")[0] == module and kind.__name__ == name and text in str(error)
        for module, name, text in _EXHAUSTED
    )


def with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and, one after the other, what caused it."""
    for _ in range(50):  # a chain may be a ring
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def one_line(error: BaseException | str) -> str:
    """Return the message of any error on one line, cut if it is long."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."
