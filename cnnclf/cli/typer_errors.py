"""Typer's errors of a command line that is wrong; the only module that uses Typer's internals.

Typer carries its own copy of Click and exports `BadParameter`, `Exit` and `Abort` only. The others
are needed to give every usage error our wording and exit code. Tested with Typer 0.29
(`tests/cli/test_typer_errors.py` names the versions and fails if one is missing).
"""

from typing import Annotated, Any

from typer._click.exceptions import (
    ClickException,
    MissingParameter,
    NoArgsIsHelpError,
    NoSuchOption,
    UsageError,
)

__all__ = ["ClickException", "MissingParameter", "NoArgsIsHelpError", "NoSuchOption", "UsageError"]


def describe_number(error: ClickException) -> str | None:
    """Say what was typed and what is expected, if the value of an option is the wrong number.

    Returns:
        The message; None for other errors.
    """
    from pydantic import Field, ValidationError
    from pydantic.fields import FieldInfo

    from cnnclf.config.describing import describe_values

    parameter: Any = getattr(error, "param", None)
    if parameter is None or not isinstance(error.__cause__, ValidationError):
        return None
    fault = error.__cause__.errors()[0]
    bound = next(iter(fault.get("ctx", {}).values()), None)
    is_whole = fault["type"].startswith("int_") or isinstance(bound, int)
    if not is_whole and not fault["type"].startswith("float_") and not isinstance(bound, float):
        return None
    limits: Any = Field(ge=parameter.min, le=parameter.max)
    number: Any = Annotated[int, limits] if is_whole else Annotated[float, limits]
    expected = describe_values(FieldInfo.from_annotation(number))
    return f"{parameter.opts[0]} {fault['input']}: expected {expected}"
