"""Options and arguments, declared as they are typed."""

from collections.abc import Callable
from typing import Any

import typer


def option(
    spelled: str,
    text: str,
    *,
    panel: str | None = None,
    complete: Callable[[str], Any] | None = None,
    **more: Any,
) -> Any:
    """Declare an option, to be used in `Annotated`.

    Args:
        spelled: Its names and, if it takes a value, what stands for that: "--out -o FILE".
        text: The help.
        panel: The title above it in the help; None for the first one.
        complete: Completes its value in the shell.
        **more: Of `typer.Option`, such as the limits `min` and `max`.
    """
    words = spelled.split()
    names = [word for word in words if word.startswith("-")]
    metavar = " ".join(words[len(names) :]) or None
    return typer.Option(
        *names, metavar=metavar, help=text, rich_help_panel=panel, autocompletion=complete, **more
    )


def argument(
    metavar: str, text: str, *, complete: Callable[[str], Any] | None = None, **more: Any
) -> Any:
    """Declare an argument, to be used in `Annotated`.

    Args:
        metavar: What stands for it in the help, such as DATASET.
        text: The help.
        complete: Completes it in the shell.
        **more: Of `typer.Argument`.
    """
    return typer.Argument(metavar=metavar, help=text, autocompletion=complete, **more)
