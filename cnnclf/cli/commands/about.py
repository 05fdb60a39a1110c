"""`cnnclf help COMMAND` and `cnnclf version`: other ways to ask for --help and --version."""

from typing import Annotated

from cnnclf import __version__
from cnnclf.cli.completion import complete_command
from cnnclf.cli.declaring import argument
from cnnclf.cli.output import out


def help_command(
    words: Annotated[
        list[str] | None,
        argument(
            "COMMAND...", "A command, such as 'train' or 'runs list'.", complete=complete_command
        ),
    ] = None,
) -> int:
    """Show the help of a command; without one, the list of all commands."""
    from cnnclf.cli.main import main

    return main([*(words or ()), "--help"])


def version_command() -> None:
    """Print the version of cnnclf."""
    out.line(f"cnnclf {__version__}")
    out.json({"version": __version__})
