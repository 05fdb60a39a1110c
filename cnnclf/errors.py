"""Errors a user can meet, and the exit code of each.

Every error that is the user's to mend is a `CnnclfError`: a message that says what was expected and
what was received (with the path or value), and a hint that names the command or option that helps.
The command line turns it into two lines and an exit code; anything else is a bug.
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process returns to the shell."""

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
    """An error the user can mend.

    Args:
        message: What was expected and what was received, in one line, without a full stop.
        hint: The command or option that mends it, in one line; empty if there is none.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CnnclfError):
    """The command was called with arguments that do not go together."""

    exit_code = ExitCode.USAGE


class DataError(CnnclfError):
    """A source, dataset or image is not what it should be."""

    exit_code = ExitCode.DATA


class ImageError(DataError):
    """One image cannot be decoded; a batch goes on without it."""


class ConfigError(CnnclfError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = ExitCode.CONFIG


class RunError(CnnclfError):
    """A run directory, checkpoint or bundle is missing, damaged or does not fit."""

    exit_code = ExitCode.CONFIG


class MissingPackageError(CnnclfError):
    """An optional package is needed and not installed."""

    exit_code = ExitCode.MISSING_PACKAGE


class DeviceError(CnnclfError):
    """Memory, disk or the device does not suffice or cannot be used."""

    exit_code = ExitCode.DEVICE
