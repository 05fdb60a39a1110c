"""Typer's errors of a command line that is wrong; the only module that uses Typer's internals.

Typer carries its own copy of Click and exports `BadParameter`, `Exit` and `Abort` only. The others
are needed to give every usage error our wording and exit code. Tested with Typer 0.26 to 0.29
(`tests/cli/test_typer_errors.py` names the versions and fails if one is missing).
"""

from typer._click.exceptions import (
    ClickException,
    MissingParameter,
    NoArgsIsHelpError,
    NoSuchOption,
    UsageError,
)

__all__ = ["ClickException", "MissingParameter", "NoArgsIsHelpError", "NoSuchOption", "UsageError"]
